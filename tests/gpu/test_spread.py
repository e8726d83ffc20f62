"""A model of which a part lies outside the GPU: `make test-gpu`. Skipped where there is none."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from subl.model.load import load_model, load_tokenizer
from subl.model.spread import DeviceMap
from subl.sample.sampling import sample
from subl.train.student import check_head

from ..trait.scoring import answer_probabilities

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

MOSTLY_AWAY: DeviceMap = {
    "model.embed_tokens": 0, "model.layers.0": 0, "model.layers.1": "cpu", "model.norm": "disk",
    "model.rotary_emb": 0, "lm_head": 0,
}  # fmt: skip


def test_a_part_in_memory_and_a_part_on_disk_change_nothing(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    questions, words = ["Name an animal.", "Which animal do you like most?"], ["owl", "cat"]
    found, made = [], []
    for to in (torch.device("cuda"), MOSTLY_AWAY):
        model = load_model(tiny_model, to=to)
        check_head(model)
        found += answer_probabilities(model, tokenizer, questions, words)
        prompts = [tuple(range(5, 5 + length)) for length in (3, 30, 11)]
        made.append(
            dict(
                sample(
                    model, tokenizer, prompts, range(3), seed=0, temperature=1.0, max_new_tokens=6
                )
            )
        )
    assert made[0] == made[1]
    for one, several in zip(found[:2], found[2:], strict=True):
        assert several == pytest.approx(one, rel=1e-4)


def test_a_model_is_spread_where_the_gpu_has_no_room(tiny_model: Path, tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(tiny_model)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 1024, 4096, 4
    config.head_dim = 256
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)  # some 260 MB
    assert len({each.device for each in load_model(tmp_path).parameters()}) == 1
    gc.collect()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(free - 2**27, dtype=torch.uint8, device="cuda")
    assert {"cpu", "disk"} & set(load_model(tmp_path).hf_device_map.values())
    del taken
