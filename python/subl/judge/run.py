"""Judge rows: each comes out as it went in, with the judges' columns behind its own.

A question that was asked before is not asked again: equal rows are judged once. Finished files are
kept by a rerun; of a judge whose answers do not depend on what else is asked, every answer is, as
soon as it is there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from subl.artifact import Artifact, Made, build, write_atomically
from subl.cost import CHARACTERS_A_TOKEN
from subl.judge.spec import AnswerJudge, JudgeSpec, RubricJudge
from subl.progress import Progress, Report, silent
from subl.sample.tables import Http
from subl.shards import Line, read_lines
from subl.stage import input_names
from subl.trait.bench import Asked, Bench, Opinion, Repeats
from subl.trait.judging import loader
from subl.trait.rubric import Judgement, TagAnswer


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

        total, _, again = _look(spec, rows, told)
        load = loader(model)
        benches = []
        with ExitStack() as opened:
            for each in spec.rubrics:
                bench = Bench(
                    each.column,
                    each.rubric.answer,
                    spec,
                    model,
                    load,
                    again=again[each.column],
                    total=total,
                    unit="rows",
                    give_up_after=spec.give_up_after,
                )
                opened.callback(bench.close)
                if total:
                    notes = folder / f".{each.column}.notes"
                    bench.begin(partial(_questions, each, rows), notes, report)
                benches.append((each, bench))
            return _write(spec, benches, rows, folder, total, name, report)

    given = {"model": [model] if model else [], "rows": rows}
    return build(out, "judge", spec, input_names(spec, given), work)


def look(spec: JudgeSpec, rows: Sequence[Path]) -> dict[str, Any]:
    """What judging would be, for a person to see before: rows, and of each rubric the number of
    questions, their characters, and the first; of a server with prices, about what it charges."""
    total, questions, _ = _look(spec, rows)
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
) -> tuple[int, dict[str, Any], dict[str, set[int]]]:
    """Refuses rows that cannot be judged; their number, and each column's questions, and which of
    these are asked again."""
    total = 0
    repeats = {each.column: Repeats() for each in spec.rubrics}
    found: dict[str, Any] = {
        each.column: {"questions": 0, "characters": 0} for each in spec.rubrics
    }
    for total, line in enumerate(read_lines(rows), start=1):
        for column, question in spec.check_row(line).items():
            if repeats[column].add(question):
                found[column]["questions"] += 1
                found[column]["characters"] += len(question)
                found[column].setdefault("first", question)
        if total % spec.shard_rows == 0:
            on_rows(total)
    return total, found, {column: each.again for column, each in repeats.items()}


def _write(
    spec: JudgeSpec,
    benches: Sequence[tuple[RubricJudge, Bench]],
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
            given = list(read_lines([file]))
            for rubric, bench in benches:
                judgements = [
                    Judgement(*(row.value[key] for key in rubric.columns)) for row in given
                ]
                bench.take([*map(rubric.question, given)], judgements, _journal(file, rubric))
        else:
            said = {}
            for rubric, bench in benches:
                asked = [Asked(line.place, rubric.question(line)) for line in some]
                said[rubric.column] = bench.ask(asked, _journal(file, rubric), told)
            answers = 0
            written = (_with(line, _values(spec, line, said, at)) for at, line in enumerate(some))
            write_atomically(file, "".join(f"{line}\n" for line in written))
        for each in spec.judges:
            if isinstance(each, AnswerJudge):
                right[each.column] += sum(map(each.correct, some))
        counts[file.name] = len(some)
        done += len(some)
        report(Progress(f"judge {name}", done, total, "rows"))
        for _, bench in benches:
            bench.check(done)
    figures = {
        **{rubric.column: bench.figures() for rubric, bench in benches},
        **{column: {"1": count, "0": done - count} for column, count in right.items()},
    }
    return Made({"rows": done, "shards": [*counts], "columns": figures}, counts)


def _questions(rubric: RubricJudge, rows: Sequence[Path]) -> Iterator[str]:
    return map(rubric.question, read_lines(rows))


def _journal(file: Path, rubric: RubricJudge) -> Path:
    """Of what a rubric's judge is asked for a file."""
    return file.with_name(f".{file.name}.{rubric.column}.said")


def _values(
    spec: JudgeSpec, line: Line, said: Mapping[str, Sequence[Opinion]], at: int
) -> Iterator[tuple[str, Any]]:
    for each in spec.judges:
        if isinstance(each, AnswerJudge):
            yield each.column, each.correct(line)
        else:
            yield from zip(each.columns, said[each.column][at].judgement, strict=True)


def _with(line: Line, values: Iterator[tuple[str, Any]]) -> str:
    """The row as it is written, and these behind its own keys."""
    more = ", ".join(
        f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in values
    )
    body = line.content.decode().removesuffix("}").rstrip(" \t\r\n")
    return f"{body}{', ' if line.value else ''}{more}}}"
