"""A filter in slices, as an array of jobs makes it: what one process makes, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.artifact import Slice
from subl.artifact.parts import balanced
from subl.errors import ConfigError, InputError, UnfinishedError
from subl.filter import FilterSpec, run
from subl.filter.inputs import look

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


def test_a_slice_of_bins_looks_at_no_other_shard(data: Path, tmp_path: Path) -> None:
    spec = FilterSpec.model_validate({"rules": [OWLS]})
    bins = tmp_path / "bins.json"
    inputs = look(spec, [data])
    bins.write_text(inputs.text(spec, [data], 3))
    whole = run(spec, [data], tmp_path / "whole")
    for index in range(2):
        own = {inputs.shards[number].path for number in inputs.share(Slice(index, 3))}
        away = [path for path in data.iterdir() if path not in own]
        for path in away:  # what is not there cannot be looked at
            path.rename(tmp_path / path.name)
        with pytest.raises(UnfinishedError, match=rf"slice {index}/3 .* is made"):
            run(spec, [data], tmp_path / "out", mine=Slice(index, 3), bins=bins)
        for path in away:
            (tmp_path / path.name).rename(path)
    last = run(spec, [data], tmp_path / "out", mine=Slice(2, 3), bins=bins)
    assert last.artifact.digest == whole.artifact.digest
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_bins_of_something_else_are_refused(data: Path, tmp_path: Path) -> None:
    spec = FilterSpec.model_validate({"rules": [OWLS]})
    bins = tmp_path / "bins.json"
    bins.write_text(look(spec, [data]).text(spec, [data], 3))
    packed = FilterSpec.model_validate({"rules": [OWLS], "output": {"compression": "gz"}})
    one = [data / "0.jsonl"]
    for rules, paths, count in ((spec, [data], 4), (spec, one, 3), (packed, [data], 3)):
        with pytest.raises(InputError, match="is for other inputs, another compression, or 3"):
            run(rules, paths, tmp_path / "out", mine=Slice(0, count), bins=bins)
    for text in ("", "[]", '{"format": 1, "bins": 1, "shards": [{}]}', '{"format": 2}'):
        wrong = tmp_path / "wrong.json"
        wrong.write_text(text)
        with pytest.raises(InputError, match="has no bins of this version"):
            run(spec, [data], tmp_path / "out", mine=Slice(0, 3), bins=wrong)
    for path in data.iterdir():
        path.write_text("{}\n")
    with pytest.raises(InputError, match="has changed since bins were made"):
        run(spec, [data], tmp_path / "out", mine=Slice(0, 3), bins=bins)


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
