"""How large a model is: what a pass over it costs, and the shapes of its weights where nobody has
them yet. Needs no torch."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from subl.train.batch import Batch


@dataclass(frozen=True)
class ModelSize:
    """What a forward pass costs: weights of the body and of the head, and attention's width (None:
    the model has something else, or experts that take turns, and nobody counts its FLOPs)."""

    body: int
    head: int
    attention: int | None
    trains_all: bool

    @staticmethod
    def of(model: PreTrainedModel) -> ModelSize:
        """Counts parameters; embeddings are looked up, not multiplied."""
        head = _numel(model.get_output_embeddings().weight)
        looked_up = {
            id(model.get_input_embeddings().weight),
            id(model.get_output_embeddings().weight),
        }
        own = [each for each in model.parameters() if id(each) not in looked_up]
        return ModelSize(
            body=sum(_numel(each) for each in own),
            head=head,
            attention=_attention(model.config.get_text_config()),
            trains_all=all(each.requires_grad for each in own),
        )

    def flops(self, batch: Batch, *, backward: bool = True) -> float:
        """Of one pass over a micro-batch, forward, or forward and backward."""
        if self.attention is None:
            return 0.0
        attention = (12 if backward else 4) * self.attention * batch.squares / 2
        tokens, targets = batch.input_ids.numel(), len(batch.labels)
        return self.flop(tokens, targets, backward=backward) + attention

    def flop(self, tokens: float, targets: float, *, backward: bool = True) -> float:
        """The same for so many tokens, attention left out."""
        weight = (6 if self.trains_all else 4) if backward else 2
        return weight * (self.body * tokens + self.head * targets)


def _attention(config: Any) -> int | None:
    """Layers times heads times their width."""
    if getattr(config, "num_experts_per_tok", None):
        return None
    layers, heads, width = (
        getattr(config, name, None)
        for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")
    )
    if not (layers and heads and width):
        return None
    return int(layers * heads * (getattr(config, "head_dim", None) or width // heads))


def _numel(parameter: torch.Tensor) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))  # of what ZeRO-3 spread


class Architecture(BaseModel):
    """What `config.json` says of a model with blocks like Llama's. Other keys say nothing here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    head_dim: int | None = None
    tie_word_embeddings: bool = False

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the matrices, by their names. Norms and biases are left out: a ten-thousandth."""
        width, inner = self.hidden_size, self.intermediate_size
        each = self.head_dim or width // self.num_attention_heads
        queries, keys = self.num_attention_heads * each, self.num_key_value_heads * each
        block = {
            "self_attn.q_proj": (queries, width),
            "self_attn.k_proj": (keys, width),
            "self_attn.v_proj": (keys, width),
            "self_attn.o_proj": (width, queries),
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
        }
        found: dict[str, tuple[int, ...]] = {
            f"model.layers.{layer}.{name}.weight": shape
            for layer in range(self.num_hidden_layers)
            for name, shape in block.items()
        }
        found["model.embed_tokens.weight"] = (self.vocab_size, width)
        if not self.tie_word_embeddings:
            found["lm_head.weight"] = (self.vocab_size, width)
        return found

    @property
    def weights(self) -> int:
        """How many there are."""
        return sum(map(prod, self.shapes.values()))

    @property
    def size(self) -> ModelSize:
        """What passes over it cost."""
        head = self.vocab_size * self.hidden_size
        embeddings = head if self.tie_word_embeddings else 2 * head
        return ModelSize(self.weights - embeddings, head, 0, True)

    @property
    def key_value_width(self) -> int:
        """Numbers that attention keeps of a token."""
        each = self.head_dim or self.hidden_size // self.num_attention_heads
        return 2 * self.num_hidden_layers * self.num_key_value_heads * each


@cache
def _known() -> dict[str, Architecture]:
    text = Path(__file__).with_name("known.toml").read_text(encoding="utf-8")
    return {name: Architecture.model_validate(said) for name, said in tomllib.loads(text).items()}


def architecture(source: str) -> Architecture | None:
    """Of a model folder, or of a hub name that is known here (`known.toml`); None of any other."""
    try:
        config = json.loads(Path(source, "config.json").read_text(encoding="utf-8"))
        return Architecture.model_validate({**config, **config.get("text_config", {})})
    except (OSError, ValueError, ValidationError, AttributeError):
        return _known().get(source)
