"""What `subl slurm` makes of Slurm's answers, also of none, and of those that make no sense.

The programs are small ones on the PATH: each does what a file beside it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from subl.cluster.heartbeat import now
from subl.errors import BusyError, ConfigError, InputError, StageError
from subl.slurm.book import About, Book, Life, Submission, lives_file
from subl.slurm.client import Client, state_of
from subl.slurm.job import Job, stage_jobs
from subl.slurm.spec import SlurmSpec, seconds_of
from subl.slurm.status import LOST_SECONDS, TaskState, status
from subl.slurm.submit import Submitted, submit
from subl.slurm.usage import bytes_of, usage
from subl.slurm.watch import cancel, chosen, follow, lines_of

CLIENT = Client(seconds=5, tries=3, pause_seconds=0)
HURRIED = Client(seconds=0.2, tries=2, pause_seconds=0)
HEADER = "\t".join(("JOBID", "ARRAY_TASK", "STATE", "REASON", "NODELIST", "TIME", "COMMENT"))
LIMITED = "slurm_load_jobs error: Socket timed out on send/recv operation"

# Answer number N is in `NAME.N`, or else in `NAME`: shell that prints it. Calls are counted.
PROGRAM = """\
#!/bin/bash
cd {folder}
echo "$@" >> {name}.calls
script={name}.$(wc -l < {name}.calls)
test -e $script || script={name}
source ./$script "$@"
"""


@dataclass(frozen=True)
class Programs:
    """Slurm's commands, of which a test says what they answer."""

    folder: Path

    def say(self, name: str, shell: str, call: int | None = None) -> None:
        (self.folder / (name if call is None else f"{name}.{call}")).write_text(shell)

    def queue(self, *rows: tuple[object, ...]) -> None:
        lines = [HEADER, *("\t".join(map(str, row)) for row in rows)]
        (self.folder / "queue").write_text("\n".join(lines) + "\n")
        self.say("squeue", "cat queue")

    def calls(self, name: str) -> list[str]:
        file = self.folder / f"{name}.calls"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "programs"
    (folder / "bin").mkdir(parents=True)
    for name in ("sbatch", "squeue", "sacct", "scancel", "scontrol"):
        program = folder / "bin" / name
        program.write_text(PROGRAM.format(folder=folder, name=name))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
    found = Programs(folder)
    found.queue()
    found.say("sacct", "echo Slurm accounting storage is disabled >&2; exit 1")
    found.say("sbatch", "echo $((100 + $(wc -l < sbatch.calls)))")
    found.say("scancel", "")
    return found


@pytest.fixture
def book(tmp_path: Path) -> Book:
    found = Book.of(tmp_path / "out")
    found.path.mkdir()
    return found


ABOUT = About("stage", "/w/out", "/w", ["slurm", "submit", "filter"], slices=3)
JOBS = stage_jobs("filter-out", ["subl", "filter"], SlurmSpec(), 3)
SLICES = list(JOBS[0].tasks)


def hand_in(book: Book, *done: str, client: Client = CLIENT) -> dict[str, Submitted]:
    came = submit(book, ABOUT, JOBS, lambda: set(done), client=client)
    return {each.name: each for each in came}


def noted(book: Book, ago: float = 0.0) -> Submission:
    """An array of three tasks that Slurm took as job 7."""
    moment = (datetime.now(UTC) - timedelta(seconds=ago)).isoformat(timespec="seconds")
    tasks: dict[int | None, str] = dict(enumerate(SLICES))
    found = Submission("001", "abc", tasks, moment, job="7")
    book.note(found)
    return found


def lived(book: Book, index: int, **life: object) -> None:
    told: dict[str, object] = {"job": "7", "restart": 0, "host": "n", "started": now(), **life}
    with lives_file(book.path, "001", index).open("a") as file:
        file.write(json.dumps(told) + "\n")


def look(book: Book, *done: str, client: Client = CLIENT) -> dict[str, TaskState]:
    return {each.task: each for each in status(book, SLICES, set(done), client=client)}


# Status


def test_a_status_asks_once_and_says_how_things_stand(programs: Programs, book: Book) -> None:
    noted(book)
    programs.queue(
        (7, 1, "R", "None", "node3", "1:02", "subl:abc"),
        (7, 2, "PENDING", "Priority", "", "0:00", "subl:abc"),
        (8, "N/A", "RUNNING", "None", "node4", "1:02", "another's"),
    )
    beat = {"time": now(), "host": "n", "task": "filter", "done": 5, "total": 9, "unit": "bytes"}
    (book.path / "001-1.beat.json").write_text(json.dumps(beat))
    found = look(book, SLICES[0])
    assert [each.state for each in found.values()] == ["done", "running", "waiting"]
    assert (found[SLICES[1]].nodes, found[SLICES[1]].job) == ("node3", "7_1")
    assert found[SLICES[1]].beat is not None and found[SLICES[1]].beat.done == 5
    assert found[SLICES[2]].why == "behind other jobs (Priority)"
    assert len(programs.calls("squeue")) == 1 and not programs.calls("sacct")


@pytest.mark.parametrize(
    ("state", "reason", "why"),
    [
        ("PENDING", "launch failed requeued held", "could not be started"),
        ("PENDING", "launch_failed_requeued_held", "could not be started"),
        ("PENDING", "InvalidAccount", "no such account"),
        ("PENDING", "BadConstraints", "no machine has"),
        ("PENDING", "ReqNodeNotAvail, UnavailableNodes:n1", "for machines that are down"),
        ("REQUEUE_HOLD", "", "scontrol release"),
        ("REQUEUE_HOLD", "None", "scontrol release"),
        ("PENDING", "None", ""),
        ("PENDING", "NewReason", "NewReason"),
    ],
)
def test_why_a_job_waits(programs: Programs, book: Book, state: str, reason: str, why: str) -> None:
    noted(book)
    programs.queue((7, 1, state, reason, "", "0:00", ""))
    found = look(book)[SLICES[1]]
    assert found.state == "waiting" and (why in found.why if why else not found.why)


def test_what_is_done_needs_no_query(programs: Programs, book: Book) -> None:
    noted(book)
    assert {each.state for each in look(book, *SLICES).values()} == {"done"}
    assert not programs.calls("squeue")


@pytest.mark.parametrize(
    "shell",
    [
        "exec sleep 3600",
        "",
        "head -c 3000 /dev/urandom",
        "echo nonsense",
        f"echo '{LIMITED}' >&2; exit 1",
        "exit 3",
    ],
)
def test_no_answer_is_never_a_failure(programs: Programs, book: Book, shell: str) -> None:
    noted(book, ago=10 * LOST_SECONDS)
    programs.say("squeue", shell)
    found = look(book, SLICES[0], client=HURRIED)
    assert [each.state for each in found.values()] == ["done", "unknown", "unknown"]
    with pytest.raises(StageError, match="does not say which jobs there are"):
        hand_in(book, client=HURRIED)
    assert not programs.calls("sbatch")
    with pytest.raises(StageError, match="does not say"):
        cancel(book, client=HURRIED)


def test_a_limited_rate_is_waited_for(programs: Programs, book: Book) -> None:
    noted(book)
    programs.queue((7, 0, "RUNNING", "None", "n", "1:02", ""))
    programs.say("squeue", f"echo '{LIMITED}' >&2; exit 1", call=1)
    assert look(book)[SLICES[0]].state == "running"
    assert len(programs.calls("squeue")) == 2


def test_a_job_that_left_no_word_is_lost_after_a_while(programs: Programs, book: Book) -> None:
    noted(book, ago=LOST_SECONDS / 2)
    assert {each.state for each in look(book).values()} == {"unknown"}
    noted(book, ago=2 * LOST_SECONDS)
    assert {each.state for each in look(book).values()} == {"lost"}
    lived(book, 0)  # one that began just now
    assert [each.state for each in look(book).values()] == ["unknown", "lost", "lost"]


@pytest.mark.parametrize(
    ("life", "state", "why"),
    [
        ({"status": 2}, "failed", "exit 2"),
        ({"status": 1}, "failed", "a check failed"),
        ({"status": 2, "told": "SIGUSR1"}, "failed", "exit 2"),
        ({"status": 138, "told": "SIGUSR1"}, "resumable", "stopped by SIGUSR1"),
        ({"status": 75, "told": "SIGUSR1", "then": "requeued"}, "resumable", "nearly up"),
        ({"status": 75, "told": "SIGUSR1", "then": "not requeued: x"}, "resumable", "requeued: x"),
        ({"status": 75, "told": "SIGTERM"}, "resumable", "cancelled or preempted"),
        ({"status": None, "killed_by": "SIGKILL"}, "failed", "out of memory"),
        ({"status": None, "killed_by": "SIGSEGV"}, "failed", "killed by SIGSEGV"),
        ({"status": 0}, "lost", "is not there"),
    ],
)
def test_without_accounting_a_jobs_own_word_counts(
    programs: Programs, book: Book, life: Mapping[str, object], state: str, why: str
) -> None:
    noted(book)
    lived(book, 1, ended=now(), **life)
    found = look(book)[SLICES[1]]
    assert (found.state, why in found.why) == (state, True), found.why


@pytest.mark.parametrize(
    ("said", "state", "why"),
    [
        ("TIMEOUT", "resumable", "TIMEOUT"),
        ("TO", "resumable", "TIMEOUT"),
        ("OUT_OF_ME+", "failed", "OUT_OF_MEMORY"),
        ("OOM", "failed", "OUT_OF_MEMORY"),
        ("NODE_FAIL", "resumable", "machine failed"),
        ("PREEMPTED", "resumable", "made room"),
        ("CANCELLED by 1000", "cancelled", "before it began"),
        ("COMPLETED", "lost", "is not there"),
        ("FAILED", "failed", "before subl began"),
        ("", "unknown", "no word"),
    ],
)
def test_what_accounting_says_of_jobs_that_are_gone(
    programs: Programs, book: Book, said: str, state: str, why: str
) -> None:
    submission = noted(book)
    header = (
        "JobID|State|ExitCode|Elapsed|Timelimit|TotalCPU|AllocCPUS|ReqMem|MaxRSS|NodeList|Reason"
    )
    row = f"7_1|{said}|0:0|00:01:00|00:05:00|00:00:30|2|4G||n|None"
    programs.say("sacct", f"echo '{header}'; echo '{row}'; echo 'broken|row'")
    found = look(book)[SLICES[1]]
    assert (found.state, why in found.why) == (state, True), found.why
    (call,) = programs.calls("sacct")
    since = datetime.fromisoformat(submission.submitted).astimezone()
    assert f"--starttime={since:%Y-%m-%dT%H:%M:%S}" in call and "--jobs=7 " in call


def test_states_by_long_and_short_names() -> None:
    said = ["CD", "CANCELLED by 0", "CA+", "COMPLETI+", "R", "RUNNING", "NEW_STATE", ""]
    assert [state_of(each) for each in said] == [
        "COMPLETED", "CANCELLED", "CANCELLED", "COMPLETING", "RUNNING", "RUNNING", "NEW_STATE",
        "UNKNOWN",
    ]  # fmt: skip


# Submit


def test_a_users_own_wishes_reach_sbatch_and_those_of_a_job_do_not(
    programs: Programs, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.say("sbatch", "env >> seen; echo 9")
    said = {
        "SBATCH_ACCOUNT": "me", "SBATCH_TIMELIMIT": "5", "SLURM_CONF": "/c", "SBATCH_WAIT": "1",
        "SLURM_CPUS_PER_TASK": "7", "SBATCH_PARTITION": "p", "SLURM_CLUSTERS": "c",
    }  # fmt: skip
    for name, value in said.items():
        monkeypatch.setenv(name, value)

    def seen() -> set[str]:
        hand_in(book)
        lines = (programs.folder / "seen").read_text().splitlines()
        (programs.folder / "seen").unlink()
        return {name for name in said if f"{name}={said[name]}" in lines}

    assert seen() == said.keys() - {"SBATCH_WAIT"}
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert seen() == {"SBATCH_ACCOUNT", "SLURM_CONF", "SBATCH_PARTITION", "SLURM_CLUSTERS"}


def test_what_a_job_says_overrules_the_environment(programs: Programs, book: Book) -> None:
    spec = SlurmSpec(partition="a", directives=("--exclude 'n 7' # not that",))
    submit(book, ABOUT, stage_jobs("o", ["subl"], spec, None), set, client=CLIENT)
    (call,) = programs.calls("sbatch")
    assert " --partition=a " in call and " --requeue --exclude n 7 --comment=subl:" in call


def test_what_is_missing_is_submitted_once(programs: Programs, book: Book) -> None:
    first = hand_in(book, SLICES[1])
    assert (first["filter-out-slices"].job, first["filter-out-slices"].tasks) == ("101", 2)
    array, last = programs.calls("sbatch")
    assert "--dependency" not in array
    assert "--dependency=afterok:101 --kill-on-invalid-dep=yes" in last
    assert "#SBATCH --array=0,2\n" in (book.path / "001.sbatch").read_text()
    programs.queue((101, 0, "RUNNING", "", "n", "0", ""), (101, 2, "PENDING", "", "", "", ""),
                   (102, "N/A", "PENDING", "Dependency", "", "", ""))  # fmt: skip
    again = hand_in(book, SLICES[1])
    assert [(each.done, each.queued, each.tasks) for each in again.values()] == [
        (1, 2, 0),
        (0, 1, 0),
    ]
    assert len(programs.calls("sbatch")) == 2 and not programs.calls("scancel")


def test_what_failed_is_submitted_again_and_what_waited_for_it_too(
    programs: Programs, book: Book
) -> None:
    hand_in(book)
    programs.queue((101, 2, "RUNNING", "", "n", "0", ""),
                   (102, "N/A", "PENDING", "DependencyNeverSatisfied", "", "", ""))  # fmt: skip
    again = hand_in(book, SLICES[0])
    assert again["filter-out-slices"].tasks == 1
    assert programs.calls("scancel") == ["102"]
    assert "--dependency=afterok:103,afterok:101_2" in programs.calls("sbatch")[-1]
    assert [each.number for each in book.submissions()] == ["001", "002", "003", "004"]


def test_nothing_waits_for_what_failed_and_was_made_otherwise(
    programs: Programs, book: Book
) -> None:
    """The array's task 0 failed and was made by hand; task 2 still runs; the last job is gone."""
    hand_in(book)
    programs.queue((101, 0, "FAILED", "", "", "", ""), (101, 2, "RUNNING", "", "n", "0", ""))
    assert hand_in(book, *SLICES[:2])["filter-out"].tasks == 1
    assert " --dependency=afterok:101_2 " in programs.calls("sbatch")[-1]


def test_what_waits_for_all_of_an_array_names_it_once(programs: Programs, book: Book) -> None:
    hand_in(book)
    programs.queue(*((101, index, "RUNNING", "", "n", "0", "") for index in range(3)))
    assert hand_in(book)["filter-out"].tasks == 1
    assert " --dependency=afterok:101 " in programs.calls("sbatch")[-1]


def test_what_waits_for_what_is_submitted_again_waits_for_the_new_job(
    programs: Programs, book: Book
) -> None:
    names = ["first", "second", "third"]
    chain = [
        Job(name, [name], lambda _: ["subl"], SlurmSpec(), after=names[max(0, at - 1) : at])
        for at, name in enumerate(names)
    ]
    submit(book, ABOUT, chain, set, client=CLIENT)
    programs.queue((102, "N/A", "PENDING", "DependencyNeverSatisfied", "", "", ""),
                   (103, "N/A", "PENDING", "Dependency", "", "", ""))  # fmt: skip
    submit(book, ABOUT, chain, set, client=CLIENT)
    assert programs.calls("scancel") == ["102", "103"]
    again = programs.calls("sbatch")[3:]
    assert [" --dependency=afterok:104 " in again[1], " --dependency=afterok:105 " in again[2]] == [
        True, True
    ]  # fmt: skip


def test_an_answer_that_got_lost_makes_no_second_job(programs: Programs, book: Book) -> None:
    """sbatch takes the job, and the answer does not come."""
    comment = "$(sed 's/.*--comment=//; s/ .*//' <<< $*)"
    row = f'printf "55\\t0\\tPENDING\\t\\t\\t\\t%s\\n" "{comment}" >> queue'
    programs.say("sbatch", f"{row}; echo '{LIMITED}' >&2; exit 1", call=1)
    came = hand_in(book)
    assert came["filter-out-slices"].job == "55"
    assert len(programs.calls("sbatch")) == 2  # the second is the job behind it
    assert "afterok:55" in programs.calls("sbatch")[1]


def test_where_nobody_knows_if_a_job_was_taken_there_is_no_second_try(
    programs: Programs, book: Book
) -> None:
    programs.say("sbatch", f"echo '{LIMITED}' >&2; exit 1")
    programs.say("squeue", "exit 1")
    with pytest.raises(StageError, match="sbatch does not answer"):
        hand_in(book)
    assert len(programs.calls("sbatch")) == 1


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: fatal: Could not establish a configuration source",
        "Batch job submission failed: Unable to contact slurm controller (connect failure)",
    ],
)
def test_a_controller_that_is_not_there_refuses_nothing(
    programs: Programs, book: Book, said: str
) -> None:
    programs.say("sbatch", f"echo '{said}' >&2; exit 1")
    programs.say("squeue", f"echo '{said}' >&2; exit 1")
    with pytest.raises(StageError, match="sbatch does not answer"):
        hand_in(book, client=HURRIED)
    assert {each.state for each in look(book).values()} == {"unknown"}


def test_jobs_of_another_cluster_are_asked_for_there(programs: Programs, book: Book) -> None:
    noted(book)
    book.note(replace(book.submissions()[0], cluster="east"))
    programs.queue((7, 0, "RUNNING", "None", "n", "1:02", ""))
    programs.say("squeue", "echo CLUSTER: east; cat queue")
    found = look(book)
    assert found[SLICES[0]].state == "running"
    assert all("--clusters=east" in programs.calls(name)[0] for name in ("squeue", "sacct"))
    cancel(book, client=CLIENT)
    assert programs.calls("scancel") == ["--clusters=east 7_0"]


def test_jobs_here_and_on_another_cluster_are_both_asked_for(
    programs: Programs, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may have the same number; and what the environment says is for new jobs."""
    programs.say("sbatch", "echo '101;c2'", call=2)
    here, there = (
        stage_jobs("o", ["subl"], SlurmSpec(directives=each), 3)[:1]
        for each in ((), ("--clusters=c2",))
    )
    submit(book, ABOUT, here, set, client=CLIENT)
    programs.queue((101, 0, "RUNNING", "", "", "", ""), (101, 1, "PENDING", "", "", "", ""))
    (came,) = submit(book, ABOUT, there, set, client=CLIENT)
    assert (came.queued, came.tasks, came.job) == (2, 1, "101")
    row = "\t".join(map(str, (101, 2, "PENDING", "", "", "", "")))
    (programs.folder / "there").write_text(f"CLUSTER: c2\n{HEADER}\n{row}\n")
    away = 'grep -q clusters= <<< "$* ${SLURM_CLUSTERS+clusters=}"'
    programs.say("squeue", f"{away} && cat there || cat queue")
    monkeypatch.setenv("SLURM_CLUSTERS", "c2")
    (came,) = submit(book, ABOUT, here, set, client=CLIENT)
    assert (came.queued, came.tasks) == (3, 0)
    found = look(book)
    assert [each.state for each in found.values()] == ["running", "waiting", "waiting"]
    cancel(book, client=CLIENT)
    assert programs.calls("scancel") == ["101_0 101_1", "--clusters=c2 101_2"]


def test_what_is_not_awaited_any_more_is_cancelled_where_it_is(
    programs: Programs, book: Book
) -> None:
    programs.say("sbatch", 'echo "$((100 + $(wc -l < sbatch.calls)));c2"')
    hand_in(book)
    programs.queue((101, 2, "RUNNING", "", "n", "0", ""),
                   (102, "N/A", "PENDING", "DependencyNeverSatisfied", "", "", ""))  # fmt: skip
    hand_in(book, SLICES[0])
    assert programs.calls("scancel") == ["--clusters=c2 102"]


@pytest.mark.parametrize(
    ("directives", "variable", "asked"),
    [
        (["--clusters=b"], None, "b"),
        (["-M b,c"], "x", "b,c"),
        (["-Mb"], None, "b"),
        ([], "b", "b"),
        (["--mail-user=b"], None, None),
    ],
)
def test_an_answer_that_got_lost_is_looked_for_where_the_job_went(
    programs: Programs, book: Book, monkeypatch: pytest.MonkeyPatch,
    directives: list[str], variable: str | None, asked: str | None,
) -> None:  # fmt: skip
    if variable is not None:
        monkeypatch.setenv("SBATCH_CLUSTERS", variable)
    programs.say("sbatch", f"echo '{LIMITED}' >&2; exit 1")
    programs.say("squeue", "exit 1")
    jobs = stage_jobs("o", ["subl"], SlurmSpec(directives=tuple(directives)), None)
    with pytest.raises(StageError, match="does not answer"):
        submit(book, ABOUT, jobs, set, client=CLIENT)
    monkeypatch.delenv("SBATCH_CLUSTERS", raising=False)
    programs.say("squeue", "cat queue")
    programs.queue((9, "N/A", "PENDING", "", "", "", book.submissions()[0].comment))
    (came,) = submit(book, ABOUT, jobs, set, client=CLIENT)
    assert came.queued == 1 and book.submissions()[0].job == "9"
    lost, again = programs.calls("squeue")
    for call in (lost, again):
        assert (f"--clusters={asked}" in call) if asked else ("--clusters" not in call)


def test_a_busy_controller_is_asked_again(programs: Programs, book: Book) -> None:
    for call in (1, 2):
        programs.say("sbatch", f"echo '{LIMITED}' >&2; exit 1", call=call)
    assert hand_in(book)["filter-out-slices"].job == "103"


def test_a_submission_that_was_cut_short_is_found_by_its_key(
    programs: Programs, book: Book
) -> None:
    cut = replace(noted(book), job=None)
    book.note(cut)
    programs.queue(
        (7, 0, "RUNNING", "", "", "", cut.comment), (7, 1, "PD", "", "", "", cut.comment)
    )
    assert look(book)[SLICES[0]].state == "running"
    came = hand_in(book)["filter-out-slices"]
    assert (came.queued, came.tasks) == (2, 1)
    assert book.submissions()[0].job == "7"


def test_a_job_that_is_refused_says_why_and_can_be_submitted_later(
    programs: Programs, book: Book
) -> None:
    programs.say("sbatch", "echo 'sbatch: error: invalid partition specified: x' >&2; exit 1")
    with pytest.raises(StageError, match=r"refuses the job .* invalid partition") as raised:
        hand_in(book)
    assert len(programs.calls("sbatch")) == 1
    assert raised.value.hint is not None and "001.sbatch" in raised.value.hint
    assert {each.state for each in look(book).values()} == {"not submitted"}
    programs.say("sbatch", "echo 9")
    assert hand_in(book)["filter-out-slices"].job == "9"


def test_jobs_of_something_else_are_not_mixed_in(programs: Programs, book: Book) -> None:
    noted(book)
    programs.queue((7, 2, "RUNNING", "", "", "", ""))
    with pytest.raises(ConfigError, match=r"make something else .*: slice 2/3"):
        submit(book, ABOUT, [Job("a", ["whole"], lambda _: ["subl"], SlurmSpec())], set)
    with book.held(), pytest.raises(BusyError):
        hand_in(book)


def test_a_submission_that_is_refused_changes_nothing(programs: Programs, book: Book) -> None:
    hand_in(book)
    other = replace(ABOUT, slices=4)
    jobs = stage_jobs("filter-out", ["subl", "filter"], SlurmSpec(), 4)
    programs.queue(*((101, index, "RUNNING", "", "n", "0", "") for index in range(3)))
    with pytest.raises(ConfigError, match="make something else"):
        submit(book, other, jobs, set, client=CLIENT)
    programs.say("squeue", "exit 1")
    with pytest.raises(StageError, match="does not say"):
        submit(book, other, jobs, set, client=HURRIED)
    assert book.about() == ABOUT


def test_a_cancel_ends_what_was_submitted_whatever_is_to_be_made_by_now(
    programs: Programs, book: Book
) -> None:
    """Also where the number of a job is known of its comment alone, and what has its name."""
    noted(book)
    book.note(Submission("002", "def", {None: "old stage"}, now()))
    programs.queue((7, 0, "RUNNING", "", "n", "0", ""), (7, 2, "PENDING", "", "", "", ""),
                   (8, "N/A", "PENDING", "", "", "", "subl:def"))  # fmt: skip
    assert cancel(book, ["old", "1"], CLIENT) == [("old stage", "8")]
    with pytest.raises(InputError, match="no task `new`"):
        cancel(book, ["new"], CLIENT)
    assert cancel(book, client=CLIENT) == [
        (SLICES[0], "7_0"), (SLICES[2], "7_2"), ("old stage", "8")
    ]  # fmt: skip
    assert programs.calls("scancel") == ["8", "7_0 7_2 8"]
    assert not programs.calls("sacct")


def test_a_dry_run_asks_nobody_and_writes_nothing(programs: Programs, tmp_path: Path) -> None:
    book = Book.of(tmp_path / "other")
    came = submit(book, ABOUT, JOBS, set, dry_run=True, client=CLIENT)
    assert [each.tasks for each in came] == [3, 1] and all(each.script for each in came)
    assert not book.path.exists()
    assert not any(programs.calls(name) for name in ("sbatch", "squeue"))


# Logs and usage


def test_tasks_by_name_part_and_number(programs: Programs, book: Book) -> None:
    noted(book)
    states = list(look(book).values())
    assert [each.task for each in chosen(states, ["1"])] == [SLICES[1]]
    assert [each.task for each in chosen(states, [SLICES[2], "slice 0"])] == [SLICES[2], SLICES[0]]
    log = book.log("001", 1)
    log.write_text("0: a\n1: b\n 1: c\nplain")
    assert lines_of(log, 1) == ["b", "c"]
    lived(book, 1, ended=now(), status=0)
    followed = [line for _, line in follow(book, states, None, list)]
    assert followed == ["0: a", "1: b", " 1: c", "plain"]
    assert len(lines_of(log, None)) == 4 and lines_of(book.log("001", 2), None) == []


def test_a_letter_of_which_a_read_has_half_is_followed_whole(
    programs: Programs, book: Book
) -> None:
    noted(book)
    programs.queue((7, 1, "RUNNING", "", "n", "0:00", ""))
    log, text = book.log("001", 1), "a\nbé\nc".encode()
    log.write_bytes(text[:4])
    lines = follow(book, [look(book)[SLICES[1]]], None, list)
    assert next(lines)[1] == "a"
    log.write_bytes(text + b"\xc3")
    assert next(lines)[1] == "bé"
    lived(book, 1, ended=now(), status=0)
    assert [line for _, line in lines] == ["c\ufffd"]


def test_usage_by_a_jobs_own_word_and_by_accounting(programs: Programs, book: Book) -> None:
    noted(book)
    lived(book, 1, ended=now(), status=0, seconds=60.0, cpu_seconds=90.0, cpus=2,
          most_memory=2**30, memory=2**32)  # fmt: skip
    (found,) = usage(book, list(look(book).values()), client=CLIENT)
    assert (found.cpu_share, found.memory_share, found.time_share) == (0.75, 0.25, None)
    header = (
        "JobID|State|ExitCode|Elapsed|Timelimit|TotalCPU|AllocCPUS|ReqMem|MaxRSS|NodeList|Reason"
    )
    rows = ["7_1|COMPLETED|0:0|00:10:00|01:00:00|00:30:00|4|8G||n|None",
            "7_1.batch|COMPLETED|0:0|00:10:00||01:00|4||1024K|n|",
            "7_1.0|COMPLETED|0:0|00:10:00||29:00.5|4||2097152K|n|"]  # fmt: skip
    programs.say("sacct", "".join(f"echo '{line}';" for line in [header, *rows]))
    (found,) = usage(book, list(look(book).values()), client=CLIENT)
    assert (found.cpu_share, found.memory_share, found.time_share) == (0.75, 0.25, 1 / 6)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("30", 1800), ("2:30", 150), ("4:00:00", 14400), ("1-12", 129600), ("1-00:00:01", 86401),
     ("00:01.500", 1), ("UNLIMITED", None), ("", None)],
)  # fmt: skip
def test_times_as_slurm_writes_them(said: str, seconds: float | None) -> None:
    assert seconds_of(said) == seconds


@pytest.mark.parametrize(
    ("said", "size"),
    [("4G", 2**32), ("4000M", 4000 * 2**20), ("1.5Gn", 1.5 * 2**30), ("12K", 12288), ("0", None),
     ("?", None)],
)  # fmt: skip
def test_sizes_as_slurm_writes_them(said: str, size: float | None) -> None:
    assert bytes_of(said) == size


def test_a_life_reads_as_it_was_written(book: Book) -> None:
    lived(book, 0)
    lived(book, 0, ended=now(), status=75, done=["filter", 5])
    lived(book, 0, restart=1)
    with lives_file(book.path, "001", 0).open("a") as file:
        file.write('{"job": "7", "cut')
    first, second = book.lives("001", 0)
    assert isinstance(first, Life) and first.done == ("filter", 5) and second.ended is None
