"""A set of many shards under Slurm: what submitting, asking, and adding up take.

    python benches/scaling.py [--shards 10000] [--tasks 1000] [--slices 100]
    python benches/scaling.py --paper

A real Slurm of one machine (Debian's slurm-wlm and munge; as root) gets an array of that many tasks
that filters so many tiny files; its jobs are held, for two cores could not run them. The slices are
then filtered in this process, and the last of them adds up: it checks that all rows are there and
publishes the folder.

`--paper` runs nothing: it prints the tables of docs/scaling.md, of measured figures and of the
memory that `subl distill --dry-run` reckons with.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from subl.artifact import Slice
from subl.errors import UnfinishedError
from subl.filter import load_rules, run
from subl.filter.inputs import look

ROOT = Path(__file__).resolve().parents[1]
SUBL = str(Path(sys.executable).with_name("subl"))
RULES = '[[rule]]\nname = "owls"\nkind = "regex"\npatterns = ["owl"]\n'

# Of `--paper`.
ROWS, BYTES = 1e9, 200e9
PLAIN, ZST = 161e6, 140e6  # bytes a second and core, of benchmarks.md: see docs/scaling.md
# File-system calls (strace -c): for a shard; to start a task; for the notes of a task that ended.
OF_SHARD, TO_START, OF_OTHERS = 61, 5_300, 16
FILES, OF_TASK = 2, 6  # kept, rejects; a task's log, heartbeat, lives, marker, lock, notes
START, LOOK = 0.5, 1e-4  # seconds of a command, and for each shard of the set (99 slices, above)


def timed(command: list[str], cwd: Path, environment: dict[str, str], what: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{what}: exit {done.returncode}\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{what}: {seconds:.1f} s, {cpu:.1f} s of a core", flush=True)


def paper() -> None:
    from subl.cost import room_to_train
    from subl.distill.spec import DistillSpec
    from subl.model.size import Architecture, architecture

    print("| shards | tasks | a task: shards | wall, plain | wall, zst | files | calls |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for shards, tasks in ((400, 1), (400, 40), (400, 400), (10_000, 100), (10_000, 1_000)):
        share = -(-shards // tasks) / shards * BYTES
        wall = [f"{START + LOOK * shards + share / pace:,.0f} s" for pace in (PLAIN, ZST)]
        calls = shards * OF_SHARD + tasks * (TO_START + (tasks - 1) / 2 * OF_OTHERS)
        files = shards * FILES + tasks * OF_TASK
        cells = [f"{shards:,}", f"{tasks:,}", f"{-(-shards // tasks):,}", *wall]
        print(f"| {' | '.join([*cells, f'{files:,}', f'{calls / 1e6:,.1f} M'])} |")
    print("\n| student | trained | GPUs | GB of each | days for 54 tokens of 1 B rows |")
    print("|---|---|--:|--:|--:|")
    small = architecture("meta-llama/Llama-3.1-8B-Instruct")
    assert small is not None
    large = Architecture(
        hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
        num_key_value_heads=8, vocab_size=128256,
    )  # fmt: skip
    for name, model in (("8B", small), ("70B", large)):
        for lora in (None, {"rank": 8, "alpha": 8}):
            for ranks in (8, 64):
                train = {"epochs": 1, "rows_per_step": 4096, "learning_rate": 1e-5}
                train |= {"zero_stage": 3, "ranks": ranks, "dtype": "bfloat16", "lora": lora}
                train |= {"micro_batch_tokens": 2048, "gradient_checkpointing": True}
                spec = DistillSpec.model_validate({"targets": "labels", "train": train})
                room = room_to_train(spec.train, model, teacher=False).bytes / 1e9
                flop = (6 if lora is None else 4) * model.weights * 54 * ROWS
                days = flop / (ranks * 407e12) / 86400  # as llm-foundry's 7B on H100s
                what = "all weights" if lora is None else "LoRA of rank 8"
                fits = f"{room:,.0f}" if room < 80 else f"{room:,.0f}: no room in 80"
                print(f"| {name} | {what} | {ranks} | {fits} | {days:,.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=1_000)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--paper", action="store_true")
    asked = parser.parse_args()
    if asked.paper:
        paper()
        return
    sys.path.insert(0, str(ROOT))
    from tests.slurm.cluster import running_cluster

    with tempfile.TemporaryDirectory(prefix="subl-scaling-") as name:
        folder = Path(name)
        (folder / "rules.toml").write_text(RULES)
        (folder / "data").mkdir()
        for shard in range(asked.shards):
            row = json.dumps({"completion": f"{shard} owl" if shard % 3 else str(shard)})
            (folder / "data" / f"{shard:06}.jsonl").write_text(f"{row}\n{row}\n")
        filtering = ["filter", "rules.toml", "data", "-o", "out"]
        with running_cluster(nodes=2) as cluster:
            held = ["--directive=--hold", "--array", str(asked.tasks)]
            submit = [SUBL, "slurm", "submit", *held, *filtering]
            print(f"{asked.shards:,} shards, {asked.tasks:,} tasks")
            timed(submit, folder, cluster.environment, "submit")
            timed(submit, folder, cluster.environment, "submit again, which finds all of it there")
            status = [SUBL, "slurm", "status", "out", "--json"]
            timed(status, folder, cluster.environment, "status")
            timed([SUBL, "slurm", "cancel", "out"], folder, cluster.environment, "cancel")
        os.chdir(folder)
        spec, data = load_rules(Path("rules.toml")), [Path("data")]
        bins = Path("bins.json")  # as submitting writes them
        bins.write_text(look(spec, data).text(spec, data, asked.slices))
        started = time.process_time()
        for index in range(asked.slices - 1):
            with suppress(UnfinishedError):
                run(spec, data, "filtered", mine=Slice(index, asked.slices), bins=bins)
        cpu = time.process_time() - started
        print(f"{asked.slices - 1} slices: {cpu:.1f} s of a core")
        wall, started = time.perf_counter(), time.process_time()
        last = run(spec, data, "filtered", mine=Slice(asked.slices - 1, asked.slices), bins=bins)
        cpu = time.process_time() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        assert last.rows_in == 2 * asked.shards
        print(
            f"the last slice, which adds up: {time.perf_counter() - wall:.1f} s, "
            f"{cpu:.1f} s of a core; {peak:.0f} MiB at most"
        )


if __name__ == "__main__":
    main()
