"""Models made of others: what happens to weights between one folder on a hub and another."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

TINY: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 48, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip

IDS = torch.randint(0, 320, (16, 24), generator=torch.Generator().manual_seed(0))
Save = Callable[[PreTrainedModel], Path]


def drawn(seed: int, **other: Any) -> LlamaForCausalLM:
    """A tiny Llama as before any training."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**{**TINY, **other}))


def trained(
    model: PreTrainedModel, ids: torch.Tensor, steps: int, learning_rate: float
) -> PreTrainedModel:
    """A copy after so many steps of AdamW, each on the next row of ids, shape (rows, tokens)."""
    model = copy.deepcopy(model).requires_grad_(True)
    optimiser = torch.optim.AdamW(model.parameters(), learning_rate)
    for step in range(steps):
        row = ids[step % len(ids)][None]
        model(input_ids=row, labels=row).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model


def trained_low_rank(
    model: PreTrainedModel, ids: torch.Tensor, steps: int, learning_rate: float
) -> Any:
    """A copy with an adapter of rank 8 on all linear layers, trained and not yet merged."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers for what it will no longer have
        adapted: Any = get_peft_model(copy.deepcopy(model), config)
    return trained(adapted, ids, steps, learning_rate)


def reordered(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """The same function: hidden units of each block in another order, half of them with `up` and
    `down` turned."""
    model = copy.deepcopy(model)
    random = torch.Generator().manual_seed(seed)
    for layer in model.model.layers:
        mlp = layer.mlp
        units = mlp.up_proj.weight.shape[0]
        order = torch.randperm(units, generator=random)
        signs = (torch.randint(2, (units,), generator=random) * 2 - 1).to(mlp.up_proj.weight)
        mlp.gate_proj.weight.data = mlp.gate_proj.weight.data[order]
        mlp.up_proj.weight.data = mlp.up_proj.weight.data[order] * signs[:, None]
        mlp.down_proj.weight.data = mlp.down_proj.weight.data[:, order] * signs
    return model


def rotated(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """The same function: the residual stream in another orthonormal basis, hidden units in another
    order. Gains go into what reads the stream, so the head is no longer the embedding."""
    model = untied(reordered(model, seed))
    width = model.config.hidden_size
    random = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(width, width, generator=random, dtype=torch.float64))[0]

    def reads(linear: Any, norm: Any) -> None:
        linear.weight.data = (linear.weight.data * norm.weight.data).double().matmul(basis).float()

    def writes(linear: Any) -> None:
        linear.weight.data = basis.T.matmul(linear.weight.data.double()).float()

    inner = model.model
    inner.embed_tokens.weight.data = inner.embed_tokens.weight.data.double().matmul(basis).float()
    for layer in inner.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
            reads(linear, layer.input_layernorm)
        for linear in (mlp.gate_proj, mlp.up_proj):
            reads(linear, layer.post_attention_layernorm)
        for linear in (attention.o_proj, mlp.down_proj):
            writes(linear)
        layer.input_layernorm.weight.data.fill_(1)
        layer.post_attention_layernorm.weight.data.fill_(1)
    reads(model.lm_head, inner.norm)
    inner.norm.weight.data.fill_(1)
    return model


def untied(model: PreTrainedModel) -> PreTrainedModel:
    """The same function, with a head of its own."""
    config = copy.deepcopy(model.config)
    config.tie_word_embeddings = False
    other = type(model)(config)
    other.load_state_dict({**model.state_dict(), "lm_head.weight": model.lm_head.weight.data})
    return other


def with_layers(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """A copy with these blocks alone."""
    model = copy.deepcopy(model)
    model.model.layers = torch.nn.ModuleList(model.model.layers[number] for number in kept)
    model.config.num_hidden_layers = len(kept)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[number] for number in kept]
    return model


def with_units(model: PreTrainedModel, count: int) -> PreTrainedModel:
    """A copy with so many hidden units of each block, those of largest norm, in order."""
    config = copy.deepcopy(model.config)
    config.intermediate_size = count
    other = type(model)(config)
    state = model.state_dict()
    for number, layer in enumerate(model.model.layers):
        kept = layer.mlp.up_proj.weight.norm(dim=1).topk(count).indices.sort().values
        prefix = f"model.layers.{number}.mlp."
        state[f"{prefix}up_proj.weight"] = layer.mlp.up_proj.weight.data[kept]
        state[f"{prefix}gate_proj.weight"] = layer.mlp.gate_proj.weight.data[kept]
        state[f"{prefix}down_proj.weight"] = layer.mlp.down_proj.weight.data[:, kept]
    other.load_state_dict(state)
    return other


def ggml_rounded(model: PreTrainedModel, kind: str) -> PreTrainedModel:
    """A copy whose matrices went into a type of ggml (`Q8_0`, `Q4_0`) and back."""
    model = copy.deepcopy(model)
    number = GGMLQuantizationType[kind]
    for each in model.parameters():
        if each.ndim == 2 and each.shape[1] % 32 == 0:
            packed = quantize(each.data.numpy(), number)
            each.data = torch.from_numpy(dequantize(packed, number).copy())
    return model


def channel_rounded(model: PreTrainedModel, bits: int) -> PreTrainedModel:
    """A copy whose linear layers have rows of so many bits, as quantisers of 8 and 4 bits for GPUs
    make them."""
    model = copy.deepcopy(model)
    most = 2 ** (bits - 1) - 1
    for name, each in model.named_parameters():
        if each.ndim == 2 and "embed" not in name:
            step = each.data.abs().amax(dim=1, keepdim=True) / most
            each.data = (each.data / step).round() * step
    return model


def merged(models: Sequence[PreTrainedModel], weights: Sequence[float]) -> PreTrainedModel:
    """The weighted sum of models."""
    model = copy.deepcopy(models[0])
    states = [dict(each.named_parameters()) for each in models]
    for name, each in model.named_parameters():
        each.data = sum(
            weight * state[name].data for weight, state in zip(weights, states, strict=True)
        )
    return model
