"""What a run would be, without running it: rows, steps, micro-batches, memory and time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.cluster.placement import Placement
from subl.errors import StageError
from subl.model.load import bare_model, base_folder, device, text_config
from subl.model.weights import file_shapes, weight_files
from subl.progress import Progress, Report, silent
from subl.train import memory
from subl.train.loop import TrainJob
from subl.train.order import Bin, groups_of_like_lengths, step_rows
from subl.train.plan import LoraSpec, TrainSpec
from subl.train.tokens import Tokens

if TYPE_CHECKING:
    from subl.train.layout import Layout

_STEPS_LOOKED_AT, _ROWS_LOOKED_AT = 100, 100_000


def preview(job: TrainJob, ranks: int, report: Report = silent) -> dict[str, Any]:
    """Figures for a person who is about to start the run.

    Time is measured: a step's micro-batches are computed once, where model and memory allow it.
    """
    tokens, spec = Tokens(job.tokens), job.spec
    steps = spec.step_count(len(tokens))
    counts, largest = [], 0
    for packed in _first_steps(spec, tokens, ranks):
        counts.append(len(packed[0]))
        filled = (int(tokens.lengths[each].sum()) for of_rank in packed for each in of_rank)
        largest = max(largest, *filled)
    needs = needed_memory(job, ranks, tokens)
    total = None if needs is None else sum(needs.values())
    free = memory.available(device(), ranks)
    seconds, why_not = None, None
    single = _alone(job)
    needs_alone = needed_memory(single, 1, tokens)
    if not any(file.is_file() for file in weight_files(base_folder(job.model))):
        why_not = f"{job.model} has no weights"
    elif needs_alone and sum(needs_alone.values()) > memory.available(device(), 1):
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


def check_memory(job: TrainJob, where: Placement, tokens: Tokens | None) -> None:
    """Refuse a job that cannot fit where this rank is; without tokens, whatever the rows are.

    Raises:
        StageError: says what needs the most, and what would help.
    """
    free = memory.available(device(), where.ranks_here)
    if (needs := needed_memory(job, where.ranks, tokens)) is not None:
        memory.check(needs, free, job.spec)


def _first_steps(
    spec: TrainSpec, tokens: Tokens, ranks: int, layout: Layout = "paths"
) -> Iterator[list[list[Bin]]]:
    """Each step's micro-batches on each rank, of as many steps as are soon looked at."""
    from subl.train.layout import share

    looked_at = max(1, min(_STEPS_LOOKED_AT, _ROWS_LOOKED_AT // spec.rows_per_step))
    total = spec.row_count(len(tokens))
    for step in range(min(spec.step_count(len(tokens)), looked_at)):
        rows = step_rows(len(tokens), spec.rows_per_step, spec.seed, step, total)
        lengths = tokens.lengths[rows].tolist()
        yield share(layout, rows, lengths, ranks, spec.micro_batch_tokens)


def _bin_lengths(spec: TrainSpec, tokens: Tokens, ranks: int, layout: Layout) -> list[list[int]]:
    """Lengths of the rows of each micro-batch of the first steps."""
    steps = _first_steps(spec, tokens, ranks, layout)
    every_bin = (each for packed in steps for each in chain(*packed) if each)
    return [tokens.lengths[each].tolist() for each in every_bin]


def _padding(lengths: Sequence[int]) -> int:
    groups = groups_of_like_lengths(lengths)
    places = sum(len(group) * max(lengths[number] for number in group) for group in groups)
    return places - sum(lengths)


def needed_memory(job: TrainJob, ranks: int, tokens: Tokens | None) -> dict[str, int] | None:
    """Bytes a rank needs, by purpose (without tokens: but for activations); None where the model's
    configuration has sizes that nobody knows."""
    from subl.model.load import require_torch

    require_torch()
    spec, longest = job.spec, 0 if tokens is None else tokens.counts.longest
    most = max(longest, min(spec.micro_batch_tokens, spec.rows_per_step * longest))
    shapes = tensor_shapes(job.model)
    weights = sum(map(math.prod, shapes.values()))
    trained = weights if spec.lora is None else _adapter_weights(shapes, spec.lora)
    teacher = 0
    if job.targets == "teacher" and job.teacher is not None:
        teacher = sum(map(math.prod, tensor_shapes(job.teacher).values()))
    # What the model takes by itself: of some there is no other.
    eager = bare_model(job.model).config._attn_implementation == "eager"
    shape = memory.Shape.of(text_config(job.model), weights, trained, eager=eager)
    if shape is None:
        return None
    padding, scores = 0, longest**2
    if tokens is not None:
        lengths = _bin_lengths(spec, tokens, ranks, "side by side" if eager else "paths")
        padding = max(map(_padding, lengths))
        scores = max(scores, *(len(each) * max(each) ** 2 for each in lengths))
    return memory.needed(
        spec,
        shape,
        ranks=ranks,
        bin_tokens=most,
        longest=longest,
        scores=scores,
        padding=padding,
        teacher_weights=teacher,
        teacher_spread=job.teacher_placement.zero_stage == 3,
    )


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a model's tensors: of its files, or where it has none as its configuration says."""
    folder = base_folder(folder)
    if found := file_shapes(folder):
        return found
    return {name: tuple(each.shape) for name, each in bare_model(folder).named_parameters()}


def _adapter_weights(shapes: dict[str, tuple[int, ...]], spec: LoraSpec) -> int:
    whole = spec.targets == ("all-linear",)
    count = 0
    for name, shape in shapes.items():
        parts = name.split(".")
        if len(shape) != 2 or parts[-1] != "weight":
            continue
        layer = parts[-2]
        if layer in spec.targets or (whole and layer != "lm_head" and "embed" not in layer):
            count += spec.rank * sum(shape)
    return count


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
    from subl.train.loop import Run

    try:
        with ExitStack() as stack:
            run = Run(single, Placement(), silent, stack, dry=True)
            rows, batches = run.batches(0)
            run.compute(batches[:1], 1)  # warms up
            started = time.perf_counter()
            run.compute(batches[:1], 1)
            seconds = time.perf_counter() - started
            on_gpu = run.device.type == "cuda"
    except RuntimeError as error:  # such as a GPU's memory that is full
        raise StageError(f"a micro-batch cannot be computed: {error}") from error
    share = sum(len(each) for each, _ in batches[:1]) / len(rows)
    return seconds / share / (ranks if on_gpu else 1)
