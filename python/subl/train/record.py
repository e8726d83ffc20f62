"""What a run says of its steps: lines on disk, a person's own boards, progress.

`losses.jsonl` and `probe.jsonl` are the same bytes each time; `metrics.ndjson` has times as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subl.artifact import sync
from subl.cluster.placement import Placement, on_rank_0
from subl.progress import Progress, Report
from subl.train.checkpoint import discard_after
from subl.train.job import LOSSES, METRICS, PROBE, TrainJob, read_losses
from subl.train.tracking import Tracker, trackers


@dataclass(frozen=True)
class Record:
    """Rank 0's; on the others nothing is said."""

    job: TrainJob
    steps: int
    speaks: bool
    boards: Sequence[Tracker]
    report: Report

    @property
    def _files(self) -> list[Path]:
        names = [LOSSES, METRICS, *([] if self.job.spec.probe is None else [PROBE])]
        return [self.job.out / name for name in names] if self.speaks else []

    def begin(self, history: Sequence[Mapping[str, int]]) -> None:
        """Forget what was said after the checkpoint that the run goes on from."""
        *before, now = history
        for file in self._files:
            discard_after(file, now["step"])
        if self.speaks and before:
            ranks = before[-1]["ranks"]
            note = f"resumed from a checkpoint of {ranks} ranks"
            if ranks != now["ranks"]:
                note += f", now {now['ranks']}: not bit-identical"
            self._progress(now["step"], note)

    def step(self, step: int, figures: Mapping[str, Any], speeds: Mapping[str, Any]) -> None:
        """What a step did, the same each time, and how fast."""
        if not self.speaks:
            return
        line = {"step": step, **figures}
        self._append(LOSSES, line)
        self._append(METRICS, {**line, **speeds})
        for track in self.boards:
            track(step, {**line, **speeds})
        mfu = "" if speeds["mfu"] is None else f", MFU {100 * speeds['mfu']:.0f} %"
        speed = f"{speeds['tokens_per_second']:.0f} tokens/s{mfu}"
        self._progress(step, f"loss {line['loss']:.4f}, {speed}")

    def probe(self, step: int, found: Mapping[str, float]) -> None:
        """How likely the probe's words are after a step."""
        if not self.speaks:
            return
        self._append(PROBE, {"step": step, "probabilities": found})
        for track in self.boards:
            track(step, {f"probe/{word}": mean for word, mean in found.items()})

    def sync(self) -> None:
        """Have it outlast the machine, as a checkpoint does."""
        for file in self._files:
            sync(file)

    def summary(self) -> dict[str, Any]:
        """Of all steps, earlier runs' included."""
        losses = list(read_losses(self.job.out)) if self.speaks else []
        return {
            "target_tokens": sum(line["target_tokens"] for line in losses),
            "first_loss": losses[0]["loss"] if losses else None,
            "last_loss": losses[-1]["loss"] if losses else None,
        }

    def _append(self, name: str, line: dict[str, Any]) -> None:
        with (self.job.out / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, sort_keys=True) + "\n")

    def _progress(self, step: int, note: str) -> None:
        self.report(Progress(self.job.task, step, self.steps, "steps", note))


@contextmanager
def recording(job: TrainJob, where: Placement, steps: int, report: Report) -> Iterator[Record]:
    """The record of a run, its boards open until the end."""
    with ExitStack() as stack:
        boards = on_rank_0(where, lambda: stack.enter_context(trackers(job)))
        yield Record(job, steps, where.rank == 0, boards or [], report)
