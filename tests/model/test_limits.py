"""Lengths at which models change, as real architectures' configurations say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from subl.model.limits import changing_lengths, rope_lengths

SIZES = {
    "vocab_size": 8, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
LONGROPE = {
    "original_max_position_embeddings": 142,
    "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 1e4,
        "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
    },
}  # fmt: skip
DYNAMIC = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}
YARN = {
    "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0,
        "original_max_position_embeddings": 128,
    }
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "values", "lengths", "ropes"),
    [
        ("Llama", {}, [512], {}),
        ("Mistral", {"sliding_window": 100}, [100, 512], {}),
        # Numbers of layers, and which of them have a window, are no lengths.
        ("Qwen2", {"max_window_layers": 1}, [512], {}),
        ("Qwen2", {"use_sliding_window": True, "sliding_window": 64}, [64, 512], {}),
        ("GPTNeo", {"window_size": 50, "attention_types": [[["local"], 2]], "num_layers": 2},
         [50, 512], {}),
        ("Llama", DYNAMIC, [512], {"dynamic": 512}),
        ("Llama", YARN, [128, 512], {}),
        ("Phi3", LONGROPE | {"pad_token_id": 0}, [142, 512], {"longrope": 142}),
    ],
)  # fmt: skip
def test_lengths_are_found_wherever_a_configuration_has_them(
    kind: str, values: dict[str, Any], lengths: list[int], ropes: dict[str, int]
) -> None:
    config = getattr(transformers, f"{kind}Config")(**SIZES | values)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert changing_lengths(model) == lengths
    assert rope_lengths(model) == ropes
