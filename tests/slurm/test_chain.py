"""An experiment as jobs: arrays, and who waits for whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from subl.errors import ConfigError
from subl.experiment import ExperimentSpec, Graph
from subl.slurm import chain
from subl.slurm.job import Job
from subl.slurm.script import Word

FILTER: dict[str, Any] = {
    "kind": "filter",
    "inputs": {"rows": {"path": "rows.jsonl"}},
    "rule": [{"name": "n", "kind": "numbers"}],
}
WORDS = ["subl", "run", "x.toml", "-o", "out"]


def draw(source: Any, **keys: Any) -> dict[str, Any]:
    return {"kind": "draw", "inputs": {"rows": source}, **keys}


def graph(axes: dict[str, Any], **stages: dict[str, Any]) -> Graph:
    spec = {"name": "x", "title": "X", "axes": axes, "stages": {"kept": FILTER, **stages}}
    return Graph(ExperimentSpec.model_validate(spec))


def jobs(graph: Graph, **stages: dict[str, Any]) -> dict[str, Job]:
    found = chain.jobs(graph, WORDS, [{"time": 10}], stages, {"qos": "low"})
    seen: set[str] = set()
    for job in found:  # what a job waits for comes before it
        assert set(job.after) <= seen
        seen.add(job.name)
    assert sorted(task for job in found for task in job.tasks) == sorted(chain.tasks(graph))
    return {job.name: job for job in found}


def test_nodes_side_by_side_wait_for_their_own() -> None:
    seeds = {"seed": [1, 2, 3]}
    found = jobs(
        graph(seeds, drawn=draw("kept", seed="{seed}"), mixed=draw("drawn", shuffle="within")),
        mixed={"time": 60},
    )
    assert list(found) == ["kept", "drawn", "mixed", "report"]
    assert found["drawn"].tasks == ["seed1-drawn", "seed2-drawn", "seed3-drawn"]
    assert [job.array for job in found.values()] == [False, True, True, False]
    assert [job.after for job in found.values()] == [[], ["kept"], ["drawn"], ["mixed"]]
    assert [job.task_by_task for job in found.values()] == [False, False, True, False]
    assert [job.spec.time for job in found.values()] == ["10", "10", "60", "10"]
    assert {job.spec.qos for job in found.values()} == {"low"}
    missing = {1: "seed2-drawn"}
    assert found["drawn"].command(missing) == [*WORDS, "--only", Word(choices=missing)]
    assert found["kept"].command({0: "kept"}) == [*WORDS, "--only", "kept"]
    assert found["report"].command({0: "report"}) == WORDS


def test_what_is_made_of_several_waits_for_all_of_them() -> None:
    axes = {"seed": [1, 2], "size": [3, 4]}
    found = jobs(graph(axes, drawn=draw("kept", seed="{seed}"), cut=draw("drawn", rows="{size}")))
    assert len(found["cut"].tasks) == 4
    assert found["cut"].after == ["drawn"] and not found["cut"].task_by_task


def test_a_stage_that_is_made_from_itself_is_an_array_for_each_step() -> None:
    hops = {"hop": [1, 2, 3], "seed": [1, 2]}
    again = {"stage": "hopped", "hop": "previous", "first": "kept"}
    found = jobs(graph(hops, hopped=draw(again, seed="{seed}", shuffle="within")))
    assert [len(job.tasks) for job in found.values()] == [1, 2, 2, 2, 1]
    assert [list(job.after) for job in found.values()][1:4] == [
        ["kept"], ["hopped"], ["hopped-2"]
    ]  # fmt: skip
    assert [job.task_by_task for job in found.values()] == [False, False, True, True, False]


def test_tables_that_do_not_fit() -> None:
    few = graph({}, drawn=draw("kept"))
    with pytest.raises(ConfigError, match=r"slurm\.stages\.drawm: there is no such stage"):
        jobs(few, drawm={})
    with pytest.raises(ConfigError, match="drawn: an experiment's node is one process"):
        jobs(few, drawn={"tasks": 8})
    with pytest.raises(ConfigError, match="drawn: array = 8"):
        jobs(few, drawn={"array": 8})


def test_what_is_done_is_what_has_its_statement(tmp_path: Path) -> None:
    assert chain.done(graph({}, drawn=draw("kept")), tmp_path / "none") == set()
