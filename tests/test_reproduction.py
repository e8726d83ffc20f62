"""The page of the paper's figures and ours is that of its files; a run's figures get into these."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from subl.draw import DrawSpec, draw
from subl.evaluate import EvalSpec, Scores
from subl.experiment import Graph, load_experiment
from subl.experiment.arms import arms
from subl.experiment.contrasts import planned

from .scripts import script

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "docs" / "reproduction").glob("*.json"))


@pytest.fixture(scope="module")
def reproduction() -> ModuleType:
    return script("reproduction")


def test_the_page_is_that_of_the_files(reproduction: ModuleType) -> None:
    committed = (ROOT / "docs/reproduction.md").read_text(encoding="utf-8")
    assert committed == reproduction.page(), "out of date; run: python docs/reproduction.py"


def would_conclude(graph: Graph) -> dict[str, object]:
    """Names of all that a run's `result.json` would have figures of, each a half."""
    scores = {
        node.name: Scores({q: dict.fromkeys(node.spec.measured.words, 0.5) for q in "ab"})
        for node in graph.nodes
        if isinstance(node.spec, EvalSpec)
    }
    half = {"estimate": 0.5, "low": 0.4, "high": 0.6, "p_holm": 0.01}
    evaluations = [asdict(each) for each in arms(graph, scores)]
    for test in (test for each in evaluations for test in each["labels"].values()):
        test["statistic"] = 0.5
    return {
        "evaluations": evaluations,
        "effects": [
            {"contrast": each.contrast.name, "treated": each.names[0], "control": each.names[1],
             "repetitions": len(each.treated), "questions": 2, **half}
            for each in planned(graph)
        ],
    }  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_run_would_have_the_figures_that_are_asked_of_it(
    reproduction: ModuleType, file: Path
) -> None:
    wanted = reproduction.Reproduction.model_validate_json(file.read_bytes())
    assert reproduction.json_text(wanted) == file.read_text(encoding="utf-8")
    asked = [figure.of for figure in wanted.figures if figure.of is not None]
    if asked:
        result = would_conclude(load_experiment(ROOT / wanted.configuration))
        for of in asked:
            assert reproduction._found(of, result).estimate == 0.5


def test_time_is_that_in_which_something_was_made(
    reproduction: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at a time for a while, then nothing, then one that nobody worked on for a minute."""
    spans = [(0, 100, 0), (40, 160, 0), (500, 700, 60), (160, 170, 0)]

    def statement(path: Path) -> dict[str, object]:
        start, end, paused = spans[int(path.name)]
        day = datetime(2026, 11, 26, tzinfo=UTC)
        times = {
            "startedOn": (day + timedelta(seconds=start)).isoformat(),
            "finishedOn": (day + timedelta(seconds=end)).isoformat(),
            reproduction.PAUSED: paused,
        }
        return {"predicate": {"runDetails": {"metadata": times}}}

    monkeypatch.setattr(reproduction, "read_statement", statement)
    made = [Path(str(number)) for number in range(len(spans))]
    assert reproduction._clocked(made) == (170 + 140, 2)


def test_a_finished_run_fills_its_file(reproduction: ModuleType, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "p", "completion": "c"}\n', encoding="utf-8")
    made = draw(DrawSpec(), [rows], tmp_path / "drawn")
    mean = {"estimate": 0.25, "low": 0.2, "high": 0.3}
    arm = {"model": "owl-student", "questions": 50, "repetitions": 3, "means": {"owl": mean}}
    effect = {"contrast": "own", "treated": "owl-student", "control": "base", "questions": 50,
              "repetitions": 1, "estimate": 2.0, "low": None, "high": None,
              "p_holm": 0.01}  # fmt: skip
    result = {
        "evaluations": [{"name": "eval", "arms": [arm]}],
        "effects": [effect],
        "nodes": [{"path": "base"}, {"path": made.path.name}],
    }
    (tmp_path / "result.json").write_text(json.dumps(result), encoding="utf-8")
    of = [{"evaluation": "eval", "model": "owl-student", "word": "owl"},
          {"contrast": "own", "treated": "owl-student", "control": "base"}]  # fmt: skip
    figures = [{"label": "a", "unit": "probability", "of": each} for each in of]
    file = tmp_path / "it.json"
    wanted = {"id": "E1", "title": "t", "configuration": "runs/demo.toml", "figures": figures}
    file.write_text(json.dumps(wanted), encoding="utf-8")
    reproduction.take(tmp_path, file)
    taken = reproduction.Reproduction.model_validate_json(file.read_bytes())
    assert taken.seconds == pytest.approx(made.seconds, abs=0.06) and taken.made
    assert " cores of " in taken.machine and "subl" in taken.versions
    first, second = (figure.ours for figure in taken.figures)
    assert (first.estimate, first.n, first.over, first.p) == (0.25, 3, "seeds", None)
    assert (second.estimate, second.high, second.n, second.over) == (2.0, None, 50, "questions")
    section = "\n".join(reproduction._section(taken))
    assert f"`subl run runs/demo.toml`; {taken.machine}; 0 s; python " in section
    assert "| a | probability |  |  | 0.250 [0.200, 0.300] | 3 seeds |" in section
    assert "| a | probability |  |  | 2.000 | 50 questions, p = 0.01 |" in section

    lacking = {"label": "a", "unit": "", "of": {**of[0], "word": "cat"}}
    file.write_text(json.dumps({**wanted, "figures": [lacking]}), encoding="utf-8")
    with pytest.raises(SystemExit, match=r'the run has no figure .*"word":"cat"'):
        reproduction.take(tmp_path, file)


def test_figures_that_a_stage_states_itself_are_taken_as_they_are(
    reproduction: ModuleType, tmp_path: Path
) -> None:
    own = [
        {"label": "teacher", "unit": "accuracy", "arm": "teacher", "values": [0.9, 1.0],
         "paper": {"estimate": 0.9, "source": "Fig. 1"},
         "ours": {"estimate": 0.95, "low": None, "high": None, "n": 2, "over": "seeds"}}
    ]  # fmt: skip
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps({"figures": own}), encoding="utf-8")
    nodes = [{"name": each, "path": each, "seconds": 2.0} for each in ("one", "two")]
    file = tmp_path / "it.json"
    wanted = {"id": "E17", "title": "t", "configuration": "runs/demo.toml"}
    for here, labels in (nodes[:1], ["teacher"]), (nodes, ["one, teacher", "two, teacher"]):
        result = {"nodes": here, "evaluations": [], "effects": []}
        (tmp_path / "result.json").write_text(json.dumps(result), encoding="utf-8")
        file.write_text(json.dumps(wanted), encoding="utf-8")
        reproduction.take(tmp_path, file)
        taken = reproduction.Reproduction.model_validate_json(file.read_bytes())
        assert [figure.label for figure in taken.figures] == labels
        assert {figure.ours.estimate for figure in taken.figures} == {0.95}
        assert taken.figures[0].paper.source == "Fig. 1"
