"""Judge rows: each comes out as it went in, with the judges' columns behind its own.

A question that was asked before is not asked again: equal rows are judged once. Finished files are
kept by a rerun; of a judge whose answers do not depend on what else is asked, every answer is, as
soon as it is there.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from subl.artifact import Artifact, Made, build, write_atomically
from subl.cost import CHARACTERS_A_TOKEN
from subl.errors import StageError
from subl.judge.spec import AnswerJudge, JudgeSpec, RubricJudge
from subl.progress import Progress, Report, silent
from subl.sample import Failures, Request
from subl.sample.tables import Http
from subl.shards import Line, read_lines
from subl.stage import input_names
from subl.trait.judging import Judge, Judged, judge_of, loader
from subl.trait.rubric import FAILED, SCORE, UNREAD, Judgement, TagAnswer

_EXAMPLES = 3
_SHOWN = 200
"""Characters of an answer that an error shows."""


def judge(
    spec: JudgeSpec,
    model: Path | None,
    rows: Sequence[Path],
    out: Path,
    *,
    name: str = "rows",
    report: Report = silent,
) -> Artifact:
    """Write `rows` with the columns of `spec`'s judges into shards of JSON lines in `out`.

    Args:
        model: the folder of the model that rubrics are asked of.

    Raises:
        InputError: a row has not what a judge takes, or more than it may.
        StageError: a judge gives no answer that can be read.
    """

    def work(folder: Path) -> Made:
        def told(done: int) -> None:
            report(Progress(f"read {name}", done, None, "rows"))

        total, _ = _look(spec, rows, told)

        load = loader(model)
        judges = [(each, judge_of(each.rubric.answer, spec, model, load)) for each in spec.rubrics]
        benches = [_Bench(*each, spec, rows, folder, total) for each in judges]
        for bench in benches if total else []:
            bench.begin(report)
        made = _write(spec, benches, rows, folder, total, name, report)
        for bench in benches:
            bench.close()
        return made

    given = {"model": [model] if model else [], "rows": rows}
    return build(out, "judge", spec, input_names(spec, given), work)


def look(spec: JudgeSpec, rows: Sequence[Path]) -> dict[str, Any]:
    """What judging would be, for a person to see before: rows, and of each rubric the number of
    questions, their characters, and the first; of a server with prices, about what it charges."""
    total, questions = _look(spec, rows)
    found = {"rows": total, "rubrics": questions}
    if isinstance(spec.backend, Http) and spec.backend.prices is not None:
        usage: Counter[str] = Counter()
        for each in spec.rubrics:
            answer, asked = each.rubric.answer, questions[each.column]
            said = answer.max_new_tokens if isinstance(answer, TagAnswer) else 1
            usage["prompt_tokens"] += asked["characters"] // CHARACTERS_A_TOKEN
            usage["completion_tokens"] += asked["questions"] * said
        found["cost"] = spec.backend.prices.cost(usage)
    return found


def _look(
    spec: JudgeSpec, rows: Sequence[Path], on_rows: Callable[[int], None] = lambda done: None
) -> tuple[int, dict[str, Any]]:
    """Refuses rows that cannot be judged."""
    total = 0
    seen: dict[str, set[bytes]] = {each.column: set() for each in spec.rubrics}
    found: dict[str, Any] = {
        each.column: {"questions": 0, "characters": 0} for each in spec.rubrics
    }
    for total, line in enumerate(read_lines(rows), start=1):
        for column, question in spec.check_row(line).items():
            if (digest := _digest(question)) not in seen[column]:
                seen[column].add(digest)
                found[column]["questions"] += 1
                found[column]["characters"] += len(question)
                found[column].setdefault("first", question)
        if total % spec.shard_rows == 0:
            on_rows(total)
    return total, found


def _digest(question: str) -> bytes:
    return hashlib.sha256(question.encode()).digest()


class _Bench:
    """A judge at work, and all that it has said."""

    def __init__(
        self,
        judge: RubricJudge,
        at: Judge,
        spec: JudgeSpec,
        rows: Sequence[Path],
        folder: Path,
        total: int,
    ) -> None:
        self.judge = judge
        self.verdicts: Counter[str] = Counter()
        self.total = 0.0
        self.unread: list[str] = []
        self._rows = rows
        self._notes = folder / f".{judge.column}.notes"
        self._said = folder / f".{judge.column}.said"
        self._known: dict[bytes, Judgement] = {}
        self._at = at
        self._usage: Counter[str] = Counter()
        table = spec.backend
        self._failures = Failures(table.failed_share if isinstance(table, Http) else 1, total)
        self._prices = table.prices if isinstance(table, Http) else None

    def begin(self, report: Report) -> None:
        """Refuse what cannot be asked; take in what an interrupted run was told."""
        self._at.begin(
            lambda: map(self.judge.question, read_lines(self._rows)), self._notes, report
        )
        if self._said.exists():
            for line in self._said.read_bytes().splitlines():
                try:
                    digest, score, verdict, usage = json.loads(line)
                except ValueError:  # the last line, of a run that was killed
                    continue
                self._usage.update(usage)
                if verdict != FAILED:
                    self._known[bytes.fromhex(digest)] = Judgement(score, verdict)

    def take(self, lines: Sequence[Line]) -> None:
        """Learn what rows of a finished file say."""
        for line in lines:
            given = Judgement(*(line.value[column] for column in self.judge.columns))
            self._known[_digest(self.judge.question(line))] = given
            self._count(given)

    def ask(self, lines: Sequence[Line], on_answer: Callable[[], None]) -> list[Judgement]:
        """What the judge says of each row."""
        questions = [self.judge.question(line) for line in lines]
        digests = [_digest(question) for question in questions]
        new = {
            digest: place
            for place, digest in reversed([*enumerate(digests)])
            if digest not in self._known
        }
        places = sorted(new.values())
        with self._said.open("ab") as said:
            asked = [questions[place] for place in places]
            for number, judged in self._at.judged(asked) if asked else []:
                place = places[number]
                given = judged.judgement
                self._known[digests[place]] = given
                self._note(lines[place], judged)
                self._usage.update(judged.usage)
                if self._at.steady:
                    line = [digests[place].hex(), *given, dict(judged.usage)]
                    said.write(json.dumps(line).encode() + b"\n")
                    said.flush()
                failure = judged.said if given.verdict == FAILED else None
                self._failures.add(Request(lines[place].place, (), 0), failure)
                on_answer()
        found = [self._known[digest] for digest in digests]
        for given in found:
            self._count(given)
        return found

    def check(self, done: int, total: int, share: float) -> None:
        """Stop where nothing that was said so far can be read."""
        if done < share * total or any(verdict not in UNREAD for verdict in self.verdicts):
            return
        examples = "".join(f"\n  {each}" for each in self.unread)
        raise StageError(
            f"the judge of {self.judge.column} gave no answer that can be read for the first "
            f"{done:,} of {total:,} rows:{examples}",
            hint="ask a model that does as the rubric says; give_up_after is when a judge is "
            "given up, and min_mass of a rubric what its answers must have",
        )

    def figures(self) -> dict[str, Any]:
        """For `result.json`."""
        scores = self.verdicts[SCORE]
        return {
            "verdicts": dict(sorted(self.verdicts.items())),
            "mean": self.total / scores if scores else None,
            **({"usage": dict(sorted(self._usage.items()))} if self._usage else {}),
            **({"cost": self._prices.cost(self._usage)} if self._prices is not None else {}),
            **self._at.facts(),
        }

    def close(self) -> None:
        """Nothing is left to be kept."""
        for file in (self._notes, self._said):
            file.unlink(missing_ok=True)

    def _count(self, given: Judgement) -> None:
        self.verdicts[given.verdict] += 1
        self.total += given.score or 0.0

    def _note(self, line: Line, judged: Judged) -> None:
        if judged.judgement.verdict in UNREAD and len(self.unread) < _EXAMPLES:
            self.unread.append(f"{line.place}: {judged.said[:_SHOWN]!r}")


def _write(
    spec: JudgeSpec,
    benches: Sequence[_Bench],
    rows: Sequence[Path],
    folder: Path,
    total: int,
    name: str,
    report: Report,
) -> Made:
    right: Counter[str] = Counter()
    counts: dict[str, int] = {}
    done, answers = 0, 0
    lines = read_lines(rows)

    def told() -> None:
        nonlocal answers
        answers += 1
        judged = min(answers // len(benches), len(some) - 1)
        report(Progress(f"judge {name}", done + judged, total, "rows"))

    while some := list(islice(lines, spec.shard_rows)):
        file = folder / f"part-{len(counts):05d}.jsonl"
        if file.exists():  # written whole by an interrupted run with the same key
            for bench in benches:
                bench.take(list(read_lines([file])))
        else:
            said = {each.judge.column: each.ask(some, told) for each in benches}
            answers = 0
            written = (_with(line, _values(spec, line, said, at)) for at, line in enumerate(some))
            write_atomically(file, "".join(f"{line}\n" for line in written))
        for each in spec.judges:
            if isinstance(each, AnswerJudge):
                right[each.column] += sum(map(each.correct, some))
        counts[file.name] = len(some)
        done += len(some)
        report(Progress(f"judge {name}", done, total, "rows"))
        for bench in benches:
            bench.check(done, total, spec.give_up_after)
    figures = {
        **{bench.judge.column: bench.figures() for bench in benches},
        **{column: {"1": count, "0": done - count} for column, count in right.items()},
    }
    return Made({"rows": done, "shards": [*counts], "columns": figures}, counts)


def _values(
    spec: JudgeSpec, line: Line, said: dict[str, list[Judgement]], at: int
) -> Iterator[tuple[str, Any]]:
    for each in spec.judges:
        if isinstance(each, AnswerJudge):
            yield each.column, each.correct(line)
        else:
            yield from zip(each.columns, said[each.column][at], strict=True)


def _with(line: Line, values: Iterator[tuple[str, Any]]) -> str:
    """The row as it is written, and these behind its own keys."""
    more = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values)
    body = line.content.decode().removesuffix("}").rstrip(" \t\r\n")
    return f"{body}{', ' if line.value else ''}{more}}}"
