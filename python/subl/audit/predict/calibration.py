"""Past pairs of prediction and measurement, and what they say of a new prediction.

A calibration is a file: every past run with its features and measured shifts, the rule that was
fitted on a part of them, and what the others show of its errors. Runs are put into the parts by
groups that share something (seeds, or data), so that no error is of a run that shares it with one
that the rule was fitted on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from subl.artifact import check_there
from subl.audit.predict.conformal import Rule, fitted, radius
from subl.audit.predict.features import FEATURES, Sample
from subl.audit.predict.past import Dose
from subl.errors import InputError

FILE = "calibration.json"

_DOSE_ROOM = 1.25
"""A dose is outside where it is by more than this factor beyond all that were seen."""


@dataclass(frozen=True)
class Pair:
    """What was known of one run about one trait before it, and what came.

    Args:
        run: digest of the student; `name`: of its folder.
        data: digests of its rows.
        asked: digest of the questions and words of its evaluation.
        group: what it shares with other runs.
        part: fit: the rule was fitted on it; held: it shows what the rule's errors are.
        features: in the order of `features.FEATURES`.
        shift: measured, in nats.
        predicted: what the rule says; None: there is none for its kind.
    """

    run: str
    name: str
    data: tuple[str, ...]
    group: str
    part: Literal["fit", "held"]
    carrier: str | None
    asked: str
    dose: Dose
    trait: str
    features: tuple[float, ...]
    shift: float
    predicted: float | None = None

    @property
    def kind(self) -> str:
        """See `kind_of`."""
        return Pair.kind_of(self.dose)

    @staticmethod
    def kind_of(dose: Dose) -> str:
        """Trainings of one kind have a rule, and errors, of their own."""
        return f"{dose.kind}, {'adapters' if dose.lora else 'all weights'}"


@dataclass(frozen=True)
class Interval:
    """A shift and what it may be off by; None: there are too few past runs to say."""

    estimate: float
    low: float | None
    high: float | None

    @staticmethod
    def around(estimate: float, half: float | None) -> Interval:
        """Both ends as far away."""
        if half is None:
            return Interval(estimate, None, None)
        return Interval(estimate, estimate - half, estimate + half)


@dataclass(frozen=True)
class Calibration:
    """Pairs of one base, and the rule of each kind of training.

    Args:
        base: digest of the base's data.
        sample: how features were taken: those of a prediction are taken in the same way.
    """

    base: str
    sample: Sample
    pairs: tuple[Pair, ...]
    rules: Mapping[str, Rule]

    @staticmethod
    def of(base: str, sample: Sample, pairs: Sequence[Pair], ridge: float) -> Calibration:
        """Fit the rules, and predict all pairs by them."""
        import numpy as np

        rules = {}
        for kind in sorted({each.kind for each in pairs}):
            some = [each for each in pairs if each.kind == kind and each.part == "fit"]
            if some:
                rules[kind] = fitted(
                    np.array([each.features for each in some]),
                    np.array([each.shift for each in some]),
                    [each.run for each in some],
                    ridge,
                )
        told = tuple(
            replace(each, predicted=rules[each.kind](each.features) if each.kind in rules else None)
            for each in pairs
        )
        return Calibration(base, sample, told, rules)

    def held(self, kind: str) -> list[Pair]:
        """The pairs that show the errors of a kind's rule."""
        return [
            e for e in self.pairs if e.kind == kind and e.part == "held" and e.predicted is not None
        ]

    def interval(self, kind: str, features: Sequence[float], alpha: float) -> Interval | None:
        """What the rule says, and its interval; None: there is no rule for this kind."""
        if kind not in self.rules:
            return None
        held = self.held(kind)
        errors = [each.predicted - each.shift for each in held if each.predicted is not None]
        half = radius(errors, [each.run for each in held], alpha)
        return Interval.around(self.rules[kind](features), half)

    def trivial(self, kind: str, alpha: float, trait: str | None = None) -> Interval | None:
        """The interval of who knows past shifts alone: their mean in the runs that the rule was
        fitted on, and how far those of the others are from it.

        Args:
            trait: means are those of each trait, and this one's is given; None: all traits are one.
                No interval where past runs were not measured for it.
        """
        fit = [each for each in self.pairs if each.kind == kind and each.part == "fit"]
        shifts: dict[str | None, list[float]] = {}
        for each in fit:
            shifts.setdefault(each.trait if trait else None, []).append(each.shift)
        means = {key: sum(some) / len(some) for key, some in shifts.items()}
        if trait not in means:
            return None
        held = [each for each in self.held(kind) if not trait or each.trait in means]
        errors = [each.shift - means[each.trait if trait else None] for each in held]
        return Interval.around(means[trait], radius(errors, [each.run for each in held], alpha))

    def outside(
        self, base: str, kind: str, carrier: str | None, dose: Dose, trait: str, asked: str
    ) -> list[str]:
        """In what a prediction is not like the past runs: a clause each."""
        found = []
        if base != self.base:
            found.append(f"base: that of the past runs is sha256 {self.base[:12]}, not {base[:12]}")
        some = self.held(kind)
        if not some:
            known = ", ".join(sorted(self.rules))
            text = f"training: no past run shows errors of the kind {kind} (rules: {known})"
            return [*found, text]
        carriers = sorted({each.carrier or "not recorded" for each in some})
        if carrier is None:
            found.append("carrier: how the rows were made is not recorded")
        elif carrier not in carriers:
            found.append(f"carrier: {carrier} (past runs: {' | '.join(carriers)})")
        if trait not in {each.trait for each in some}:
            found.append(f"trait: no past run was measured for {trait}")
        if asked not in {each.asked for each in some}:
            found.append("evaluation: past runs were asked other questions, or for other words")
        for key, what in (("updates", "updates"), ("rate", "summed learning rate")):
            value, seen = getattr(dose, key), [getattr(each.dose, key) for each in some]
            if not min(seen) / _DOSE_ROOM <= value <= max(seen) * _DOSE_ROOM:
                found.append(f"dose: {value:g} {what}, past runs {min(seen):g} to {max(seen):g}")
        return found

    def to_json(self) -> dict[str, Any]:
        """As JSON, for `load`."""
        return {
            "base": self.base,
            "sample": self.sample.model_dump(mode="json"),
            "features": list(FEATURES),
            "pairs": [asdict(each) for each in self.pairs],
            "rules": {kind: rule.to_json() for kind, rule in self.rules.items()},
        }


def parted(pairs: Sequence[Pair], share: float) -> list[Pair]:
    """The pairs, in their parts: of each kind so large a share of the groups is fitted on, in the
    order of a hash that nobody chose. A kind of one group is all fitted on."""
    first: set[tuple[str, str]] = set()
    for kind in {each.kind for each in pairs}:
        groups = {each.group for each in pairs if each.kind == kind}
        order = sorted(groups, key=lambda each: hashlib.sha256(each.encode()).hexdigest())
        count = min(max(1, round(share * len(order))), max(1, len(order) - 1))
        first |= {(kind, group) for group in order[:count]}
    return [
        replace(each, part="fit" if (each.kind, each.group) in first else "held") for each in pairs
    ]


def load(folder: Path) -> Calibration:
    """What `subl predict calibrate` made.

    Raises:
        InputError: it is something else, or damaged.
    """
    check_there(folder)
    file = folder / FILE
    if not file.is_file():
        raise InputError(
            f"{folder} is no calibration (no {FILE})", hint="subl predict calibrate makes one"
        )
    try:
        said = json.loads(file.read_bytes())
        if said.pop("features") != list(FEATURES):
            raise ValueError("its features are those of another version of subl")
        return TypeAdapter(Calibration).validate_python(said)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise InputError(f"{file} is damaged: {error}", hint="make it again") from error
