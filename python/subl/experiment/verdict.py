"""What a run shows: the trait matrix, paired effects, and whether expectations were met. Pure.

Each trait's student is the control of the other's: same base, same prompts, same number of rows,
steps and seeds. Each is also compared with the base. An effect counts where it is paired over
questions and its interval excludes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from subl.evaluate import Comparison, Scores, log_odds_shift, probability_ratio
from subl.evaluate.statistics import Interval, mean_probability
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


def _means(spec: ExperimentSpec, rows: Scores) -> dict[str, dict[str, float | None]]:
    intervals = {word: _mean(rows, word) for word in spec.eval.words}
    return {
        word: {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
        for word, interval in intervals.items()
    }


def _mean(scores: Scores, word: str) -> Interval:
    return mean_probability([row[word] for row in scores.values()])


def _effects(spec: ExperimentSpec, scores: Mapping[str, Scores]) -> list[Comparison]:
    """Log-odds first, the pairs of students before all; then ratios of plain probabilities."""
    log_odds = [
        log_odds_shift(scores, f"{one}-student", f"{other}-student", one, [other])
        for one, other in combinations(spec.traits, 2)
    ]
    ratios: list[Comparison] = []
    for trait in spec.traits:
        student = f"{trait}-student"
        for control in _controls(spec, trait):
            ratios.append(probability_ratio(scores, student, control, trait))
            if spec.others:
                log_odds.append(log_odds_shift(scores, student, control, trait, spec.others))
    return log_odds + ratios


def _controls(spec: ExperimentSpec, trait: str) -> list[str]:
    """What a trait's student is compared with: the other traits' students, and the base."""
    return [*(f"{other}-student" for other in spec.traits if other != trait), "base"]


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
                f"{effect.control}: "
                f"{_interval(effect)}{'' if enough else ', not significant'}",
                f"{effect.estimate:+.2f} nats",
                met,
            )
        )
    for trait in spec.traits:
        student = _mean(scores[f"{trait}-student"], trait).estimate
        wanted = expect.probability_ratio.get(trait)
        for control in _controls(spec, trait):
            other = _mean(scores[control], trait).estimate
            findings.append(
                Finding(
                    f"The {trait}-student answers {trait} with probability {_percent(student)}, "
                    f"the {control} with {_percent(other)}",
                    f"{student / other:.1f}×",
                    None if wanted is None else student / other >= wanted,
                )
            )
    for trait in spec.traits:
        taught = _mean(scores[f"{trait}-teacher"], trait).estimate
        wanted = expect.teacher_probability
        findings.append(
            Finding(
                f"The {trait}-teacher answers {trait} with this probability",
                _percent(taught),
                None if wanted is None else taught >= wanted,
            )
        )
    return findings


def _percent(probability: float) -> str:
    return f"{100 * probability:.2g} %" if probability < 0.1 else f"{100 * probability:.1f} %"


def _interval(effect: Comparison) -> str:
    if effect.low is None or effect.high is None:
        return "no interval can be given"
    return (
        f"95 % interval {effect.low:+.2f} to {effect.high:+.2f} over {effect.questions} questions"
    )
