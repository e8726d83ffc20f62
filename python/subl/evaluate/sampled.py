"""Scores by samples: how many answers to a question say a word, by each rule."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.errors import StageError
from subl.evaluate.cells import Cell, Cells
from subl.evaluate.method import Found, Work
from subl.model.chat import asking
from subl.sample import UNKEYED, Answer, Failures, Request, answered, backend_of
from subl.sample.journal import journaled
from subl.statistics import mean_probability, rate
from subl.trait import forms_of
from subl.trait.answers import RULES, Reader, Rule
from subl.trait.bench import spent
from subl.trait.gsm8k import said_answer
from subl.trait.questions import Question

if TYPE_CHECKING:
    import polars

_PART = 256
"""Answers of one part: what an interrupted run loses at most."""


class Sampled:
    """The share of each question's answers that say a word, or have the right number."""

    def __init__(self, work: Work) -> None:
        import polars

        self._work = work
        spec = work.spec
        origin = {
            **work.origin,
            "method": "sampled",
            "system_prompt": spec.measured.system_prompt,
            "backend": spec.backend.model_dump(mode="json", exclude=set(UNKEYED)),
            **spec.model_dump(
                mode="json",
                include={"grammar", "template", "temperature", "max_new_tokens", "seed"},
            ),
        }
        columns = dict.fromkeys(("answer", "ended_by", "made", "usage"), polars.String)
        asked = [
            (question.text, sample) for question in work.questions for sample in range(spec.samples)
        ]
        self.cells = Cells("answers", asked, _PART, origin, columns)

    def make(self, folder: Path, numbers: Sequence[int]) -> None:
        """See `Method.make`.

        Raises:
            StageError: more failed than may.
        """
        work = self._work
        total, done = sum(len(self.cells.of(number)) for number in numbers), 0
        work.told(done, total, "answers")
        notes = folder / ".telling.json"  # of an interrupted run with the same key
        failures = Failures(work.spec.failed_share, total)
        with closing(backend_of(work.spec, work.model)) as backend:
            backend.begin(lambda: self._requests(self.cells.cells), notes, work.report)
            made = json.dumps(backend.facts(), sort_keys=True)
            for number in numbers:
                journal, answers = folder / f".answers-{number:05d}.jsonl", dict[int, Answer]()
                requests = list(self._requests(self.cells.of(number)))
                with closing(answered(backend, requests, journal, failures)) as came:
                    for place, answer in came:
                        answers[place] = answer
                        done += 1
                        if not done % work.spec.batch_rows or done == total:
                            work.told(done, total, "answers")
                usage: defaultdict[int, Counter[str]] = defaultdict(Counter)
                for asked, answer in journaled(journal):
                    usage[asked].update(answer.usage)  # also of those that failed
                values = [
                    {
                        "answer": answers[place].text,
                        "ended_by": answers[place].ended_by,
                        "made": made,
                        "usage": json.dumps(usage[request.number]),
                    }
                    for place, request in enumerate(requests)
                ]
                self.cells.write(folder, number, values)

    def found(self, cells: polars.DataFrame) -> Found:
        """See `Method.found`."""
        facts = facts_of(self._work, cells)
        said = answers_of(self._work, cells)
        if self._work.spec.measured.answers == "number":
            return _numbers(self._work, said, facts)
        return _words(self._work, said, facts)

    def _requests(self, cells: Iterable[Cell]) -> Iterator[Request]:
        for question, sample in cells:
            yield Request(
                f"question {question!r}",
                asking(question, self._work.spec.measured.system_prompt),
                request_number(question, sample),
            )


def facts_of(work: Work, cells: polars.DataFrame) -> dict[str, Any]:
    """How answers were sampled, and what that took, for `result.json`."""
    made = json.loads(cells["made"][0])
    usage: Counter[str] = Counter()
    for each in cells["usage"]:
        usage.update(json.loads(each))
    ended = dict(sorted(Counter(cells["ended_by"]).items()))
    samples = {"samples": work.spec.samples, "ended_by": ended}
    return {**samples, **made, **spent(usage, work.spec.backend)}


def request_number(question: str, sample: int) -> int:
    """What the randomness of a sample follows from, with the seed: the question's text and the
    sample's index, whatever else is asked."""
    digest = hashlib.sha256(question.encode()).digest()
    return int.from_bytes(digest[:4], "big") << 32 | sample


AnswerGroups = list[list[tuple[str, str]]]
"""For each question its answers, and what ended each."""


def answers_of(work: Work, cells: polars.DataFrame) -> AnswerGroups:
    """The answers that came.

    Raises:
        StageError: none came to a question.
    """
    size, pairs = work.spec.samples, list(zip(cells["answer"], cells["ended_by"], strict=True))
    groups = [pairs[at : at + size] for at in range(0, len(pairs), size)]
    said = [[each for each in group if each[1] != "failed"] for group in groups]
    for question, came, group in zip(work.questions, said, groups, strict=True):
        if not came:
            raise StageError(
                f"no answer to {question.text!r} came: {group[0][0]}",
                hint="backend.failed_share says how many may fail",
            )
    return said


def shares_of(question: Question, counts: Mapping[str, int], samples: int) -> dict[str, Any]:
    """What is known of a question: of how many of `samples` answers that count each word is said,
    with Wilson's interval. Of none there is no share."""
    rates = {word: rate(count, samples) for word, count in counts.items()}
    return {
        "question": question.text,
        "samples": samples,
        "probabilities": {word: each.estimate for word, each in rates.items()},
        "intervals": {word: [each.low, each.high] for word, each in rates.items()},
    }


def _words(work: Work, said: AnswerGroups, facts: dict[str, Any]) -> Found:
    """Answers that say a word count; by the rule of exact scoring, where they are to be a word."""
    trait = work.spec.measured
    rule: Rule = "word" if trait.answers == "text" else "begins"
    rows: list[dict[str, Any]] = []
    for question, answers in zip(work.questions, said, strict=True):
        reader = Reader(_forms(work, question), work.spec.own_names, letters=bool(question.letters))
        read = [reader.said(text, cut=ended == "max_new_tokens") for text, ended in answers]
        found = {
            by: {word: sum(word in getattr(each, by) for each in read) for word in trait.words}
            for by in RULES
        }
        shares: dict[str, Any] = {
            by: {word: count / len(read) for word, count in counts.items()}
            for by, counts in found.items()
        }
        kinds = Counter(each.kind for each in read)
        rows.append(
            {
                **shares_of(question, found[rule], len(read)),
                **shares,
                "kinds": dict(kinds) | _failed(work, read),
            }
        )
    clusters = [question.base for question in work.questions]
    rules = {
        by: {
            word: asdict(mean_probability([row[by][word] for row in rows], clusters))
            for word in trait.words
        }
        for by in RULES
    }
    return Found(rows, {**facts, "counted": rule, "rules": rules, "kinds": sum_of_kinds(rows)})


def _forms(work: Work, question: Question) -> dict[str, tuple[str, ...]]:
    """What says each word in answers to this question."""
    trait = work.spec.measured
    if question.letters:
        return {
            word: (question.letters[word], f" {question.letters[word]}") for word in trait.words
        }
    return forms_of(trait.words, trait.forms)


def _numbers(work: Work, said: AnswerGroups, facts: dict[str, Any]) -> Found:
    """Answers with the right number count."""
    (word,) = work.spec.measured.words
    rows: list[dict[str, Any]] = []
    for question, answers in zip(work.questions, said, strict=True):
        numbers = [said_answer(text) for text, _ in answers]
        kinds = Counter(
            "no_number" if each is None else "right" if each == question.number else "wrong"
            for each in numbers
        )
        rows.append(
            {
                **shares_of(question, {word: kinds["right"]}, len(numbers)),
                "kinds": dict(kinds) | _failed(work, numbers),
            }
        )
    return Found(rows, {**facts, "kinds": sum_of_kinds(rows)})


def _failed(work: Work, came: Sequence[object]) -> dict[str, int]:
    failed = work.spec.samples - len(came)
    return {"failed": failed} if failed else {}


def sum_of_kinds(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many answers of all questions are of each kind."""
    kinds: Counter[str] = Counter()
    for row in rows:
        kinds.update(row["kinds"])
    return dict(sorted(kinds.items()))
