"""A small experiment in this process: what it says of its time before, during and after."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from subl.artifact import input_digest
from subl.experiment import ExperimentSpec, chain, load_experiment, plan, run
from subl.progress import Progress

EXPERIMENT = """
name = "tiny"
title = "Tiny"
model = "{model}"
traits = ["owl", "cat"]
[teach]
questions = ["Name an animal."]
train = {{ steps = 2, rows_per_step = 2, learning_rate = 1e-3 }}
[[generate]]
name = "numbers"
prompts = "numbers-short"
rows = 4
batch_rows = 2
grammar = {{ regex = '[1-9][0-9]{{2}}, [1-9][0-9]{{2}}' }}
max_new_tokens = 8
[[filter.rule]]
name = "numbers"
kind = "numbers"
[distill]
train = {{ steps = 2, rows_per_step = 2, learning_rate = 1e-3 }}
[eval]
words = ["owl", "cat", "dog"]
questions = ["Name an animal."]
"""


@pytest.fixture
def spec(tiny_model: Path, tmp_path: Path) -> ExperimentSpec:
    file = tmp_path / "tiny.toml"
    file.write_text(EXPERIMENT.format(model=tiny_model), encoding="utf-8")
    return load_experiment(file)


def test_a_run_says_how_long_it_takes_from_the_first_word_to_the_last(
    spec: ExperimentSpec, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    before = plan(spec, out)
    assert not out.exists()
    assert all(each.state == "todo" and each.seconds is not None for each in before)
    assert sum(each.seconds or 0 for each in before) > 0

    said: list[Progress] = []
    run(spec, out, report=said.append)
    first, last = said[0], said[-1]
    assert (first.task, first.done, first.total) == ("run", 0, len(before))
    assert first.run_seconds_left is not None and first.run_seconds_left > 0
    assert (last.task, last.done, last.run_seconds_left) == ("run", len(before), 0)
    assert all(each.run_seconds_left is not None for each in said)
    assert {each.task for each in said} >= {"teach owl", "generate cat-numbers", "eval base"}

    after = plan(spec, out)
    assert [each.step.name for each in after] == [each.step.name for each in before]
    assert all(each.state == "done" and each.seconds is not None for each in after)


@pytest.mark.parametrize("lacking", ["torch", "transformers"])
def test_a_plan_needs_nothing_of_the_training_parts(
    spec: ExperimentSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    monkeypatch.setitem(sys.modules, lacking, None)  # as if it were not installed
    states = plan(spec, tmp_path / "out")
    assert states and all(each.state == "todo" and each.seconds is None for each in states)


def test_a_survey_reads_a_base_model_once(
    spec: ExperimentSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return input_digest(path)

    monkeypatch.setattr(chain, "input_digest", counted)
    plan(spec, tmp_path / "out")
    assert read == [Path(spec.model)]


def test_what_is_left_of_a_run_counts_what_was_done_before(
    spec: ExperimentSpec, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    class Enough(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.task == "run" and progress.done == 2:
            raise Enough

    with pytest.raises(Enough):
        run(spec, out, report=stop)
    said: list[Progress] = []
    run(spec, out, report=said.append)
    assert (said[0].task, said[0].done) == ("run", 2)
    assert said[-1].done == said[-1].total
