"""Slurm's own commands: each with a limit to its time, and its words read with care.

No answer, an answer that is empty, and one that is no table are `None`: nothing is known then, and
nobody takes a job for ended. A table comes with its header, so one without jobs is an answer, too.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from subl.errors import DependencyError, StageError

_QUESTIONS = ("SQUEUE_", "SACCT_", "SCANCEL_", "SBATCH_ARRAY_INX", "SBATCH_WAIT")
"""Variables of the user's own that would change what is asked or how it is answered."""

_OF_A_JOB = ("SLURM_", "SBATCH_", "SRUN_")
_OF_THE_SITE = frozenset(
    {"SLURM_CONF", "SLURM_CLUSTERS", "SBATCH_ACCOUNT", "SBATCH_CLUSTERS", "SBATCH_PARTITION",
     "SBATCH_QOS", "SBATCH_RESERVATION"}
)  # fmt: skip
"""What a user says of all jobs, and Slurm of none."""

_TOLD_WHERE = frozenset({"squeue", "sacct", "scancel"})
"""Programs that are asked for jobs where these went: what the environment says is for new ones."""

_PASSING = re.compile(
    r"timed? ?out|unable to contact|try again|temporar|connection (refused|reset)|\brate\b|busy|"
    r"not responding|could not establish a configuration source",
    re.IGNORECASE,
)
"""In what a command says when another try may do: a controller that is busy, or starts again."""

WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT",
     "RESV_DEL_HOLD"}
)  # fmt: skip
"""States of jobs that have not begun, or not again."""

ACTIVE = WAITING | {"RUNNING", "SUSPENDED", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT",
                    "STOPPED"}  # fmt: skip
"""States of jobs that have not ended."""

_SHORT = {
    "BF": "BOOT_FAIL", "CA": "CANCELLED", "CD": "COMPLETED", "CF": "CONFIGURING",
    "CG": "COMPLETING", "DL": "DEADLINE", "F": "FAILED", "NF": "NODE_FAIL",
    "OOM": "OUT_OF_MEMORY", "PD": "PENDING", "PR": "PREEMPTED", "R": "RUNNING",
    "RQ": "REQUEUED", "RS": "RESIZING", "RV": "REVOKED", "S": "SUSPENDED", "SE": "SPECIAL_EXIT",
    "SI": "SIGNALING", "SO": "STAGE_OUT", "ST": "STOPPED", "TO": "TIMEOUT",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What Slurm says of a job or an array's task. Times as Slurm writes them; `cluster` as it was
    asked for, None: this one."""

    job: str
    index: int | None
    state: str
    reason: str = ""
    nodes: str = ""
    elapsed: str = ""
    comment: str = ""
    cluster: str | None = None
    further: Mapping[str, str] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


JobId = tuple[str | None, str]
"""Its cluster, None: this one; and the job there, as `called` says it."""


class Unanswered(Exception):
    """A command failed in a way that another try may mend, or did not end."""


@dataclass(frozen=True)
class Client:
    """How to ask: a command has `seconds`, and `tries`, after growing pauses from `pause_seconds`
    on."""

    seconds: float = 30.0
    tries: int = 5
    pause_seconds: float = 1.0

    def queue(self, clusters: Collection[str | None] = (None,)) -> list[Row] | None:
        """All of the user's jobs that the controllers know, arrays task by task. A query each.

        Args:
            clusters: where to look; None is this one.
        """
        fields = ("%F", "%K", "%T", "%r", "%N", "%M", "%k")
        asked = ["--me", "--states=all", "--array", f"--format={_SEPARATOR.join(fields)}"]
        found = []
        for cluster in clusters:
            lines = self._table(["squeue", *asked, *_where(cluster)], len(fields))
            if lines is None:
                return None
            for job, index, state, reason, nodes, elapsed, comment in lines:
                if job.isdecimal():
                    task = job, _index(index), state_of(state)
                    found.append(Row(*task, reason, nodes, elapsed, _null(comment), cluster))
        return found

    def accounting(self, jobs: Collection[JobId], since: str) -> list[Row]:
        """What the accounting says of jobs and their steps, where there is one. A query a cluster.

        Args:
            since: when the first of them was submitted; without it only today's are shown.
        """
        asked = ["--parsable2", "--duplicates", f"--starttime={since}"]
        asked += [f"--format={','.join(_ACCOUNTED)}"]
        found = []
        for cluster, own in _by_cluster(jobs):
            which = f"--jobs={','.join(own)}"
            command = ["sacct", which, *asked, *_where(cluster)]
            for line in self._table(command, len(_ACCOUNTED), separator="|") or ():
                named = dict(zip(_ACCOUNTED, line, strict=True))
                base, _, step = named["JobID"].partition(".")
                job, _, index = base.partition("_")
                if job.isdecimal():
                    state, more = state_of(named["State"]), named | {"step": step}
                    found.append(Row(job, _index(index), state, cluster=cluster, further=more))
        return found

    def cancel(self, jobs: Collection[JobId]) -> None:
        """End jobs, or tasks of arrays.

        Raises:
            StageError: Slurm does not answer.
        """
        for cluster, own in _by_cluster(jobs):
            self.ask("scancel", *_where(cluster), *own)

    def submit(self, *arguments: str) -> tuple[str, str | None]:
        """Call sbatch once: the job's number, and its cluster where that is told.

        Raises:
            Unanswered: whether Slurm has it, nobody knows.
            StageError: Slurm refused it, and says why.
        """
        said = self._once(["sbatch", "--parsable", *arguments]).strip()
        job, _, cluster = said.rpartition("\n")[2].partition(";")
        if not job.isdecimal():
            raise Unanswered(f"sbatch said {said!r}")
        return job, cluster or None

    def ask(self, *command: str) -> str:
        """What a command prints, which may be tried again.

        Raises:
            StageError: it fails, or does not answer.
        """
        for pause in self.pauses():
            try:
                return self._once(command)
            except Unanswered as error:
                last = str(error)
                time.sleep(pause)
        raise StageError(
            f"{command[0]} does not answer: {last}", hint="try again later; nothing is lost"
        )

    def pauses(self) -> Iterator[float]:
        """Seconds to wait after each try."""
        for number in range(self.tries):
            yield self.pause_seconds * 2**number if number < self.tries - 1 else 0.0

    def _table(
        self, command: Sequence[str], columns: int, separator: str = ""
    ) -> list[list[str]] | None:
        separator = separator or _SEPARATOR
        for pause in self.pauses():
            try:
                lines = self._once(command).splitlines()
            except Unanswered:
                time.sleep(pause)
                continue
            except StageError:
                return None
            lines = [line for line in lines if not line.startswith("CLUSTER: ")]
            if not lines or lines[0].count(separator) != columns - 1:
                return None
            rows = [line.split(separator, columns - 1) for line in lines[1:]]
            return [[cell.strip() for cell in row] for row in rows if len(row) == columns]
        return None

    def _once(self, command: Sequence[str]) -> str:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=self.seconds,
                env=_environment(os.environ, command[0]),
            )
        except FileNotFoundError:
            raise DependencyError(
                f"there is no {command[0]} here", hint="go to a login node of the cluster"
            ) from None
        except subprocess.TimeoutExpired:
            raise Unanswered(f"no word from {command[0]} for {self.seconds:g} s") from None
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}"
            if _PASSING.search(said):
                raise Unanswered(said)
            raise StageError(f"{command[0]} failed: {said}")
        return done.stdout


_SEPARATOR = "\t"
_ACCOUNTED = ("JobID", "State", "ExitCode", "Elapsed", "Timelimit", "TotalCPU", "AllocCPUS",
              "ReqMem", "MaxRSS", "NodeList", "Reason")  # fmt: skip


def state_of(said: str) -> str:
    """A state by its long name: of `CANCELLED by 1000`, `OUT_OF_ME+`, `OOM` and `CG`, too."""
    word = said.split()[0] if said.split() else "UNKNOWN"
    if word.endswith("+"):
        begun = word.removesuffix("+")
        word = next((each for each in _SHORT.values() if each.startswith(begun)), begun)
    return _SHORT.get(word, word)


def called(job: str, index: int | None) -> str:
    """A job, or a task of an array, as Slurm's commands take it."""
    return job if index is None else f"{job}_{index}"


def _by_cluster(jobs: Collection[JobId]) -> Iterator[tuple[str | None, list[str]]]:
    for cluster in dict.fromkeys(cluster for cluster, _ in jobs):
        yield cluster, [job for where, job in jobs if where == cluster]


def _where(cluster: str | None) -> list[str]:
    return [] if cluster is None else [f"--clusters={cluster}"]


def _index(said: str) -> int | None:
    return int(said) if said.isdecimal() else None


def _null(said: str) -> str:
    return "" if said in ("(null)", "N/A") else said


def _environment(own: Mapping[str, str], program: str) -> dict[str, str]:
    """What Slurm's commands see: the user's own wishes, and nothing of a job that we are in."""
    foreign = _QUESTIONS + (_OF_A_JOB if "SLURM_JOB_ID" in own else ())
    kept = {k: v for k, v in own.items() if k in _OF_THE_SITE or not k.startswith(foreign)}
    if program in _TOLD_WHERE:
        kept.pop("SLURM_CLUSTERS", None)
    return kept
