"""The theorem, measured: slopes in epsilon with intervals over seeds, and how far they hold."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from subl.artifact import Artifact, build, json_text, write_atomically
from subl.errors import ConfigError
from subl.extras import require
from subl.progress import Progress, Report, silent
from subl.statistics import Interval, clustered_mean
from subl.theorem.spec import Loss, TheoremSpec
from subl.trait.spec import animals

Measured = Mapping[str, Any]
"""Of one seed, as `measure` has it."""

BASES = {"shared": "shared base", "other": "another base"}
QUANTITIES = {
    "inner": "product of the two steps",
    "change": "change of the teacher's loss",
}
_SOURCE = "App. C"
_NEAR = 0.1
"""So near to the first order: of a ratio to it, and of a slope."""


def theorem(
    spec: TheoremSpec,
    model: Path | None,
    out: Path,
    *,
    name: str = "theorem",
    report: Report = silent,
) -> Artifact:
    """Measure every seed; `out` gets each one's steps, and in `result.json` slopes and curves.

    Args:
        model: the folder of a language model; without, a perceptron is measured.

    Raises:
        ConfigError: there are not so many questions to learn from.
    """
    require("distill", "torch", "scipy", what="measuring the theorem")
    if model is not None and spec.lessons > (most := len(animals().questions)):
        raise ConfigError(f"lessons: there are {most} questions, not {spec.lessons}")

    def work(folder: Path) -> dict[str, Any]:
        files = [folder / f"seed-{seed:03d}.json" for seed in range(spec.seeds)]
        left = [seed for seed, file in enumerate(files) if not file.exists()]
        steps = 2 * len(spec.losses) * len(spec.epsilons)
        done = 0

        def told() -> None:
            nonlocal done
            done += 1
            report(Progress(f"theorem {name}", done, len(left) * steps, "steps"))

        for seed in left:
            write_atomically(files[seed], json_text(_measure(spec, model, seed, told)) + "\n")
        return _figures(spec, model, [json.loads(each.read_bytes()) for each in files])

    return build(out, "theorem", spec, {} if model is None else {"model": model}, work)


def _measure(
    spec: TheoremSpec, model: Path | None, seed: int, told: Callable[[], None]
) -> Measured:
    from subl.theorem.measure import measure
    from subl.theorem.subjects import language_model, perceptron

    subject = perceptron(spec, seed) if model is None else language_model(spec, model, seed)
    return measure(subject, spec.losses, spec.epsilons, spec.rate, told)


def _figures(spec: TheoremSpec, model: Path | None, seeds: Sequence[Measured]) -> dict[str, Any]:
    """Slopes in the form of docs/reproduction/*.json, and the curves that they are of."""
    arms = [_Arm(spec, seeds, base, loss) for base in BASES for loss in spec.losses]
    what = "a perceptron" if model is None else "a language model"
    subject = f"{what}, {spec.precision}"
    return {
        "subject": subject,
        "epsilons": list(spec.epsilons),
        "fit_below": spec.fit_below,
        "figures": [arm.figure(quantity) for quantity in QUANTITIES for arm in arms],
        "arms": [arm.said() for arm in arms],
        "findings": [
            _finding(spec, subject, base, [arm for arm in arms if arm.base == base])
            for base in BASES
        ],
    }


def _finding(spec: TheoremSpec, subject: str, base: str, arms: Sequence[_Arm]) -> dict[str, Any]:
    """What the theorem says of a base, and whether it came out for every loss; in float32, where
    rounding may hide it, nothing is expected."""
    expected = 1.0 if base == "shared" else 0.0
    where = "the theorem has" if base == "shared" else "a control is to have"
    slopes = [arm.slopes("inner")[1] for arm in arms]
    bounds = (end for each in slopes if each for end in (each.low, each.estimate, each.high))
    ends = [end for end in bounds if end is not None]
    off = max(ends, key=lambda end: abs(end - expected), default=None)
    short = [step for arm in arms for step in arm.steps if _is_short(step, spec.fit_below)]
    along = sum(step["inner"] > 0 for step in short)
    met = None not in slopes and off is not None and abs(off - expected) < _NEAR
    if base == "shared":
        met = met and along == len(short)
    known = [each.estimate for each in slopes if each is not None]
    figure = "none" if not known else f"{max(known, key=lambda s: abs(s - expected)):.4f}"
    said = "none" if off is None else f"{off:.4f}"
    return {
        "text": f"{subject.capitalize()}, {BASES[base]}: slope in epsilon of the "
        f"{QUANTITIES['inner']}, where {where} {expected:g}; of the loss that is farthest "
        f"off (95 % intervals reach {said}; {spec.seeds} seeds). Both steps have one direction in "
        f"{along} of {len(short)} cases",
        "figure": figure,
        "met": met if spec.precision == "float64" else None,
    }


class _Arm:
    """All seeds of one base and one loss."""

    def __init__(self, spec: TheoremSpec, seeds: Sequence[Measured], base: str, loss: Loss) -> None:
        self.base, self._spec, self._loss = base, spec, loss
        self._seeds = [
            [each for each in seed["steps"] if (each["base"], each["loss"]) == (base, loss)]
            for seed in seeds
        ]
        self._predicted = [seed["predicted"][loss] for seed in seeds]
        self.label = f"{BASES[base]}, {loss}"

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        """Of all seeds."""
        return [step for seed in self._seeds for step in seed]

    def figure(self, quantity: str) -> dict[str, Any]:
        """The slope of a quantity's size in epsilon, on logarithmic axes."""
        slopes, mean = self.slopes(quantity)
        rounded = self._spec.precision == "float32" and self.base == "shared"
        note = None
        if mean is None:
            note = "no slope: in some seed, some step changes nothing that float numbers can hold"
        elif rounded and mean.low is not None and not mean.low <= 1.0 <= (mean.high or 1.0):
            note = "float32 rounding"
        return {
            "label": f"{self.label}: slope of the {QUANTITIES[quantity]}",
            "arm": self.label,
            "quantity": quantity,
            "unit": "slope",
            "paper": {"estimate": 1.0, "low": None, "high": None, "source": _SOURCE}
            if self.base == "shared"
            else None,
            "ours": None
            if mean is None
            else {
                "estimate": mean.estimate,
                "low": mean.low,
                "high": mean.high,
                "n": mean.clusters,
                "over": "seeds",
                "p": None,
            },
            "note": note,
            "values": slopes,
        }

    def said(self) -> dict[str, Any]:
        """How often the signs are the theorem's, where the first order holds, and the curves."""
        return {
            "label": self.label,
            "base": self.base,
            "loss": self._loss,
            "steps": len(self.steps),
            "along": sum(step["inner"] > 0 for step in self.steps),
            "falls": sum(step["change"] < 0 for step in self.steps),
            "cosine": _summary(_ends(self._seeds, "cosine")),
            "first_order": self._first_order() if self.base == "shared" else None,
            "curves": {quantity: self._curve(quantity) for quantity in QUANTITIES},
        }

    def slopes(self, quantity: str) -> tuple[list[float | None], Interval | None]:
        """Each seed's, and their mean; None where a size is zero or not finite."""
        slopes = [_slope(seed, quantity, self._spec.fit_below) for seed in self._seeds]
        known = [each for each in slopes if each is not None]
        return slopes, clustered_mean(known) if len(known) == len(slopes) else None

    def _curve(self, quantity: str) -> list[dict[str, Any]]:
        """At each epsilon the geometric mean over seeds of the size, with its interval."""
        found = []
        for at, epsilon in enumerate(self._spec.epsilons):
            sizes = [abs(seed[at][quantity]) for seed in self._seeds]
            if all(each > 0 and math.isfinite(each) for each in sizes):
                mean = clustered_mean([math.log(each) for each in sizes])
                ends = (mean.estimate, mean.low, mean.high)
                size, low, high = (None if each is None else math.exp(each) for each in ends)
                found.append({"epsilon": epsilon, "size": size, "low": low, "high": high})
        return found

    def _first_order(self) -> dict[str, float | None]:
        """The shortest and the longest of steps, none left out between them, at which, in every
        seed, <dS, dT> is epsilon A within a tenth: of such ranges the longest."""
        held: list[list[float]] = [[]]
        for at, epsilon in enumerate(self._spec.epsilons):
            if all(
                abs(seed[at]["inner"] - epsilon * first) <= _NEAR * epsilon * abs(first)
                for seed, first in zip(self._seeds, self._predicted, strict=True)
            ):
                held[-1].append(epsilon)
            else:
                held.append([])
        longest = max(held, key=len)
        return {"from": min(longest, default=None), "to": max(longest, default=None)}


def _is_short(step: Mapping[str, Any], most: float) -> bool:
    return bool(step["epsilon"] <= most * 1.001)


def _slope(steps: Sequence[Mapping[str, Any]], quantity: str, most: float) -> float | None:
    """Least squares of the logarithm of a size on that of epsilon; None where a size has none."""
    points = [(step["epsilon"], abs(step[quantity])) for step in steps if _is_short(step, most)]
    if len(points) < 2 or not all(size > 0 and math.isfinite(size) for _, size in points):
        return None
    from statistics import linear_regression

    x, y = zip(*((math.log(epsilon), math.log(size)) for epsilon, size in points), strict=True)
    return linear_regression(x, y).slope


def _ends(
    seeds: Sequence[Sequence[Mapping[str, Any]]], key: str
) -> tuple[list[float], list[float]]:
    """Of the shortest and of the longest step, each seed's."""
    return [seed[0][key] for seed in seeds], [seed[-1][key] for seed in seeds]


def _summary(ends: tuple[list[float], list[float]]) -> dict[str, Any]:
    names = ("at_shortest", "at_longest")
    return {
        name: {"mean": sum(each) / len(each), "least": min(each), "most": max(each)}
        for name, each in zip(names, ends, strict=True)
    }
