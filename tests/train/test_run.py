"""Training runs: reproducible, the same with and without DeepSpeed, and loud when they fail."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from subl.artifact import file_digest
from subl.cluster.launch import die_with_parent
from subl.errors import InputError, StageError
from subl.progress import Progress
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


def losses(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


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
    found = [each["loss"] for each in losses(out)]
    assert len(found) == 30 and found[-1] < found[0] / 2


def test_micro_batches_change_nothing(tiny_model: Path, teacher: Path, tmp_path: Path) -> None:
    """Rows have different lengths: this fails where a mean of means stands for the global mean."""
    whole = run(tiny_model, tmp_path / "a", teacher, rows_per_step=8)
    parts = run(tiny_model, tmp_path / "b", teacher, rows_per_step=8, micro_batch_rows=2)
    assert_close(whole, parts, 1e-6)
    for one, many in zip(losses(whole), losses(parts), strict=True):
        assert many == pytest.approx(one, rel=1e-5)
    assert any(
        not torch.equal(tensor, weights(tiny_model)[name])
        for name, tensor in weights(whole).items()
    )


def test_two_ranks_agree_with_one_process(tiny_model: Path, teacher: Path, tmp_path: Path) -> None:
    """The way that a person takes: ranks started, watched and ended by `run_job`."""
    alone = run(tiny_model, tmp_path / "alone", teacher)
    reports: list[Progress] = []
    ranks = job(tiny_model, tmp_path / "ranks", teacher, ranks=2, zero_stage=2, micro_batch_rows=1)
    figures = run_job(ranks, reports.append)
    assert_close(alone, ranks.out, 1e-5)
    for ours, theirs in zip(losses(alone), losses(ranks.out), strict=True):
        assert theirs == pytest.approx(ours, rel=1e-4)
    assert figures["last_loss"] == losses(ranks.out)[-1]["loss"]
    assert [(each.done, each.total) for each in reports] == [(done, 4) for done in range(5)]
    assert {file.name for file in ranks.out.iterdir()} == {file.name for file in alone.iterdir()}


def test_every_zero_stage_agrees_with_one_process(
    tiny_model: Path, teacher: Path, tmp_path: Path
) -> None:
    """Labels and a teacher's targets, one micro-batch a step and two; one launch for them all."""
    alone = {
        taught: run(tiny_model, tmp_path / f"alone-{taught}", teacher if taught else None)
        for taught in (False, True)
    }
    files, pairs = [], []
    for stage, micro, taught in [
        (1, 1, True),
        (1, 8, False),
        (2, 8, False),
        (3, 8, True),
        (3, 1, False),
    ]:
        made = job(
            tiny_model,
            tmp_path / f"{stage}-{taught}",
            teacher if taught else None,
            ranks=2,
            zero_stage=stage,
            micro_batch_rows=micro,
        )
        files.append(made.out.with_suffix(".json"))
        files[-1].write_text(made.model_dump_json())
        pairs.append((alone[taught], made.out))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = Path(__file__).with_name("rank_of_jobs.py")
    ended = subprocess.run(
        [*launch, str(script), *map(str, files)],
        env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        preexec_fn=die_with_parent,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    for one, several in pairs:
        assert_close(one, several, 1e-5)


def test_a_rank_that_fails_is_named_with_its_cause(tmp_path: Path) -> None:
    broken = job(tmp_path / "nowhere", tmp_path / "a", ranks=2, zero_stage=2)
    with pytest.raises(StageError, match="is not a model folder") as error:
        run_job(broken)
    assert error.value.hint and "subl model add" in error.value.hint
    assert not (broken.out / "model.safetensors").exists()
    assert not processes_that_name(broken.out)


def test_a_rank_that_fails_alone_says_why(tmp_path: Path) -> None:
    """Only rank 0 sends events; what another one has to say must reach the log."""
    broken = job(tmp_path / "nowhere", tmp_path / "a", ranks=2, zero_stage=2)
    file = tmp_path / "job.json"
    file.write_text(broken.model_dump_json())
    ended = subprocess.run(
        [sys.executable, "-m", "subl.train.worker", str(file)],
        env={**os.environ, "RANK": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1 and ended.stdout == ""
    assert "is not a model folder" in ended.stderr


def processes_that_name(path: Path) -> list[str]:
    """Command lines of running processes in which `path` occurs (Linux; elsewhere none)."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [each for each in found if str(path) in each]


def test_a_loss_that_is_no_number_stops_the_run(tiny_model: Path, tmp_path: Path) -> None:
    wild = job(tiny_model, tmp_path / "a", learning_rate=1e30, warmup_steps=0)
    with pytest.raises(StageError, match="loss became"):
        run_job(wild)
    assert not (wild.out / "model.safetensors").exists()


def test_no_rows_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    empty = job(tiny_model, tmp_path / "a").model_copy(update={"rows": ()})
    with pytest.raises(InputError, match="no rows"):
        run_job(empty)
