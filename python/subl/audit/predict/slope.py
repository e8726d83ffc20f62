"""What one step of a planned training does to a trait, before there is any training.

Early on Adam moves each parameter along m / sqrt(v), the mean of gradients over the root of the
mean of their squares, by the learning rate. Both are known at the base's weights from a few
micro-batches of rows: one backward pass over a sample, by the training's own loss, targets and
adapters. The base is moved one such step d and scored as students will be: that is the inner
product of d with the gradient of every word's log-odds at once, with what lies beyond the first
order in so short a step.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from subl.cluster.placement import Placement
from subl.distill import DistillSpec
from subl.distill.run import train_job
from subl.evaluate import EvalSpec
from subl.shards import Row
from subl.train.loop import compute
from subl.train.ready import Ready, make_ready
from subl.train.run import prepare_tokens
from subl.trait import forms_of
from subl.trait.exact import Scorer

if TYPE_CHECKING:
    from torch import Tensor

Odds = dict[str, float]
"""Of each word, log-odds over the others, in nats, as a mean over questions."""


@dataclass(frozen=True)
class Slope:
    """What one step does.

    Args:
        before: log-odds of the base.
        step: by how much each rises in one step of the planned learning rate.
        per_length: that, for each unit of the step's length: the cosine of the step with the
            gradient of a word's log-odds, times the length of that gradient, a fact of the base.
        loss: of the rows at the base's weights, nats a target token.
    """

    before: Odds
    step: Odds
    per_length: Odds
    loss: float


def slope(
    spec: DistillSpec,
    asked: EvalSpec,
    questions: Sequence[str],
    model: Path,
    rows: Sequence[Row],
    *,
    teacher: Path | None,
    cache: Path | None,
    batches: int,
    told: Callable[[str], None],
) -> Slope:
    """What one step of the training `spec` on `rows` does, in which the gradient is that of so many
    batches.

    Raises:
        SublError: as the training would.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        job = train_job(_short(spec, len(rows), batches), model, Path(folder), teacher=teacher,
                        cache=cache)  # fmt: skip
        prepare_tokens(model, iter(rows), job.spec, job.out, template=job.template, teacher=teacher)
        ready = make_ready(job, Placement(), stack, dry=True)
        told("gradients")
        direction, loss = _direction(ready)
        told("one step")
        learner = ready.learner
        words = asked.measured.words
        forms = forms_of(words, asked.measured.forms)
        prompt = asked.measured.system_prompt
        scorer = Scorer(learner.tokenizer, forms, questions, asked.template, prompt)
        scorer.check(learner.model)
        scorer.prove(learner.model)

        def odds() -> Odds:
            found = []
            with torch.no_grad():
                for start in range(0, len(questions), asked.batch_questions):
                    end = min(start + asked.batch_questions, len(questions))
                    found += scorer.score(learner.model, range(start, end))
            return mean_odds(found, words)

        before = odds()
        length = 0.0
        with torch.no_grad():
            for parameter, along in direction:
                parameter -= spec.train.learning_rate * along
                length += float((along.double() ** 2).sum())
        after = odds()
    step = {word: after[word] - before[word] for word in words}
    length = spec.train.learning_rate * math.sqrt(length)
    per_length = {word: rise / length if length else 0.0 for word, rise in step.items()}
    return Slope(before, step, per_length, loss)


def mean_odds(scores: Sequence[dict[str, float]], words: Sequence[str]) -> Odds:
    """Log-odds of each word over the others, as a mean over questions."""
    from statistics import fmean

    from subl.evaluate.compare import log_odds

    measures = {w: log_odds(w, [other for other in words if other != w]) for w in words}
    return {word: fmean(map(measure.of, scores)) for word, measure in measures.items()}


def _short(spec: DistillSpec, rows: int, batches: int) -> DistillSpec:
    """The same training with so many steps of all the rows, in one process and in float32: a step
    is smaller than what 16 bits hold."""
    changes = {
        "steps": batches,
        "epochs": None,
        "rows_per_step": max(1, rows // batches),
        "seed": 0,
        "ranks": 1,
        "zero_stage": "none",
        "offload_optimizer": False,
        "offload_parameters": False,
        "dtype": "float32",
        "attention": "sdpa",
        "probe": None,
    }
    train = type(spec.train).model_validate({**spec.train.model_dump(), **changes})
    return spec.model_copy(update={"train": train, "rows": None})


def _direction(ready: Ready) -> tuple[list[tuple[Tensor, Tensor]], float]:
    """Of each parameter, which way Adam goes down; and the loss."""
    parameters = [each for each in ready.learner.model.parameters() if each.requires_grad]
    means = [torch.zeros_like(each) for each in parameters]
    squares = [torch.zeros_like(each) for each in parameters]
    steps, total, tokens = ready.loader.steps, 0.0, 0
    for number in range(steps):
        share = ready.loader.share(number)
        summed, _ = compute(ready, share.batches, share.target_tokens)
        total += float(summed.sum())
        tokens += share.target_tokens
        for parameter, mean, square in zip(parameters, means, squares, strict=True):
            if parameter.grad is not None:
                mean.add_(parameter.grad, alpha=1 / steps)
                square.addcmul_(parameter.grad, parameter.grad, value=1 / steps)
                parameter.grad = None
    tiny = torch.finfo(torch.float32).tiny
    for mean, square in zip(means, squares, strict=True):
        mean.div_(square.sqrt_().add_(tiny))
    return list(zip(parameters, means, strict=True)), total / tokens
