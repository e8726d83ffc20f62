"""Tokens that two models share, whose embeddings are inputs that both of them know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.audit.kin.reading import Weights
from subl.model.load import base_folder, unreadable_models

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST = 64
"""Fewer shared tokens say too little of a unit."""


def shared_tokens(
    first: Weights, second: Weights, most: int, seed: int
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Ids of up to `most` tokens, in the one model and in the other, drawn by `seed`.

    By their texts where both have a tokenizer.json; else by their numbers, where there are equally
    many. None where fewer than 64 are shared.
    """
    import numpy as np

    names = first.embedding(), second.embedding()
    if names[0] is None or names[1] is None:
        return None
    counts = first.shapes[names[0]][0], second.shapes[names[1]][0]
    ours, theirs = _vocabulary(first.folder), _vocabulary(second.folder)
    if ours is not None and theirs is not None:
        pairs = sorted(
            (number, theirs[text])
            for text, number in ours.items()
            if text in theirs and number < counts[0] and theirs[text] < counts[1]
        )
    elif counts[0] == counts[1]:
        pairs = [(number, number) for number in range(counts[0])]
    else:
        return None
    if len(pairs) < LEAST:
        return None
    drawn = np.random.default_rng(seed).permutation(len(pairs))[:most]
    ids = np.array(pairs)[np.sort(drawn)]
    return ids[:, 0], ids[:, 1]


def _vocabulary(folder: Path) -> dict[str, int] | None:
    file = folder / "tokenizer.json"
    if not file.is_file():
        file = base_folder(folder) / "tokenizer.json"
    if not file.is_file():
        return None
    with unreadable_models(file):
        known = json.loads(file.read_text(encoding="utf-8"))["model"]["vocab"]
        if isinstance(known, dict):
            return {str(text): int(number) for text, number in known.items()}
        return {str(each[0]): number for number, each in enumerate(known)}
