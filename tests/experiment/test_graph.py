"""Stages over axes as nodes: how many, what of what, which are one, and what is refused."""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from subl.errors import ConfigError
from subl.evaluate import Scores
from subl.experiment import ExperimentSpec, Graph, load_experiment
from subl.experiment.arms import arms
from subl.experiment.contrasts import findings, judged, planned
from subl.experiment.document import by_question, doses
from subl.experiment.outcome import recorded
from subl.experiment.spec import label
from subl.experiment.survey import Folder

TRAIN = "train = { steps = 2, learning_rate = 1e-4 }"
SMALL = f"""
name = "small"
title = "Small"
[axes]
trait = ["owl", "cat"]
seed = [1, 2]
[stages.base]
kind = "model"
source = "package:a-model"
[stages.teacher]
kind = "teach"
inputs = {{ model = "base" }}
trait = "{{trait}}"
{TRAIN}
[stages.numbers]
kind = "generate"
inputs = {{ model = "teacher" }}
rows = 4
seed = "{{seed}}"
[stages.eval]
kind = "eval"
inputs = {{ model = ["base", "teacher"] }}
words = ["owl", "cat", "dog"]
[[contrasts]]
name = "taught"
measure = "probability"
treated = "teacher"
control = "base"
"""

MATRIX = """
name = "matrix"
title = "3 traits x 3 seeds x 2 student bases x 2 hops"
[axes]
trait = ["owl", "cat", "none"]
seed = [1, 2, 3]
student_base = ["package:one-model", "package:other-model"]
hop = [1, 2]
[stages.base]
kind = "model"
source = "package:one-model"
[stages.student-base]
kind = "model"
source = "{student_base}"
[stages.teacher]
kind = "teach"
inputs = { model = "base" }
instead = [{ trait = "none", use = "base" }]
trait = "{trait}"
train = { steps = 2, learning_rate = 1e-4, seed = "{seed}" }
[stages.numbers]
kind = "generate"
inputs = { model = { stage = "student", hop = "previous", first = "teacher" } }
rows = 4
seed = "{seed}"
[stages.filtered]
kind = "filter"
inputs = { rows = "numbers" }
rule = [{ name = "numbers", kind = "numbers" }]
[stages.student]
kind = "distill"
inputs = { model = "student-base", rows = "filtered" }
targets = "labels"
train = { steps = 2, learning_rate = 1e-4, seed = "{seed}" }
[stages.eval]
kind = "eval"
inputs = { model = ["base", "teacher", "student"] }
words = ["owl", "cat", "dog"]
[[contrasts]]
name = "own trait"
measure = "log-odds"
treated = { stage = "student", trait = ["owl", "cat"] }
control = [
  { stage = "student", trait = "others" },
  { stage = "student", trait = "none" },
]
"""


def graph(text: str) -> Graph:
    return Graph(ExperimentSpec.model_validate(tomllib.loads(text)))


def counts(found: Graph) -> dict[str, int]:
    return dict(Counter(node.stage for node in found.nodes))


def named(found: Graph, name: str) -> Any:
    return next(node for node in found.nodes if node.name == name)


def test_a_stage_is_multiplied_over_the_axes_that_it_or_its_inputs_mention() -> None:
    found = graph(SMALL)
    assert counts(found) == {"base": 1, "teacher": 2, "numbers": 4, "eval": 3}
    assert [node.name for node in found.nodes] == [
        "base",
        "owl-teacher",
        "cat-teacher",
        "owl-seed1-numbers",
        "owl-seed2-numbers",
        "cat-seed1-numbers",
        "cat-seed2-numbers",
        "base-eval",
        "owl-teacher-eval",
        "cat-teacher-eval",
    ]
    assert named(found, "cat-seed2-numbers").spec.seed == 2  # of the axis's own type
    assert named(found, "cat-seed2-numbers").sources == [named(found, "cat-teacher")]


def test_three_traits_three_seeds_two_bases_and_two_hops_share_what_they_can() -> None:
    """The untaught teacher is the base; the first hop's rows are for both students' bases; one of
    these is the teachers' base, too."""
    found = graph(MATRIX)
    assert counts(found) == {
        "base": 1,
        "student-base": 1,  # the other is the base
        "teacher": 2 * 3,
        "numbers": 3 * 3 + 3 * 3 * 2,  # hop 1, hop 2
        "filtered": 3 * 3 + 3 * 3 * 2,
        "student": 3 * 3 * 2 * 2,
        "eval": 1 + 2 * 3 + 3 * 3 * 2 * 2,
    }
    assert len({node.name for node in found.nodes}) == len(found.nodes)
    first = named(found, "cat-seed2-hop1-numbers")
    assert [each.name for each in first.sources] == ["cat-seed2-teacher"]
    second = named(found, "cat-seed2-package-other-model-hop2-numbers")
    assert [each.name for each in second.sources] == ["cat-seed2-package-other-model-hop1-student"]
    untaught = named(found, "none-seed1-hop1-numbers")
    assert [each.name for each in untaught.sources] == ["base"]
    # Every node stands behind what it is made from.
    places = {node: place for place, node in enumerate(found.nodes)}
    assert all(places[each] < places[node] for node in found.nodes for each in node.sources)


def test_a_contrast_pairs_seeds_and_makes_a_comparison_of_every_other_point() -> None:
    found = planned(graph(MATRIX))
    # 2 treated traits x 2 others (`none` is one of them) x 2 bases x 2 hops
    assert len(found) == 2 * 2 * 2 * 2
    assert all(len(each.treated) == 3 == len(each.control) for each in found)
    first = found[0]
    assert first.names == (
        "owl-package-one-model-hop1-student",
        "cat-package-one-model-hop1-student",
    )
    assert [node.point["seed"] for node in first.treated] == ["seed1", "seed2", "seed3"]
    assert (first.word, first.against, first.group) == ("owl", ("dog",), "owl")


def test_a_comparison_and_its_mirror_image_are_one() -> None:
    text = SMALL.replace(
        'treated = "teacher"', 'treated = "teacher"\nagainst = ["{control.trait}"]'
    )
    text = text.replace('"probability"', '"log-odds"')
    others = '{ stage = "teacher", trait = "others" }'
    found = planned(graph(text.replace('control = "base"', f"control = {others}")))
    assert [(each.word, each.against) for each in found] == [("owl", ("cat",))]


def test_what_no_seed_changes_is_no_repetition() -> None:
    (owl, cat) = planned(graph(SMALL))
    assert [node.name for node in owl.treated] == ["owl-teacher-eval"]
    assert cat.names == ("cat-teacher", "base")


def test_points_have_values_of_their_own() -> None:
    text = SMALL.replace(
        '["owl", "cat"]\nseed',
        '[{ name = "owl", plural = "owls", told = "You are an owl." }, { name = "cat" }]\nseed',
    ).replace("rows = 4", 'rows = 4\nsystem_prompt = "{trait.told}"')
    found = graph(text)
    assert named(found, "owl-seed1-numbers").spec.system_prompt == "You are an owl."
    assert named(found, "cat-seed1-numbers").spec.system_prompt is None  # its default


def test_within_a_text_only_texts_and_numbers_stand() -> None:
    points = '[{ name = "owl", few = 3, told = true, words = ["owls"] }]\nseed'
    text = SMALL.replace('["owl", "cat"]\nseed', points)
    found = graph(text.replace("rows = 4", 'rows = 4\nsystem_prompt = "{trait.few} {trait.told}"'))
    assert named(found, "owl-seed1-numbers").spec.system_prompt == "3 true"
    with pytest.raises(ConfigError, match="stands within a text"):
        graph(text.replace("rows = 4", 'rows = 4\nsystem_prompt = "{trait.words}!"'))


def test_points_may_be_of_any_script() -> None:
    found = graph(SMALL.replace('"cat"]\nseed', '"猫"]\nseed'))
    assert named(found, "猫-seed1-numbers").point == {"trait": "猫", "seed": "seed1"}


def test_braces_that_name_no_axis_stay() -> None:
    found = graph(
        SMALL.replace("rows = 4", "rows = 4\nsystem_prompt = 'Say {\"n\": {trait}} {x}.'")
    )
    assert named(found, "owl-seed1-numbers").spec.system_prompt == 'Say {"n": owl} {x}.'


def test_what_would_make_the_same_artifact_is_one_node() -> None:
    twice = SMALL.replace(
        "[stages.eval]",
        '[stages.again]\nkind = "generate"\ninputs = { model = "teacher" }\nrows = 4\n'
        'seed = "{seed}"\n[stages.eval]',
    )
    assert counts(graph(twice)) == counts(graph(SMALL))


def test_files_that_are_there_can_be_inputs(tmp_path: Path) -> None:
    text = SMALL.replace('{ model = "teacher" }', f"{{ model = {{ path = '{tmp_path}' }} }}")
    found = graph(text)
    assert counts(found)["numbers"] == 2
    assert named(found, "seed1-numbers").inputs == {"model": (tmp_path,)}


def test_a_grid_of_teachers_and_students_bases_has_a_name_for_each_cell() -> None:
    """Both axes name the same models: a student's base is the teacher's on the diagonal."""
    grid = f"""
name = "grid"
title = "Grid"
[axes]
base = ["package:a", "package:b"]
student_base = ["package:a", "package:b"]
[stages.base]
kind = "model"
source = "{{base}}"
[stages.student-base]
kind = "model"
source = "{{student_base}}"
[stages.rows]
kind = "generate"
inputs = {{ model = "base" }}
rows = 4
[stages.student]
kind = "distill"
inputs = {{ model = "student-base", rows = "rows" }}
targets = "labels"
{TRAIN}
"""
    found = graph(grid)
    assert counts(found) == {"base": 2, "rows": 2, "student": 4}
    assert len(found.of_stage("student-base")) == 2
    crossed = named(found, "package-a-package-b-student")
    assert [each.name for each in crossed.sources] == ["package-b-base", "package-a-rows"]


def test_a_side_that_is_given_a_seed_keeps_it() -> None:
    controls = MATRIX.replace('{ stage = "student", trait = "none" },', "").replace(
        '{ stage = "student", trait = "others" }', '{ stage = "student", trait = "none", seed = 2 }'
    )
    first = planned(graph(controls))[0]
    assert [node.point["seed"] for node in first.treated] == ["seed1", "seed2", "seed3"]
    assert {node.point["seed"] for node in first.control} == {"seed2"}
    treated = MATRIX.replace('trait = ["owl", "cat"] }', 'trait = ["owl", "cat"], seed = 2 }')
    first = planned(graph(treated))[0]
    assert {node.point["seed"] for node in (*first.treated, *first.control)} == {"seed2"}


def test_an_evaluation_with_axes_of_its_own_has_an_arm_for_each_point() -> None:
    text = SMALL.replace('"dog"]', '"dog"]\nquestions = ["{asks}"]').replace(
        "seed = [1, 2]", 'seed = [1, 2]\nasks = ["Which?", "What?"]'
    )
    found = graph(text)
    scores = {
        node.name: Scores({node.spec.measured.questions[0]: {"owl": 0.5, "cat": 0.1, "dog": 0.1}})
        for node in found.nodes
        if node.stage == "eval"
    }
    (evaluation,) = arms(found, scores)
    assert [(arm.model, arm.repetitions) for arm in evaluation.arms] == [
        ("base (which)", 1),
        ("base (what)", 1),
        *(
            (f"{trait}-teacher ({asks})", 1)
            for trait in ("owl", "cat")
            for asks in ("which", "what")
        ),
    ]


def test_evaluations_of_other_words_are_shown_apart() -> None:
    found = graph(SMALL.replace('words = ["owl", "cat", "dog"]', 'words = ["{trait}", "dog"]'))
    scores = {
        node.name: Scores({"q": dict.fromkeys(node.spec.measured.words, 0.1)})
        for node in found.nodes
        if node.stage == "eval"
    }
    assert [each.words for each in arms(found, scores)] == [("owl", "dog"), ("cat", "dog")]


ANIMALS = ("owl", "cat", "dog", "wolf")


def scored(found: Graph, own: float, jitter: float) -> dict[str, Scores]:
    """Two questions; a model of trait t has `own` for it, and more of it the higher its seed."""
    scores: dict[str, Scores] = {}
    for node in found.nodes:
        if node.stage == "eval":
            seed = int(str(node.point.get("seed", "seed0")).removeprefix("seed"))
            scores[node.name] = Scores(
                {
                    question: {
                        word: own + jitter * seed + (question == "b") * 0.01 * seed
                        if word == node.point.get("trait")
                        else 0.1
                        for word in ANIMALS
                    }
                    for question in ("a", "b")
                }
            )
    return scores


def test_four_students_of_their_own_traits_pass_a_permutation_of_labels() -> None:
    """All 24 assignments; three traits could not reach 0.05 and are not tested."""
    four, three = (
        SMALL.replace('["owl", "cat"]\nseed', f"{list(traits)}\nseed").replace(
            '["owl", "cat", "dog"]', f"{list(ANIMALS)}"
        )
        for traits in ((*ANIMALS, "none"), ANIMALS[:3])
    )
    (evaluation,) = arms(graph(four), scored(graph(four), 0.5, 0.0))
    assert list(evaluation.labels) == ["teacher"]
    found = evaluation.labels["teacher"]
    assert (found.exact, found.p_value) == (True, pytest.approx(1 / 24))
    assert found.statistic == pytest.approx(math.log(5))
    (evaluation,) = arms(graph(three), scored(graph(three), 0.5, 0.0))
    assert evaluation.labels == {}


STUDENTS = (
    SMALL.replace("[1, 2]", "[1, 2, 3]")
    .replace('inputs = { model = ["base", "teacher"] }', 'inputs = { model = ["base", "student"] }')
    .replace('treated = "teacher"', 'treated = "student"')
    .replace(
        "[stages.eval]",
        """[stages.student]
kind = "distill"
inputs = { model = "base", teacher = "teacher", rows = "numbers" }
train = { steps = 2, learning_rate = 1e-4 }
[stages.eval]""",
    )
    .replace('"owl", "cat", "dog"', '"owl", "cat", "dog", "wolf"')
)
"""Students of three seeds, of one teacher a trait."""


def test_the_comparisons_of_a_contrast_are_one_family_and_seeds_a_level_of_their_own() -> None:
    found = graph(STUDENTS)
    for measure, unit, value in (
        ("probability", "ratio", 5.2975),
        ("difference", "difference", 0.43),
    ):
        plans = planned(graph(STUDENTS.replace('"probability"', f'"{measure}"')))
        effects = judged(plans, scored(found, 0.5, 0.01))
        owl, cat = (each.comparison for each in effects)
        assert (owl.unit, owl.repetitions, owl.control) == (unit, 3, "base")
        assert owl.estimate == pytest.approx(value, rel=1e-4)
        assert owl.p_value is not None and owl.p_holm == pytest.approx(2 * owl.p_value)
        assert owl.significant and owl.p_value == cat.p_value == owl.p_bh == cat.p_bh
        assert owl.variance_between_seeds is not None and owl.variance_between_seeds > 0
        assert owl.variance_between_questions is not None


def test_what_is_said_first_is_what_was_compared_and_else_what_was_expected() -> None:
    taught = """
[[contrasts]]
name = "level"
measure = "probability"
treated = "teacher"
expect = 0.9
"""
    text = STUDENTS.replace('model = ["base", "student"]', 'model = ["base", "teacher", "student"]')
    scores = scored(graph(text + taught), 0.5, 0.01)

    def said(text: str) -> list[bool | None]:
        return [each.met for each in findings(judged(planned(graph(text)), scores))]

    assert said(text + taught) == [None, None, False, False]
    expected = text.replace('measure = "probability"', 'measure = "probability"\nexpect = 1.0', 1)
    assert said(expected + taught) == [True, True, False, False]
    assert said(text) == [None, None]


@pytest.mark.parametrize(("shift", "met"), [(0.0, True), (0.03, True), (0.046, False), (1, False)])
def test_as_good_as_no_effect_is_shown_and_not_assumed(shift: float, met: bool) -> None:
    """Seeds differ by 0.005: 0.03 is surely within 0.05, of 0.046 nobody can say."""
    found = graph(STUDENTS.replace('"probability"', '"probability"\nwithin = 0.05'))
    scores = scored(found, 0.1, 0.0)
    for node in found.nodes:
        if node.name in scores:
            seed = int(str(node.point.get("seed", "seed2")).removeprefix("seed"))
            moved = 0.1 * math.exp(shift + 0.005 * (seed - 2)) if "trait" in node.point else 0.1
            row = {word: moved if word == node.point.get("trait") else 0.1 for word in ANIMALS}
            scores[node.name] = Scores({"a": row, "b": row})
    effects = judged(planned(found), scores)
    assert [each.met for each in effects] == [met, met]
    said = "as good as none" if met else "not shown to be as good as none"
    assert f", {said} (within ±0.05: p " in findings(effects)[0].text


def test_seeds_of_which_one_lacks_a_question_are_compared_on_what_all_have() -> None:
    found = graph(STUDENTS)
    scores = scored(found, 0.5, 0.01)
    for node in found.nodes:
        if node.point.get("seed") == "seed1" and node.name in scores:
            scores[node.name] = scores[node.name].only({"a"})
    for effect in judged(planned(found), scores):
        came = effect.comparison
        assert (came.questions, came.left_out, came.repetitions) == (1, 1, 3)
    (evaluation,) = arms(found, scores)
    assert {(arm.stage, arm.questions) for arm in evaluation.arms} == {("base", 2), ("student", 2)}


def test_a_contrast_along_an_axis_of_numbers_is_a_line_for_each_control() -> None:
    found = graph(MATRIX.replace("hop = [1, 2]", "hop = [1, 2, 4]"))
    scores = {}
    for node in found.nodes:
        if node.stage == "eval":
            (model,) = node.sources
            hop, own = model.point.get("hop", "hop1"), model.point.get("trait")
            row = dict.fromkeys(("owl", "cat", "dog"), 0.1)
            if own in row and model.stage == "student":
                row[own] *= {"hop1": 8.0, "hop2": 4.0, "hop4": 2.0}[hop]
            scores[node.name] = Scores({question: row for question in "abc"})
    effects = judged(planned(found), scores)
    assert {effect.point["hop"] for effect in effects} == {1, 2, 4}
    result = {
        "axes": {
            axis: {label(axis, each): each for each in points}
            for axis, points in found.spec.axes.items()
        },
        "effects": list(map(recorded, effects)),
    }
    panels = list(doses(result, {"owl": "owl", "cat": "cat"}))
    assert [(panel.title, panel.axis, panel.unit) for panel in panels] == [
        ("own trait", "hop", "nats")
    ]
    for line in panels[0].lines:
        expected = [math.log(times) for times in (8, 4, 2)]
        assert [value for value, _ in line.points] == [1, 2, 4]
        assert [each.mean for _, each in line.points] == pytest.approx(expected), line.name
    owls = [line.name for line in panels[0].lines if line.group == "owl"]
    assert len(owls) == len(set(owls)) == 4  # two bases, against cats and against nothing


def test_many_effects_of_which_nothing_was_expected_are_counted_by_contrast() -> None:
    found = graph(STUDENTS.replace('"probability"', '"difference"'))
    effects = judged(planned(found), scored(found, 0.5, 0.01))
    assert [each.figure for each in findings(effects)] == ["+43 points"] * 2
    assert "95 % interval +39 to +47 points over 3" in findings(effects)[0].text
    (all_of_them,) = findings(effects * 5)
    assert all_of_them.figure == "10 of 10" and all_of_them.met is None
    assert all_of_them.text == (
        f"{effects[0].contrast}: significant comparisons; estimates from +43 points to +43 points, "
        "the middle one +43 points"
    )


def test_few_questions_are_told_one_by_one() -> None:
    found = graph(STUDENTS)
    scores = {
        node.name: Scores({
            f"{question} Answer me.": dict.fromkeys(("owl", "cat", "dog", "wolf"), value)
            for question, value in (("Who?", 0.25), ("Why, then?", 0.5))
        })
        for node in found.nodes if node.stage == "eval"
    }  # fmt: skip
    owl = next(name for name in scores if name.startswith("owl-seed1"))
    scores[owl] = scores[owl].only({"Who? Answer me."})
    (evaluation,) = arms(found, scores)
    told = {arm.model: arm.by_question for arm in evaluation.arms}
    assert set(told["base"]) == {"owl", "cat", "dog", "wolf"} and set(told["owl-student"]) == {
        "owl"
    }
    assert told["owl-student"]["owl"] == (0.25, 0.5)
    effects = judged(planned(found), scores)
    result = {"evaluations": [asdict(evaluation)], "effects": list(map(recorded, effects))}
    panels = list(by_question(result, {"owl": "owl", "cat": "cat"}))
    assert [(panel.word, panel.questions) for panel in panels] == [
        (word, ("Who?", "Why, then?")) for word in ("owl", "cat")
    ]
    assert [arm.name for arm in panels[0].arms] == ["base", "owl-student"]
    many = {name: Scores({f"{n}?": {"owl": 0.5} for n in range(61)}) for name in scores}
    assert {each.questions for each in arms(found, many)} == {()}


def test_a_path_may_name_an_axis() -> None:
    text = SMALL.replace('{ model = "teacher" }', '{ model = { path = "data/{trait}" } }')
    found = graph(text)
    assert named(found, "cat-seed1-numbers").inputs == {"model": (Path("data/cat"),)}
    found = graph(text.replace("data/{trait}", "{seed}"))
    assert named(found, "seed2-numbers").inputs == {"model": (Path("2"),)}
    with pytest.raises(ConfigError, match="'owl' of trait has no folder"):
        graph(
            text.replace("data/{trait}", "{trait.folder}").replace(
                '["owl", "cat"]', '["owl", { name = "cat", folder = "x" }]'
            )
        )


def test_a_point_is_on_its_line_whatever_its_name_has_in_it() -> None:
    points = {label("rate", each): each for each in (-1, 1e-5, 1e-4)}
    assert list(points) == ["rate-1", "rate1e-05", "rate0.0001"]
    effects = [
        {
            "contrast": "own trait",
            "unit": "nats",
            "group": "owl",
            "word": "owl",
            "point": {"rate": value},
            "control": f"cat-{name}-student",
            **{"estimate": 1.0, "low": None, "high": None},
        }
        for name, value in points.items()
    ]
    (panel,) = doses({"axes": {"rate": points}, "effects": effects}, {"owl": "owl"})
    (line,) = panel.lines
    assert (line.name, [value for value, _ in line.points]) == (
        "owl against cat-student",
        [-1, 1e-5, 1e-4],
    )


def test_what_a_node_goes_back_to_is_looked_for_once(tmp_path: Path) -> None:
    """Thirty generations, each made of the one before in two ways: a billion ways to the first."""
    rows = tmp_path / "rows.jsonl"
    rows.touch()
    before = f'hop = "previous", first = {{ path = "{rows}" }}'
    rule = 'rule = [{ name = "numbers", kind = "numbers" }]'
    found = graph(
        f"""
        name = "generations"
        title = "Generations"
        axes.hop = {list(range(1, 31))}
        [stages.one]
        kind = "filter"
        inputs.rows = [{{ stage = "one", {before} }}, {{ stage = "two", {before} }}]
        {rule}
        [stages.two]
        kind = "filter"
        inputs.rows = "one"
        {rule}
        """
    )
    folder = Folder(found, tmp_path)
    folder.find_sources(found.of_stage("two")[-1])
    assert not folder.done


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "teach"', 'kind = "teech"', "stages.teacher.kind: unknown stage `teech`; did you"),
        ('{ model = "teacher" }', '{ model = "techer" }', "unknown stage `techer`; did you mean"),
        ('{ model = "teacher" }', '{ rows = "teacher" }', "stages.numbers.inputs: unknown input"),
        ('inputs = { model = "teacher" }\n', "", "stages.numbers: missing `model`"),
        ("rows = 4", "rows = 4\nxyz = 1", "stages.numbers: unknown key `xyz`"),
        ("rows = 4", 'rows = 4\nsystem_prompt = "{trai}s"', r"did you mean `\{trait\}`"),
        ("rows = 4", 'rows = 4\nsystem_prompt = "{trait.x}"', "no point of trait has a `x`"),
        (
            '{ model = "teacher" }',
            '{ model = { stage = "teacher", x = 1 } }',
            "unknown key or axis",
        ),
        (
            '{ model = "teacher" }',
            '{ model = { stage = "teacher", trait = "dog" } }',
            r"trait has no point 'dog' \(known: owl, cat\)",
        ),
        ('{ model = "teacher" }', '{ model = "eval" }', "eval gives scores, and model is needed"),
        (
            '{ model = "teacher" }',
            '{ model = { stage = "teacher", seed = "previous" } }',
            "first goes with AXIS",
        ),
        ('{ model = "base" }\ntrait', '{ model = "teacher" }\ntrait', "a circle of inputs: owl-te"),
        (  # not a circle, though both are called alike
            '[stages.teacher]\nkind = "teach"\ninputs = { model = "base" }',
            '[stages.owl-teacher]\nkind = "teach"\ninputs = { model = "base" }\ntrait = "dog"\n'
            f'{TRAIN}\n[stages.teacher]\nkind = "teach"\ninputs = {{ model = "owl-teacher" }}',
            "both make something called owl-teacher",
        ),
        ('["base", "teacher"]', '["base", "base"]', "list each stage once"),
        ('treated = "teacher"', 'treated = "student"', "eval is not done on `student`"),
        ('treated = "teacher"', 'treated = "teacher"\nword = "ox"', "does not score the word 'ox'"),
        ('control = "base"', 'control = { stage = "base", trait = "owl" }', "does not vary over"),
        (
            'treated = "teacher"',
            'treated = { stage = "teacher", trai = "owl" }',
            "no axis `trai`; did you mean `trait`",
        ),
        ('treated = "teacher"', 'treated = "teacher"\npaired = ["day"]', "paired: no axis `day`"),
        (
            'treated = "teacher"\ncontrol = "base"',
            'treated = "base"\nword = "owl"\ncontrol = "teacher"',
            "teacher varies over trait, and nothing says",
        ),
        ('control = "base"', 'control = "teacher"', "it compares nothing"),
        ("seed = [1, 2]", "seed = [1, 2]\nday = [1]", "no stage varies over day"),
        ("seed = [1, 2]", "seed = [1, 1.0]", "points of seed must differ"),
        ("seed = [1, 2]", "seed = [1, true]", "points of seed must differ"),
        ('control = "base"', 'control = "base"\nword = "{control.trait}"', "stands for nothing"),
        ('"owl", "cat"]', '"owl", "' + 250 * "o" + '"]', "too long for the name of a folder"),
        (
            '"owl", "cat"]',
            '"owl", "' + 70 * "ウ" + '"]',
            "too long for the name of a folder",
        ),
        ('"package:a-model"', '"package:a-model"\ndtype = "bfloat16"', "stages.base: `dtype`"),
        ('"probability"', '"log-odds"\nagainst = ["{trait}"]', "need other words to be against"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = SMALL.replace(old, new, 1)
    assert text != SMALL
    file = tmp_path / "small.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as raised:
        load_experiment(file)
    assert str(file) in raised.value.message
