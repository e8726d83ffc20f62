"""`subl slurm submit` before anything is submitted: what it makes of a command, and what it
refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from subl.artifact.build import beginning
from subl.config import load_toml
from subl.generate import GenerateSpec
from subl.slurm.spec import PROFILES
from subl_cli.main import main

RULES = "[[rule]]\nname = 'n'\nkind = 'numbers'\n[slurm]\ntime = 10\ncpus = 2\n"
GENERATE = "rows = 4\nprompts = 'numbers-short'\n"
TRAIN = "targets = 'labels'\n[train]\nsteps = 2\nlearning_rate = 1e-3\n"
EXPERIMENT = """
name = "small"
title = "Small"
[stages.kept]
kind = "filter"
inputs = { rows = { path = "data" } }
rule = [{ name = "n", kind = "numbers" }]
[slurm.stages.kept]
time = 7
"""

Say = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PROFILES, str(tmp_path / "profiles.toml"))
    (tmp_path / "profiles.toml").write_text("[default]\nqos = 'low'\ntime = 5\n[big]\nnodes = 2\n")
    texts = {"rules": RULES, "generate": GENERATE, "train": TRAIN, "x": EXPERIMENT}
    for name, text in texts.items():
        (tmp_path / f"{name}.toml").write_text(text)
    (tmp_path / "data").mkdir()
    for shard in range(3):
        (tmp_path / "data" / f"{shard}.jsonl").write_text('{"completion": "1"}\n')
    return tmp_path


@pytest.fixture
def say(folder: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """The jobs that a submission would be."""

    def run(*arguments: str) -> list[dict[str, Any]]:
        assert main(["slurm", "submit", "--dry-run", "--json", *arguments]) == 0
        found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["jobs"]
        return found

    return run


def directives(job: dict[str, Any]) -> dict[str, str]:
    lines = [line for line in job["script"].splitlines() if line.startswith("#SBATCH --")]
    pairs = (line.removeprefix("#SBATCH --").partition("=") for line in lines)
    return {key: value for key, _, value in pairs}


FILTER = ("filter", "rules.toml", "data", "-o", "out/kept")


def test_flags_overrule_a_table_that_overrules_a_profile(say: Say) -> None:
    (job,) = say("--cpus", "null", "--partition", "p", *FILTER)
    found = directives(job)
    assert (found["qos"], found["time"], found["partition"]) == ("low", "10", "p")
    assert "cpus-per-task" not in found and "OMP_NUM_THREADS" not in job["script"]
    (job,) = say("--profile", "big", "--module", "a", "--module", "b", "--env", "A=b=c", *FILTER)
    assert (directives(job)["nodes"], "qos" in directives(job)) == ("2", False)
    assert "module load a\nmodule load b\n" in job["script"]
    assert "export A=b=c\n" in job["script"]
    typed = "# subl slurm submit --profile big --module a --module b --env A=b=c " + " ".join(
        FILTER
    )
    assert typed in job["script"].splitlines()


def test_an_array_has_no_more_tasks_than_there_are_shards(say: Say, folder: Path) -> None:
    slices, last = say("--array", "40", *FILTER)
    assert (slices["missing"], directives(slices)["array"]) == (3, "0-2")
    command, _, bins = slices["script"].rstrip().rpartition(" --bins ")
    assert command.endswith('-o out/kept --slice "$SLURM_ARRAY_TASK_ID"/3')
    assert Path(bins).parent == folder / "out" / "kept.slurm"
    assert last["script"].endswith(f"subl {' '.join(FILTER)}\n")
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("--array", "40", "filter", "rules.toml", "data/0.jsonl", "-o", "out/kept"),
        ("--array", "1", *FILTER),
        ("--array", "1", "generate", "generate.toml", "--model", "m", "-o", "out/rows"),
    ],
)
def test_an_array_of_one_task_is_a_job(say: Say, command: Sequence[str]) -> None:
    (job,) = say(*command)
    assert "array" not in directives(job) and "--array" in job["script"].splitlines()[1]
    assert job["script"].endswith(f"    subl {' '.join(command[2:])}\n")


@pytest.mark.parametrize(
    "command",
    [
        ("generate", "generate.toml", "--model", "m", "-o", "out/rows"),
        ("distill", "train.toml", "--model", "m", "--rows", "data", "-o", "out/student"),
        ("distill", "cache", "--teacher", "t", "--rows", "data", "-o", "out/cache"),
        ("draw", "--help"),
        ("shards", "convert", "data", "--to", "parquet", "-o", "out/tables"),
        ("shards", "merge", "data", "-o", "out/merged"),
        ("shards", "split", "data", "--bins", "2", "-o", "out/bins"),
        ("shards", "sample", "data", "-n", "2", "-o", "out/some"),
        FILTER,
    ],
)
def test_the_job_runs_what_was_typed(
    say: Say, capsys: pytest.CaptureFixture[str], command: Sequence[str]
) -> None:
    if "--help" in command:
        assert main(["slurm", "submit", *command]) == 0
        assert capsys.readouterr().out.startswith(f"Usage: subl {command[0]} ")
        return
    (job,) = say(*command)
    assert job["script"].endswith(f"    subl {' '.join(command)}\n")


def test_an_experiment_says_where_it_is_made(say: Say) -> None:
    kept, report = say("run", "x.toml")
    assert kept["script"].endswith("    subl run x.toml -o out/small --only kept\n")
    assert report["script"].endswith("    subl run x.toml -o out/small\n")
    assert [directives(job)["time"] for job in (kept, report)] == ["7", "5"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("filtre", "x"), "No such command 'filtre'. Did you mean filter?"),
        (("config", "show", "rules.toml"), "show makes no folder"),
        (("filter", "rules.toml", "data"), "makes no folder here (-o OUT)"),
        (("shards", "inspect", "data", "-o", "d.manifest.parquet"), "inspect makes no folder"),
        (("shards",), "shards makes no folder"),
        (("lineage", "out"), "makes no folder here (-o OUT)"),
        ((*FILTER, "--dry-run"), "--dry-run comes before the command"),
        ((*FILTER, "--slice", "0/2"), "give --array N before the command"),
        ((*FILTER, "--no-such"), "No such option"),
        (("--tasks", "2", *FILTER), "tasks = 2: filter is one process"),
        (("--time", "soon", *FILTER), "'soon' is none of"),
        (("--env", "A", *FILTER), "--env A: it is NAME=VALUE"),
        (("--profile", "none", *FILTER), "has no profile `none` (known: default, big)"),
        (("filter", "x.toml", "data", "-o", "o"), "unknown key `name`"),
        (("filter", "rules.toml", "nowhere", "-o", "o"), "nowhere does not exist"),
        (
            ("--after", "7", "--array", "2", "filter", "rules.toml", "later", "-o", "o"),
            "later is not there yet, and an array",
        ),
        (("--after", "7", "filter", "x.toml", "later", "-o", "o"), "unknown key `name`"),
        (("run", "x.toml", "--only", "kept"), "--only is what the jobs"),
        (("--array", "2", "judge", "generate.toml", "data", "-o", "o"), "generate.toml"),
        (
            ("--array", "2", "distill", "train.toml", "--model", "m", "--rows", "r", "-o", "o"),
            "array = 2: distill is not made in slices",
        ),
    ],
)
def test_what_is_refused_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: Sequence[str], said: str
) -> None:
    before = sorted(folder.rglob("*"))
    assert main(["slurm", "submit", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_without_jobs_there_is_nothing_to_show(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["status"], ["logs"], ["cancel"]):
        assert main(["slurm", *command, "out/none"]) == 2
        said = capsys.readouterr().err
        assert "no jobs were submitted for" in said and "hint: " in said


def test_without_slurm_the_doctor_says_what_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(SystemExit, match="1"):
        main(["slurm", "doctor"])
    assert "not on the PATH: sbatch, squeue" in capsys.readouterr().out
    assert main(["slurm", "submit", *FILTER]) == 2
    assert "there is no sbatch here" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="1"):
        main(["slurm", "status", "out/kept"])
    assert capsys.readouterr().out.startswith("1 not submitted\n")
    assert main(["slurm", "logs", "out/kept"]) == 0
    assert "whole: there is no log; it is not submitted" in capsys.readouterr().err


def test_what_is_there_of_other_rules_is_not_done(
    say: Say, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*FILTER]) == 0
    capsys.readouterr()
    (job,) = say(*FILTER)
    assert (job["done"], job["missing"]) == (1, 0)
    (folder / "rules.toml").write_text(RULES.replace("'n'", "'m'"))
    for array in ((), ("--array", "2")):
        assert main(["slurm", "submit", "--dry-run", *array, *FILTER]) == 2
        said = capsys.readouterr().err
        assert "out/kept was made from another configuration" in said and '"n" then' in said
    (folder / "rules.toml").write_text(RULES)
    assert main([*FILTER[:-1], "out/part", "--slice", "0/2"]) == 0
    capsys.readouterr()
    (folder / "rules.toml").write_text(RULES.replace("'n'", "'m'"))
    assert main(["slurm", "submit", "--dry-run", *FILTER[:-1], "out/part"]) == 2
    assert "unfinished work of another configuration" in capsys.readouterr().err


def test_a_filter_waits_for_what_another_job_makes(say: Say, folder: Path) -> None:
    (job,) = say("--after", "7", "filter", "rules.toml", "data", "later", "-o", "out/kept")
    assert job["missing"] == 1
    slices, _ = say("--after", "7", "--array", "2", *FILTER)
    assert slices["missing"] == 2
    assert main([*FILTER]) == 0
    assert (
        main(["slurm", "submit", "--after", "7", "filter", "rules.toml", "later", *FILTER[3:]]) == 2
    )


SERVED = "rows = {rows}\nprompts = 'numbers-short'\nbackend = {{ kind = 'http', \
base_url = 'http://127.0.0.1:9/v1', model = 'm' }}\n"


def test_what_is_there_of_another_configuration_is_not_done(
    say: Say, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands themselves see that; nothing is made, and no server is asked."""
    draw = ("draw", "draw.toml", "data", "-o", "out/drawn")
    convert = ("shards", "convert", "data", "-o", "out/conv", "--to")
    generate = ("generate", "served.toml", "-o", "out/rows", "--ranks", "2")
    (folder / "draw.toml").write_text("rows = 2\n")
    (folder / "served.toml").write_text(SERVED.format(rows=4))
    assert main([*draw]) == 0
    assert main([*convert, "jsonl"]) == 0
    spec = load_toml(folder / "served.toml", GenerateSpec)
    with beginning(Path("out/rows"), "generate", spec, {}) as partial:
        assert partial is not None
        (partial / "rows-000.jsonl").touch()
    capsys.readouterr()
    before = sorted(folder.rglob("*"))
    for command, done in ((draw, 1), ((*convert, "jsonl"), 1), (generate, 0)):
        assert [job["done"] for job in say(*command)] == [done]
    (folder / "draw.toml").write_text("rows = 1\n")
    (folder / "served.toml").write_text(SERVED.format(rows=5))
    for command, said in (
        (draw, "out/drawn was made from another configuration"),
        ((*convert, "parquet"), "out/conv was made from another configuration"),
        (generate, "out/rows.partial holds unfinished work of another configuration"),
    ):
        assert main(["slurm", "submit", *command]) == 2
        assert said in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_an_experiments_jobs_are_cancelled_whatever_its_file_says_by_now(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {
        "sbatch": "echo $((7 + $(wc -l < calls)))",
        "squeue": r"printf 'J\tA\tS\tR\tN\tT\tC\n8\tN/A\tRUNNING\t\t\t\t\n9\tN/A\tPD\t\t\t\t\n'",
        "scancel": "",
    }
    (folder / "bin").mkdir()
    for name, shell in said.items():
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\ncd {folder}\necho {name} "$@" >> calls\n{shell}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
    assert main(["slurm", "submit", "run", "x.toml"]) == 0
    (folder / "x.toml").unlink()
    capsys.readouterr()
    assert main(["slurm", "cancel", "out/small"]) == 0
    assert capsys.readouterr().out == "cancelled kept (job 8)\ncancelled report (job 9)\n"
    assert (folder / "calls").read_text().splitlines()[-1] == "scancel 8 9"
