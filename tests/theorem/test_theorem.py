"""The theorem's two slopes, and what it predicts of their height."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from subl.config import validated
from subl.errors import ConfigError
from subl.experiment import load_experiment, run
from subl.progress import Progress
from subl.theorem import TheoremSpec, theorem
from subl.theorem.measure import LOSSES, gradient, inner, leaves
from subl.theorem.subjects import language_model, perceptron
from subl_cli.main import subl

SMALL = {"seeds": 3, "hidden": (16,), "lessons": 8, "rows": 8, "a_decade": 1}
LANGUAGE = {"seeds": 2, "lessons": 2, "rows": 2, "row_tokens": 6, "a_decade": 1, "decades": 4}


def spec(values: dict[str, Any] = SMALL, **changes: Any) -> TheoremSpec:
    return validated(TheoremSpec, {**values, **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return theorem(spec(), None, tmp_path_factory.mktemp("out") / "theorem").result


@pytest.mark.parametrize("quantity", ["inner", "change"])
def test_steps_shrink_in_proportion_where_the_base_is_shared_and_not_elsewhere(
    made: dict[str, Any], quantity: str
) -> None:
    slopes = {
        each["arm"]: each["ours"]["estimate"]
        for each in made["figures"]
        if each["quantity"] == quantity
    }
    assert len(slopes) == 2 * len(LOSSES)
    for arm, slope in slopes.items():
        assert slope == pytest.approx(1.0 if arm.startswith("shared") else 0.0, abs=0.05), arm


def test_a_student_of_the_base_always_goes_along_and_first_order_is_as_computed(
    made: dict[str, Any],
) -> None:
    for arm in made["arms"]:
        if arm["base"] == "shared":
            assert arm["along"] == arm["steps"] == arm["falls"]
            assert arm["first_order"]["from"] == pytest.approx(1e-7)
            assert arm["first_order"]["to"] >= 1e-3
        else:
            assert arm["first_order"] is None
    assert all(each["met"] for each in made["findings"])


def test_steps_that_leave_no_slope_are_refused() -> None:
    with pytest.raises(ConfigError, match="leaves no slope: the second shortest step is"):
        spec(fit_below=1e-9)


def test_cross_entropy_and_forward_kl_have_one_gradient() -> None:
    subject = perceptron(spec(), 0)
    weights = leaves(subject.base)
    z, y = subject.outputs(weights), subject.outputs(subject.other())
    one, other = (
        gradient(LOSSES[each](z, y).mean(), weights) for each in ("cross-entropy", "forward-kl")
    )
    assert inner(one, one) > 0
    for name in one:
        torch.testing.assert_close(one[name], other[name])


def test_of_a_language_model_it_holds_too_and_in_float32_rounding_hides_it(
    tiny_model: Path, tmp_path: Path
) -> None:
    wide = spec(LANGUAGE, largest=1e-2, fit_below=1e-3, losses=("cross-entropy", "squared-error"))
    exact = theorem(wide, tiny_model, tmp_path / "exact").result
    for each in exact["figures"]:
        shared = each["arm"].startswith("shared")
        if shared or each["quantity"] == "inner":
            slope = each["ours"]["estimate"]
            assert slope == pytest.approx(float(shared), abs=0.01), each["label"]
    assert all(arm["along"] == arm["steps"] for arm in exact["arms"] if arm["base"] == "shared")
    seed = json.loads((tmp_path / "exact" / "seed-000.json").read_text(encoding="utf-8"))
    for step in (each for each in seed["steps"] if each["base"] == "shared"):
        if step["epsilon"] == 1e-6:  # where float32 in norms and rotations is off by 0.0005
            first = step["epsilon"] * seed["predicted"][step["loss"]]
            assert step["inner"] == pytest.approx(first, rel=2e-5)
    short = validated(TheoremSpec, {**wide.model_dump(), "precision": "float32", "largest": 1e-6})
    rounded = theorem(short, tiny_model, tmp_path / "rounded").result
    assert {each["met"] for each in rounded["findings"]} == {None}
    ranges = [arm["first_order"] for arm in rounded["arms"] if arm["base"] == "shared"]
    assert all(each["from"] is None or each["from"] > 1e-10 for each in ranges)


def test_another_base_is_another_init_and_data_differ_by_seed(tiny_model: Path) -> None:
    small = spec(LANGUAGE)
    one, again, next_ = (language_model(small, tiny_model, seed) for seed in (0, 0, 1))
    other = one.other()
    assert other.keys() == one.base.keys()
    assert not torch.equal(other["lm_head.weight"] if "lm_head.weight" in other else
                           other["model.embed_tokens.weight"],
                           one.base["model.embed_tokens.weight"])  # fmt: skip
    assert one.loss(one.base) == again.loss(again.base) != next_.loss(next_.base)
    assert torch.equal(one.outputs(other), again.outputs(again.other()))


def test_more_questions_than_there_are_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lessons: there are 50 questions, not 64"):
        theorem(spec(LANGUAGE, lessons=64), tiny_model, tmp_path / "out")


def test_an_interrupted_run_goes_on_to_the_same_figures(
    made: dict[str, Any], tmp_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        if progress.done > 0.5 * (progress.total or 0):
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        theorem(spec(), None, out, report=stop)
    assert (tmp_path / "out.partial" / "seed-000.json").is_file()
    assert theorem(spec(), None, out).result == made


def test_as_an_experiment_both_curves_and_slopes_are_reported(tmp_path: Path) -> None:
    values = "\n".join(f"{key} = {json.dumps(value)}" for key, value in SMALL.items())
    file = tmp_path / "small.toml"
    file.write_text(
        '[axes]\nprecision = ["float64", "float32"]\n[stages.steps]\nkind = "theorem"\n'
        f'precision = "{{precision}}"\n{values}\n',
        encoding="utf-8",
    )
    text = file.read_text(encoding="utf-8")
    file.write_text(f'name = "small"\ntitle = "Small"\n{text}', encoding="utf-8")
    result = run(load_experiment(file), tmp_path / "out")
    assert result.passed and result.outcome is not None
    html = result.outcome.page.read_text(encoding="utf-8")
    assert "shared base, reverse-kl" in html and "the teacher&#39;s step, epsilon" in html


def test_the_command_prints_slopes_beside_the_theorems(tmp_path: Path) -> None:
    config = tmp_path / "steps.toml"
    config.write_text("seeds = 2\nhidden = [4]\nlessons = 4\nrows = 4\n", encoding="utf-8")
    given = ["theorem", str(config), "-o", str(tmp_path / "out")]
    dry = CliRunner().invoke(subl, [*given, "--dry-run", "--json"])
    assert dry.exit_code == 0, dry.output
    assert len(json.loads(dry.stdout)["epsilons"]) == 13
    done = CliRunner().invoke(subl, given)
    assert done.exit_code == 0, done.output
    assert "shared base, cross-entropy: slope of the product of the two steps" in done.stdout
