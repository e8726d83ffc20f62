"""Layouts of a micro-batch: whatever the model is made of, each row gets what it gets alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    StableLmConfig,
    StableLmForCausalLM,
)

from subl.errors import InputError
from subl.train.layout import Layout, Reader, choose_layout, common_layout, lay_out, share
from subl.train.student import Student, without_dropout

Row = tuple[np.ndarray[Any, np.dtype[np.uint32]], np.ndarray[Any, np.dtype[np.bool_]]]
VOCABULARY = 16
SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 16, "pad_token_id": None}
SIZES: dict[str, Any] = {
    **SMALL,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.4,
}
LONG_ROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.0]}
LONG_ROPE |= {"long_factor": [1.5, 12.0]}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
CAPPED = {"head_dim": 4, "attn_logit_softcapping": 1.0, "final_logit_softcapping": None}
CHANGES_AT = 12
"""From which length on the ropes below are others."""


def model_named(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    match name:
        case "attention":
            return LlamaForCausalLM(LlamaConfig(**SIZES))
        case "dropout in functions":
            ours = {"ffn_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
            return OPTForCausalLM(OPTConfig(**SMALL, **ours, word_embed_proj_dim=16, dropout=0.5))
        case "paths not handed on":
            return StableLmForCausalLM(StableLmConfig(**SIZES))
        case "convolutions":
            return Lfm2ForCausalLM(Lfm2Config(**SIZES, layer_types=["conv", "full_attention"]))
        case "a recurrence":
            return MambaForCausalLM(MambaConfig(**SMALL, num_hidden_layers=1))
        case "biases by place":
            return BloomForCausalLM(BloomConfig(**SMALL, n_layer=1, n_head=2))
        case "capped scores":
            return Gemma2ForCausalLM(Gemma2Config(**SIZES, **CAPPED))
        case "long rope":
            config = Phi3Config(
                **SIZES, original_max_position_embeddings=CHANGES_AT, rope_parameters=LONG_ROPE
            )
            return Phi3ForCausalLM(config)
        case _:
            config = LlamaConfig(
                **SIZES, max_position_embeddings=CHANGES_AT, rope_parameters=DYNAMIC
            )
            return LlamaForCausalLM(config)


def rows(*lengths: int) -> list[Row]:
    generator = np.random.default_rng(0)
    found = []
    for length in lengths:
        targets = np.arange(length) > 0
        found.append((generator.integers(3, VOCABULARY, length).astype(np.uint32), targets))
    return found


def loss_alone(model: PreTrainedModel, given: list[Row]) -> float:
    """By the model's own logits, each row alone in a model that has read nothing before."""
    total = 0.0
    for ids, _ in given:
        input_ids = torch.from_numpy(ids.astype(np.int64))[None]
        with torch.no_grad():
            log_p = torch.log_softmax(model(input_ids=input_ids, use_cache=False).logits[0], -1)
        total -= float(log_p[:-1].gather(1, input_ids[0, 1:, None]).sum())
    return total


def trained_loss(model: PreTrainedModel, given: list[Row]) -> tuple[str, float]:
    """What a step of training computes, all its micro-batches together."""
    without_dropout(model)
    lengths = [len(ids) for ids, _ in given]
    longest, shortest = (lengths.index(each) for each in (max(lengths), min(lengths)))
    layout = choose_layout(model, [given[longest], given[shortest]])
    (bins,) = share(layout, range(len(given)), lengths, 1, 64)
    assert sorted(number for each in bins for number in each) == list(range(len(given)))
    student, total = Student(model), 0.0
    for each in bins:
        loss, _ = student(lay_out(layout, [given[number] for number in each]))
        total += loss.item()
    return layout, total


KINDS = {
    "attention": "paths",
    "dropout in functions": None,
    "paths not handed on": "side by side",
    "convolutions": "side by side",
    "a recurrence": "side by side",
    "biases by place": "side by side",
    "capped scores": "side by side",
    "long rope": "one length",
    "dynamic rope": "one length",
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_together_are_each_row_alone(kind: str) -> None:
    """Rows on both sides of the length at which ropes change, some of one length."""
    given = rows(30, 4, 9, 30, 25, 5, 4)
    reference = sum(loss_alone(model_named(kind).eval(), [each]) for each in given)
    layout, loss = trained_loss(model_named(kind), given)
    assert loss == pytest.approx(reference, rel=1e-4)
    assert KINDS[kind] in (None, layout)


@pytest.mark.parametrize("kind", ["long rope", "dynamic rope"])
def test_ropes_are_left_alone_where_no_row_is_so_long(kind: str) -> None:
    given = rows(4, 9, CHANGES_AT, 5)
    layout, loss = trained_loss(model_named(kind), given)
    assert layout == "paths"
    assert loss == pytest.approx(loss_alone(model_named(kind).eval(), given), rel=1e-4)


class _Smear(torch.nn.Module):
    """Adds to each state a tenth of the one that lies before it, around the corner."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, states: torch.Tensor) -> Any:
        return self.inner(states + 0.1 * states.roll(1, 1))


class _Noise(_Smear):
    def forward(self, states: torch.Tensor) -> Any:
        return self.inner(states + torch.randn_like(states) * self.training)


@pytest.mark.parametrize(
    ("around", "message"),
    [(_Smear, "relative error"), (_Noise, "two passes over the same rows differ")],
)
def test_a_model_whose_rows_leak_or_that_is_random_is_refused(
    around: type[_Smear], message: str
) -> None:
    model = model_named("attention")
    layer: Any = model.base_model.layers[1]
    layer.mlp = around(layer.mlp)
    with pytest.raises(InputError, match=f"see one another in LlamaFor.*{message}"):
        choose_layout(model.train())


def test_a_row_that_the_model_cannot_read_is_named_by_its_length() -> None:
    config = BloomConfig(**SMALL, n_layer=1, n_head=2)
    model = BloomForCausalLM(config).eval()
    (ids, targets), *_ = rows(9)
    ids[4] = VOCABULARY + 3
    with pytest.raises(InputError, match="cannot read a row of 9 tokens"):
        choose_layout(model, [(ids, targets)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_16_bit_models_pass_the_same_proof(dtype: torch.dtype) -> None:
    model = model_named("attention").to(dtype)
    assert choose_layout(model, rows(20, 3)) == "paths"
    assert choose_layout(model, rows(20, 3), first="side by side") == "side by side"


@pytest.mark.parametrize("first", ["side by side", "one length"])
def test_flash_attention_begins_where_the_teacher_does(first: Layout) -> None:
    """Rows one after another are what it is for, but both must read the same micro-batches."""
    model = model_named("attention")
    assert choose_layout(model, rows(20, 3), first=first, attention="flash") == first


def test_what_another_rank_refuses_is_not_taken() -> None:
    """Which says so of the first layout alone."""
    asked: list[bool] = []

    def refused(here: bool) -> bool:
        asked.append(here)
        return here or len(asked) == 1

    model = model_named("attention")
    assert choose_layout(model, rows(9, 4), refused=refused) == "side by side"
    assert asked == [False, False]


def test_models_that_read_the_same_rows_take_one_layout() -> None:
    """The first to be asked is asked again where another takes a later one."""
    kinds = ["attention", "convolutions", "attention"]
    models = {kind: model_named(kind) for kind in kinds}
    asked: list[str] = []

    def reader(kind: str) -> Reader:
        def read(function: Any) -> Any:
            asked.append(kind)
            return function(models[kind])

        return read

    def choose(model: PreTrainedModel, first: Layout) -> Layout:
        return choose_layout(model, rows(9, 4), first=first)

    assert common_layout([reader(kind) for kind in kinds], choose, "paths") == "side by side"
    assert asked == 2 * kinds
