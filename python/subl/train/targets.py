"""Where the distributions come from that a student learns: a teacher at work, a cache, or itself.

A source is called with a micro-batch and gives the targets of its `sources`, in that order. It is
called before the student's own forward pass, on every rank alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from subl.errors import InputError
from subl.model.load import device, load_model, load_tokenizer
from subl.train.attention import hidden_states
from subl.train.batch import Batch
from subl.train.cache import Cache
from subl.train.divergence import HiddenTargets, Targets
from subl.train.engine import Engine, gathered, make_teacher_engine
from subl.train.student import Student, check_head, head
from subl.train.tokens import Tokens, check_tokens

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from subl.train.job import TrainJob

TargetSource = Callable[[Batch, Sequence[int]], Targets]
"""(micro-batch, the numbers of its rows) -> what the student is to learn there."""


def no_targets(batch: Batch, rows: Sequence[int]) -> Targets:
    """The labels are all there is."""
    return None


def load_teacher(
    job: TrainJob,
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tokens: Tokens,
) -> tuple[PreTrainedModel | None, int | None]:
    """An online teacher's model, and how many tokens of both heads count (None: all)."""
    if job.targets != "teacher":
        return None, None
    assert job.teacher is not None
    to = torch.device("cpu") if job.teacher_placement.zero_stage == 3 else device()
    teacher = load_model(job.teacher, job.spec.dtype, to)
    sizes = (head(student).shape[0], head(teacher).shape[0])
    vocabulary = common_vocabulary(tokenizer, load_tokenizer(job.teacher), sizes)
    check_head(teacher)
    check_tokens(tokens.of_teacher, teacher, tokenizer)
    return teacher, vocabulary


def target_source(
    job: TrainJob, teacher: PreTrainedModel | None, adapted: Any, engine: Engine, tokens: Tokens
) -> TargetSource:
    """What the job asks for. `adapted`: see `base_as_teacher`."""
    if teacher is not None:
        placed = job.teacher_placement
        return OnlineTeacher(teacher, zero=placed.zero_stage == 3, offload=placed.offload)
    if job.targets == "cache":
        assert job.cache is not None
        cache = Cache(job.cache)
        cache.check_rows(tokens, job.cache)
        source: TargetSource = cache.source(tokens, device())
        return source
    if job.targets == "base":
        return base_as_teacher(adapted, engine)
    return no_targets


class OnlineTeacher:
    """A teacher that sees each micro-batch when the student does, in a layout proven for both
    (`layout.choose_layout` sets it to that); behind its system prompt, if it has one.

    With `zero` its weights are spread over the ranks (and, with `offload`, kept in CPU memory) and
    gathered layer by layer; its head is kept whole on every rank.
    """

    def __init__(self, model: PreTrainedModel, *, zero: bool, offload: bool) -> None:
        model.requires_grad_(False).eval()
        self._module: Any = Student(model)
        self._head = head(model)
        if zero:
            self._module = make_teacher_engine(self._module, offload=offload)
            self._head = gathered(self._head).to(device())

    def call(self, function: Callable[[PreTrainedModel], Any]) -> Any:
        """`function` of the model, where its weights are whole. The same on every rank."""
        with torch.no_grad():
            return self._module(call=function)

    def __call__(self, batch: Batch, rows: Sequence[int]) -> Targets:
        read = batch if batch.behind is None else batch.behind
        states = self.call(lambda model: hidden_states(model, read))
        return HiddenTargets(states[read.sources], self._head)


def base_as_teacher(adapted: Any, engine: Engine) -> TargetSource:
    """The student without its adapter: no second model.

    Args:
        adapted: the peft model around the student's.
    """

    def targets(batch: Batch, rows: Sequence[int]) -> Targets:
        def states(model: PreTrainedModel) -> Tensor:
            with torch.no_grad(), adapted.disable_adapter():
                return hidden_states(model, batch)[batch.sources]

        return HiddenTargets(engine.call(states), None)

    return targets


def common_vocabulary(
    student: PreTrainedTokenizerBase,
    teacher: PreTrainedTokenizerBase,
    sizes: tuple[int, int],
) -> int | None:
    """How many tokens both models know alike; None: exactly as many as their heads have rows.

    Heads are often padded to different sizes: what no token belongs to is left out on both sides.

    Raises:
        InputError: the tokenizers differ.
    """
    ours, theirs = student.get_vocab(), teacher.get_vocab()
    if ours != theirs:
        differ = [
            text for text in ours.keys() | theirs.keys() if ours.get(text) != theirs.get(text)
        ]
        example = min(differ)
        raise InputError(
            f"student and teacher have different vocabularies: {len(differ)} tokens differ, such "
            f"as {example!r} ({ours.get(example, 'none')} and {theirs.get(example, 'none')})",
            hint="logit distillation needs one tokenizer; across tokenizers, train on the "
            'teacher\'s rows with targets = "labels"',
        )
    if sizes[0] == sizes[1]:
        return None
    largest: int = max(ours.values())  # ids may have gaps
    return min(largest + 1, *sizes)
