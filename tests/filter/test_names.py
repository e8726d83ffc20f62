"""Whatever files are called, every row is in the file of its name."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path
from typing import Any, ClassVar

import polars
import pytest
import subl_core
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subl.artifact import Made, StageSpec, build, lineage, read_statement, row_counts
from subl.errors import InputError, OutputError
from subl.filter import DuplicateRule, FilterSpec, NumbersRule, OutputSpec, name_shards, run
from subl.shards import format_of, open_lines

RULES = (NumbersRule(name="numbers", max_value=500), DuplicateRule(name="again", method="exact"))

# Names that one file may share with what another one is, or was, while it is made.
STEMS = ("a", "A", "é", "e\u0301", "kept", "rejects", "finished", ".a", "a.jsonl", "a-00000")
ENDINGS = (
    "",
    ".tmp",
    ".jsonl",
    ".jsonl.tmp",
    ".jsonl.gz",
    ".jsonl.zst",
    ".jsonl.zst.tmp",
    ".jsonl.partial",
    ".jsonl.journal",
    ".jsonl.journal.tmp",
    ".jsonl.0.signatures",
    "-00000.jsonl",
    "-00001.jsonl",
    "-00000-00001.jsonl",
    ".ndjson",
    ".parquet",
    ".parquet.tmp",
    "-00000.parquet",
)
NAMES = st.builds("{}{}".format, st.sampled_from(STEMS), st.sampled_from(ENDINGS))


def write(file: Path, numbers: range) -> None:
    data = b"".join(b'{"completion":"%d"}\n' % number for number in numbers)
    if file.suffix == ".parquet":
        polars.read_ndjson(data).write_parquet(file)
        return
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(file.suffix, bytes)
    file.write_bytes(pack(data))


def completions(file: Path, key: str | None = None) -> list[int]:
    """The numbers in the rows of a file, or in the rows that are under a key of its rows."""
    with open_lines(file) as lines:
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [int((row if key is None else row[key])["completion"]) for row in rows]


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    names=st.lists(NAMES, min_size=2, max_size=6, unique=True),
    rules=st.sampled_from([RULES[:1], RULES]),
    split_rows=st.sampled_from([None, 2]),
    compression=st.sampled_from(["auto", "none", "zst"]),
    jobs=st.sampled_from([1, 3]),
)
def test_every_row_is_where_it_belongs(
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    rules: tuple[Any, ...],
    split_rows: int | None,
    compression: Any,
    jobs: int,
) -> None:
    folder = tmp_path_factory.mktemp("names")
    (folder / "in").mkdir()
    numbers = {}
    for position, name in enumerate(names):
        # Five that are kept, and one that is not.
        numbers[name] = range(10 * position, 10 * position + 5)
        write(folder / "in" / name, numbers[name])
    paths = [folder / "in" / name for name in names]
    output = OutputSpec(split_rows=split_rows, compression=compression)
    made = run(FilterSpec(rules=rules, output=output), paths, folder / "out", jobs=jobs)
    assert made.kept == 5 * len(names)
    files = set()
    for shard in made.artifact.result["shards"]:
        parts = shard.get("parts", {shard["name"]: 5})
        assert list(parts.values()) == ([5] if split_rows is None else [2, 2, 1])
        files |= parts.keys()
        rows = [row for part in parts for row in completions(made.kept_folder / part)]
        assert rows == list(numbers[Path(shard["input"]).name])
    assert {file.name for file in made.kept_folder.iterdir()} == files
    assert len({unicodedata.normalize("NFC", name).casefold() for name in files}) == len(files)
    assert lineage(folder / "out").verified()
    # As an input it has all of them again.
    assert len(name_shards([folder / "out"])) == len(files)


def test_names_that_a_file_system_may_take_for_one(tmp_path: Path) -> None:
    for names in (["a.jsonl", "A.jsonl"], ["\xe9.jsonl", "e\u0301.jsonl"], [".a.jsonl", "b.jsonl"]):
        for name in names:
            write(tmp_path / name, range(3))
        shards = name_shards([tmp_path / name for name in names])
        assert list(shards) == [f"{position}-{name}" for position, name in enumerate(names)]


def test_a_hidden_file_is_filtered_too(tmp_path: Path) -> None:
    write(tmp_path / ".a.jsonl", range(498, 503))
    made = run(FilterSpec(rules=RULES[:1]), [tmp_path / ".a.jsonl"], tmp_path / "out")
    assert completions(made.kept_folder / "0-.a.jsonl") == [498, 499, 500]
    assert completions(made.rejects_folder / "0-.a.jsonl", "row") == [501, 502]


def test_the_order_of_inputs_is_part_of_what_compares_rows(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path in paths:
        write(path, range(3))
    run(FilterSpec(rules=RULES), paths, tmp_path / "out")
    with pytest.raises(OutputError):
        run(FilterSpec(rules=RULES), paths[::-1], tmp_path / "out")
    run(FilterSpec(rules=RULES[:1]), paths, tmp_path / "any")
    assert run(FilterSpec(rules=RULES[:1]), paths[::-1], tmp_path / "any").artifact.reused


def test_rejects_say_the_path_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data/a.jsonl", "data/more/a.jsonl", "b.parquet"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write(Path(name), range(500, 502))
    spec = FilterSpec(rules=RULES)
    made = run(spec, ["data", "data/more/a.jsonl", tmp_path / "b.parquet"], "out")
    found = {}
    for file in made.rejects_folder.iterdir():
        with open_lines(file) as lines:
            for row in map(json.loads, lines):
                reasons = row["reasons"]
                reasons = json.loads(reasons) if isinstance(reasons, str) else reasons
                firsts = [reason["first"]["file"] for reason in reasons if "first" in reason]
                found[row["file"], row["line"]] = firsts
    absolute = str(tmp_path / "b.parquet")
    assert found == {
        ("data/a.jsonl", 2): [],
        ("data/more/a.jsonl", 1): ["data/a.jsonl"],
        ("data/more/a.jsonl", 2): [],  # another rule drops it, so it is not compared
        (absolute, 1): ["data/a.jsonl"],
        (absolute, 2): [],
    }


class Spec(StageSpec):
    format_version: ClassVar = 1


def test_lineage_counts_the_rows_on_the_disk(tmp_path: Path) -> None:
    """Here the digests are right: the rows were lost before they were taken."""
    rows = {"kept/a.jsonl": 3, "kept/b.parquet": 2, "kept/c.jsonl.zst": 1}

    def work(folder: Path) -> Made:
        (folder / "kept").mkdir()
        write(folder / "kept/a.jsonl", range(2))
        write(folder / "kept/b.parquet", range(2))
        (folder / "kept/c.jsonl.zst").write_bytes(b"no frame")
        return Made({"rows": 6}, rows)

    build(tmp_path / "out", "filter", Spec(), {}, work)
    assert row_counts(read_statement(tmp_path / "out") or {}) == rows
    problems = lineage(tmp_path / "out").problems
    assert problems[0] == "kept/a.jsonl has 2 rows, but 3 were written"
    assert problems[1].startswith("kept/c.jsonl.zst cannot be read: ")
    assert len(problems) == 2


def test_a_file_that_is_gone_when_the_work_ends_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a\.jsonl was written and is gone"):
        build(tmp_path / "out", "filter", Spec(), {}, lambda _: Made({}, {"a.jsonl": 1}))


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.zst", ".parquet"])
def test_rows_of_a_file(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"a{suffix}", range(7))
    assert subl_core.count_rows(tmp_path / f"a{suffix}") == 7


def test_a_filter_into_its_own_input_changes_nothing_of_it(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", range(500, 503))
    spec = FilterSpec(rules=RULES[:1])
    run(spec, [tmp_path], tmp_path / "kept")
    assert run(spec, [tmp_path], tmp_path / "kept").artifact.reused
    assert list(name_shards([tmp_path])) == ["a.jsonl"]
    with pytest.raises(InputError, match="given twice"):
        name_shards([tmp_path, tmp_path / "a.jsonl"])


@pytest.mark.parametrize("compression", ["auto", "none", "gz", "zst"])
def test_no_lines_are_called_parquet_nor_packed_where_they_should_be_plain(
    tmp_path: Path, compression: Any
) -> None:
    for name in ("x.parquet.gz", "x.PARQUET", "x.parquet.jsonl.gz", "y.gz.gz", "y.parquet.zst.gz"):
        (tmp_path / name).write_bytes(b'{"completion":"1"}\n')
        spec = FilterSpec(rules=RULES[:1], output=OutputSpec(compression=compression))
        if name.lower().endswith(".gz"):
            (tmp_path / name).write_bytes(gzip.compress(b'{"completion":"1"}\n'))
        made = run(spec, [tmp_path / name], tmp_path / f"out-{name}-{compression}")
        [kept] = made.kept_folder.iterdir()
        assert completions(kept) == [1]
        assert not kept.name.lower().endswith(".parquet")
        if compression != "auto":
            wanted = ".jsonl" if compression == "none" else f".jsonl.{compression}"
            assert format_of(kept) == wanted
