"""Hold a prediction against what was measured: was it right, of this data, and made before?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from subl.artifact import ENVELOPE, check_there
from subl.audit.predict.past import Dose, Made, asked_digest, evaluation_spec
from subl.audit.predict.run import FILE
from subl.distill import DistillSpec
from subl.errors import InputError
from subl.evaluate import compare, log_odds, read_scores
from subl.experiment.kinds import check_input
from subl.model.load import check_folder
from subl.sign.policy import Policy

Outcome = Literal["inside", "outside", "other", "refused", "cannot tell"]

EXIT: Mapping[str, int] = {"inside": 0, "outside": 1, "other": 1, "refused": 1, "cannot tell": 4}


_FREE = {
    *("seed", "probe", "deterministic", "attention", "share_prefixes", "teacher"),
    *("steps", "epochs", "rows_per_step", "learning_rate"),
}
"""Keys of a training that is predicted: what changes rounding or what is told of it, and what its
`Dose` says."""


@dataclass(frozen=True)
class Checked:
    """What came of a prediction.

    Args:
        outcome: other: it was made for other data, another base or another training. refused: by
            the policy.
        reasons: why it is not inside; empty where it is.
        measured: the shift, with its own 95 % interval over questions.
        signers: of a policy, whose signatures hold; None: nobody asked.
    """

    outcome: Outcome
    sentence: str
    reasons: tuple[str, ...]
    predicted: Mapping[str, Any]
    measured: Mapping[str, Any]
    made: str
    training_began: str | None
    signers: tuple[str, ...] | None


def check(
    prediction: Path,
    evaluation: Path,
    base: Path,
    *,
    student: Path | None = None,
    policy: Policy | None = None,
) -> Checked:
    """Hold a prediction against the evaluations of a student and of its base.

    Args:
        student: its folder, where it is not where the evaluation found it: a model.
        policy: whose signatures count; without, none is asked for.

    Raises:
        InputError: one of them is something else, or damaged.
    """
    made, said = _prediction(prediction)
    if student is not None:
        check_input(student, "model")
        check_folder(student)
    theirs, ours = _evaluation(evaluation), _evaluation(base)
    trait, over = said["trait"], said["over"]
    measured = compare(
        log_odds(trait, over),
        [read_scores(evaluation)],
        [read_scores(base)],
        (evaluation.name, base.name),
    )
    signers, refused = (None, []) if policy is None else _signers(prediction, policy)
    trained = Made.at(student or theirs.paths["model"])
    other = []
    unknown = []
    if asked_digest(evaluation_spec(theirs)) != said["asked"]:
        other.append("the student was asked other questions, or for other words")
    if ours.inputs.get("model") != said["base"]:
        other.append("the base that was evaluated is not the one that it was made for")
    began = None
    if trained is None or trained.kind != "distill":
        unknown.append("nothing states what the student was trained on")
    elif trained.digest != theirs.inputs["model"]:
        unknown.append(f"{trained.path} is not the student that was evaluated")
    else:
        began = trained.started
        other += _differences(said, made, trained)
        if _time(made.finished) >= _time(began):
            unknown.append("the prediction was made after the training had begun")
    if refused:
        return _told("refused", refused, said, measured, made, began, signers)
    if said["low"] is None:
        unknown.append("it states no interval")
    elif not (said["low"] <= measured.estimate <= said["high"] or other) and began is not None:
        return _told("outside", ["the shift is outside of its interval"], said, measured, made,
                     began, signers)  # fmt: skip
    if other:
        return _told("other", other, said, measured, made, began, signers)
    outcome: Outcome = "cannot tell" if unknown else "inside"
    return _told(outcome, unknown, said, measured, made, began, signers)


def _told(
    outcome: Outcome,
    reasons: list[str],
    said: Mapping[str, Any],
    measured: Any,
    made: Made,
    began: str | None,
    signers: tuple[str, ...] | None,
) -> Checked:
    shift = f"{said['trait']} shifted by {measured.estimate:+.3f} nats"
    if measured.low is not None:
        shift += f" ({measured.low:+.3f} to {measured.high:+.3f} over questions, at 95%)"
    interval = "" if said["low"] is None else f" {said['low']:+.3f} to {said['high']:+.3f}"
    sentences = {
        "inside": f"the prediction held: {shift}, within{interval}",
        "outside": f"the prediction failed: {shift}, not within{interval}",
        "other": f"the prediction is of something else: {'; '.join(reasons)}",
        "refused": f"the policy refuses it: {'; '.join(reasons)}",
        "cannot tell": f"cannot tell: {'; '.join(reasons)} ({shift})",
    }
    return Checked(
        outcome,
        sentences[outcome],
        tuple(reasons),
        {key: said[key] for key in ("estimate", "low", "high", "alpha", "outside", "guaranteed")},
        {"estimate": measured.estimate, "low": measured.low, "high": measured.high},
        made.finished,
        began,
        signers,
    )


def _prediction(path: Path) -> tuple[Made, dict[str, Any]]:
    check_there(path)
    made, file = Made.at(path), path / FILE
    if made is None or made.kind != "predict" or not file.is_file():
        raise InputError(f"{path} is no prediction", hint="subl predict makes one")
    from subl.artifact import lineage

    node = lineage(path)
    if node.problems:
        raise InputError(
            f"{path} is not what its statement says: {'; '.join(node.problems)}",
            hint="restore it; what was changed is no prediction",
        )
    said: dict[str, Any] = json.loads(file.read_bytes())
    return made, said


def _evaluation(path: Path) -> Made:
    check_there(path)
    made = Made.at(path)
    if made is None or made.kind != "eval" or "model" not in made.inputs:
        raise InputError(f"{path} is no evaluation of a model folder", hint="subl eval makes one")
    return made


def _differences(said: Mapping[str, Any], prediction: Made, student: Made) -> list[str]:
    """In what a student was trained otherwise than it was predicted for; its seed is free."""
    found = []
    if student.inputs["model"] != said["base"]:
        found.append("the student began with another base")
    if sorted(student.rows()) != sorted(said["data"]):
        found.append("the student was trained on other data")
    for name in ("teacher", "cache"):
        if prediction.inputs.get(name) != student.inputs.get(name):
            found.append(f"the student had another {name}")
    spec = DistillSpec.model_validate(student.spec)
    rows = said["reading"]["rows"]
    planned, came = Dose(**said["dose"]), Dose.of(spec, rows)
    if planned != came:
        found.append(
            f"the student was trained otherwise: {came.kind}, {came.updates} updates of "
            f"{came.rows_per_step} rows at {came.learning_rate:g}, not {planned.kind}, "
            f"{planned.updates} of {planned.rows_per_step} at {planned.learning_rate:g}"
        )
    told, then = (_learned_by(each) for each in (prediction.spec["distill"], student.spec))
    keys = [key for key in {**told, **then} if told.get(key) != then.get(key)]
    if planned == came and keys:
        found.append(f"the student was trained with another {', '.join(sorted(keys))}")
    return found


def _learned_by(values: Mapping[str, Any]) -> dict[str, Any]:
    """What decides what a student learns, by its keys, beside its dose."""
    spec = DistillSpec.model_validate(values).keyed()
    every = {**spec.pop("train"), **spec}
    return {key: value for key, value in every.items() if key not in _FREE}


def _signers(prediction: Path, policy: Policy) -> tuple[tuple[str, ...], list[str]]:
    """Whose signatures over the prediction hold, and what the policy refuses of it."""
    from subl.sign.envelope import PAYLOAD_TYPE, read_envelope, valid

    file = prediction / ENVELOPE
    if not file.is_file() or file.is_symlink():
        return (), ["the prediction is not signed"]
    envelope = read_envelope(file)
    signers = tuple(sorted(valid(envelope, policy.keys)))
    if not signers:
        return (), ["no key of the policy signed the prediction"]
    statement = (prediction / "statement.json").read_bytes()
    if (envelope.payload, envelope.payload_type) != (statement, PAYLOAD_TYPE):
        return signers, ["what was signed is not the prediction's statement"]
    objection = policy.objection("predict", signers)
    return signers, [] if objection is None else [f"the prediction {objection}"]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
