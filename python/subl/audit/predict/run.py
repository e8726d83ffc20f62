"""Predict a student's shift before it is trained, and calibrate such predictions on past runs.

    predict    OUT/prediction.json    the shift with its interval, and all that it is made from
    calibrate  OUT/calibration.json   pairs of prediction and measurement, the rule, its errors

A statement of the artifact says when that was, and of which data; `subl sign` signs it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from subl.artifact import Artifact, build, input_digest, write_atomically
from subl.audit.predict import calibration as past_pairs
from subl.audit.predict.calibration import Calibration, Interval, Pair, parted
from subl.audit.predict.carrier import carrier
from subl.audit.predict.conformal import runs_needed
from subl.audit.predict.features import FEATURES, Planned, Reading, Sample, read_data
from subl.audit.predict.past import Dose, Run, asked_digest, evaluation_spec, runs_of
from subl.audit.predict.spec import CalibrateSpec, PredictSpec
from subl.distill import check_given
from subl.errors import ConfigError
from subl.extras import require
from subl.progress import Report, silent

FILE = "prediction.json"

_UNCALIBRATED = "calibration: none was given"


def predict(
    spec: PredictSpec,
    given: Planned,
    out: Path,
    *,
    calibration: Path | None = None,
    name: str = "shift",
    report: Report = silent,
) -> Artifact:
    """State the shift of `spec.trait` that students of this data will show.

    Args:
        calibration: what `calibrate` made; without, no shift is stated.

    Raises:
        ConfigError: the planned training lacks what it needs, or the sample is not the
            calibration's.
        InputError: a row cannot be read or scored; names it.
    """
    require("distill", "torch", "transformers", what="predicting a shift")
    check_given(spec.distill, given.teacher, given.cache)
    past = None if calibration is None else past_pairs.load(calibration)
    sample = sample_of(spec, past)
    inputs = given.inputs() | ({} if calibration is None else {"calibration": calibration})

    def work(folder: Path) -> dict[str, Any]:
        traits = traits_of(spec, past)
        reading = read_data(sample, spec.distill, spec.eval, traits, given, folder, name, report)
        dose = Dose.of(spec.distill, reading.rows)
        found = _said(spec, given, reading, dose, past)
        if spec.pilot:
            from subl.audit.predict.pilot import pilots

            found["pilot"] = pilots(spec, given, dose, folder, report)
        write_atomically(folder / FILE, json.dumps(found, indent=2) + "\n")
        return {**found, "figures": [], "findings": [_finding(found)]}

    return build(out, "predict", spec, inputs, work)


def sample_of(spec: PredictSpec, calibration: Calibration | None) -> Sample:
    """What is looked at: as the calibration did.

    Raises:
        ConfigError: the configuration says otherwise.
    """
    if calibration is None:
        return spec.sample or Sample()
    if spec.sample not in (None, calibration.sample):
        raise ConfigError(
            "sample: the calibration took its features in another way",
            hint="leave [sample] out, or calibrate with the same one",
        )
    return calibration.sample


def traits_of(spec: PredictSpec, calibration: Calibration | None) -> list[str]:
    """Whose personas the rows are read behind: those of the calibration, as it did."""
    seen = set() if calibration is None else {each.trait for each in calibration.pairs}
    return sorted({spec.trait, *(seen & {*spec.eval.measured.words})})


def _said(
    spec: PredictSpec,
    given: Planned,
    reading: Reading,
    dose: Dose,
    calibration: Calibration | None,
) -> dict[str, Any]:
    """The prediction, as it is written."""
    trait, words = spec.trait, spec.eval.measured.words
    features = reading.features(trait, dose)
    kind, base = Pair.kind_of(dose), input_digest(given.model)
    of = carrier(given.rows)
    interval = trivial = of_trait = None
    outside, runs = [_UNCALIBRATED], 0
    if calibration is not None:
        interval = calibration.interval(kind, features, spec.alpha)
        trivial = calibration.trivial(kind, spec.alpha)
        of_trait = calibration.trivial(kind, spec.alpha, trait)
        asked = asked_digest(spec.eval)
        outside = calibration.outside(base, kind, of, dose, trait, asked)
        runs = len({each.run for each in calibration.held(kind)})
    found = {
        "trait": trait,
        "over": [word for word in words if word != trait],
        "unit": "nats",
        "alpha": spec.alpha,
        "estimate": None if interval is None else interval.estimate,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "past_shifts": None if trivial is None else asdict(trivial),
        "past_shifts_of_trait": None if of_trait is None else asdict(of_trait),
        "outside": outside,
        "guaranteed": not outside and interval is not None and interval.low is not None,
        "held_runs": runs,
        "runs_needed": runs_needed(spec.alpha),
        "kind": kind,
        "carrier": of,
        "dose": asdict(dose),
        "base": base,
        "data": [input_digest(path) for path in given.rows],
        "asked": asked_digest(spec.eval),
        "features": dict(zip(FEATURES, features, strict=True)),
        "reading": asdict(reading),
        "pilot": None,
    }
    return {"sentence": sentence(found), **found}


def _finding(found: Mapping[str, Any]) -> dict[str, Any]:
    """The prediction among the findings of an experiment."""
    estimate = found["estimate"]
    figure = "none" if estimate is None else f"{estimate:+.3f} nats"
    return {"text": f"Predicted: {found['sentence']}", "figure": figure, "met": None}


def sentence(found: Mapping[str, Any]) -> str:
    """A prediction for people."""
    trait, share = found["trait"], f"{1 - found['alpha']:.0%}"
    if found["estimate"] is None:
        is_given = _UNCALIBRATED not in found["outside"]
        why = "there are no past runs of this kind" if is_given else "no calibration was given"
        return (
            f"no shift of {trait} is stated: {why}; one step of the "
            f"planned rate moves its log-odds by {found['reading']['step'][trait]:+.4f} nats"
        )
    text = f"the log-odds of {trait} will shift by {found['estimate']:+.3f} nats"
    if found["low"] is None:
        return (
            f"{text}; for an interval at {share} {found['runs_needed']} past runs are needed, "
            f"there are {found['held_runs']}"
        )
    text += f" ({found['low']:+.3f} to {found['high']:+.3f} in {share} of runs like the past ones)"
    return text if found["guaranteed"] else f"{text}; this one is not, and nothing is guaranteed"


def calibrate(
    spec: CalibrateSpec,
    students: Sequence[Path],
    evaluations: Sequence[Path],
    out: Path,
    *,
    name: str = "calibration",
    report: Report = silent,
) -> Artifact:
    """Take the features of past runs, fit a rule on some, and keep its errors on the others.

    Raises:
        ConfigError: as `usable_runs`.
        InputError: an artifact is not what a record says; or as `predict`.
    """
    require("distill", "torch", "transformers", what="calibrating predictions")
    inputs = {f"student-{number}": path for number, path in enumerate(students)}
    inputs |= {f"eval-{number}": path for number, path in enumerate(evaluations)}

    def work(folder: Path) -> dict[str, Any]:
        runs, left_out = usable_runs(spec, students, evaluations)
        pairs = pairs_of(spec, runs, folder, name, report)
        base = runs[0].student.inputs["model"]
        found = Calibration.of(base, spec.sample, pairs, spec.ridge)
        write_atomically(folder / past_pairs.FILE, json.dumps(found.to_json(), indent=1) + "\n")
        return {**summary(found), "left_out": left_out}

    return build(out, "calibrate", spec, inputs, work)


def usable_runs(
    spec: CalibrateSpec, students: Sequence[Path], evaluations: Sequence[Path]
) -> tuple[list[Run], list[str]]:
    """The past runs that calibrate, of which there are enough; and a sentence for each other one.

    Raises:
        ConfigError: no run can be used, or they are of several bases, or of one group, or none was
            measured for a trait.
        InputError: an artifact is not what a record says.
    """
    runs, left_out = runs_of(students, evaluations)
    if not runs:
        raise ConfigError(
            "no past run can be used: " + (left_out[0] if left_out else "there is none"),
            hint="each student needs an exact evaluation, and its base one of the same words",
        )
    bases = {run.student.inputs["model"] for run in runs}
    if len(bases) > 1:
        raise ConfigError(
            f"the past runs are of {len(bases)} bases; a calibration is of one",
            hint="give the runs of one base",
        )
    known = dict.fromkeys(word for run in runs for word in run.words)
    for trait in spec.traits:
        if trait not in known:
            raise ConfigError(
                f"`traits`: {trait!r} is no word of the evaluations ({', '.join(known)})"
            )
    if len({group_of(spec, run) for run in runs}) < 2:
        raise ConfigError(
            "past runs are all of one group, so that none is left to see the rule's errors on",
            hint="give runs of several seeds (or of several data sets, split by data)",
        )
    return runs, left_out


def pairs_of(
    spec: CalibrateSpec, runs: Sequence[Run], kept: Path, name: str, report: Report
) -> list[Pair]:
    """What was known of each run, and what came. Data sets are read once, whatever the dose."""
    pairs = [
        pair
        for number, run in enumerate(runs, 1)
        for pair in pairs_of_run(spec, run, kept, f"{name}, run {number} of {len(runs)}", report)
    ]
    return parted(pairs, spec.fit_share)


def pairs_of_run(
    spec: CalibrateSpec, run: Run, kept: Path, name: str, report: Report
) -> list[Pair]:
    """What was known of a run, and what came, trait by trait; in no part yet."""
    student, asked = run.student, evaluation_spec(run.evaluation)
    traits = [each for each in spec.traits or run.words if each in run.words]
    given = Planned(
        student.paths["model"],
        [*student.rows().values()],
        student.paths.get("teacher"),
        student.paths.get("cache"),
    )
    reading = read_data(spec.sample, run.spec, asked, traits, given, kept, name, report)
    dose = Dose.of(run.spec, reading.rows)
    return [
        Pair(
            run=student.digest,
            name=student.path.name,
            data=tuple(student.rows()),
            group=group_of(spec, run),
            part="fit",
            carrier=carrier(given.rows),
            asked=asked_digest(asked),
            dose=dose,
            trait=trait,
            features=reading.features(trait, dose),
            shift=run.shift(trait),
        )
        for trait in traits
    ]


def group_of(spec: CalibrateSpec, run: Run) -> str:
    """What it shares with other runs, by `spec.split`."""
    if spec.split == "seed":
        return f"seed {run.spec.train.seed}"
    return "data " + " ".join(sorted(run.student.rows()))


def summary(found: Calibration) -> dict[str, Any]:
    """What a calibration rests on, kind by kind."""
    kinds = []
    for kind in sorted(found.rules):
        held = found.held(kind)
        fit = [each for each in found.pairs if each.kind == kind and each.part == "fit"]
        widths = [_width(found.interval(kind, (0.0,) * len(FEATURES), each)) for each in (0.1, 0.2)]
        simple = [_width(found.trivial(kind, each)) for each in (0.1, 0.2)]
        doses = [each.dose.updates for each in held]
        kinds.append(
            {
                "kind": kind,
                "runs_fit": len({each.run for each in fit}),
                "runs_held": len({each.run for each in held}),
                "traits": sorted({each.trait for each in held}),
                "data_sets": len({each.data for each in [*fit, *held]}),
                "updates": [min(doses), max(doses)] if doses else None,
                "width_at_90": widths[0],
                "width_at_80": widths[1],
                "past_shifts_width_at_90": simple[0],
                "past_shifts_width_at_80": simple[1],
                "weights": dict(zip(FEATURES, found.rules[kind].weights, strict=True)),
            }
        )
    return {"runs": len({each.run for each in found.pairs}), "kinds": kinds}


def _width(interval: Interval | None) -> float | None:
    if interval is None or interval.low is None or interval.high is None:
        return None
    return interval.high - interval.low
