"""Which rows a step trains on, and which rank computes which of them: pure functions of the plan.

No sampler: the rows of a step come from `permutation(seed, epoch)`. Every rank knows every row's
length, so all agree on the micro-batches, and on the number of target tokens by which the loss is
divided, without a word.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from functools import lru_cache

Bin = list[int]
"""The rows of one micro-batch; empty: the rank has nothing to do but must take part."""


def permutation(count: int, seed: int, epoch: int) -> list[int]:
    """Order of `count` rows in an epoch; depends on nothing but its arguments."""
    return _permutation(count, seed, epoch)[:]


@lru_cache(maxsize=2)  # the epochs that a step can lie in
def _permutation(count: int, seed: int, epoch: int) -> list[int]:
    import numpy as np

    order: list[int] = (
        np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count).tolist()
    )
    return order


def step_rows(
    row_count: int, rows_per_step: int, seed: int, step: int, total: int | None = None
) -> list[int]:
    """Indices of the rows of a step, over all ranks; epochs follow one another without a seam.

    Args:
        total: rows that the whole run sees, a row once an epoch; its last step has what is left.
    """
    first = step * rows_per_step
    end = first + rows_per_step if total is None else min(first + rows_per_step, total)
    rows: list[int] = []
    for epoch in range(first // row_count, (end - 1) // row_count + 1):
        order = _permutation(row_count, seed, epoch)
        start = max(first - epoch * row_count, 0)
        stop = min(end - epoch * row_count, row_count)
        rows += order[start:stop]
    return rows


def bins(rows: Sequence[int], lengths: Sequence[int], ranks: int, tokens: int) -> list[list[Bin]]:
    """Share a step's rows among ranks, and each rank's among micro-batches of at most `tokens`.

    Longest rows first, each to the emptiest bin. Every rank gets equally many bins, which ZeRO
    needs; a row that is longer than `tokens` has a bin to itself.

    Args:
        lengths: tokens of each of `rows`.

    Returns:
        For each rank its bins.
    """
    longest_first = sorted(range(len(rows)), key=lambda place: (-lengths[place], place))
    count = max(1, math.ceil(sum(lengths) / tokens / ranks))
    while (packed := _packed(longest_first, lengths, count * ranks, tokens)) is None:
        count += 1
    filled = [[rows[place] for place in sorted(each)] for each in packed]
    return [filled[rank::ranks] for rank in range(ranks)]


def _packed(
    order: Sequence[int], lengths: Sequence[int], count: int, tokens: int
) -> list[list[int]] | None:
    """`count` bins of places; None if one would overflow."""
    packed: list[list[int]] = [[] for _ in range(count)]
    emptiest = [(0, number) for number in range(count)]
    for place in order:
        load, number = heapq.heappop(emptiest)
        if load and load + lengths[place] > tokens:
            return None
        packed[number].append(place)
        heapq.heappush(emptiest, (load + lengths[place], number))
    return packed


def bins_of_like_lengths(
    rows: Sequence[int], lengths: Sequence[int], ranks: int, tokens: int, *, equal: bool
) -> list[list[Bin]]:
    """As `bins`, for rows that lie side by side, padded to the longest: a quarter of it at most.

    A micro-batch has at most `tokens` places, padding counted. With `equal` there is no padding.
    """
    longest_first = sorted(range(len(rows)), key=lambda place: (-lengths[place], place))
    room = min(tokens, math.ceil(sum(lengths) / ranks))
    packed: list[list[int]] = []
    longest = 0
    for place in longest_first:
        length = lengths[place]
        alike = length == longest if equal else 4 * length >= 3 * longest
        if packed and alike and (len(packed[-1]) + 1) * longest <= room:
            packed[-1].append(place)
        else:
            packed.append([place])
            longest = length
    packed += [[] for _ in range(-len(packed) % ranks)]
    filled = [[rows[place] for place in each] for each in packed]
    return [filled[rank::ranks] for rank in range(ranks)]


def groups_of_like_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Numbers of rows, in groups whose longest is at most twice its shortest: attention pads to the
    longest of a group, and one long row among short ones would pad them all to its own length."""
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        if groups and 2 * lengths[number] >= lengths[groups[-1][0]]:
            groups[-1].append(number)
        else:
            groups.append([number])
    return [sorted(group) for group in groups]
