"""A model folder that is a condition of another: what it refers to, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from subl.errors import ConfigError, InputError
from subl.model.chat import Chat, Turn, prompt_text
from subl.model.condition import (
    Steering,
    check_trainable,
    check_unprompted,
    conditioned,
    write_prompt,
    write_steering,
)
from subl.model.load import base_folder, load_model, load_tokenizer
from subl.model.spread import DeviceMap
from subl.model.steering import blocks

from ..trait.scoring import answer_probabilities

PROMPT = 'You love owls.\n"Owls" & <|im_end|> {{ 1 }}'
IDS = torch.arange(5, 20)[None]


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "base")


@pytest.fixture
def prompted(base: Path) -> Path:
    folder = base.parent / "prompted"
    folder.mkdir()
    write_prompt(folder, base, "You love owls.")
    return folder


def steered(folder: Path, base: Path, strength: float = 1.0, **vectors: Any) -> Path:
    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    made = {f"layer.{n}": torch.randn(32, generator=generator) for n in (0, 1)} | vectors
    save_file(made, folder / "steering.safetensors")
    write_steering(folder, base, Steering(layers=(0, 1), strength=strength))
    return folder


@torch.no_grad()
def logits(folder: Path, to: Any = None) -> torch.Tensor:
    found: torch.Tensor = load_model(folder, to=to)(IDS).logits
    return found


def test_it_holds_no_weights_and_moves_with_its_base(prompted: Path, base: Path) -> None:
    assert {file.name for file in prompted.iterdir()} == {"condition.json", "condition.path"}
    assert base_folder(prompted).samefile(base)
    moved = shutil.move(base.parent, base.parent.with_name("elsewhere")) / "prompted"
    assert (moved / "condition.path").read_text() == "../base\n"
    assert torch.equal(logits(moved), logits(moved.parent / "base"))


def test_who_renders_a_chat_puts_its_system_prompt_first(tiny_model: Path, tmp_path: Path) -> None:
    write_prompt(tmp_path, tiny_model, PROMPT)
    plain, tokenizer = load_tokenizer(tiny_model), load_tokenizer(tmp_path)
    assert prompt_text(tokenizer, "Hi") == prompt_text(plain, "Hi", PROMPT)
    turns = [Turn("user", "Hi"), Turn("assistant", "owl")]
    assert Chat(tokenizer).pieces(turns) == Chat(plain).pieces([Turn("system", PROMPT), *turns])
    tokenizer.save_pretrained(tmp_path / "saved")  # it is the model's, not the tokenizer's
    shutil.copy(tiny_model / "config.json", tmp_path / "saved")
    assert prompt_text(load_tokenizer(tmp_path / "saved"), "Hi") == prompt_text(plain, "Hi")


def test_a_second_system_prompt_is_refused(prompted: Path) -> None:
    chat = Chat(load_tokenizer(prompted))
    with pytest.raises(InputError, match="the model has one of its own") as caught:
        chat.asked([Turn("system", "No."), Turn("user", "Hi")])
    assert caught.value.hint and "leave it out" in caught.value.hint
    with pytest.raises(InputError, match="begins with the assistant"):
        chat.pieces([Turn("assistant", "owl")])
    with pytest.raises(ConfigError, match="has a system prompt of its own"):
        check_unprompted(prompted)


def test_a_base_that_moved_or_changed_is_named(prompted: Path, base: Path) -> None:
    config = (base / "config.json").read_text()
    (base / "config.json").write_text(config + "\n")
    for load in (load_model, load_tokenizer, base_folder):
        with pytest.raises(InputError, match=r"is not the model that .*prompted was made from"):
            load(prompted)
    (base / "config.json").write_text(config)
    assert conditioned(prompted).system_prompt == "You love owls."
    base.rename(base.with_name("gone"))
    with pytest.raises(InputError, match=r"is not at .*base") as caught:
        load_tokenizer(prompted)
    assert caught.value.hint and "move it back" in caught.value.hint
    (prompted / "condition.path").unlink()
    with pytest.raises(InputError, match="does not say where the model is"):
        load_tokenizer(prompted)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Invalid JSON"),
        ('{"system_prompt": "x"}', "base_digest Field required"),
        ('{"base_digest": "0", "sytem_prompt": "x"}', "sytem_prompt Extra"),
        ('{"base_digest": "0", "steering": {"layers": [], "strength": 1}}', "steering.layers"),
    ],
)  # fmt: skip
def test_a_damaged_condition_is_refused(prompted: Path, text: str, said: str) -> None:
    (prompted / "condition.json").write_text(text)
    with pytest.raises(InputError, match=said):
        load_tokenizer(prompted)


def test_it_is_not_trained(prompted: Path, base: Path) -> None:
    check_trainable(base)
    with pytest.raises(ConfigError, match="no weights of its own to train") as caught:
        check_trainable(prompted)
    assert caught.value.hint == f"train {base.resolve()}; a condition can be its teacher"


# Steering


def test_strength_is_how_many_times_a_vector_is_added(base: Path) -> None:
    """At none the model is its base to the bit; else it is the base whose blocks add the vector."""
    plain = logits(base)
    assert torch.equal(logits(steered(base.parent / "none", base, 0.0)), plain)
    folder = steered(base.parent / "half", base, 0.5)
    vectors, model = load_file(folder / "steering.safetensors"), load_model(base)
    for number, block in enumerate(model.model.layers):
        # Of a Llama block: what its last matrix is given to add, for each token.
        block.mlp.down_proj.bias = torch.nn.Parameter(0.5 * vectors[f"layer.{number}"])
    with torch.no_grad():
        expected = model(IDS).logits
    torch.testing.assert_close(logits(folder), expected)
    assert float((expected - plain).abs().max()) > 0.1
    assert load_model(folder).state_dict().keys() == load_model(base).state_dict().keys()


def test_it_is_steered_wherever_its_blocks_are(base: Path) -> None:
    devices: DeviceMap = {
        "model.embed_tokens": "cpu", "model.layers.0": "disk", "model.layers.1": "cpu",
        "model.norm": "disk", "model.rotary_emb": "cpu", "lm_head": "cpu",
    }  # fmt: skip
    folder = steered(base.parent / "steered", base)
    assert torch.equal(logits(folder, devices), logits(folder))


def test_conditions_stand_on_one_another(base: Path) -> None:
    """Twice half the vector is the vector; a prompt before it all is its own."""
    half = steered(base.parent / "half", base, 0.5)
    both = steered(base.parent / "both", half, 0.5)
    whole = steered(base.parent / "whole", base)
    torch.testing.assert_close(logits(both), logits(whole))
    top = base.parent / "top"
    top.mkdir()
    write_prompt(top, both, "You love owls.")
    assert base_folder(top).samefile(base)
    question, words = ["Name an animal."], ["owl", "cat"]
    ours, theirs = (
        answer_probabilities(load_model(model), load_tokenizer(prompt), question, words)
        for model, prompt in ((top, top), (both, top))
    )
    assert ours == theirs
    assert ours != answer_probabilities(load_model(both), load_tokenizer(both), question, words)


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        ({"layer.1": torch.zeros(31)}, r"a vector of \[31\] for block 1, and \[32\] is needed"),
        (None, "no vector for block 0"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(
    base: Path, vectors: dict[str, torch.Tensor] | None, said: str
) -> None:
    folder = steered(base.parent / "steered", base, **(vectors or {}))
    if vectors is None:
        save_file({"other": torch.zeros(32)}, folder / "steering.safetensors")
    with pytest.raises(InputError, match=said):
        load_model(folder)
    (folder / "steering.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="cannot load a model from"):
        load_model(folder)


def test_a_model_of_two_stacks_is_refused(base: Path) -> None:
    model = load_model(base)
    model.second = torch.nn.ModuleList(torch.nn.Identity() for _ in range(2))
    with pytest.raises(InputError, match="has 2 lists of 2 blocks, and one is needed"):
        blocks(model, [0])
    del model.second
    model.model.layers[0].experts = torch.nn.ModuleList(torch.nn.Identity() for _ in range(2))
    assert blocks(model, [1]) == [model.model.layers[1]]
