"""Training runs: reproducible, the same with and without DeepSpeed, and loud when they fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from subl.artifact import file_digest
from subl.errors import InputError, StageError
from subl.train.loop import TrainJob
from subl.train.run import run_job

ROWS = tuple((f"Continue the numbers: {n}.", ", ".join(str(n + i) for i in range(n % 4 + 1)))
             for n in range(100, 112))  # fmt: skip


def job(model: Path, out: Path, teacher: Path | None = None, **train: Any) -> TrainJob:
    out.mkdir()
    spec = {"steps": 4, "rows_per_step": 4, "learning_rate": 1e-2, **train}
    return TrainJob.model_validate(
        {"task": "t", "model": model, "teacher": teacher, "rows": ROWS, "spec": spec, "out": out}
    )


def run(*arguments: Any, **train: Any) -> Path:
    made = job(*arguments, **train)
    run_job(made)
    return made.out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_close(first: Path, second: Path, tolerance: float) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def teacher(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tiny_model, tmp_path_factory.mktemp("teacher") / "t", steps=8, seed=3)


def test_the_same_job_gives_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    first, second = (run(tiny_model, tmp_path / name) for name in "ab")
    for name in ("model.safetensors", "losses.jsonl"):
        assert file_digest(first / name) == file_digest(second / name)


def test_learning_lowers_the_loss(tiny_model: Path, tmp_path: Path) -> None:
    out = run(tiny_model, tmp_path / "a", steps=30)
    losses = [json.loads(line)["loss"] for line in (out / "losses.jsonl").read_text().splitlines()]
    assert len(losses) == 30 and losses[-1] < losses[0] / 2


def test_micro_batches_change_nothing(tiny_model: Path, teacher: Path, tmp_path: Path) -> None:
    """Rows have different lengths: this fails where a mean of means stands for the global mean."""
    whole = run(tiny_model, tmp_path / "a", teacher)
    parts = run(tiny_model, tmp_path / "b", teacher, micro_batch_rows=1)
    assert_close(whole, parts, 1e-5)
    assert any(
        not torch.equal(tensor, weights(tiny_model)[name])
        for name, tensor in weights(whole).items()
    )


@pytest.mark.parametrize(("stage", "micro", "taught"), [(2, 1, True), (1, 8, False), (3, 1, False)])
def test_two_ranks_under_zero_agree_with_one_process(
    tiny_model: Path, teacher: Path, tmp_path: Path, stage: int, micro: int, taught: bool
) -> None:
    target = teacher if taught else None
    alone = run(tiny_model, tmp_path / "alone", target)
    ranks = run(
        tiny_model, tmp_path / "ranks", target, ranks=2, zero_stage=stage, micro_batch_rows=micro
    )
    assert_close(alone, ranks, 1e-5)


def test_a_rank_that_fails_is_named_with_its_cause(tmp_path: Path, tiny_model: Path) -> None:
    broken = job(tmp_path / "nowhere", tmp_path / "a", ranks=2, zero_stage=2)
    with pytest.raises(StageError, match="is not a model folder"):
        run_job(broken)
    assert not (broken.out / "model.safetensors").exists()


def test_a_loss_that_is_no_number_stops_the_run(tiny_model: Path, tmp_path: Path) -> None:
    wild = job(tiny_model, tmp_path / "a", learning_rate=1e30, warmup_steps=0)
    with pytest.raises(StageError, match="loss became"):
        run_job(wild)


def test_no_rows_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    empty = job(tiny_model, tmp_path / "a").model_copy(update={"rows": ()})
    with pytest.raises(InputError, match="no rows"):
        run_job(empty)
