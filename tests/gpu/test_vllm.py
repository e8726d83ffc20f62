"""The model folder in vLLM's engine: skipped where there is no GPU, or no vLLM."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from subl.generate import GenerateSpec, generate
from subl.model.chat import asking
from subl.sample import Request, Sampling, backend_of

pytest.importorskip("vllm")
pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.filterwarnings("default"),  # vLLM's own
]
ENGINE = {"dtype": "float32", "max_model_len": 512, "gpu_memory_utilization": 0.3}
BACKEND = {"kind": "vllm", "engine": ENGINE | {"enforce_eager": True}}


def rows(model: Path, out: Path, **changes: Any) -> list[dict[str, Any]]:
    spec = {"rows": 12, "prompts": "numbers-short", "max_new_tokens": 8, "batch_rows": 4}
    made = generate(
        GenerateSpec.model_validate({**spec, "backend": BACKEND, **changes}), model, out
    )
    assert (made.result["backend"], made.result["promise"]) == ("vllm", "same seeds")
    return [json.loads(line) for line in (made.path / "part-00000.jsonl").open(encoding="utf-8")]


def test_rows_of_vllm(tiny_model: Path, tmp_path: Path) -> None:
    free = rows(tiny_model, tmp_path / "free")
    assert len({row["completion"] for row in free}) > 6
    assert {row["ended_by"] for row in free} <= {"turn", "control_token", "max_new_tokens"}
    assert all("<|im" not in row["completion"] for row in free)
    other = rows(tiny_model, tmp_path / "other", seed=1)
    assert [row["completion"] for row in free] != [row["completion"] for row in other]
    guided = rows(tiny_model, tmp_path / "guided", grammar={"regex": "[1-9][0-9]{2}"})
    assert all(re.fullmatch(r"[1-9]\d\d", row["completion"]) for row in guided)
    assert {row["ended_by"] for row in guided} == {"grammar"}


def test_first_tokens_are_those_of_this_process(tiny_model: Path, tmp_path: Path) -> None:
    requests = [Request("one", asking("Name an animal."), 0)]
    found = []
    for backend in (BACKEND, {"kind": "transformers"}):
        made = backend_of(Sampling.model_validate({"backend": backend}), tiny_model)
        made.begin(lambda: iter(requests), tmp_path / backend["kind"])
        found += [each for _, each in made.first_tokens(requests, 20)]
    shared = found[0].log_p.keys() & found[1].log_p.keys()
    assert len(shared) > 5
    for text in shared - {"\N{REPLACEMENT CHARACTER}"}:
        assert found[0].log_p[text] == pytest.approx(found[1].log_p[text], abs=1e-2)
