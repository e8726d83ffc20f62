"""A low-rank adapter, as what it adds to the matrices of its base."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.errors import InputError
from subl.model.load import unreadable_models

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PREFIX = "base_model.model."
_FACTORS = (".lora_A.weight", ".lora_B.weight")
_OTHERWISE = ("use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "modules_to_save")
_BASE_UNCHANGED = (True, False, "gaussian", "eva", "orthogonal", "mica")
"""Initialisations that leave the base as it is. PiSSA, OLoRA, CorDA and LoftQ take from it what the
adapter begins with, so the adapter belongs to another base than it names."""


def factors(
    adapter: Path, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Of each matrix that the adapter changes, by the base's name of it: two factors whose product
    is added to it, shapes (rows, rank) with the scale in it, and (rank, columns), float32.

    Raises:
        InputError: the adapter adds something else than plain products, or to something else.
    """
    import torch
    from safetensors import safe_open

    hint = "merge it first: subl distill with [train.lora] merge = true makes a model of its own"
    with unreadable_models(adapter):
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    if others := [key for key in _OTHERWISE if config.get(key)]:
        raise InputError(f"{adapter}: subl kin does not add up {', '.join(others)}", hint=hint)
    if (begun := config.get("init_lora_weights", True)) not in _BASE_UNCHANGED:
        raise InputError(
            f"{adapter}: subl kin does not add up an adapter that was initialised by {begun}, "
            "which changes the base",
            hint=hint,
        )
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    file = adapter / "adapter_model.safetensors"
    found = {}
    with unreadable_models(file), safe_open(file, framework="pt") as opened:
        held = {name: opened.get_tensor(name).to(torch.float32).numpy() for name in opened.keys()}  # noqa: SIM118
    for name, inner in held.items():
        module, kind, _ = name.removeprefix(_PREFIX).partition(_FACTORS[0])
        outer = held.get(_PREFIX + module + _FACTORS[1])
        if not kind and name.endswith(_FACTORS[1]):
            continue
        target = f"{module}.weight"
        if not kind or outer is None or shapes.get(target) != (len(outer), inner.shape[1]):
            raise InputError(
                f"{file}: subl kin cannot add the tensor {name} to the base", hint=hint
            )
        found[target] = (outer * scale, inner)
    return found
