"""What the tests of jobs build on: ranks as Slurm names them, signals that arrive, no remains."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .cluster import READY_SECONDS, Cluster, running_cluster, until

PRINT_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"

# One file says that a rank can be signalled, the other that it was.
STOP_ON_USR1 = """\
import os, pathlib, signal, sys
folder, rank = pathlib.Path(sys.argv[1]), os.environ["SLURM_PROCID"]

def stop(*_):
    (folder / f"caught.{rank}").touch()
    sys.exit(75)

signal.signal(signal.SIGUSR1, stop)
(folder / f"ready.{rank}").touch()
while True:
    signal.pause()
"""


def environments(folder: Path) -> list[dict[str, str]]:
    """What ranks 0 and 1 of `srun --output=FOLDER/%t` printed. (In one output, long lines mix.)"""
    return [json.loads((folder / str(rank)).read_text()) for rank in (0, 1)]


def submit(cluster: Cluster, script: str, *options: str) -> str:
    """The id of a batch job that runs `script`."""
    done = cluster.run("sbatch", "--parsable", *options, f"--wrap={script}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait_for_end(cluster: Cluster, job: str, seconds: float = READY_SECONDS) -> dict[str, str]:
    """What Slurm says about a batch job when it has ended."""

    def fields() -> dict[str, str]:
        words = cluster.run("scontrol", "--oneliner", "show", "job", job).stdout.split()
        return {key: value for key, _, value in (word.partition("=") for word in words)}

    def ended() -> bool:
        return fields()["JobState"] not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")

    until(ended, f"the end of job {job}", seconds)
    return fields()


def lives(process: int) -> bool:
    """Not so a zombie, which has no command line left; init reaps orphans when it likes to."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_tasks_of_srun_know_their_place(cluster: Cluster, tmp_path: Path) -> None:
    output = f"--output={tmp_path}/%t"
    done = cluster.srun("--ntasks=2", output, sys.executable, "-c", PRINT_ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    first, second = environments(tmp_path)
    assert [first["SLURM_PROCID"], second["SLURM_PROCID"]] == ["0", "1"]
    assert [first["SLURM_LOCALID"], second["SLURM_LOCALID"]] == ["0", "1"]
    for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_JOB_NODELIST", "SLURM_STEP_NODELIST"):
        assert first[name] == second[name] != ""
    assert first["SLURM_NTASKS"] == second["SLURM_NTASKS"] == "2"
    assert first["SLURM_STEP_ID"] == "0"
    assert first["SLURM_CONF"] == cluster.environment["SLURM_CONF"]


def test_tasks_of_a_batch_job_find_its_first_host(cluster: Cluster, tmp_path: Path) -> None:
    step = ["srun", f"--output={tmp_path}/%t", sys.executable, "-c", PRINT_ENVIRONMENT]
    script = f'{shlex.join(step)}\nscontrol show hostnames "$SLURM_JOB_NODELIST"'
    output = tmp_path / "out"
    job = submit(cluster, script, "--ntasks=2", f"--output={output}")
    assert wait_for_end(cluster, job)["JobState"] == "COMPLETED", output.read_text()
    first, second = environments(tmp_path)
    assert [first["SLURM_PROCID"], second["SLURM_PROCID"]] == ["0", "1"]
    assert first["SLURM_NTASKS"] == second["SLURM_NTASKS"] == "2"
    assert first["SLURM_JOB_ID"] == second["SLURM_JOB_ID"] == job
    assert output.read_text().split() == [first["SLURM_JOB_NODELIST"]]


def test_a_signal_reaches_every_task_of_a_batch_job(cluster: Cluster, tmp_path: Path) -> None:
    program = tmp_path / "stop_on_usr1.py"
    program.write_text(STOP_ON_USR1)
    script = shlex.join(["srun", sys.executable, str(program), str(tmp_path)])
    output = tmp_path / "out"
    job = submit(cluster, script, "--ntasks=2", f"--output={output}")
    ready = [tmp_path / f"ready.{rank}" for rank in (0, 1)]
    until(lambda: all(path.exists() for path in ready), "two tasks that await a signal")
    assert cluster.run("scancel", "--signal=USR1", job).returncode == 0
    ended = wait_for_end(cluster, job)
    assert all((tmp_path / f"caught.{rank}").exists() for rank in (0, 1)), output.read_text()
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "75:0")


# `cluster` below decides whether there is a Slurm to start another one from.


def test_nothing_outlives_the_cluster(cluster: Cluster, tmp_path: Path) -> None:
    """Not even a task that hears no signal and hides its environment, nor a job that waits."""
    stubborn = f"trap '' TERM; mkdir {tmp_path}/$$; sleep 600"
    with running_cluster() as other:
        step = shlex.join(["srun", "env", "-i", "/bin/sh", "-c", stubborn])
        submit(other, step, "--ntasks=2", "--output=/dev/null")
        submit(other, step, "--ntasks=2", "--output=/dev/null")
        until(lambda: len(list(tmp_path.iterdir())) == 2, "two tasks")
        tasks = [int(path.name) for path in tmp_path.iterdir()]
        processes = other.processes()
        assert len(processes) > 3
        assert all(map(lives, tasks))
        assert not set(tasks) & set(processes)
    assert not any(map(lives, [*processes, *tasks]))
    assert not other.processes()
    assert not other.folder.exists()
    assert cluster.srun("true").returncode == 0


def test_a_daemon_that_does_not_start_is_named_with_what_it_said(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "slurmd"
    broken.write_text('#!/bin/sh\necho "I dislike $SLURM_CONF"\nexit 3\n')
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    failure = pytest.raises(RuntimeError, match="slurmd node0 ended, status 3:\nI dislike")
    with failure as raised, running_cluster():
        pass
    configuration = Path(str(raised.value).split()[-1])
    assert not configuration.parent.exists()
    assert not Cluster(configuration.parent, {"SLURM_CONF": str(configuration)}).processes()


def test_daemons_die_with_a_test_run_that_is_killed(cluster: Cluster) -> None:
    code = (
        "from cluster import running_cluster\n"
        "import os, signal\n"
        "with running_cluster() as running:\n"
        "    print(running.folder, *running.processes(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    folder, *processes = done.stdout.split()
    assert len(processes) >= 3, done.stderr
    until(lambda: not any(lives(int(process)) for process in processes), "the daemons' end")
    shutil.rmtree(folder)
