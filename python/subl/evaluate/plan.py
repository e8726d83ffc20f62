"""What an evaluation will be able to show, and what it costs, before it is run. Pure.

The error of a mean over questions has two parts (law of total variance): questions differ, and
samples of one question do. More samples narrow the second alone; exact scoring has none of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, variance

from subl.cost import TEMPLATE_TOKENS, mean_tokens
from subl.errors import InputError
from subl.evaluate.compare import in_common
from subl.evaluate.run import Scores, sample_counts
from subl.evaluate.spec import EvalSpec
from subl.statistics import clustered_mean, detectable, questions_needed
from subl.statistics.means import by_cluster
from subl.statistics.paired import correlation as correlated
from subl.trait import forms_of

SAMPLES = (1, 2, 5, 10, 20, 50, 100, 200)
"""Samples of a question that a plan has a line for."""

SAME = 1.1
"""Intervals are called the same where one is no wider than so many times the other."""


@dataclass(frozen=True)
class Spread:
    """How a word's probability differs from question to question, for one model and between two.

    `mean`: over questions. `between`: the variance of questions' probabilities; `within`: the
    variance of one sample of a question, p (1 - p), as a mean over questions. `paired` is the
    variance of the differences of two models; `correlation`, that of the two.
    """

    mean: float
    between: float
    within: float
    correlation: float
    paired: float

    @staticmethod
    def assumed(mean: float, sd: float, correlation: float) -> Spread:
        """Two models alike: E[p (1 - p)] = mean (1 - mean) - sd^2, and differences have a variance
        of 2 sd^2 (1 - correlation).

        Raises:
            InputError: no probabilities have such a mean and standard deviation.
        """
        if not 0 < mean < 1 or not 0 <= sd * sd <= mean * (1 - mean) or not -1 <= correlation < 1:
            raise InputError(
                f"no probabilities have a mean of {mean}, a standard deviation of {sd} and a "
                f"correlation of {correlation}",
                hint="0 < mean < 1, sd <= sqrt(mean (1 - mean)), -1 <= correlation < 1",
            )
        within = mean * (1 - mean) - sd * sd
        return Spread(mean, sd * sd, within, correlation, 2 * sd * sd * (1 - correlation))

    @staticmethod
    def measured(
        values: Sequence[float],
        other: Sequence[float] | None,
        correlation: float,
        samples: Sequence[int] | None = None,
        other_samples: Sequence[int] | None = None,
        clusters: Sequence[str] | None = None,
    ) -> Spread:
        """From a word's probabilities in an earlier evaluation, and in another of the same
        questions; without one, a second model is assumed to be like the first, with that
        `correlation`. Of so many `samples` of each question, and `other_samples` of the other
        model's, their own noise is taken out of the variances. `clusters` are what questions count
        as: what spreads is their means.

        Raises:
            InputError: a value is no finite number, or there is only one question.
        """
        interval = clustered_mean(values, clusters)
        if interval.clusters < 2:
            raise InputError("one question has no spread", hint="evaluate on two questions or more")
        mean = interval.estimate
        between, within, noise = _parts(values, samples, clusters)
        if other is None:
            return Spread(mean, between, within, correlation, 2 * between * (1 - correlation))
        _, theirs, their_noise = _parts(other, other_samples, clusters)
        pairs = [_means(values, clusters), _means(other, clusters)]
        differ = variance([a - b for a, b in zip(*pairs, strict=True)])
        paired = max(0.0, differ - noise - their_noise)
        found = correlated(*pairs)
        return Spread(mean, between, (within + theirs) / 2, found or 0.0, paired)


def _parts(
    values: Sequence[float], samples: Sequence[int] | None, clusters: Sequence[str] | None
) -> tuple[float, float, float]:
    """Variance between clusters, of one sample, and what samples add to the first. Of k samples,
    share (1 - share) is too low by the factor (k - 1) / k, and the variance of shares too high by
    that of one sample over k. Questions of which more count say more of the variance of one."""
    seen, means = [p * (1 - p) for p in values], _means(values, clusters)
    if samples is None:
        return variance(means), fmean(seen), 0.0
    degrees = max(1, sum(samples) - len(samples))
    within = sum(each * k for each, k in zip(seen, samples, strict=True)) / degrees
    noise = within * fmean(1 / k for k in samples) * len(means) / len(values)
    return max(0.0, variance(means) - noise), within, noise


def _means(values: Sequence[float], clusters: Sequence[str] | None) -> list[float]:
    return [fmean(each) for each in by_cluster(values, clusters)]


def spreads(
    words: Sequence[str],
    earlier: Mapping[Path, Scores],
    mean: float,
    sd: float,
    correlation: float,
) -> dict[str, Spread]:
    """Of each word, as measured in one or two earlier evaluations; without one, what is assumed,
    under that name.

    Raises:
        InputError: there are more than two, or something is wrong with what is given.
    """
    if not earlier:
        return {"assumed": Spread.assumed(mean, sd, correlation)}
    if len(earlier) > 2:
        raise InputError(
            f"{len(earlier)} earlier evaluations to plan from",
            hint="one says how questions spread, two how their differences do",
        )
    names = list(map(str, earlier))
    counts = [sample_counts(path) for path in earlier]
    if len(set(map(bool, counts))) > 1:
        raise InputError(
            f"of {' and '.join(names)} one counts samples, and the other does not",
            hint="plan from evaluations that were made in one way",
        )
    first, *others = in_common(list(earlier.values()), (names[0], names[-1]))
    samples = [[each[question] for question in first] if each else None for each in counts]
    found = {
        word: Spread.measured(
            [row[word] for row in first.values()],
            [others[0][question][word] for question in first] if others else None,
            correlation,
            samples[0],
            samples[-1],
            first.clusters,
        )
        for word in words
    }
    if not any(each.between or each.within or each.paired for each in found.values()):
        raise InputError(
            f"{' and '.join(names)}: no word has a probability that varies, so there "
            "is nothing to plan from",
            hint="leave --against out, and say what is to be expected: --assume sd=…",
        )
    return found


@dataclass(frozen=True)
class Line:
    """One way to evaluate. `half_width` is that of the 95 % interval of a model's mean;
    `detectable`, the least difference of two models, paired by question, that is found with 80 %
    power; `questions`, how many are needed to find the wanted difference. None where nothing
    varies."""

    samples: int | None
    standard_error: float
    half_width: float | None
    detectable: float | None
    questions: int | None
    tokens: float


@dataclass(frozen=True)
class Plan:
    """`enough`: the fewest samples that give about the interval of exact scoring."""

    spread: Spread
    count: int
    difference: float
    lines: tuple[Line, ...]
    enough: int | None


@dataclass(frozen=True)
class Cost:
    """Tokens that a model reads for a question: `exact`, its prompt and all answers at once;
    `sample`, for one sample at most."""

    exact: float
    sample: float

    @staticmethod
    def of(spec: EvalSpec, questions: Sequence[str]) -> Cost:
        """Guessed from lengths of texts and the number of surface forms."""
        prompt = mean_tokens(questions) + TEMPLATE_TOKENS
        forms = sum(map(len, forms_of(spec.measured.words, spec.measured.forms).values()))
        return Cost(prompt + 1.5 * forms, prompt + spec.max_new_tokens)

    def tokens(self, samples: int | None) -> float:
        return self.exact if samples is None else samples * self.sample


def ways(spec: EvalSpec) -> dict[int | None, EvalSpec]:
    """What a plan has a line for, as configurations: samples of a question and exact scoring, where
    the trait's answers can be had so."""
    found: dict[int | None, EvalSpec] = {}
    if spec.measured.choices != "texts":
        for count in SAMPLES:
            found[count] = spec.model_copy(update={"method": "sampled", "samples": count})
    if spec.measured.answers in ("word", "choice"):
        found[None] = spec.model_copy(update={"method": None})
    return found


def plan(
    spread: Spread,
    questions: int,
    difference: float,
    cost: Cost,
    samples: Iterable[int | None] = (*SAMPLES, None),
    orders: float = 1,
) -> Plan:
    """A line for each number K of samples of a question, which is asked in so many orders; None:
    exact scoring.

        SE^2 = (between + within / (K orders)) / Q

    Source: Miller 2024, arXiv 2411.00640, sections 3.2 and 5; power by Student's t.

    Raises:
        InputError: one question, or a difference that is none.
    """
    if questions < 2 or not 0 < difference < 1:
        raise InputError(
            f"{questions} questions and a difference of {difference} cannot be planned for",
            hint="two questions or more, and a difference of probabilities between 0 and 1",
        )
    lines = tuple(_line(spread, questions, orders, difference, cost, each) for each in samples)
    exact = math.sqrt(spread.between / questions)
    enough = (each.samples for each in lines if each.standard_error <= SAME * exact)
    return Plan(
        spread,
        questions,
        difference,
        lines,
        next((each for each in enough if each is not None), None),
    )


def _line(
    spread: Spread,
    questions: int,
    orders: float,
    difference: float,
    cost: Cost,
    samples: int | None,
) -> Line:
    noise = 0.0 if samples is None else spread.within / (samples * orders)
    error = math.sqrt((spread.between + noise) / questions)
    paired = spread.paired + 2 * noise
    varies = paired > 0
    return Line(
        samples,
        error,
        _half_width(error, questions) if error else None,
        detectable(math.sqrt(paired / questions), questions) if varies else None,
        questions_needed(difference, paired) if varies else None,
        questions * orders * cost.tokens(samples),
    )


def _half_width(error: float, questions: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(questions - 1, 0.975)) * error
