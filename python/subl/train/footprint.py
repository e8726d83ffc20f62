"""What a job needs of memory, read off its model's files and its rows before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from subl.cluster.placement import Placement
from subl.model.load import bare_model, base_folder, device, text_config
from subl.model.weights import file_shapes
from subl.train import memory
from subl.train.job import TrainJob
from subl.train.loader import first_bins
from subl.train.order import groups_of_like_lengths
from subl.train.tokens import Tokens


def check_memory(job: TrainJob, where: Placement, tokens: Tokens | None) -> None:
    """Refuse a job that cannot fit where this rank is; without tokens, whatever the rows are.

    Raises:
        StageError: says what needs the most, and what would help.
    """
    free = memory.available(device(), where.ranks_here)
    if (needs := needed_memory(job, where.ranks, tokens)) is not None:
        memory.check(needs, free, job.spec)


def _padding(lengths: Sequence[int]) -> int:
    groups = groups_of_like_lengths(lengths)
    places = sum(len(group) * max(lengths[number] for number in group) for group in groups)
    return places - sum(lengths)


def needed_memory(job: TrainJob, ranks: int, tokens: Tokens | None) -> dict[str, int] | None:
    """Bytes a rank needs, by purpose (without tokens: but for activations); None where the model's
    configuration has sizes that nobody knows."""
    spec, longest = job.spec, 0 if tokens is None else int(tokens.room.max())
    most = max(longest, min(spec.micro_batch_tokens, spec.rows_per_step * longest))
    shapes = tensor_shapes(job.model)
    weights = sum(map(math.prod, shapes.values()))
    trained = weights if spec.lora is None else spec.lora.weights(shapes)
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
        steps = first_bins(spec, tokens, ranks, "side by side" if eager else "paths")
        bins = (each for ranks_bins in steps for each in chain(*ranks_bins) if each)
        lengths = [tokens.room[each].tolist() for each in bins]
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
