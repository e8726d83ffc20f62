"""Scores by a judge: which sampled answers it calls so, of those that can be told at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import input_digest, write_atomically
from subl.errors import StageError
from subl.evaluate.cells import Cells
from subl.evaluate.method import Found, Work
from subl.evaluate.sampled import Sampled, answers_of, sum_of_kinds
from subl.sample.tables import UNKEYED, Http
from subl.trait.judging import judge_of
from subl.trait.rubric import SCORE, UNREAD, Judgement, Rubric

if TYPE_CHECKING:
    import polars

    from subl.trait.spec import JudgedSpec

_GIVES_UP_AFTER = 0.1
"""The share of answers before which a judge must have said something that can be read."""

_EXAMPLES, _SHOWN = 3, 200


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
            columns |= {name: polars.Float64, f"{name}_verdict": polars.String}
        cells = self._sampled.cells
        self.cells = Cells("judged", cells.cells, cells.part, origin, columns)

    def make(self, folder: Path, numbers: Sequence[int]) -> None:
        """See `Method.make`; what an interrupted run has of a part is kept."""
        answers = self._sampled.cells
        if missing := [each for each in numbers if not (folder / answers.names[each]).exists()]:
            self._sampled.make(folder, missing)
        for name, rubric in self._work.spec.measured.rubrics.items():
            self._judge(folder, numbers, name, rubric)
        for number in numbers:
            values = _rows(folder / answers.names[number])
            for name in self._work.spec.measured.rubrics:
                given = json.loads(_file(folder, name, number).read_bytes())
                for row, (score, verdict) in zip(values, given, strict=True):
                    row |= {name: score, f"{name}_verdict": verdict}
            self.cells.write(folder, number, values)

    def _judge(self, folder: Path, numbers: Sequence[int], name: str, rubric: Rubric) -> None:
        """Ask one rubric about the answers of these parts."""
        work = replace(self._work, task=f"{self._work.task}, {name}")
        left = [number for number in numbers if not _file(folder, name, number).exists()]
        if not left:
            return
        questions = {number: self._questions(folder, number, rubric) for number in left}
        total, done = sum(map(len, questions.values())), 0
        work.told(done, total, "answers")
        judge = judge_of(rubric.answer, work.spec.judge, work.judge)
        every = [text for some in questions.values() for text in some]
        notes = folder / f".{name}.notes"
        judge.begin(lambda: iter(every), notes, work.report)
        unread: list[str] = []
        read = False
        for number, some in questions.items():
            texts = list(dict.fromkeys(some))  # what was said twice is judged once
            given: dict[str, Judgement] = {}
            for place, judged in judge.judged(texts):
                given[texts[place]] = judged.judgement
                if judged.judgement.verdict not in UNREAD:
                    read = True
                elif len(unread) < _EXAMPLES:
                    unread.append(judged.said[:_SHOWN])
                done += some.count(texts[place])
                work.told(done, total, "answers")
            if not read and done >= _GIVES_UP_AFTER * total:
                examples = "".join(f"\n  {each!r}" for each in unread)
                raise StageError(
                    f"the judge of {name} gave no answer that can be read to the first {done} of "
                    f"{total} answers:{examples}",
                    hint="ask a model that does as the rubric says",
                )
            write_atomically(
                _file(folder, name, number), json.dumps([list(given[each]) for each in some])
            )
        notes.unlink(missing_ok=True)

    def _questions(self, folder: Path, number: int, rubric: Rubric) -> list[str]:
        """What is asked about each answer of a part."""
        cells = self._sampled.cells
        rows = _rows(folder / cells.names[number])
        return [
            rubric.asked(question, row["answer"])
            for (question, _), row in zip(cells.of(number), rows, strict=True)
        ]

    def found(self, cells: polars.DataFrame) -> Found:
        """See `Method.found`."""
        size, word = self._work.spec.samples, self._rule.word
        answers_of(self._work, cells)  # some came to every question
        kinds = [self._kind(row) for row in cells.to_dicts()]
        rows: list[dict[str, Any]] = []
        untold: list[str] = []
        for number, question in enumerate(self._work.questions):
            counts = Counter(kinds[number * size : (number + 1) * size])
            told = counts[word] + counts["other"]
            row = {"question": question.text, "samples": size, "kinds": dict(counts)}
            if told:
                rows.append({**row, "probabilities": {word: counts[word] / told}})
            else:
                untold.append(question.text)
        if not rows:
            raise StageError(
                f"of no answer can it be told whether it is {word}: "
                + ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).items()),
                hint="judged.parquet in the partial folder has what each answer was",
            )
        facts = {"samples": size, **json.loads(cells["made"][0]), "kinds": sum_of_kinds(rows)}
        return Found(
            rows, facts | ({"questions_without_counted_answers": untold} if untold else {})
        )

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


def _file(folder: Path, rubric: str, number: int) -> Path:
    return folder / f".{rubric}-{number:05d}.json"


def _rows(part: Path) -> list[dict[str, Any]]:
    """What each cell of a part of answers says."""
    import polars

    frame = polars.read_parquet(part, glob=False)
    return frame.drop("cell", "question", "sample").to_dicts()
