"""The filter as a slow, obvious Python program: what the engine must agree with.

`reject_reasons` is the number rule as the paper's code has it (sl/datasets/nums_dataset.py).
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any
from unicodedata import category, combining, normalize

import regex


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
    """The values that a path leads to; a null is none."""
    values = [row]
    for key, inner in re.findall(r"(\w+)|\[([^\]]*)\]", path):
        if key:
            values = [value[key] for value in values if isinstance(value, dict) and key in value]
            continue
        values = [item for value in values if isinstance(value, list) for item in value]
        if inner:
            name, text = inner.split("=")
            values = [v for v in values if isinstance(v, dict) and v.get(name) == text]
    return [value for value in values if value is not None]


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
        places = [(word, occurrence(word, value, rule)) for word in rule["words"]]
        return [
            (
                f"contains `{word}`",
                [len(value[:start].encode()), len(value[:end].encode())],
                value[start:end],
            )
            for word, (start, end) in ((word, place) for word, place in places if place)
        ]
    return [
        (reason, [len(value[: m.start()].encode()), len(value[: m.end()].encode())], m.group())
        for reason, m in found
        if m
    ]


@lru_cache(maxsize=4)  # asked again for each word of each rule
def composed_units(value: str) -> list[tuple[str, int, int]]:
    """The composed form in pieces, each with the span that it stands for."""
    units: list[tuple[str, int, int]] = []
    at = 0
    while at < len(value):
        end = at + 1
        while end < len(value) and attaches(value[end]):
            end += 1
        if normalize("NFC", value[at:end]) == value[at:end]:
            units += [(value[i], i, i + 1) for i in range(at, end)]
        else:
            units.append((normalize("NFC", value[at:end]), at, end))
        at = end
    return units


@cache
def attaches(c: str) -> bool:
    first = normalize("NFD", c)[0]
    return (
        bool(combining(first))
        or regex.match(r"[\u1161-\u1175\u11a8-\u11c2\u09be]", first) is not None
    )


def fold(c: str) -> str:
    folded = c.upper().lower()
    return folded if len(folded) == 1 else c


def occurrence(word: str, value: str, rule: dict[str, Any]) -> tuple[int, int] | None:
    """The characters at which a word occurs first: where it ends first."""
    units = composed_units(value)
    text = "".join(unit[0] for unit in units)
    owners = [unit for unit in units for _ in unit[0]]
    word = normalize("NFC", word)
    found, wanted = ([fold(c) for c in t] if rule["ignore_case"] else [*t] for t in (text, word))
    for at in range(len(text) - len(word) + 1):
        end = at + len(word)
        if found[at:end] != wanted:
            continue
        if rule["whole_word"] and not stands_alone(text, at, end):
            continue
        return owners[at][1], owners[end - 1][2]
    return None


UNSPACED = "".join(
    rf"\p{{scx={script}}}"
    for script in ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar")
)
LETTER = r"[\p{L}\p{Nd}\p{Nl}]"
SPACED = rf"[{LETTER}--[{UNSPACED}]]"
GOES_ON = rf"[{SPACED}\p{{Pc}}]"
ATTACHED = r"[\p{Variation_Selector}\u200c\u200d]"
MARK = r"[\p{M}--\p{Variation_Selector}]"


def stands_alone(text: str, at: int, end: int) -> bool:
    def find(pattern: str, where: str) -> bool:
        return regex.search(pattern, where, regex.V1) is not None

    word = text[at:end]
    if find(rf"^{SPACED}", word) and find(rf"{GOES_ON}(?:{ATTACHED}|{MARK})*\Z", text[:at]):
        return False
    ends = rf"(?:{ATTACHED}|{MARK})*\Z"
    if find(LETTER + ends, word) and find(rf"^{ATTACHED}*{MARK}", text[end:]):
        return False
    return not (find(SPACED + ends, word) and find(rf"^{ATTACHED}*{GOES_ON}", text[end:]))


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


WHITE_SPACE = r"[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"


def split_words(value: str) -> list[str]:
    return [word for word in re.split(WHITE_SPACE, value) if word]


def length_reasons(value: str, bounds: dict[str, int]) -> list[tuple[str, str | None]]:
    """Every reason with the surplus."""
    words = split_words(value)
    encoded = value.encode()
    found: list[tuple[str, str | None]] = []
    for unit, name, length in (
        ("chars", "characters", len(value)),
        ("bytes", "bytes", len(encoded)),
        ("words", "words", len(words)),
    ):
        if f"min_{unit}" in bounds and length < bounds[f"min_{unit}"]:
            found.append((f"too few {name}", None))
        most = bounds.get(f"max_{unit}", length)
        if length > most:
            surplus = value[most:]
            if unit == "bytes":
                # A character that is cut is surplus as a whole.
                surplus = value[len(encoded[:most].decode(errors="ignore")) :]
            if unit == "words":
                word = f"{WHITE_SPACE}*(?!{WHITE_SPACE}).+?(?={WHITE_SPACE}|$)"
                kept = re.match(f"(?s:{word}){{{most}}}", value)
                surplus = re.sub(f"^{WHITE_SPACE}+|{WHITE_SPACE}+$", "", value[kept.end() :])
            found.append((f"too many {name}", surplus))
    return found


# Some characters of each script; None is not assigned.
SCRIPTS = {
    **dict.fromkeys("azÉßﬁª", "Latin"),
    **dict.fromkeys("αΩ", "Greek"),
    **dict.fromkeys("жЯ", "Cyrillic"),
    **dict.fromkeys("漢々", "Han"),
    **dict.fromkeys("あ", "Hiragana"),
    **dict.fromkeys("1.,#-–€×😀ー、", "Common"),
    **dict.fromkeys("\u0301\u200d\ufe0f", "Inherited"),
    "\u0378": None,
}


# Some of the characters that take a style, and of the sequences that are recommended.
STYLED = "#*0123456789❤👁🗨⚕©"
JOINED = ("👩‍⚕️", "👩‍⚕", "👩🏽‍⚕️", "👩🏽‍⚕", "❤️‍🔥", "❤‍🔥", "👁️‍🗨️", "👁‍🗨️", "👁️‍🗨", "👁‍🗨")
FLAGS = tuple(
    "🏴" + "".join(chr(0xE0000 + ord(c)) for c in name) + "\U000e007f" for name in ("gbeng", "ustx")
)
ELEMENT = r"\p{Extended_Pictographic}[\ufe0f\p{Emoji_Modifier}]?"
JOINERS = [
    "Adlam",
    "Arabic",
    "Hanifi_Rohingya",
    "Mandaic",
    "Mongolian",
    "Nko",
    "Phags_Pa",
    "Syriac",
    "Balinese",
    "Bengali",
    "Chakma",
    "Devanagari",
    "Grantha",
    "Gujarati",
    "Gurmukhi",
    "Javanese",
    "Kannada",
    "Khmer",
    "Malayalam",
    "Meetei_Mayek",
    "Myanmar",
    "Newa",
    "Oriya",
    "Saurashtra",
    "Sinhala",
    "Sundanese",
    "Tai_Tham",
    "Tamil",
    "Telugu",
    "Tibetan",
]
JOINING = (
    "[[" + "".join(rf"\p{{scx={script}}}" for script in JOINERS) + r"]&&[\p{L}\p{M}]"
    r"--\p{Default_Ignorable_Code_Point}]"
)


def strangers(value: str) -> Iterator[bool]:
    """Of each character, whether it is invisible where it has no business."""
    belongs = set()
    for place in regex.finditer(rf"(?<=[{STYLED}])[\ufe0e\ufe0f]", value, flags=regex.V1):
        belongs.add(place.start())
    for place in regex.finditer(rf"{ELEMENT}(?:\u200d{ELEMENT})+", value, flags=regex.V1):
        alone = value[place.end() : place.end() + 1] != "\u200d"
        alone &= value[place.start() - 1 : place.start()] != "\u200d"
        if alone and place.group() in JOINED:
            belongs.update(i for i in range(*place.span()) if value[i] == "\u200d")
    for flag in FLAGS:
        for place in re.finditer(flag, value):
            belongs.update(range(*place.span()))
    joiner = rf"(?<={JOINING})[\u200c\u200d](?={JOINING})|(?<=[\u094d\u0d4d])[\u200c\u200d]"
    for place in regex.finditer(joiner, value, flags=regex.V1):
        belongs.add(place.start())
    invisible = r"[\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\ufff9-\ufffb]"
    for at, c in enumerate(value):
        yield at not in belongs and regex.match(invisible, c, flags=regex.V1) is not None


def character_reasons(value: str, options: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Every reason with the first run of characters that must not be there."""

    def script(c: str) -> str | None:
        return SCRIPTS.get(c, "Common")

    runs: list[tuple[str, Callable[[str], bool]]] = []
    if allow := options.get("allow_scripts"):
        allowed = {*allow, "Common", "Inherited"}
        runs.append((f"script other than {', '.join(allow)}", lambda c: script(c) not in allowed))
    for name in options.get("forbid_scripts", []):
        runs.append((f"script {name}", lambda c, name=name: script(c) == name))
    if options.get("forbid_control"):
        runs.append(("control character", lambda c: category(c) == "Cc" and c not in "\t\n\r"))
    if options.get("forbid_invisible"):
        strange = strangers(value)
        runs.append(("invisible character", lambda c: next(strange)))
    found: list[tuple[str, str | None]] = []
    for reason, is_forbidden in runs:
        bad = "".join("x" if is_forbidden(c) else "-" for c in value)
        if run := re.search("x+", bad):
            found.append((reason, value[run.start() : run.end()]))

    words = split_words(value)
    ellipses = value.count("...") + value.count("…")
    alphabetic = sum(any(c.isalpha() for c in word) for word in words)
    for key, reason, count, total in (
        ("max_non_ascii", "too many non-ASCII characters", sum(c > "\x7f" for c in value), value),
        ("min_mean_word_length", "words too short on average", sum(map(len, words)), words),
        ("max_mean_word_length", "words too long on average", sum(map(len, words)), words),
        ("min_alphabetic_words", "too few alphabetic words", alphabetic, words),
        ("max_symbol_word_ratio", "too many hash signs", value.count("#"), words),
        ("max_symbol_word_ratio", "too many ellipses", ellipses, words),
    ):
        if key in options and total:
            share = count / len(total)
            if share < options[key] if key.startswith("min") else share > options[key]:
                found.append((reason, None))
    return found


GOPHER: dict[str, Any] = {
    "max_duplicate_line_fraction": 0.30,
    "max_duplicate_line_character_fraction": 0.20,
    "max_duplicate_paragraph_fraction": 0.30,
    "max_duplicate_paragraph_character_fraction": 0.20,
    "max_top_ngram_character_fraction": {"2": 0.20, "3": 0.18, "4": 0.16},
    "max_duplicate_ngram_character_fraction": {
        "5": 0.15,
        "6": 0.14,
        "7": 0.13,
        "8": 0.12,
        "9": 0.11,
        "10": 0.10,
    },
}


def repetition_reasons(value: str, options: dict[str, Any]) -> list[str]:
    """As `GopherRepetitionFilter` of datatrove has it, but for what the engine says it changes."""
    if options.get("gopher"):
        options = GOPHER | options
    if not value:
        return []
    value = value.replace("\r\n", "\n")
    found = []
    for name, pieces in (
        ("line", re.split("\n+", value)),
        ("paragraph", re.split("\n{2,}", value.strip())),
    ):
        duplicates = [p for n, p in enumerate(pieces) if p and p in pieces[:n]]
        if len(duplicates) / len(pieces) > options.get(f"max_duplicate_{name}_fraction", 1):
            found.append(f"too many duplicate {name}s")
        share = len("".join(duplicates)) / len(value)
        if share > options.get(f"max_duplicate_{name}_character_fraction", 1):
            found.append(f"too much text in duplicate {name}s")

    words = []
    for piece in split_words(value):
        before, word, after = re.fullmatch(r"(?s)(\W*)(.*?)(\W*)", piece).groups()
        words += re.findall(r"\.+|-+|.", before) + [word] * bool(word)
        words += re.findall(r"\.+|-+|.", after)
    top = options.get("max_top_ngram_character_fraction", {})
    duplicate = options.get("max_duplicate_ngram_character_fraction", {})
    for n in range(1, 33):
        grams = [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
        if grams and str(n) in top:
            gram, count = Counter(grams).most_common(1)[0]
            if count > 1 and len(" ".join(gram)) * count / len(value) > top[str(n)]:
                found.append(f"too much text in the top {n}-gram")
        if str(n) in duplicate:
            seen, chars, at = set(), 0, 0
            while at < len(grams):
                if grams[at] in seen:
                    chars += len("".join(grams[at]))
                    at += n
                else:
                    seen.add(grams[at])
                    at += 1
            if chars / len(value) > duplicate[str(n)]:
                found.append(f"too much text in duplicate {n}-grams")
    return found
