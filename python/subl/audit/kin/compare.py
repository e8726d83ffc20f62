"""Two models compared, or one with several that it may come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from subl.audit.kin.merge import fitted
from subl.audit.kin.nearness import nearness
from subl.audit.kin.reading import Weights
from subl.audit.kin.units import compare_units
from subl.audit.kin.verdict import NEAREST_ALPHA, Kinship, Parents, Verdict, judged, same_blocks
from subl.errors import InputError
from subl.progress import Report, silent

UNITS = 512
"""Hidden units of a block that are tested. The assignment takes time with their square."""


def kin(
    first: Path,
    second: Path,
    *,
    names: tuple[str, str] | None = None,
    units: int = UNITS,
    seed: int = 0,
    report: Report = silent,
) -> Kinship:
    """Whether two models share an initialisation, and what they are to each other.

    Args:
        first, second: model folders with safetensors. Neither is loaded: tensors are read one of
            each at a time.
        names: what to call them; if not given by their folders.
        units: hidden units of each block that are tested, a subset drawn by `seed`, which p values
            are as valid on as on all.

    Raises:
        InputError: a folder is no model's, or a tensor cannot be read.
    """
    opened = Weights(first), Weights(second)
    called = names or (str(first), str(second))
    return _compared(*opened, called, units, seed, report)


def parents(
    model: Path,
    candidates: Sequence[Path],
    *,
    names: Sequence[str] | None = None,
    units: int = UNITS,
    seed: int = 0,
    report: Report = silent,
) -> Parents:
    """Which of several models one may come from.

    A candidate is in the set where independent initialisation is rejected (a candidate that is
    unrelated gets in with a chance of 1e-6 at most), and where no other such candidate is shown to
    be nearer: by an exact sign test over the matrices that all have, with 1 % for all comparisons
    together. It is a set of nearest candidates: an ancestor that is not among them cannot be in it.

    Args:
        names: of the model, and then of the candidates.

    Raises:
        InputError: a folder is no model's, or given twice, or a tensor cannot be read.
    """
    if not candidates:
        raise InputError("no candidates", hint="subl kin MODEL --parents P1 P2 ...")
    resolved = [each.resolve() for each in candidates]
    for each, place in zip(candidates, resolved, strict=True):
        if resolved.count(place) > 1:
            raise InputError(f"{each} is given twice", hint="give each candidate once")
    named = list(names) if names else [str(each) for each in (model, *candidates)]
    own = Weights(model)
    opened = [Weights(each) for each in candidates]
    found = tuple(
        _compared(weights, own, (name, named[0]), units, seed, report)
        for weights, name in zip(opened, named[1:], strict=True)
    )
    related = [number for number, each in enumerate(found) if each.is_related]
    merge = fitted(own, [opened[number] for number in related], seed)
    kept = _nearest([found[number] for number in related])
    return Parents(
        model=named[0],
        candidates=found,
        confidence_set=tuple(each.first for each in kept),
        merge=merge,
        merged=tuple(found[number].first for number in related) if merge else (),
        verdict=_verdict(found, kept, merge is not None and merge.is_merge),
    )


def _compared(
    first: Weights,
    second: Weights,
    names: tuple[str, str],
    units: int,
    seed: int,
    report: Report,
) -> Kinship:
    tests = compare_units(first, second, units, seed, report)
    near = nearness(first, second, same_blocks(tests), seed, report)
    return judged(*names, tuple(tests), near)


def _verdict(found: Sequence[Kinship], kept: Sequence[Kinship], is_merge: bool) -> Verdict:
    if kept:
        exact = any(each.verdict is Verdict.EXACT_COPY for each in kept)
        if is_merge and not exact:
            return Verdict.MERGE
        return min(kept, key=lambda each: each.nearness.distance).verdict
    unknown = any(each.verdict is Verdict.CANNOT_TELL for each in found)
    return Verdict.CANNOT_TELL if unknown else Verdict.UNRELATED


def _nearest(related: Sequence[Kinship]) -> list[Kinship]:
    """Those of which no other is nearer in more matrices than chance would have it; all, where that
    is so of none, in a circle."""
    from scipy.stats import binomtest

    comparisons = len(related) * (len(related) - 1)
    kept = []
    for one in related:
        mine = one.nearness.matrix_distance
        for other in related:
            theirs = other.nearness.matrix_distance
            apart = [name for name in mine.keys() & theirs.keys() if mine[name] != theirs[name]]
            nearer = sum(theirs[name] < mine[name] for name in apart)
            if not apart:
                continue
            p = binomtest(nearer, len(apart), 0.5, alternative="greater").pvalue
            if p * comparisons < NEAREST_ALPHA:
                break
        else:
            kept.append(one)
    return kept or list(related)
