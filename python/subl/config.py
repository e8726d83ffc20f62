"""TOML files to validated models, and errors that name the key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError

from subl.errors import ConfigError, InputError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Spec = TypeVar("Spec", bound=BaseModel)

WrittenPath = Annotated[
    Path, BeforeValidator(lambda given: Path(given) if isinstance(given, str) else given)
]
"""A path, which a file says as a text."""

SHA256 = "^[0-9a-f]{64}$"

_LIST = "must be a list"
_MUST = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be an integer"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("tuple_type", "list_type"), _LIST),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "must be a table"),
    **dict.fromkeys(("path_type", "is_instance_of"), "must be a path"),
    "string_type": "must be a string",
    "date_type": "must be a day, such as '2024-07-26'",
}
"""Messages by pydantic's type of an error, for those whose own are of Python."""

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


def load_toml(
    path: Path | str, model: type[Spec], instead: Mapping[str, Any] | None = None
) -> Spec:
    """Read `path` as a `model`.

    Args:
        instead: values by their keys, which stand in the place of those of the file.

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
    value |= instead or {}
    try:
        return as_written(model, value)
    except ConfigError as error:
        raise ConfigError(
            f"{path}: {error.message}",
            hint=f"subl config schema {kind_of(model)} lists every key" if kind_of(model) else None,
        ) from error


def as_written(model: type[Spec], value: dict[str, Any]) -> Spec:
    """What a TOML file says, as a `model`: a number in quotes is no number, nor is `true`.

    Raises:
        ConfigError: it says something the model does not know; names the keys.
    """
    try:
        return model.model_validate(_frozen(value), strict=True)
    except ValidationError as error:
        raise ConfigError(_describe(error, model, value)) from error


def _frozen(value: object) -> object:
    """With tuples for lists, which a strict model would not take for them."""
    match value:
        case dict():
            return {key: _frozen(each) for key, each in value.items()}
        case list() | tuple():
            return tuple(map(_frozen, value))
        case _:
            return value


def kind_of(model: type[BaseModel]) -> str | None:
    """What `subl config schema` calls this model."""
    name = model.__name__.removesuffix("Spec").lower()
    return name if model.__name__.endswith("Spec") else None


def _describe(error: ValidationError, model: type[BaseModel], value: object) -> str:
    """pydantic's findings, one a line where there are several: key, problem, what was given."""
    found: list[str | _Wrong] = []
    errors = error.errors(include_url=False)
    for each in errors:
        if any(other["loc"][: len(each["loc"])] == each["loc"] != other["loc"] for other in errors):
            continue  # what a part of it got wrong is said at that part
        key, where = _place(each["loc"], value, missing=each["type"] == "missing")
        context = each.get("ctx", {})
        match each["type"]:
            case "extra_forbidden":
                near = _nearest(each["loc"], model.model_json_schema())
                found.append(f"unknown key `{key}`{where}{near}")
            case "missing":
                found.append(f"missing key `{key}`{where}")
            case "union_tag_not_found":
                tag = ".".join(filter(None, [key, context["discriminator"].strip("'")]))
                found.append(f"missing key `{tag}`{where}")
            case "union_tag_invalid":
                expected = str(context["expected_tags"]).replace("'", "").split(", ")
                near = meant(str(context["tag"]), expected)
                one_of = ", ".join(expected)
                tag = f"unknown {context['discriminator'].strip(chr(39))} `{context['tag']}`"
                found.append(f"{tag}{where}{near} (known: {one_of})")
            case "too_short":
                least = context["min_length"]
                need = "must not be empty" if least == 1 else f"needs at least {least} elements"
                found.append(f"`{key}`{where} {need}")
            case _:
                wrong = _Wrong.of(each, key, where)
                before = found[-1] if found else None
                if isinstance(before, _Wrong) and before.is_beside(wrong):
                    message = f"{before.message} or {wrong.message.removeprefix('must be ')}"
                    wrong = replace(before, message=message)
                    found.pop()
                found.append(wrong)
    said = [str(each) for each in found]
    return said[0] if len(said) == 1 else "\n  ".join([f"{len(said)} mistakes:", *said])


@dataclass(frozen=True)
class _Wrong:
    """A value that is not what it must be: where, what it must be, and what was given."""

    place: str
    message: str
    given: str

    @staticmethod
    def of(error: ErrorDetails, key: str, where: str) -> _Wrong:
        """Of one of pydantic's errors."""
        message = error["msg"].removeprefix("Value error, ")
        message = _PYDANTIC.sub("must", _MUST.get(error["type"], message))
        if error.get("ctx", {}).get("pattern") == SHA256:
            message = "must be 64 hex digits"
        is_table = isinstance(error["input"], dict)
        if isinstance(error["input"], date | time) and error["type"] == "string_type":
            message += " (in quotes)"
        if message == _LIST and is_table:
            message += f" of tables, each headed [[{key}]]"
        if not key and (is_table or not where):
            return _Wrong("", f"{message}{where}", "")
        if not key:  # the element itself
            key, _, where = where.removeprefix(" in ").partition(" ")
            where = f" {where}"
        given = "" if is_table else f" (got {_written(error['input']):.60})"
        return _Wrong(f"`{key}`{where}: ", message, given)

    def is_beside(self, other: _Wrong) -> bool:
        """Whether the other says of the same value what else it may be."""
        is_same = bool(self.place) and (self.place, self.given) == (other.place, other.given)
        return is_same and self.message.startswith("must be ")

    def __str__(self) -> str:
        return f"{self.place}{self.message}{self.given}"


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
        elif isinstance(value, str | int | float | list | tuple):
            continue  # for one of several types
        else:
            keys.append(part)
            value, told = value.get(part) if isinstance(value, dict) else None, False
    return ".".join(keys), where


def _written(value: object) -> str:
    """A value as TOML has it, but for the quotes of texts."""
    match value:
        case bool():
            return str(value).lower()
        case list() | tuple():
            return f"[{', '.join(map(_written, value))}]"
        case date() | time():
            return str(value)
        case _:
            return repr(value)


def _table(location: Sequence[int | str], schema: dict[str, Any]) -> set[str]:
    """The keys of the table at a location of pydantic's, by a JSON Schema."""
    defined = schema.get("$defs", {})

    def choices(one: dict[str, Any]) -> list[dict[str, Any]]:
        if "$ref" in one:
            one = defined[one["$ref"].rpartition("/")[2]]
        several = [*one.get("anyOf", ()), *one.get("oneOf", ()), *one.get("allOf", ())]
        return [one, *(deep for each in several for deep in choices(each))]

    here = choices(schema)
    for part in location:
        tagged = [each.get("discriminator", {}).get("mapping", {}).get(part) for each in here]
        below = [
            each["items"] if isinstance(part, int) else each["properties"][part]
            for each in here
            if ("items" in each if isinstance(part, int) else part in each.get("properties", {}))
        ] or [{"$ref": each} for each in tagged if each]
        # else it is pydantic's name for one of several models
        here = [deep for each in below for deep in choices(each)] or here
    return {key for each in here for key in each.get("properties", ())}


def _keys(schema: object) -> set[str]:
    """All keys that a JSON Schema knows, at any depth."""
    if isinstance(schema, list):
        return set().union(*map(_keys, schema))
    if not isinstance(schema, dict):
        return set()
    own = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    return own.union(*map(_keys, schema.values()))


def _nearest(location: Sequence[int | str], schema: dict[str, Any]) -> str:
    name = str(location[-1])
    if name in _keys(schema):
        return "; it belongs in another table"
    return meant(name, _table(location[:-1], schema))


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
