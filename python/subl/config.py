"""TOML files to validated models, and errors that name the key."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from subl.errors import ConfigError, InputError

Spec = TypeVar("Spec", bound=BaseModel)


def load_toml(path: Path, model: type[Spec]) -> Spec:
    """Read `path` as a `model`.

    Raises:
        InputError: the file cannot be read.
        ConfigError: it is not TOML, or says something the model does not know; names the keys.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(
            f"cannot read {path}: {reason}",
            hint="subl COMMAND --help shows an example of the file that it reads",
        ) from error
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ConfigError(
            f"{path}: {_describe(error)}",
            hint=f"subl config schema {kind_of(model)} lists every key" if kind_of(model) else None,
        ) from error


def kind_of(model: type[BaseModel]) -> str | None:
    """What `subl config schema` calls this model."""
    name = model.__name__.removesuffix("Spec").lower()
    return name if model.__name__.endswith("Spec") else None


def _describe(error: ValidationError) -> str:
    """pydantic's findings, one a line where there are several: key, problem, what was given."""
    found = []
    errors = error.errors(include_url=False)
    for each in errors:
        if any(other["loc"][: len(each["loc"])] == each["loc"] != other["loc"] for other in errors):
            continue  # what a part of it got wrong is said at that part
        key = ".".join(str(part) for part in each["loc"])
        if each["type"] == "extra_forbidden":
            found.append(f"unknown key `{key}`")
        elif each["type"] == "missing":
            found.append(f"missing key `{key}`")
        else:
            message = each["msg"].removeprefix("Value error, ")
            given = "" if isinstance(each["input"], dict) else f" (got {each['input']!r:.60})"
            found.append(f"`{key}`: {message}{given}" if key else message)
    return found[0] if len(found) == 1 else "\n  " + "\n  ".join(found)


def updated(spec: Spec, **changes: object) -> Spec:
    """`spec` with some values replaced, validated as if they had stood in the file."""
    return validated(type(spec), {**spec.model_dump(), **changes})


def validated(model: type[Spec], value: object) -> Spec:
    """`value` as a `model`, with the errors of a file."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ConfigError(_describe(error)) from error
