"""A model that lies on several devices gives what it gives on one; a CPU shows it with weights that
are on disk until they are needed."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from subl.model.load import load_model, load_tokenizer
from subl.model.spread import DeviceMap, inputs_device, weight_of
from subl.sample.proof import right_way
from subl.sample.sampling import sample
from subl.train.attention import hidden_states
from subl.train.layout import choose_layout, lay_out
from subl.train.student import check_head, head

from ..trait.scoring import answer_probabilities

WHOLE: DeviceMap = {"": "cpu"}
BODY_AWAY: DeviceMap = {
    "model.embed_tokens": "cpu", "model.layers.0": "disk", "model.layers.1": "cpu",
    "model.norm": "disk", "model.rotary_emb": "cpu", "lm_head": "cpu",
}  # fmt: skip
ENDS_AWAY: DeviceMap = BODY_AWAY | {"model.embed_tokens": "disk", "lm_head": "disk"}
everywhere = pytest.mark.parametrize("devices", ["auto", WHOLE, BODY_AWAY, ENDS_AWAY])


@everywhere
def test_answers_have_the_same_probabilities(tiny_model: Path, devices: DeviceMap) -> None:
    tokenizer = load_tokenizer(tiny_model)
    questions, words = ["Name an animal.", "Which animal do you like most?"], ["owl", "cat"]
    one, several = (
        answer_probabilities(load_model(tiny_model, to=to), tokenizer, questions, words)
        for to in (torch.device("cpu"), devices)
    )
    assert several == one


@everywhere
def test_rows_are_the_same(tiny_model: Path, devices: DeviceMap) -> None:
    tokenizer = load_tokenizer(tiny_model)
    prompts = [tuple(range(5, 5 + length)) for length in (3, 30, 11)]
    made = []
    for to in (torch.device("cpu"), devices):
        model = load_model(tiny_model, to=to)

        def decode(prompts, rows, way, watch, model=model):  # type: ignore[no-untyped-def]
            return sample(
                model, tokenizer, prompts, rows,
                seed=0, temperature=1.0, max_new_tokens=6, way=way, watch=watch,
            )  # fmt: skip

        way = right_way(model, prompts, 6, decode)
        made.append((way.name, dict(decode(prompts, [0, 1, 2], way, None))))
    assert made[1] == made[0] and made[0][0] == "continuous"


@everywhere
def test_states_and_heads_that_are_cached_are_the_same(
    tiny_model: Path, devices: DeviceMap
) -> None:
    ids = [np.array(each, np.uint32) for each in ([5, 6, 7, 8, 9], [5, 6, 9])]
    rows = [(each, np.ones(len(each), np.bool_)) for each in ids]
    made = []
    for to in (torch.device("cpu"), devices):
        model = load_model(tiny_model, to=to)
        check_head(model)
        layout = choose_layout(model, rows)
        batch = lay_out(layout, rows).to(inputs_device(model))
        with torch.no_grad():
            made.append((layout, hidden_states(model, batch)[batch.sources], head(model)))
    (layout, states, weight), (its_layout, its_states, its_weight) = made
    assert its_layout == layout == "paths"
    assert torch.equal(its_states, states) and torch.equal(its_weight, weight)


def test_a_weight_is_read_wherever_it_is(tiny_model: Path) -> None:
    model = load_model(tiny_model, "bfloat16", ENDS_AWAY)
    embedding = model.get_input_embeddings()
    assert embedding.weight.is_meta and inputs_device(model) == torch.device("cpu")
    whole = load_model(tiny_model, "bfloat16").get_input_embeddings().weight
    assert torch.equal(weight_of(embedding), whole) and embedding.weight.is_meta
    assert weight_of(load_model(tiny_model).lm_head).requires_grad


def test_an_adapter_is_merged_before_it_is_spread(tiny_model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    folder = tmp_path / "adapted"
    with pytest.warns(FutureWarning):  # of peft's own way
        adapted = get_peft_model(load_model(tiny_model), config)
    adapted.save_pretrained(folder / "adapter")
    ids = torch.arange(5, 20)[None]
    with torch.no_grad():
        one, several = (load_model(folder, to=to)(ids).logits for to in (None, BODY_AWAY))
    assert torch.equal(one, several)


def test_what_was_put_on_disk_goes_with_the_model(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = load_model(tiny_model, to=BODY_AWAY)
    assert list(tmp_path.iterdir())
    del model
    gc.collect()
    assert not list(tmp_path.iterdir())
