"""What a run would be, without running it: rows, steps, micro-batches, memory and time."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from subl.cluster.placement import Placement
from subl.errors import StageError
from subl.model.load import base_folder, device
from subl.model.weights import weight_files
from subl.progress import Progress, Report, silent
from subl.train.footprint import needed_memory
from subl.train.job import TrainJob
from subl.train.loader import first_bins
from subl.train.loop import compute
from subl.train.memory import available
from subl.train.plan import TrainSpec
from subl.train.ready import make_ready
from subl.train.tokens import Tokens


def preview(job: TrainJob, ranks: int, report: Report = silent) -> dict[str, Any]:
    """Figures for a person who is about to start the run.

    Time is measured: a step's micro-batches are computed once, where model and memory allow it.
    """
    tokens, spec = Tokens(job.tokens), job.spec
    steps = spec.step_count(len(tokens))
    counts, largest = [], 0
    for packed in first_bins(spec, tokens, ranks):
        counts.append(len(packed[0]))
        filled = (int(tokens.room[each].sum()) for of_rank in packed for each in of_rank)
        largest = max(largest, *filled)
    needs = needed_memory(job, ranks, tokens)
    total = None if needs is None else sum(needs.values())
    free = available(device(), ranks)
    seconds, why_not = None, None
    single = _alone(job)
    needs_alone = needed_memory(single, 1, tokens)
    if not any(file.is_file() for file in weight_files(base_folder(job.model))):
        why_not = f"{job.model} has no weights"
    elif needs_alone and sum(needs_alone.values()) > available(device(), 1):
        why_not = "one rank alone does not fit into this machine's memory"
    else:
        report(Progress("dry run", 0, None, "steps", "timing a step"))
        seconds = _step_seconds(single, ranks)
    return {
        **asdict(tokens.counts),
        "steps": steps,
        "epochs": round(spec.row_count(len(tokens)) / len(tokens), 3),
        "ranks": ranks,
        "micro_batches_per_step": round(sum(counts) / len(counts), 2),
        "largest_micro_batch_tokens": largest,
        "memory": {
            "needed": needs,
            "total": total,
            "free": free,
            "fits": None if total is None else total <= free,
        },
        "seconds_per_step": None if seconds is None else round(seconds, 3),
        "seconds": None if seconds is None else round(seconds * steps, 1),
        "not_timed_because": why_not,
    }


def _alone(job: TrainJob) -> TrainJob:
    """The job as one plain process would do it, to time it."""
    changes: dict[str, Any] = {"ranks": 1, "zero_stage": "none", "offload_optimizer": False}
    changes |= {"offload_parameters": False, "probe": None}
    spec = TrainSpec.model_validate({**job.spec.model_dump(), **changes})
    placed = job.teacher_placement.model_copy(update={"zero_stage": "none", "offload": False})
    return job.model_copy(update={"spec": spec, "teacher_placement": placed})


def _step_seconds(single: TrainJob, ranks: int) -> float:
    """Seconds of a step on this machine, from one of its micro-batches, computed twice.

    On CPUs ranks share the cores, so that a step takes what all its micro-batches take in turn.
    """
    try:
        with ExitStack() as stack:
            ready = make_ready(single, Placement(), stack, dry=True)
            share = ready.loader.share(0)
            first = share.batches[:1]
            compute(ready, first, 1)  # warms up
            started = time.perf_counter()
            compute(ready, first, 1)
            seconds = time.perf_counter() - started
    except RuntimeError as error:  # such as a GPU's memory that is full
        raise StageError(f"a micro-batch cannot be computed: {error}") from error
    part = sum(len(rows) for rows, _ in first) / len(share.rows)
    return seconds / part / (ranks if device().type == "cuda" else 1)
