"""Which hidden unit of the one model is which of the other, and how surprising that is.

Before training, the hidden units of an MLP are exchangeable, and training treats them alike. So
where two models began independently, the assignment of one's units to the other's is an order
drawn at random, whatever was trained afterwards (Zhu, Ahmed, Kuditipudi and Liang, "Independence
Tests for Language Models", arXiv 2502.12292). `csu`: the assignment by rows of `up_proj` is the
identity. `match`: the assignments by `up_proj` and by `gate_proj` are one another, in whatever
order the units are now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from subl.audit.kin.blocks import Block, blocks, gains
from subl.audit.kin.pairs import paired
from subl.audit.kin.reading import Weights
from subl.audit.kin.tails import combined, correlation, log10, log_tail
from subl.audit.kin.tokens import shared_tokens
from subl.progress import Progress, Report, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

Test = Literal["csu", "match", "match on embeddings"]
CSU: Test = "csu"
MATCH: Test = "match"
MATCH_EMBEDDINGS: Test = "match on embeddings"

TOKENS = 1024
"""Shared tokens whose embeddings are inputs of `match on embeddings`."""

PROBES = 128
"""Directions by which blocks are told apart."""

LEAST_UNITS = 10
"""Fewer have too few orders for Student's t to be near."""


@dataclass(frozen=True)
class Outcome:
    """What one test says of a pair of models.

    Attributes:
        test: `csu`, `match` or `match on embeddings`.
        log_p: natural logarithm of its p value; None where the models are not comparable in this
            way.
        blocks: how many pairs of blocks it is combined from.
        units: hidden units tested in a block, at most.
        reason: why it is not comparable.
        block_log_p: of each pair of blocks.
        pairs: these blocks, of the first model and of the second.
        agreement: Spearman's correlation of units, its mean over the blocks: 1 where all agree.
    """

    test: Test
    log_p: float | None
    blocks: int = 0
    units: int = 0
    reason: str | None = None
    block_log_p: tuple[float, ...] = field(default=(), repr=False)
    agreement: float | None = None
    pairs: tuple[tuple[Block, Block], ...] = field(default=(), repr=False)

    @property
    def log10_p(self) -> float | None:
        """`log_p` as a power of ten."""
        return None if self.log_p is None else log10(self.log_p)


def compare_units(
    first: Weights, second: Weights, units: int, seed: int, report: Report = silent
) -> list[Outcome]:
    """csu and match on all pairs of blocks, at most `units` hidden units of each, drawn by `seed`.

    Of each pair of blocks, all units of the wider MLP stand against those drawn of the narrower
    one, so units may have been cut away, and blocks too, or put in another order: they are paired
    by what no order of their units changes.
    """
    ours, theirs = (
        [each for each in blocks(weights) if each.units >= LEAST_UNITS]
        for weights in (first, second)
    )
    if not ours or not theirs:
        lacking = first if not ours else second
        reason = f"{lacking.folder} has no MLP of a known kind with {LEAST_UNITS} hidden units"
        return [Outcome(test, None, reason=reason) for test in (CSU, MATCH, MATCH_EMBEDDINGS)]
    same_width = ours[0].width == theirs[0].width
    gated = all(each.gate for each in (*ours, *theirs))
    in_place = _Inputs.directions(ours[0].width, seed) if same_width else None
    embedded = _Inputs.tokens(first, second, seed) if gated else None
    found: dict[Test, list[_Pair]] = {}
    steps = sum(each is not None for each in (in_place, embedded)) * min(len(ours), len(theirs))
    done = 0
    for inputs in filter(None, (in_place, embedded)):
        signatures = inputs.signatures(first, ours, 0), inputs.signatures(second, theirs, 1)
        for i, j in paired(*signatures):
            drawn = _Drawn(ours[i].units, theirs[j].units, units, seed + i)
            pair = (first, ours[i], second, theirs[j])
            by_up = drawn.assigned(*inputs.read(*pair, "up"), signed=False)
            by_gate = drawn.assigned(*inputs.read(*pair, "gate"), signed=True) if gated else None
            if inputs is in_place:
                rho = correlation(drawn.chosen, by_up)
                found.setdefault(CSU, []).append(_Pair(ours[i], theirs[j], rho, len(drawn.chosen)))
            if by_gate is not None:
                name = MATCH if inputs is in_place else MATCH_EMBEDDINGS
                rho = correlation(by_up, by_gate)
                found.setdefault(name, []).append(_Pair(ours[i], theirs[j], rho, len(drawn.chosen)))
            done += 1
            report(Progress("kin", done, steps, "blocks"))
    widths = f"the residual streams are {ours[0].width} and {theirs[0].width} wide"
    reasons: dict[Test, str] = {
        CSU: widths,
        MATCH: "an MLP has no gate" if not gated else widths,
        MATCH_EMBEDDINGS: "an MLP has no gate" if not gated else "they share too few tokens",
    }
    return [
        _outcome(test, found[test]) if test in found else Outcome(test, None, reason=reasons[test])
        for test in (CSU, MATCH, MATCH_EMBEDDINGS)
    ]


class _Pair(NamedTuple):
    """Two blocks, and the correlation of so many of their units."""

    first: Block
    second: Block
    rho: float
    units: int


def _outcome(test: Test, found: Sequence[_Pair]) -> Outcome:
    logs = tuple(log_tail(each.rho, each.units) for each in found)
    return Outcome(
        test,
        combined(logs),
        len(found),
        max(each.units for each in found),
        block_log_p=logs,
        agreement=sum(each.rho for each in found) / len(found),
        pairs=tuple((each.first, each.second) for each in found),
    )


class _Drawn:
    """Some units of the narrower of two MLPs, drawn by a seed and not by what they hold."""

    def __init__(self, ours: int, theirs: int, most: int, seed: int) -> None:
        import numpy as np

        self._random = np.random.default_rng(seed)
        self._is_ours = ours <= theirs
        self.chosen = np.sort(self._random.permutation(min(ours, theirs))[:most])

    def assigned(self, ours: NDArray[Any], theirs: NDArray[Any], *, signed: bool) -> NDArray[Any]:
        """The unit of the wider MLP for each that was drawn: one each, most alike in sum.

        Args:
            ours, theirs: a row a unit.
            signed: whether opposite rows are unlike. Where a unit's output is turned with
                it, its sign says nothing.
        """
        import numpy as np
        from scipy.optimize import linear_sum_assignment

        narrow, wide = (ours, theirs) if self._is_ours else (theirs, ours)
        # Rows that are alike (zeros, above all) would be paired in the order that they stand in.
        rows = self._random.permutation(len(self.chosen))
        columns = self._random.permutation(len(wide))
        likeness = _unit(narrow[self.chosen[rows]]) @ _unit(wide[columns]).T
        _, best = linear_sum_assignment(likeness if signed else np.abs(likeness), maximize=True)
        found = np.empty(len(rows), np.int64)
        found[rows] = columns[best]
        return found


class _Inputs:
    """What units are described by: their weights as they stand, or what they answer to embeddings
    of shared tokens, which is the same whatever basis the residual stream is in."""

    def __init__(self, probes: tuple[NDArray[Any], NDArray[Any]], *, answers: bool) -> None:
        self._probes = probes
        self._answers = answers

    @classmethod
    def directions(cls, width: int, seed: int) -> _Inputs:
        """Weights as they stand; blocks are told apart in some of the stream's directions."""
        import numpy as np

        drawn = np.random.default_rng(seed).permutation(width)[:PROBES]
        probes = np.eye(width, dtype=np.float32)[drawn]
        return cls((probes, probes), answers=False)

    @classmethod
    def tokens(cls, first: Weights, second: Weights, seed: int) -> _Inputs | None:
        """Answers to shared tokens; None where there are too few."""
        ids = shared_tokens(first, second, TOKENS, seed)
        if ids is None:
            return None
        probes = (_embedded(first, ids[0]), _embedded(second, ids[1]))
        return cls(probes, answers=True)

    def read(
        self, first: Weights, ours: Block, second: Weights, theirs: Block, part: str
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """The units of the one model and of the other, a row each."""
        pairs = ((first, ours, self._probes[0]), (second, theirs, self._probes[1]))
        one, other = (
            self._described(weights, block, probes, part) for weights, block, probes in pairs
        )
        return one, other

    def signatures(self, weights: Weights, blocks: Sequence[Block], which: int) -> NDArray[Any]:
        """Of each block, products of what `up` answers to different probes: no order of its units
        changes them. Shape (blocks, pairs of probes), rows of mean 0 and norm 1.

        Args:
            which: 0 for the first model, 1 for the second.
        """
        import numpy as np

        return np.stack([self._signature(weights, block, which) for block in blocks])

    def _signature(self, weights: Weights, block: Block, which: int) -> NDArray[Any]:
        import numpy as np

        probes = self._probes[which][:PROBES]
        if self._answers:
            answers = probes * gains(weights, block) @ block.up.read(weights).T
            answers = answers - answers.mean(axis=0)
        else:
            answers = block.up.read(weights)[:, probes.argmax(axis=1)].T
        product = answers @ answers.T
        flat = product[np.triu_indices(len(product), 1)]
        return np.asarray(_unit((flat - flat.mean())[None])[0])

    def _described(
        self, weights: Weights, block: Block, probes: NDArray[Any], part: str
    ) -> NDArray[Any]:
        matrix = block.up if part == "up" else block.gate
        assert matrix is not None
        units = matrix.read(weights)
        if not self._answers:
            return units
        answers = units @ (probes * gains(weights, block)).T
        centred: NDArray[Any] = answers - answers.mean(axis=1, keepdims=True)
        return centred


def _unit(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows of norm 1; zeros stay."""
    import numpy as np

    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[Any] = rows / np.maximum(norms, np.finfo(np.float32).tiny)
    return scaled


def _embedded(weights: Weights, ids: NDArray[Any]) -> NDArray[Any]:
    """Embeddings of tokens, each of norm 1: what a norm makes of them, but for a scale."""
    name = weights.embedding()
    assert name is not None
    return _unit(weights.some_rows(name, ids))
