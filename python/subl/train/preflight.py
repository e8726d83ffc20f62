"""What can be said against a run before a row of it is read.

Rows may take hours to become tokens. So what configuration, machine and model folders say alone is
asked first, here, by runs and dry runs alike; what weights and rows show is asked when they are
there (`ready`). Models are looked at as their configurations describe them, without weights.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING

from subl.cluster.placement import Placement
from subl.errors import ConfigError, DependencyError, InputError
from subl.model.condition import check_trainable
from subl.model.load import bare_model, base_folder, device, load_tokenizer, require_torch
from subl.train.plan import TrainSpec
from subl.train.tracking import check_trackers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from subl.model.template import Template
    from subl.train.job import TrainJob


def preflight(job: TrainJob, where: Placement, *, dry: bool = False) -> None:
    """Refuse a job that could not be done, whatever its rows are.

    Args:
        where: this process; a job of several ranks that is alone here starts them itself.
        dry: nothing is to be trained here: weights, GPUs, memory and room on the disk are not
            asked for.
    """
    require_torch()
    from subl.train.adapter import adapt
    from subl.train.precision import check_machine
    from subl.trait import forms_of
    from subl.trait.exact import Scorer

    spec, spread_teacher = job.spec, job.teacher_placement.zero_stage == 3
    check_trainable(job.model)
    check_trackers(job.options)
    check_machine(spec, spread_teacher=spread_teacher)
    _check_ranks(job, where, dry=dry)
    _check_packages(spec, spread_teacher=spread_teacher)
    if job.targets == "base" and spec.lora is None:
        raise ConfigError(
            'targets = "base" needs an adapter: it is the model without it',
            hint="add [train.lora], or give the base as --teacher",
        )
    tokenizer, model = look_at(job.model, job.template)
    if not dry:
        check_weights(job.model)
        _check_room(job)
        _check_memory(job, where)
    if spec.probe is not None:
        probe = spec.probe
        Scorer(tokenizer, forms_of(probe.words), probe.questions, job.template).check(model)
    _check_targets(job, tokenizer, model, dry=dry)
    if spec.lora is not None:
        adapt(model, spec.lora)  # last: it changes the model


def look_at(
    folder: Path, template: Template | None
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """The tokenizer of a model whose states are to be computed, and the model without weights.

    Args:
        template: what its chat template is told; None where it writes no rows.

    Raises:
        InputError: there is no such model, it cannot be told what `template` says, or its head is
            none of those that the losses know.
    """
    from subl.model.chat import check_template
    from subl.train.student import check_bare_head

    tokenizer, model = load_tokenizer(folder), bare_model(folder)
    if template is not None:
        check_template(tokenizer, template)
    check_bare_head(model)
    return tokenizer, model


def starts_ranks(job: TrainJob, where: Placement) -> bool:
    """Whether the job's ranks are processes that this one has to start."""
    return where.alone and (job.spec.ranks > 1 or job.spec.zero_stage not in ("none", 0))


def _check_ranks(job: TrainJob, where: Placement, *, dry: bool) -> None:
    import torch

    ranks = job.spec.ranks
    if starts_ranks(job, where):
        if not dry and torch.cuda.is_available() and ranks > torch.cuda.device_count():
            raise ConfigError(
                f"{ranks} ranks and {torch.cuda.device_count()} GPUs",
                hint="each rank needs a GPU of its own: lower train.ranks, or start more with srun",
            )
    elif where.alone and job.targets == "teacher" and job.teacher_placement.zero_stage == 3:
        raise ConfigError(
            "teacher.zero_stage = 3 needs ranks", hint="set train.zero_stage to 1, 2 or 3"
        )


def _check_packages(spec: TrainSpec, *, spread_teacher: bool) -> None:
    from subl.train.attention import require_flash

    if spec.attention == "flash":
        require_flash()
    zero = spec.zero_stage not in ("none", 0) or spread_teacher
    if zero and importlib.util.find_spec("deepspeed") is None:
        raise DependencyError("ZeRO needs deepspeed", hint="pip install 'subl[distill]'")


def check_weights(folder: Path) -> None:
    """Refuse a model folder that lacks a file of weights."""
    from subl.model.weights import weight_files

    files = weight_files(base_folder(folder))
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        what = f"lacks {missing[0].name}" if missing else "has no weights (*.safetensors)"
        raise InputError(
            f"the model folder {base_folder(folder)} {what}", hint="is the copy complete?"
        )


def _check_room(job: TrainJob) -> None:
    """What is written at the end must find room, and a trial of it before the first step."""
    if job.spec.lora is not None and not job.spec.lora.merge:
        return
    from subl.model.weights import check_room
    from subl.train.footprint import tensor_shapes
    from subl.train.memory import BYTES

    count = sum(map(math.prod, tensor_shapes(job.model).values()))
    check_room(job.out, BYTES[job.spec.dtype] * count)


def _check_memory(job: TrainJob, where: Placement) -> None:
    """What takes memory whatever the rows are. Of GPUs each rank sees its own."""
    from subl.train.footprint import check_memory

    if starts_ranks(job, where):
        if device().type == "cuda":
            return
        where = Placement(ranks=job.spec.ranks, ranks_here=job.spec.ranks)
    check_memory(job, where, None)


def _check_targets(
    job: TrainJob, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, *, dry: bool
) -> None:
    from subl.train.cache import check_codec, check_header, read_header
    from subl.train.student import head
    from subl.train.targets import common_vocabulary

    vocabulary = head(model).shape[0]
    if job.targets == "cache":
        assert job.cache is not None
        header = read_header(job.cache)
        check_codec(header.codec, job.loss, job.cache)
        check_header(header, tokenizer, job.template, vocabulary, job.cache)
    if job.targets == "teacher":
        assert job.teacher is not None
        theirs, teacher = look_at(job.teacher, None)  # it reads what the student's tokenizer wrote
        if not dry:
            check_weights(job.teacher)
        common_vocabulary(tokenizer, theirs, (vocabulary, head(teacher).shape[0]))
