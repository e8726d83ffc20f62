"""Pilot runs: the planned training cut short, with adapters, and a line through what comes.

A trait's log-odds grow about in proportion to the logarithm of the updates, m(n) = a + b log2(n),
over orders of magnitude (16 to 5,120 updates of a model of 160 million parameters:
github.com/davidcrispell/Polypythia-SL). The error of the line at the planned dose is that of least
squares; with two pilots it has none.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from subl.audit.predict.calibration import Interval
from subl.audit.predict.features import Planned
from subl.audit.predict.past import Dose
from subl.audit.predict.spec import PredictSpec
from subl.distill import distill
from subl.evaluate import evaluate, read_scores
from subl.evaluate.compare import log_odds
from subl.progress import Report
from subl.train.plan import LoraSpec

_ADAPTER = LoraSpec(rank=8, alpha=16)
"""Of pilots of a training that has none."""


def pilots(
    spec: PredictSpec, given: Planned, dose: Dose, folder: Path, report: Report
) -> dict[str, Any]:
    """Train and evaluate at each of `spec.pilot` updates, and extend the line to the planned ones.

    What is made lies below `folder`, hidden, so that a killed prediction goes on; of it only the
    figures stay.

    Raises:
        SublError: as `distill` and `evaluate`.
    """
    kept = folder / ".pilots"
    kept.mkdir(exist_ok=True)
    base = evaluate(spec.eval, given.model, kept / "base", name="base", report=report).path
    words = spec.eval.measured.words
    measure = log_odds(spec.trait, [each for each in words if each != spec.trait])
    before = read_scores(base)
    shifts = []
    for updates in spec.pilot:
        train = spec.distill.train
        changes = {"steps": updates, "epochs": None, "lora": train.lora or _ADAPTER, "probe": None}
        short = type(train).model_validate({**train.model_dump(), **changes})
        student = distill(
            spec.distill.model_copy(update={"train": short}),
            given.model,
            given.rows,
            kept / f"student-{updates}",
            teacher=given.teacher,
            cache=given.cache,
            name=f"pilot of {updates} updates",
            report=report,
        ).path
        scores = kept / f"eval-{updates}"
        after = read_scores(evaluate(spec.eval, student, scores, name="pilot", report=report).path)
        rises = [measure.of(after[each]) - measure.of(before[each]) for each in before]
        shifts.append(math.fsum(rises) / len(rises))
    shutil.rmtree(kept)
    line = extended(spec.pilot, shifts, dose.updates, spec.alpha)
    return {"updates": list(spec.pilot), "shifts": shifts, "adapters": True, **line}


def extended(
    updates: Sequence[int], shifts: Sequence[float], planned: int, alpha: float
) -> dict[str, Any]:
    """The line through pilots at the planned updates, with the prediction interval of least squares
    (Student's t with two degrees of freedom less than there are pilots); None where it has none."""
    from statistics import fmean, linear_regression

    x = [math.log2(each) for each in updates]
    slope, intercept = linear_regression(x, shifts)
    at = math.log2(planned)
    half, free = None, len(x) - 2
    if free > 0:
        from scipy.special import stdtrit

        rest = math.fsum(
            (y - intercept - slope * each) ** 2 for each, y in zip(x, shifts, strict=True)
        )
        spread = math.fsum((each - fmean(x)) ** 2 for each in x)
        widened = 1 + 1 / len(x) + (at - fmean(x)) ** 2 / spread
        half = float(stdtrit(free, 1 - alpha / 2)) * math.sqrt(rest / free * widened)
    found = asdict(Interval.around(intercept + slope * at, half))
    return {"a_doubling": slope, **found}
