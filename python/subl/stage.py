"""What a stage says of itself, once, to all who run it: experiments and commands.

A stage is a file `stage.py` in its folder with a `Stage` in it. It says what the stage takes and
gives, what its configuration is, how it is made, and what that costs; nothing else knows its kinds
one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from subl.artifact import Artifact, StageSpec
from subl.cost import Room, Rows, Work

if TYPE_CHECKING:
    from subl.model.size import Architecture, ModelSize

Data = Literal["model", "rows", "cache", "scores", "images", "calibration", "figures"]
"""What an artifact holds, for those who take it: figures only audits do, and images no stage
makes."""

Given = Mapping[str, Sequence[Path]]
"""What a stage is given: {name of an input: artifacts, folders or files}."""


@dataclass(frozen=True)
class Input:
    """One thing that a stage takes; `many`: any number of them, in order."""

    takes: Data
    meaning: str
    required: bool = True
    many: bool = False


def input_names(spec: StageSpec, given: Given) -> dict[str, Path]:
    """The paths by the names that they have in an artifact's key: `model`, `rows-0`, `rows-1`."""
    return {
        name if single else f"{name}-{index}": path
        for name, paths in given.items()
        for single in [name not in ("rows", "prompts", "reference", "clean")]
        for index, path in enumerate(paths)
    }


def _nothing_to_check(spec: Any, given: Collection[str]) -> None:
    pass


def _next_to_nothing(spec: Any, size: ModelSize, rows: Rows) -> Work:
    return Work()


def _no_gpu(spec: Any, model: Architecture, rows: Rows) -> Room:
    return Room(0, 0)


@dataclass(frozen=True)
class Stage:
    """One kind of stage.

    Args:
        gives: what its artifacts hold.
        make: (spec, inputs, folder to make, what to call it, whom to tell) -> the artifact. More
            that it takes, by name, changes nothing of what is made.
        check: refuses inputs, by their names, that do not go with the spec. Raises ConfigError.
        names: the inputs by their names in the artifact's key.
        found: the folder that needs no making; None where it is to be made.
        cost: (spec, size of its model, rows that it is given) -> the work.
        room: (spec, architecture of its model, rows that it is given) -> what it needs of GPUs.
        rows: (spec, rows that it is given) -> rows that it makes.
        detail: a line about an artifact from its `result.json`.
    """

    kind: str
    gives: Data
    spec: type[StageSpec]
    inputs: Mapping[str, Input]
    make: Callable[..., Artifact]
    check: Callable[[Any, Collection[str]], None] = _nothing_to_check
    names: Callable[[Any, Given], Mapping[str, Path]] = input_names
    found: Callable[[Any], Path | None] = field(default=lambda spec: None)
    cost: Callable[[Any, ModelSize, Rows], Work] = _next_to_nothing
    room: Callable[[Any, Architecture, Rows], Room] = _no_gpu
    rows: Callable[[Any, Rows], Rows] = field(default=lambda spec, given: given)
    detail: Callable[[Mapping[str, Any]], str] = field(default=lambda result: "")
