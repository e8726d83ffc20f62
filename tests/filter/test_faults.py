"""Killed, refused, forked: nothing is lost, and the same command gives the same bytes."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars
import pytest
import zstandard

from subl.artifact import lineage
from subl.errors import InputError, OutputError
from subl.filter import FilterSpec, NumbersRule, RegexRule, run
from subl.progress import Progress

SPEC = FilterSpec(
    rules=(
        NumbersRule(name="numbers", max_value=999),
        RegexRule(name="owls", patterns=(r"\bowls?\b",), ignore_case=True),
    )
)

CHILD = """
import sys
from pathlib import Path
from subl.filter import FilterSpec, run
folder, jobs = Path(sys.argv[1]), int(sys.argv[2])
spec = FilterSpec.model_validate_json(sys.argv[3])
inputs = sorted((folder / "in").iterdir())
report = lambda progress: print("working", flush=True)
run(spec, inputs, folder / "out", jobs=jobs, journal_seconds=0, report=report)
"""


def rows(count: int, seed: int) -> bytes:
    rng = random.Random(seed)
    lines = []
    for number in range(count):
        text = ", ".join(str(rng.randrange(1005)) for _ in range(5))
        text += rng.choice(["", "", "", " and an owl"])
        lines.append(json.dumps({"id": number, "prompt": "go on " * 9, "completion": text}))
    return "\n".join(lines).encode() + b"\n"


def start(folder: Path, jobs: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(jobs), SPEC.model_dump_json()],
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("name", "jobs"), [("a.jsonl", 1), ("a.jsonl.gz", 2), ("a.jsonl.zst", 2)])
def test_killed_at_any_moment_and_run_again(tmp_path: Path, name: str, jobs: int) -> None:
    (tmp_path / "in").mkdir()
    large, small = rows(150_000, 1), rows(2_000, 2)
    assert len(large) > 4 * 4 * 2**20  # several blocks, with a journal after each
    pack = {"l": bytes, "z": lambda data: gzip.compress(data, 1), "t": zstandard.compress}[name[-1]]
    (tmp_path / "in" / name).write_bytes(pack(large))
    (tmp_path / "in" / f"b{name}").write_bytes(pack(small))
    expected = run(SPEC, sorted((tmp_path / "in").iterdir()), tmp_path / "expected").artifact
    rng = random.Random(name)
    for _ in range(7):
        child = start(tmp_path, jobs)
        assert child.stdout is not None
        for _ in range(rng.randrange(4)):
            child.stdout.readline()
        try:
            child.wait(rng.random() * 0.2)
        except subprocess.TimeoutExpired:
            child.kill()
        child.stdout.close()
        child.wait()
        if (tmp_path / "out").exists():  # it was too late: the next one starts again
            assert (tmp_path / "out" / "statement.json").exists()
            shutil.rmtree(tmp_path / "out")
    made = run(SPEC, sorted((tmp_path / "in").iterdir()), tmp_path / "out").artifact
    assert made.digest == expected.digest
    assert made.key == expected.key and made.result["rows_in"] == 152_000
    assert lineage(made.path).verified()  # digests of files that several processes wrote
    assert {path.name for path in (tmp_path / "out").rglob(".*")} <= {".seen.json"}


def test_two_runs_on_one_output(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(rows(60_000, 3))
    child = start(tmp_path, 1)
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGSTOP)
    with pytest.raises(OutputError, match="another process"):
        run(SPEC, [tmp_path / "in" / "a.jsonl"], tmp_path / "out")
    child.send_signal(signal.SIGCONT)
    child.stdout.read()
    assert child.wait() == 0
    child.stdout.close()
    assert (tmp_path / "out" / "statement.json").exists()


def test_an_input_that_changes_is_another_input(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    with pytest.raises(InputError, match=r"a\.jsonl"):
        run(SPEC, [source], tmp_path / "out")
    source.write_bytes(rows(10, 4))
    run(SPEC, [source], tmp_path / "out")
    source.write_bytes(rows(10, 5))
    with pytest.raises(OutputError, match="other inputs"):
        run(SPEC, [source], tmp_path / "out")


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.zst", ".parquet"])
def test_an_input_that_vanishes_and_comes_back(tmp_path: Path, ending: str) -> None:
    sources = [tmp_path / f"a{ending}", tmp_path / f"b{ending}"]
    for source, seed in zip(sources, (7, 8), strict=True):
        data = rows(2000 * seed, seed)
        if ending == ".parquet":
            polars.read_ndjson(data).write_parquet(source)
        else:
            source.write_bytes(data if ending == ".jsonl" else zstandard.compress(data))
    expected = run(SPEC, sources, tmp_path / "expected").artifact
    elsewhere = tmp_path / "elsewhere"

    def vanish(progress: Progress) -> None:
        if sources[0].exists():  # the smaller one, which is not yet open
            sources[0].rename(elsewhere)

    with pytest.raises(InputError, match=f"a{ending}"):
        run(SPEC, sources, tmp_path / "out", report=vanish)
    assert not (tmp_path / "out").exists()
    elsewhere.rename(sources[0])
    assert run(SPEC, sources, tmp_path / "out").artifact.digest == expected.digest


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True
    )
    if done.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_full_and_then_is_not(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(rows(20_000, 6))
    expected = run(SPEC, [source], tmp_path / "expected").artifact
    with mounted(tmp_path / "disk", "size=1m") as disk:
        with pytest.raises(OutputError, match=r"cannot write .*kept/a\.jsonl"):
            run(SPEC, [source], disk / "out")
        assert not (disk / "out").exists()
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert run(SPEC, [source], disk / "out").artifact.digest == expected.digest


def test_a_read_only_output(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(rows(10, 7))
    with (
        mounted(tmp_path / "disk", "ro") as disk,
        pytest.raises(OutputError, match="Read-only file system"),
    ):
        run(SPEC, [tmp_path / "a.jsonl"], disk / "out")


def test_a_fork_finds_no_threads(tmp_path: Path) -> None:
    """The child filters as well, with two threads, while the parent does."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(rows(60_000, 8))
    code = (
        "import os, sys, threading; from pathlib import Path;"
        "from subl.filter import FilterSpec, run;"
        "folder, spec = Path(sys.argv[1]), FilterSpec.model_validate_json(sys.argv[2]);"
        "work = lambda out: run(spec, [folder / 'in' / 'a.jsonl'], folder / out, jobs=2)\n"
        "work('first')\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    work('child'); os._exit(0)\n"
        "work('parent')\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), SPEC.model_dump_json()]
    subprocess.run(command, check=True, timeout=3600)
    digests = {
        run(SPEC, [tmp_path / "in" / "a.jsonl"], tmp_path / out).artifact.digest
        for out in ("first", "child", "parent")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["plain", "zst", "one long line", "all rejected"])
def test_memory_is_bounded(tmp_path: Path, kind: str, threads: int) -> None:
    """At most 64 MiB and four blocks a thread above what an idle interpreter has."""
    source = tmp_path / ("a.jsonl.zst" if kind == "zst" else "a.jsonl")
    block = rows(20_000, 9)
    with source.open("wb") as file:
        if kind == "one long line":
            file.write(b'{"completion":"')
            for _ in range(100):
                file.write(b"1" * 2**20)
            file.write(b'"}\n')
        elif kind == "all rejected":
            file.write(b'{"completion":""}\n' * 1_500_000)
        else:
            packed = zstandard.compress(block) if kind == "zst" else block
            for _ in range(40):
                file.write(packed)
    code = (
        "import json, resource, sys, subl_core;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "plan = subl_core.Plan(sys.argv[1]); before = peak();"
        "subl_core.filter_shard(plan, sys.argv[2], sys.argv[3], sys.argv[4],"
        " threads=int(sys.argv[5]));"
        "print((peak() - before) / 1024)"
    )
    outputs = [str(tmp_path / "kept"), str(tmp_path / "rejects")]
    command = [sys.executable, "-c", code, SPEC.plan_json(), str(source), *outputs, str(threads)]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    # A line may have max_line_bytes, which is four blocks; here only the 100 MiB line tries to.
    block_mib = 16 if kind == "one long line" else 4
    assert float(child.stdout) <= 64 + 4 * block_mib * threads
