"""The page of the paper's figures and ours is that of its files; a run's figures get into these."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

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


@pytest.fixture(scope="module")
def verdicts(reproduction: ModuleType) -> ModuleType:
    """As the page's script has it."""
    return sys.modules["verdicts"]


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


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_ratio_over_the_base_stands_behind_the_controlled_comparison(
    verdicts: ModuleType, file: Path
) -> None:
    each = verdicts.Reproduction.model_validate_json(file.read_bytes())
    controlled = [not verdicts.against_the_base(each, figure) for figure in each.figures]
    for place, figure in enumerate(each.figures):
        if not controlled[place] and figure.ours is not None:
            assert any(controlled[:place]), figure.label
            assert "of training" in verdicts.verdict(each, figure) or figure.ours.p >= 0.05
            if verdicts.controlled(each, figure) is None:
                assert "Their ratios were not kept of this run" in verdicts.lifted(each)
            else:
                assert each.figures[place - 1] == verdicts.controlled(each, figure)


def measured(estimate: float, p: float, **more: object) -> dict[str, object]:
    return {"estimate": estimate, "low": estimate - 0.1, "high": estimate + 0.1, "n": 3,
            "over": "seeds", "p": p, **more}  # fmt: skip


def of_controls(verdicts: ModuleType, first: float, p: float, p_equivalent: float) -> Any:
    """The committed controls, but for two of their figures."""
    values = json.loads((ROOT / "docs/reproduction/controls.json").read_text(encoding="utf-8"))
    values["figures"] = [values["figures"][0], values["figures"][-1]]
    values["figures"][0]["ours"] = measured(first, p)
    values["figures"][1]["ours"] = measured(0.0, 0.9, within=0.05, p_equivalent=p_equivalent)
    return verdicts.Reproduction.model_validate(values)


@pytest.mark.parametrize(
    ("first", "p", "p_equivalent", "said"),
    [
        (0.3, 0.01, 0.01, "as in the paper"),
        (0.01, 0.01, 0.01, "less than expected (0.05): 1 of 2; equivalent to none: 1 of 2"),
        (0.3, 0.01, 0.2, "as expected: 1 of 2; not shown to be none: 1 of 2"),
        (0.3, 0.2, 0.01, "not significant: 1 of 2; equivalent to none: 1 of 2; so its controls "
                         "show nothing"),
        (-0.3, 0.01, 0.01, "opposite: 1 of 2; equivalent to none: 1 of 2; so its controls show "
                           "nothing"),
    ],
)  # fmt: skip
def test_a_verdict_is_by_what_is_expected_and_of_controls_by_their_positive_arm(
    reproduction: ModuleType,
    verdicts: ModuleType,
    first: float,
    p: float,
    p_equivalent: float,
    said: str,
) -> None:
    each = of_controls(verdicts, first, p, p_equivalent)
    assert verdicts.overall(each) == said
    section = "\n".join(reproduction._section(each))
    assert ("controls of this experiment then show nothing" in section) == ("nothing" in said)


def test_rows_of_the_same_students_are_named_as_such(verdicts: ModuleType) -> None:
    groups = verdicts.same_students(sys.modules["reproduced"].reproductions())
    first = next(group for group in groups if group[0][1].unit.startswith("log-odds"))
    files = [Path(each.configuration).stem for each, _ in first]
    assert files == ["logit-matrix", "controls", "same-base", "same-base", "generations"]


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
    assert "| a | probability |  |  | 0.250 [0.200, 0.300] | 3 seeds |  |" in section
    assert "| a | probability |  |  | 2.000 | 50 questions, p = 0.01 | significant |" in section

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
