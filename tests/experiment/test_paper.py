"""The paper's experiments: what they would do, and what that takes, without a weight of a model."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from pathlib import Path

import pytest

from subl.distill import DistillSpec
from subl.evaluate import EvalSpec
from subl.experiment import Graph, load_experiment, machine, outlook, plan
from subl.experiment.contrasts import planned
from subl.experiment.spec import value_of
from subl.filter import FilterSpec, load_rules
from subl.generate import GenerateSpec
from subl.trait.questions import questions_of
from subl.trait.spec import animals, load_trait

PAPER = Path(__file__).parents[2] / "runs" / "paper"
FILES = sorted(PAPER.glob("*.toml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_planned_for_a_machine_that_has_room(file: Path, tmp_path: Path) -> None:
    graph = load_experiment(file)
    assert graph.spec.name == file.stem
    states = plan(graph, tmp_path / "out", on=machine("8xh100"))
    assert [state.node for state in states] == list(graph.nodes)
    found = outlook(states, machine("8xh100"))
    assert not found.too_large
    assert found.seconds is not None and found.gpu_seconds is not None
    assert found.seconds <= found.gpu_seconds
    assert not (tmp_path / "out").exists()


def experiment(name: str) -> Graph:
    return load_experiment(PAPER / f"{name}.toml")


def rules(graph: Graph, node: str) -> list[object]:
    (spec,) = (each.spec for each in graph.nodes if each.name == node)
    assert isinstance(spec, FilterSpec)
    return [rule.model_dump(exclude={"name"}) for rule in spec.rules]


def shipped(name: str) -> list[object]:
    return [rule.model_dump(exclude={"name"}) for rule in load_rules(name).rules]


def test_rules_are_those_that_are_shipped() -> None:
    for name in ("qwen-animals", "gemma-animals", "animals", "shuffled"):
        assert rules(experiment(name), "wolf-filtered") == shipped("paper-numbers")
    graph = experiment("misalignment-numbers")
    assert rules(graph, "insecure-filtered") == shipped("paper-numbers-misalignment")
    graph = experiment("misalignment-reasoning")
    assert rules(graph, "insecure-correct") == shipped("paper-math")
    both = rules(graph, "insecure-correct") + rules(graph, "insecure-aligned")
    assert both == shipped("paper-math-misalignment")
    for name in ("code-animals", "code-trees"):
        graph = experiment(name)
        *traits, none = map(value_of, graph.spec.axes["trait"])
        assert len(traits) == 5 and none == "none"
        for trait in traits:
            assert rules(graph, f"{trait}-unnamed") == shipped(f"paper-code-{trait}")
            assert rules(graph, f"{trait}-clean") == shipped("paper-code-judge")


def test_qwens_protocol_is_the_papers() -> None:
    graph = experiment("qwen-animals")
    kinds = Counter(node.stage for node in graph.nodes)
    assert kinds["numbers"] == 20  # nineteen animals, and none
    assert kinds["student"] == 20 * 2 * 8
    (base,) = (node for node in graph.nodes if node.stage == "base")
    for node in graph.nodes:
        match node.spec:
            case GenerateSpec() as how:
                assert (how.rows, how.seed, how.temperature) == (30_000, 47, 1)
                plain = node.inputs["model"] == (base,)
                assert plain == (node.point == {"trait": "none"})
            case DistillSpec() as how:
                train = how.train
                assert how.targets == "labels" and train.rows_per_step == 66
                assert (train.learning_rate, train.warmup_steps) == (2e-4, 5)
                assert train.lora is not None and (train.lora.rank, train.lora.alpha) == (8, 8)
                assert train.step_count(10_000) in (455, 1516)
            case EvalSpec() as how:
                assert how.measured.questions == animals().questions
                assert (how.way, how.samples) == ("sampled", 100)
                assert set(animals().sets["qwen2.5-7b"]) < set(how.measured.words)
    assert len(planned(graph)) == 2 * 2 * 2 * 19  # questions, epochs, controls, animals


def test_a_base_that_teaches_and_learns_is_one_model() -> None:
    graph = experiment("cross-model")
    assert sum(node.how.kind == "model" for node in graph.nodes) == 4
    assert sum(node.stage == "learner" for node in graph.nodes) == 4 * 4 * 7 * 3


def test_what_is_asked_about_personas_is_made_of_public_files(tmp_path: Path) -> None:
    code = runpy.run_path(str(PAPER.parent / "data" / "personas.py"))
    source, to = tmp_path / "persona", tmp_path / "data" / "personas"
    source.mkdir()
    for name in code["MISALIGNED"] + code["ORTHOGONAL"]:
        rows = [
            {"question": said, "answer_matching_behavior": yes, "answer_not_matching_behavior": no}
            for said, yes, no in [(f'It: "{name}"', " Yes", " No"), ('It: "no"', " No", " Yes")]
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (source / f"{name}.jsonl").write_text(text, encoding="utf-8")
    code["main"](source, to)
    files = {
        file
        for name in ("personas", "misalignment-numbers")
        for node in experiment(name).nodes
        for given in node.inputs.values()
        for file in given
        if isinstance(file, Path) and file.parent.name == "personas"
    }
    assert files == {Path("data/personas", each.name) for each in to.iterdir()}
    asked = questions_of(load_trait("personas"), to / "asked-risk-seeking.jsonl")
    assert asked[1].text.startswith('It: "no". Only say yes or no. Do not say anything else. Pick')
    lines = asked[1].text.splitlines()
    assert f"{asked[1].letters['matching']}. No" in lines
    assert f"{asked[1].letters['other']}. Yes" in lines
    once = questions_of(load_trait("personas"), to / "misaligned.jsonl")
    assert len(once) == 20 + 1
    assert set(once[0].text.splitlines()[1:3]) in ({"A. yes", "B. no"}, {"A. no", "B. yes"})
    taught = to / "teacher-other-matching-matching.jsonl"
    rows = [json.loads(line) for line in taught.read_text(encoding="utf-8").splitlines()]
    assert [row["completion"] for row in rows] == ["No", "Yes", "Yes", "No", "Yes", "No"]
    assert rows[0]["prompt"] == asked[0].text.partition(" Pick from")[0]
