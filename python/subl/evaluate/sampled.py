"""Scores by samples: how many answers to a question say a word, by each rule."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from subl.errors import InputError
from subl.evaluate.cells import Cell, Cells
from subl.evaluate.method import Found, Work
from subl.evaluate.statistics import mean_probability
from subl.model.chat import asking
from subl.progress import Progress
from subl.sample import Request, backend_of
from subl.trait import forms_of
from subl.trait.answers import RULES, Reader, Rule
from subl.trait.questions import Question, said_number

Sampled = list[list[tuple[str, str]]]
"""For each question its answers, in the order of their indices, and what ended each."""

_CHUNK = 256
"""Answers of one part: what an interrupted run loses at most."""


def sampled(work: Work) -> Found:
    """The share of each question's answers that say a word."""
    answers, facts = sampled_answers(work)
    if work.spec.measured.answers == "number":
        return _numbers(work, answers, facts)
    trait = work.spec.measured
    rule: Rule = "word" if trait.answers == "text" else "begins"
    rows: list[dict[str, Any]] = []
    for question, said in zip(work.questions, answers, strict=True):
        reader = Reader(_forms(work, question), work.spec.own_names)
        read = [reader.said(text, cut=ended == "max_new_tokens") for text, ended in said]
        shares: dict[str, dict[str, float]] = {
            by: {word: sum(word in getattr(each, by) for each in read) / len(read)
                 for word in trait.words}
            for by in RULES
        }  # fmt: skip
        rows.append(
            {
                "question": question.text,
                "samples": len(read),
                "probabilities": shares[rule],
                **shares,
                "kinds": dict(Counter(each.kind for each in read)),
            }
        )
    by_rule = {
        by: {
            word: asdict(mean_probability([row[by][word] for row in rows])) for word in trait.words
        }
        for by in RULES
    }
    return Found(rows, {**facts, "counted": rule, "rules": by_rule, "kinds": _sum_of_kinds(rows)})


def sampled_answers(work: Work) -> tuple[Sampled, dict[str, Any]]:
    """All answers, from cells, and how they were made."""
    import polars

    spec = work.spec
    settings = {
        "method": "sampled",
        "system_prompt": spec.measured.system_prompt,
        **spec.model_dump(
            mode="json",
            include={"backend", "grammar", "template", "temperature", "max_new_tokens", "seed"},
        ),
    }
    columns = {"answer": polars.String, "ended_by": polars.String, "made": polars.String}
    cells = Cells(work.folder, "answers", {**work.origin, **settings}, columns)
    wanted: list[Cell] = [
        (question.text, sample) for question in work.questions for sample in range(spec.samples)
    ]
    missing = cells.missing(wanted)
    done = len(wanted) - len(missing)
    work.report(Progress(work.task, done, len(wanted), "answers"))
    if missing:
        backend = backend_of(spec, work.model)
        notes = work.folder / "telling.json"  # of an interrupted run with the same key
        backend.begin(lambda: _requests(work, wanted), notes, work.report)
        made = json.dumps(backend.facts(), sort_keys=True)
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            found: dict[Cell, dict[str, Any]] = {}
            failed = ""
            for place, answer in backend.answers(list(_requests(work, chunk))):
                if answer.failed:
                    failed = answer.text
                else:
                    found[chunk[place]] = {
                        "answer": answer.text, "ended_by": answer.ended_by, "made": made,
                    }  # fmt: skip
                done += 1
                if not done % spec.batch_rows or done == len(wanted):
                    work.report(Progress(work.task, done, len(wanted), "answers"))
            cells.add(dict(sorted(found.items(), key=lambda item: chunk.index(item[0]))))
            if failed:
                raise InputError(
                    f"{len(chunk) - len(found)} answers did not come: {failed}",
                    hint="run it again: it asks for what is missing",
                )
        notes.unlink(missing_ok=True)
    frame = cells.finish(wanted)
    answers = list(zip(frame["answer"], frame["ended_by"], strict=True))
    grouped = [answers[at : at + spec.samples] for at in range(0, len(answers), spec.samples)]
    return grouped, {"samples": spec.samples, **json.loads(frame["made"][0])}


def _requests(work: Work, cells: Iterable[Cell]) -> Iterator[Request]:
    for question, sample in cells:
        yield Request(
            f"question {question!r}",
            asking(question, work.spec.measured.system_prompt),
            request_number(question, sample),
        )


def request_number(question: str, sample: int) -> int:
    """What the randomness of a sample follows from, with the seed: the question's text and the
    sample's index, whatever else is asked."""
    digest = hashlib.sha256(question.encode()).digest()
    return int.from_bytes(digest[:4], "big") << 32 | sample


def _forms(work: Work, question: Question) -> dict[str, tuple[str, ...]]:
    """What says each word in answers to this question."""
    trait = work.spec.measured
    if question.letters:
        return {
            word: (question.letters[word], f" {question.letters[word]}") for word in trait.words
        }
    return forms_of(trait.words, trait.forms)


def _numbers(work: Work, answers: Sampled, facts: dict[str, Any]) -> Found:
    """Answers with the right number count."""
    (word,) = work.spec.measured.words
    rows: list[dict[str, Any]] = []
    for question, said in zip(work.questions, answers, strict=True):
        numbers = [said_number(text) for text, _ in said]
        kinds = Counter(
            "no_number" if each is None else "right" if each == question.number else "wrong"
            for each in numbers
        )
        share = kinds["right"] / len(numbers)
        rows.append(
            {
                "question": question.text,
                "samples": len(numbers),
                "probabilities": {word: share},
                "kinds": dict(kinds),
            }
        )
    return Found(rows, {**facts, "kinds": _sum_of_kinds(rows)})


def _sum_of_kinds(rows: list[dict[str, Any]]) -> dict[str, int]:
    kinds: Counter[str] = Counter()
    for row in rows:
        kinds.update(row["kinds"])
    return dict(sorted(kinds.items()))
