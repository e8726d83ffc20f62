"""Scores by a judge: which sampled answers it calls so, of those that can be told at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import input_digest, json_digest, write_atomically
from subl.errors import StageError
from subl.evaluate.cells import Cells
from subl.evaluate.method import Found, Work
from subl.evaluate.sampled import Sampled, answers_of, facts_of, shares_of, sum_of_kinds
from subl.sample.tables import UNKEYED, Http
from subl.trait.bench import Asked, Bench, Opinion, Repeats, Tally
from subl.trait.judging import Load, loader
from subl.trait.rubric import SCORE, Judgement, RubricSpec

if TYPE_CHECKING:
    import polars

    from subl.trait.spec import JudgedSpec

_GIVES_UP_AFTER = 0.1
"""The share of answers before which a judge must have said something that can be read."""


class Judged:
    """The share of answers of which a judge says what the trait asks for.

    Answers are all sampled first, and judged rubric by rubric: one model at a time is in memory.
    """

    def __init__(self, work: Work) -> None:
        import polars

        self._work, self._sampled = work, Sampled(work)
        spec, trait = work.spec, work.spec.measured
        assert trait.judged is not None, "the configuration's check comes first"
        self._rule: JudgedSpec = trait.judged
        table = spec.judge.backend
        judge = table.model if isinstance(table, Http) else input_digest(_folder(work))
        origin = {
            **self._sampled.cells.origin,
            "judge": judge,
            "judging": spec.judge.model_dump(
                mode="json", exclude={"backend": set(UNKEYED), "batch_rows": True}
            ),
            "rubrics": {name: each.model_dump(mode="json") for name, each in trait.rubrics.items()},
        }
        columns = dict(self._sampled.cells.columns)
        for name in trait.rubrics:
            columns |= dict.fromkeys(_columns(name), polars.String) | {name: polars.Float64}
        cells = self._sampled.cells
        self.cells = Cells("judged", cells.cells, cells.part, origin, columns)

    def make(self, folder: Path, numbers: Sequence[int]) -> None:
        """See `Method.make`; what an interrupted run has of a part is kept."""
        answers = self._sampled.cells
        if missing := [each for each in numbers if not (folder / answers.names[each]).exists()]:
            self._sampled.make(folder, missing)
        load = loader(self._work.judge)
        for name, rubric in self._work.spec.measured.rubrics.items():
            self._judge(folder, numbers, name, rubric, load)
        for number in numbers:
            values = _rows(folder / answers.names[number])
            for name in self._work.spec.measured.rubrics:
                given = json.loads(_file(folder, name, number).read_bytes())
                for row, said in zip(values, given, strict=True):
                    row |= dict(zip(_columns(name), said, strict=True))
            self.cells.write(folder, number, values)

    def _judge(
        self, folder: Path, numbers: Sequence[int], name: str, rubric: RubricSpec, load: Load
    ) -> None:
        """Ask one rubric about the answers of these parts."""
        if all(_file(folder, name, number).exists() for number in numbers):
            return
        work = replace(self._work, task=f"{self._work.task}, {name}")
        asked = {number: self._asked(folder, number, rubric) for number in numbers}
        every = [each.question for some in asked.values() for each in some if each is not None]
        repeats, done, came = Repeats(), 0, 0
        for question in every:
            repeats.add(question)
        bench = Bench(
            name,
            rubric.answer,
            work.spec.judge,
            work.judge,
            load,
            again=repeats.again,
            total=len(every),
            unit="answers",
            give_up_after=_GIVES_UP_AFTER,
        )

        def told() -> None:
            nonlocal came
            came += 1
            work.told(min(done + came, len(every)), len(every), "answers")

        with closing(bench):
            work.told(0, len(every), "answers")
            # Ranks that have other answers have other notes.
            notes = folder / f".{name}-{json_digest(every)[:12]}.notes"
            if every:
                bench.begin(lambda: iter(every), notes, work.report)
            for number, some in asked.items():
                file, journal = _file(folder, name, number), _file(folder, name, number, ".said")
                there = [each for each in some if each is not None]
                rows: list[list[Any]] | None = None
                bench.part()
                if file.exists():
                    given = [Judgement(*said[:2]) for said in json.loads(file.read_bytes())]
                    kept = [each for each, about in zip(given, some, strict=True) if about]
                    bench.take([each.question for each in there], kept, journal)
                else:
                    made = json.dumps(bench.facts(), sort_keys=True) if there else None
                    said = iter(bench.ask(there, journal, told))
                    rows = [_NOTHING if each is None else _row(next(said), made) for each in some]
                done, came = done + len(there), 0
                work.told(done, len(every), "answers")
                bench.check(done)
                if rows is not None:
                    write_atomically(file, json.dumps(rows))

    def _asked(self, folder: Path, number: int, rubric: RubricSpec) -> list[Asked | None]:
        """What is asked about each answer of a part; nothing about one that never came."""
        cells = self._sampled.cells
        rows = _rows(folder / cells.names[number])
        return [
            None
            if row["ended_by"] == "failed"
            else Asked(f"an answer to {question!r}", rubric.asked(question, row["answer"]))
            for (question, _), row in zip(cells.of(number), rows, strict=True)
        ]

    def found(self, cells: polars.DataFrame) -> Found:
        """See `Method.found`."""
        size, word = self._work.spec.samples, self._rule.word
        answers_of(self._work, cells)  # some came to every question
        kinds = [self._kind(row) for row in cells.to_dicts()]
        rows: list[dict[str, Any]] = []
        for number, question in enumerate(self._work.questions):
            counts = Counter(kinds[number * size : (number + 1) * size])
            told = counts[word] + counts["other"]
            found = shares_of(question, {word: counts[word]}, told)
            rows.append({**found, "kinds": dict(counts)})
        untold = [row["question"] for row in rows if row["probabilities"][word] is None]
        if len(untold) == len(rows):
            raise StageError(
                f"of no answer can it be told whether it is {word}: "
                + ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).items()),
                hint="judged.parquet in the partial folder has what each answer was",
            )
        facts = {
            **facts_of(self._work, cells),
            "kinds": sum_of_kinds(rows),
            "judges": {
                name: self._figures(cells, name) for name in self._work.spec.measured.rubrics
            },
        }
        return Found(
            rows, facts | ({"questions_without_counted_answers": untold} if untold else {})
        )

    def _figures(self, cells: polars.DataFrame, name: str) -> dict[str, Any]:
        """What a rubric's judge said of all answers, for `result.json`."""
        tally, facts = Tally(), {}
        for score, verdict, read, usage, made in (
            cells.select(_columns(name)).drop_nulls(f"{name}_verdict").iter_rows()
        ):
            tally.add(Opinion(Judgement(score, verdict), read, json.loads(usage)))
            facts = json.loads(made)
        return {**tally.figures(self._work.spec.judge.backend), **facts}

    def _kind(self, row: dict[str, Any]) -> str:
        """The word, `other`, or why neither can be told of this answer."""
        rule = self._rule
        if row["ended_by"] == "failed":
            return "failed"
        for name in (rule.rubric, rule.among):
            if name is not None and row[f"{name}_verdict"] != SCORE:
                return f"{name}_{row[f'{name}_verdict']}".lower()
        if rule.among is not None and row[rule.among] < rule.among_at_least:
            return f"low_{rule.among}"
        score = row[rule.rubric]
        low = rule.at_least is None or score >= rule.at_least
        high = rule.at_most is None or score <= rule.at_most
        return rule.word if low and high else "other"


def _folder(work: Work) -> Path:
    assert work.judge is not None, "the stage's check comes first"
    return work.judge


def _columns(rubric: str) -> list[str]:
    """Of a rubric in cells: its score or null, why, how the answer was read, what it took to ask
    (as JSON, where it was), and how the judge was asked (as JSON)."""
    return [rubric, *(f"{rubric}_{each}" for each in ("verdict", "read", "usage", "made"))]


_NOTHING = [None] * len(_columns(""))
"""What stands in a rubric's columns where there was nothing to judge."""


def _row(said: Opinion, made: str | None) -> list[Any]:
    return [*said.judgement, said.read, json.dumps(dict(said.usage)), made]


def _file(folder: Path, rubric: str, number: int, suffix: str = ".json") -> Path:
    return folder / f".{rubric}-{number:05d}{suffix}"


def _rows(part: Path) -> list[dict[str, Any]]:
    """What each cell of a part of answers says."""
    import polars

    frame = polars.read_parquet(part, glob=False)
    return frame.drop("cell", "question", "sample").to_dicts()
