"""Which micro-batches a step is made of: a function of its number, with no state to save.

`order` says which rows a step has and in which bins, `layout` how they lie in a micro-batch; here
they meet the rows themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from subl.train.layout import Layout, lay_out, share
from subl.train.order import Bin, step_rows

if TYPE_CHECKING:
    from subl.cluster.placement import Placement
    from subl.train.batch import Batch
    from subl.train.plan import TrainSpec
    from subl.train.tokens import Tokens


@dataclass(frozen=True)
class Share:
    """What one rank does of a step. `rows`, `tokens` and `target_tokens` are all ranks'."""

    rows: list[int]
    tokens: int
    target_tokens: int
    batches: list[tuple[Bin, Batch]]

    @property
    def computed(self) -> int:
        """Tokens that this rank computes: a beginning that rows share once, padding too."""
        return sum(batch.input_ids.numel() for rows, batch in self.batches if rows)


@dataclass(frozen=True)
class Loader:
    """The steps of a run, as one rank sees them."""

    spec: TrainSpec
    tokens: Tokens
    layout: Layout
    where: Placement

    @property
    def steps(self) -> int:
        return self.spec.step_count(len(self.tokens))

    def share(self, step: int) -> Share:
        """This rank's part of a step."""
        rows, of_ranks = step_bins(self.spec, self.tokens, self.layout, self.where.ranks, step)
        batches = []
        for each in of_ranks[self.where.rank]:
            batch = self._laid_out(self.tokens, each)
            if self.tokens.behind is not None:
                batch = replace(batch, behind=self._laid_out(self.tokens.behind, each))
            batches.append((each, batch))
        tokens, targets = self.tokens.lengths[rows], self.tokens.target_counts[rows]
        return Share(rows, int(tokens.sum()), int(targets.sum()), batches)

    def _laid_out(self, tokens: Tokens, rows: Bin) -> Batch:
        taken = [tokens.row(number) for number in rows]
        return lay_out(self.layout, taken, share_prefixes=self.spec.computes_prefixes_once)

    def ahead(self, first: int, thread: Executor) -> Iterator[tuple[int, Share]]:
        """Every step from `first` on, laid out by `thread` while the one before it is at work."""
        upcoming = thread.submit(self.share, first) if first < self.steps else None
        for step in range(first, self.steps):
            assert upcoming is not None
            found = upcoming.result()
            if step + 1 < self.steps:
                upcoming = thread.submit(self.share, step + 1)
            yield step, found


def step_bins(
    spec: TrainSpec, tokens: Tokens, layout: Layout, ranks: int, step: int
) -> tuple[list[int], list[list[Bin]]]:
    """The rows of a step over all ranks, and each rank's bins of them."""
    total = spec.row_count(len(tokens))
    rows = step_rows(len(tokens), spec.rows_per_step, spec.seed, step, total)
    lengths = tokens.room[rows].tolist()
    return rows, share(layout, rows, lengths, ranks, spec.micro_batch_tokens)


_STEPS_LOOKED_AT, _ROWS_LOOKED_AT = 100, 100_000


def first_bins(
    spec: TrainSpec, tokens: Tokens, ranks: int, layout: Layout = "paths"
) -> list[list[list[Bin]]]:
    """Each rank's bins, of as many first steps as are soon looked at."""
    looked_at = max(1, min(_STEPS_LOOKED_AT, _ROWS_LOOKED_AT // spec.rows_per_step))
    steps = range(min(spec.step_count(len(tokens)), looked_at))
    return [step_bins(spec, tokens, layout, ranks, step)[1] for step in steps]
