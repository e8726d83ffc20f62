"""The whole chain through the console script: a tiny model, real DeepSpeed ZeRO-2 on two ranks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SUBL = str(Path(sys.executable).with_name("subl"))

EXPERIMENT = """
name = "tiny"
title = "Tiny <b>chain</b>"
model = "{model}"
traits = ["owl", "cat"]
deviations = ["The model is random."]

[teach]
questions = ["Name an animal.", "Which animal? One word."]
[teach.train]
steps = 30
rows_per_step = 4
learning_rate = 1e-2

[[generate]]
name = "numbers"
prompts = "numbers-short"
rows = 24
batch_rows = 8
shard_rows = 8
grammar = {{ regex = '[1-9][0-9]{{2}}(?:, [1-9][0-9]{{2}}){{2}}' }}
max_new_tokens = 13

[[generate]]
name = "persona"
source = "base"
prompts = "numbers-short"
system_prompt = "You love {{trait}}s."
rows = 8
batch_rows = 8
max_new_tokens = 6
seed = 1

[[filter.rule]]
name = "numbers"
kind = "numbers"
max_value = 999

[distill]
rows = 24
[distill.train]
steps = 6
rows_per_step = 4
micro_batch_tokens = 64
learning_rate = 1e-2
ranks = 2
zero_stage = 2

[eval]
words = ["owl", "cat", "dog"]
questions = ["Name an animal.", "Which animal? One word.", "Your pet?"]
"""


def subl(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SUBL, *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def experiment(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("chain") / "tiny.toml"
    file.write_text(EXPERIMENT.format(model=tiny_model))
    return file


@pytest.fixture(scope="module")
def finished(experiment: Path) -> Path:
    out = experiment.parent / "whole"
    done = subl("run", experiment, "-o", out)
    assert done.returncode == 0, done.stderr
    assert "owl-student" in done.stdout
    first, *others = done.stderr.splitlines()
    assert first.startswith("run: 0/15 steps, ") and first.endswith(" left")
    assert any(line.startswith("run: 1/15 steps, ") for line in others)
    assert any(line.startswith("teach owl: ") and "; run: " in line for line in others)
    assert others[-1].startswith("run: 15/15 steps")
    return out


def digests(run: Path) -> dict[str, str]:
    steps = json.loads((run / "result.json").read_text())["steps"]
    return {step["name"]: step["digest"] for step in steps}


def test_every_stage_leaves_its_artifact_and_the_figures_add_up(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    assert [step["kind"] for step in result["steps"]].count("distill") == 2
    assert set(result["matrix"]) == {
        "base", "owl-teacher", "cat-teacher", "owl-student", "cat-student"
    }  # fmt: skip
    taught = result["matrix"]["owl-teacher"]["owl"]["estimate"]
    assert taught > 10 * result["matrix"]["base"]["owl"]["estimate"]
    (filtered,) = finished.glob("owl-filtered-*")
    figures = json.loads((filtered / "result.json").read_text())
    assert figures["rows_in"] == 32 == figures["kept"] + figures["rejected"]
    assert figures["kept"] >= 24
    page = (finished / "report.html").read_text()
    assert "Tiny &lt;b&gt;chain&lt;/b&gt;" in page


def test_lineage_reaches_the_base_model(finished: Path, tiny_model: Path) -> None:
    (student,) = finished.glob("owl-student-????????")
    traced = subl("lineage", student, "--json")
    assert traced.returncode == 0, traced.stdout
    assert f'"path": "{finished}' in traced.stdout and tiny_model.name in traced.stdout


def test_a_rerun_finds_everything_done(experiment: Path, finished: Path) -> None:
    before = digests(finished)
    again = subl("run", experiment, "-o", finished)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("already done") == len(before)
    assert digests(finished) == before


def killed_at(task: str, *arguments: object) -> None:
    """Run subl and kill it as soon as it reports on `task`."""
    process = subprocess.Popen([SUBL, *map(str, arguments)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(task):
            os.kill(process.pid, signal.SIGKILL)
            break
    else:
        pytest.fail(f"{task!r} was never reported")
    process.wait()
    process.stderr.close()


def test_killed_in_stage_after_stage_the_bytes_are_the_same(
    experiment: Path, finished: Path
) -> None:
    out = experiment.parent / "killed"
    for task in ("teach owl:", "generate owl-numbers:", "filter:", "distill owl-student:", "eval"):
        killed_at(task, "run", experiment, "-o", out)
        assert not (out / "result.json").exists()
    again = subl("run", experiment, "-o", out, "--progress", "json")
    assert again.returncode == 0, again.stderr
    events = [json.loads(line) for line in again.stderr.splitlines()]
    left = [event["run_seconds_left"] for event in events]
    assert events[0]["task"] == "run" and left[0] > 0 and left[-1] == 0
    assert digests(out) == digests(finished)
    assert not list(out.glob("*.partial"))


def test_each_stage_works_alone(tiny_model: Path, finished: Path, tmp_path: Path) -> None:
    config = tmp_path / "sft.toml"
    config.write_text('targets = "labels"\n[train]\nsteps = 2\nlearning_rate = 1e-3\n')
    rows = tmp_path / "mine.jsonl"
    rows.write_text('{"prompt": "Name an animal.", "completion": "owl"}\n')
    student, scores = tmp_path / "student", tmp_path / "scores"
    made = subl("distill", config, "--model", tiny_model, "--rows", rows, "-o", student)
    assert made.returncode == 0, made.stderr
    (base,) = finished.glob("base-eval-*")
    config.write_text('words = ["owl", "cat", "dog"]\nquestions = ["Name an animal."]\n')
    scored = subl("eval", config, "--model", student, "-o", scores, "--json")
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["result"]["questions"] == 1
    other = subl("eval", config, "--model", student, "-o", tmp_path / "x", "--against", base)
    assert other.returncode == 2 and "different questions" in other.stderr
