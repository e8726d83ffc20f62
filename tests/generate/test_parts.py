"""One data set, made by several processes: the same bytes, whoever makes which file, and when."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from subl.artifact import Slice
from subl.errors import BusyError, UnfinishedError
from subl.experiment.kinds import STAGES
from subl.experiment.make import make
from subl.generate import GenerateSpec, generate
from subl.progress import Progress

SPEC = {
    "rows": 22,
    "prompts": "numbers-short",
    "grammar": {"regex": "[1-9]"},
    "max_new_tokens": 2,
    "batch_rows": 4,
    "shard_rows": 4,
}


def spec(**changes: Any) -> GenerateSpec:
    return GenerateSpec.model_validate(SPEC | changes)


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(spec(), tiny_model, tmp_path_factory.mktemp("whole") / "rows").path


def data(folder: Path) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if file.name not in ("statement.json", ".seen.json")
    }


def test_slices_make_what_one_process_makes(tiny_model: Path, tmp_path: Path, whole: Path) -> None:
    out = tmp_path / "rows"
    for index in (2, 0):
        with pytest.raises(UnfinishedError, match=rf"slice {index}/3 of .* is made"):
            generate(spec(), tiny_model, out, mine=Slice(index, 3))
        assert not out.exists()
    (out.with_name("rows.partial") / "part-00000.jsonl").unlink()  # slice 0 was killed
    with pytest.raises(UnfinishedError, match="1 of its 6 files are still to come"):
        generate(spec(), tiny_model, out, mine=Slice(1, 3))
    made = generate(spec(), tiny_model, out, mine=Slice(0, 3))
    assert data(made.path) == data(whole) and not made.reused
    assert generate(spec(), tiny_model, out, mine=Slice(1, 3)).reused
    assert not out.with_name("rows.partial").exists()


def test_slices_that_work_at_the_same_time_finish_once(
    tiny_model: Path, tmp_path: Path, whole: Path
) -> None:
    """Three processes begin together; each exits as done, and one of them has finished it."""
    config = tmp_path / "rows.toml"
    config.write_text(
        'rows = 22\nprompts = "numbers-short"\ngrammar = { regex = "[1-9]" }\n'
        "max_new_tokens = 2\nbatch_rows = 4\nshard_rows = 4\n"
    )
    commands = [
        [sys.executable, "-m", "subl_cli", "generate", str(config), "--model", str(tiny_model),
         "-o", str(tmp_path / "rows"), "--slice", f"{index}/3", "--json"]
        for index in range(3)
    ]  # fmt: skip
    running = [
        subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for each in commands
    ]
    said = [(process.communicate(), process.returncode) for process in running]
    assert [status for _, status in said] == [0] * 3, said
    finished = [json.loads(out) for (out, _), _ in said if out]
    assert finished and sum(not each["reused"] for each in finished) == 1
    assert data(tmp_path / "rows") == data(whole)


def test_ranks_of_one_machine_make_the_same(tiny_model: Path, tmp_path: Path, whole: Path) -> None:
    heard: list[Progress] = []
    out = tmp_path / "rows"

    def told(progress: Progress) -> None:
        if not heard:  # somebody else begins the same right now
            with pytest.raises(BusyError, match=r"another process is writing .*rows"):
                make(STAGES["generate"], spec(ranks=2), {"model": [tiny_model]}, out, "rows")
        heard.append(progress)

    made = make(STAGES["generate"], spec(ranks=2), {"model": [tiny_model]}, out, "rows", told)
    ours, theirs = data(made.path), data(whole)
    assert json.loads(ours.pop("spec.json"))["spec"]["ranks"] == 2
    theirs.pop("spec.json")
    assert ours == theirs
    assert {each.name for each in tmp_path.iterdir()} == {"rows"}  # no log is left
    assert heard[-1].task == "generate rows"


@pytest.mark.parametrize("unique", ["rows", "completions"])
def test_rows_that_are_alike_are_kept_once(
    tiny_model: Path, tmp_path: Path, whole: Path, unique: str
) -> None:
    def rows(folder: Path) -> list[dict[str, str]]:
        shards = sorted(folder.glob("part-*.jsonl"))
        return [json.loads(line) for shard in shards for line in shard.read_text().splitlines()]

    made = generate(spec(unique=unique), tiny_model, tmp_path / "rows")
    every, kept = rows(whole), rows(made.path)
    first: dict[Any, str] = {}
    for row in every:
        alike = (row["prompt"] if unique == "rows" else "", row["completion"])
        first.setdefault(alike, row["prompt"])
    assert [row["prompt"] for row in kept] == list(first.values())
    assert made.result["rows"] == len(kept)
    assert made.result["repeated"] == len(every) - len(kept)
    assert (len(kept) < len(every)) == (unique == "completions")
