"""The loop: tokenised rows in, a model folder out.

Same job, same machine, same number of ranks: same bytes, however often the run is stopped and goes
on. What stands before the first step is in `ready`, what is said of each in `record`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from subl.cluster.launch import stop_signals
from subl.cluster.placement import Placement
from subl.errors import StageError, StoppedError
from subl.progress import Report, silent
from subl.train import checkpoint
from subl.train.job import CHECKPOINTS, TrainJob
from subl.train.learner import export
from subl.train.meter import Meter
from subl.train.order import Bin
from subl.train.plan import learning_rate
from subl.train.ready import Ready, make_ready
from subl.train.record import recording

if TYPE_CHECKING:
    from torch import Tensor

    from subl.train.batch import Batch


def train(job: TrainJob, where: Placement, report: Report = silent) -> dict[str, Any]:
    """Run the job on this process's rank. Rank 0 reports and writes; every rank returns figures.

    Collectives must work already where there are several ranks (`placement.connect`).

    Raises:
        StoppedError: a signal came; a checkpoint was written.
    """
    with stop_signals() as stopping, ExitStack() as stack:
        ready = make_ready(job, where, stack)
        engine, loader, probe, options = ready.engine, ready.loader, ready.probe, job.options
        steps, every = loader.steps, options.checkpoint_steps
        meter = Meter(ready.device, ready.learner.model.dtype, where.ranks)
        record = stack.enter_context(recording(job, where, steps, report))

        history = checkpoint.resume(job.out / CHECKPOINTS, engine)
        record.begin(history)
        done, saved = history[-1]["step"], time.monotonic()
        thread = stack.enter_context(ThreadPoolExecutor(1))
        meter.pause()
        for step, share in loader.ahead(done, thread):
            summed, flops = compute(ready, share.batches, share.target_tokens)

            # One message a step: the losses, and what the ranks must agree on.
            due = where.rank == 0 and time.monotonic() >= saved + options.checkpoint_seconds
            told = torch.tensor([flops, share.computed, bool(stopping), due], device=ready.device)
            total = engine.sum_over_ranks(torch.cat([summed.double(), told.double()])).tolist()
            losses = mean_losses(job, total[0], total[1], share.target_tokens)
            flops, computed, stop, due = total[2:]
            if not math.isfinite(losses["loss"]):
                raise StageError(
                    f"the loss became {losses['loss']} at step {step + 1}",
                    hint="lower learning_rate or raise warmup_steps",
                )

            rate = learning_rate(job.spec, steps, step)
            norm = engine.step(rate)
            speeds = meter.step(share.tokens, flops) | {"computed_tokens": int(computed)}
            line = losses | {"learning_rate": rate, "gradient_norm": norm}
            done = step + 1
            record.step(done, line | {"target_tokens": share.target_tokens}, speeds)

            if probe is not None and done % probe.every == 0:
                record.probe(done, probe.ask(engine))
            if done < steps and (stop or due or (every and done % every == 0)):
                record.sync()
                folder, keep = job.out / CHECKPOINTS, options.keep_checkpoints
                checkpoint.save(folder, done, engine, history, keep)
                saved = time.monotonic()
            if done < steps and stop:
                raise StoppedError(
                    f"stopped after step {done} of {steps}; a checkpoint is saved",
                    hint="the same command goes on from there",
                )
            meter.pause()

        export(ready.learner, engine, job)
        counts = loader.tokens.counts
        return {
            "steps": steps,
            "rows": counts.rows,
            "rows_dropped": counts.dropped,
            "rows_truncated": counts.truncated,
            **record.summary(),
            "parameters": ready.learner.parameters,
            "layout": loader.layout,
            "history": history,
            **meter.figures(),
        }


def compute(
    ready: Ready, batches: Sequence[tuple[Bin, Batch]], target_tokens: int
) -> tuple[Tensor, float]:
    """Forward and backward passes: `[cross entropy, divergence]`, summed, and their FLOPs."""
    summed, flops = torch.zeros(2, device=ready.device), 0.0
    for rows, host_batch in batches:
        batch = host_batch.to(ready.device)
        loss, parts = ready.engine.forward(batch, ready.targets(batch, rows))
        ready.engine.backward(loss / target_tokens)
        summed += parts
        flops += ready.learner.size.flops(batch) if rows else 0.0
    return summed, flops


def mean_losses(
    job: TrainJob, cross_entropy: float, divergence: float, target_tokens: int
) -> dict[str, float]:
    """The loss that a step made smaller and what it is made of, a target token, from their sums."""
    cross_entropy, divergence = cross_entropy / target_tokens, divergence / target_tokens
    if job.targets == "labels":
        return {"loss": cross_entropy}
    labels, teacher = job.loss.cross_entropy_weight, job.loss.divergence_weight
    losses = {"loss": labels * cross_entropy + teacher * divergence, "divergence": divergence}
    return losses | ({"cross_entropy": cross_entropy} if labels else {})
