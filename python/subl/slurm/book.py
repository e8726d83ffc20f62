"""What is known of the jobs that make one thing: a folder beside it, `OUT.slurm`.

    about.json      what is made, of which tasks, and how it is seen that one is done
    001.sbatch      a submission's script
    001.log         what its job printed; of an array's task, 001-7.log
    001.ndjson      what the job wrote down of itself: each start and end; likewise 001-7.ndjson
    001.beat.json   how far it is; likewise 001-7.beat.json
    jobs.ndjson     the submissions: a line before sbatch is called, and one with the job's number

A submission whose second line is missing was cut short: the comment of its job tells if there is
one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from subl.artifact import read_notes, write_atomically
from subl.artifact.partial import locked
from subl.cluster.heartbeat import Beat, read_beat
from subl.errors import InputError
from subl.slurm.script import of_task

_JOBS, _ABOUT = "jobs.ndjson", "about.json"


@dataclass(frozen=True)
class About:
    """What the jobs of a book make.

    Args:
        kind: `stage`, or `run` for a whole experiment.
        made: the folder that is made, absolute.
        directory: the one in which the command was typed, absolute.
        command: as it was typed behind `subl`.
        slices: so many tasks share a stage's work; None: one does it.
        experiment: the file of an experiment, absolute.
    """

    kind: Literal["stage", "run"]
    made: str
    directory: str
    command: Sequence[str]
    slices: int | None = None
    experiment: str | None = None


@dataclass(frozen=True)
class Submission:
    """One job or array: which of the book's tasks it makes, by its own numbers for them.

    Args:
        key: of what was submitted; it is in the job's comment.
        tasks: {number in the array, or None of a job that is no array: the task's name}.
        after: numbers of the jobs that it waits for.
        limits: what was asked for: `time`, `memory`, `cpus`.
        job: None while nobody knows if there is one.
        cluster: where it is, if that is not this one; several while nobody knows.
    """

    number: str
    key: str
    tasks: Mapping[int | None, str]
    submitted: str
    after: Sequence[str] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    job: str | None = None
    cluster: str | None = None

    @property
    def comment(self) -> str:
        return f"subl:{self.key}"


@dataclass(frozen=True)
class Life:
    """One start of a task, and how it ended; `ended` is None where nothing says that it did.

    Args:
        status: what the command exited with; None where a signal ended it, `killed_by`.
        told: it was told to save, by a signal.
        then: what the minder did afterwards: `requeued`, or why it did not.
        done: how far the work was, as in `Beat`.
        cpu_seconds, most_memory: what the command used; bytes of its largest process.
        cpus, memory: what it had of its machine; bytes.
    """

    job: str
    restart: int
    host: str
    started: str
    ended: str | None = None
    status: int | None = None
    killed_by: str | None = None
    told: str | None = None
    then: str | None = None
    done: tuple[str, int] | None = None
    seconds: float = 0.0
    cpu_seconds: float | None = None
    most_memory: int | None = None
    cpus: int | None = None
    memory: int | None = None

    @property
    def stopped(self) -> bool:
        """Whether it ended as what was told to save, and may go on."""
        saved = self.status in (None, STOPPED) or self.status > BY_SIGNAL
        return self.ended is not None and self.told is not None and saved


STOPPED = 75
"""What a command exits with that saved its work and is not done."""

BY_SIGNAL = 128
"""Above it shells and srun say which signal ended a command."""


class Book:
    """The folder of what is known of jobs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def of(made: Path) -> Book:
        """The book of what is made, whether it is called by its own name or the book's."""
        path = made.absolute()
        return Book(path if path.suffix == ".slurm" else path.with_name(f"{path.name}.slurm"))

    def about(self) -> About:
        """Raises InputError: nothing was submitted."""
        file = self.path / _ABOUT
        try:
            return About(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise InputError(
                f"no jobs were submitted for {self.path.with_suffix('')} (there is no {file})",
                hint="name the folder that a job makes: what `subl slurm submit … -o OUT` was told",
            ) from None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the book for this process alone.

        Raises:
            BusyError: another process submits to it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path, what=f"to {self.path}"):
            yield

    def begin(self, about: About) -> None:
        """Say what the book is about from now on."""
        write_atomically(self.path / _ABOUT, json.dumps(asdict(about), indent=2) + "\n")

    def submissions(self) -> list[Submission]:
        """All of them, in their order."""
        found: dict[str, Submission] = {}
        for said in read_notes(self.path / _JOBS):
            tasks = {None if key == "" else int(key): name for key, name in said["tasks"].items()}
            found[said["number"]] = Submission(**{**said, "tasks": tasks})
        return list(found.values())

    def clusters(self) -> list[str | None]:
        """Those that jobs went to; None is this one."""
        return list(dict.fromkeys(each.cluster for each in self.submissions() if each.tasks))

    def note(self, submission: Submission) -> None:
        """Write down a submission; the last line of a number counts."""
        said = asdict(submission)
        said["tasks"] = {"" if i is None else str(i): name for i, name in submission.tasks.items()}
        with (self.path / _JOBS).open("ab") as file:
            file.write(json.dumps(said).encode() + b"\n")

    def lives(self, number: str, index: int | None) -> list[Life]:
        """What a task wrote down of itself, start by start."""
        found: dict[tuple[str, int], Life] = {}
        for said in read_notes(lives_file(self.path, number, index)):
            done = said.get("done")
            life = Life(**{**said, "done": None if done is None else (done[0], done[1])})
            found[life.job, life.restart] = life
        return list(found.values())

    def beat(self, number: str, index: int | None) -> Beat | None:
        """How far a task was when it last said so."""
        return read_beat(beat_file(self.path, number, index))

    def log(self, number: str, index: int | None) -> Path:
        """What a task printed."""
        return self.path / of_task(number, index, "log")


def lives_file(book: Path, number: str, index: int | None) -> Path:
    return book / of_task(number, index, "ndjson")


def beat_file(book: Path, number: str, index: int | None) -> Path:
    return book / of_task(number, index, "beat.json")
