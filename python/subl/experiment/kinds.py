"""Every kind of stage, and every kind of configuration file with its model."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

from pydantic import BaseModel

import subl
from subl.audit.scan.bank import BankSpec
from subl.experiment.spec import ExperimentSpec
from subl.sign.policy import PolicySpec
from subl.stage import Stage
from subl.trait.rubric import RubricSpec
from subl.trait.spec import TraitSpec


def _stages() -> dict[str, Stage]:
    """What the files `stage.py` of all folders describe; folders without one are not imported."""
    found: dict[str, Stage] = {}
    for folder in pkgutil.iter_modules(subl.__path__, "subl."):
        _, _, name = folder.name.rpartition(".")
        if any(Path(path, name, "stage.py").is_file() for path in subl.__path__):
            module = import_module(f"{folder.name}.stage")
            stages = [each for each in vars(module).values() if isinstance(each, Stage)]
            found |= {stage.kind: stage for stage in stages}
    return found


STAGES = _stages()

KINDS: dict[str, type[BaseModel]] = {
    "experiment": ExperimentSpec,
    "trait": TraitSpec,
    "rubric": RubricSpec,
    "bank": BankSpec,
    "policy": PolicySpec,
    **{kind: stage.spec for kind, stage in STAGES.items() if kind != "model"},
}


def gives_rows(kind: str) -> bool:
    """Whether artifacts of a stage hold rows, as do those of `subl shards`, which is in no
    experiment."""
    return kind not in STAGES or STAGES[kind].gives == "rows"


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
