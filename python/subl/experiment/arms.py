"""What an experiment scored: each evaluation as a matrix of models and words. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from subl.evaluate import Scores
from subl.experiment.contrasts import repeated
from subl.experiment.graph import Graph, Node
from subl.experiment.spec import label, value_of
from subl.statistics import LabelTest, clustered_mean, label_permutation, mean_probability


@dataclass(frozen=True)
class Arm:
    """A model, or the repetitions of one: mean probability of each word, with its interval.
    `questions` are the trait's own, in however many orders each was asked. `by_question` has the
    mean of each of `Evaluation.questions`, of the word of its group, or of all where it has none.
    """

    model: str
    stage: str
    group: str | None
    repetitions: int
    questions: int
    means: Mapping[str, Mapping[str, Any]]
    by_question: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class Evaluation:
    """What one eval stage scored, on the same words. `questions` are told where they are few.

    `labels`: of each stage whose models are one for each of four or more traits, whether they have
    their own trait more than others do, in nats (mean logarithms of probabilities). Fewer labels
    cannot reach a p of 0.05, and a probability of 0 has no logarithm: then there is none.
    """

    name: str
    words: tuple[str, ...]
    questions: tuple[str, ...]
    arms: tuple[Arm, ...]
    labels: Mapping[str, LabelTest]


def arms(graph: Graph, scores: Mapping[str, Scores]) -> list[Evaluation]:
    """What was scored: models that a seed alone tells apart are one arm of an evaluation. One whose
    words differ between its nodes is several."""
    repeats = {axis for each in graph.spec.contrasts for axis in repeated(graph, each)}
    first = next(iter(graph.spec.axes), "")
    found: dict[tuple[str, tuple[str, ...]], dict[Any, list[Node]]] = {}
    for node in graph.nodes:
        if node.name not in scores:
            continue
        words = tuple(next(iter(scores[node.name].values())))
        point = tuple((axis, at) for axis, at in node.point.items() if axis not in repeats)
        model = node.sources[0].stage if node.sources else _path(node)
        found.setdefault((node.stage, words), {}).setdefault((model, point), []).append(node)
    traits = {label(first, each): str(value_of(each)) for each in graph.spec.axes.get(first, ())}
    evaluations = []
    for (stage, words), models in found.items():
        every = [scores[each.name] for nodes in models.values() for each in nodes]
        asked = dict.fromkeys(base for each in every for base in each.clusters)
        questions = tuple(asked) if len(asked) <= _MOST_QUESTIONS else ()
        made = tuple(
            _arm(graph, model, dict(point), first, traits, questions, scores, nodes)
            for (model, point), nodes in models.items()
        )
        found_scores = [[scores[each.name] for each in nodes] for nodes in models.values()]
        labels = _labels(list(zip(made, found_scores, strict=True)), traits)
        evaluations.append(Evaluation(stage, words, questions, made, labels))
    return evaluations


_LEAST_LABELS, _MOST_QUESTIONS = 4, 60


def _labels(
    arms: Sequence[tuple[Arm, Sequence[Scores]]], traits: Mapping[str, str]
) -> dict[str, LabelTest]:
    """Of each stage that has enough of them. `traits`: the word of each group."""
    found: dict[str, LabelTest] = {}
    for stage in dict.fromkeys(arm.stage for arm, _ in arms):
        taught = [  # `none` is no word
            (word, scores)
            for arm, scores in arms
            if arm.stage == stage and (word := traits.get(arm.group or "", "")) in arm.means
        ]
        words = [word for word, _ in taught]
        if len(set(words)) < len(words) or len(words) < _LEAST_LABELS:
            continue
        if len({len(scores) for _, scores in taught}) > 1:
            continue
        repeated = list(zip(*(scores for _, scores in taught), strict=True))
        rows = (row for scores in repeated for each in scores for row in each.values())
        if all(row[word] > 0 for row in rows for word in words):
            found[stage] = label_permutation(
                [[_mean_logs(each, words) for each in scores] for scores in repeated]
            )
    return found


def _mean_logs(scores: Scores, words: Sequence[str]) -> list[float]:
    return [fmean(math.log(row[word]) for row in scores.values()) for word in words]


def _path(node: Node) -> str:
    """The model folder that was evaluated, where no node made it."""
    return next(str(each) for given in node.inputs.values() for each in given)


def _arm(
    graph: Graph,
    stage: str,
    point: dict[str, str],
    first: str,
    traits: Mapping[str, str],
    questions: tuple[str, ...],
    scores: Mapping[str, Scores],
    nodes: list[Node],
) -> Arm:
    came_of = [scores[node.name] for node in nodes]
    means: dict[str, dict[str, Any]] = {}
    for word in next(iter(came_of[0].values())):
        levels = [
            mean_probability([row[word] for row in each.values()], each.clusters)
            for each in came_of
        ]
        came = levels[0]
        if len(levels) > 1:
            came = clustered_mean([each.estimate for each in levels])
        low, high = came.low, came.high
        means[word] = {
            "estimate": came.estimate,
            "low": None if low is None else max(0.0, low),
            "high": None if high is None else min(1.0, high),
        }
    model = next(iter(nodes[0].sources), None)
    if model is None:
        name = stage
    elif len(nodes) == 1:
        name = model.name
    else:
        rest = {axis: at for axis, at in model.point.items() if axis in point}
        name = graph.label(model.stage, model.of, rest)
    own = [at for axis, at in point.items() if model is None or axis not in model.point]
    trait = traits.get(point.get(first, ""), "")
    told = [trait] if trait in means else list(means)
    return Arm(
        f"{name} ({', '.join(own)})" if own else name,
        stage,
        point.get(first),
        len(nodes),
        len({base for each in came_of for base in each.clusters}),
        means,
        {word: _by_question(word, questions, came_of) for word in told if questions},
    )


def _by_question(
    word: str, questions: tuple[str, ...], scores: list[Scores]
) -> tuple[float | None, ...]:
    """Means over repetitions, and over the ways to ask a question."""
    found: dict[str, list[float]] = {question: [] for question in questions}
    for each in scores:
        for base, row in zip(each.clusters, each.values(), strict=True):
            found[base].append(row[word])
    return tuple(fmean(each) if each else None for each in found.values())
