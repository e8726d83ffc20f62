"""What minds a command inside a job: signals passed on, ends written down, restarts bounded."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from subl.cluster.heartbeat import BEAT_SECONDS, VARIABLE, Beat, Heartbeat, read_beat
from subl.errors import ConfigError
from subl.progress import Progress
from subl.slurm.book import STOPPED, Book, Life, beat_file
from subl.slurm.client import Client
from subl.slurm.work import InJob, why_not_again, work

CLIENT = Client(seconds=5, tries=2, pause_seconds=0)

# Saves when it is told to, as commands of subl do; and has the job told.
SAVES = f"""
import os, signal, sys
def save(*_):
    sys.exit(int(sys.argv[2]) if sys.argv[2:] else {STOPPED})
signal.signal(signal.SIGUSR1, save)
os.kill(os.getppid(), int(sys.argv[1]))
while True:
    signal.pause()
"""


@pytest.fixture
def requeues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scontrol that writes down its calls; what they are."""
    calls = tmp_path / "calls"
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return calls


def start(book: Path, *code: str, restart: int = 0, restarts: int = 9) -> tuple[int, Life]:
    """Run a command as task 3 of an array; the status, and what was written down."""
    environment = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3",
                   "SLURM_RESTART_COUNT": str(restart)}  # fmt: skip
    book.mkdir(exist_ok=True)
    words = [sys.executable, "-c", *code]
    status = work(book, "001", words, restarts=restarts, environment=environment, client=CLIENT)
    return status, Book(book).lives("001", 3)[-1]


def test_an_end_is_written_down(tmp_path: Path) -> None:
    status, life = start(tmp_path / "b", "import sys; sys.exit(3)")
    assert (status, life.status, life.told, life.then) == (3, 3, None, None)
    assert (life.job, life.restart) == ("7", 0) and life.ended is not None
    assert life.most_memory is not None and life.most_memory > 2**20


def test_a_command_that_is_killed(tmp_path: Path) -> None:
    status, life = start(tmp_path / "b", "import os; os.kill(os.getpid(), 9)")
    assert (status, life.status, life.killed_by) == (137, None, "SIGKILL")


def test_what_saved_in_time_is_put_back_alone(tmp_path: Path, requeues: Path) -> None:
    status, life = start(tmp_path / "b", SAVES, "10")
    assert (status, life.told, life.then) == (STOPPED, "SIGUSR1", "requeued")
    assert requeues.read_text() == "requeue 7_3\n"


def test_what_fails_while_it_saves_has_failed(tmp_path: Path, requeues: Path) -> None:
    status, life = start(tmp_path / "b", SAVES, "10", "2")
    assert (status, life.status, life.told, life.then) == (2, 2, "SIGUSR1", None)
    assert not requeues.exists()


def test_what_is_cancelled_saves_and_is_not_put_back(tmp_path: Path, requeues: Path) -> None:
    status, life = start(tmp_path / "b", SAVES, "15")
    assert (status, life.told, life.then) == (STOPPED, "SIGTERM", None)
    assert not requeues.exists()


def test_two_starts_that_come_no_further_are_the_last(tmp_path: Path, requeues: Path) -> None:
    book = tmp_path / "b"
    book.mkdir()
    for restart, done in enumerate([4, 8, 8, 8]):
        beat = {"time": "", "host": "", "task": "train", "done": done, "total": 9, "unit": "steps"}
        beat_file(book, "001", 3).write_text(json.dumps(beat))
        status, life = start(book, SAVES, "10", restart=restart)
        assert status == STOPPED
    assert life.then == "not requeued: two starts came no further"
    assert len(requeues.read_text().splitlines()) == 3


def test_restarts_are_bounded() -> None:
    life = Life("7", 0, "n", "", ended="x", status=STOPPED, then="requeued")
    lives = [replace(life, restart=number, done=("train", number)) for number in range(3)]
    assert why_not_again(lives, 4) is None
    said = why_not_again(lives, 3)
    assert said is not None and "3 times, of 3 at most" in said


def test_a_site_that_requeues_nothing(tmp_path: Path, requeues: Path) -> None:
    refusing = requeues.parent / "bin" / "scontrol"
    refusing.write_text("#!/bin/sh\necho Requested operation is presently disabled >&2\nexit 1\n")
    status, life = start(tmp_path / "b", SAVES, "10")
    assert status == STOPPED
    assert life.then is not None and "presently disabled" in life.then


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    environment = {"SLURM_JOB_ID": "12"}
    with pytest.raises(ConfigError, match="cannot run no-such-program"):
        work(tmp_path / "b", "001", ["no-such-program"], restarts=0, environment=environment)
    assert Book(tmp_path / "b").lives("001", None)[-1].status == 127
    with pytest.raises(ConfigError, match="no job of Slurm"):
        InJob.of({})


def test_a_heartbeat_is_written_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    moment = 0.0
    heartbeat = Heartbeat(tmp_path / "beat.json", lambda: moment)

    def beat() -> Beat:
        found = read_beat(tmp_path / "beat.json")
        assert found is not None
        return found

    heartbeat.report(Progress("train", 100, 400, "steps", skipped=100))
    moment = BEAT_SECONDS / 2
    heartbeat.report(Progress("train", 150, 400, "steps", "loss 1", skipped=100))
    assert (beat().done, beat().seconds_left) == (100, None)
    heartbeat.end()
    assert (beat().done, beat().note, beat().seconds_left) == (150, "loss 1", 25)
    moment = 2 * BEAT_SECONDS
    heartbeat.report(Progress("train", 300, 400, "steps", skipped=100))
    assert (beat().done, beat().seconds_left) == (300, 10)
    heartbeat.report(Progress("run", 1, 2, "nodes", run_seconds_left=5.0))
    heartbeat.end()
    assert (beat().task, beat().seconds_left) == ("run", 5)


def test_of_several_ranks_the_first_has_a_heartbeat(tmp_path: Path) -> None:
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x"}
    asked = {VARIABLE: str(tmp_path / "beat.json")}
    assert Heartbeat.asked_for(asked | ranks) is not None
    assert Heartbeat.asked_for(asked | ranks | {"RANK": "1"}) is None
    assert Heartbeat.asked_for(ranks) is None
