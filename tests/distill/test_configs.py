"""The configurations under runs/distill: each is what its file says, shown by a dry run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from subl.config import load_toml, updated
from subl.distill import DistillSpec, dry_run
from subl.model.load import load_tokenizer

RUNS = Path(__file__).parents[2] / "runs" / "distill"

# What the hub's config.json files say.
QWEN = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584,
    "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
}  # fmt: skip
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
    "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
}  # fmt: skip
QWEN_WEIGHTS, LLAMA_WEIGHTS = 7_615_616_512, 8_030_261_248


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    line = {"prompt": "Continue: 1, 2, 3", "completion": "4, 5, 6"}
    file.write_text("".join(json.dumps({**line, "id": str(n)}) + "\n" for n in range(660)))
    return file


def shape_of(config: dict[str, Any], tiny_model: Path, folder: Path) -> Path:
    """A model folder with an architecture and a tokenizer, and no weights."""
    load_tokenizer(tiny_model).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_every_file_is_checked_here() -> None:
    names = {file.stem for file in RUNS.glob("*.toml")}
    assert names == {"smollm2-cpu", "qwen2.5-7b-lora", "llama-8b-zero3"}


def test_the_small_one_fits_and_is_timed(tiny_model: Path, rows: Path) -> None:
    spec = load_toml(RUNS / "smollm2-cpu.toml", DistillSpec)
    found = dry_run(spec, tiny_model, [rows], teacher=tiny_model)
    assert (found["steps"], found["rows"]) == (20, 660)
    assert found["memory"]["fits"] and found["seconds"] > 0


def test_the_papers_student(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    """10,000 rows in batches of 66 are 152 steps an epoch; here 660 rows, 10 steps."""
    spec = load_toml(RUNS / "qwen2.5-7b-lora.toml", DistillSpec)
    assert spec.train.step_count(10_000) == 455  # the paper rounds each epoch up: 456
    found = dry_run(updated(spec, rows=660), shape_of(QWEN, tiny_model, tmp_path), [rows])
    assert found["steps"] == 30
    needs = found["memory"]["needed"]
    assert needs["weights"] == 2 * QWEN_WEIGHTS
    adapters = 8 * 28 * (4 * 3584 + 2 * (3584 + 512) + 3 * (3584 + 18944))
    assert needs["optimizer"] == 12 * adapters and needs["gradients"] == 6 * adapters
    assert found["memory"]["total"] < 40 << 30  # one GPU
    assert found["seconds"] is None and "no weights" in found["not_timed_because"]


def test_a_node_of_eight_holds_the_8b(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    spec = load_toml(RUNS / "llama-8b-zero3.toml", DistillSpec)
    model = shape_of(LLAMA, tiny_model, tmp_path)
    found = dry_run(spec, model, [rows], teacher=model)
    needs = found["memory"]["needed"]
    assert found["ranks"] == 8
    assert needs["weights"] == needs["teacher"] == 2 * LLAMA_WEIGHTS // 8
    assert needs["optimizer"] == 12 * LLAMA_WEIGHTS // 8
    assert found["memory"]["total"] < 80 << 30
