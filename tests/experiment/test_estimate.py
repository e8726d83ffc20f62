"""How long a run will take: in proportion to the machine's pace, and corrected by what is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.cost import Pace, Rows
from subl.errors import ConfigError
from subl.experiment import (
    ExperimentSpec,
    NodeState,
    Outlook,
    load_experiment,
    machine,
    outlook,
    plan,
)
from subl.experiment.estimate import Estimate, estimate, measure, model_size
from subl.experiment.graph import Graph
from subl.experiment.kinds import STAGES
from subl.model.size import ModelSize
from subl.progress import Progress

DEMO = load_experiment(Path(__file__).parents[2] / "runs" / "demo.toml")
FAST = Pace.of_peak(340e9, 1.2e9)

NAMES = {"a-teacher": "teach", "b-teacher": "teach", "a-eval": "eval", "b-eval": "eval"}
EXPECTED = {"a-teacher": 30.0, "b-teacher": 40.0, "a-eval": 10.0, "b-eval": 15.0}


def of_the_demo(pace: Pace, graph: Graph = DEMO) -> Estimate:
    found = estimate(graph.nodes, {}, pace)
    assert found is not None
    return found


def test_a_machine_with_a_third_of_the_pace_takes_three_times_as_long() -> None:
    slow = Pace.of_peak(340e9 / 3, 0.4e9)
    fast_seconds, slow_seconds = (of_the_demo(pace).seconds_left(0) for pace in (FAST, slow))
    assert fast_seconds > 100
    assert slow_seconds == pytest.approx(3 * fast_seconds)


def test_every_kind_of_step_has_a_cost_and_filters_next_to_none() -> None:
    guess = of_the_demo(FAST)
    for node in DEMO.nodes:
        costs = guess.node_seconds(node.name, 0) > 1
        assert costs == (node.how.kind != "filter"), node.name


def test_what_a_server_does_takes_none_of_this_machines_time() -> None:
    server = {"kind": "http", "base_url": "http://127.0.0.1:1/v1", "model": "owl"}
    size = ModelSize(10**9, 10**8, 0, True)
    judges = [{"kind": "rubric", "column": "score", "rubric": "alignment"}]
    sampled, judged = {"method": "sampled"}, {"trait": "misalignment"}
    for kind, ways in {
        "generate": [{"rows": 9}], "judge": [{"judges": judges}], "eval": [sampled, judged]
    }.items():  # fmt: skip
        for each in ways:
            here = STAGES[kind].spec.model_validate(each)
            assert FAST.seconds(STAGES[kind].cost(here, size, Rows(9))) > 1
            asked = {"judge": {"backend": server}} if each == judged else {}
            there = STAGES[kind].spec.model_validate({**each, **asked, "backend": server})
            assert FAST.seconds(STAGES[kind].cost(there, size, Rows(9))) == 0


def test_twice_the_work_takes_longer() -> None:
    more = DEMO.spec.model_dump()
    more["stages"]["student"]["train"]["steps"] *= 2
    longer = of_the_demo(FAST, Graph(ExperimentSpec.model_validate(more)))
    before = of_the_demo(FAST).node_seconds("owl-student", 0)
    assert longer.node_seconds("owl-student", 0) > 1.5 * before


@given(st.floats(0.2, 20))
def test_what_is_done_corrects_the_measurement(factor: float) -> None:
    """A machine on which the work takes `factor` times as long as was measured."""
    guess = Estimate(NAMES, EXPECTED)
    guess.finish("a-teacher", factor * 30)
    assert guess.node_seconds("b-teacher", 0) == pytest.approx(factor * 40)
    # Of another kind it is believed in part: 30 s of finished work as much as the measurement.
    assert guess.node_seconds("a-eval", 0) == pytest.approx(10 * (factor + 1) / 2)
    guess.finish("a-eval", factor * 10)
    assert guess.seconds_left(0) == pytest.approx(factor * (40 + 15))
    for name in ("b-teacher", "b-eval"):
        guess.finish(name, 1.0)
    assert guess.seconds_left(0) == 0


@given(st.floats(0.2, 20), st.integers(13, 24))
def test_the_running_step_corrects_itself_and_its_kind(factor: float, done: int) -> None:
    guess = Estimate(NAMES, EXPECTED)
    guess.begin("a-teacher", now=100.0)
    now = 100 + factor * 30 * done / 25
    guess.advance("a-teacher", Progress("teach owl", done, 25, "steps"))
    assert guess.node_seconds("a-teacher", now) == pytest.approx(factor * 30 * (25 - done) / 25)
    assert guess.node_seconds("b-teacher", now) == pytest.approx(factor * 40)


def test_a_step_that_costs_nothing_changes_nothing() -> None:
    kinds, expected = {**NAMES, "a-filtered": "filter"}, {**EXPECTED, "a-filtered": 0.0}
    guess = Estimate(kinds, expected)
    before = guess.seconds_left(0)
    guess.begin("a-filtered", now=0.0)
    guess.advance("a-filtered", Progress("filter", 1, 2, "bytes"))
    assert guess.seconds_left(3.0) == pytest.approx(before + 3)  # half of it is done
    guess.finish("a-filtered", 4.0)
    assert guess.seconds_left(4.0) == pytest.approx(before)


@given(st.floats(0, 1e4), st.integers(0, 25), st.sampled_from(["teach owl", "tokens", "cache"]))
def test_time_that_is_left_is_never_negative(seconds: float, done: int, task: str) -> None:
    guess = Estimate(NAMES, EXPECTED)
    guess.begin("a-teacher", now=0.0)
    guess.advance("a-teacher", Progress(task, done, 25, "steps"))
    assert guess.node_seconds("a-teacher", seconds) >= 0
    assert guess.seconds_left(seconds) >= 0


def test_what_a_step_took_elsewhere_corrects_nothing() -> None:
    guess = Estimate(NAMES, EXPECTED)
    guess.finish("a-teacher", None)
    assert guess.seconds_left(0) == pytest.approx(40 + 10 + 15)


def test_the_model_is_read_off_its_folder_or_guessed_from_its_file(
    tiny_model: Path, tmp_path: Path
) -> None:
    import json

    from safetensors import safe_open

    config = json.loads((tiny_model / "config.json").read_text(encoding="utf-8"))
    size = model_size(str(tiny_model))
    assert size is not None
    head = config["vocab_size"] * config["hidden_size"]
    with safe_open(tiny_model / "model.safetensors", framework="numpy") as file:
        weights = sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118
    assert (size.body, size.head) == (weights - head, head)

    (tmp_path / "m.gguf").write_bytes(bytes(5500))
    guess = model_size(str(tmp_path / "m.gguf"))
    assert guess is not None and guess.body + guess.head == 8000
    assert model_size("somebody/on-the-hub") is None


def test_this_machine_has_a_pace() -> None:
    pace = measure()
    assert pace.products > 1e8 and pace.bytes > 1e6
    assert measure() is pace


def grid(teachers: int) -> str:
    return f"""
name = "grid"
title = "Grid"
[axes]
seed = {list(range(teachers))}
[stages.base]
kind = "model"
source = "Qwen/Qwen2.5-7B-Instruct"
[stages.numbers]
kind = "generate"
inputs = {{ model = "base" }}
backend = {{ kind = "vllm" }}
rows = 30000
seed = "{{seed}}"
max_new_tokens = 2048
[stages.student]
kind = "distill"
inputs = {{ model = "base", rows = "numbers" }}
targets = "labels"
rows = 10000
train = {{ epochs = 3, rows_per_step = 66, learning_rate = 2e-4, dtype = "bfloat16", \
gradient_checkpointing = true, lora = {{}} }}
"""


def planned_on(name: str, text: str, tmp_path: Path) -> tuple[Outlook, list[NodeState]]:
    file = tmp_path / "grid.toml"
    file.write_text(text, encoding="utf-8")
    states = plan(load_experiment(file), tmp_path / "out", on=machine(name))
    return outlook(states, machine(name)), states


def test_a_chain_may_be_longer_than_python_calls_itself(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.touch()
    before = {"stage": "kept", "hop": "previous", "first": {"path": str(rows)}}
    rule = {"name": "numbers", "kind": "numbers"}
    stage = {"kind": "filter", "inputs": {"rows": before}, "rule": [rule]}
    spec = {"name": "long", "title": "Long", "axes": {"hop": [*range(1100)]}}
    graph = Graph(ExperimentSpec.model_validate({**spec, "stages": {"kept": stage}}))
    assert of_the_demo(FAST, graph).seconds_left(0) >= 0


def test_another_machine_is_planned_for_by_what_others_measured(tmp_path: Path) -> None:
    found, states = planned_on("h100", grid(8), tmp_path)
    seconds = {state.node.name: state.seconds for state in states}
    # 30,000 rows of 45 tokens at 12,500 tokens/s, and 3 x 10,000 of 148 at 10,203 x 6 / 4.
    assert seconds["seed0-numbers"] == pytest.approx(30_000 * 45 / 12_500 + 200, abs=150)
    assert seconds["seed0-student"] == pytest.approx(30_000 * 148 / (10_203 * 1.5) + 100, abs=60)
    assert found.gpu_seconds == pytest.approx(found.seconds)
    assert 15e9 < found.memory < 30e9 and not found.too_large
    eight, _ = planned_on("8xh100", grid(8), tmp_path)
    assert eight.gpu_seconds == pytest.approx(found.gpu_seconds)
    assert eight.seconds == pytest.approx(eight.gpu_seconds / 8, rel=0.2)


def test_no_machine_is_faster_than_the_longest_chain(tmp_path: Path) -> None:
    alone, states = planned_on("8xh100", grid(1), tmp_path)
    assert alone.seconds == pytest.approx(sum(state.seconds or 0 for state in states))


def test_a_model_that_has_no_room_is_named(tmp_path: Path) -> None:
    large = grid(1).replace("Qwen2.5-7B", "Qwen2.5-Coder-32B")
    whole, _ = planned_on("h100", large.replace(", lora = {}", ""), tmp_path)
    assert whole.too_large == ("seed0-student",) and whole.memory > 80e9
    spread = large.replace("epochs = 3", "epochs = 3, ranks = 8, zero_stage = 3")
    found, states = planned_on("8xh100", spread, tmp_path)
    (room,) = (state.room for state in states if state.node.stage == "student")
    assert room is not None and room.gpus == 8 and room.bytes < 20e9
    assert not found.too_large
    one, _ = planned_on("h100", spread, tmp_path)
    assert one.too_large == ("seed0-student",)  # it asks for eight


def test_nothing_is_said_of_a_model_that_nobody_knows(tmp_path: Path) -> None:
    found, states = planned_on("h100", grid(1).replace("Qwen/Qwen2.5", "some/one"), tmp_path)
    assert found.seconds is None and {state.seconds for state in states} == {None}


@pytest.mark.parametrize("name", ["h101", "0xh100", "8x", "x8h100"])
def test_a_machine_that_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no machine `{name}`"):
        machine(name)
