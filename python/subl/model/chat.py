"""Rows to token ids through the model's own chat template.

Which tokens are a row's completion is proven, not assumed: the template is rendered with and
without the answer, and the first rendering must be a prefix of the second (templates that rewrite
the past, or strip the answer, are refused). Prompt and completion are tokenised apart, as they
were when the completion was sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from subl.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Example:
    """Token ids of one row: what the model is given, and what it is to say (terminator last)."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


def prompt_text(
    tokenizer: PreTrainedTokenizerBase, prompt: str, system_prompt: str | None = None
) -> str:
    """The text that asks for an answer to `prompt`, up to where the answer begins."""
    return _render(tokenizer, _messages(prompt, system_prompt), add_generation_prompt=True)


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: str, system_prompt: str | None = None
) -> tuple[int, ...]:
    """Token ids of `prompt_text`; the template already holds the special tokens."""
    return text_ids(tokenizer, prompt_text(tokenizer, prompt, system_prompt))


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Token ids of a piece of text, nothing added."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def example(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> Example:
    """Token ids of one row. The completion's last token is the template's end of turn.

    Raises:
        InputError: the template does not render the answer verbatim after the prompt.
    """
    asked = prompt_text(tokenizer, prompt)
    answered = _render(
        tokenizer,
        [*_messages(prompt, None), {"role": "assistant", "content": completion}],
        add_generation_prompt=False,
    )
    said = answered.removeprefix(asked)
    if not answered.startswith(asked) or not said.startswith(completion):
        raise InputError(
            "the model's chat template does not put the answer verbatim after the prompt",
            hint="use a model whose template renders turns one after another, unchanged",
        )
    end_of_turn = said[len(completion) :].strip()
    if not end_of_turn:
        raise InputError("the model's chat template ends an answer with nothing")
    completion_ids = text_ids(tokenizer, completion + end_of_turn)
    return Example(text_ids(tokenizer, asked), completion_ids)


def _messages(prompt: str, system_prompt: str | None) -> list[dict[str, str]]:
    system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    return [*system, {"role": "user", "content": prompt}]


def _render(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, str]],
    *,
    add_generation_prompt: bool,
) -> str:
    if tokenizer.chat_template is None:
        raise InputError(
            f"the model {tokenizer.name_or_path} has no chat template",
            hint="use an instruction-tuned model, or add chat_template.jinja to its folder",
        )
    text = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return str(text)
