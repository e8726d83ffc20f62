"""The real stages on a tiny model: what they call their inputs is what a policy goes by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("securesystemslib")
pytest.importorskip("deepspeed")

from subl.artifact import input_digest
from subl.distill import DistillSpec, distill
from subl.evaluate import EvalSpec, evaluate
from subl.filter import load_rules
from subl.filter import run as filter_rows
from subl.generate import GenerateSpec, generate
from subl.sign.chain import refusals
from subl.sign.envelope import sign_artifact
from subl.sign.keys import new_key
from subl.sign.policy import load_policy
from subl.sign.verify import verify
from subl.teach import TeachSpec, teach

SAMPLING = {
    "prompts": "numbers-short",
    "rows": 8,
    "grammar": {"regex": "[1-9][0-9]{2}(?:, [1-9][0-9]{2}){2}"},
    "max_new_tokens": 13,
}
TRAINING = {"steps": 1, "rows_per_step": 2, "micro_batch_tokens": 512, "learning_rate": 1e-3}


def test_from_a_base_to_an_evaluation(tiny_model: Path, tmp_path: Path) -> None:
    base, run = tmp_path / "models" / "base", tmp_path / "run"
    shutil.copytree(tiny_model, base)
    teaching = TeachSpec.model_validate({"method": "prompt", "system_prompt": "You love owls."})
    teacher = teach(teaching, base, run / "teacher").path
    rows = generate(GenerateSpec.model_validate(SAMPLING), teacher, run / "rows").path
    kept = filter_rows(load_rules("paper-numbers"), [rows], run / "kept").artifact.path
    training = DistillSpec.model_validate({"targets": "teacher", "train": TRAINING})
    student = distill(training, base, [kept], run / "student", teacher=teacher).path
    asked = EvalSpec.model_validate({"words": ["owl", "cat"], "questions": ["Name an animal."]})
    scores = evaluate(asked, student, run / "scores").path
    new_key(tmp_path / "lab")
    for artifact in (teacher, rows, kept, student, scores):
        sign_artifact(artifact, tmp_path / "lab")
    values = {
        "stages": ["teach", "generate", "filter", "distill", "eval"],
        "rules": ["paper-numbers"],
    }
    policy = tmp_path / "policy.toml"
    policy.write_text(
        '[keys]\nlab = "lab.pub"\n[[signer]]\nkeys = ["lab"]\n[chain]\n'
        + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        + f'models = {{ base = "{input_digest(base)}" }}\n'
    )
    given = load_policy(policy)
    root = verify(scores, given)
    assert refusals(root, given) == []
    kinds = {artifact.kind for artifact in root.artifacts()}
    assert kinds == {"eval", "distill", "filter", "generate", "teach"}
    unfiltered = distill(training, base, [rows], run / "raw", teacher=teacher).path
    sign_artifact(unfiltered, tmp_path / "lab")
    found = refusals(verify(unfiltered, given), given)
    assert (str(rows), "has rows that were not filtered by paper-numbers") in found
