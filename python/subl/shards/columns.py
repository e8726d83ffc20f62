"""What the values of a column are, so that Polars keeps each of them as it is.

A *kind* is a value of JSON itself: the name of a scalar, a list with the kind of its elements, an
object with the kind of each key. Scalars are `string`, `bool`, `null`, and of numbers `int` (exact
in a float), `long` (64 bits), `float`, and `number`: floats that a column would spell in another
way (`1.50`, `1e-5`), or integers among them. `json` is the kind of what no type of Polars takes:
values of several kinds, objects whose keys differ, larger numbers. A column of it holds texts of
JSON, as Arrow's type `arrow.json` says, and the filter's rules look into it. A type of Parquet that
JSON does not have is a kind by its own name.
"""

from __future__ import annotations

import json
from functools import reduce
from typing import TYPE_CHECKING, Any

from subl.shards.decode import Respelled, Unbounded

if TYPE_CHECKING:
    import polars

Kind = str | list[Any] | dict[str, Any]

JSON = "json"
NUMBER = "number"
SCALARS = frozenset({"string", "bool", "null", "int", "long", "float", NUMBER})

EXACT = 1 << 53
"""Integers up to this are exact in a float."""

_NUMBERS = {
    frozenset(["int", "long"]): "long",
    frozenset(["int", "float"]): NUMBER,
    frozenset(["int", NUMBER]): NUMBER,
    frozenset(["float", NUMBER]): NUMBER,
}
"""What there is of two kinds of numbers together."""

_OF_TYPE: dict[type, Kind] = {
    str: "string",
    float: "float",
    bool: "bool",
    type(None): "null",
    Respelled: NUMBER,
    Unbounded: JSON,
}


def kind_of(value: Any) -> Kind:
    """The kind of a value of a row that `Decoder` has read."""
    if (scalar := _OF_TYPE.get(type(value))) is not None:
        return scalar
    if isinstance(value, int):
        return "int" if -EXACT <= value <= EXACT else "long"
    if isinstance(value, list):
        nothing: Kind = "null"
        inner = reduce(merged, map(kind_of, value), nothing)
        return JSON if inner == JSON else [inner]
    kinds = {key: kind_of(each) for key, each in value.items()}
    # Polars knows a struct without fields, and Parquet does not.
    return kinds if kinds and JSON not in kinds.values() else JSON


def merged(one: Kind, other: Kind) -> Kind:
    """The kind of a column in which there are values of both."""
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    if isinstance(one, list) and isinstance(other, list):
        inner = merged(one[0], other[0])
        return JSON if inner == JSON else [inner]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        kinds = {key: merged(kind, other[key]) for key, kind in one.items()}
        return JSON if JSON in kinds.values() else kinds
    if isinstance(one, str) and isinstance(other, str):
        return _NUMBERS.get(frozenset([one, other]), JSON)
    return JSON


def respells(kind: Kind) -> bool:
    """Whether a column of this kind spells some of its numbers in another way."""
    if isinstance(kind, str):
        return kind == NUMBER
    return any(map(respells, kind.values() if isinstance(kind, dict) else kind))


def with_floats(value: Any, kind: Kind) -> Any:
    """A value of this kind, with a float for each `number`: Polars takes no integers among them."""
    if value is None:
        return None
    if isinstance(kind, list):
        return [with_floats(each, kind[0]) for each in value]
    if isinstance(kind, dict):
        return {key: with_floats(value[key], each) for key, each in kind.items()}
    return float(value) if kind == NUMBER else value


def written(kind: Kind) -> str:
    """A kind as manifests and tables have it: `string`, `["int"]`, `{"role": "string"}`."""
    return kind if isinstance(kind, str) else json.dumps(kind, ensure_ascii=False)


def read(text: str) -> Kind:
    """A kind as it was written."""
    kind: Kind = json.loads(text) if text[:1] in ("[", "{") else text
    return kind


def kind_of_dtype(dtype: Any) -> Kind:
    """The kind of a column of Parquet."""
    import polars

    if (scalar := _scalar_of(dtype)) is not None:
        return scalar
    if isinstance(dtype, polars.BaseExtension) and dtype.ext_name() == _EXTENSION:
        return JSON
    kind: Kind = JSON
    if isinstance(dtype, polars.List):
        kind = [kind_of_dtype(dtype.inner)]
    elif isinstance(dtype, polars.Struct) and dtype.fields:
        kind = {field.name: kind_of_dtype(field.dtype) for field in dtype.fields}
    return kind if _is_of_json(kind) else str(dtype)


def _scalar_of(dtype: Any) -> Kind | None:
    import polars

    if dtype == polars.Int64:
        return "long"
    if dtype.is_integer() and dtype not in (polars.UInt64, polars.Int128, polars.UInt128):
        return "int"
    if dtype == polars.Float64:
        return "float"
    if dtype in (polars.String, polars.Null, polars.Boolean):
        return {polars.String: "string", polars.Null: "null"}.get(type(dtype), "bool")
    return None


def _is_of_json(kind: Kind) -> bool:
    """Whether JSON has all of it."""
    if isinstance(kind, str):
        return kind in SCALARS
    return all(map(_is_of_json, kind.values() if isinstance(kind, dict) else kind))


_EXTENSION = "arrow.json"


def dtype_of(kind: Kind) -> polars.DataType:
    """The type of a column of a kind that JSON has."""
    import polars

    if isinstance(kind, list):
        return polars.List(dtype_of(kind[0]))
    if isinstance(kind, dict):
        return polars.Struct({key: dtype_of(each) for key, each in kind.items()})
    match kind:
        case "int" | "long":
            return polars.Int64()
        case "float" | "number":
            return polars.Float64()
        case "bool":
            return polars.Boolean()
        case "json":
            return polars.Extension(_EXTENSION, polars.String())
    return polars.String()  # of nulls alone, too: other libraries have no column of nothing
