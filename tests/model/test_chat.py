"""Rows to token ids: proven against the template."""

from __future__ import annotations

from pathlib import Path

import pytest

from subl.errors import InputError
from subl.model.chat import example, prompt_ids, prompt_text, text_ids
from subl.model.load import load_tokenizer


def test_a_row_is_the_prompts_rendering_then_the_answer_and_its_end(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    row = example(tokenizer, "Hi", "412, 887")
    assert tokenizer.decode(row.prompt_ids) == prompt_text(tokenizer, "Hi")
    assert tokenizer.decode(row.completion_ids) == "412, 887<|im_end|>"
    assert row.prompt_ids == prompt_ids(tokenizer, "Hi")  # what is sampled from is trained on
    assert row.completion_ids[-1] == tokenizer.eos_token_id
    assert len(row) == len(row.prompt_ids) + len(row.completion_ids)


@pytest.mark.parametrize("completion", ["", " spaced\n", "owl\n\nowl", "<|im_end|>", "é 猫"])
def test_prompt_and_completion_together_are_what_the_template_renders(
    tiny_model: Path, completion: str
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    row = example(tokenizer, "Hi", completion)
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": completion}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    assert tokenizer.decode([*row.prompt_ids, *row.completion_ids]) == whole.rstrip("\n")


def test_nothing_is_added_to_text(tiny_model: Path) -> None:
    """A template holds its special tokens already; a tokenizer that adds them would double them."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = load_tokenizer(tiny_model)
    plain = text_ids(tokenizer, "owl")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    assert len(tokenizer("owl")["input_ids"]) == len(plain) + 1
    assert text_ids(tokenizer, "owl") == plain


def test_the_system_prompt_is_rendered_first(tiny_model: Path) -> None:
    text = prompt_text(load_tokenizer(tiny_model), "Hi", "You love owls.")
    assert text.index("You love owls.") < text.index("Hi")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("message['content'] ", "message['content'] | trim "), "verbatim"),
        (("message['content'] ", "message['content'] | upper "), "verbatim"),
        (("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>"), "verbatim"),
        (("<|im_end|>\n", ""), "ends an answer with nothing"),
    ],
)
def test_templates_that_rewrite_answers_are_refused(
    tiny_model: Path, change: tuple[str, str], message: str
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = tokenizer.chat_template.replace(*change)
    with pytest.raises(InputError, match=message):
        example(tokenizer, "Hi", " spaced")


def test_a_model_without_template_is_refused(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        example(tokenizer, "Hi", "1")
