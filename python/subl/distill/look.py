"""Look at a distillation before it starts: what it would do, and which tokens it would ask for."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from subl.cluster.placement import Placement
from subl.distill.run import DistillSpec, check_given, chosen_rows, train_job
from subl.progress import Report, silent
from subl.train.preview import preview
from subl.train.run import prepare, prepare_tokens


def dry_run(
    spec: DistillSpec,
    model: Path,
    rows: Sequence[Path],
    *,
    teacher: Path | None = None,
    cache: Path | None = None,
    report: Report = silent,
) -> dict[str, Any]:
    """What `distill` would do: rows, tokens, steps, micro-batches, memory and time.

    Everything is checked that the run would check; a step is timed where the machine can.
    """
    check_given(spec, teacher, cache)
    with tempfile.TemporaryDirectory() as folder:
        job = train_job(spec, model, Path(folder), teacher=teacher, cache=cache)
        prepare(job, chosen_rows(spec, rows), Placement(), report, dry=True)
        return preview(job, spec.train.ranks, report)


@dataclass(frozen=True)
class MaskedRow:
    """A row as the model reads it: runs of text, and whether the loss asks for their tokens."""

    row: int
    runs: tuple[tuple[str, bool], ...]
    tokens: int
    target_tokens: int


def masked_rows(
    spec: DistillSpec, model: Path, rows: Sequence[Path], count: int
) -> list[MaskedRow]:
    """The first `count` rows that would be trained on, token by token."""
    from subl.model.load import load_tokenizer
    from subl.train.tokens import Tokens

    tokenizer = load_tokenizer(model)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        first = islice(chosen_rows(spec, rows), count)
        tokens = Tokens(
            prepare_tokens(model, first, spec.train, Path(folder), template=spec.template)
        )
        for number in range(len(tokens)):
            ids, targets = tokens.row(number)
            runs = tuple(
                (tokenizer.decode([token for token, _ in run]), bool(target))
                for target, run in groupby(
                    zip(ids.tolist(), targets.tolist(), strict=True), key=lambda pair: pair[1]
                )
            )
            found.append(MaskedRow(number + 1, runs, len(ids), int(targets.sum())))
    return found
