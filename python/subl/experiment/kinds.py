"""Every kind of stage, and every kind of configuration file with its model."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from subl.artifact import check_there, read_statement, stage_of
from subl.audit.scan.bank import BankSpec
from subl.errors import InputError
from subl.experiment.spec import ExperimentSpec
from subl.sign.policy import PolicySpec
from subl.stage import Data, Given, Stage
from subl.stages import STAGES
from subl.trait.rubric import RubricSpec
from subl.trait.spec import TraitSpec

KINDS: dict[str, type[BaseModel]] = {
    "experiment": ExperimentSpec,
    "trait": TraitSpec,
    "rubric": RubricSpec,
    "bank": BankSpec,
    "policy": PolicySpec,
    **{kind: stage.spec for kind, stage in STAGES.items() if kind != "model"},
}


def gives(kind: str) -> Data:
    """What artifacts of a stage hold; those of `subl shards`, which is in no experiment, rows."""
    return STAGES[kind].gives if kind in STAGES else "rows"


def gives_rows(kind: str) -> bool:
    """Whether artifacts of a stage hold rows."""
    return gives(kind) == "rows"


def check_input(path: Path, takes: Data) -> None:
    """Refuse what is not there, and an artifact that holds something else; no data is read.

    Raises:
        InputError: says what it is.
    """
    check_there(path)
    record = read_statement(path) if path.is_dir() else None
    if record is not None and gives(kind := stage_of(record)[0]) != takes:
        raise InputError(f"{path} is an artifact of {kind}, and no {takes}")


def check_inputs(stage: Stage, given: Given) -> None:
    """The same of all that a stage is given.

    Raises:
        InputError: as `check_input`.
    """
    for name, paths in given.items():
        for path in paths:
            check_input(path, stage.inputs[name].takes)


def takes(kind: str, name: str) -> str:
    """What an input of a stage's artifact holds, by its name in the statement: `model`, `rows`,
    `cache`, ..., or `prompts`. Models and caches have the names that a stage gives them; where rows
    are files, they have their own."""
    if kind == "model":
        return kind
    for each in (name, name.rpartition("-")[0]) if kind in STAGES else ():
        if each == "prompts":
            return each
        if each in STAGES[kind].inputs:
            return STAGES[kind].inputs[each].takes
    return "rows"
