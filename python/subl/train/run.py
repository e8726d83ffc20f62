"""Run a training job: in this process, or as ranks of its own, or as one of ranks that srun,
torchrun or accelerate started."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from subl.artifact import Artifact, open_artifact
from subl.cluster.placement import Placement, connect, placement
from subl.errors import ConfigError, StageError
from subl.model.chat import PLAIN
from subl.model.template import Template
from subl.progress import Progress, Report, silent
from subl.shards import Row
from subl.train.job import TOKENS, TrainJob
from subl.train.plan import TrainSpec

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

LONG = timedelta(days=30)
"""How long ranks wait for rank 0 while it works alone: it hashes, tokenises, writes."""

READ_SECONDS = 10.0
PUBLISHED_SECONDS = 60.0
"""How long a network file system may take to show another machine's rename."""


class RowLimits(Protocol):
    """What of a configuration decides how rows become tokens."""

    @property
    def max_row_tokens(self) -> int | None: ...
    @property
    def long_rows(self) -> Literal["error", "truncate", "drop"]: ...
    @property
    def whole_turn(self) -> bool: ...


def prepare_tokens(
    model: Path,
    rows: Iterator[Row],
    spec: RowLimits,
    out: Path,
    report: Report = silent,
    template: Template = PLAIN,
    teacher: Path | None = None,
    system_prompt: str | None = None,
) -> Path:
    """Tokenise rows for a job, once: a run that goes on finds them. What the model cannot read is
    refused.

    Args:
        teacher: a model folder that reads them, too; behind its system prompt, if it has one.
        system_prompt: what the student has before them; default: its own, if it has one.
    """
    from subl.model.condition import conditioned
    from subl.model.limits import Limits
    from subl.model.load import load_tokenizer
    from subl.train.tokens import tokenise

    folder = out / TOKENS
    tokenise(
        load_tokenizer(model),
        rows,
        folder,
        max_row_tokens=spec.max_row_tokens,
        long_rows=spec.long_rows,
        whole_turn=spec.whole_turn,
        template=template,
        limits=Limits(model),
        system_prompt=system_prompt,
        teachers_prompt=None if teacher is None else conditioned(teacher).system_prompt,
        report=report,
    )
    return folder


def prepare(
    job: TrainJob, rows: Iterator[Row], where: Placement, report: Report, *, dry: bool = False
) -> None:
    """Ask what can be asked of a job, and then make tokens of its rows.

    Raises:
        SublError: it could not be done (see `preflight`), or a row cannot be trained on.
    """
    from subl.train.preflight import preflight

    preflight(job, where, dry=dry)
    prepare_tokens(
        job.model,
        rows,
        job.spec,
        job.out,
        report,
        job.template,
        job.teacher,
        job.system_prompt,
    )


def rehearse(
    job_in: Callable[[Path], TrainJob], rows: Iterator[Row], report: Report = silent
) -> dict[str, Any]:
    """What a run would be: rows, tokens, steps, micro-batches, memory and time.

    Everything is checked that the run would check; a step is timed where the machine can.

    Args:
        job_in: the job, from the folder that it is to write to.
    """
    with tempfile.TemporaryDirectory() as folder:
        job = job_in(Path(folder))
        prepare(job, rows, Placement(), report, dry=True)
        from subl.train.preview import preview

        return preview(job, job.spec.ranks, report)


class Crew:
    """The ranks that make one artifact together. Rank 0 runs the stage; what it sends as a job, the
    others take part in."""

    def __init__(self, where: Placement, store: Store | None) -> None:
        self.where = where
        self._store = store

    def run(self, job: TrainJob, report: Report = silent) -> dict[str, Any]:
        """Train, write the model folder's files to `job.out`, return the figures. On rank 0."""
        from subl.train.loop import train
        from subl.train.preflight import starts_ranks

        if self._store is not None:
            self._send({"job": job.model_dump(mode="json")})
            return train(job, self.where, report)
        return (
            _launch(job, report)
            if starts_ranks(job, self.where)
            else train(job, Placement(), report)
        )

    def build(self, make: Callable[[], Artifact], out: Path) -> Artifact:
        """Have rank 0 `make` the artifact `out`; the other ranks help and return it, too."""
        if self._store is None:
            return make()
        if self.where.rank == 0:
            try:
                artifact = make()
                self._send({"done": True})
                return artifact
            except BaseException as error:
                self._send({"failed": str(error) or type(error).__name__})
                raise
            finally:
                self._wait_for_readers()
        try:
            self._follow()
        finally:  # however it ends here, nothing more is read
            with suppress(RuntimeError):  # rank 0 may be gone, and why matters more
                self._store.add("readers", 1)
        return _published(out)

    def _follow(self) -> None:
        """Take part in what rank 0 sends, until it says that it is done."""
        from subl.train.loop import train

        assert self._store is not None
        for number in count():
            name = f"message-{number}"
            self._store.wait([name], LONG)
            message = json.loads(self._store.get(name))
            if "failed" in message:
                raise StageError(f"rank 0 failed: {message['failed']}")
            if "done" in message:
                return
            train(TrainJob.model_validate(message["job"]), self.where)

    def _wait_for_readers(self) -> None:
        """The store is in rank 0's process: it must not end before the others have read."""
        assert self._store is not None
        deadline = time.monotonic() + READ_SECONDS
        while self._store.add("readers", 0) < self.where.ranks - 1 and time.monotonic() < deadline:
            time.sleep(0.02)

    def _send(self, message: dict[str, Any]) -> None:
        assert self._store is not None
        number = self._store.add("messages", 1) - 1
        self._store.set(f"message-{number}", json.dumps(message))


def crew(spec: TrainSpec, out: Path) -> Crew:
    """The ranks that this process belongs to.

    Raises:
        ConfigError: srun, torchrun or accelerate started several, and the configuration is for one.
    """
    where = placement(os.environ, out.absolute().parent)
    if where.alone:
        return Crew(where, None)
    if spec.zero_stage == "none":
        raise ConfigError(
            f'{where.ranks} ranks were started, and zero_stage is "none"',
            hint="set train.zero_stage to 0, 1, 2 or 3",
        )
    from subl.model.load import require_torch

    require_torch()
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    return Crew(where, connect(where))


def _published(out: Path) -> Artifact:
    """The artifact that rank 0 has made."""
    deadline = time.monotonic() + PUBLISHED_SECONDS
    while not (out / "statement.json").is_file() and time.monotonic() < deadline:
        os.scandir(out.absolute().parent).close()  # makes NFS look again
        time.sleep(0.1)
    return open_artifact(out)


def _launch(job: TrainJob, report: Report) -> dict[str, Any]:
    from subl.cluster.launch import launch

    job_file, log = job.out / ".job.json", job.out / ".ranks.log"
    job_file.write_text(job.model_dump_json(), encoding="utf-8")
    report(Progress(job.task, 0, None, "steps", f"starting {job.spec.ranks} ranks"))
    return launch("subl.train.worker", str(job_file), job.spec.ranks, log, report)
