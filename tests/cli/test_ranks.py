"""Commands whose work is shared: tasks of srun, ranks of this machine, slices."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from subl.artifact import Slice, build
from subl.errors import UnfinishedError
from subl.experiment.kinds import STAGES
from subl.experiment.make import make
from subl.generate import GenerateSpec
from subl.model.source import ModelSpec
from subl.progress import silent
from subl_cli.inputs import model_folder
from subl_cli.main import main


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the second task of srun."""
    for name, value in {
        "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_LOCALID": "1", "LOCAL_RANK": "",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("second_of_two")
def test_a_task_waits_for_the_model_that_another_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gguf = tmp_path / "owl.gguf"
    gguf.write_bytes(b"GGUF")
    begun, waited_for = threading.Event(), threading.Event()

    def work(folder: Path) -> dict[str, Any]:
        begun.set()
        assert waited_for.wait(60)
        (folder / "config.json").write_text("{}")
        return {}

    spec = ModelSpec(source=gguf.name)
    first = threading.Thread(
        target=build, args=(Path("models/owl"), "model", spec, {"gguf": gguf}, work)
    )
    first.start()
    assert begun.wait(60)
    monkeypatch.setattr("time.sleep", lambda _: waited_for.set())
    assert model_folder(str(gguf), silent) == Path("models/owl")
    assert Path("models/owl/config.json").is_file()
    first.join()


@pytest.mark.usefixtures("second_of_two")
def test_tasks_share_a_slice(tiny_model: Path, tmp_path: Path) -> None:
    spec = GenerateSpec(
        rows=8, prompts="numbers-short", max_new_tokens=1, batch_rows=1, shard_rows=1
    )
    out = tmp_path / "rows"
    with pytest.raises(UnfinishedError, match=r"slice 4/6 of .* 7 of its 8 files"):
        make(STAGES["generate"], spec, {"model": [tiny_model]}, out, "rows", mine=Slice(1, 3))
    made = out.with_name("rows.partial").glob("part-*.jsonl")
    assert [file.name for file in made] == ["part-00004.jsonl"]


@pytest.mark.parametrize("command", ["generate", "eval"])
def test_ranks_of_one_slice_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    config = tmp_path / "ranks.toml"
    config.write_text("ranks = 8\n" + ("rows = 8\n" if command == "generate" else ""))
    asked = [command, str(config), "--model", "m", "-o", str(tmp_path / "out"), "--slice", "3/16"]
    assert main(asked) == 2
    assert "8 ranks beside --slice 3/16" in capsys.readouterr().err
    assert main([*asked, "--ranks", "1"]) == 2
    assert "no model at m" in capsys.readouterr().err
