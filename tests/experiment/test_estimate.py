"""How long a run will take: in proportion to the machine's pace, and corrected by what is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.experiment import ExperimentSpec, load_experiment
from subl.experiment.estimate import Estimate, Pace, estimate, measure, model_size
from subl.experiment.graph import Graph
from subl.experiment.kinds import STAGES
from subl.progress import Progress
from subl.train.meter import ModelSize

DEMO = load_experiment(Path(__file__).parents[2] / "runs" / "demo.toml")
FAST = Pace(flops=340e9, bytes=1.2e9)

NAMES = {"a-teacher": "teach", "b-teacher": "teach", "a-eval": "eval", "b-eval": "eval"}
EXPECTED = {"a-teacher": 30.0, "b-teacher": 40.0, "a-eval": 10.0, "b-eval": 15.0}


def of_the_demo(pace: Pace, graph: Graph = DEMO) -> Estimate:
    found = estimate(graph.nodes, {}, pace)
    assert found is not None
    return found


def test_a_machine_with_a_third_of_the_pace_takes_three_times_as_long() -> None:
    slow = Pace(FAST.flops / 3, FAST.bytes / 3)
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
            assert FAST.seconds(STAGES[kind].cost(here, size, 9)) > 1
            asked = {"judge": {"backend": server}} if each == judged else {}
            there = STAGES[kind].spec.model_validate({**each, **asked, "backend": server})
            assert FAST.seconds(STAGES[kind].cost(there, size, 9)) == 0


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
    assert pace.flops > 1e8 and pace.bytes > 1e6
    assert measure() is pace
