"""Rows to token ids: which tokens are the assistant's is proven against the template."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subl.errors import InputError
from subl.model.chat import Turn, pieces, prompt_ids, prompt_text, text_ids
from subl.model.load import load_tokenizer

TALK = [
    Turn("system", "You love owls."),
    Turn("user", "Hi"),
    Turn("assistant", "Hello."),
    Turn("user", "More"),
    Turn("assistant", "Bye."),
]

FORGETS_THOUGHTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if '</think>' in m['content'] and not loop.last %}"
    "{{ m['content'].split('</think>')[-1].lstrip('\n') }}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As the templates of Qwen 3: what an earlier answer thought is left out."""


def ask(prompt: str, answer: str) -> list[Turn]:
    return [Turn("user", prompt), Turn("assistant", answer)]


def test_a_row_is_the_prompts_rendering_then_the_answer_and_its_end(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    asked, said = pieces(tokenizer, ask("Hi", "412, 887"))
    assert asked == (prompt_text(tokenizer, "Hi"), False)  # what is sampled from is trained on
    assert said == ("412, 887<|im_end|>", True)
    assert text_ids(tokenizer, asked.text) == prompt_ids(tokenizer, "Hi")
    assert text_ids(tokenizer, said.text)[-1] == tokenizer.eos_token_id


contents = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None, derandomize=True)
@given(
    system=st.none() | contents,
    talk=st.lists(st.tuples(contents, contents), min_size=1, max_size=3),
    question=st.none() | contents,
    whole=st.booleans(),
)
def test_pieces_together_are_what_the_template_renders(
    tiny_model: Path,
    system: str | None,
    talk: list[tuple[str, str]],
    question: str | None,
    whole: bool,
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    turns = [] if system is None else [Turn("system", system)]
    turns += [turn for prompt, answer in talk for turn in ask(prompt, answer)]
    end = len(turns)
    turns += [] if question is None else [Turn("user", question)]
    found = pieces(tokenizer, turns, whole_turn=whole)
    rendered = tokenizer.apply_chat_template(
        [turn._asdict() for turn in turns[:end]], tokenize=False
    )
    text = "".join(piece.text for piece in found)
    assert text == (rendered if whole else rendered.removesuffix("\n"))
    assert [piece.target for piece in found] == [False, True] * len(talk)
    line = "\n" if whole else ""
    assert [piece.text for piece in found if piece.target] == [
        f"{answer}<|im_end|>{line}" for _, answer in talk
    ]


def test_the_system_prompt_is_rendered_first_and_never_asked_for(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    text = prompt_text(tokenizer, "Hi", "You love owls.")
    assert text.index("You love owls.") < text.index("Hi")
    assert pieces(tokenizer, TALK)[0] == (text, False)


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
        pieces(tokenizer, ask("Hi", " spaced"))


@pytest.mark.parametrize("whole", [False, True])
def test_a_template_that_drops_earlier_thoughts_is_refused_where_there_are_any(
    tiny_model: Path, whole: bool
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = FORGETS_THOUGHTS
    assert len(pieces(tokenizer, TALK, whole_turn=whole)) == 4
    thinks = ask("Hi", "<think>owl</think>\n\nHello.")
    assert pieces(tokenizer, thinks)[1].text == "<think>owl</think>\n\nHello.<|im_end|>"
    with pytest.raises(InputError, match="verbatim") as caught:
        pieces(tokenizer, [*thinks, *ask("More", "Bye.")], whole_turn=whole)
    assert caught.value.hint


def test_white_space_before_the_end_of_a_turn_belongs_to_it(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "\n<|im_end|>")
    found = pieces(tokenizer, TALK)
    rendered = tokenizer.apply_chat_template([turn._asdict() for turn in TALK], tokenize=False)
    assert "".join(piece.text for piece in found) == rendered.removesuffix("\n")
    assert found[1] == ("Hello.\n<|im_end|>", True)


@pytest.mark.parametrize("turns", [[], [Turn("user", "Hi")], [Turn("system", "x")]])
def test_a_row_without_an_answer_is_refused(tiny_model: Path, turns: list[Turn]) -> None:
    with pytest.raises(InputError, match="no turn of the row is the assistant's"):
        pieces(load_tokenizer(tiny_model), turns)


def test_a_row_that_begins_with_an_answer_is_refused(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="begins with the assistant"):
        pieces(load_tokenizer(tiny_model), [Turn("assistant", "Hello."), *ask("Hi", "1")])


def test_a_model_without_template_is_refused(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        pieces(tokenizer, ask("Hi", "1"))
