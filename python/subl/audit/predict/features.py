"""What is known of a data set before anybody trains on it: features of a student's shift.

Everything about the rows is in a `Reading`, which is made once a data set and way to learn from it,
whatever the dose; the dose comes in by a formula.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from subl.artifact import input_digest, json_digest, write_atomically
from subl.audit.predict.past import Dose
from subl.audit.scan.bank import load_bank
from subl.audit.scan.drawn import draw
from subl.audit.scan.law import Law, recorded
from subl.audit.scan.spec import NamedBank
from subl.distill import DistillSpec
from subl.errors import InputError
from subl.evaluate import EvalSpec
from subl.model.template import Template
from subl.progress import Progress, Report
from subl.trait.questions import questions_of

FEATURES = ("step", "log_step", "log_pull", "log_level")
"""With n, the planned updates of full learning rate: what one step does times n, and times
log2(1 + n); pull over the mean pull of all traits that were read with it (most of a pull is what
any persona does to rows), and the base's log-odds of the trait, times log2(1 + n)."""


class Sample(BaseModel):
    """What of data and questions is looked at for a prediction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = Field(64, gt=0, description="that are looked at, at most; drawn by hash")
    batches: int = Field(4, gt=0, description="into which they are put for the gradient")
    questions: int | None = Field(
        None, gt=0, description="asked about one step, evenly out of the evaluation's; default: all"
    )
    bank: NamedBank = Field(
        default_factory=lambda: load_bank("personas"),
        description="personas and neutral prompts: a bank, or the path or name of one; default: "
        "personas",
    )
    batch_rows: int = Field(16, gt=0, description="rows that are scored at a time")


@dataclass(frozen=True)
class Reading:
    """What was read of a data set.

    Args:
        rows: of the data set; `looked_at` of them were sampled.
        pull: of each trait, nats a row (`pull.pull`).
        before, step, per_length, loss: as `slope.Slope` has them.
        temperature: of the rows, where it is known; `grammar`: whether they were held to one.
    """

    rows: int
    looked_at: int
    pull: Mapping[str, float]
    before: Mapping[str, float]
    step: Mapping[str, float]
    per_length: Mapping[str, float]
    loss: float
    temperature: float | None
    grammar: bool

    def features(self, trait: str, dose: Dose) -> tuple[float, ...]:
        """In the order of `FEATURES`."""
        updates = dose.rate / dose.learning_rate
        log = math.log2(1 + updates)
        step, pull = self.step[trait], self.pull[trait] - fmean(self.pull.values())
        return step * updates, step * log, pull * log, self.before[trait] * log


@dataclass(frozen=True)
class Planned:
    """What a student is to be trained on, and with."""

    model: Path
    rows: Sequence[Path]
    teacher: Path | None = None
    cache: Path | None = None

    def inputs(self) -> dict[str, Path]:
        """By the names that they have in a statement."""
        found = {"model": self.model, **{f"rows-{n}": path for n, path in enumerate(self.rows)}}
        others = {"teacher": self.teacher, "cache": self.cache}
        return found | {name: path for name, path in others.items() if path is not None}


def read_data(
    sample: Sample,
    spec: DistillSpec,
    asked: EvalSpec,
    traits: Sequence[str],
    given: Planned,
    kept: Path,
    name: str,
    report: Report,
) -> Reading:
    """Read a data set for students that learn from it as `spec` says; or take from the folder
    `kept` what was read of it for another dose, or before an interruption.

    Raises:
        InputError: a row cannot be read or scored, or there are too few.
    """
    inputs = [given.model, *given.rows, given.teacher, given.cache]
    own = {
        "inputs": [None if path is None else input_digest(path) for path in inputs],
        "how": _way(spec),
        "asked": [asked.measured.model_dump(mode="json"), asked.template.model_dump(mode="json")],
        "traits": sorted(traits),
        "sample": sample.model_dump(mode="json"),
    }
    file = kept / f".reading-{json_digest(own)[:16]}.json"
    if not file.exists():
        found = _read(sample, spec, asked, traits, given, name, report)
        write_atomically(file, json.dumps(asdict(found)))
    return Reading(**json.loads(file.read_bytes()))


def _way(spec: DistillSpec) -> dict[str, Any]:
    """Of a training all that decides its first step, and nothing of the dose."""
    keys = {"learning_rate", "max_row_tokens", "long_rows", "whole_turn", "lora"}
    told = spec.model_dump(mode="json", exclude={"rows", "train", "teacher"})
    return told | {"train": spec.train.model_dump(mode="json", include=keys)}


def _read(
    sample: Sample,
    spec: DistillSpec,
    asked: EvalSpec,
    traits: Sequence[str],
    given: Planned,
    name: str,
    report: Report,
) -> Reading:
    from subl.audit.predict.pull import pull
    from subl.audit.predict.slope import slope

    passes = 2 + len(traits) + sum(each.trait is None for each in sample.bank.candidates()) - 1
    done = count(0)

    def told(what: str) -> None:
        report(Progress(f"predict {name}", next(done), passes, "passes", what))

    drawn = draw(given.rows, sample.rows, name, report)
    if len(drawn.rows) < sample.batches:
        raise InputError(
            f"{given.rows[0]} has {len(drawn.rows)} rows, too few for {sample.batches} batches",
            hint="lower `batches`, or give more rows",
        )
    every = [each.text for each in questions_of(asked.measured)]
    most = min(sample.questions or len(every), len(every))
    some = [every[place * len(every) // most] for place in range(most)]
    first = slope(
        spec,
        asked,
        some,
        given.model,
        drawn.rows,
        teacher=given.teacher,
        cache=given.cache,
        batches=sample.batches,
        told=told,
    )
    law = recorded(given.rows) or Law(None, None, Template(), None, "nothing")
    pulled = pull(sample.bank, traits, law, given.model, drawn, sample.batch_rows, told)
    return Reading(
        drawn.total,
        len(drawn.rows),
        pulled,
        first.before,
        first.step,
        first.per_length,
        first.loss,
        law.temperature,
        law.grammar is not None,
    )


def size_of(rows: Sequence[Path]) -> int:
    """How many rows a data set has.

    Raises:
        InputError: one cannot be read, and is named; or it has none.
    """
    from subl.shards import read_rows

    count = sum(1 for _ in read_rows(rows))
    if not count:
        raise InputError(f"{rows[0]} has no rows", hint="give a data set that has some")
    return count
