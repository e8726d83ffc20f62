"""Look at a distillation before it starts: what it would do, and which tokens it would ask for."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from subl.distill.run import chosen_rows, train_job
from subl.distill.spec import DistillSpec, check_given
from subl.progress import Report, silent
from subl.train.run import prepare_tokens, rehearse


def dry_run(
    spec: DistillSpec,
    model: Path,
    rows: Sequence[Path],
    *,
    teacher: Path | None = None,
    cache: Path | None = None,
    report: Report = silent,
) -> dict[str, Any]:
    """What `distill` would do (`train.run.rehearse`)."""
    check_given(spec, teacher, cache)
    job_in = partial(train_job, spec, model, teacher=teacher, cache=cache)
    return rehearse(job_in, chosen_rows(spec, rows), report)


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
    from subl.model.condition import check_trainable
    from subl.model.load import load_tokenizer
    from subl.train.tokens import Tokens

    check_trainable(model)
    tokenizer = load_tokenizer(model)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        first = islice(chosen_rows(spec, rows), count)
        tokens = Tokens(
            prepare_tokens(
                model,
                first,
                spec.train,
                Path(folder),
                template=spec.template,
                system_prompt=spec.system_prompt,
            )
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
