"""What a run's figures are made of."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from subl.model.load import load_model
from subl.model.size import ModelSize
from subl.train.adapter import adapt
from subl.train.batch import Batch, collate
from subl.train.meter import Meter, memory_peak, peak_flops
from subl.train.plan import LoraSpec

WIDTH, INNER, LAYERS, HEADS, HEAD_WIDTH, KEYS = 32, 64, 2, 4, 8, 2


def batch(share: bool = True) -> Batch:
    """Two rows of 5 tokens, 2 of which are one beginning; 3 targets each."""
    targets = np.array([False, False, True, True, True])
    rows = [np.array(ids, np.uint32) for ids in ([3, 4, 5, 6, 7], [3, 4, 6, 7, 8])]
    return collate([(row, targets) for row in rows], share_prefixes=share)


def by_hand(vocabulary: int, tokens: int, factor: int, attention_factor: int) -> float:
    """A tiny Llama, matrix by matrix: a multiplication and an addition for each weight and token,
    and of attention's two products the half that a causal mask leaves."""
    queries, keys = WIDTH * HEADS * HEAD_WIDTH, WIDTH * KEYS * HEAD_WIDTH
    layer = queries + 2 * keys + HEADS * HEAD_WIDTH * WIDTH + 3 * WIDTH * INNER + 2 * WIDTH
    weights = LAYERS * layer + WIDTH
    attention = sum(LAYERS * HEADS * HEAD_WIDTH * length**2 / 2 for length in (5, 5))
    return factor * (weights * tokens + vocabulary * WIDTH * 6) + attention_factor * attention


@pytest.mark.parametrize(("share", "tokens"), [(True, 8), (False, 10)])
def test_the_flops_of_a_step_are_those_counted_by_hand(
    tiny_model: Path, share: bool, tokens: int
) -> None:
    model = load_model(tiny_model)
    vocabulary = model.config.vocab_size
    size = ModelSize.of(model)
    assert size.flops(batch(share)) == by_hand(vocabulary, tokens, 6, 12)
    assert size.flops(batch(share), backward=False) == by_hand(vocabulary, tokens, 2, 4)
    assert size.body + size.head == model.num_parameters()  # the embedding is the head


def test_with_an_adapter_the_weights_get_no_gradients(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    whole = ModelSize.of(model)
    adapt(model, LoraSpec(rank=2))
    adapted = ModelSize.of(model)
    more = adapted.body - whole.body
    assert more == sum(each.numel() for each in model.parameters() if each.requires_grad)
    plain, ours = whole.flops(batch()), adapted.flops(batch())
    attention = 12 * whole.attention * 5**2
    assert ours - attention == pytest.approx((plain - attention) * 4 / 6 + 4 * more * 8)


def test_a_cpu_has_a_peak_that_its_own_products_do_not_exceed_by_much() -> None:
    peak = peak_flops(torch.device("cpu"), torch.float32)
    assert peak is not None and peak > 1e8


def test_figures_are_ratios_of_what_was_counted() -> None:
    meter = Meter(torch.device("cpu"), torch.float32, ranks=1)
    meter.pause()
    before = time.perf_counter()
    first = meter.step(100, 1e9)
    longest = time.perf_counter() - before + 1
    assert first["tokens"] == 100
    assert first["tokens_per_second"] is not None and first["tokens_per_second"] > 100 / longest
    meter.pause()
    meter.step(50, 1e9)
    figures = meter.figures()
    assert (meter.tokens, meter.flops) == (150, 2e9)
    seconds, rate = figures["train_seconds"], figures["tokens_per_second"]
    assert seconds is not None and rate is not None
    assert rate * (seconds + 0.001) >= 150 * 0.99
    assert figures["mfu"] is not None and figures["mfu"] > 0
    assert figures["seconds_to_first_step"] is None or figures["seconds_to_first_step"] > 0


def test_the_peak_of_memory_is_at_least_what_was_held() -> None:
    held = bytearray(os.urandom(1 << 10) * (1 << 14))
    assert memory_peak(torch.device("cpu")) > len(held)


def test_a_model_whose_work_nobody_counts_has_no_share_of_the_peak() -> None:
    """Experts that take turns, or no attention at all: no figure rather than a wrong one."""
    small = {"vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 1}
    mixture = MixtralConfig(**small, intermediate_size=8, num_attention_heads=2,
                            num_key_value_heads=2, num_local_experts=2)  # fmt: skip
    for model in (MixtralForCausalLM(mixture), MambaForCausalLM(MambaConfig(**small))):
        size = ModelSize.of(model)
        assert size.attention is None and size.flops(batch()) == 0
    meter = Meter(torch.device("cpu"), torch.float32, ranks=1)
    assert meter.step(100, 0.0)["mfu"] is None and meter.figures()["mfu"] is None


def test_sizes_have_other_names_elsewhere() -> None:
    config = GPT2Config(vocab_size=16, n_embd=8, n_layer=3, n_head=2, n_positions=16)
    assert ModelSize.of(GPT2LMHeadModel(config)).attention == 3 * 8
