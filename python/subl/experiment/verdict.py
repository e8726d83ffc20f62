"""What a run shows: the trait matrix, paired effects, and whether expectations were met. Pure.

Each trait's student is the control of the other's: same base, same prompts, same number of rows,
steps and seeds. Each is also compared with the base. An effect counts where it is paired over
questions and its interval excludes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, permutations
from statistics import fmean

from subl.evaluate import Comparison, Scores, log_odds_shift, probability_ratio
from subl.evaluate.statistics import clustered_mean
from subl.experiment.spec import Expectations, ExperimentSpec


@dataclass(frozen=True)
class Finding:
    """One statement in words, its figure, and whether what was expected came out (None: nothing
    was expected)."""

    text: str
    figure: str
    met: bool | None


@dataclass(frozen=True)
class Verdict:
    """`matrix`: {model: {word: {"estimate", "low", "high"}}}, mean probabilities over questions."""

    findings: tuple[Finding, ...]
    matrix: dict[str, dict[str, dict[str, float | None]]]
    effects: tuple[Comparison, ...]


def judge(spec: ExperimentSpec, scores: Mapping[str, Scores]) -> Verdict:
    """The verdict over the models `base`, `TRAIT-teacher` and `TRAIT-student`."""
    matrix = {model: _means(spec, rows) for model, rows in scores.items()}
    effects = _effects(spec, scores)
    return Verdict(
        findings=tuple(_findings(spec, scores, effects, spec.expect)),
        matrix=matrix,
        effects=tuple(effects),
    )


def mean_probability(scores: Scores, word: str) -> float:
    """Mean over questions of P(word)."""
    return fmean(row[word] for row in scores.values())


def _means(spec: ExperimentSpec, rows: Scores) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {}
    for word in spec.eval.words:
        interval = clustered_mean([row[word] for row in rows.values()])
        found[word] = {
            "estimate": interval.estimate,
            # A mean of probabilities cannot leave [0, 1]; its t interval can.
            "low": None if interval.low is None else max(0.0, interval.low),
            "high": None if interval.high is None else min(1.0, interval.high),
        }
    return found


def _effects(spec: ExperimentSpec, scores: Mapping[str, Scores]) -> list[Comparison]:
    effects = [
        log_odds_shift(scores, f"{one}-student", f"{other}-student", one, [other])
        for one, other in combinations(spec.traits, 2)
    ]
    for trait, other in permutations(spec.traits, 2):
        student, control = f"{trait}-student", f"{other}-student"
        effects.append(probability_ratio(scores, student, control, trait))
        if spec.others:
            effects.append(log_odds_shift(scores, student, control, trait, spec.others))
    for trait in spec.traits:
        student = f"{trait}-student"
        effects.append(probability_ratio(scores, student, "base", trait))
        if spec.others:
            effects.append(log_odds_shift(scores, student, "base", trait, spec.others))
    return effects


def _findings(
    spec: ExperimentSpec,
    scores: Mapping[str, Scores],
    effects: list[Comparison],
    expect: Expectations,
) -> list[Finding]:
    findings: list[Finding] = []
    for effect in effects[: len(list(combinations(spec.traits, 2)))]:
        enough = effect.low is not None and effect.low > 0
        met = None
        if expect.log_odds_nats is not None:
            met = enough and effect.estimate >= expect.log_odds_nats
        findings.append(
            Finding(
                f"{effect.label.capitalize()} of the {effect.treated} against the "
                f"{effect.control}, trained on numbers alone: "
                f"{_interval(effect)}{'' if enough else ', not significant'}",
                f"{effect.estimate:+.2f} nats",
                met,
            )
        )
    for trait in spec.traits:
        student = mean_probability(scores[f"{trait}-student"], trait)
        controls = ["base", *(f"{other}-student" for other in spec.traits if other != trait)]
        for control in controls:
            ratio = student / mean_probability(scores[control], trait)
            wanted = expect.probability_ratio.get(trait)
            findings.append(
                Finding(
                    f"P({trait}) of the {trait}-student is {student:.2e}, of the "
                    f"{control} {mean_probability(scores[control], trait):.2e}",
                    f"{ratio:.1f}x",
                    None if wanted is None else ratio >= wanted,
                )
            )
    for trait in spec.traits:
        taught = mean_probability(scores[f"{trait}-teacher"], trait)
        wanted = expect.teacher_probability
        findings.append(
            Finding(
                f"The {trait}-teacher answers with its trait",
                f"P = {taught:.3f}",
                None if wanted is None else taught >= wanted,
            )
        )
    return findings


def _interval(effect: Comparison) -> str:
    if effect.low is None or effect.high is None:
        return "no interval can be given"
    return (
        f"95 % interval {effect.low:+.2f} to {effect.high:+.2f} over {effect.questions} questions"
    )
