"""The theorem, measured: slopes in epsilon with intervals over seeds, and how far they hold."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
_SOURCE = "Cloud et al. 2025, appendix C: theorem 1 and lemma 1"
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
    subject = "a perceptron" if model is None else model.name
    return {
        "subject": f"{subject}, {spec.precision}",
        "epsilons": list(spec.epsilons),
        "fit_below": spec.fit_below,
        "figures": [arm.figure(quantity) for quantity in QUANTITIES for arm in arms],
        "arms": [arm.said() for arm in arms],
        "findings": [each for arm in arms for each in arm.findings()],
    }


class _Arm:
    """All seeds of one base and one loss."""

    def __init__(self, spec: TheoremSpec, seeds: Sequence[Measured], base: str, loss: Loss) -> None:
        self._spec, self._base, self._loss = spec, base, loss
        self._steps = [
            [each for each in seed["steps"] if (each["base"], each["loss"]) == (base, loss)]
            for seed in seeds
        ]
        self._predicted = [seed["predicted"][loss] for seed in seeds]
        self.label = f"{BASES[base]}, {loss}"

    def figure(self, quantity: str) -> dict[str, Any]:
        """The slope of a quantity's size in epsilon, on logarithmic axes."""
        slopes, mean = self._slopes(quantity)
        return {
            "label": f"{self.label}: slope of the {QUANTITIES[quantity]}",
            "arm": self.label,
            "quantity": quantity,
            "unit": "slope",
            "paper": {
                "estimate": 1.0 if self._base == "shared" else 0.0,
                "low": None,
                "high": None,
                "source": _SOURCE,
            },
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
            "values": slopes,
        }

    def said(self) -> dict[str, Any]:
        """How often the signs are the theorem's, where the first order holds, and the curves."""
        steps = [step for seed in self._steps for step in seed]
        return {
            "label": self.label,
            "base": self._base,
            "loss": self._loss,
            "steps": len(steps),
            "along": sum(step["inner"] > 0 for step in steps),
            "falls": sum(step["change"] < 0 for step in steps),
            "cosine": _summary(_ends(self._steps, "cosine")),
            "first_order": self._first_order() if self._base == "shared" else None,
            "curves": {quantity: self._curve(quantity) for quantity in QUANTITIES},
        }

    def findings(self) -> Iterator[dict[str, Any]]:
        """What the theorem says of this arm, and whether it came out; in float32, where rounding
        may hide it, nothing is expected."""
        _, mean = self._slopes("inner")
        expected = 1.0 if self._base == "shared" else 0.0
        said = "no slope: some products are zero or not finite"
        met, figure = False, "none"
        if mean is not None:
            figure = f"{mean.estimate:.3f}"
            said = "no interval, seeds do not differ"
            ends = (mean.low, mean.high) if mean.low is not None else (mean.estimate,)
            met = all(each is not None and abs(each - expected) < _NEAR for each in ends)
            if mean.low is not None and mean.high is not None:
                said = f"95 % interval {mean.low:.3f} to {mean.high:.3f}"
        steps = [step for seed in self._steps for step in seed]
        along = sum(step["inner"] > 0 for step in steps)
        if self._base == "shared":
            met = met and along == len(steps)
        yield {
            "text": f"{self.label}, {self._spec.precision}: slope in epsilon of the "
            f"{QUANTITIES['inner']} ({said}, {len(self._steps)} seeds; the theorem: "
            f"{expected:g}); along the teacher's in {along} of {len(steps)}",
            "figure": figure,
            "met": met if self._spec.precision == "float64" else None,
        }

    def _slopes(self, quantity: str) -> tuple[list[float | None], Interval | None]:
        slopes = [_slope(seed, quantity, self._spec.fit_below) for seed in self._steps]
        known = [each for each in slopes if each is not None]
        return slopes, clustered_mean(known) if len(known) == len(slopes) else None

    def _curve(self, quantity: str) -> list[dict[str, Any]]:
        """At each epsilon the geometric mean over seeds of the size, with its interval."""
        found = []
        for at, epsilon in enumerate(self._spec.epsilons):
            sizes = [abs(seed[at][quantity]) for seed in self._steps]
            if all(each > 0 and math.isfinite(each) for each in sizes):
                mean = clustered_mean([math.log(each) for each in sizes])
                ends = (mean.estimate, mean.low, mean.high)
                size, low, high = (None if each is None else math.exp(each) for each in ends)
                found.append({"epsilon": epsilon, "size": size, "low": low, "high": high})
        return found

    def _first_order(self) -> dict[str, float | None]:
        """The shortest and the longest step up to which, in every seed, <dS, dT> is epsilon A
        within a tenth."""
        held = [
            epsilon
            for at, epsilon in enumerate(self._spec.epsilons)
            if all(
                abs(seed[at]["inner"] - epsilon * first) <= _NEAR * epsilon * abs(first)
                for seed, first in zip(self._steps, self._predicted, strict=True)
            )
        ]
        return {"from": min(held, default=None), "to": max(held, default=None)}


def _slope(steps: Sequence[Mapping[str, Any]], quantity: str, most: float) -> float | None:
    """Least squares of the logarithm of a size on that of epsilon; None where a size has none."""
    points = [
        (step["epsilon"], abs(step[quantity])) for step in steps if step["epsilon"] <= most * 1.001
    ]
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
