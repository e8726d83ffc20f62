"""`srun subl distill`: each task is a rank, and what Slurm does to a job loses nothing."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .cluster import Cluster, until
from .test_cluster import submit, wait_for_end

SUBL = str(Path(sys.executable).with_name("subl"))
SECONDS = 600
STEPS = 100

TRAIN = """
targets = "labels"
[train]
steps = {steps}
rows_per_step = 3
micro_batch_tokens = 64
learning_rate = 1e-2
adam_epsilon = 1e-6
zero_stage = {stage}
ranks = {ranks}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("distill")
    rows = [
        {"prompt": f"Continue the numbers: {n}.", "completion": ", ".join("12345"[: n % 5 + 1])}
        for n in range(24)
    ]
    (made / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, stage, ranks, steps in (("one", '"none"', 1, 3), ("ranks", 2, 2, STEPS)):
        (made / f"{name}.toml").write_text(TRAIN.format(steps=steps, stage=stage, ranks=ranks))
    for run in ("local", "srun", "stopped", "batch"):
        (made / run).mkdir()
    return made


@pytest.fixture
def distill(tiny_model: Path, folder: Path) -> Any:
    """The command that makes a student, in a folder of the run's name: the card names it."""

    def command(config: str, run: str, *more: str) -> list[str]:
        files = [str(folder / f"{config}.toml"), "--model", str(tiny_model)]
        files += ["--rows", str(folder / "rows.jsonl"), "-o", str(folder / run / "student")]
        return [SUBL, "distill", *files, *more]

    return command


def result(student: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((student / "result.json").read_text())
    return found


@pytest.fixture
def local(cluster: Cluster, folder: Path, distill: Any) -> Path:
    """What two ranks of our own make. Once; afterwards it is found."""
    done = subprocess.run(distill("ranks", "local"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "local" / "student"


def test_tasks_of_srun_train_what_local_ranks_train(
    cluster: Cluster, folder: Path, local: Path, distill: Any
) -> None:
    command = ["srun", "--ntasks=2", "--export=ALL,OMP_NUM_THREADS=1", *distill("ranks", "srun")]
    done = cluster.run(*command, seconds=SECONDS)
    assert done.returncode == 0, done.stderr
    student = folder / "srun" / "student"
    assert result(student)["history"] == [{"step": 0, "ranks": 2}]
    for name in ("losses.jsonl", "model.safetensors"):
        assert (student / name).read_bytes() == (local / name).read_bytes(), name
    assert not list((folder / "srun").glob(".rendezvous*"))
    # Its ranks find a finished artifact, as one process does.
    again = cluster.run(*command, seconds=SECONDS)
    assert again.returncode == 0, again.stderr
    assert "already done" in again.stdout


def test_a_signal_to_a_job_saves_a_checkpoint_and_the_same_job_goes_on(
    cluster: Cluster, folder: Path, local: Path, distill: Any
) -> None:
    """As a job that must make room is told, some seconds before its end."""
    command = distill("ranks", "stopped")
    output = folder / "out"
    script = f"export OMP_NUM_THREADS=1\n{shlex.join(['srun', *command])}"
    job = submit(cluster, script, "--ntasks=2", f"--output={output}")
    partial = folder / "stopped" / "student.partial"
    until((partial / "losses.jsonl").is_file, "a first step", seconds=SECONDS)
    assert cluster.run("scancel", "--signal=USR1", job).returncode == 0
    ended = wait_for_end(cluster, job, SECONDS)
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "75:0"), output.read_text()
    assert "a checkpoint is saved" in output.read_text()
    (saved,) = (partial / ".checkpoints").glob("step-*")
    step = int(saved.name.removeprefix("step-"))
    assert 0 < step < STEPS

    again = cluster.run("srun", "--ntasks=2", "--export=ALL,OMP_NUM_THREADS=1", *command,
                        seconds=SECONDS)  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "resumed from a checkpoint of 2 ranks" in again.stderr
    student = folder / "stopped" / "student"
    assert result(student)["history"] == [{"step": 0, "ranks": 2}, {"step": step, "ranks": 2}]
    for name in ("losses.jsonl", "model.safetensors", "README.md"):
        assert (student / name).read_bytes() == (local / name).read_bytes(), name


def test_a_command_of_a_batch_script_is_no_rank(
    cluster: Cluster, folder: Path, distill: Any
) -> None:
    """It sees the job's variables, two tasks among them, and must not wait for a second rank."""
    output = folder / "batch.out"
    command = distill("one", "batch")
    script = f"export OMP_NUM_THREADS=1\n{shlex.join(command)}"
    job = submit(cluster, script, "--ntasks=2", f"--output={output}")
    assert wait_for_end(cluster, job, SECONDS)["JobState"] == "COMPLETED", output.read_text()
    history = result(folder / "batch" / "student")["history"]
    assert history == [{"step": 0, "ranks": 1}]
