"""A manifest says what is in each shard, and only what has changed is looked at again."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard

from subl.artifact import file_digest
from subl.errors import BusyError, InputError, OutputError
from subl.filter import FilterSpec, LiteralRule, run
from subl.shards import inspect, keep, read_lines, read_rows, shard_files
from subl.shards.bins import bin_files
from subl.shards.check import check
from subl.shards.sample import SampleSpec, sample
from subl.shards.split import SplitSpec, split
from subl.shards.table import read_table


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"r{number}", "prompt": "p" * number, "completion": "c", **more}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two packed files of lines and one of Parquet."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines(*map(row, range(100)))))
    (folder / "b.jsonl.zst").write_bytes(
        zstandard.compress(lines(row(1, n=1, tags=["x"]), row(2, n=2, tags=[])))
    )
    pl.DataFrame({"id": [7, 8, None], "n": [1.5, None, 2.0]}).write_parquet(folder / "c.parquet")
    return folder


def kinds(shard: dict[str, Any]) -> dict[str, str]:
    return {column["name"]: column["kind"] for column in shard["columns"]}


def test_what_a_manifest_says(data: Path) -> None:
    a, b, c = inspect([data]).collect().to_dicts()
    assert [(each["path"], each["name"]) for each in (a, b, c)] == [
        (str(file), file.name) for file in sorted(data.iterdir())
    ]
    assert [each["format"] for each in (a, b, c)] == ["jsonl", "jsonl", "parquet"]
    assert [each["compression"] for each in (a, b, c)] == ["gz", "zst", None]
    assert [each["rows"] for each in (a, b, c)] == [100, 2, 3]
    assert [each["sha256"] for each in (a, b, c)] == [
        file_digest(file) for file in sorted(data.iterdir())
    ]
    assert a["bytes"] == (data / "a.jsonl.gz").stat().st_size
    assert a["content_bytes"] == len(lines(*map(row, range(100))))
    assert [(each["first_id"], each["last_id"]) for each in (a, b, c)] == [
        ("r0", "r99"),
        ("r1", "r2"),
        ("7", None),
    ]
    texts = {"id": "string", "prompt": "string", "completion": "string"}
    assert [kinds(each) for each in (a, b, c)] == [
        texts,
        {**texts, "n": "int", "tags": '["string"]'},
        {"id": "int", "n": "float"},
    ]
    assert [column["nulls"] for column in c["columns"]] == [1, 1]
    prompts = {each["length"]: each["rows"] for each in a["columns"][1]["lengths"]}
    assert prompts[63] == 1 and prompts[64] == 2 and sum(prompts.values()) == 100
    assert all(each["made_by"] is None and not each["unreadable"] for each in (a, b, c))


def test_rows_that_cannot_be_read_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    bad = [b"[1]", b"nope", b'{"a": NaN}', b'{"a": "\\ud800"}', b'{"a": "\xff"}']
    bad += [b'{"a": ' + b"[" * 128 + b"]" * 128 + b"}"]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([b'{"a": 1}', b"", *bad]))
    found = inspect([tmp_path]).collect().row(0, named=True)
    assert (found["rows"], found["unreadable"]) == (7, 6)
    assert found["first_unreadable"] == "line 3: expected a JSON object, got list"
    # The filter says the same of them.
    spec = FilterSpec(rules=[LiteralRule(name="x", words=["x"], field="a", action="count")])
    assert run(spec, [tmp_path / "a.jsonl"], tmp_path / "out").unreadable == 7  # 1 is no text


def test_an_artifact_is_said_to_be_one(data: Path, tmp_path: Path) -> None:
    rules = FilterSpec(rules=[LiteralRule(name="none", words=["none"])])
    made = run(rules, [data / "a.jsonl.gz"], tmp_path / "out")
    found = inspect([tmp_path / "out"]).collect().row(0, named=True)
    assert found["made_by"] == f"filter:{made.artifact.key}"
    (tmp_path / "out/kept/a.jsonl.gz").write_bytes(gzip.compress(lines(row(0))))
    with pytest.raises(InputError, match="has 1 rows, and is said to have 100"):
        inspect([tmp_path / "out"])


@pytest.mark.usefixtures("later")
def test_only_what_has_changed_is_looked_at_again(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "all.manifest.parquet"
    assert keep([data], file) == 3
    assert keep([data], file) == 0
    before = read_table(file).collect()
    (data / "b.jsonl.zst").write_bytes(zstandard.compress(lines(row(9))))
    (data / "a.jsonl.gz").rename(data / "z.jsonl.gz")
    assert keep([data], file) == 2  # a name is no matter, but the time of a change is
    after = read_table(file).collect()
    assert after.get_column("name").to_list() == ["b.jsonl.zst", "c.parquet", "z.jsonl.gz"]
    assert after.row(1) == before.row(2)
    assert after.get_column("rows").to_list() == [1, 3, 100]


@pytest.mark.usefixtures("later")
def test_a_manifest_that_was_interrupted_goes_on(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "all.manifest.parquet"

    class Killed(Exception):
        pass

    def report(progress: Any) -> None:
        if progress.note == "b.jsonl.zst":
            raise Killed

    with pytest.raises(Killed):
        keep([data], file, report=report)
    assert not file.exists()
    with (tmp_path / "all.manifest.parquet.partial/looked.ndjson").open("ab") as journal:
        journal.write(b'{"rows": 1')
    assert keep([data], file) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.manifest.parquet", "data"]
    fresh = inspect([data]).drop("path").collect()
    assert read_table(file).drop("path").collect().equals(fresh)


def test_a_manifest_is_kept_by_one_at_a_time(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "all.manifest.parquet"
    refused = []

    def report(progress: Any) -> None:
        with pytest.raises(BusyError, match=r"is writing .*all\.manifest\.parquet") as raised:
            keep([data], file)
        refused.append(raised)

    assert keep([data], file, report=report) == len(refused) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.manifest.parquet", "data"]


def test_several_processes_find_the_same(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = inspect([data]).drop("identity").collect()  # which files have once they are older
    monkeypatch.setattr("subl.shards.spread._WORTH_BYTES", 1)
    assert inspect([data], jobs=2).drop("identity").collect().equals(alone)
    (data / "b.jsonl.zst").write_bytes((data / "b.jsonl.zst").read_bytes()[:-5])
    with pytest.raises(InputError, match=r"b\.jsonl\.zst"):
        inspect([data], jobs=2)


def test_a_manifest_stands_for_its_shards(data: Path, tmp_path: Path) -> None:
    (data / "c.parquet").unlink()
    file = tmp_path / "elsewhere" / "all.manifest.parquet"
    keep([data], file)
    assert [os.path.realpath(shard) for shard in shard_files(file)] == [
        str(shard) for shard in sorted(data.iterdir())
    ]
    assert len(list(read_rows([file]))) == 102
    rules = FilterSpec(rules=[LiteralRule(name="none", words=["none"])])
    assert run(rules, [file], tmp_path / "out").kept == 102
    # In a folder of data it is no shard.
    keep([data], data / "all.manifest.parquet")
    assert len(list(read_rows([data]))) == 102


def test_a_shard_that_changed_since_is_refused(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "all.manifest.parquet"
    keep([data], file)
    os.utime(data / "a.jsonl.gz", (1, 1))
    with pytest.raises(InputError, match=r"a.jsonl.gz has changed since its manifest was made"):
        shard_files(file)
    (data / "a.jsonl.gz").unlink()
    with pytest.raises(InputError, match=r"cannot read .*a.jsonl.gz: No such file"):
        list(read_rows([file]))


def test_a_manifest_of_other_data_is_not_replaced(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "all.manifest.parquet"
    keep([str(data)], str(file))
    before = file.read_bytes()
    (tmp_path / "other.jsonl").write_bytes(lines(row(1)))
    with pytest.raises(OutputError, match="is the manifest of other data"):
        keep([tmp_path / "other.jsonl"], file)
    assert file.read_bytes() == before and not list(tmp_path.glob("*.partial"))
    monkeypatch.chdir(data)
    keep(["a.jsonl.gz", "../other.jsonl"], file)
    assert inspect([str(file)]).collect().height == 2
    assert len(list(read_lines(["a.jsonl.gz"]))) == 100


def test_what_is_no_manifest_is_refused(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "x.manifest.parquet"
    pl.DataFrame({"path": ["a"]}).write_parquet(other)
    with pytest.raises(InputError, match="is no manifest that this version of subl reads"):
        inspect([other])
    with pytest.raises(InputError, match="is no manifest"):
        keep([data], other)
    with pytest.raises(OutputError, match="is to be a manifest"):
        keep([data], tmp_path / "x.parquet")


def test_a_shard_is_taken_once_however_it_is_spelled(data: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "elsewhere" / "all.manifest.parquet"
    keep([data], manifest)
    (tmp_path / "link").symlink_to(data)
    for other in (data / "a.jsonl.gz", data / ".." / "data", tmp_path / "link", manifest):
        with pytest.raises(InputError, match=r"a\.jsonl\.gz is given twice"):
            inspect([data, other])
    split(SplitSpec(bins=2, cut=True), [data], tmp_path / "bins")
    for each in (tmp_path / "link", *bin_files(tmp_path / "bins")):
        with pytest.raises(InputError, match="is given twice"):
            list(sample(SampleSpec(rows=1), [data, each]))
    # Two files of the same bytes are two shards.
    (tmp_path / "other").mkdir()
    os.link(data / "a.jsonl.gz", tmp_path / "other" / "a.jsonl.gz")
    shutil.copy(data / "c.parquet", tmp_path / "other")
    assert inspect([data, tmp_path / "other"]).collect().height == 5
    assert len(list(sample(SampleSpec(rows=208), [data, tmp_path / "other"]))) == 208


def test_check_reads_every_byte(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "all.manifest.parquet"
    keep([data], file)
    assert check([file]).problems == () == check([data]).problems
    whole = {path: path.read_bytes() for path in data.iterdir()}
    cut, changed, gone = sorted(whole)
    cut.write_bytes(whole[cut][:-20])
    changed.write_bytes(zstandard.compress(lines(row(1), row(2))))
    gone.unlink()
    problems = dict(check([file]).problems)
    assert list(problems) == [cut, changed, gone]
    assert "cannot read" in problems[cut] and "sha256" in problems[changed]
    assert "No such file" in problems[gone]
    assert [path for path, _ in check([data]).problems] == [cut]
    cut.write_bytes(gzip.compress(b'{"a": 1}\n{"a": '))
    ((_, problem),) = check([data]).problems
    assert problem.startswith("the first row that cannot be read is in line 2: not JSON")
