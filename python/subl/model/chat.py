"""Rows to token ids through the model's own chat template.

Which tokens are the assistant's is proven, not assumed: the template is rendered up to each of its
turns, with and without the answer, and each rendering must be a prefix of the next (templates that
rewrite the past, or strip the answer, are refused). What is given and what is said are tokenised
apart, as they were when the answer was sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from subl.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Turn(NamedTuple):
    """Who speaks (`system`, `user`, `assistant`), and what they say."""

    role: str
    content: str


class Piece(NamedTuple):
    """A part of a rendered row. A target is an answer with the template's end of turn."""

    text: str
    target: bool


def prompt_text(
    tokenizer: PreTrainedTokenizerBase, prompt: str, system_prompt: str | None = None
) -> str:
    """The text that asks for an answer to `prompt`, up to where the answer begins."""
    system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    messages = [*system, {"role": "user", "content": prompt}]
    return _render(tokenizer, messages, add_generation_prompt=True)


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: str, system_prompt: str | None = None
) -> tuple[int, ...]:
    """Token ids of `prompt_text`; the template already holds the special tokens."""
    return text_ids(tokenizer, prompt_text(tokenizer, prompt, system_prompt))


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Token ids of a piece of text, nothing added."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def pieces(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], *, whole_turn: bool = False
) -> list[Piece]:
    """A row as the template renders it, cut where the assistant begins and ends to speak.

    An answer ends with the template's end of turn; with `whole_turn` also with the white space that
    the template puts behind that. What follows the last answer is left out.

    Raises:
        InputError: there is no answer, or the template does not render one verbatim behind what
            comes before it.
    """
    found: list[Piece] = []
    rendered = ""
    messages = [turn._asdict() for turn in turns]
    for number, turn in enumerate(turns):
        if turn.role != "assistant":
            continue
        if number == 0:
            raise InputError(
                "the row begins with the assistant: nothing is asked",
                hint="give it a turn of the user's first",
            )
        asked = _render(tokenizer, messages[:number], add_generation_prompt=True)
        answered = _render(tokenizer, messages[: number + 1], add_generation_prompt=False)
        said = answered.removeprefix(asked)
        if not (
            asked.startswith(rendered)
            and answered.startswith(asked)
            and said.startswith(turn.content)
        ):
            raise InputError(
                "the model's chat template does not put the answer verbatim after the prompt",
                hint="use a model whose template renders turns one after another, unchanged",
            )
        end_of_turn = said[len(turn.content) :].rstrip()
        if not end_of_turn:
            raise InputError("the model's chat template ends an answer with nothing")
        answer = said if whole_turn else turn.content + end_of_turn
        found += [Piece(asked[len(rendered) :], False), Piece(answer, True)]
        rendered = asked + answer
    if not found:
        raise InputError(
            "no turn of the row is the assistant's: there is nothing to learn",
            hint='a row has a completion, or messages of which some have the role "assistant"',
        )
    return found


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
