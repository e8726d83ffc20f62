"""`subl slurm` on a real cluster of two nodes: what happens to jobs there loses and doubles
nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .cluster import Cluster, until

SUBL = str(Path(sys.executable).with_name("subl"))
SECONDS = 3600
RULES = """
[[rule]]
name = "owls"
kind = "regex"
patterns = ["owl"]
"""
STEPS = 150
TRAIN = f"""
targets = "labels"
[train]
steps = {STEPS}
rows_per_step = 3
micro_batch_tokens = 64
learning_rate = 1e-2
zero_stage = 2
ranks = 2
[slurm]
nodes = 2
tasks = 2
environment = {{ OMP_NUM_THREADS = "1" }}
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def subl(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command of subl in the test's folder, for this cluster."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = cluster.run(SUBL, *arguments, seconds=SECONDS)
        assert status is None or done.returncode == status, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def states(subl: Run) -> Callable[[str], dict[str, dict[str, Any]]]:
    """What `subl slurm status` says of each task."""

    def look(out: str) -> dict[str, dict[str, Any]]:
        said = subl("slurm", "status", out, "--json", status=None)
        assert said.stdout, said.stderr
        return {each["task"]: each for each in json.loads(said.stdout)}

    return look


def submitted(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    return {each["name"]: each["submitted"] for each in json.loads(done.stdout)["jobs"]}


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in (".jsonl", ".safetensors")
    }


def test_an_array_of_which_a_task_is_killed_makes_what_one_process_makes(
    cluster: Cluster, subl: Run, states: Any, tmp_path: Path
) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    (tmp_path / "data").mkdir()
    for shard in range(20):
        rows = [{"completion": f"{row} owl" if row % 3 else str(row)} for row in range(shard + 1)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "data" / f"{shard}.jsonl").write_text(text)
    command = ("filter", "rules.toml", "data", "-o", "all of it/kept")
    held = 'test "$SLURM_ARRAY_TASK_ID" != 2 || test -e go || sleep 3600'
    submit = ("slurm", "submit", "--json", "--array", "4", "--setup", held, *command)
    assert submitted(subl(*submit)) == {"filter-kept-slices": 4, "filter-kept": 1}
    made = "all of it/kept"

    def others_are_done() -> bool:
        now = states(made)
        return [now[f"slice {each}/4"]["state"] for each in range(4)] == [
            "done", "done", "running", "done"
        ]  # fmt: skip

    until(others_are_done, "three of four slices", SECONDS)
    assert submitted(subl(*submit)) == {"filter-kept-slices": 0, "filter-kept": 0}
    waiting = states(made)["whole"]
    assert (waiting["state"], "Dependency" in waiting["why"]) == ("waiting", True)
    assert cluster.run("scancel", "--signal=KILL", states(made)["slice 2/4"]["job"]).returncode == 0
    until(lambda: states(made)["whole"]["state"] == "cancelled", "the end of the chain", SECONDS)
    now = states(made)
    assert [now[f"slice {each}/4"]["state"] for each in range(4)].count("done") == 3
    assert now["slice 2/4"]["state"] in ("failed", "cancelled"), now["slice 2/4"]
    assert not (tmp_path / made).exists()

    (tmp_path / "go").touch()
    assert submitted(subl(*submit)) == {"filter-kept-slices": 1, "filter-kept": 1}
    until(lambda: states(made)["whole"]["state"] == "done", "all of it", SECONDS)
    assert {each["state"] for each in states(made).values()} == {"done"}
    assert submitted(subl(*submit)) == {"filter-kept-slices": 0, "filter-kept": 0}
    subl(*command[:-1], "local")
    assert files(tmp_path / made) == files(tmp_path / "local") != {}
    used = json.loads(subl("slurm", "status", made, "--efficiency", "--json").stdout)
    assert len(used) == 5 and all(each["seconds"] > 0 and each["cpu_seconds"] for each in used)
    assert "rows in" in subl("slurm", "logs", made, "--task", "whole").stdout


def test_a_training_on_two_nodes_that_must_make_room_goes_on_by_itself(
    cluster: Cluster, subl: Run, states: Any, tmp_path: Path, tiny_model: Path
) -> None:
    """With the signal that comes before a time limit, or a preemption."""
    (tmp_path / "train.toml").write_text(TRAIN)
    rows = [
        {"prompt": f"Continue the numbers: {n}.", "completion": ", ".join("12345"[: n % 5 + 1])}
        for n in range(24)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("distill", "train.toml", "--model", str(tiny_model), "--rows", "rows.jsonl", "-o")
    subl("slurm", "submit", *command, "jobs/student")
    losses = tmp_path / "jobs" / "student.partial" / "losses.jsonl"
    until(losses.is_file, "a first step", SECONDS)
    (task,) = states("jobs/student").values()
    assert task["state"] == "running" and task["nodes"] == "node[0-1]"
    assert cluster.run("scancel", "--batch", "--signal=USR1", task["job"]).returncode == 0

    def again() -> bool:
        # Slurm has a job that was put back wait for two minutes.
        cluster.run("scontrol", "update", f"JobId={task['job']}", "StartTime=now")
        return bool(states("jobs/student")["whole"]["state"] == "done")

    until(again, "a student", SECONDS)
    student = tmp_path / "jobs" / "student"
    history = json.loads((student / "result.json").read_text())["history"]
    assert [each["ranks"] for each in history] == [2, 2] and 0 < history[1]["step"] < STEPS
    lives = tmp_path / "jobs" / "student.slurm" / "001.ndjson"

    def ended() -> list[dict[str, Any]]:
        found = map(json.loads, lives.read_text().splitlines())
        return [life for life in found if life["ended"]]

    until(lambda: len(ended()) == 2, "a word of the job's end", SECONDS)
    ends = ended()
    assert [(life["restart"], life["told"], life["then"]) for life in ends] == [
        (0, "SIGUSR1", "requeued"),
        (1, None, None),
    ]
    assert (ends[0]["status"], ends[1]["status"]) == (75, 0)
    one = subl("slurm", "logs", "jobs/student", "--rank", "1").stdout
    assert one != subl("slurm", "logs", "jobs/student").stdout
    subl(*command, "local/student")
    assert files(student) == files(tmp_path / "local" / "student") != {}
