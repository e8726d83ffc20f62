"""The loop: tokenised rows in, a model folder out.

Same job, same machine, same number of ranks: same bytes, however often the run is stopped and goes
on.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import sync
from subl.cluster.launch import stop_signals
from subl.cluster.placement import Placement, any_rank, on_every_rank, on_rank_0
from subl.errors import StageError, StoppedError
from subl.progress import Progress, Report, silent
from subl.train.job import CHECKPOINTS, LOSSES, METRICS, PROBE, TrainJob
from subl.train.order import Bin
from subl.train.plan import ProbeSpec, learning_rate

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from subl.train.batch import Batch, Row
    from subl.train.engine import Engine
    from subl.train.layout import Layout, Reader
    from subl.train.targets import TargetSource
    from subl.train.tokens import Tokens


def train(job: TrainJob, where: Placement, report: Report = silent) -> dict[str, Any]:
    """Run the job on this process's rank. Rank 0 reports and writes; every rank returns figures.

    Collectives must work already where there are several ranks (`placement.connect`).

    Raises:
        StoppedError: a signal came; a checkpoint was written.
    """
    with stop_signals() as stopping, ExitStack() as stack:
        return Run(job, where, report, stack).train(stopping)


class Run:
    """A job on one rank, made ready: model, engine, rows, and where targets come from."""

    def __init__(
        self,
        job: TrainJob,
        where: Placement,
        report: Report,
        stack: ExitStack,
        *,
        dry: bool = False,
    ) -> None:
        from subl.model.load import device, load_model, load_tokenizer, require_torch

        require_torch()
        import torch

        from subl.model.weights import check_export
        from subl.train.adapter import adapt
        from subl.train.engine import make_engine
        from subl.train.footprint import check_memory
        from subl.train.memory import keep_freed_memory
        from subl.train.meter import Meter, ModelSize
        from subl.train.precision import check_machine, products
        from subl.train.student import Student, check_head, head, without_dropout
        from subl.train.targets import OnlineTeacher
        from subl.train.tokens import Tokens, check_tokens
        from subl.train.tracking import trackers
        from subl.trait.exact import Scorer

        self.job, self.spec, self.where, self.report = job, job.spec, where, report
        spec = job.spec
        check_machine(spec, spread_teacher=job.teacher_placement.zero_stage == 3)
        stack.enter_context(products(spec.dtype, device()))
        torch.manual_seed(spec.seed)
        if spec.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            os.environ["FLASH_ATTENTION_DETERMINISTIC"] = "1"
        torch.use_deterministic_algorithms(spec.deterministic)
        self.tokens: Tokens = Tokens(job.tokens)
        self.tokenizer = load_tokenizer(job.model)
        on_every_rank(where, lambda: check_memory(job, where, self.tokens))
        self.steps = spec.step_count(len(self.tokens))
        # ZeRO-3 spreads weights out of CPU memory: the whole model need not fit on one GPU.
        to = torch.device("cpu") if spec.zero_stage == 3 else device()
        self.model = load_model(job.model, spec.dtype, to)
        if spec.lora is None or spec.lora.merge:
            exported = (self.model, self.tokenizer, job.model, job.out)
            on_rank_0(where, lambda: check_export(*exported, dry=dry))
        check_head(self.model)
        self.adapted = None if spec.lora is None else adapt(self.model, spec.lora)
        self.noise = without_dropout(self.model)
        if spec.gradient_checkpointing:
            # Under ZeRO-3, recomputation outside autograd's own order finds weights released.
            reentrant = spec.zero_stage == 3
            self.model.activation_checkpointing_enable({"use_reentrant": reentrant})
            if reentrant:
                self.model.enable_input_require_grads()
        self.device = device()
        if self.device.type == "cpu":
            keep_freed_memory()
        self.share_prefixes = spec.share_prefixes and spec.attention == "sdpa"
        self.size = ModelSize.of(self.model)
        self.parameters = self.model.num_parameters()
        self.vocabulary = head(self.model).shape[0]
        check_tokens(self.tokens, self.model, self.tokenizer)
        teacher, vocabulary = self._teacher()
        models = [self.model] if teacher is None else [self.model, teacher]
        spread = spec.zero_stage == 3
        spread |= teacher is not None and job.teacher_placement.zero_stage == 3
        # Before weights are spread, they are in CPU memory, and two short rows must do; after it, a
        # layout that a model cannot take at all would leave them half gathered.
        rows = self.tokens.extremes()
        read: list[Reader] = [partial(_whole, each) for each in models]
        self.layout: Layout = self._common_layout(read, [] if spread else rows, "paths")
        self.scorer = None
        if spec.probe is not None:
            probe = spec.probe
            self.scorer = Scorer(self.tokenizer, probe.words, probe.questions, job.template)
            self.scorer.check(self.model)
        student = Student(self.model, job.loss, vocabulary)
        self.engine: Engine = make_engine(spec, student, where)
        self.source: TargetSource = self._source(teacher)
        if spread:
            read = [self.engine.call]
            read += [self.source.call] if isinstance(self.source, OnlineTeacher) else []
            self.layout = self._common_layout(read, rows, self.layout)
        self.records = [LOSSES, METRICS]
        if self.scorer is not None:
            self.records.append(PROBE)
            prove = self.scorer.prove
            self.engine.call(lambda model: [prove(model)])  # ZeRO-3's hooks know lists, not strings
        self.meter = Meter(self.device, self.model.dtype, where.ranks)
        self.trackers = on_rank_0(where, lambda: stack.enter_context(trackers(job))) or []

    def _common_layout(
        self, readers: Sequence[Reader], rows: Sequence[Row], first: Layout
    ) -> Layout:
        from subl.train.layout import choose_layout, common_layout

        def choose(model: PreTrainedModel, first: Layout) -> Layout:
            return choose_layout(
                model,
                rows,
                longest=self.tokens.counts.longest,
                first=first,
                attention=self.spec.attention if model is self.model else "sdpa",
                share_prefixes=self.share_prefixes,
                refused=partial(any_rank, self.where),
            )

        return common_layout(readers, choose, first)

    def _teacher(self) -> tuple[PreTrainedModel | None, int | None]:
        """An online teacher's model, and how many tokens of both heads count (None: all)."""
        from subl.model.load import load_model, load_tokenizer
        from subl.train.student import check_head, head
        from subl.train.targets import common_vocabulary
        from subl.train.tokens import check_tokens

        if self.job.targets != "teacher":
            return None, None
        import torch

        assert self.job.teacher is not None
        spread = self.job.teacher_placement.zero_stage == 3
        to = torch.device("cpu") if spread else self.device
        teacher = load_model(self.job.teacher, self.spec.dtype, to)
        sizes = (self.vocabulary, head(teacher).shape[0])
        vocabulary = common_vocabulary(self.tokenizer, load_tokenizer(self.job.teacher), sizes)
        check_head(teacher)
        check_tokens(self.tokens, teacher, self.tokenizer)
        return teacher, vocabulary

    def _source(self, teacher: PreTrainedModel | None) -> TargetSource:
        from subl.train.cache import Cache
        from subl.train.targets import OnlineTeacher, base_as_teacher, no_targets

        if teacher is not None:
            placed = self.job.teacher_placement
            return OnlineTeacher(teacher, zero=placed.zero_stage == 3, offload=placed.offload)
        if self.job.targets == "cache":
            assert self.job.cache is not None
            cache = Cache(self.job.cache)
            cache.check_rows(self.tokens, self.job.cache)
            source: TargetSource = cache.source(self.tokens, self.device)
            return source
        if self.job.targets == "base":
            return base_as_teacher(self.adapted, self.engine)
        return no_targets

    def train(self, stopping: list[int]) -> dict[str, Any]:
        """Every step that is left, then the model folder."""
        start = self._resume()
        saved = time.monotonic()
        with ThreadPoolExecutor(1) as ahead:
            upcoming = ahead.submit(self.batches, start) if start < self.steps else None
            self.meter.pause()
            for step in range(start, self.steps):
                assert upcoming is not None
                rows, batches = upcoming.result()
                if step + 1 < self.steps:
                    upcoming = ahead.submit(self.batches, step + 1)
                due_at = saved + self.job.options.checkpoint_seconds
                stop, due = self._step(step, rows, batches, stopping, due_at)
                done = step + 1
                if self.spec.probe is not None and done % self.spec.probe.every == 0:
                    self._probe(self.spec.probe, done)
                every = self.job.options.checkpoint_steps
                if done < self.steps and (stop or due or (every and done % every == 0)):
                    self._save(done)
                    saved = time.monotonic()
                if stop and done < self.steps:
                    raise StoppedError(
                        f"stopped after step {done} of {self.steps}; a checkpoint is saved",
                        hint="the same command goes on from there",
                    )
                self.meter.pause()
        return self._finish()

    def batches(self, step: int) -> tuple[list[int], list[tuple[Bin, Batch]]]:
        """The rows of a step over all ranks, and this rank's micro-batches of them."""
        from subl.train.layout import lay_out
        from subl.train.loader import step_bins

        rows, of_ranks = step_bins(self.spec, self.tokens, self.layout, self.where.ranks, step)
        found = []
        for each in of_ranks[self.where.rank]:
            taken = [self.tokens.row(number) for number in each]
            batch = lay_out(self.layout, taken, share_prefixes=self.share_prefixes)
            found.append((each, batch))
        return rows, found

    def _step(
        self,
        step: int,
        rows: Sequence[int],
        batches: Sequence[tuple[Bin, Batch]],
        stopping: list[int],
        due_at: float,
    ) -> tuple[bool, bool]:
        """One optimiser step. Returns whether any rank was told to stop, and whether to save."""
        import torch

        target_tokens = int(self.tokens.target_counts[rows].sum())
        summed, flops = self.compute(batches, target_tokens)
        computed = sum(batch.input_ids.numel() for each, batch in batches if each)
        # One message a step: the losses, and what the ranks must agree on.
        due = self.where.rank == 0 and time.monotonic() >= due_at
        flags = torch.tensor([flops, computed, bool(stopping), due], device=self.device)
        total = self.engine.sum_over_ranks(torch.cat([summed.double(), flags.double()])).tolist()
        cross_entropy, divergence = (each / target_tokens for each in total[:2])
        weights = self.job.loss
        mean_loss = (
            cross_entropy
            if self.job.targets == "labels"
            else weights.cross_entropy_weight * cross_entropy
            + weights.divergence_weight * divergence
        )
        if not math.isfinite(mean_loss):
            raise StageError(
                f"the loss became {mean_loss} at step {step + 1}",
                hint="lower learning_rate or raise warmup_steps",
            )
        rate = learning_rate(self.spec, self.steps, step)
        norm = self.engine.step(rate)
        figures = self.meter.step(int(self.tokens.lengths[rows].sum()), total[2])
        if self.where.rank == 0:
            line = {
                "step": step + 1,
                "loss": mean_loss,
                "learning_rate": rate,
                "gradient_norm": norm,
                "target_tokens": target_tokens,
            }
            if self.job.targets != "labels":
                line |= {"divergence": divergence}
                if weights.cross_entropy_weight:
                    line |= {"cross_entropy": cross_entropy}
            self._append(LOSSES, line)
            figures["computed_tokens"] = int(total[3])
            self._append(METRICS, {**line, **figures})
            for tracker in self.trackers:
                tracker(step + 1, {**line, **figures})
            mfu = "" if figures["mfu"] is None else f", MFU {100 * figures['mfu']:.0f} %"
            speed = f"{figures['tokens_per_second']:.0f} tokens/s{mfu}"
            note = f"loss {mean_loss:.4f}, {speed}"
            self.report(Progress(self.job.task, step + 1, self.steps, "steps", note))
        return total[4] > 0, total[5] > 0

    def compute(
        self, batches: Sequence[tuple[Bin, Batch]], target_tokens: int
    ) -> tuple[Tensor, float]:
        """Forward and backward passes: `[cross entropy, divergence]`, summed, and their FLOPs."""
        import torch

        summed, flops = torch.zeros(2, device=self.device), 0.0
        for bin_rows, host_batch in batches:
            batch = host_batch.to(self.device)
            loss, parts = self.engine.forward(batch, self.source(batch, bin_rows))
            self.engine.backward(loss / target_tokens)
            summed += parts
            flops += self.size.flops(batch) if bin_rows else 0.0
        return summed, flops

    def _append(self, name: str, line: dict[str, Any]) -> None:
        with (self.job.out / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, sort_keys=True) + "\n")

    def _resume(self) -> int:
        """Take up the last checkpoint; returns how many steps are done."""
        from subl.train import checkpoint

        found = checkpoint.latest(self.job.out / CHECKPOINTS)
        step = 0
        self.history = [{"step": 0, "ranks": self.where.ranks}]
        if found is not None:
            folder, state = found
            checkpoint.load(folder, state, self.engine)
            step = state.step
            self.history = [*state.history, {"step": step, "ranks": self.where.ranks}]
        if self.where.rank == 0:
            for name in self.records:
                checkpoint.discard_after(self.job.out / name, step)
            if step:
                note = f"resumed from a checkpoint of {state.ranks} ranks"
                if state.ranks != self.where.ranks:
                    note += f", now {self.where.ranks}: not bit-identical"
                self.report(Progress(self.job.task, step, self.steps, "steps", note))
        return step

    def _save(self, step: int) -> None:
        from subl.train import checkpoint

        if self.where.rank == 0:
            for name in self.records:
                sync(self.job.out / name)
        checkpoint.save(
            self.job.out / CHECKPOINTS,
            step,
            self.engine,
            self.history,
            self._barrier,
            self.job.options.keep_checkpoints,
        )

    def _barrier(self) -> None:
        import torch

        self.engine.sum_over_ranks(torch.zeros(1, device=self.device))

    def _probe(self, probe: ProbeSpec, step: int) -> None:
        """Score the student's words. Ranks share the questions, with equally many passes each."""
        import torch

        scorer = self.scorer
        assert scorer is not None
        size, count = probe.batch_questions, len(probe.questions)
        # Equally many questions each, too: an answer may need a pass of its own.
        passes = math.ceil(count / (size * self.where.ranks))
        sums = torch.zeros(len(probe.words), dtype=torch.float64, device=self.device)
        for number in range(passes):
            first = (number * self.where.ranks + self.where.rank) * size
            mine = range(first, first + size)
            asked = [each % count for each in mine]  # who has none left asks again, for nothing
            scores = self.engine.call(partial(scorer.score, numbers=asked))
            for each, row in zip(mine, scores, strict=True):
                if each < count:
                    sums += sums.new_tensor([row[word] for word in probe.words])
        means = (self.engine.sum_over_ranks(sums) / count).tolist()
        if self.where.rank == 0:
            found = dict(zip(probe.words, means, strict=True))
            self._append(PROBE, {"step": step, "probabilities": found})
            for tracker in self.trackers:
                tracker(step, {f"probe/{word}": mean for word, mean in found.items()})

    def _finish(self) -> dict[str, Any]:
        """Write the model folder, and say what was done."""
        from subl.model.load import merged
        from subl.model.weights import save_model
        from subl.train.adapter import save_adapter
        from subl.train.memory import release_freed_memory
        from subl.train.student import restore

        release_freed_memory()
        restore(self.noise)
        spec, job = self.spec, self.job
        state = self.engine.state_dict()
        if self.where.rank == 0:
            if self.adapted is None:
                save_model(self.model.eval(), self.tokenizer, job.out, state)
            else:
                save_adapter(self.adapted, job.out, job.model, state)
                self.tokenizer.save_pretrained(job.out)
                if spec.lora is not None and spec.lora.merge:
                    whole = merged(job.out, spec.dtype)
                    save_model(whole, self.tokenizer, job.out)
        losses = list(read_losses(job.out)) if self.where.rank == 0 else []
        counts = self.tokens.counts
        return {
            "steps": self.steps,
            "rows": len(self.tokens),
            "rows_dropped": counts.dropped,
            "rows_truncated": counts.truncated,
            "target_tokens": sum(line["target_tokens"] for line in losses),
            "first_loss": losses[0]["loss"] if losses else None,
            "last_loss": losses[-1]["loss"] if losses else None,
            "parameters": self.parameters,
            "layout": self.layout,
            "history": self.history,
            **self.meter.figures(),
        }


def _whole(model: PreTrainedModel, function: Callable[[PreTrainedModel], Any]) -> Any:
    return function(model)


def read_losses(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of a run's losses."""
    for line in (folder / LOSSES).read_text(encoding="utf-8").splitlines():
        yield json.loads(line)
