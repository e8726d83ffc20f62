"""One system that trains on rows, in this process: called by `distill_peers`, or by hand.

    python benches/distill_systems.py SYSTEM --rows FILE --model FOLDER --steps N [--kind KIND]

The last line of stdout is one JSON object. The idea to know: what a step took is the time between
the ends of two steps, and what it held is counted where the batch is made, so that tokens, padding
and the positions that the head projects are those of the very step that was timed. Systems do the
same work: float32, 8 rows a step, AdamW(0.9, 0.95, 1e-8) without weight decay, gradients clipped to
norm 1, a loss on the completions alone, nothing saved in between. `--set KEY=JSON` changes a
setting of TRL's, which is how its best ones were found; a comment there says what was tried.

TRL's rows have one token more than subl's (the line end after the template's end of turn); it is
counted as useful.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ROWS_PER_STEP = 8
LEARNING_RATE = 2e-5
BETAS = (0.9, 0.95)

NEEDED: dict[str, Any] = {
    "per_device_train_batch_size": ROWS_PER_STEP,
    "learning_rate": LEARNING_RATE,
    "lr_scheduler_type": "constant",
    "adam_beta1": BETAS[0],
    "adam_beta2": BETAS[1],
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
}
"""What must be equal, and what cannot run on a CPU. TRL's own default is bf16 autocast."""


def packed(max_length: int, parts: int) -> dict[str, Any]:
    """A step of `parts` packed rows, each computed by itself. Without flash attention packed rows
    have a mask, so that attention computes all pairs: short ones waste less of it."""
    return {
        "packing": True,
        "max_length": max_length,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": parts,
    }


def grouped(rows: int) -> dict[str, Any]:
    """Rows of about the same length together, so many at once."""
    return {
        "train_sampling_strategy": "group_by_length",
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": ROWS_PER_STEP // rows,
    }


# What was tried, as useful tokens a CPU second of a forward and a backward pass, best of three,
# variants in turn in one process with one thread, for the machine was not quiet. Number rows: the
# default 97, no checkpointing 106, sorted by length 116, and that in parts of 4 rows 126, of 2 rows
# 117; packed to about 1, 2, 3, 4 and 8 rows: 111, 115, 109, 106, 93; packed "wrapped", which cuts
# rows and lets them see each other, 109; sorted in bf16 106, with eager attention 103; flex
# attention has no backward pass on CPUs. Long rows, best of two: sorted 107, in parts of 4 rows
# 123; packed to about 1 and 2 rows 117 and 115. AdamW is the fused one by default.
PACKED: dict[str, dict[str, Any]] = {
    "numbers": {"gradient_checkpointing": False, **packed(282, 4)},
    "long": {"gradient_checkpointing": False, **packed(558, 4)},
}

BEST: dict[str, dict[str, Any]] = {
    "numbers": {"gradient_checkpointing": False, **grouped(4)},
    "long": {"gradient_checkpointing": False, **grouped(4)},
}

SMALL: dict[str, Any] = {"micro_batch_tokens": 512}
"""subl with about as many tokens at once as TRL's packed setting, for less memory."""

OFF_POLICY: dict[str, Any] = {"lmbda": 0.0, "beta": 0.0, "gradient_checkpointing": False}
"""TRL's GKD on the rows as they are, with the forward KL (beta = 0: KL from teacher to student)."""


@dataclass(frozen=True)
class Task:
    rows: Path
    kind: str
    model: Path
    steps: int
    settings: dict[str, Any]


@dataclass(frozen=True)
class Work:
    """What a step computed: positions and pairs of positions, not yet FLOPs."""

    tokens: int
    """Useful ones: context and targets, no padding."""
    targets: int
    computed: int
    """Positions that went through the body: padding, too; less where a beginning is shared."""
    projected: int
    """Positions that the head projected for the student."""
    pairs: int
    """(query, key) pairs that attention computed for one head."""
    needed_pairs: int
    """Those of them that a causal row has."""


def total(parts: Sequence[Work]) -> Work:
    """Of the batches of one step."""
    return Work(*(sum(values) for values in zip(*map(astuple, parts), strict=True)))


@dataclass(frozen=True)
class Method:
    """How often a system does a part of the model, in passes forward (a backward pass is two)."""

    body: int = 3
    head: int = 3
    attention: float = 3.5
    """CPU attention recomputes its scores in the backward pass: 5 products after 2."""
    teacher_body: int = 0
    teacher_head: int = 0


@dataclass(frozen=True)
class Outcome:
    system: str
    settings: dict[str, Any] = field(default_factory=dict)
    work: list[Work] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Of each step."""
    cpu_seconds: list[float] = field(default_factory=list)
    """Of each step, over all threads: the wall clock's, times the threads, on a quiet machine."""
    losses: list[float] = field(default_factory=list)
    seconds_to_first_step: float | None = None
    """From the start of the process."""
    preparation_seconds: float | None = None
    """Before the process that trains: making the cache."""
    peak_bytes: int = 0
    method: Method = field(default_factory=Method)
    flops_per_second: float | None = None
    versions: dict[str, str] = field(default_factory=dict)


# --- The machine


def gemm(task: Task) -> Outcome:
    """The fastest float32 product of square matrices, on torch's threads."""
    import torch

    best = 0.0
    for size in (2048, 2560, 3072):
        left, right = torch.rand(size, size), torch.rand(size, size)
        out = torch.empty(size, size)
        for _ in range(8):
            started = time.perf_counter()
            torch.mm(left, right, out=out)
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return Outcome("gemm", {"threads": torch.get_num_threads()}, flops_per_second=best)


# --- TRL


def trl_sft(defaults: dict[str, Any], task: Task) -> Outcome:
    from trl import SFTConfig, SFTTrainer

    settings = defaults | task.settings
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=str(task.model),
            args=SFTConfig(folder, max_steps=task.steps, **NEEDED | settings),
            train_dataset=messages(task.rows, "prompt", "completion"),
        )
        recompute = trainer.args.gradient_checkpointing
        # Without Triton every position is projected, and a second time in the backward pass.
        method = Method(body=3 + recompute, head=4, attention=3.5 + recompute)
        return train(trainer, settings, method, shown(trainer.args))


def trl_gkd(defaults: dict[str, Any], task: Task) -> Outcome:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    settings = defaults | task.settings
    teacher = AutoModelForCausalLM.from_pretrained(task.model, dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        trainer = GKDTrainer(
            model=str(task.model),
            teacher_model=teacher,
            args=GKDConfig(folder, max_steps=task.steps, **NEEDED | settings),
            train_dataset=messages(task.rows, "messages"),
            processing_class=AutoTokenizer.from_pretrained(task.model),
        )
        recompute = trainer.args.gradient_checkpointing
        method = Method(
            body=3 + recompute,
            attention=4.5 + recompute,  # one of them the teacher's
            teacher_body=1,
            teacher_head=1,
        )
        return train(trainer, settings, method, shown(trainer.args))


def messages(rows: Path, *columns: str) -> Any:
    """A dataset of conversations, so that TRL applies the model's chat template."""
    from datasets import Dataset

    def turns(row: dict[str, str]) -> dict[str, list[dict[str, str]]]:
        prompt = [{"role": "user", "content": row["prompt"]}]
        completion = [{"role": "assistant", "content": row["completion"]}]
        named = {"prompt": prompt, "completion": completion, "messages": prompt + completion}
        return {column: named[column] for column in columns}

    return Dataset.from_list([turns(json.loads(line)) for line in rows.read_text().splitlines()])


SHOWN = (
    "bf16",
    "gradient_checkpointing",
    "packing",
    "packing_strategy",
    "padding_free",
    "max_length",
    "max_grad_norm",
    "optim",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "train_sampling_strategy",
    "torch_compile",
)


def shown(args: Any) -> dict[str, Any]:
    return {name: getattr(args, name) for name in SHOWN}


def train(trainer: Any, settings: dict[str, Any], method: Method, resolved: Any) -> Outcome:
    """Train, timed from the end of one step to the end of the next."""
    from transformers import TrainerCallback

    work: list[Work] = []
    ends: list[tuple[float, float]] = []
    collate = trainer.data_collator

    def counted(examples: Any) -> Any:
        batch = collate(examples)
        work.append(work_of(batch))
        return batch

    class Clock(TrainerCallback):  # type: ignore[misc]
        first_step_seconds = 0.0

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            ends.append((time.perf_counter(), time.process_time()))

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append((time.perf_counter(), time.process_time()))
            self.first_step_seconds = self.first_step_seconds or process_seconds()

    size = trainer.args.gradient_accumulation_steps
    clock = Clock()
    trainer.data_collator = counted
    trainer.add_callback(clock)
    trainer.train()
    walls, cpus = (
        [after - before for before, after in pairwise(clock_times)]
        for clock_times in zip(*ends, strict=True)
    )
    return Outcome(
        system="",
        settings={"set": settings, "resolved": resolved},
        work=[total(work[size * step : size * (step + 1)]) for step in range(len(walls))],
        seconds=walls,
        cpu_seconds=cpus,
        losses=[entry["train_loss"] for entry in trainer.state.log_history[-1:]],
        seconds_to_first_step=clock.first_step_seconds,
        method=method,
        versions=versions("trl", "transformers", "accelerate", "torch"),
    )


def work_of(batch: dict[str, Tensor]) -> Work:
    """Of a batch that was padded, or packed into one row with an attention mask over all of it."""
    rows, longest = batch["input_ids"].shape
    if "attention_mask" in batch:
        lengths = [int(n) for n in batch["attention_mask"].sum(1)]
    else:
        starts = [*(batch["position_ids"][0] == 0).nonzero().flatten().tolist(), longest]
        lengths = [end - start for start, end in pairwise(starts)]
    # With no padding and one document a row there is no mask: attention skips the later half.
    plain = len(lengths) == rows and all(n == longest for n in lengths)
    return Work(
        tokens=sum(lengths),
        targets=int((batch["labels"][:, 1:] != -100).sum()),
        computed=rows * longest,
        projected=rows * (longest - 1),
        pairs=rows * longest**2 // (2 if plain else 1),
        needed_pairs=sum(n * n for n in lengths) // 2,
    )


# --- subl


def subl(targets: str, task: Task) -> Outcome:
    """The program, as a user starts it. A cache is made by a process before."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, out, cache = folder / "distill.toml", folder / "student", folder / "cache"
        config.write_text(toml(targets, task))
        options: list[str | Path] = ["--model", task.model, "--rows", task.rows]
        preparation = None
        if targets == "teacher":
            options += ["--teacher", task.model]
        if targets == "cache":
            started = time.perf_counter()
            make_cache(task, folder, cache)
            preparation = time.perf_counter() - started
            options += ["--cache", cache]
        program("distill", config, *options, "-o", out)
        steps = [json.loads(line) for line in (out / "metrics.ndjson").read_text().splitlines()]
        result = json.loads((out / "result.json").read_text())
    return Outcome(
        system="",
        settings={"targets": targets, **task.settings},
        work=[work_of_line(line) for line in steps],
        seconds=[line["seconds"] for line in steps],
        losses=[line["loss"] for line in steps if "loss" in line][-1:],
        seconds_to_first_step=result["seconds_to_first_step"],
        preparation_seconds=preparation,
        method=Method(
            teacher_body=int(targets == "teacher"),
            teacher_head=int(targets != "labels"),
            attention=3.5 + (targets == "teacher"),
        ),
        versions=versions("subl", "transformers", "accelerate", "torch"),
    )


def toml(targets: str, task: Task) -> str:
    settings = {
        "steps": task.steps,
        "rows_per_step": ROWS_PER_STEP,
        "learning_rate": LEARNING_RATE,
        "seed": 0,
        **task.settings,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join([f'targets = "{targets}"', "[train]", *lines, ""])


def make_cache(task: Task, folder: Path, cache: Path) -> None:
    """The teacher's last hidden states and its head: exact, and the default."""
    config = folder / "cache.toml"
    config.write_text('codec = "hidden"\n')
    given: list[str | Path] = ["--teacher", task.model, "--rows", task.rows]
    program("distill", "cache", config, *given, "-o", cache)


def program(*arguments: str | Path) -> None:
    """`subl`; its errors end this process, too."""
    command = [Path(sys.executable).with_name("subl"), *arguments]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(map(str, command))}\n{done.stderr}")


def work_of_line(line: dict[str, Any]) -> Work:
    """What a line of metrics.ndjson does not say is taken to be what is needed."""
    tokens, targets = line["tokens"], line["target_tokens"]
    pairs = tokens**2 // ROWS_PER_STEP // 2
    return Work(
        tokens=tokens,
        targets=targets,
        computed=line.get("computed_tokens", tokens),
        projected=targets,
        pairs=line.get("attention_pairs", pairs),
        needed_pairs=pairs,
    )


# --- One process


System = Callable[[Task], Outcome]

SYSTEMS: dict[str, System] = {
    "gemm": gemm,
    "trl-sft": partial(trl_sft, {}),
    "trl-sft-packed": lambda task: trl_sft(PACKED[task.kind], task),
    "trl-sft-best": lambda task: trl_sft(BEST[task.kind], task),
    "trl-gkd": partial(trl_gkd, OFF_POLICY),
    "subl-sft": partial(subl, "labels"),
    "subl-sft-small": lambda task: subl("labels", replace(task, settings=SMALL | task.settings)),
    "subl-kd": partial(subl, "teacher"),
    "subl-kd-cache": partial(subl, "cache"),
}


def process_seconds() -> float:
    """Since this process was started, imports included (Linux)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def peak_bytes() -> int:
    """Of this process, or of the largest that it waited for (with a cache, maybe its maker)."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    return max(resource.getrusage(each).ru_maxrss for each in who) * unit


def versions(*packages: str) -> dict[str, str]:
    def of(package: str) -> Iterator[tuple[str, str]]:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            return

    found = dict(pair for package in packages for pair in of(package))
    return {"python": platform.python_version(), **found}


def setting(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text}: not KEY=JSON ({error})") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--kind", choices=BEST, default="numbers", help="whose best settings")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--set", type=setting, nargs="+", default=[], metavar="KEY=JSON")
    options = parser.parse_args()
    task = Task(options.rows, options.kind, options.model, options.steps, dict(options.set))
    outcome = SYSTEMS[options.system](task)
    measured = replace(outcome, system=options.system, peak_bytes=peak_bytes())
    print(json.dumps(asdict(measured)), flush=True)


if __name__ == "__main__":
    main()
