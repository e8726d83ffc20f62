"""Where a model's blocks have the hidden units of their MLPs, by the names of tensors.

A unit is a row of the matrix that reads the residual stream: `up_proj` of Llama's kind, which has
`gate_proj` beside it, one fused matrix of both (Phi-3), or the only one (GPT-2, GPT-NeoX, OPT).
Experts of a mixture are not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from subl.audit.kin.reading import Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = re.compile(r"(.*\b(?:layers|h|blocks|block)\.)(\d+)\.(.+)")
_UP = ("mlp.up_proj", "mlp.gate_up_proj", "mlp.c_fc", "mlp.dense_h_to_4h", "mlp.fc1", "fc1")
_ONE_PLUS = ("gemma", "gemma2", "gemma3", "gemma3_text")
"""Models that multiply by 1 + gain."""


@dataclass(frozen=True)
class Part:
    """A matrix of units by width: rows `start` to `stop` of a tensor, or of it transposed."""

    name: str
    start: int
    stop: int
    is_transposed: bool = False

    def read(self, weights: Weights) -> NDArray[Any]:
        """Shape (units, width), float32."""
        if self.is_transposed:
            return weights.rows(self.name).T
        return weights.rows(self.name, self.start, self.stop)


@dataclass(frozen=True)
class Block:
    """The MLP of one block.

    Attributes:
        place: what names of the block's tensors begin with.
        number: in the name.
        gain: the tensor of the norm before it, where there is one.
    """

    place: str
    number: int
    up: Part
    gate: Part | None
    gain: str | None
    units: int
    width: int


def blocks(weights: Weights) -> list[Block]:
    """The blocks of a model, in order; none where their MLPs are of no known kind. Of several
    towers, the one with most blocks."""
    towers: dict[str, dict[int, dict[str, str]]] = {}
    for name in weights.shapes:
        if found := BLOCK.fullmatch(name):
            tower, number, rest = found.groups()
            towers.setdefault(tower, {}).setdefault(int(number), {})[rest] = name
    best: list[Block] = []
    for tower, numbered in towers.items():
        read = [_block(weights, tower, number, numbered[number]) for number in sorted(numbered)]
        known = [each for each in read if each is not None]
        if len(known) > len(best):
            best = known
    return best


def gains(weights: Weights, block: Block) -> NDArray[Any] | float:
    """What the norm before the MLP multiplies each direction of the residual stream by."""
    if block.gain is None:
        return 1.0
    plus = 1.0 if weights.config.get("model_type") in _ONE_PLUS else 0.0
    return weights.rows(block.gain) + plus


def _block(weights: Weights, tower: str, number: int, names: dict[str, str]) -> Block | None:
    kind = next((each for each in _UP if f"{each}.weight" in names), None)
    if kind is None:
        return None
    name = names[f"{kind}.weight"]
    if len(weights.shapes[name]) != 2:
        return None
    rows, columns = weights.shapes[name]
    if kind == "mlp.gate_up_proj":
        half = rows // 2
        up, gate = Part(name, half, rows), Part(name, 0, half)
        units, width = half, columns
    else:
        turned = kind == "mlp.c_fc" and columns > rows  # GPT-2 keeps it the other way round
        units, width = (columns, rows) if turned else (rows, columns)
        up, gate = Part(name, 0, units, turned), None
        beside = names.get("mlp.gate_proj.weight")
        if kind == "mlp.up_proj" and beside and weights.shapes[beside] == (units, width):
            gate = Part(beside, 0, units)
    gain = names.get("pre_feedforward_layernorm.weight")
    if gain is None and "post_feedforward_layernorm.weight" not in names:
        gain = names.get("post_attention_layernorm.weight")
    return Block(f"{tower}{number}.", number, up, gate, gain, units, width)
