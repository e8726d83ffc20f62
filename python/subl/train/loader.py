"""Which micro-batches a step is made of: a function of its number, with no state to save.

`order` says which rows a step has and in which bins, `layout` how they lie in a micro-batch; here
they meet the rows themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from subl.train.layout import Layout, share
from subl.train.order import Bin, step_rows

if TYPE_CHECKING:
    from subl.train.plan import TrainSpec
    from subl.train.tokens import Tokens


def step_bins(
    spec: TrainSpec, tokens: Tokens, layout: Layout, ranks: int, step: int
) -> tuple[list[int], list[list[Bin]]]:
    """The rows of a step over all ranks, and each rank's bins of them."""
    total = spec.row_count(len(tokens))
    rows = step_rows(len(tokens), spec.rows_per_step, spec.seed, step, total)
    lengths = tokens.lengths[rows].tolist()
    return rows, share(layout, rows, lengths, ranks, spec.micro_batch_tokens)


_STEPS_LOOKED_AT, _ROWS_LOOKED_AT = 100, 100_000


def first_bins(
    spec: TrainSpec, tokens: Tokens, ranks: int, layout: Layout = "paths"
) -> list[list[list[Bin]]]:
    """Each rank's bins, of as many first steps as are soon looked at."""
    looked_at = max(1, min(_STEPS_LOOKED_AT, _ROWS_LOOKED_AT // spec.rows_per_step))
    steps = range(min(spec.step_count(len(tokens)), looked_at))
    return [step_bins(spec, tokens, layout, ranks, step)[1] for step in steps]
