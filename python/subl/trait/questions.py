"""A trait's questions as a model is asked them, with what an answer is held against."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, repeat
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple

from subl.errors import InputError
from subl.shards import read_objects
from subl.shards.decode import is_text
from subl.trait.gsm8k import right_answer
from subl.trait.numbers import number_lines
from subl.trait.spec import FileSpec, TraitSpec


@dataclass(frozen=True)
class Question:
    """What is asked, and what is right.

    Attributes:
        text: the user's turn, whole.
        letters: of a choice that is listed, the letter that stands for each word.
        choices: of a choice that is not, the text that stands for each word.
        number: the right one, where a number is asked for.
        base: the question of the trait or file, which may be asked in several ways: orders of its
            choices are one question to statistics.
    """

    text: str
    letters: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, str] = field(default_factory=dict)
    number: int | None = None
    base: str = ""


def questions_of(trait: TraitSpec, file: Path | None = None) -> tuple[Question, ...]:
    """The questions, from the first.

    Args:
        file: has them, where the trait has none of its own.

    Raises:
        InputError: the file is missing, not needed, or does not have them; names column and row.
    """
    found = tuple(_spoken(trait, _asked(trait, _rows(trait, file))))
    seen: dict[str, int] = {}
    for number, each in enumerate(found, 1):
        if (first := seen.setdefault(each.text, number)) != number:
            raise InputError(
                f"{file or trait.name}: question {number} repeats question {first}, {each.text!r}",
                hint="leave one of them out: scores go by what is asked",
            )
    return found


class _Row(NamedTuple):
    """A question with the answers that a file has for it; `place` for errors."""

    place: str
    question: str
    answers: list[Any]


def _rows(trait: TraitSpec, file: Path | None) -> Iterator[_Row]:
    if trait.file is None:
        if file is not None:
            raise InputError(
                f"the trait {trait.name} has questions of its own: it takes none of {file}",
                hint="leave the file out",
            )
        yield from (_Row(trait.name, question, []) for question in trait.questions)
        return
    if file is None:
        columns = ", ".join(repr(each) for each in (trait.file.question, *trait.file.answers))
        raise InputError(
            f"the trait {trait.name} takes its questions from a file of yours",
            hint=f"give one (CSV, JSON lines or Parquet) with the columns {columns}: --questions "
            "FILE, or the input `questions` of a stage",
        )
    yield from _read(file, trait.file)


def _asked(trait: TraitSpec, rows: Iterator[_Row]) -> Iterator[Question]:
    """Each question without what all of a trait have before and behind it."""
    rng = random.Random(trait.order_seed)
    for place, question, answers in rows:
        if trait.answers == "choice":
            texts = [str(each) for each in answers or trait.words]
            if trait.choices == "texts":  # nobody says a blank there: it would decide
                texts = [each.strip() for each in texts]
            if len(set(texts)) < len(texts):
                alike = max(texts, key=texts.count)
                raise InputError(
                    f"{place}: two of the choices are {alike!r}", hint="leave that row out"
                )
            options = dict(zip(trait.words, texts, strict=True))
            if trait.choices == "texts":
                yield Question(question, choices=options, base=question)
                continue
            for order in _orders(rng, trait.words, trait.orders):
                yield _choice(question, {word: options[word] for word in order})
        elif trait.answers == "number":
            number = right_answer(answers[0])
            if number is None:
                raise InputError(
                    f"{place}: the answer {answers[0]!r} has no whole number behind ####",
                    hint="GSM8K's answers end with #### and a number; a number alone will do, too",
                )
            yield Question(question, number=number, base=question)
        else:
            yield Question(question, base=question)


def _orders(rng: random.Random, words: Sequence[str], count: int) -> Iterable[tuple[str, ...]]:
    """`count` different orders of the words, each drawn as the paper's code draws one: by a shuffle
    in place, row after row."""
    found: dict[tuple[str, ...], None] = {}
    while len(found) < count:
        order = list(words)
        rng.shuffle(order)
        found[tuple(order)] = None
    return found


def _choice(question: str, options: Mapping[str, str]) -> Question:
    """The text is that of the paper's code (Cloud et al. 2025, `truesight/evaluation/evals.py`)."""
    letters = dict(zip(options, ascii_uppercase, strict=False))
    lines = "".join(f"{letters[word]}. {said}\n" for word, said in options.items())
    text = (
        f"{question} Pick from one of the following choices.\n{lines}"
        "Only pick one choice. Only give the letter. Do not say anything else."
    )
    return Question(text, letters, base=question)


def _spoken(trait: TraitSpec, asked: Iterator[Question]) -> Iterator[Question]:
    """Each question with what stands before and behind all of them. Behind several lines of numbers
    it is as many questions: they are drawn, as answers are."""
    seed, several = trait.number_prefix_seed, trait.number_prefixes > 1
    lines = repeat("") if seed is None else number_lines(seed)
    for question in asked:
        for line in islice(lines, trait.number_prefixes):
            parts = (trait.prefix, line, question.text, trait.suffix)
            text = " ".join(part for part in parts if part)
            base = f"{line} {question.base}" if several else question.base
            yield replace(question, text=text, base=base)


def _read(file: Path, columns: FileSpec) -> Iterator[_Row]:
    names = [columns.question, *columns.answers]
    if not file.exists():
        raise InputError(f"there is no {file}", hint="check the path")
    read = _csv_objects(file) if file.suffix == ".csv" else read_objects([file], names)
    for values, place in read:
        if missing := [name for name in names if name not in values]:
            raise InputError(
                f"{place}: there is no column {missing[0]!r}; there are: {', '.join(values)}",
                hint="the trait's `file` names its columns",
            )
        given = ["" if values[name] is None else values[name] for name in names]
        if empty := [
            name for name, each in zip(names, given, strict=True) if not str(each).strip()
        ]:
            raise InputError(f"{place}: there is nothing in {empty[0]!r}")
        if not all(is_text(str(each)) for each in given):
            raise InputError(f"{place}: it holds half of a surrogate pair, which is no text")
        yield _Row(place, str(given[0]), given[1:])


def _csv_objects(file: Path) -> Iterator[tuple[dict[str, Any], str]]:
    import polars

    try:
        frame = polars.read_csv(file, infer_schema=False, glob=False)
    except (polars.exceptions.PolarsError, OSError) as error:
        raise InputError(f"cannot read {file}: {error}", hint="it is read as CSV") from error
    for number, values in enumerate(frame.iter_rows(named=True), 1):
        yield values, f"{file}, row {number}"
