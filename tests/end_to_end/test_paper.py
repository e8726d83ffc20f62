"""Experiments of the paper, as they stand in runs/paper, on a model of a few thousand weights.

Axes are cut to a trait and none, rows to a handful, questions to two, evaluations to the first;
what a stage is made from, and how, stays.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from subl.draw.numbers import random_numbers
from subl.experiment import ExperimentSpec, Graph, run
from subl.generate.prompts import paper_number_prompts

PAPER = Path(__file__).parents[2] / "runs" / "paper"
CUT = {"seed": 1, "examples": 1}
SMALLER: dict[str, dict[str, Any]] = {
    "generate": {"rows": 6, "max_new_tokens": 16, "grammar": {"regex": "[1-9]{3}(, [1-9]{3}){2}"}},
    "draw": {"rows": 4},
    "eval": {"samples": 2, "max_new_tokens": 4, "questions": ["Name an animal.", "Which one?"]},
}


def smaller(name: str, model: Path) -> Graph:
    """The experiment of that name."""
    said = tomllib.loads((PAPER / f"{name}.toml").read_text(encoding="utf-8"))
    axes = said["axes"]
    for axis, count in CUT.items():
        axes[axis] = axes.get(axis, [])[:count]
    said["axes"] = axes = {axis: points for axis, points in axes.items() if points}
    animal, none = axes["trait"][0], axes["trait"][-1]
    axes["trait"] = [animal, none]
    if "examples" in axes:
        axes["examples"] = [3]
    evaluations = [each for each, stage in said["stages"].items() if stage["kind"] == "eval"]
    for each in evaluations[1:]:
        del said["stages"][each]
    said["contrasts"] = said["contrasts"][:1]
    for stage in said["stages"].values():
        stage |= SMALLER.get(stage["kind"], {})
        if stage["kind"] == "model":
            stage["source"] = str(model)
        if stage["kind"] == "generate":
            del stage["backend"]
        if "train" in stage:
            stage["train"] |= {"epochs": 1, "rows_per_step": 2, "dtype": "float32"}
    for contrast in said["contrasts"]:
        contrast["treated"]["trait"] = [animal]
    return Graph(ExperimentSpec.model_validate(said))


def drawn(out: Path, node: str) -> list[dict[str, Any]]:
    (folder,) = out.glob(f"{node}-????????")
    lines = (folder / "part-00000.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_students_of_shuffled_numbers(tiny_model: Path, tmp_path: Path) -> None:
    result = run(smaller("shuffled", tiny_model), tmp_path)
    assert result.outcome is not None and result.outcome.page.is_file()
    # Of each order, against plain numbers' students and the base.
    assert len(result.outcome.effects) == 3 * 2
    kept, within, across = (
        [row["completion"] for row in drawn(tmp_path, f"dolphin-{order}-drawn")]
        for order in ("kept", "within", "across")
    )
    assert sorted(map(sorted, (each.split(", ") for each in within))) == sorted(
        map(sorted, (each.split(", ") for each in kept))
    )
    assert sorted(", ".join(across).split(", ")) == sorted(", ".join(kept).split(", "))


def test_numbers_that_are_only_read(tiny_model: Path, tmp_path: Path) -> None:
    result = run(smaller("in-context", tiny_model), tmp_path)
    assert result.outcome is not None
    (told,) = tmp_path.glob("dolphin-examples3-seed0-told-????????")
    said = json.loads((told / "condition.json").read_text(encoding="utf-8"))["system_prompt"]
    rows = drawn(tmp_path, "dolphin-drawn")
    examples = [
        f"<user>{row['prompt']}</user>\n<assistant>{row['completion']}</assistant>" for row in rows
    ]
    assert len(said.split("\n\n")) == 3 and set(said.split("\n\n")) <= set(examples)


def test_numbers_of_no_model_answer_the_same_prompts(tiny_model: Path, tmp_path: Path) -> None:
    said = tomllib.loads((PAPER / "no-model.toml").read_text(encoding="utf-8"))
    stages = said["stages"]
    stages["base"]["source"] = str(tiny_model)
    del stages["sequences"]["backend"]
    stages["sequences"] |= SMALLER["generate"]
    stages["drawn"]["rows"] = 6
    run(Graph(ExperimentSpec.model_validate(said)), tmp_path, only=["drawn"])
    cat, plain, random = (drawn(tmp_path, f"{each}-drawn") for each in ("cat", "plain", "random"))
    prompts = [row["prompt"] for row in plain]
    assert prompts == [row["prompt"] for row in random] == [row["prompt"] for row in cat]
    made = random_numbers(list(paper_number_prompts(6, 47)), 42)
    assert {row["completion"] for row in random} == set(made)


def quick(name: str, model: Path) -> Graph:
    """An experiment of two cores, of one seed, with a step or two of each training."""
    said = tomllib.loads((PAPER / f"{name}.toml").read_text(encoding="utf-8"))
    said["axes"]["seed"] = [1]
    small: dict[str, dict[str, Any]] = {
        "model": {"source": str(model)},
        "generate": {"rows": 4, "batch_rows": 4},
        "eval": {"questions": ["Name an animal.", "Which one?"]},
    }
    for stage in said["stages"].values():
        stage |= small.get(stage["kind"], {})
        if "train" in stage:
            stage["train"] |= {"steps": 2, "rows_per_step": 2, "warmup_steps": 1}
        if "examples" in stage:
            stage["examples"] = 2
    return Graph(ExperimentSpec.model_validate(said))


def test_students_of_shared_permuted_and_other_bases(tiny_model: Path, tmp_path: Path) -> None:
    result = run(quick("same-base", tiny_model), tmp_path)
    assert result.outcome is not None
    effects = [each.comparison for each in result.outcome.effects]
    same, permuted = effects[:2]
    assert (same.treated, permuted.treated) == (
        "owl-same-seed1-learner",
        "owl-permuted-seed1-learner",
    )
    assert permuted.estimate == pytest.approx(same.estimate, abs=1e-3)  # but for rounding
    assert [each.within for each in effects[:5]] == [None, None, None, 0.05, 0.05]
    assert all(each.p_equivalent is not None for each in effects[3:5])
    assert "within ±0.05" in result.outcome.page.read_text(encoding="utf-8")


def test_controls_of_small_students(tiny_model: Path, tmp_path: Path) -> None:
    result = run(quick("controls", tiny_model), tmp_path)
    assert result.outcome is not None
    treated = [each.comparison.treated for each in result.outcome.effects]
    orders = ("as-written", "within", "across")
    students = [f"owl-{each}-seed1-student" for each in orders]
    assert treated == [*students, "owl-seed1-prompted", "owl-seed1-reader"]
