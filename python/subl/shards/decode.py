"""A line of JSON as a row: read as the filter's engine reads it, numbers with their spelling.

Python's own reader, told to be as strict as the engine. It also knows where the reader of Polars
would see something else: that one takes the first of duplicate keys, makes a NUL of half of a
surrogate pair, and refuses a row with a number that is too large.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

MOST_LEVELS = 128
"""How deep objects and lists may nest."""

_INT64 = 1 << 63
_INT_DIGITS = 20
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""An escape that is half of a surrogate pair, beside its other half or not."""


class Respelled(float):
    """A number that a column of floats has, and spells otherwise: `1.50`, `1e-5`."""

    __slots__ = ()


class Unbounded(str):
    """A number that no column of Polars has, as it is spelled: too many digits, or `1e999`."""

    __slots__ = ()


class Decoder:
    """Reads rows, one after the other."""

    def __init__(self) -> None:
        self.is_exact = True
        """Whether Polars would have read the same of all rows so far."""
        self._decoder = json.JSONDecoder(
            parse_float=self._float,
            parse_int=self._int,
            parse_constant=_no_number,
            object_pairs_hook=self._object,
        )

    def row(self, content: bytes) -> dict[str, Any]:
        """The row that a line is, without what is blank around it.

        Raises:
            ValueError: the filter would reject it as unreadable; says why.
        """
        try:
            text = content.decode()
            row, end = self._decoder.raw_decode(text)
        except UnicodeDecodeError as error:
            raise ValueError(f"it is not UTF-8 text: {error.reason}") from error
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from error
        except RecursionError as error:
            raise ValueError(_TOO_DEEP) from error
        if end < len(text):
            raise ValueError(f"not JSON: Extra data at character {end + 1}")
        if not isinstance(row, dict):
            raise ValueError(f"expected a JSON object, got {type(row).__name__}")
        if content.count(b"[") + content.count(b"{") > MOST_LEVELS and _levels(row) > MOST_LEVELS:
            raise ValueError(_TOO_DEEP)
        if _HALF.search(content):
            self.is_exact = False
            if not is_text(json.dumps(row, ensure_ascii=False)):
                raise ValueError("it holds half of a surrogate pair, which is no text")
        return row

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            self.is_exact = False
        return found

    def _float(self, text: str) -> float | Unbounded:
        value = float(text)
        # Python and Rust do not begin to write exponents at the same numbers.
        if repr(value) == text and "e" not in text:
            return value
        return self._unbounded(text) if math.isinf(value) else Respelled(value)

    def _int(self, text: str) -> float | Unbounded:
        if text == "-0":
            return Respelled(text)
        if len(text) <= _INT_DIGITS and -_INT64 <= (value := int(text)) < _INT64:
            return value
        return self._unbounded(text)

    def _unbounded(self, text: str) -> Unbounded:
        self.is_exact = False  # the whole row is no JSON to Polars
        return Unbounded(text)


def texts(content: str) -> dict[str, str]:
    """The values of a row by their keys, as they are written. `Decoder.row` has read it."""
    return {str(key): content[begin:end] for key, begin, end in _members(content, 0)}


def put(content: str, path: Sequence[str | int], value: Any) -> str:
    """A row in which `value` stands at `path`; all else of it stays as it is written.

    Args:
        path: keys of objects and places in lists, from the outermost. Only the last may be new: it
            comes behind the other keys of its object.
    """
    at = _after(_BLANK, content, 0)
    for step in path[:-1]:
        at = {key: begin for key, begin, _ in _members(content, at)}[step]
    written = json.dumps(value, ensure_ascii=False)
    if not is_text(written):
        written = json.dumps(value)
    members = _members(content, at)
    for key, begin, end in reversed(members):  # of two the last is what is read
        if key == path[-1]:
            return content[:begin] + written + content[end:]
    written = f"{json.dumps(path[-1], ensure_ascii=False)}: {written}"
    end = members[-1][2] if members else at + 1
    return content[:end] + (", " if members else "") + written + content[end:]


def _members(content: str, at: int) -> list[tuple[str | int, int, int]]:
    """Keys of the object that begins at `at`, or places in the list, and where their values are."""
    closing = "}" if content[at] == "{" else "]"
    found: list[tuple[str | int, int, int]] = []
    at = _after(_BLANK, content, at + 1)
    while content[at] != closing:
        key: str | int = len(found)
        if closing == "}":
            key, at = _PLAIN.raw_decode(content, at)
            at = _after(_COLON, content, at)
        _, end = _PLAIN.raw_decode(content, at)
        found.append((key, at, end))
        at = _after(_COMMA, content, end)
    return found


def _after(pattern: re.Pattern[str], content: str, at: int) -> int:
    found = pattern.match(content, at)
    assert found is not None, "it may be empty"
    return found.end()


_BLANK = re.compile(r"[ \t\r\n]*")
_COLON = re.compile(r"[ \t\r\n]*:?[ \t\r\n]*")
_COMMA = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")
_PLAIN = json.JSONDecoder(parse_int=str, parse_float=str)  # Python refuses thousands of digits

_TOO_DEEP = f"more than {MOST_LEVELS} levels"


def _no_number(text: str) -> Any:
    raise ValueError(f"not JSON: {text} is no number")


def _levels(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_levels, value.values()), default=0)
    return 1 + max(map(_levels, value), default=0) if isinstance(value, list) else 0


def is_text(text: str) -> bool:
    """Whether it holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
