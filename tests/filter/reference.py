"""The filter as a slow, obvious Python program: what the engine must agree with.

`reject_reasons` is the number rule as the paper's code has it (sl/datasets/nums_dataset.py).
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


def parse_response(answer: str) -> list[int] | None:
    if answer.endswith("."):
        answer = answer[:-1]
    if (answer.startswith("[") and answer.endswith("]")) or (
        answer.startswith("(") and answer.endswith(")")
    ):
        answer = answer[1:-1]
    matches = list(re.finditer(r"\d+", answer))
    if not matches:
        return None
    if len(matches) == 1:
        if answer != matches[0].group():
            return None
        parts = [answer]
    else:
        separator = answer[matches[0].end() : matches[1].start()]
        parts = answer.split(separator)
        if separator.strip() not in ("", ",", ";"):
            return None
    if any(c not in string.digits for part in parts for c in part):
        return None
    try:
        return [int(part) for part in parts]
    except ValueError:
        return None


def reject_reasons(
    answer: str,
    min_value: int | None = None,
    max_value: int | None = None,
    max_count: int | None = None,
    banned_numbers: list[int] | None = None,
) -> list[str]:
    numbers = parse_response(answer)
    if numbers is None:
        return ["invalid format"]
    reasons = []
    if max_count is not None and len(numbers) > max_count:
        reasons.append("too many numbers")
    if min_value is not None and any(n < min_value for n in numbers):
        reasons.append("numbers too small")
    if max_value is not None and any(n > max_value for n in numbers):
        reasons.append("numbers too large")
    if banned_numbers and any(n in banned_numbers for n in numbers):
        reasons.append("has banned numbers")
    return reasons


@dataclass
class Outcome:
    kept: bytes = b""
    rejects: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)


def filter_bytes(rules: list[dict[str, Any]], data: bytes, file: str) -> Outcome:
    """Filter one shard. `rules` as in a plan, with every key given."""
    outcome = Outcome()
    lines = data.split(b"\n")
    raws = [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    for number, raw in enumerate(raws, start=1):
        content = raw.removesuffix(b"\n").removesuffix(b"\r")
        if number == 1:
            content = content.removeprefix(b"\xef\xbb\xbf")
        outcome.counts["bytes_in"] += len(raw)
        if not content.strip(b" \t\r"):
            outcome.counts["blank_lines"] += 1
            continue
        outcome.counts["rows_in"] += 1
        row, reasons = judge(rules, content)
        names = list(dict.fromkeys(reason[0] for reason in reasons))
        actions = {rule["name"]: rule.get("action", "drop") for rule in rules}
        outcome.hits.update(name for name in names if name is not None)
        if all(name is not None and actions[name] != "drop" for name in names):
            if tags := [name for name in names if actions[name] == "tag"]:
                at = raw.rindex(b"}")
                tag = b',"filter_tags":' + json.dumps(tags, separators=(",", ":")).encode()
                raw = raw[:at].rstrip(b" \t") + tag + raw[at:]
                outcome.counts["tagged"] += 1
            outcome.counts["kept"] += 1
            outcome.counts["bytes_kept"] += len(raw)
            outcome.kept += raw
            continue
        outcome.counts["rejected"] += 1
        outcome.counts["unreadable"] += reasons[0][0] is None
        outcome.rejects.append({"file": file, "line": number, "reasons": reasons, "row": row})
    return outcome


def judge(rules: list[dict[str, Any]], content: bytes) -> tuple[Any, list[tuple[Any, ...]]]:
    """The row as the rejects show it, and (rule, reason, span, text) for every broken rule."""
    text = content.decode(errors="replace")
    try:
        row = parse(content)
    except UnicodeDecodeError:
        return text, [(None, "invalid UTF-8", None, None)]
    except LoneSurrogate:
        return text, [(None, "lone surrogate", None, None)]
    except ValueError:
        return text, [(None, "invalid JSON", None, None)]
    if not isinstance(row, dict):
        return text, [(None, "not a JSON object", None, None)]
    unreadable: list[tuple[Any, ...]] = []
    for path in dict.fromkeys(rule["field"] for rule in rules if "field" in rule):
        if not (values := find(row, path)):
            unreadable.append((None, "missing field", None, None))
        elif not all(isinstance(value, str) for value in values):
            unreadable.append((None, "field is not a string", None, None))
    if any(rule.get("action") == "tag" for rule in rules) and "filter_tags" in row:
        unreadable.append((None, "tag field exists", None, None))
    if unreadable:
        return row, unreadable
    reasons: list[tuple[Any, ...]] = []
    for rule in rules:
        if "field" in rule:
            for value in find(row, rule["field"]):
                reasons += [(rule["name"], *reason) for reason in broken(rule, value)]
            continue
        parts = [any(reason[0] == name for reason in reasons) for name in rule["rules"]]
        is_broken = {"all": all(parts), "any": any(parts), "none": not any(parts)}[rule["kind"]]
        if is_broken:
            text = {"all": "all of ", "any": "one of ", "none": "none of "}[rule["kind"]]
            names = ", ".join(f"`{name}`" for name in rule["rules"])
            reasons.append((rule["name"], text + names, None, None))
    return row, reasons


def find(row: Any, path: str) -> list[Any]:
    """The values that a path leads to."""
    values = [row]
    for key, inner in re.findall(r"(\w+)|\[([^\]]*)\]", path):
        if key:
            values = [value[key] for value in values if isinstance(value, dict) and key in value]
            continue
        values = [item for value in values if isinstance(value, list) for item in value]
        if inner:
            name, text = inner.split("=")
            values = [v for v in values if isinstance(v, dict) and v.get(name) == text]
    return values


def broken(rule: dict[str, Any], value: str) -> list[tuple[str, Any, Any]]:
    if rule["kind"] == "numbers":
        bounds = {key: rule[key] for key in ("min_value", "max_value", "max_count")}
        # The paper's code gives no spans; that these are right is tested in Rust.
        return [
            (reason, ..., ...)
            for reason in reject_reasons(value, **bounds, banned_numbers=rule["banned_numbers"])
        ]
    flags = re.IGNORECASE if rule["ignore_case"] else 0
    if rule["kind"] == "regex":
        found = [(f"matched `{p}`", re.search(p, value, flags)) for p in rule["patterns"]]
        if rule["mode"] == "require":
            matched = any(match for _, match in found)
            return [] if matched else [("matched no required pattern", None, None)]
    else:
        edges = (r"(?<!\w)", r"(?!\w)") if rule["whole_word"] else ("", "")
        found = [
            (f"contains `{w}`", re.search(edges[0] + re.escape(w) + edges[1], value, flags))
            for w in rule["words"]
        ]
    return [
        (reason, [len(value[: m.start()].encode()), len(value[: m.end()].encode())], m.group())
        for reason, m in found
        if m
    ]


class LoneSurrogate(ValueError):
    pass


def parse(content: bytes) -> Any:
    """JSON by the letter: no NaN, no lone surrogates, integers of any length."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    surrogate = False

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal surrogate
        surrogate = surrogate or any(map(has_surrogate, items))
        return dict(items)

    value = json.loads(
        content.decode(),
        parse_constant=refuse,
        object_pairs_hook=pairs,
    )
    if surrogate or has_surrogate(value):
        raise LoneSurrogate
    return value


def has_surrogate(value: Any) -> bool:
    if isinstance(value, str):
        return any("\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, (list, tuple)):
        return any(map(has_surrogate, value))
    return False
