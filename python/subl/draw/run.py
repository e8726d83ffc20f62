"""Draw rows into an artifact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from subl.artifact import Artifact, Made, build, write_atomically
from subl.draw.numbers import random_numbers, shuffled_across, shuffled_within
from subl.draw.spec import DrawSpec
from subl.errors import InputError
from subl.extras import require
from subl.progress import Progress, Report, silent
from subl.shards import Line, read_lines, text_of
from subl.shards.decode import put
from subl.stage import input_names

_FILE = "part-00000.jsonl"
_TOLD_EVERY = 10_000


def draw(
    spec: DrawSpec,
    rows: Sequence[Path],
    out: Path,
    *,
    name: str = "rows",
    report: Report = silent,
) -> Artifact:
    """Write the rows that `spec` draws of `rows` into a shard of JSON lines in `out`. They are held
    in memory, the others are not.

    Raises:
        InputError: there are fewer rows than are to be drawn; or one whose numbers are to be
            shuffled has no completion, or whose prompt does not say how to write random ones.
    """

    if spec.random:
        require("distill", "numpy", what="drawing random numbers")

    def work(folder: Path) -> Made:
        drawn = _drawn(spec, rows, name, report)
        lines = [each.content.decode() for each in drawn]
        changed = 0
        for at, after in enumerate(_completions(spec, drawn)):
            if after != drawn[at].value.get("completion"):
                changed += 1
                lines[at] = put(lines[at], ["completion"], after)
        write_atomically(folder / _FILE, "".join(f"{line}\n" for line in lines))
        figures = {"rows": len(lines), "shards": [_FILE], "changed": changed}
        return Made(figures, {_FILE: len(lines)})

    return build(out, "draw", spec, input_names(spec, {"rows": rows}), work)


def _completions(spec: DrawSpec, drawn: Sequence[Line]) -> list[str]:
    """What the rows are to say in place of what they do; nothing where that stays."""

    def texts(key: str) -> list[str]:
        return [text_of(each.value, key, each.place) for each in drawn]

    if spec.shuffle is not None:
        shuffled = shuffled_within if spec.shuffle == "within" else shuffled_across
        return shuffled(texts("completion"), spec.seed)
    answers = random_numbers(texts("prompt"), spec.seed) if spec.random else []
    made = [answer for answer in answers if answer is not None]
    if len(made) < len(answers):
        raise InputError(
            f"{drawn[answers.index(None)].place}: the prompt asks for no known format of numbers",
            hint='`random` writes numbers as the prompts of prompts = "numbers" ask for them',
        )
    return made


def _drawn(spec: DrawSpec, rows: Sequence[Path], name: str, report: Report) -> list[Line]:
    if spec.rows is None:
        return list(read_lines(rows))
    total = 0
    for total, _ in enumerate(read_lines(rows), start=1):
        if total % _TOLD_EVERY == 0:
            report(Progress(f"draw {name}", total, None, "rows"))
    if total < spec.rows:
        raise InputError(
            f"{spec.rows:,} rows are to be drawn, and there are {total:,}",
            hint="lower `rows`, or make more of them",
        )
    # As of a list of the rows: what is drawn does not depend on what it is drawn of.
    places = Random(spec.seed).sample(range(total), spec.rows)
    wanted = set(places)
    found = {place: line for place, line in enumerate(read_lines(rows)) if place in wanted}
    return [found[place] for place in places]
