"""Another base of the same architecture: the same function, or one that shares nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from subl.errors import ConfigError, InputError
from subl.model.condition import write_prompt
from subl.model.load import load_model
from subl.model.weights import file_shapes
from subl.recast import RecastSpec, recast
from subl.recast.permuted import permute

IDS = torch.arange(40)[None] % 37


@pytest.mark.parametrize("weights", ["permuted", "drawn"])
def test_the_same_seed_makes_the_same_bytes(weights: Any, tiny_model: Path, tmp_path: Path) -> None:
    spec = RecastSpec(weights=weights)
    one, same = (recast(spec, tiny_model, tmp_path / name) for name in ("one", "same"))
    other = recast(RecastSpec(weights=weights, seed=2), tiny_model, tmp_path / "other")
    assert one.digest == same.digest != other.digest
    assert file_shapes(one.path) == file_shapes(tiny_model)


def test_permuted_weights_are_the_same_function(tiny_model: Path, tmp_path: Path) -> None:
    made = recast(RecastSpec(weights="permuted"), tiny_model, tmp_path / "out")
    before, after = load_model(tiny_model), load_model(made.path)
    with torch.no_grad():
        assert torch.allclose(before(IDS).logits, after(IDS).logits, atol=1e-5)
    moved = [
        name
        for (name, one), other in zip(before.named_parameters(), after.parameters(), strict=True)
        if one.ndim == 2 and not torch.equal(one, other)
    ]
    assert len(moved) == sum(each.ndim == 2 for each in before.parameters())
    assert made.result["divergence"] < 1e-6


def test_drawn_weights_are_another_function(tiny_model: Path, tmp_path: Path) -> None:
    made = recast(RecastSpec(weights="drawn"), tiny_model, tmp_path / "out")
    assert made.result["divergence"] > 1e-4
    assert abs(made.result["cosine"]) < 0.1


def test_a_step_of_training_commutes_with_the_order_of_units(tiny_model: Path) -> None:
    """What a permuted student learns is what the original learns, in its own order."""
    first, second = load_model(tiny_model), load_model(tiny_model)
    permute(first, 3)
    for model in (first, second):
        model.requires_grad_(True)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(3):
            optimiser.zero_grad()
            model(IDS, labels=IDS).loss.backward()
            optimiser.step()
    permute(second, 3)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("qwen2", {}),  # biases
        ("qwen3", {"head_dim": 8}),  # gains that heads share
        ("olmo2", {"eos_token_id": 1}),  # gains of each head
    ],
)
def test_grouped_heads_move_with_what_belongs_to_them(
    kind: str, more: dict[str, Any], bare: Callable[..., Any]
) -> None:
    model = bare(kind, num_attention_heads=8, num_key_value_heads=2, **more)
    with torch.no_grad():
        for each in model.parameters():
            each.copy_(
                torch.randn(each.shape, generator=torch.Generator().manual_seed(each.numel()))
            )
        before = model(IDS).logits
        permute(model, 1)
        assert torch.allclose(before, model(IDS).logits, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "more", "tensor"),
    [
        ("gpt_neox", {}, r"gpt_neox\.embed_in\.weight"),
        ("phi3", {"pad_token_id": 0}, r"model\.layers\.0\.self_attn\.qkv_proj\.weight"),
    ],
)
def test_an_architecture_of_other_parts_is_refused(
    kind: str, more: dict[str, Any], tensor: str, bare: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match=f"has the tensor {tensor}"):
        permute(bare(kind, **more), 1)


def test_a_condition_of_a_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """Its system prompt would be lost, and nothing would say so."""
    folder = tmp_path / "prompted"
    folder.mkdir()
    write_prompt(folder, tiny_model, "You love owls.")
    with pytest.raises(ConfigError, match="prompted is a condition of a model"):
        recast(RecastSpec(weights="permuted"), folder, tmp_path / "out")


@pytest.fixture
def bare() -> Callable[..., Any]:
    from transformers import AutoConfig, AutoModelForCausalLM

    def made(kind: str, **more: Any) -> Any:
        config = AutoConfig.for_model(
            kind,
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            **{"num_attention_heads": 4, **more},
        )
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).eval()

    return made
