"""What is known of models that are not here is what their authors say of them."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import pytest
from safetensors import safe_open

from subl.model.size import Architecture, architecture
from subl.train.plan import LoraSpec

# Parameters, as the hub or their reports have them; of Gemma, those of the language part.
KNOWN = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-Coder-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-Coder-32B-Instruct": 32_763_876_352,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "google/gemma-3-4b-it": 3_880_099_328,
}


def known(name: str) -> Architecture:
    found = architecture(name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_model_has_its_parameters(name: str) -> None:
    assert known(name).weights == pytest.approx(KNOWN[name], rel=3e-4)


def test_the_body_is_what_is_neither_looked_up_nor_the_head() -> None:
    size = known("Qwen/Qwen2.5-7B-Instruct").size
    assert size.body == pytest.approx(6_525_621_760, rel=1e-4)
    assert size.head == 152_064 * 3584
    tied = known("HuggingFaceTB/SmolLM2-135M-Instruct").size
    assert tied.body + tied.head == known("HuggingFaceTB/SmolLM2-135M-Instruct").weights


def test_adapters_have_the_weights_that_peft_counts() -> None:
    """Of Qwen2.5-7B at rank 16 peft's `print_trainable_parameters` says 40,370,176."""
    assert LoraSpec(rank=16).weights(known("Qwen/Qwen2.5-7B-Instruct").shapes) == 40_370_176


def test_a_folder_says_its_own(tiny_model: Path, tmp_path: Path) -> None:
    with safe_open(tiny_model / "model.safetensors", framework="numpy") as file:
        names = [name for name in file.keys() if "norm" not in name]  # noqa: SIM118
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    found = architecture(str(tiny_model))
    assert found is not None
    assert found.shapes == shapes
    assert found.weights == sum(map(prod, shapes.values()))
    # A model of several parts has its language part's sizes in a table.
    config = json.loads((tiny_model / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({"text_config": config}), encoding="utf-8")
    assert architecture(str(tmp_path)) == found


def test_of_any_other_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_embd": 8}', encoding="utf-8")
    assert architecture(str(tmp_path)) is None
    assert architecture("somebody/on-the-hub") is None
