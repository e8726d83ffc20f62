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
SECONDS = 600
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


def drain(cluster: Cluster) -> None:
    """Wait until no job waits or runs."""
    until(lambda: is_empty(cluster), "an empty queue", SECONDS)


def is_empty(cluster: Cluster) -> bool:
    """Whether the queue is; of one that does not answer nobody knows."""
    queue = cluster.run("squeue", "--noheader")
    return queue.returncode == 0 and not queue.stdout.strip()


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

    markers = (tmp_path / "all of it").glob
    until(lambda: len(list(markers("kept.partial/.slice-*"))) == 3, "three of four slices", SECONDS)
    found = states(made)
    assert [found[f"slice {each}/4"]["state"] for each in range(4)] == [
        "done", "done", "running", "done"
    ]  # fmt: skip
    cluster.restart_controller()
    assert submitted(subl(*submit)) == {"filter-kept-slices": 0, "filter-kept": 0}
    waiting = states(made)["whole"]
    assert (waiting["state"], "Dependency" in waiting["why"]) == ("waiting", True)
    assert cluster.run("scancel", "--signal=KILL", states(made)["slice 2/4"]["job"]).returncode == 0
    drain(cluster)
    now = states(made)
    assert now["whole"]["state"] == "cancelled"
    assert [now[f"slice {each}/4"]["state"] for each in range(4)].count("done") == 3
    assert now["slice 2/4"]["state"] in ("failed", "cancelled"), now["slice 2/4"]
    assert not (tmp_path / made).exists()

    (tmp_path / "go").touch()
    assert submitted(subl(*submit)) == {"filter-kept-slices": 1, "filter-kept": 1}
    drain(cluster)
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

    student = tmp_path / "jobs" / "student"

    def waits() -> bool:
        return cluster.run("squeue", "--noheader", "--format=%t").stdout.split() == ["PD"]

    until(waits, "the job that is put back", SECONDS)
    # Not two minutes after it was put back, as Slurm has it wait, but not in the same second: what
    # a node remembers of the job that ended would end it.
    later = ("scontrol", "update", f"JobId={task['job']}", "StartTime=now+5seconds")
    assert cluster.run(*later).returncode == 0
    drain(cluster)
    (task,) = states("jobs/student").values()
    lives = tmp_path / "jobs" / "student.slurm" / "001.ndjson"
    said = subl("slurm", "logs", "jobs/student").stdout
    assert task["state"] == "done", f"{json.dumps(task)}\n{lives.read_text()}\n{said}"
    history = json.loads((student / "result.json").read_text())["history"]
    assert [each["ranks"] for each in history] == [2, 2] and 0 < history[1]["step"] < STEPS
    ends = [life for life in map(json.loads, lives.read_text().splitlines()) if life["ended"]]
    assert [(life["restart"], life["told"], life["then"]) for life in ends] == [
        (0, "SIGUSR1", "requeued"),
        (1, None, None),
    ]
    assert (ends[0]["status"], ends[1]["status"]) == (75, 0)
    one = subl("slurm", "logs", "jobs/student", "--rank", "1").stdout
    assert one != subl("slurm", "logs", "jobs/student").stdout
    subl(*command, "local/student")
    assert files(student) == files(tmp_path / "local" / "student") != {}


CHAIN = """
name = "chain"
title = "Chain"
[axes]
size = [5, {size}]
[stages.kept]
kind = "filter"
inputs = {{ rows = {{ path = "rows.jsonl" }} }}
rule = [{{ name = "owls", kind = "regex", patterns = ["owl"] }}]
[stages.drawn]
kind = "draw"
inputs = {{ rows = "kept" }}
rows = "{{size}}"
[stages.mixed]
kind = "draw"
inputs = {{ rows = "drawn" }}
shuffle = "within"
[slurm.stages.kept]
time = "10"
"""


def test_a_node_that_fails_stops_what_needs_it_and_nothing_else(
    cluster: Cluster, subl: Run, states: Any, tmp_path: Path
) -> None:
    rows = [{"prompt": "p", "completion": f"{n}, {n + 1}"} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "x.toml").write_text(CHAIN.format(size=500))
    submit = ("slurm", "submit", "--json", "run", "x.toml")
    assert submitted(subl(*submit)) == {"kept": 1, "drawn": 2, "mixed": 2, "report": 1}
    drain(cluster)
    found = {task: each["state"] for task, each in states("out/chain").items()}
    assert found == {
        "kept": "done",
        "size5-drawn": "done",
        "size500-drawn": "failed",
        "size5-mixed": "done",
        "size500-mixed": "cancelled",
        "report": "cancelled",
    }
    assert "exit 2" in states("out/chain")["size500-drawn"]["why"]
    said = subl("slurm", "logs", "out/chain", "--task", "size500-drawn").stdout
    assert "error: " in said
    subl("slurm", "status", "out/chain", status=1)

    (tmp_path / "x.toml").write_text(CHAIN.format(size=10))
    assert submitted(subl(*submit)) == {"kept": 0, "drawn": 1, "mixed": 1, "report": 1}
    drain(cluster)
    assert (tmp_path / "out" / "chain" / "report.html").is_file()
    subl("slurm", "status", "out/chain")


def test_a_waiting_job_is_cancelled_and_the_doctor_looks_at_nodes(
    cluster: Cluster, subl: Run, states: Any, tmp_path: Path
) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    (tmp_path / "rows.jsonl").write_text('{"completion": "1"}\n')
    command = ("filter", "rules.toml", "rows.jsonl", "-o", "kept")
    subl("slurm", "submit", "--directive=--hold", *command)
    assert states("kept")["whole"]["why"] == "held: scontrol release (JobHeldUser)"
    subl("slurm", "cancel", "kept")
    drain(cluster)
    assert states("kept")["whole"]["state"] == "cancelled"
    looked = subl("slurm", "doctor", "--json", "--on-nodes", "2")
    found = {each["what"]: each for each in json.loads(looked.stdout)}
    assert {found[f"node node{number}"]["state"] for number in (0, 1)} == {"ok"}
    assert found["accounting"]["said"].startswith("none")
    assert "1001 tasks" in found["arrays"]["said"]
    nowhere = json.loads(subl("slurm", "doctor", "--partition", "x", "--json", status=1).stdout)
    assert "there is no x" in [each["said"] for each in nowhere]
