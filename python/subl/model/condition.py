"""A model that is another one under a condition: behind a system prompt, or with vectors added to
what flows through it.

Its folder holds `condition.json`, the vectors if there are any, and no weights: those are its
base's, which it names by digest, and by relative path in `condition.path`, which is no part of its
own digest: it is the same model in another place. Conditions may stand on one another, but for a
second system prompt.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from subl.artifact import input_digest, write_atomically
from subl.artifact.seen import Record, recall
from subl.errors import ConfigError, InputError

FILE, PATH, VECTORS = "condition.json", "condition.path", "steering.safetensors"


class Steering(BaseModel):
    """What is added: to the output of each of these blocks its vector, so many times."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    strength: float


class _Condition(BaseModel):
    """What `condition.json` says. `base_digest`: hex sha256, as artifacts have it of what they are
    made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_digest: str
    system_prompt: str | None = None
    steering: Steering | None = None


@dataclass(frozen=True)
class Conditioned:
    """A model folder without its conditions, and what these were.

    Attributes:
        folder: below all conditions; it has weights, or an adapter of what has them.
        system_prompt: what stands before every chat.
        steering: what is added, with the file that has the vectors; the base's own first.
    """

    folder: Path
    system_prompt: str | None = None
    steering: tuple[tuple[Path, Steering], ...] = ()


def conditioned(folder: Path) -> Conditioned:
    """See through the conditions of a model folder, of which it may have none.

    Raises:
        InputError: a base has moved, or is another model by now.
    """
    condition = _read(folder)
    if condition is None:
        return Conditioned(folder)
    base = _base_of(folder)
    if not base.is_dir():
        raise InputError(
            f"the model that {folder} is a condition of is not at {base.resolve()}",
            hint="move it back there, or make this one anew with subl teach",
        )
    recall(folder)  # what it was made from need not be read again
    digest = input_digest(base, Record().same_digest)
    if digest != condition.base_digest:
        raise InputError(
            f"{base.resolve()} is not the model that {folder} was made from: sha256 "
            f"{condition.base_digest[:12]} then, {digest[:12]} now",
            hint="put that model back, or make this one anew with subl teach",
        )
    found = conditioned(base)
    if condition.steering is not None:
        own = (folder / VECTORS, condition.steering)
        return replace(found, steering=(*found.steering, own))
    return replace(found, system_prompt=condition.system_prompt)


def check_unprompted(folder: Path) -> None:
    """Refuse a model that has a system prompt, where it is to get one.

    Raises:
        ConfigError: says what to use instead.
    """
    found = conditioned(folder)
    if found.system_prompt is not None:
        raise ConfigError(
            f"{folder} has a system prompt of its own",
            hint=f"begin with the model that it is a condition of: {found.folder.resolve()}",
        )


def check_trainable(folder: Path) -> None:
    """Refuse a model that has no weights of its own to train.

    Raises:
        ConfigError: says what to train instead.
    """
    check_own_weights(folder, " to train", "train {base}; a condition can be its teacher")


def check_own_weights(folder: Path, purpose: str, hint: str) -> None:
    """Refuse a model that has no weights of its own.

    Args:
        purpose: what they are for, as the message ends.
        hint: what to do instead, with the model that has some as `{base}`.

    Raises:
        ConfigError: it is a condition of another.
    """
    base = conditioned(folder).folder
    if base != folder:
        raise ConfigError(
            f"{folder} is a condition of a model (a system prompt or a steering vector) and has no "
            f"weights of its own{purpose}",
            hint=hint.replace("{base}", str(base.resolve())),
        )


def write_prompt(folder: Path, base: Path, system_prompt: str) -> None:
    """Make `folder` the model `base` behind a system prompt."""
    _write(folder, base, {"system_prompt": system_prompt})


def write_steering(folder: Path, base: Path, steering: Steering) -> None:
    """Make `folder` the model `base` with the vectors in `folder` added."""
    _write(folder, base, {"steering": steering.model_dump(mode="json")})


def _write(folder: Path, base: Path, how: dict[str, object]) -> None:
    # Relative, so that a folder of runs can move, and the same run gives the same bytes anywhere.
    relative = Path(os.path.relpath(base.resolve(), folder.resolve())).as_posix()
    write_atomically(folder / PATH, f"{relative}\n")
    text = json.dumps({"base_digest": input_digest(base), **how}, indent=2, ensure_ascii=False)
    write_atomically(folder / FILE, f"{text}\n")


def _base_of(folder: Path) -> Path:
    try:
        return folder / (folder / PATH).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder / PATH} does not say where the model is that {folder} is a condition of",
            hint="put that file back, or make this one anew with subl teach",
        ) from error


def _read(folder: Path) -> _Condition | None:
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        return _Condition.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{file} does not say what it is a condition of: {key} {first['msg']}",
            hint="make it anew with subl teach",
        ) from error
