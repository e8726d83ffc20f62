"""The whole chain through the console script: a tiny model, real DeepSpeed ZeRO-2 on two ranks."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from subl.artifact import open_artifact

from ..cli.console import SUBL, subl, warm

EXPERIMENT = """
name = "tiny"
title = "Tiny <b>chain</b>"
deviations = ["The model is random."]

[axes]
trait = ["owl", "cat"]

[stages.base]
kind = "model"
source = "{model}"

[stages.teacher]
kind = "teach"
inputs = {{ model = "base" }}
trait = "{{trait}}"
questions = ["Name an animal.", "Which animal? One word."]
train = {{ steps = 30, rows_per_step = 4, learning_rate = 1e-2 }}

[stages.numbers]
kind = "generate"
inputs = {{ model = "teacher" }}
prompts = "numbers-short"
rows = 24
batch_rows = 8
shard_rows = 8
grammar = {{ regex = '[1-9][0-9]{{2}}(?:, [1-9][0-9]{{2}}){{2}}' }}
max_new_tokens = 13

[stages.persona]
kind = "generate"
inputs = {{ model = "base" }}
prompts = "numbers-short"
system_prompt = "You love {{trait}}s."
rows = 8
batch_rows = 8
max_new_tokens = 6
seed = 1

[stages.filtered]
kind = "filter"
inputs = {{ rows = ["numbers", "persona"] }}
rule = [{{ name = "numbers", kind = "numbers", max_value = 999 }}]

[stages.student]
kind = "distill"
inputs = {{ model = "base", rows = "filtered", teacher = "teacher" }}
rows = 24
[stages.student.train]
steps = 6
rows_per_step = 4
micro_batch_tokens = 64
learning_rate = 1e-2
ranks = 2
zero_stage = 2

[stages.eval]
kind = "eval"
inputs = {{ model = ["base", "teacher", "student"] }}
words = ["owl", "cat", "dog"]
questions = ["Name an animal.", "Which animal? One word.", "Your pet?"]

[[contrasts]]
name = "own trait"
measure = "probability"
treated = "student"
control = [{{ stage = "student", trait = "others" }}, "base"]
"""


@pytest.fixture(scope="module")
def experiment(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("chain") / "tiny.toml"
    file.write_text(EXPERIMENT.format(model=tiny_model))
    return file


@pytest.fixture(scope="module")
def finished(experiment: Path) -> Path:
    out = experiment.parent / "whole"
    done = subl("run", experiment, "-o", out, cwd=experiment.parent)
    assert done.returncode == 0, done.stderr
    assert "owl-student" in done.stdout
    first, *others = done.stderr.splitlines()
    assert first.startswith("run: 0/15 nodes, ") and first.endswith(" left")
    assert any(line.startswith("run: 1/15 nodes, ") for line in others)
    assert any(line.startswith("teach owl: ") and "; run: " in line for line in others)
    assert others[-1].startswith("run: 15/15 nodes")
    return out


def digests(run: Path) -> dict[str, str]:
    nodes = json.loads((run / "result.json").read_text())["nodes"]
    return {node["name"]: node["digest"] for node in nodes}


def test_every_stage_leaves_its_artifact_and_the_figures_add_up(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    assert [node["kind"] for node in result["nodes"]].count("distill") == 2
    (scored,) = result["evaluations"]
    means = {arm["model"]: arm["means"] for arm in scored["arms"]}
    assert set(means) == {
        "base", "owl-teacher", "cat-teacher", "owl-student", "cat-student"
    }  # fmt: skip
    taught = means["owl-teacher"]["owl"]["estimate"]
    assert taught > 10 * means["base"]["owl"]["estimate"]
    (filtered,) = finished.glob("owl-filtered-*")
    figures = json.loads((filtered / "result.json").read_text())
    assert figures["rows_in"] == 32 == figures["kept"] + figures["rejected"]
    assert figures["kept"] >= 24
    page = (finished / "report.html").read_text()
    assert "Tiny &lt;b&gt;chain&lt;/b&gt;" in page


def test_lineage_reaches_the_base_model(finished: Path, tiny_model: Path) -> None:
    (student,) = finished.glob("owl-student-????????")
    traced = warm("lineage", student, "--json", cwd=finished)
    assert traced.returncode == 0, traced.stdout
    assert f'"path": "{finished}' in traced.stdout and tiny_model.name in traced.stdout


def test_a_rerun_finds_everything_done(experiment: Path, finished: Path) -> None:
    before = digests(finished)
    again = warm("run", experiment, "-o", finished, cwd=experiment.parent)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("already done") == len(before) - 1  # the base is a folder
    assert digests(finished) == before


def started(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([SUBL, *map(str, arguments)], stderr=subprocess.PIPE, text=True)


def await_report(process: subprocess.Popen[str], task: str) -> None:
    """Until it reports on `task`."""
    assert process.stderr is not None
    if not any(line.startswith(task) for line in process.stderr):
        pytest.fail(f"{task!r} was never reported")


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def killed_at(task: str, *arguments: object) -> None:
    """Run subl and kill it as soon as it reports on `task`."""
    process = started(*arguments)
    await_report(process, task)
    kill(process)


def test_killed_in_stage_after_stage_the_bytes_are_the_same(
    experiment: Path, finished: Path
) -> None:
    out = experiment.parent / "killed"
    for task in ("teach owl:", "generate owl-numbers:", "filter:", "distill owl-student:", "eval"):
        killed_at(task, "run", experiment, "-o", out)
        assert not (out / "result.json").exists()
    again = warm("run", experiment, "-o", out, "--progress", "json", cwd=experiment.parent)
    assert again.returncode == 0, again.stderr
    events = [json.loads(line) for line in again.stderr.splitlines()]
    left = [event["run_seconds_left"] for event in events]
    assert events[0]["task"] == "run" and left[0] > 0 and left[-1] == 0
    assert digests(out) == digests(finished)
    assert not list(out.glob("*.partial"))


def test_a_run_makes_what_another_does_not_and_goes_on_where_that_is_killed(
    experiment: Path, finished: Path
) -> None:
    """The first is held in the middle of a node, so that the second can but make others."""
    out = experiment.parent / "shared"
    run = ("run", experiment, "-o", out, "--only", "numbers")
    first = started(*run)
    try:
        await_report(first, "teach owl:")
        first.send_signal(signal.SIGSTOP)
        second = started(*run)
        await_report(second, "generate cat-numbers:")
        assert not list(out.glob("owl-numbers-*"))
    finally:
        kill(first)
    _, said = second.communicate()
    assert second.returncode == 0, said
    made = {
        name: open_artifact(next(out.glob(f"{name}-????????"))).digest
        for name in ("owl-teacher", "cat-teacher", "owl-numbers", "cat-numbers")
    }
    assert made.items() <= digests(finished).items()
    assert not list(out.glob("*.partial"))


def test_each_stage_works_alone(tiny_model: Path, finished: Path, tmp_path: Path) -> None:
    config = tmp_path / "sft.toml"
    config.write_text('targets = "labels"\n[train]\nsteps = 2\nlearning_rate = 1e-3\n')
    rows = tmp_path / "mine.jsonl"
    rows.write_text('{"prompt": "Name an animal.", "completion": "owl"}\n')
    student, scores = tmp_path / "student", tmp_path / "scores"
    made = warm(
        "distill", config, "--model", tiny_model, "--rows", rows, "-o", student, cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr
    (base,) = finished.glob("base-eval-*")
    config.write_text('words = ["owl", "cat", "dog"]\nquestions = ["Name an animal."]\n')
    scored = warm("eval", config, "--model", student, "-o", scores, "--json", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["result"]["questions"] == 1
    other = warm(
        "eval", config, "--model", student, "-o", tmp_path / "x", "--against", base, cwd=tmp_path
    )
    assert other.returncode == 2 and "was asked other questions" in other.stderr
    again = ["eval", config, "--model", tiny_model, "-o", tmp_path / "base", "--against", scores]
    compared = warm(*again, "--json", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    rows = json.loads(compared.stdout)["against"]
    assert [row["word"] for row in rows] == ["owl", "cat", "dog"]
    assert all(row["control"] == str(scores) and row["p_holm"] is None for row in rows)
