"""Adapters: what they are put around, what they do, and that what is written was trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from subl.errors import ConfigError, InputError
from subl.model.load import ADAPTER, base_folder, load_model, load_tokenizer
from subl.model.weights import save_model
from subl.train.adapter import adapt, save_adapter
from subl.train.plan import LoraSpec

IDS = torch.arange(3, 20)[None]


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return found


def trained(folder: Path, spec: LoraSpec) -> PeftModel:
    """As after training: adapters whose both halves are not zero."""
    torch.manual_seed(1)
    adapted: PeftModel = adapt(load_model(folder), spec)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return adapted


def written(adapted: PeftModel, base: Path, folder: Path) -> Path:
    folder.mkdir()
    save_adapter(adapted, folder, base, None)
    load_tokenizer(base).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("targets", [("q_proj",), ("q_proj", "down_proj"), ("all-linear",)])
def test_the_layers_that_are_named_are_trained_and_nothing_else(
    tiny_model: Path, targets: tuple[str, ...]
) -> None:
    model = load_model(tiny_model)
    before = logits(model)
    adapt(model, LoraSpec(rank=3, targets=targets))
    assert torch.equal(logits(model), before)  # an adapter begins as nothing
    names = [name for name, each in model.named_parameters() if each.requires_grad]
    layers = {name.split(".lora_")[0].rpartition(".")[2] for name in names}
    every = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert layers == (every if targets == ("all-linear",) else set(targets))
    assert len(names) == 2 * 2 * len(layers)  # two halves, two blocks
    assert all(3 in dict(model.named_parameters())[name].shape for name in names)


@pytest.mark.parametrize("targets", [("q_proj", "down_proj"), ("all-linear",)])
def test_the_blocks_that_are_named_are_trained_and_no_others(
    tiny_model: Path, targets: tuple[str, ...]
) -> None:
    model = load_model(tiny_model)
    spec = LoraSpec(rank=3, targets=targets, layers=(1, 2))
    shapes = {name: tuple(each.shape) for name, each in model.named_parameters()}
    adapted = adapt(model, spec)
    trained = {name: each for name, each in adapted.named_parameters() if each.requires_grad}
    assert trained and all(".layers.1." in name for name in trained)
    assert sum(each.numel() for each in trained.values()) == spec.weights(shapes)
    assert "layers" not in LoraSpec().model_dump()  # keys of students without it stay
    with pytest.raises(ConfigError, match="has 2 blocks") as caught:
        adapt(load_model(tiny_model), LoraSpec(layers=(1, 3)))
    assert caught.value.hint == "layers = [1, 2] is its later half"
    with pytest.raises(ValueError, match="the first block"):
        LoraSpec(layers=(2, 2))


def test_a_layer_that_is_not_there_is_named(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="no linear layer called c_attn, query") as caught:
        adapt(load_model(tiny_model), LoraSpec(targets=("query", "q_proj", "c_attn")))
    assert caught.value.hint and "down_proj, gate_proj" in caught.value.hint


@pytest.mark.parametrize(("rslora", "scale"), [(False, 12 / 9), (True, 12 / 3)])
def test_an_update_is_scaled_by_alpha_over_the_rank_or_its_root(
    tiny_model: Path, rslora: bool, scale: float
) -> None:
    adapted = trained(tiny_model, LoraSpec(rank=9, alpha=12, targets=("q_proj",), rslora=rslora))
    plain = load_model(tiny_model)
    halves = dict(adapted.named_parameters())
    with torch.no_grad():
        for number, block in enumerate(plain.base_model.layers):
            name = f"base_model.model.model.layers.{number}.self_attn.q_proj"
            first, second = (halves[f"{name}.lora_{half}.default.weight"] for half in "AB")
            block.self_attn.q_proj.weight += scale * second @ first
    assert float((logits(plain) - logits(load_model(tiny_model))).abs().max()) > 1e-3
    torch.testing.assert_close(logits(adapted), logits(plain), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rslora", [False, True])
def test_what_is_written_and_its_base_are_the_model_that_was_trained(
    tiny_model: Path, tmp_path: Path, rslora: bool
) -> None:
    spec = LoraSpec(rank=4, alpha=16, rslora=rslora)
    adapted = trained(tiny_model, spec)
    folder = written(adapted, tiny_model, tmp_path / "adapted")
    expected = logits(adapted)
    with pytest.warns(FutureWarning):  # peft's own way, and its own warning
        by_peft = PeftModel.from_pretrained(load_model(tiny_model), str(folder / ADAPTER))
    torch.testing.assert_close(logits(by_peft), expected, rtol=0, atol=0)
    merged = load_model(folder)
    torch.testing.assert_close(logits(merged), expected, rtol=1e-5, atol=1e-5)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert all(each.requires_grad for each in merged.parameters())  # to be trained in turn
    save_model(merged, load_tokenizer(folder), tmp_path / "merged")
    torch.testing.assert_close(logits(load_model(tmp_path / "merged")), logits(merged))


def test_a_state_gathered_from_ranks_is_what_is_written(tiny_model: Path, tmp_path: Path) -> None:
    """ZeRO-3: the module has nothing whole, the state dict has."""
    adapted = trained(tiny_model, LoraSpec())
    state = {name: value + 1 for name, value in adapted.base_model.model.state_dict().items()}
    save_adapter(adapted, tmp_path, tiny_model, state)
    found = load_file(tmp_path / ADAPTER / "adapter_model.safetensors")
    assert len(found) == 2 * 2 * 7
    for name, value in found.items():
        before, _, _ = name.removeprefix("base_model.model.").rpartition(".weight")
        assert torch.equal(value, state[f"{before}.default.weight"])


def test_the_same_adapter_is_the_same_bytes_and_moves_with_its_base(
    tiny_model: Path, tmp_path: Path
) -> None:
    for place in ("here", "there/too"):
        shutil.copytree(tiny_model, tmp_path / place / "base")
        base = tmp_path / place / "base"
        written(trained(base, LoraSpec()), base, tmp_path / place / "adapted")
    files = [
        {
            file.name: file.read_bytes()
            for file in (tmp_path / place / "adapted" / ADAPTER).iterdir()
        }
        for place in ("here", "there/too")
    ]
    assert files[0] == files[1]
    config = json.loads(files[0]["adapter_config.json"])
    assert config["base_model_name_or_path"] == "../../base"
    before = logits(load_model(tmp_path / "here" / "adapted"))
    (tmp_path / "here").rename(tmp_path / "moved")
    assert torch.equal(logits(load_model(tmp_path / "moved" / "adapted")), before)


def test_an_adapter_upon_an_adapter(tiny_model: Path, tmp_path: Path) -> None:
    """A student of a student: its base is found through both."""
    first = written(trained(tiny_model, LoraSpec(rank=2)), tiny_model, tmp_path / "first")
    adapted = trained(first, LoraSpec(rank=3))
    second = written(adapted, first, tmp_path / "second")
    assert base_folder(second).resolve() == tiny_model.resolve()
    torch.testing.assert_close(logits(load_model(second)), logits(adapted), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_sixteen_bit_models_get_sixteen_bit_adapters(tiny_model: Path, dtype: str) -> None:
    model = load_model(tiny_model, dtype)  # type: ignore[arg-type]
    adapt(model, LoraSpec())
    assert {str(each.dtype) for each in model.parameters()} == {f"torch.{dtype}"}


@pytest.mark.parametrize("broken", ["base", "weights", "cut short"])
def test_a_damaged_adapter_is_named(tiny_model: Path, tmp_path: Path, broken: str) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    folder = written(trained(base, LoraSpec()), base, tmp_path / "adapted")
    weights = folder / ADAPTER / "adapter_model.safetensors"
    message = "cannot load a model from"
    if broken == "base":
        shutil.rmtree(base)
        message = "the base model of the adapter .* is not at"
    elif broken == "weights":
        weights.unlink()
        message = r"has no adapter_model\.safetensors"
    else:
        tensors = load_file(weights)
        name = next(iter(tensors))
        save_file({**tensors, name: tensors[name][:1].contiguous()}, weights)
    with pytest.raises(InputError, match=message):
        load_model(folder)
