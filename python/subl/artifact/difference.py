"""In which values two configurations differ, for a person whose artifact is refused. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

MOST_LINES = 8
MOST_CHARACTERS = 60

_ABSENT = object()


def describe(then: Mapping[str, Any], now: Mapping[str, Any], places: Mapping[str, str]) -> str:
    """What differs between two records of `spec.json`, a line each: key, old and new value.

    `places` says where the inputs of `now` are. An input whose digest one of them does not know yet
    (null) is none of the differences. Empty where the records say the same.
    """
    lines = []
    if then.get("kind") != now["kind"]:
        lines.append(_line("stage", then.get("kind", _ABSENT), now["kind"]))
    elif then.get("format_version") != now["format_version"]:
        key = f"format version of {now['kind']}"
        lines.append(_line(key, then.get("format_version", _ABSENT), now["format_version"]))
    lines += differences(then.get("spec"), now["spec"])
    old = then.get("inputs")
    old = old if isinstance(old, Mapping) else {}
    for name in sorted(old.keys() | now["inputs"].keys()):
        one, other = old.get(name, _ABSENT), now["inputs"].get(name, _ABSENT)
        if one != other and None not in (one, other):
            where = f" ({places[name]})" if name in places else ""
            lines.append(f"input {name}: {_digest(one)} then, {_digest(other)} now{where}")
    if len(lines) > MOST_LINES:
        lines[MOST_LINES - 1 :] = [f"and {len(lines) - MOST_LINES + 1} more"]
    return "".join(f"\n  {line}" for line in lines)


def differences(then: object, now: object, key: str = "") -> Iterator[str]:
    """The leaves of two JSON values that differ, as `key: OLD then, NEW now`.

    Keys are written as jq reads them. What was put into a list, or taken out of it, is one
    difference: what stands behind it is not compared with what stood in its place.
    """
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for name in [*now, *(name for name in then if name not in now)]:
            inner = f"{key}.{name}" if key else str(name)
            yield from differences(then.get(name, _ABSENT), now.get(name, _ABSENT), inner)
    elif isinstance(then, Sequence) and isinstance(now, Sequence) and not _text(then, now):
        begin = _shared(then, now)
        end = _shared(then[begin:][::-1], now[begin:][::-1])
        middles = then[begin : len(then) - end], now[begin : len(now) - end]
        for index, (old, new) in enumerate(zip_longest(*middles, fillvalue=_ABSENT), begin):
            yield from differences(old, new, f"{key}[{index}]")
    elif then is _ABSENT or now is _ABSENT or _json(then) != _json(now):
        yield _line(key, then, now)


def _text(then: object, now: object) -> bool:
    return isinstance(then, str) or isinstance(now, str)


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many elements both begin with."""
    pairs = zip(one, other, strict=False)
    return next(
        (n for n, (a, b) in enumerate(pairs) if _json(a) != _json(b)), min(len(one), len(other))
    )


def _line(key: str, then: object, now: object) -> str:
    if _ABSENT not in (then, now):  # a value of None is one that is not set
        then, now = (_ABSENT if each is None else each for each in (then, now))
    old, new = _json(then), _json(now)
    # Of long texts that begin alike, what they have in common says nothing.
    skipped = 0
    if max(len(old), len(new)) > MOST_CHARACTERS:
        skipped = max(0, _shared(old, new) - MOST_CHARACTERS // 3)
    return f"{key}: {_cut(old, skipped)} then, {_cut(new, skipped)} now"


def _cut(text: str, skipped: int) -> str:
    text = f"…{text[skipped + 1 :]}" if skipped else text
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def _json(value: object) -> str:
    return "not set" if value is _ABSENT else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _digest(digest: object) -> str:
    return "not given" if digest is _ABSENT else f"sha256 {str(digest)[:12]}"
