"""TOML files to validated models, and errors that name the key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from subl.errors import ConfigError, InputError

Spec = TypeVar("Spec", bound=BaseModel)

_PYDANTIC = re.compile(r"^[A-Z]\w+ should\b")
"""How its messages begin: Input should be greater than 0."""


JOBS = "slurm"
"""The table of a file that says where its work runs, which decides nothing of what is made:
`subl.slurm` reads it."""


def with_jobs(schema: dict[str, Any]) -> None:
    """Let the files of a model, for which this is its `json_schema_extra`, have that table."""
    said = "what a job asks of a cluster: the options of `subl slurm submit`, by their names"
    if "properties" in schema:  # else it is one of several, each of which says so itself
        schema["properties"][JOBS] = {"type": "object", "description": said}


def load_toml(path: Path | str, model: type[Spec]) -> Spec:
    """Read `path` as a `model`.

    Raises:
        InputError: the file cannot be read.
        ConfigError: it is not TOML, or says something the model does not know; names the keys.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")  # editors of Windows write a mark before it
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        if path.is_dir():
            reason = "it is a folder, and a TOML file is meant"
        schema = f"; subl config schema {kind} lists its keys" if (kind := kind_of(model)) else ""
        raise InputError(
            f"cannot read {path}: {reason}",
            hint=f"the command's --help shows an example of such a file{schema}",
        ) from error
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    if model.model_config.get("json_schema_extra") is with_jobs:
        value.pop(JOBS, None)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ConfigError(
            f"{path}: {_describe(error, model, value)}",
            hint=f"subl config schema {kind_of(model)} lists every key" if kind_of(model) else None,
        ) from error


def kind_of(model: type[BaseModel]) -> str | None:
    """What `subl config schema` calls this model."""
    name = model.__name__.removesuffix("Spec").lower()
    return name if model.__name__.endswith("Spec") else None


def _describe(error: ValidationError, model: type[BaseModel], value: object) -> str:
    """pydantic's findings, one a line where there are several: key, problem, what was given."""
    found = []
    errors = error.errors(include_url=False)
    for each in errors:
        if any(other["loc"][: len(each["loc"])] == each["loc"] != other["loc"] for other in errors):
            continue  # what a part of it got wrong is said at that part
        key, where = _place(each["loc"], value, missing=each["type"] == "missing")
        context = each.get("ctx", {})
        match each["type"]:
            case "extra_forbidden":
                known = _keys(model.model_json_schema())
                near = _nearest(str(each["loc"][-1]), known)
                found.append(f"unknown key `{key}`{where}{near}")
            case "missing":
                found.append(f"missing key `{key}`{where}")
            case "union_tag_not_found":
                tag = ".".join(filter(None, [key, context["discriminator"].strip("'")]))
                found.append(f"missing key `{tag}`{where}")
            case "union_tag_invalid":
                expected = str(context["expected_tags"]).replace("'", "").split(", ")
                near = _nearest(str(context["tag"]), expected)
                one_of = ", ".join(expected)
                tag = f"unknown {context['discriminator'].strip(chr(39))} `{context['tag']}`"
                found.append(f"{tag}{where}{near} (known: {one_of})")
            case "too_short":
                least = context["min_length"]
                need = "must not be empty" if least == 1 else f"needs at least {least} elements"
                found.append(f"`{key}`{where} {need}")
            case _:
                message = each["msg"].removeprefix("Value error, ")
                message = _PYDANTIC.sub("must", message)
                given = "" if isinstance(each["input"], dict) else f" (got {each['input']!r:.60})"
                found.append(f"`{key}`{where}: {message}{given}" if key else f"{message}{where}")
    return found[0] if len(found) == 1 else "\n  ".join([f"{len(found)} mistakes:", *found])


def _place(location: Sequence[int | str], value: object, *, missing: bool) -> tuple[str, str]:
    """The dotted key at a location of pydantic's, and in which element of which list it is.

    Elements are counted from 1 and called by their name, if they have one.
    """
    keys: list[str] = []
    where = ""
    told = False  # which of several models `value` is, by its `kind`
    for position, part in enumerate(location, 1):
        last = position == len(location)
        if isinstance(part, int):
            element = value[part] if isinstance(value, list | tuple) and part < len(value) else None
            name = element.get("name") if isinstance(element, dict) else None
            called = f" `{name}`" if isinstance(name, str) else ""
            where = f" in {'.'.join(keys)} {part + 1}{called}{where}"
            keys, value, told = [], element, False
        elif isinstance(value, dict) and part == value.get("kind") and not (told or last):
            told = True
        elif isinstance(value, dict) and part not in value and not (missing and last):
            continue  # pydantic's name for one of several models
        else:
            keys.append(part)
            value, told = value.get(part) if isinstance(value, dict) else None, False
    return ".".join(keys), where


def _keys(schema: object) -> set[str]:
    """All keys that a JSON Schema knows, at any depth."""
    if isinstance(schema, list):
        return set().union(*map(_keys, schema))
    if not isinstance(schema, dict):
        return set()
    own = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    return own.union(*map(_keys, schema.values()))


def _nearest(name: str, known: Collection[str]) -> str:
    if name in known:
        return "; it belongs in another table"
    return meant(name, known)


def meant(name: str, known: Iterable[str]) -> str:
    """What may have been meant by an unknown name, for the end of a sentence; or nothing."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), 1)
    return f"; did you mean `{near[0]}`?" if near else ""


def updated(spec: Spec, **changes: object) -> Spec:
    """`spec` with some values replaced, validated as if they had stood in the file."""
    return validated(type(spec), {**spec.model_dump(), **changes})


def validated(model: type[Spec], value: object) -> Spec:
    """`value` as a `model`, with the errors of a file."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ConfigError(_describe(error, model, value)) from error
