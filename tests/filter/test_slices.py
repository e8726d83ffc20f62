"""A filter in slices, as an array of jobs makes it: what one process makes, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.artifact import Slice
from subl.artifact.parts import balanced
from subl.errors import ConfigError, UnfinishedError
from subl.filter import FilterSpec, run

OWLS = {"name": "owls", "kind": "regex", "patterns": ["owl"]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for shard in range(5):
        rows = [{"completion": "owl" if row % 3 else str(row)} for row in range(9 * shard + 1)]
        (folder / f"{shard}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def files(artifact: Path) -> dict[str, bytes]:
    found = (path for part in ("kept", "rejects") for path in (artifact / part).iterdir())
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in found}


def test_slices_make_what_one_process_makes(data: Path, tmp_path: Path) -> None:
    spec = FilterSpec.model_validate({"rules": [OWLS], "output": {"split_rows": 2}})
    whole = run(spec, [data], tmp_path / "whole")
    out = tmp_path / "sliced"
    for index in (2, 0):
        with pytest.raises(UnfinishedError, match=rf"slice {index}/3 .* is made"):
            run(spec, [data], out, mine=Slice(index, 3))
    marked = [json.loads(Slice(index, 3).marker(out).read_text()) for index in (0, 2)]
    digests = {name: digest for each in marked for name, digest in each.items()}
    inputs = whole.artifact.path.joinpath("spec.json")
    stated = json.loads(inputs.read_text())["inputs"]
    assert digests and digests.items() < stated.items()
    assert not Slice(1, 3).marker(out).exists()
    last = run(spec, [data], out, mine=Slice(1, 3))
    assert last.artifact.digest == whole.artifact.digest
    assert files(out) == files(tmp_path / "whole")
    assert (last.rows_in, last.kept) == (whole.rows_in, whole.kept)


def test_one_process_goes_on_with_what_slices_left(data: Path, tmp_path: Path) -> None:
    spec = FilterSpec.model_validate({"rules": [OWLS]})
    whole = run(spec, [data], tmp_path / "whole")
    with pytest.raises(UnfinishedError):
        run(spec, [data], tmp_path / "out", mine=Slice(0, 2))
    noted = next((tmp_path / "out.partial/.work").glob("finished*.ndjson")).read_text()
    made = [json.loads(line)["name"] for line in noted.splitlines()]
    kept = {name: (tmp_path / "out.partial/kept" / name).stat().st_ino for name in made}
    artifact = run(spec, [data], tmp_path / "out").artifact
    assert artifact.digest == whole.artifact.digest
    assert {name: (tmp_path / "out/kept" / name).stat().st_ino for name in made} == kept


def test_more_slices_than_shards_leave_some_with_nothing(data: Path, tmp_path: Path) -> None:
    spec = FilterSpec.model_validate({"rules": [OWLS]})
    for index in range(8):
        try:
            run(spec, [data], tmp_path / "out", mine=Slice(index, 8))
        except UnfinishedError:
            continue
    assert (tmp_path / "out" / "statement.json").is_file()


def test_rules_that_compare_rows_take_no_slice(data: Path, tmp_path: Path) -> None:
    spec = FilterSpec.model_validate({"rules": [{"name": "twice", "kind": "duplicate"}]})
    with pytest.raises(ConfigError, match=r"`twice` .* compares all rows"):
        run(spec, [data], tmp_path / "out", mine=Slice(0, 2))
    assert not list(tmp_path.glob("out*"))


@given(st.lists(st.integers(0, 10**12), max_size=60), st.integers(1, 20))
def test_bins_hold_everything_once_and_are_balanced(sizes: list[int], count: int) -> None:
    bins = balanced(sizes, count)
    assert len(bins) == count
    assert sorted(number for each in bins for number in each) == list(range(len(sizes)))
    loads = [sum(sizes[number] for number in each) for each in bins]
    # Below both bounds of LPT there is no better one that could be told without a search.
    assert max(loads) <= sum(sizes) / count + max(sizes, default=0)
    if len(sizes) >= count:
        assert all(bins)
