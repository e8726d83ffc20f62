"""What came of an experiment in plain words, by what is expected of it and the p after Holm.

A comparison is controlled where both sides are of one stage: students against students that were
trained alike, of another teacher. Against the base it is not: training on anybody's numbers moves
what a model answers, so a difference from the base shows training, not a transfer.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from math import isclose
from pathlib import Path

from reproduced import DOCS, Figure, Ours, Reproduction

from subl.experiment import load_experiment
from subl.experiment.contrasts import Planned, planned

SIGNIFICANT = 0.05
AS_EXPECTED, EQUIVALENT, WEAK = "as expected", "equivalent to none", "not significant"
ALIKE = 1e-3


@cache
def _planned(configuration: str) -> Mapping[tuple[str, str, str | None], Planned]:
    plans = planned(load_experiment(DOCS.parent / configuration))
    return {(each.contrast.name, *each.names): each for each in plans}


def comparison(each: Reproduction, figure: Figure) -> Planned | None:
    """The comparison of the configuration that a figure is of."""
    if figure.of is None or figure.of.contrast is None or figure.of.treated is None:
        return None
    key = (figure.of.contrast, figure.of.treated, figure.of.control)
    return _planned(str(Path(each.configuration))).get(key)


def against_the_base(each: Reproduction, figure: Figure) -> bool:
    """Whether a comparison's control was not trained as what is compared with it."""
    plan = comparison(each, figure)
    if plan is None or not plan.control:
        return False
    treated, control = (nodes[0].sources[0].stage for nodes in (plan.treated, plan.control))
    return treated != control


def verdict(each: Reproduction, figure: Figure) -> str:
    """In words; empty where nothing is tested."""
    ours = figure.ours
    if ours is None:
        return figure.note or ""
    if figure.note is not None and not _includes(ours, figure):
        return f"not the paper's: {figure.note}"
    if ours.p is None and ours.p_equivalent is None:
        return "" if figure.paper is None else _beside(ours, figure)
    contrast = None if (plan := comparison(each, figure)) is None else plan.contrast
    above = (ours.change or ours.estimate) > (1.0 if figure.unit == "ratio" else 0.0)
    clear = ours.p is not None and ours.p < SIGNIFICANT
    if ours.p_equivalent is not None and (ours.expected != "more"):
        if ours.p_equivalent < SIGNIFICANT:
            return EQUIVALENT + (", though significant" if clear else "")
        return "significant, not none" if clear else "not shown to be none"
    if not clear:
        return WEAK
    if not above:
        return "opposite"
    if against_the_base(each, figure):
        return "significant, of training"
    expected = None if contrast is None else contrast.expect
    if expected is not None:
        return AS_EXPECTED if ours.estimate >= expected else f"less than expected ({expected:g})"
    return AS_EXPECTED if ours.expected == "more" else "significant"


def _includes(ours: Ours, figure: Figure) -> bool:
    if figure.paper is None or ours.low is None or ours.high is None:
        return figure.paper is None
    return ours.low <= figure.paper.estimate <= ours.high


def _beside(ours: Ours, figure: Figure) -> str:
    return "as in the paper" if _includes(ours, figure) else "not the paper's value"


def overall(each: Reproduction) -> str:
    """Of all that is controlled: one verdict, or how many of each."""
    tested = [figure for figure in each.figures if not against_the_base(each, figure)]
    if any(_is_test(figure) for figure in tested):
        tested = [figure for figure in tested if _is_test(figure)]
    counts = Counter(filter(None, (verdict(each, figure) for figure in tested)))
    if not counts:
        return ""
    if each.id and all(said == AS_EXPECTED or said.startswith(EQUIVALENT) for said in counts):
        same = all(_includes(figure.ours, figure) for figure in each.figures if figure.ours)
        return "as in the paper" if same else "as in the paper, but for the size"
    total = counts.total()
    said = "; ".join(
        what if count == total else f"{what}: {count} of {total}"
        for what, count in counts.most_common()
    )
    return f"{said}; so its controls show nothing" if positive_arm(each) is not None else said


def _is_test(figure: Figure) -> bool:
    return figure.ours is not None and figure.ours.p is not None


def positive_arm(each: Reproduction) -> Figure | None:
    """The first comparison of which an effect is expected, where none is shown and others are to
    show none."""
    contrasts = [
        (figure, plan.contrast)
        for figure in each.figures
        if figure.ours is not None and (plan := comparison(each, figure)) is not None
    ]
    first = next((figure for figure, contrast in contrasts if contrast.expect is not None), None)
    if first is None or all(contrast.within is None for _, contrast in contrasts):
        return None
    return first if verdict(each, first) in (WEAK, "opposite") else None


def lifted(each: Reproduction) -> str:
    """What has to be known of comparisons with the base, where figures have some."""
    bases = [figure for figure in each.figures if against_the_base(each, figure)]
    if not any(figure.ours for figure in bases):
        return ""
    said = (
        "Rows over the base are not controlled: training alone lifts animals, whichever teacher "
        "the numbers are of, also those that it never named. The controlled comparison is that "
        "with the students of another trait, which were trained alike."
    )
    factors = [
        figure.ours.estimate / control.ours.estimate
        for figure in bases
        if (control := controlled(each, figure)) is not None and figure.ours and control.ours
    ]
    if not factors:
        return f"{said} Their ratios were not kept of this run; their log-odds stand first."
    return (
        f"{said} In a row's own word those stand at {min(factors):.1f} to {max(factors):.1f} times "
        "the base, too (the one ratio over the other)."
    )


def controlled(each: Reproduction, figure: Figure) -> Figure | None:
    """The row of the same contrast and models with a control that was trained alike."""
    assert figure.of is not None
    same = (
        other
        for other in each.figures
        if other.of is not None
        and (other.of.contrast, other.of.treated) == (figure.of.contrast, figure.of.treated)
        and comparison(each, other) is not None
        and not against_the_base(each, other)
    )
    return next(same, None)


def same_students(
    found: Sequence[tuple[str, Reproduction]],
) -> list[list[tuple[Reproduction, Figure]]]:
    """Comparisons that are of the same trainings, by their figures: as many seeds, and estimate and
    interval alike to a thousandth. Those of one run are of one only where they are in another run,
    too."""
    groups: list[list[tuple[Reproduction, Figure]]] = []
    for _, each in found:
        for figure in each.figures:
            if figure.ours is None or comparison(each, figure) is None:
                continue
            alike = next((known for known in groups if _alike(known[0][1], figure)), None)
            if alike is None:
                groups.append([(each, figure)])
            else:
                alike.append((each, figure))
    return [known for known in groups if len({each.configuration for each, _ in known}) > 1]


def _alike(one: Figure, other: Figure) -> bool:
    assert one.ours is not None and other.ours is not None
    if (one.unit, one.ours.n, one.ours.over) != (other.unit, other.ours.n, other.ours.over):
        return False
    pairs = [(getattr(one.ours, key), getattr(other.ours, key)) for key in _VALUES]
    return all(None not in pair and isclose(*pair, rel_tol=ALIKE) for pair in pairs)


_VALUES = ("estimate", "low", "high")
