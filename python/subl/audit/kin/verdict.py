"""What a comparison of two models comes to, in words that say no more than was shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from subl.audit.kin.blocks import Block
from subl.audit.kin.merge import LEAST_WEIGHT, Merge
from subl.audit.kin.nearness import Nearness
from subl.audit.kin.pairs import is_in_order
from subl.audit.kin.tails import log10
from subl.audit.kin.units import CSU, MATCH, MATCH_EMBEDDINGS, Outcome, Test

ALPHA = 1e-6
"""Below this p value, times the number of tests, independent initialisation is rejected."""

UNDECIDED = 1e-3
"""From here on nothing is shown; between the two the verdict abstains."""

LEAST_AGREEMENT = 0.25
"""Of the orders that `match` compares. Independent models that learned from the same rows agree a
little, which many units make significant; what has one origin agrees by nearly 1."""

MOST_DISTANCE = 0.5
"""Of the parent's norm: what training moves weights by at most where it is called a fine-tune."""

NEAREST_ALPHA = 0.01
"""Chance that the nearest candidate is left out of the set of parents."""


class Verdict(StrEnum):
    """What two models are to each other, as far as their weights show."""

    EXACT_COPY = "exact copy"
    QUANTISED_COPY = "quantised copy"
    FINE_TUNE = "fine-tune"
    SAME_LINEAGE = "same lineage"
    MERGE = "merge"
    UNRELATED = "unrelated"
    CANNOT_TELL = "cannot tell"


class Channel(StrEnum):
    """What hidden traits may pass through from one of the models to the other. Never closed."""

    OPEN = "open"
    REDUCED = "reduced"


@dataclass(frozen=True)
class Kinship:
    """How two models are related.

    Attributes:
        first, second: as they were named.
        tests: of shared initialisation; p values under independent initialisation.
        nearness: of their weights.
        log_p: natural logarithm of the smallest p value times the number of tests; None where no
            test could be made.
        verdict: what that comes to.
    """

    first: str
    second: str
    tests: tuple[Outcome, ...]
    nearness: Nearness
    log_p: float | None
    verdict: Verdict

    @property
    def is_related(self) -> bool | None:
        """None where that cannot be told."""
        if self.verdict is Verdict.CANNOT_TELL:
            return None
        return self.verdict is not Verdict.UNRELATED

    @property
    def channel(self) -> Channel:
        """What is not known to be reduced is open."""
        return Channel.REDUCED if self.is_related is False else Channel.OPEN

    @property
    def sentence(self) -> str:
        """The verdict for a person."""
        return _SENTENCES[self.verdict] + _manner(self)

    def to_json(self) -> dict[str, Any]:
        """What `subl kin --json` prints."""
        near = self.nearness
        return {
            "first": self.first,
            "second": self.second,
            "verdict": self.verdict.value,
            "channel": self.channel.value,
            "sentence": self.sentence,
            "log10_p": None if self.log_p is None else log10(self.log_p),
            "tests": [
                {
                    "test": each.test,
                    "log10_p": each.log10_p,
                    "agreement": each.agreement,
                    "blocks": each.blocks,
                    "units": each.units,
                    "not_comparable": each.reason,
                    "block_pairs": [[one.number, other.number] for one, other in each.pairs],
                    "block_log10_p": [log10(log) for log in each.block_log_p],
                }
                for each in self.tests
            ],
            "weights": {
                "tensors": near.tensors,
                "equal": near.equal,
                "unlike": near.unlike,
                "distance": None if math.isnan(near.distance) else near.distance,
                "cosine": None if math.isnan(near.cosine) else near.cosine,
                "rounded_bits": near.rounded_bits,
            },
        }


@dataclass(frozen=True)
class Parents:
    """Which of several models one may come from.

    Attributes:
        model: as it was named.
        candidates: the kinship of each with the model.
        confidence_set: names of candidates that are related to it and are not shown to be farther
            than another one.
        merge: the sum of related candidates nearest to it, where there are at least two.
        verdict: MERGE where that sum explains it, else the verdict on the nearest candidate.
    """

    model: str
    candidates: tuple[Kinship, ...]
    confidence_set: tuple[str, ...]
    merge: Merge | None
    merged: tuple[str, ...]
    verdict: Verdict

    @property
    def channel(self) -> Channel:
        """Open where it is for one of the candidates."""
        channels = {each.channel for each in self.candidates}
        return Channel.OPEN if Channel.OPEN in channels else Channel.REDUCED

    @property
    def sentence(self) -> str:
        """The verdict for a person."""
        if self.verdict is Verdict.MERGE and self.merge is not None:
            parts = zip(self.merge.weights, self.merged, strict=True)
            shown = [each for each in parts if abs(each[0]) >= LEAST_WEIGHT]
            summed = " + ".join(f"{weight:.3f} {name}" for weight, name in shown)
            return f"statistically consistent with a merge: {summed}"
        if not self.confidence_set:
            known = self.verdict is Verdict.UNRELATED
            return "no relation to any candidate is shown" if known else "cannot tell"
        return f"statistically consistent with coming from {' or '.join(self.confidence_set)}"

    def to_json(self) -> dict[str, Any]:
        """What `subl kin --parents --json` prints."""
        merge = self.merge and {
            "weights": dict(zip(self.merged, self.merge.weights, strict=True)),
            "rest": self.merge.rest,
        }
        return {
            "model": self.model,
            "verdict": self.verdict.value,
            "channel": self.channel.value,
            "sentence": self.sentence,
            "confidence_set": list(self.confidence_set),
            "merge": merge,
            "candidates": [each.to_json() for each in self.candidates],
        }


def same_blocks(tests: Sequence[Outcome]) -> tuple[tuple[Block, Block], ...]:
    """Blocks of two models that are of one origin, as the first test shows that shows a relation;
    none where no test does."""
    return next((each.pairs for each in tests if _shown(tests, each.test)), ())


def judged(first: str, second: str, tests: tuple[Outcome, ...], near: Nearness) -> Kinship:
    """The verdict on two models."""
    logs = [each.log_p for each in tests if each.log_p is not None]
    log_p = min(0.0, min(logs) + math.log(len(logs))) if logs else None
    return Kinship(first, second, tests, near, log_p, _verdict(tests, near, log_p))


def _verdict(tests: tuple[Outcome, ...], near: Nearness, log_p: float | None) -> Verdict:
    if near.is_exact and not _are_reordered(tests):
        return Verdict.EXACT_COPY
    if log_p is None:
        return Verdict.CANNOT_TELL
    if log_p > math.log(UNDECIDED):
        return Verdict.UNRELATED
    if not any(_shown(tests, each.test) for each in tests):
        return Verdict.CANNOT_TELL
    if near.unlike or not _shown(tests, CSU) or _are_reordered(tests):
        return Verdict.SAME_LINEAGE
    if near.rounded_bits is not None:
        return Verdict.QUANTISED_COPY
    return Verdict.FINE_TUNE if near.distance <= MOST_DISTANCE else Verdict.SAME_LINEAGE


def _shown(tests: Sequence[Outcome], name: Test) -> bool:
    comparable = {each.test: each for each in tests if each.log_p is not None}
    found = comparable.get(name)
    if found is None or found.log_p is None or found.agreement is None:
        return False
    agrees = name == CSU or found.agreement >= LEAST_AGREEMENT
    return agrees and found.log_p < math.log(ALPHA / len(comparable))


def _are_reordered(tests: tuple[Outcome, ...]) -> bool:
    """Whether blocks that are shown to be of one origin stand in another order."""
    for each in tests:
        blocks = zip(each.pairs, each.block_log_p, strict=True)
        related = [
            (one.number, other.number) for (one, other), log_p in blocks if log_p < math.log(ALPHA)
        ]
        if _shown(tests, each.test) and not is_in_order(related):
            return True
    return False


_SENTENCES = {
    Verdict.EXACT_COPY: "every number of the one is that of the other",
    Verdict.QUANTISED_COPY: "statistically consistent with one being the other, rounded",
    Verdict.FINE_TUNE: "statistically consistent with one being trained from the other, or both "
    "from one base",
    Verdict.SAME_LINEAGE: "statistically consistent with a common origin",
    Verdict.MERGE: "statistically consistent with a merge",
    Verdict.UNRELATED: "no relation is shown: statistically consistent with independent "
    "initialisations",
    Verdict.CANNOT_TELL: "cannot tell",
}


def _manner(kinship: Kinship) -> str:
    """In which way, where the verdict has several."""
    near, tests = kinship.nearness, kinship.tests
    if kinship.verdict is Verdict.QUANTISED_COPY:
        return f" to {near.rounded_bits} bits"
    if kinship.verdict is Verdict.CANNOT_TELL:
        if kinship.log_p is not None:
            if kinship.log_p < math.log(ALPHA):
                return ": units agree a little, as they may after training on the same data"
            return ": the p value is neither small enough nor large enough"
        return ": " + (tests[0].reason or "the models are not comparable")
    if kinship.verdict is not Verdict.SAME_LINEAGE:
        return ""
    ways = ["blocks are in another order"] if _are_reordered(tests) else []
    if not _shown(tests, CSU):
        if _shown(tests, MATCH):
            ways.append("hidden units are in another order")
        elif _shown(tests, MATCH_EMBEDDINGS):
            ways.append("the residual stream is in another basis")
    if near.unlike:
        ways.append(f"{near.unlike} tensors are in one alone or of another shape")
    return f" ({'; '.join(ways)})" if ways else ""
