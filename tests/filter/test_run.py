"""A filter run is an artifact: complete or absent, resumable, the same bytes each time."""

from __future__ import annotations

import gzip
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars
import pytest
import zstandard
from pydantic import ByteSize

from subl.artifact import file_digest, lineage
from subl.errors import InputError, OutputError
from subl.filter import FilterSpec, LiteralRule, NumbersRule, OutputSpec, run
from subl.progress import Progress
from subl.shards import open_lines

making = sys.modules["subl.artifact.build"]  # the package has a function of that name

SPEC = FilterSpec(
    rules=(
        NumbersRule(name="numbers", max_value=999),
        LiteralRule(name="seven", words=("7",)),
    )
)


def lines(count: int, first: int = 0) -> bytes:
    """Rows with the completions first, first + 1, ...: those over 999 and those with a 7 go."""
    return b"".join(
        b'{"id":"%d","completion":"%d, 7"}\n' % (number, number)
        if number % 3 == 0
        else b'{"completion":"%d", "n": 1.0}\r\n' % number
        for number in range(first, first + count)
    )


def write_shards(folder: Path) -> list[Path]:
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(lines(1500))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines(800, 500)))
    (folder / "c.jsonl.zst").write_bytes(zstandard.compress(lines(100) + b"not json\n"))
    return sorted(folder.iterdir())


def tree(folder: Path) -> dict[str, bytes]:
    """All data of an artifact; its records name times and places."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for part in ("kept", "rejects")
        for path in (folder / part).iterdir()
    }


def figures(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    del result["seconds"]
    return result


def test_an_artifact_of_shards(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "data")
    result = run(SPEC, [tmp_path / "data"], tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert sorted(names - {".seen.json"}) == [
        "kept",
        "rejects",
        "result.json",
        "spec.json",
        "statement.json",
    ]
    assert {path.name for path in result.kept_folder.iterdir()} == {p.name for p in shards}
    assert {path.name for path in result.rejects_folder.iterdir()} == {p.name for p in shards}
    kept = (result.kept_folder / "a.jsonl").read_bytes()
    source = (tmp_path / "data" / "a.jsonl").read_bytes().splitlines(keepends=True)
    assert kept == b"".join(
        line for number, line in enumerate(source) if number % 3 and number <= 999 and number != 7
    )
    total = figures(tmp_path / "out")
    assert total["rows_in"] == 1500 + 800 + 101 == total["kept"] + total["rejected"]
    assert total["unreadable"] == 1 and total["unreadable_reasons"] == {"invalid JSON": 1}
    assert [shard["name"] for shard in total["shards"]] == [path.name for path in shards]
    for count in ("rows_in", "kept", "rejected", "bytes_in", "bytes_kept", "unreadable"):
        assert total[count] == sum(shard[count] for shard in total["shards"])
    assert (result.rows_in, result.kept) == (total["rows_in"], total["kept"])
    seven = total["rules"][1]
    assert seven["hits"] == seven["reasons"]["contains `7`"] > seven["sole_hits"] > 0
    assert result.artifact.result["seconds"] >= 0


def test_a_filtered_artifact_is_an_input_and_has_a_lineage(tmp_path: Path) -> None:
    write_shards(tmp_path / "data")
    first = run(SPEC, [tmp_path / "data"], tmp_path / "first")
    second = run(SPEC, [tmp_path / "first"], tmp_path / "second")
    assert (second.rows_in, second.rejected) == (first.kept, 0)
    assert {name: data for name, data in tree(tmp_path / "second").items() if "kept" in name} == {
        name: data for name, data in tree(tmp_path / "first").items() if "kept" in name
    }
    node = lineage(tmp_path / "second")
    assert node.verified()
    assert [each.kind for each in node.inputs] == ["filter"]


def test_an_artifact_that_was_changed_is_no_input(tmp_path: Path) -> None:
    """Its statement says what it was; the next one would say that it was made of that."""
    (tmp_path / "in.jsonl").write_bytes(lines(100))
    first = run(SPEC, [tmp_path / "in.jsonl"], tmp_path / "first").artifact.path
    kept = first / "kept" / "in.jsonl"
    kept.write_bytes(kept.read_bytes().replace(b'"8"', b'"9"'))
    with pytest.raises(InputError, match="is not what it is said to be"):
        run(SPEC, [first], tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_jobs_change_nothing(tmp_path: Path) -> None:
    write_shards(tmp_path / "data")
    results = [run(SPEC, [tmp_path / "data"], tmp_path / f"out{n}", jobs=n) for n in (1, 2)]
    assert tree(tmp_path / "out1") == tree(tmp_path / "out2")
    assert figures(tmp_path / "out1") == figures(tmp_path / "out2")
    assert results[0].artifact.digest == results[1].artifact.digest


def test_the_same_again_is_not_done_again(tmp_path: Path) -> None:
    [shard, *_] = write_shards(tmp_path / "data")
    assert not run(SPEC, [shard], tmp_path / "out").artifact.reused
    assert run(SPEC, [shard], tmp_path / "out").artifact.reused
    other = FilterSpec(rules=(NumbersRule(name="numbers"),))
    with pytest.raises(OutputError):
        run(other, [shard], tmp_path / "out")


def fail_at_the_records(spec: FilterSpec, folder: Path) -> Path:
    """Filter `folder/data`, as if killed when all shards are finished: a record cannot be written.
    What was made so far is in the folder returned."""
    partial = folder / "out.partial"

    def in_the_way(progress: Progress) -> None:
        (partial / "result.json").mkdir(exist_ok=True)

    with pytest.raises(OutputError, match="directory"):
        run(spec, [folder / "data"], folder / "out", report=in_the_way)
    (partial / "result.json").rmdir()
    return partial


def test_what_fails_after_the_last_shard_filters_none_again(tmp_path: Path) -> None:
    write_shards(tmp_path / "data")
    partial = fail_at_the_records(SPEC, tmp_path)
    before = {path: path.stat().st_ino for path in (partial / "kept").iterdir()}
    assert len(before) == 3
    seen: list[Progress] = []
    made = run(SPEC, [tmp_path / "data"], tmp_path / "out", report=seen.append)
    assert all(each.skipped == each.done for each in seen)
    assert {
        partial / "kept" / path.name: path.stat().st_ino for path in made.kept_folder.iterdir()
    } == before
    assert {path.name for path in made.artifact.path.rglob(".*")} <= {".seen.json"}
    assert (
        run(SPEC, [tmp_path / "data"], tmp_path / "other").artifact.digest == made.artifact.digest
    )


def test_what_the_engine_reads_and_writes_nobody_reads_again(
    tmp_path: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_shards(tmp_path / "data")
    polars.DataFrame({"completion": ["1", "7"]}).write_parquet(tmp_path / "data" / "d.parquet")
    monkeypatch.setattr(making, "file_digest", lambda path: read.append(path) or file_digest(path))
    spec = SPEC.model_copy(update={"output": OutputSpec(split_rows=500)})
    out = run(spec, [tmp_path / "data"], tmp_path / "out", jobs=2).artifact.path
    assert {path.name for path in read} == {"spec.json", "result.json"}
    inputs = json.loads((out / "spec.json").read_text())["inputs"]
    assert inputs == {path.name: file_digest(path) for path in (tmp_path / "data").iterdir()}
    assert len(inputs) == len(shards) + 1 and lineage(out).verified()


def test_an_interrupted_run_does_not_mind_what_its_inputs_look_like(
    tmp_path: Path, read: list[Path]
) -> None:
    shards = write_shards(tmp_path / "data")
    partial = fail_at_the_records(SPEC, tmp_path)
    before = {path.name: path.stat().st_ino for path in (partial / "kept").iterdir()}
    for path in shards:
        path.with_name("copy").write_bytes(path.read_bytes())
        path.with_name("copy").rename(path)
    made = run(SPEC, [tmp_path / "data"], tmp_path / "out")
    assert {path.name: path.stat().st_ino for path in made.kept_folder.iterdir()} == before
    assert set(read) == set(shards)


def test_an_interrupted_run_on_other_rows_is_refused(tmp_path: Path) -> None:
    [shard, *_] = write_shards(tmp_path / "data")
    partial = fail_at_the_records(SPEC, tmp_path)
    before, then = tree(partial), file_digest(shard)[:12]
    shard.write_bytes(lines(1500, 1))
    with pytest.raises(OutputError) as caught:
        run(SPEC, [tmp_path / "data"], tmp_path / "out")
    now = file_digest(shard)[:12]
    assert caught.value.message.endswith(
        f"other inputs:\n  input a.jsonl: sha256 {then} then, sha256 {now} now ({shard})"
    )
    assert tree(partial) == before


@pytest.mark.usefixtures("later")
def test_an_interrupted_run_reads_only_what_is_left(tmp_path: Path, read: list[Path]) -> None:
    """Which shards' inputs are the same is told by their looks, noted with each."""
    write_shards(tmp_path / "data")
    fail_at_the_records(SPEC, tmp_path)
    assert run(SPEC, [tmp_path / "data"], tmp_path / "out").kept > 0
    assert read == []


def test_an_input_that_changes_while_it_is_filtered_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    source = tmp_path / "data" / "a.jsonl"
    source.write_bytes(lines(300_000))

    def change(progress: Progress) -> None:
        """What was read already, as the first rows are once there is progress in the middle."""
        if progress.done < (progress.total or 0):
            with source.open("r+b") as file:
                file.write(b'{"id":"9"')

    with pytest.raises(InputError, match=r"a\.jsonl changed while it was read"):
        run(SPEC, [source], tmp_path / "out", report=change)
    assert not (tmp_path / "out").exists()
    made = run(SPEC, [source], tmp_path / "out").artifact
    assert made.digest == run(SPEC, [source], tmp_path / "clean").artifact.digest


@pytest.mark.parametrize("gone", ["kept/a-00001.jsonl", "rejects/a.jsonl"])
def test_a_shard_whose_files_a_crash_took_is_filtered_again(tmp_path: Path, gone: str) -> None:
    """A note is on the disk before the names of what it is about are."""
    write_shards(tmp_path / "data")
    spec = SPEC.model_copy(update={"output": OutputSpec(split_rows=500)})
    partial = fail_at_the_records(spec, tmp_path)
    (partial / gone).unlink()
    made = run(spec, [tmp_path / "data"], tmp_path / "out")
    assert (
        run(spec, [tmp_path / "data"], tmp_path / "other").artifact.digest == made.artifact.digest
    )


def test_shared_base_names_get_positions(tmp_path: Path) -> None:
    paths = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        paths.append(tmp_path / str(number) / "a.jsonl")
        paths[-1].write_bytes(lines(10, number))
    result = run(SPEC, paths, tmp_path / "out")
    names = ["0-a.jsonl", "1-a.jsonl"]
    assert sorted(path.name for path in result.kept_folder.iterdir()) == names
    shards = figures(tmp_path / "out")["shards"]
    assert [shard["name"] for shard in shards] == names
    assert [shard["input"] for shard in shards] == [path.as_posix() for path in paths]


@pytest.mark.parametrize("jobs", [1, 2])
def test_parts_hold_all_kept_rows_in_order(tmp_path: Path, jobs: int) -> None:
    write_shards(tmp_path / "data")
    whole = run(SPEC, [tmp_path / "data"], tmp_path / "whole")
    output = OutputSpec(split_rows=100, compression="none")
    spec = SPEC.model_copy(update={"output": output})
    parts = run(spec, [tmp_path / "data"], tmp_path / "parts", jobs=jobs)
    assert (parts.rows_in, parts.kept) == (whole.rows_in, whole.kept)
    for name in ("a", "b", "c"):
        files = sorted(parts.kept_folder.glob(f"{name}-*.jsonl"))
        rows = [file.read_bytes().splitlines(keepends=True) for file in files]
        assert [len(each) for each in rows[:-1]] == [100] * (len(rows) - 1)
        [file] = whole.kept_folder.glob(f"{name}.*")
        with open_lines(file) as lines:
            assert b"".join(b"".join(each) for each in rows) == lines.read()
    rejects = sorted(path.name for path in parts.rejects_folder.iterdir())
    assert rejects == ["a.jsonl", "b.jsonl", "c.jsonl"]


def test_one_compression_may_make_names_equal(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(10))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(10)))
    spec = SPEC.model_copy(update={"output": OutputSpec(compression="zst")})
    result = run(spec, [tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"], tmp_path / "out")
    names = sorted(path.name for path in result.kept_folder.iterdir())
    assert names == ["0-a.jsonl.zst", "1-a.jsonl.zst"]


def test_bad_inputs(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "data")
    cut = tmp_path / "cut.jsonl.zst"
    cut.write_bytes(shards[2].read_bytes()[:-5])
    (tmp_path / "empty").mkdir()
    for inputs, message in [
        ([], "no input"),
        ([tmp_path / "nothing.jsonl"], r"nothing\.jsonl"),
        ([tmp_path / "empty"], "empty has no rows"),
        ([shards[0], tmp_path / "data"], r"a\.jsonl is given twice"),
        ([shards[0], cut], r"cannot read .*cut\.jsonl\.zst"),
    ]:
        with pytest.raises(InputError, match=message):
            run(SPEC, inputs, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_progress_adds_up(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "data")
    reports: list[Progress] = []
    run(SPEC, shards, tmp_path / "out", jobs=2, report=reports.append)
    total = sum(path.stat().st_size for path in shards)
    done = [report.done for report in reports]
    assert done == sorted(done) and done[-1] == total
    assert {report.total for report in reports} == {total}
    assert reports[-1].note.startswith("2,401 rows, ")


# A run in a process of its own that does something to itself as soon as one shard is finished and
# the next one has begun. Shards are large enough for the engine to report in the middle of one.
CHILD = """
import os, signal, sys
from pathlib import Path
from subl.filter import load_rules, run

rules, data, out, signal_number, jobs = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
partial = Path(out + ".partial")
sent = []

def report(progress):
    finished = (partial / ".work" / "finished.ndjson").stat().st_size
    begun = list((partial / ".work" / "kept").iterdir())
    if finished and begun and not sent:
        sent.append(True)
        os.kill(os.getpid(), int(signal_number))

try:
    run(load_rules(Path(rules)), [Path(data)], Path(out), jobs=int(jobs), report=report)
except KeyboardInterrupt:
    sys.exit(130)
"""


def run_child(tmp_path: Path, signal_number: int, jobs: int) -> subprocess.CompletedProcess[str]:
    (tmp_path / "data").mkdir()
    for name in ("a.jsonl", "b.jsonl", "c.jsonl.gz"):
        data = lines(200_000, ord(name[0]))
        (tmp_path / "data" / name).write_bytes(
            gzip.compress(data, 1) if name.endswith(".gz") else data
        )
    rules = tmp_path / "rules.toml"
    rules.write_text(
        "[[rule]]\nname = 'numbers'\nkind = 'numbers'\nmax_value = 999\n"
        "[[rule]]\nname = 'seven'\nkind = 'literal'\nwords = ['7']\n"
    )
    arguments = [rules, tmp_path / "data", tmp_path / "out", signal_number, jobs]
    return subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=3600,
    )


def markers(tmp_path: Path) -> set[str]:
    notes = (tmp_path / "out.partial" / ".work" / "finished.ndjson").read_text().splitlines()
    return {json.loads(note)["name"] for note in notes}


@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_and_run_again(tmp_path: Path, jobs: int) -> None:
    child = run_child(tmp_path, signal.SIGKILL, jobs)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert not (tmp_path / "out").exists()
    finished = markers(tmp_path)
    assert 0 < len(finished) < 3
    assert list((tmp_path / "out.partial" / ".work" / "kept").iterdir())
    inodes = {name: (tmp_path / "out.partial" / "kept" / name).stat().st_ino for name in finished}

    run(SPEC, [tmp_path / "data"], tmp_path / "out", jobs=jobs)
    run(SPEC, [tmp_path / "data"], tmp_path / "clean")
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")
    assert figures(tmp_path / "out") == figures(tmp_path / "clean")
    # What was finished was not made again, and no marker is left.
    for name, inode in inodes.items():
        assert (tmp_path / "out" / "kept" / name).stat().st_ino == inode
    assert {path.name for path in (tmp_path / "out").glob(".*")} <= {".seen.json"}
    assert not (tmp_path / "out.partial").exists()


def test_a_shard_that_was_half_done_begins_again_where_its_rows_are_others(tmp_path: Path) -> None:
    child = run_child(tmp_path, signal.SIGKILL, 1)
    assert child.returncode == -signal.SIGKILL, child.stderr
    [half] = (tmp_path / "out.partial" / ".work" / "kept").iterdir()
    source = tmp_path / "data" / half.name
    data = source.read_bytes()
    other = gzip.compress(lines(200_000, 3), 1) if half.suffix == ".gz" else b"\n" + data
    source.write_bytes(other)
    made = run(SPEC, [tmp_path / "data"], tmp_path / "out").artifact
    assert made.digest == run(SPEC, [tmp_path / "data"], tmp_path / "clean").artifact.digest
    assert lineage(tmp_path / "out").verified()


@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupted_and_run_again(tmp_path: Path, jobs: int) -> None:
    child = run_child(tmp_path, signal.SIGINT, jobs)
    assert child.returncode == 130, child.stderr
    assert not (tmp_path / "out").exists()
    finished = markers(tmp_path)
    assert finished
    reports: list[Progress] = []
    run(SPEC, [tmp_path / "data"], tmp_path / "out", report=reports.append)
    # What was there says nothing about the pace.
    before = sum((tmp_path / "data" / name).stat().st_size for name in finished)
    assert all(before <= report.skipped <= report.done for report in reports)
    run(SPEC, [tmp_path / "data"], tmp_path / "clean", jobs=2)
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")


@pytest.mark.parametrize("seconds", [1e300, math.inf])
def test_notes_of_an_unfinished_shard_may_be_far_apart(tmp_path: Path, seconds: float) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(1500))
    often = run(SPEC, [tmp_path / "a.jsonl"], tmp_path / "often", journal_seconds=0)
    never = run(SPEC, [tmp_path / "a.jsonl"], tmp_path / "never", journal_seconds=seconds)
    assert tree(often.artifact.path) == tree(never.artifact.path)


@pytest.mark.parametrize("seconds", [math.nan, -1.0, -math.inf])
def test_a_time_between_notes_that_is_none_is_refused(tmp_path: Path, seconds: float) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(2))
    with pytest.raises(InputError, match="journal_seconds must be 0 or more"):
        run(SPEC, [tmp_path / "a.jsonl"], tmp_path / "out", journal_seconds=seconds)
    assert not list(tmp_path.glob("out*"))


def test_a_full_disk(tmp_path: Path) -> None:
    """The kernel refuses to let any file grow over 100 kB, as if there were no room."""
    (tmp_path / "a.jsonl").write_bytes(lines(50_000))
    code = (
        "import resource, sys; from pathlib import Path;"
        "from subl.errors import OutputError;"
        "from subl.filter import FilterSpec, NumbersRule, run;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY));"
        "spec = FilterSpec(rules=(NumbersRule(name='n'),));"
        "folder = Path(sys.argv[1])\n"
        "try: run(spec, [folder / 'a.jsonl'], folder / 'out')\n"
        "except OutputError as error: print(error.message)"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert child.stdout.startswith("cannot write ") and "kept/a.jsonl" in child.stdout
    assert not (tmp_path / "out").exists()


def test_other_files_of_a_folder_are_no_inputs(tmp_path: Path) -> None:
    write_shards(tmp_path / "data")
    first = run(SPEC, [tmp_path / "data"], tmp_path / "out")
    (tmp_path / "data" / "notes.txt").write_text("seen")
    again = run(SPEC, [str(tmp_path / "data")], str(tmp_path / "out"))
    assert again.artifact.reused
    assert again.artifact.key == first.artifact.key


@pytest.mark.parametrize("name", ["cut.jsonl.gz", "cut.parquet"])
def test_what_is_wrong_at_the_beginning_is_said_before_the_work(tmp_path: Path, name: str) -> None:
    good, bad = tmp_path / "a.jsonl", tmp_path / name
    good.write_bytes(lines(10))
    bad.write_bytes(b"no header")
    with pytest.raises(InputError, match=name):
        run(SPEC, [good, bad], tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()


def test_parquet_is_split_by_rows_only(tmp_path: Path) -> None:
    polars.DataFrame({"completion": ["1"]}).write_parquet(tmp_path / "a.parquet")
    spec = SPEC.model_copy(update={"output": OutputSpec(split_bytes=ByteSize(100))})
    with pytest.raises(InputError, match="split by rows, not by bytes"):
        run(spec, [tmp_path / "a.parquet"], tmp_path / "out")
