"""A job made ready for its first step: machine, rows, model, teacher, layout, engine, targets.

In this order, for what is cheap to refuse is refused first, and weights that ZeRO spreads are whole
until the engine has them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from subl.cluster.placement import Placement, any_rank, on_every_rank
from subl.model.load import device, load_tokenizer
from subl.train.engine import Engine, make_engine
from subl.train.footprint import check_memory
from subl.train.layout import Layout, Reader, choose_layout, common_layout
from subl.train.learner import Learner, load_learner
from subl.train.loader import Loader
from subl.train.precision import check_machine, products
from subl.train.probe import Probe
from subl.train.student import Student
from subl.train.targets import OnlineTeacher, TargetSource, load_teacher, target_source
from subl.train.tokens import Tokens, check_tokens
from subl.trait import forms_of
from subl.trait.exact import Scorer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from subl.train.job import TrainJob


@dataclass(frozen=True)
class Ready:
    """What the steps of a job are made with on one rank."""

    device: torch.device
    learner: Learner
    engine: Engine
    loader: Loader
    targets: TargetSource
    probe: Probe | None


def make_ready(job: TrainJob, where: Placement, stack: ExitStack, *, dry: bool = False) -> Ready:
    """Make a job ready, or refuse it. `stack` holds what lasts as long as the run.

    Args:
        dry: nothing is to be written to `job.out`.
    """
    spec = job.spec
    _prepare_machine(job, stack)
    tokens, tokenizer = Tokens(job.tokens), load_tokenizer(job.model)
    on_every_rank(where, lambda: check_memory(job, where, tokens))

    learner = load_learner(job, tokenizer, where, dry=dry)
    check_tokens(tokens, learner.model, tokenizer)
    teacher, vocabulary = load_teacher(job, learner.model, tokenizer, tokens)

    # Before weights are spread, they are in CPU memory, and two short rows must do; after it, a
    # layout that a model cannot take at all would leave them half gathered.
    whole: list[Reader] = [partial(_whole, learner.model)]
    whole += [] if teacher is None else [partial(_whole, teacher)]
    spread = spec.zero_stage == 3
    spread |= teacher is not None and job.teacher_placement.zero_stage == 3
    choose = partial(_layout, job, where, learner.model, tokens)
    layout = choose(whole, not spread, "paths")
    probe = None
    if spec.probe is not None:
        scorer = Scorer(tokenizer, forms_of(spec.probe.words), spec.probe.questions, job.template)
        scorer.check(learner.model)
        probe = Probe(spec.probe, scorer)

    known = tokens.target_ids() if job.loss.tokens == "rows" else vocabulary
    engine = make_engine(spec, Student(learner.model, job.loss, known), where)
    targets = target_source(job, teacher, learner.adapted, engine, tokens)
    if spread:
        gathering: list[Reader] = [engine.call]
        gathering += [targets.call] if isinstance(targets, OnlineTeacher) else []
        layout = choose(gathering, True, layout)
    if layout == "one length":
        tokens.check_alike()
    if probe is not None:
        probe.prove(engine)
    return Ready(device(), learner, engine, Loader(spec, tokens, layout, where), targets, probe)


def _prepare_machine(job: TrainJob, stack: ExitStack) -> None:
    spec = job.spec
    check_machine(spec, spread_teacher=job.teacher_placement.zero_stage == 3)
    stack.enter_context(products(spec.dtype, device()))
    torch.manual_seed(spec.seed)
    if spec.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        os.environ["FLASH_ATTENTION_DETERMINISTIC"] = "1"
    torch.use_deterministic_algorithms(spec.deterministic)


def _layout(
    job: TrainJob,
    where: Placement,
    student: PreTrainedModel,
    tokens: Tokens,
    readers: Sequence[Reader],
    extremes: bool,
    first: Layout,
) -> Layout:
    """The first layout, from `first` on, that every model takes which reads the micro-batches.

    Args:
        extremes: whether the longest and the shortest row prove it, too.
    """

    def choose(model: PreTrainedModel, first: Layout) -> Layout:
        read = tokens if model is student else tokens.of_teacher
        return choose_layout(
            model,
            read.extremes() if extremes else (),
            longest=read.counts.longest,
            first=first,
            attention=job.spec.attention if model is student else "sdpa",
            share_prefixes=job.spec.computes_prefixes_once,
            refused=partial(any_rank, where),
        )

    return common_layout(readers, choose, first)


def _whole(model: PreTrainedModel, function: Callable[[PreTrainedModel], Any]) -> Any:
    return function(model)
