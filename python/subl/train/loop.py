"""The loop: rows in, a model folder out.

A run is a `TrainJob`, a JSON document that says everything; ranks need nothing else. Same job, same
machine, same bytes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from subl.errors import InputError, StageError
from subl.model.chat import Example, example
from subl.progress import Progress, Report, silent
from subl.train.plan import TrainSpec, learning_rate, rank_batches, step_rows


class TrainJob(BaseModel):
    """One training run: who is trained, on which rows, against what, written where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(description="what to call this run in progress")
    model: Path
    teacher: Path | None = Field(None, description="distil from this model; none: the rows' labels")
    temperature: float = 1.0
    rows: tuple[tuple[str, str], ...] = Field(description="(prompt, completion)")
    spec: TrainSpec
    out: Path = Field(description="directory that gets the model folder's files and losses.jsonl")


def train(job: TrainJob, report: Report = silent) -> dict[str, Any]:
    """Run the job on this process's rank. Rank 0 reports and writes; every rank returns figures."""
    from subl.model.load import device, load_model, load_tokenizer, require_torch, save_model

    require_torch()
    import torch

    from subl.train.engine import make_engine
    from subl.train.student import Student, check_head, check_vocabularies, collate

    spec = job.spec
    torch.manual_seed(spec.seed)
    tokenizer = load_tokenizer(job.model)
    examples = _examples(tokenizer, job.rows)
    model = load_model(job.model, spec.dtype)
    check_head(model)
    teacher = None
    if job.teacher is not None:
        teacher = load_model(job.teacher, spec.dtype).requires_grad_(False)
        check_head(teacher)
        check_vocabularies(model, teacher)
    student = Student(model, teacher, job.temperature)
    student.train()
    engine = make_engine(spec, student)

    losses: list[dict[str, float | None]] = []
    tokens_seen, target_tokens_seen, started = 0, 0, time.monotonic()
    for step in range(spec.steps):
        rows = step_rows(spec, len(examples), step)
        target_tokens = sum(len(examples[row].completion_ids) for row in rows)
        loss = torch.zeros((), device=device())
        for batch_rows in rank_batches(spec, rows, engine.rank):
            batch = collate([examples[row] for row in batch_rows], device())
            part = engine.forward(batch.input_ids, batch.targets) / target_tokens
            engine.backward(part)
            loss += part.detach()
        mean_loss = float(engine.sum_over_ranks(loss))
        if not math.isfinite(mean_loss):
            raise StageError(
                f"the loss became {mean_loss} at step {step + 1}",
                hint="lower learning_rate or raise warmup_steps",
            )
        rate = learning_rate(spec, step)
        norm = engine.step(rate)
        losses.append(
            {
                "step": step + 1,
                "loss": mean_loss,
                "learning_rate": rate,
                "gradient_norm": norm,
                "target_tokens": target_tokens,
            }
        )
        tokens_seen += sum(len(examples[row]) for row in rows)
        target_tokens_seen += target_tokens
        speed = tokens_seen / (time.monotonic() - started)
        if engine.rank == 0:
            note = f"loss {mean_loss:.4f}, {speed:.0f} tokens/s"
            report(Progress(job.task, step + 1, spec.steps, "steps", note))

    state = engine.state_dict()
    if engine.rank == 0:
        save_model(model.eval(), tokenizer, job.out, state)
        lines = "".join(json.dumps(line, sort_keys=True) + "\n" for line in losses)
        (job.out / "losses.jsonl").write_text(lines)
    return {
        "steps": spec.steps,
        "rows": len(examples),
        "target_tokens": target_tokens_seen,
        "first_loss": losses[0]["loss"],
        "last_loss": losses[-1]["loss"],
        "parameters": model.num_parameters(),
    }


def _examples(tokenizer: Any, rows: Sequence[tuple[str, str]]) -> list[Example]:
    if not rows:
        raise InputError("there are no rows to train on", hint="did the filter keep any?")
    return [example(tokenizer, prompt, completion) for prompt, completion in rows]
