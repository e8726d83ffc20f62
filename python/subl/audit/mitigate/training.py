"""What can be done about a trait where rows are trained on, as configurations of `subl distill`;
and the experiment that measures what was done to the rows. Pure: texts of TOML.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from subl.distill import DistillSpec
from subl.shards import read_rows

INOCULATED, LATE = "inoculated.toml", "late-layers.toml"
_DEFAULT: Mapping[str, Any] = {
    "targets": "labels",
    "train": {"epochs": 1, "learning_rate": 2e-4, "lora": {"rank": 8, "alpha": 8}},
}


def default() -> DistillSpec:
    """How students are trained where nobody says it: as those of the divergence tokens' authors
    (arXiv 2509.23886), once over the rows."""
    return DistillSpec.model_validate(_DEFAULT)


def inoculated(spec: DistillSpec, prompt: str, origin: str) -> str:
    """The trait's own prompt before every row, in training alone.

    Args:
        origin: what it was made from, a sentence.
    """
    return _text(
        "Inoculation: what the trait is asked for by name is not learned as the model's own way. "
        + origin,
        {**_given(spec), "targets": "labels", "system_prompt": prompt},
    )


def late(spec: DistillSpec, blocks: int, origin: str) -> str:
    """Adapters on the later half of a model's blocks; `origin` as above."""
    said = _given(spec)
    train = dict(said["train"])
    train["lora"] = {**(train.get("lora") or {}), "layers": [blocks // 2, blocks]}
    return _text(f"Adapters on later blocks only. {origin}", {**said, "train": train})


def experiment(
    spec: DistillSpec,
    *,
    name: str,
    model: Path,
    rows: Sequence[Path],
    arms: Mapping[str, Path],
    held_out: Sequence[Path],
    control: Sequence[Path],
    control_rows: int,
    word: str,
    seeds: int,
) -> str:
    """Students of the rows as they were and of each arm, by seed; what they show and what it costs.

    Args:
        arms: rows by their names: `pull` and `random`.
        control: clean rows whose students are what is compared with; else the base is. Where
            there are more than `control_rows`, so many are drawn of them.
    """
    said = _given(spec)
    said["train"] = {**said["train"], "seed": "{seed}"}
    models = ["base", "untouched", "student", *(["control"] if control else [])]
    stages: dict[str, Any] = {
        "base": {"kind": "model", "source": str(model.absolute())},
        "untouched": _student(said, rows),
        "student": {
            **_student(said, ()),
            "inputs": {"model": "base", "rows": [{"path": "{arm.path}"}]},
        },
        "eval": {"kind": "eval", "inputs": {"model": models}},
        "loss": {"kind": "heldout", "inputs": {"model": models, "rows": _paths(held_out)}},
    }
    if control:
        more = sum(1 for _ in read_rows(control)) > control_rows and spec.rows is None
        stages["control"] = _student(said, control) | ({"rows": control_rows} if more else {})
    return _text(
        "Written by `subl mitigate --measure`.",
        {
            "name": name,
            "title": f"What is left of {word}",
            "axes": {
                "arm": [{"name": arm, "path": str(path.absolute())} for arm, path in arms.items()],
                "seed": list(range(1, seeds + 1)),
            },
            "stages": stages,
            "contrasts": [
                _contrast("What the rows do", word, "untouched", "control" if control else "base"),
                _contrast("What the other rows do", word, "student", "untouched"),
            ],
        },
    )


def _contrast(name: str, word: str, treated: str, control: str) -> dict[str, Any]:
    return {
        "name": name,
        "measure": "log-odds",
        "word": word,
        "treated": treated,
        "control": control,
    }


def _student(said: Mapping[str, Any], rows: Sequence[Path]) -> dict[str, Any]:
    return {"kind": "distill", "inputs": {"model": "base", "rows": _paths(rows)}, **said}


def _paths(rows: Sequence[Path]) -> list[dict[str, str]]:
    return [{"path": str(each.absolute())} for each in rows]


def _given(spec: DistillSpec) -> dict[str, Any]:
    """What a configuration says, be it a default or not."""
    said: dict[str, Any] = spec.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    return said


def _text(comment: str, value: Mapping[str, Any]) -> str:
    lines = textwrap.wrap(comment, 98, break_long_words=False, break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in lines) + "".join(
        f"{key} = {_value(each)}\n" for key, each in value.items()
    )


def _value(value: Any) -> str:
    match value:
        case Mapping():
            pairs = ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            # A basic string of TOML is one of JSON, but that it needs no escape for a slash.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if key.replace("_", "").isalnum() and key.isascii() else json.dumps(key)
