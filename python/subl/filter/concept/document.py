"""The rules file of a resolved concept, one entry a line, so that a person can delete lines.

Written by hand, since no TOML writer keeps one entry a line with a comment behind it.
"""

from __future__ import annotations

import json
from typing import Any

from subl.filter.concept.spec import Concept, ResolvedEntry


def rule_toml(concept: Concept, name: str | None = None) -> str:
    """A rules file with one `semantic` rule. The same concept gives the same bytes."""
    first = next(iter((*concept.spec.words, *concept.spec.also)), "a vector")
    lines = [
        "# Delete the lines of tokens that may stay. The digest ties their ids to the tokenizer.",
        "[[rule]]",
        f"name = {quoted(name or f'concept {first}')}",
        'kind = "semantic"',
        'field = "completion"',
        f"tokenizer = {quoted(concept.tokenizer)}",
        f'tokenizer_sha256 = "{concept.tokenizer_sha256}"',
    ]
    if concept.vectors_sha256 is not None:
        lines.append(f'vectors_sha256 = "{concept.vectors_sha256}"')
    lines += ['score = "any"', "entries = ["]
    lines += [f"  {_entry(entry)}  # {entry.why}" for entry in concept.entries]
    lines += [
        f"  # {_entry(entry)}  # inside of {entry.inside} other words" for entry in concept.left_out
    ]
    lines += ["]", ""]
    lines.append("[rule.concept]")
    given = concept.spec.model_dump(mode="json", exclude_defaults=True)
    lines += [f"{key} = {_value(value)}" for key, value in given.items()]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """`text` in double quotes with escapes for what does not print: for a terminal, and for TOML.

    Raises nothing and hides nothing: a token may hold control characters or change the direction
    of writing.
    """
    return '"' + "".join(map(_escaped, text)) + '"'


def _entry(entry: ResolvedEntry) -> str:
    tokens = ", ".join(map(str, entry.tokens))
    weight, label = _value(entry.weight), quoted(entry.label)
    return f"{{ tokens = [{tokens}], weight = {weight}, label = {label} }},"


def _value(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value)


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
