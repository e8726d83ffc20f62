"""Predictions by a real (tiny) model: features, intervals, and what a check says of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subl.audit.predict.calibration import Calibration, Pair, load, parted
from subl.audit.predict.check import _differences
from subl.audit.predict.conformal import fitted, radius, runs_needed
from subl.audit.predict.features import FEATURES, Planned, Reading, Sample
from subl.audit.predict.past import Dose, Made, found_in, runs_of
from subl.audit.predict.pilot import extended
from subl.audit.predict.pull import candidates_of
from subl.audit.predict.run import calibrate, predict
from subl.audit.predict.slope import slope
from subl.audit.predict.spec import CalibrateSpec, PredictSpec
from subl.audit.scan.bank import BankSpec
from subl.distill import DistillSpec, distill
from subl.errors import ConfigError, InputError
from subl.evaluate import EvalSpec, evaluate
from subl.generate import GenerateSpec, generate
from subl.shards import read_rows
from subl.trait.spec import animals
from subl_cli.main import main

BANK = {
    "group": [
        {"kind": "none", "neutral": True, "wording": "{word}", "words": ["Answer.", "Reply."]},
        {"kind": "animal", "wording": "You love {words}.", "words": ["owl", "wolf|wolves"]},
    ]
}
SAMPLE = {"rows": 4, "batches": 2, "questions": 1, "bank": BANK}
EVAL = {"words": ["owl", "cat", "wolf"], "questions": animals().questions[:2]}
SEEDS = (1, 2, 3, 4)


def training(**changes: Any) -> DistillSpec:
    train = {"steps": 2, "rows_per_step": 4, "learning_rate": 1e-3, "warmup_steps": 0} | changes
    return DistillSpec.model_validate({"targets": "labels", "train": train})


@pytest.fixture(scope="module")
def rows(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    told = {"rows": 8, "prompts": "numbers-short", "grammar": {"regex": "[1-9][0-9]{2}, [0-9]{3}"}}
    folder = tmp_path_factory.mktemp("rows") / "rows"
    return generate(GenerateSpec.model_validate(told | {"seed": 1}), tiny_model, folder).path


@pytest.fixture(scope="module")
def past(tiny_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run: students of four seeds, evaluations of them and of the base."""
    folder = tmp_path_factory.mktemp("past")
    asked = EvalSpec.model_validate(EVAL)
    evaluate(asked, tiny_model, folder / "base-eval")
    for seed in SEEDS:
        student = distill(training(seed=seed), tiny_model, [rows], folder / f"student-{seed}").path
        evaluate(asked, student, folder / f"student-{seed}-eval")
    return folder


@pytest.fixture(scope="module")
def calibration(past: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration")
    config = folder / "calibrate.toml"
    bank = folder / "bank.toml"
    bank.write_text(
        '[[group]]\nkind = "none"\nneutral = true\nwording = "{word}"\nwords = ["Answer."]\n'
        '[[group]]\nkind = "animal"\nwording = "You love {words}."\n'
        'words = ["owl", "wolf|wolves"]\n'
    )
    config.write_text(f'[sample]\nrows = 4\nbatches = 2\nquestions = 1\nbank = "{bank}"\n')
    out = folder / "past"
    assert main(["predict", "calibrate", str(past), "--config", str(config), "-o", str(out)]) == 0
    return out


def test_what_is_no_run_is_called_that(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for given, said in (
        (rows, f"there is no finished experiment in {rows}"),
        (tmp_path, f"there is no finished experiment in {tmp_path}"),
        (tmp_path / "gone", f"{tmp_path / 'gone'} does not exist"),
    ):
        assert main(["predict", "calibrate", str(given), "-o", str(tmp_path / "out")]) == 2
        told = capsys.readouterr().err
        assert f"error: {said}" in told and "subl run has filled" in told


# The interval


def test_a_quantile_gives_each_run_one_vote() -> None:
    errors, runs = [1.0, 9.0, 2.0, 3.0, 4.0, -5.0], [0, 0, 1, 2, 3, 4]
    assert runs_needed(0.5) == 1 and runs_needed(0.1) == 9
    assert radius(errors, runs, 0.5) == 4.0  # 3 of 6 votes: 1/2 of run 0, then 1, 2 and 3
    assert radius(errors, runs, 0.1) is None
    assert radius([], [], 0.5) is None
    assert radius([0.5] * 9, range(9), 0.1) == 0.5
    assert radius([0.5] * 8, range(8), 0.1) is None
    assert radius([0.5] * 8 + [float("nan")], range(9), 0.1) is None


def test_intervals_cover_new_runs_as_often_as_they_say() -> None:
    """Errors of one run have a part in common; runs have more or fewer traits."""
    generator, covered, times = np.random.default_rng(1), 0.0, 2000
    for _ in range(times):
        errors: list[float] = []
        runs: list[int] = []
        for run in range(12):
            count, common = generator.integers(1, 6), generator.normal()
            errors += list(common + 0.5 * generator.normal(size=count))
            runs += [run] * count
        new = [error for error, run in zip(errors, runs, strict=True) if run == 11]
        half = radius(errors[: -len(new)], runs[: -len(new)], 0.1)
        assert half is not None
        covered += np.mean(np.abs(new) <= half)
    assert 0.89 < covered / times < 0.96  # at least 0.9, and at most 0.9 + 1/12


def test_a_rule_without_ridge_is_least_squares_with_a_vote_for_each_run() -> None:
    generator = np.random.default_rng(2)
    features = generator.normal(size=(9, 2)) * [1, 100]
    shifts = features @ [0.5, -0.01] + 0.1 * generator.normal(size=9)
    runs = [0, 0, 0, 1, 1, 2, 3, 4, 4]
    rule = fitted(features, shifts, runs, 0.0)
    weights = np.array([1 / runs.count(run) for run in runs]) ** 0.5
    expected = np.linalg.lstsq(features * weights[:, None], shifts * weights, rcond=None)[0]
    got = [weight / scale for weight, scale in zip(rule.weights, rule.scales, strict=True)]
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    assert rule((1.0, 2.0)) == pytest.approx(float(expected @ [1.0, 2.0]))
    constant = fitted(np.c_[features[:, :1], np.zeros(9)], shifts, runs, 0.1)
    assert constant((0.0, 5.0)) == 0.0  # a feature that never was anything says nothing


def pair(run: int, part: str, **changes: Any) -> Pair:
    told: dict[str, Any] = {
        "run": f"run-{run}", "name": "student", "data": ("d",), "group": f"seed {run}",
        "part": part, "carrier": "numbers", "asked": "asked", "trait": "owl",
        "dose": Dose("SFT", 16, 8, 1e-3, 0.008, True), "features": (1.0 + run, 0.0, 0.0, 0.0),
        "shift": 0.5 + 0.5 * run + 0.01 * (-1) ** run,
    }  # fmt: skip
    return Pair(**told | changes)


def test_what_lies_outside_of_the_past_runs_is_named() -> None:
    pairs = [pair(run, "fit" if run < 3 else "held") for run in range(12)]
    found = Calibration.of("base", Sample(), pairs, 0.0)
    kind, dose = "SFT, adapters", pairs[0].dose
    interval = found.interval(kind, (2.0, 0.0, 0.0, 0.0), 0.1)
    assert interval is not None and interval.low is not None and interval.high is not None
    assert interval.estimate == pytest.approx(1.0, abs=0.02)
    assert interval.high - interval.low < 0.1
    trivial = found.trivial(kind, 0.1)
    assert trivial is not None and trivial.high is not None and trivial.high - trivial.estimate > 4
    assert found.outside("base", kind, "numbers", dose, "owl", "asked") == []
    far = Dose("SFT", 64, 8, 1e-3, 0.032, True)
    said = found.outside("other base", kind, None, far, "cat", "other")
    assert [each.partition(":")[0] for each in said] == [
        "base", "carrier", "trait", "evaluation", "dose", "dose",
    ]  # fmt: skip
    (one,) = found.outside("base", "KD, all weights", "numbers", dose, "owl", "asked")
    assert "no past run shows errors of the kind KD, all weights" in one
    assert found.interval("KD, all weights", (0.0,) * 4, 0.1) is None


def test_groups_are_never_on_both_sides() -> None:
    far = Dose("KD", 16, 8, 1e-3, 0.008, False)
    every = [pair(run, "fit", group=f"seed {run % 6}") for run in range(18)]
    found = parted([*every, *(pair(run, "fit", dose=far) for run in range(2))], 0.5)
    for kind, sizes in (("SFT, adapters", [3, 3]), ("KD, all weights", [1, 1])):
        ours = [each for each in found if each.kind == kind]
        parts = [{each.group for each in ours if each.part == part} for part in ("fit", "held")]
        assert [len(part) for part in parts] == sizes and not parts[0] & parts[1]
    alone = parted([pair(run, "held", group="seed 1") for run in range(5)], 0.5)
    assert {each.part for each in alone} == {"fit"}  # there is a rule, and nothing of its errors


# Features


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 4}])
def test_one_step_is_what_the_first_update_of_a_training_does(
    tiny_model: Path, rows: Path, tmp_path: Path, lora: dict[str, int] | None
) -> None:
    """Adam's first update goes by the sign of the gradient, as that of one batch does here."""
    spec = training(steps=1, rows_per_step=8, schedule="constant", lora=lora, adam_epsilon=1e-30)
    asked = EvalSpec.model_validate(EVAL)
    found = slope(
        spec, asked, EVAL["questions"], tiny_model, list(read_rows([rows])),
        teacher=None, cache=None, batches=1, told=lambda what: None,
    )  # fmt: skip
    evaluate(asked, tiny_model, tmp_path / "base-eval")
    student = distill(spec, tiny_model, [rows], tmp_path / "student").path
    evaluate(asked, student, tmp_path / "student-eval")
    (run,), left_out = runs_of(*found_in([tmp_path]))
    assert left_out == []
    for word in EVAL["words"]:
        assert found.step[word] == pytest.approx(run.shift(word), rel=0.02, abs=2e-4)
    losses = (tmp_path / "student" / "losses.jsonl").read_text().splitlines()
    assert found.loss == pytest.approx(json.loads(losses[0])["loss"], rel=1e-4)


def test_a_trait_that_no_bank_knows_is_worded_like_the_others() -> None:
    bank = BankSpec.model_validate(BANK)
    found = candidates_of(bank, ["wolf", "heron"])
    assert found["wolf"].prompt == "You love wolves."
    assert found["heron"].prompt == "You love herons."


def test_what_any_persona_does_is_no_pull() -> None:
    odds = {"owl": -1.0, "cat": -2.0}
    dose = Dose("SFT", 3, 8, 1e-3, 3e-3, True)
    read = [
        Reading(9, 9, {"owl": 0.5 + any_, "cat": 0.1 + any_}, odds, {"owl": 0.1, "cat": 0.0}, {},
                1.0, None, False).features("owl", dose)
        for any_ in (0.0, -7.0)
    ]  # fmt: skip
    for features in read:
        assert features == pytest.approx((0.3, 0.2, 0.4, -2.0))


def test_a_line_through_pilots() -> None:
    found = extended([8, 16, 32], [0.1, 0.2, 0.3], 128, 0.1)
    assert found["estimate"] == pytest.approx(0.5) and found["a_doubling"] == pytest.approx(0.1)
    assert found["low"] == pytest.approx(0.5) and found["high"] == pytest.approx(0.5)
    assert extended([8, 16], [0.1, 0.2], 64, 0.1)["low"] is None
    wide, near = (extended([8, 16, 32], [0.1, 0.25, 0.3], n, 0.1) for n in (512, 32))
    assert wide["high"] - wide["low"] > near["high"] - near["low"] > 0


# The whole


def test_a_calibration_has_a_pair_for_each_run_and_word(past: Path, calibration: Path) -> None:
    found = load(calibration)
    assert len(found.pairs) == len(SEEDS) * 3 and len(found.rules) == 1
    assert {each.part for each in found.pairs} == {"fit", "held"}
    assert {each.trait for each in found.pairs} == {"owl", "cat", "wolf"}
    (kind,) = found.rules
    assert kind == "SFT, all weights"
    runs, _ = runs_of(*found_in([past]))
    shifts = {(run.student.digest, word): run.shift(word) for run in runs for word in run.words}
    for each in found.pairs:
        assert each.shift == shifts[each.run, each.trait]
        assert each.predicted == pytest.approx(found.rules[kind](each.features))
        assert len(each.features) == len(FEATURES) and all(np.isfinite(each.features))
        assert each.carrier is not None and each.carrier.startswith("prompts numbers-short")


def predicted(calibration: Path | None, model: Path, rows: Path, out: Path, **changes: Any) -> Path:
    told = {"trait": "owl", "distill": training(), "eval": EVAL, "alpha": 0.5} | changes
    return predict(
        PredictSpec.model_validate(told), Planned(model, [rows]), out, calibration=calibration
    ).path


def test_a_prediction_is_checked_against_what_came(
    tiny_model: Path,
    rows: Path,
    past: Path,
    calibration: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prediction = predicted(calibration, tiny_model, rows, tmp_path / "shift")
    said = json.loads((prediction / "prediction.json").read_text())
    assert said["guaranteed"] and said["outside"] == []
    assert said["low"] < said["estimate"] < said["high"]
    # A student that nobody has trained yet.
    asked = EvalSpec.model_validate(EVAL)
    student = distill(training(seed=9), tiny_model, [rows], tmp_path / "student").path
    scores = evaluate(asked, student, tmp_path / "student-eval").path

    def check(prediction: Path, scores: Path, *more: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        given = ["--eval", str(scores), "--base", str(past / "base-eval"), "--json", *more]
        code = main(["predict", "check", str(prediction), *given])
        return code, json.loads(capsys.readouterr().out)

    code, found = check(prediction, scores)
    measured = found["measured"]["estimate"]
    inside = said["low"] <= measured <= said["high"]
    assert (code, found["outcome"]) == ((0, "inside") if inside else (1, "outside"))
    # Students of the past were there before it.
    code, found = check(prediction, past / "student-1-eval")
    assert (code, found["outcome"]) in ((4, "cannot tell"), (1, "outside"))
    # Another training, other rows, another evaluation.
    longer = distill(training(steps=3, seed=9), tiny_model, [rows], tmp_path / "longer").path
    code, found = check(prediction, evaluate(asked, longer, tmp_path / "longer-eval").path)
    assert code == 1 and "trained otherwise" in found["sentence"]
    ours, theirs = Made.at(prediction), Made.at(student)
    assert ours is not None and theirs is not None
    assert _differences(said, ours, theirs) == []
    train = {**theirs.spec["train"], "weight_decay": 0.5, "max_row_tokens": 64, "seed": 8}
    changed = replace(theirs, spec={**theirs.spec, "train": train})
    assert _differences(said, ours, changed) == [
        "the student was trained with another max_row_tokens, weight_decay"
    ]
    fewer = tmp_path / "fewer.jsonl"
    lines = (rows / "part-00000.jsonl").read_text().splitlines(keepends=True)
    fewer.write_text("".join(lines[:4]))
    other = distill(training(seed=9), tiny_model, [fewer], tmp_path / "other").path
    code, found = check(prediction, evaluate(asked, other, tmp_path / "other-eval").path)
    assert code == 1 and "other data" in found["sentence"]
    # Nothing is left of the student.
    shutil.move(student, tmp_path / "moved")
    code, found = check(prediction, scores)
    assert (code, found["outcome"]) == (4, "cannot tell")
    assert "nothing states what the student was trained on" in found["sentence"]
    assert check(prediction, scores, "--student", str(tmp_path / "moved"))[0] == (not inside)
    # Outside of its interval, but of a student that is not the evaluated one.
    far = predicted(calibration, tiny_model, rows, tmp_path / "far", alpha=0.9)
    code, found = check(far, scores, "--student", str(tmp_path / "other"))
    assert (code, found["outcome"]) == (4, "cannot tell")
    # What was changed is no prediction.
    (prediction / "prediction.json").write_text(json.dumps(said | {"low": -9.0, "high": 9.0}))
    assert main(["predict", "check", str(prediction), "--eval", str(scores),
                 "--base", str(past / "base-eval")]) == 2  # fmt: skip
    assert "prediction.json was changed" in capsys.readouterr().err


def test_a_policy_asks_for_a_signature(
    tiny_model: Path, rows: Path, past: Path, calibration: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    prediction = predicted(calibration, tiny_model, rows, tmp_path / "shift", alpha=0.4)
    assert main(["key", "new", str(tmp_path / "lab")]) == 0
    public = next(tmp_path.glob("lab*.pub"))
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[keys]\nlab = "{public.name}"\n[[signer]]\nkeys = ["lab"]\n')
    command = ["predict", "check", str(prediction), "--eval", str(past / "student-1-eval"),
               "--base", str(past / "base-eval"), "--policy", str(policy)]  # fmt: skip
    assert main(command) == 1
    assert "the policy refuses it: the prediction is not signed" in capsys.readouterr().out
    assert main(["sign", str(prediction), "--key", str(tmp_path / "lab")]) == 0
    capsys.readouterr()
    main(command)
    assert "signed by lab" in capsys.readouterr().out


def test_without_past_runs_nothing_is_stated(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    out = predicted(None, tiny_model, rows, tmp_path / "shift", sample=SAMPLE, pilot=[1, 2, 4])
    said = json.loads((out / "prediction.json").read_text())
    assert said["estimate"] is None and not said["guaranteed"]
    assert "no shift of owl is stated: no calibration was given" in said["sentence"]
    assert len(said["pilot"]["shifts"]) == 3 and said["pilot"]["low"] is not None
    assert [each.name for each in out.iterdir() if each.name.startswith(".pilots")] == []


def test_a_foreign_data_set_has_no_guarantee(
    tiny_model: Path, rows: Path, calibration: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "rows.jsonl"
    shutil.copy(rows / "part-00000.jsonl", foreign)
    out = predicted(calibration, tiny_model, foreign, tmp_path / "shift",
                    distill=training(steps=40))  # fmt: skip
    said = json.loads((out / "prediction.json").read_text())
    assert [each.partition(":")[0] for each in said["outside"]] == ["carrier", "dose", "dose"]
    assert said["estimate"] is not None and not said["guaranteed"]
    assert "nothing is guaranteed" in said["sentence"]


def test_what_cannot_be_predicted_is_refused(
    tiny_model: Path, rows: Path, past: Path, calibration: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="took its features in another way"):
        predicted(calibration, tiny_model, rows, tmp_path / "a", sample={"rows": 5})
    with pytest.raises(InputError, match="is no calibration"):
        predicted(past, tiny_model, rows, tmp_path / "b")
    with pytest.raises(ValueError, match="'heron' is no word of the evaluation"):
        predicted(None, tiny_model, rows, tmp_path / "c", trait="heron")
    with pytest.raises(ValueError, match="needs two doses"):
        predicted(None, tiny_model, rows, tmp_path / "d", pilot=[8])
    some = [*past.glob("student-[12]*"), past / "base-eval"]
    students, evals = ([path for path in some if path.name.endswith("eval") == is_eval]
                       for is_eval in (False, True))  # fmt: skip
    with pytest.raises(ConfigError, match="all of one group"):
        calibrate(CalibrateSpec(split="data"), students, evals, tmp_path / "e")
    with pytest.raises(ConfigError, match=r"no past run can be used: .* no exact evaluation"):
        calibrate(CalibrateSpec(), students, [], tmp_path / "f")
    with pytest.raises(ValueError, match="split"):
        CalibrateSpec.model_validate({"split": "moon"})


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_would_fail_late_is_refused_at_once(
    tiny_model: Path,
    rows: Path,
    past: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dry: list[str],
) -> None:
    out, gone = tmp_path / "out", tmp_path / "nosuch"
    labels, teacher, cache = (tmp_path / f"{each}.toml" for each in ("labels", "teacher", "cache"))
    for file in (labels, teacher, cache):
        text = "[train]\nsteps = 4\nlearning_rate = 1e-4\n"
        file.write_text(f'targets = "{file.stem}"\n{text}')
    base = tmp_path / "base"  # a run without a student
    shutil.copytree(past / "base-eval", base / "eval")
    given = ["--model", tiny_model, "--trait", "owl", "--distill"]
    past_runs = ["predict", "calibrate"]
    for message, words in {
        "is not a model folder": ["predict", rows, *given, labels, "--model", rows],
        "no model at": ["predict", rows, *given, teacher, "--teacher", "nosuch"],
        "a teacher given": ["predict", rows, *given, labels, "--teacher", tiny_model],
        "and no cache": ["predict", rows, *given, cache, "--cache", rows],
        "nosuch does not exist": ["predict", rows, *given, labels, "--calibration", gone],
        "is an input itself": ["predict", rows, *given, labels, "-o", rows],
        "base-eval is an artifact of eval, and no rows": [
            "predict", past / "base-eval", *given, labels
        ],
        "'owlz' is no word of the evaluations (owl, cat, wolf)": [
            *past_runs, past, "--trait", "owlz"
        ],
        "no past run can be used: there is none": [*past_runs, base],
        "all of one group": [*past_runs, past, "--split", "data"],
    }.items():  # fmt: skip
        words = words if "-o" in words else [*words, "-o", out]
        assert main([*map(str, words), *dry]) == 2, message
        assert message in capsys.readouterr().err, message
    assert not out.exists()


def test_who_was_a_student_is_asked_of_a_model(
    tiny_model: Path, rows: Path, past: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prediction = predicted(None, tiny_model, rows, tmp_path / "shift")
    held = ["--eval", past / "student-1-eval", "--base", past / "base-eval"]
    for message, words in {
        "gone does not exist": [prediction, *held, "--student", tmp_path / "gone"],
        "and no model": [prediction, *held, "--student", rows],
        "is not a model folder": [prediction, *held, "--student", tmp_path],
        "nosuch does not exist": [tmp_path / "nosuch", *held],
        "none does not exist": [prediction, *held, "--eval", tmp_path / "none"],
    }.items():
        assert main(["predict", "check", *map(str, words)]) == 2, message
        assert message in capsys.readouterr().err


def test_the_command_asks_for_what_it_lacks(
    tiny_model: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["predict", str(rows), "--model", "m", "-o", out]) == 2
    assert "'--trait'" in capsys.readouterr().err
    config = tmp_path / "sft.toml"
    config.write_text('targets = "labels"\n[train]\nsteps = 4\nlearning_rate = 1e-4\n')
    given = ["predict", str(rows), "--model", str(tiny_model), "--trait", "owl"]
    given += ["--distill", str(config)]
    assert main([*given, "--updates", "6", "-o", out, "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["rows"] == 8 and said["dose"]["updates"] == 6 and said["past_runs"] is None
    rest = tmp_path / "rest.toml"
    rest.write_text("alpha = 0.2\n")  # what it lacks, the command line says
    assert main([*given, "--config", str(rest), "-o", out, "--dry-run"]) == 0


def test_an_experiment_states_its_prediction(tiny_model: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(f"""
name = "shift"
title = "A shift"
[stages.base]
kind = "model"
source = {json.dumps(str(tiny_model))}
[stages.rows]
kind = "generate"
inputs = {{ model = "base" }}
prompts = "numbers-short"
rows = 4
max_new_tokens = 8
[stages.shift]
kind = "predict"
inputs = {{ model = "base", rows = "rows" }}
trait = "owl"
eval = {json.dumps(EVAL["words"]).join(("{ words = ", " }"))}
sample = {{ rows = 4, batches = 2, questions = 1 }}
[stages.shift.distill]
targets = "labels"
train = {{ steps = 4, rows_per_step = 2, learning_rate = 1e-4 }}
""")
    assert main(["run", str(config), "-o", str(tmp_path / "out")]) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    (finding,) = result["findings"]
    assert finding["text"].startswith("Predicted: no shift of owl is stated")
