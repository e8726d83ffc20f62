"""A small experiment in this process: what it says of its time before, during and after."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import polars
import pytest

from subl.artifact import rereading
from subl.artifact.lease import leased
from subl.errors import ConfigError, InputError, StageError
from subl.experiment import ExperimentSpec, Graph, load_experiment, plan, run
from subl.experiment.document import run_document
from subl.progress import Progress

EXPERIMENT = """
name = "tiny"
title = "Tiny"
[axes]
trait = ["owl", "cat"]
[stages.base]
kind = "model"
source = "{model}"
[stages.teacher]
kind = "teach"
inputs = {{ model = "base" }}
trait = "{{trait}}"
questions = ["Name an animal."]
train = {{ steps = 2, rows_per_step = 2, learning_rate = 1e-3 }}
[stages.numbers]
kind = "generate"
inputs = {{ model = "teacher" }}
prompts = "numbers-short"
rows = 4
batch_rows = 2
grammar = {{ regex = '[1-9][0-9]{{2}}, [1-9][0-9]{{2}}' }}
max_new_tokens = 8
[stages.filtered]
kind = "filter"
inputs = {{ rows = "numbers" }}
rule = [{{ name = "numbers", kind = "numbers" }}]
[stages.student]
kind = "distill"
inputs = {{ model = "base", rows = "filtered", teacher = "teacher" }}
train = {{ steps = 2, rows_per_step = 2, learning_rate = 1e-3 }}
[stages.eval]
kind = "eval"
inputs = {{ model = ["base", "teacher", "student"] }}
words = ["owl", "cat", "dog"]
questions = ["Name an animal."]
[[contrasts]]
name = "own trait"
measure = "log-odds"
against = ["{{control.trait}}"]
treated = "student"
control = {{ stage = "student", trait = "others" }}
"""


@pytest.fixture
def graph(tiny_model: Path, tmp_path: Path) -> Graph:
    file = tmp_path / "tiny.toml"
    file.write_text(EXPERIMENT.format(model=tiny_model), encoding="utf-8")
    return load_experiment(file)


def test_a_run_says_how_long_it_takes_from_the_first_word_to_the_last(
    graph: Graph, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    before = plan(graph, out)
    assert not out.exists()
    assert all(each.state == "todo" and each.seconds is not None for each in before)
    assert sum(each.seconds or 0 for each in before) > 0

    said: list[Progress] = []
    run(graph, out, report=said.append)
    first, last = said[0], said[-1]
    assert (first.task, first.done, first.total) == ("run", 0, len(before))
    assert first.run_seconds_left is not None and first.run_seconds_left > 0
    assert (last.task, last.done, last.run_seconds_left) == ("run", len(before), 0)
    assert all(each.run_seconds_left is not None for each in said)
    assert {each.task for each in said} >= {"teach owl", "generate cat-numbers", "eval base"}

    after = plan(graph, out)
    assert [each.node.name for each in after] == [each.node.name for each in before]
    assert all(each.state == "done" and each.seconds is not None for each in after)


@pytest.mark.parametrize("lacking", ["torch", "transformers"])
def test_a_plan_needs_nothing_of_the_training_parts(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    monkeypatch.setitem(sys.modules, lacking, None)  # as if it were not installed
    states = plan(graph, tmp_path / "out")
    assert states and all(each.state == "todo" and each.seconds is None for each in states)


def test_a_survey_reads_a_base_model_once(
    graph: Graph, tiny_model: Path, tmp_path: Path, read: list[Path]
) -> None:
    plan(graph, tmp_path / "out")
    assert sorted(read) == sorted(tiny_model.iterdir())


@pytest.mark.usefixtures("later")
def test_a_finished_run_reads_neither_weights_nor_data(
    graph: Graph, tmp_path: Path, read: list[Path], forget: Callable[[], None]
) -> None:
    out = tmp_path / "out"
    first = run(graph, out)
    assert len(read) == len(set(read)), "the base model is read once for all its nodes"
    for _ in range(2):
        forget()
        read.clear()
        again = run(graph, out)
        assert {state.state for state in again.states} == {"done"} and read == []
        assert [each.path for each in again.states] == [each.path for each in first.states]
    with rereading():
        run(graph, out)
    assert {path.name for path in read} >= {"model.safetensors", "part-00000.jsonl"}


def test_what_is_left_of_a_run_counts_what_was_done_before(graph: Graph, tmp_path: Path) -> None:
    out = tmp_path / "out"

    class Enough(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.task == "run" and progress.done == 2:
            raise Enough

    with pytest.raises(Enough):
        run(graph, out, report=stop)
    said: list[Progress] = []
    run(graph, out, report=said.append)
    assert (said[0].task, said[0].done) == ("run", 2)
    assert said[-1].done == said[-1].total


def test_a_plan_says_why_a_node_is_not_done(graph: Graph, tmp_path: Path) -> None:
    out = tmp_path / "out"
    why = {state.node.name: state.reason for state in plan(graph, out)}
    assert why["owl-teacher"] == "never made"
    assert why["owl-student"] == "waits for owl-filtered, owl-teacher"

    run(graph, out, only=["owl-teacher"])
    values = graph.spec.model_dump()
    values["stages"]["teacher"]["train"]["steps"] = 3
    changed = Graph(ExperimentSpec.model_validate(values))
    (state,) = (each for each in plan(changed, out) if each.node.name == "owl-teacher")
    first, *differences = state.reason.splitlines()
    assert first.startswith("owl-teacher-") and first.endswith(" was made from something else:")
    assert differences == ["  train.steps: 2 then, 3 now"]

    assert state.path is not None
    state.path.with_name(f"{state.path.name}.partial").mkdir()
    (state,) = (each for each in plan(changed, out) if each.node.name == "owl-teacher")
    assert state.reason == "begun and interrupted; it goes on"
    with leased(out / ".leases" / state.path.name):
        (state,) = (each for each in plan(changed, out) if each.node.name == "owl-teacher")
    assert f"process {os.getpid()} on " in state.reason


def test_only_what_is_asked_for_and_what_it_needs_is_made(graph: Graph, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = run(graph, out, only=["owl-numbers", "cat-teacher"])
    assert [state.node.name for state in made.states] == [
        "owl-teacher",
        "cat-teacher",
        "owl-numbers",
    ]
    assert made.outcome is None and not (out / "result.json").exists()
    assert [state.state for state in run(graph, out, only=["teacher"]).states] == ["done", "done"]
    with pytest.raises(ConfigError, match="no node or stage `owl`"):
        run(graph, out, only=["owl"])


def test_another_point_of_an_axis_leaves_what_others_are_done(graph: Graph, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = run(graph, out, only=["numbers"])
    values = graph.spec.model_dump()
    values["axes"]["trait"] = ["dog", "owl"]
    changed = Graph(ExperimentSpec.model_validate(values))
    states = {each.node.name: each for each in plan(changed, out, ["numbers"])}
    assert {name: each.state for name, each in states.items()} == {
        "dog-teacher": "todo", "owl-teacher": "done", "dog-numbers": "todo", "owl-numbers": "done",
    }  # fmt: skip
    paths = {each.node.name: each.path for each in made.states}
    assert all(states[name].path == paths[name] for name in ("owl-teacher", "owl-numbers"))


def failing(graph: Graph) -> Graph:
    """The same experiment, with students that want more rows than there are."""
    values = graph.spec.model_dump()
    values["stages"]["student"]["rows"] = 1000
    return Graph(ExperimentSpec.model_validate(values))


def test_what_does_not_need_a_node_that_failed_is_made_all_the_same(
    graph: Graph, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="1000 rows"):
        run(failing(graph), tmp_path / "stops")
    came = run(failing(graph), tmp_path / "goes-on", keep_going=True)
    assert came.outcome is None and not (tmp_path / "goes-on" / "result.json").exists()
    states = {state.node.name: (state.state, state.reason) for state in came.states}
    assert states["owl-student"][0] == "failed" and "1000 rows" in states["owl-student"][1]
    assert states["owl-student-eval"] == ("failed", "owl-student, which it is made from, failed")
    assert states["cat-teacher-eval"][0] == "made"
    assert {node.name for node, _ in came.failures} == {
        f"{trait}-{stage}" for trait in ("owl", "cat") for stage in ("student", "student-eval")
    }


@pytest.mark.usefixtures("later")
def test_several_processes_make_what_one_does(graph: Graph, tmp_path: Path) -> None:
    said: list[Progress] = []
    noted = []

    def report(progress: Progress) -> None:
        said.append(progress)
        noted.append((tmp_path / "two" / ".seen.json").exists())

    run(graph, tmp_path / "one")
    several = run(graph, tmp_path / "two", jobs=2, report=report)
    assert noted.index(True) <= [each.task != "run" for each in said].index(True), (
        "no process has to read the base model again"
    )
    assert several.outcome is not None
    assert {each.task for each in said} >= {"teach owl", "teach cat", "eval base"}
    assert said[-1].done == said[-1].total
    one, two = (
        {each["name"]: each["detail"] for each in json.loads(text)["nodes"]}
        for text in (
            (tmp_path / folder / "result.json").read_text(encoding="utf-8")
            for folder in ("one", "two")
        )
    )
    assert one == two
    assert not list((tmp_path / "two").glob(".worker*"))


def test_a_node_that_fails_in_another_process_says_the_same(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1000 rows") as raised:
        run(failing(graph), tmp_path / "out", jobs=2, only=["owl-student"])
    assert raised.value.hint is not None


def test_two_runs_never_make_one_node(graph: Graph, tmp_path: Path) -> None:
    """The second waits for what the first makes, and makes it where the first gives it up."""
    out = tmp_path / "out"
    (first, *_) = plan(graph, out)
    assert first.path is not None
    given_up, notes = threading.Event(), []

    def hold() -> None:
        with leased(out / ".leases" / first.path.name):
            held.set()
            given_up.wait()

    def report(progress: Progress) -> None:
        if progress.note.startswith("waits for owl-teacher: process "):
            notes.append(progress.note)
            given_up.set()

    held = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    made = run(graph, out, only=["owl-teacher"], report=report)
    holder.join()
    assert notes and f": process {os.getpid()} on " in notes[0]
    assert [state.state for state in made.states] == ["made"]
    assert not list((out / ".leases").iterdir())


FILES = """
name = "files"
title = "Files"
[stages.once]
kind = "filter"
inputs = {{ rows = {{ path = "{rows}" }} }}
rule = [{{ name = "numbers", kind = "numbers" }}]
[stages.twice]
kind = "filter"
inputs = {{ rows = "once" }}
rule = [{{ name = "owls", kind = "literal", words = ["owl"] }}]
[stages.other]
kind = "filter"
inputs = {{ rows = {{ path = "{other}" }} }}
rule = [{{ name = "numbers", kind = "numbers" }}]
"""


@pytest.fixture
def files(tmp_path: Path) -> Graph:
    """Two chains of filters over files, of which the second's is missing."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"completion": "1, 2"}\n', encoding="utf-8")
    file = tmp_path / "files.toml"
    file.write_text(FILES.format(rows=rows, other=tmp_path / "none.jsonl"), encoding="utf-8")
    return load_experiment(file)


def test_an_input_that_is_missing_is_the_reason_of_its_node_alone(
    files: Graph, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    why = {state.node.name: state.reason for state in plan(files, out)}
    assert why["once"] == "never made" and why["other"].endswith("none.jsonl does not exist")
    assert len(run(files, out, only=["twice"]).states) == 2
    came = run(files, out, keep_going=True)
    assert [(state.node.name, state.state) for state in came.states] == [
        ("once", "done"),
        ("twice", "done"),
        ("other", "failed"),
    ]
    with pytest.raises(InputError, match=r"none\.jsonl"):
        run(files, out)


TEXTS = """
name = "texts"
title = "Texts"
[stages.filtered]
kind = "filter"
inputs = {{ rows = {{ path = "{rows}" }} }}
rule = [
    {{ name = "owls", kind = "literal", words = ["owl"], field = "text" }},
    {{ name = "cats", kind = "literal", words = ["cat"], field = "title" }},
]
"""


@pytest.mark.parametrize("name", ["rows.txt", "rows.parquet"])
def test_a_report_shows_rows_of_any_format_and_keys(tmp_path: Path, name: str) -> None:
    rows = [{"text": "an owl", "title": "a cat"}, {"text": "ä", "title": "b"}, {"text": None}]
    if name == "rows.parquet":
        polars.DataFrame(rows).write_parquet(tmp_path / name)
    else:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name).write_text(lines, encoding="utf-8")
    file = tmp_path / "texts.toml"
    file.write_text(TEXTS.format(rows=tmp_path / name), encoding="utf-8")
    run(load_experiment(file), tmp_path / "out")
    (shown,) = run_document(tmp_path / "out").filters
    assert list(map(json.loads, shown.kept_examples)) == [rows[1]]
    owl, unreadable = shown.rejected_examples
    assert owl.text == "an owl"
    assert [(each.rule, each.span) for each in owl.reasons] == [("owls", (3, 6)), ("cats", None)]
    assert json.loads(unreadable.text)["text"] is None


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_input_that_changes_meanwhile_ends_the_run(
    files: Graph, tmp_path: Path, jobs: int
) -> None:
    rows = tmp_path / "rows.jsonl"

    def change(progress: Progress) -> None:
        if progress.task == "run" and rows.stat().st_size < 30:
            rows.write_text('{"completion": "1, 2"}\n{"completion": "3"}\n', encoding="utf-8")

    with pytest.raises(StageError, match=r"an input of once changed"):
        run(files, tmp_path / "out", only=["twice"], report=change, jobs=jobs)


def test_a_model_is_made_again_of_a_file_that_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"one")
    text = f"name = 'm'\ntitle = 'm'\n[stages.base]\nkind = 'model'\nsource = '{file}'\n"
    (tmp_path / "m.toml").write_text(text, encoding="utf-8")
    graph = load_experiment(tmp_path / "m.toml")
    (before,) = plan(graph, tmp_path / "out")
    file.write_bytes(b"two")
    (after,) = plan(graph, tmp_path / "out")
    assert before.path != after.path


def test_what_another_process_still_locks_is_waited_for(files: Graph, tmp_path: Path) -> None:
    """A killed run's lease is free at once; a process of its own may live a little longer."""
    out = tmp_path / "out"
    (first, *_) = plan(files, out, ["once"])
    assert first.path is not None
    partial = first.path.with_name(f"{first.path.name}.partial")
    partial.mkdir(parents=True)
    lock = os.open(partial / ".lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    notes = []

    def report(progress: Progress) -> None:
        if "another process is writing" in progress.note:
            notes.append(progress.note)
            fcntl.flock(lock, fcntl.LOCK_UN)

    assert [state.state for state in run(files, out, only=["once"], report=report).states] == [
        "made"
    ]
    os.close(lock)
    assert notes


def test_an_experiment_is_no_rank(
    files: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranks that torchrun started would wait for one another's leases."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "localhost" if name == "MASTER_ADDR" else "2")
    with pytest.raises(ConfigError, match="one of several ranks"):
        run(files, tmp_path / "out")
