"""The rows that a scan looks at: each once, in an order that nobody chose.

The order is that of a hash of what a row says, so that the first ones are a random sample of the
data set, the same whatever the files are called and whoever wrote what first.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from subl.progress import Progress, Report
from subl.shards import Row
from subl.shards.rows import read_objects, row_of

_COLUMNS = ["id", "prompt", "completion", "messages", "ended_by"]
_TELL = 10_000


@dataclass(frozen=True)
class Drawn:
    """The first rows by hash.

    Args:
        keys: hex sha256 of what each says.
        ended_by: why each ended, where the data says it.
        others: how many other rows of the data answer the prompt of each, its copies among them;
            where not all rows were drawn, about as many.
        total: rows of the data set.
        copies: rows of it that say what one of these says already.
    """

    rows: Sequence[Row]
    keys: Sequence[str]
    ended_by: Sequence[str | None]
    others: Sequence[float]
    total: int
    copies: int

    def part(self, rows: slice) -> Drawn:
        """Some of them."""
        return replace(
            self,
            rows=self.rows[rows],
            keys=self.keys[rows],
            ended_by=self.ended_by[rows],
            others=self.others[rows],
        )


def key_of(row: Row) -> str:
    """Hex sha256 of what a row says."""
    return hashlib.sha256(json.dumps(row.turns).encode()).hexdigest()


def draw(paths: Sequence[Path], count: int, name: str, report: Report) -> Drawn:
    """The first `count` distinct rows of a data set, by hash; it is read once, and no more of it is
    held.

    Raises:
        InputError: a row cannot be read; names it.
    """
    heap: list[tuple[int, int]] = []  # the largest hash first
    held: dict[int, tuple[str, Row, str | None]] = {}
    times: dict[int, int] = {}
    total = 0
    for value, place in read_objects(paths, _COLUMNS):
        total += 1
        row = row_of(value, place)
        key = key_of(row)
        number = int(key, 16)
        if number in held:
            times[number] += 1
        elif len(heap) < count or number < -heap[0][0]:
            ended = value.get("ended_by")
            held[number] = key, row, ended if isinstance(ended, str) else None
            times[number] = 1
            heapq.heappush(heap, (-number, total))
            if len(heap) > count:
                gone = -heapq.heappop(heap)[0]
                del held[gone], times[gone]
        if total % _TELL == 0:
            report(Progress(f"read {name}", total, None, "rows"))
    numbers = sorted(held)
    found = [held[number] for number in numbers]
    return Drawn(
        [row for _, row, _ in found],
        [key for key, _, _ in found],
        [ended for _, _, ended in found],
        _others([row for _, row, _ in found], [times[number] for number in numbers], total),
        total,
        sum(times.values()) - len(times),
    )


def _others(rows: Sequence[Row], times: Sequence[int], total: int) -> list[float]:
    """How many other rows answer the prompt of each, by how often each of those drawn comes: its
    copies are all known; of its prompt's other texts as large a share as of all rows was drawn."""
    of_prompt: Counter[object] = Counter()
    for row, count in zip(rows, times, strict=True):
        of_prompt[row.turns[:-1]] += count
    share = total / max(1, sum(times))
    return [
        count - 1 + (of_prompt[row.turns[:-1]] - count) * share
        for row, count in zip(rows, times, strict=True)
    ]
