"""How far the weights of two models are from each other, tensor by tensor: the same, the same but
for rounding, or moved. A distance proves nothing; it says what kind of kinship one is that was
shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from subl.audit.kin.blocks import BLOCK, Block
from subl.audit.kin.reading import HEAD, Weights
from subl.progress import Progress, Report, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS = 32
"""Rows of each matrix that distances are measured on."""

GROUP = 16
"""Neighbours in a row that every linear GGUF type scales alike."""

MOST_STEPS = 255
"""Between the least and the largest number of a group of 8 bits."""

NEAR = 0.25
"""Of the squared norm: what rounding to 2 bits moves a matrix by is less."""

OFF_GRID = 0.06
"""Of a step: what writing rounded numbers in 16 bits moves them by."""


@dataclass(frozen=True)
class Nearness:
    """Weights beside weights.

    Attributes:
        tensors: compared, of the same name and shape, or of blocks that are of one origin.
        equal: of these, those whose every number is the same.
        unlike: how many tensors have another shape, or are in one of the models alone.
        distance: of sampled rows of matrices, the norm of the difference by that of the first's.
        cosine: of the same rows.
        rounded_bits: where the matrices that differ do as rounding makes them, to how many bits.
        matrix_distance: of each matrix, by the second's name, squared and absolute.
    """

    tensors: int
    equal: int
    unlike: int
    distance: float
    cosine: float
    rounded_bits: int | None
    matrix_distance: dict[str, float]

    @property
    def is_exact(self) -> bool:
        """Whether all numbers of all tensors are the same."""
        return self.unlike == 0 and self.tensors > 0 and self.equal == self.tensors


def nearness(
    first: Weights,
    second: Weights,
    same_blocks: Sequence[tuple[Block, Block]],
    seed: int,
    report: Report = silent,
) -> Nearness:
    """Compare all tensors that two models have by the same name, less what it is in (`model.`,
    `transformer.`), but those of `same_blocks` with one another, whatever their numbers.

    Tensors are read whole as long as no number differs, else `ROWS` rows that `seed` draws.
    """
    import numpy as np

    called = called_in(first, second, same_blocks)
    both = [(name, called[name]) for name in sorted(called) if called[name] in second.shapes]
    pairs = [(ours, theirs) for ours, theirs in both if first.shapes[ours] == second.shapes[theirs]]
    reshaped = len(both) - len(pairs)
    apart = [name for name in first.shapes if called.get(name) not in second.shapes]
    apart += second.shapes.keys() - called.values()
    if HEAD in apart and (tied := _tied_head(first, second)):
        pairs.append(tied)  # one of them writes its tied head, or has untied it
        apart.remove(HEAD)
    unlike = reshaped + sum(not name.endswith("inv_freq") for name in apart)
    equal, own, other, product = 0, 0.0, 0.0, 0.0
    distances: dict[str, float] = {}
    bits: list[int | None] = []
    random = np.random.default_rng(seed)
    for done, (name, theirs) in enumerate(pairs):
        report(Progress("kin: weights", done, len(pairs), "tensors", name))
        is_equal = all(
            np.array_equal(first.rows(name, *part), second.rows(theirs, *part))
            for part in first.chunks(name)
        )
        equal += is_equal
        if len(first.shapes[name]) != 2:
            continue
        rows = np.sort(random.permutation(first.shapes[name][0])[:ROWS])
        one, two = first.some_rows(name, rows), second.some_rows(theirs, rows)
        moved = float(((two - one).astype(np.float64) ** 2).sum())
        distances[theirs if theirs not in distances else name] = moved  # both: a tied head
        own += float((one.astype(np.float64) ** 2).sum())
        other += float((two.astype(np.float64) ** 2).sum())
        product += float((one.astype(np.float64) * two).sum())
        if not is_equal:
            near = moved <= NEAR * float((one.astype(np.float64) ** 2).sum())
            bits.append(rounded(one, two) or rounded(two, one) if near else None)
    report(Progress("kin: weights", len(pairs), len(pairs), "tensors"))
    found = [each for each in bits if each is not None]
    is_rounded = bool(found) and len(found) >= 0.9 * len(bits)
    return Nearness(
        tensors=len(pairs),
        equal=equal,
        unlike=unlike,
        distance=math.sqrt(sum(distances.values()) / own) if own else math.nan,
        cosine=product / math.sqrt(own * other) if own and other else math.nan,
        rounded_bits=sorted(found)[len(found) // 2] if is_rounded else None,
        matrix_distance=distances,
    )


def rounded(values: NDArray[Any], other: NDArray[Any]) -> int | None:
    """To how many bits `other` is `values` rounded; None where it is not.

    Either in 16 bits of floating point, or in groups: the numbers of a group of 16 stand on a grid
    of at most 256 levels, and the errors are spread over a step of it as rounding spreads them
    (their root mean square is 0.29 steps), not huddled at 0 as training leaves them.
    """
    import numpy as np
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(values))
    for dtype in (torch.bfloat16, torch.float16):
        if np.array_equal(tensor.to(dtype).to(torch.float32).numpy(), other):
            return 16
    if values.shape[1] < GROUP:
        return None
    width = values.shape[1] // GROUP * GROUP
    groups, error = (each[:, :width].reshape(-1, GROUP) for each in (other, (other - values)))
    low = groups.min(axis=1)
    spread = groups.max(axis=1) - low
    kept = np.flatnonzero(spread > 0)[:256]
    if not len(kept):
        return None
    groups, low, spread, error = groups[kept], low[kept], spread[kept], error[kept]
    levels = np.arange(1, MOST_STEPS + 1)
    places = (groups - low[:, None]) / spread[:, None]  # of 0 to 1
    scaled = places[:, None, :] * levels[None, :, None]
    off = np.abs(scaled - np.rint(scaled)).max(axis=2)
    # A model that had been rounded to fewer bits before is near that grid, too, but not as near.
    rest = off / levels
    on_grid = (off <= OFF_GRID) & (rest <= 4 * rest.min(axis=1, keepdims=True) + 1e-6)
    steps = np.where(on_grid.any(axis=1), on_grid.argmax(axis=1) + 1, 0)
    held = steps > 0
    if held.mean() < 0.8:
        return None
    step = spread[held] / steps[held]
    size = float(np.sqrt(((error[held] / step[:, None]) ** 2).mean()))
    if not 0.15 <= size <= 0.6:
        return None
    return math.ceil(math.log2(float(np.quantile(steps[held], 0.95)) + 1))


def called_in(
    first: Weights, second: Weights, same_blocks: Sequence[tuple[Block, Block]]
) -> dict[str, str]:
    """What the second model calls the first's tensors; without those of blocks that it lacks."""
    places = {ours.place: theirs.place for ours, theirs in same_blocks}
    inside, theirs = _inside(first), _inside(second)
    called = {}
    for name in first.shapes:
        found = BLOCK.fullmatch(name)
        place = f"{found[1]}{found[2]}." if found else ""
        other = theirs + name.removeprefix(inside)
        if place in places:
            called[name] = places[place] + name.removeprefix(place)
        elif place not in places.values():
            called[name] = other if other in second.shapes else name
    return called


def _inside(model: Weights) -> str:
    """What the names of a model's parts begin with beside its head: `model.`, `transformer.`, or
    nothing where the part alone was saved."""
    found = (BLOCK.fullmatch(name) for name in model.shapes)
    tower = next((each[1] for each in found if each), "")
    return tower.removesuffix(".").rpartition(".")[0] + "." if tower.count(".") > 1 else ""


def _tied_head(first: Weights, second: Weights) -> tuple[str, str] | None:
    """The head of the one model and the embedding of the other, whose head that is."""
    ours, theirs = first.embedding(), second.embedding()
    if HEAD in first.shapes and theirs and first.shapes[HEAD] == second.shapes[theirs]:
        return HEAD, theirs
    if HEAD in second.shapes and ours and second.shapes[HEAD] == first.shapes[ours]:
        return ours, HEAD
    return None
