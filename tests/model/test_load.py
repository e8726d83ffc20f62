"""Model folders: written and read back whole, refused where they are broken."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from subl.errors import DependencyError, InputError, OutputError
from subl.model.load import (
    ADAPTER,
    bare_model,
    base_folder,
    load_model,
    load_tokenizer,
    text_config,
)
from subl.model.source import add, folder_of
from subl.model.weights import save_model
from subl.train.adapter import adapt, save_adapter
from subl.train.plan import LoraSpec


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_is_the_one_that_is_loaded(
    tiny_model: Path, tmp_path: Path, tied: bool
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    torch.manual_seed(1)
    config = LlamaConfig.from_pretrained(tiny_model)
    config.tie_word_embeddings = tied
    model = LlamaForCausalLM(config)
    save_model(model, tokenizer, tmp_path)
    again = load_model(tmp_path)
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert not again.training
    assert load_tokenizer(tmp_path).chat_template == tokenizer.chat_template
    assert load_model(tmp_path, "bfloat16").dtype == torch.bfloat16
    assert {file.stat().st_mode & 0o777 for file in tmp_path.glob("*.safetensors")} == {0o644}


def test_a_state_gathered_from_ranks_is_what_is_written(tiny_model: Path, tmp_path: Path) -> None:
    model = load_model(tiny_model)
    state = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    save_model(model, load_tokenizer(tiny_model), tmp_path, state)
    written = load_model(tmp_path).state_dict()
    assert all(torch.equal(written[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("lacking", ["everything", "model.norm.weight"])
def test_a_state_that_lacks_a_tensor_is_refused(
    tiny_model: Path, tmp_path: Path, lacking: str
) -> None:
    """Loading would fill the gap with fresh weights and say nothing."""
    model = load_model(tiny_model)
    state = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if lacking not in (name, "everything")
    }
    with pytest.raises(OutputError, match=r"tensors were not written: .*model\.norm\.weight"):
        save_model(model, load_tokenizer(tiny_model), tmp_path, state)


def test_what_is_no_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    for load in (load_model, load_tokenizer):
        with pytest.raises(InputError, match=r"no config\.json") as error:
            load(tmp_path)
        assert error.value.hint and "subl model add" in error.value.hint


@pytest.mark.parametrize("broken", ["pickled", "cut short", "config"])
def test_a_damaged_model_is_named(tiny_model: Path, tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    weights = folder / "model.safetensors"
    if broken == "pickled":
        torch.save(load_model(tiny_model).state_dict(), folder / "pytorch_model.bin")
        weights.unlink()
    elif broken == "cut short":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match=rf"cannot load a model from {re.escape(str(folder))}"):
        load_model(folder)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("change", ["lacks", "does not know", "another shape"])
def test_weights_that_are_not_the_configurations_are_named(
    tiny_model: Path, tmp_path: Path, tied: bool, change: str
) -> None:
    """Transformers would draw what is missing at random, and say nothing that anybody sees."""
    config = LlamaConfig.from_pretrained(tiny_model)
    config.tie_word_embeddings = tied
    torch.manual_seed(1)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    load_model(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    last = f"model.layers.{config.num_hidden_layers - 1}.mlp.up_proj.weight"
    named = {"does not know": "model.extra.weight"}.get(change, last if tied else "lm_head.weight")
    if change == "lacks":
        del tensors[named]
    else:
        tensors[named] = torch.zeros(3, 5)
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(InputError, match=rf"{change}.*{re.escape(named)}") as caught:
        load_model(tmp_path)
    assert caught.value.hint


OLD_MASKS = {
    "GPTNeo": ({"hidden_size": 8, "num_layers": 1, "num_heads": 2, "attention_types":
                [[["global"], 1]]}, "transformer.h.0.attn.attention", ["bias", "masked_bias"]),
    "GPTJ": ({"n_embd": 8, "n_layer": 1, "n_head": 2, "rotary_dim": 2}, "transformer.h.0.attn",
             ["bias", "masked_bias"]),
    "CodeGen": ({"n_embd": 8, "n_layer": 1, "n_head": 4, "rotary_dim": 2}, "transformer.h.0.attn",
                ["causal_mask"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", OLD_MASKS)
def test_masks_that_old_checkpoints_hold_are_no_weights(kind: str, tmp_path: Path) -> None:
    config, place, masks = OLD_MASKS[kind]
    of_kind = getattr(transformers, f"{kind}Config")(vocab_size=20, **config)
    torch.manual_seed(1)
    model = getattr(transformers, f"{kind}ForCausalLM")(of_kind)
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    old = {f"{place}.{mask}": torch.ones(1, 1, 8, 8).tril().bool() for mask in masks}
    save_file(weights | old, file, {"format": "pt"})
    state = load_model(tmp_path).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    linear = next(name for name in weights if f"{place}." in name and name.endswith("proj.weight"))
    extra = linear.replace(".weight", ".bias").replace("out_proj", "q_proj")
    if extra in weights or kind == "CodeGen":
        extra = f"{place}.qkv_proj.bias"
    save_file(weights | {extra: torch.zeros(8)}, file, {"format": "pt"})
    with pytest.raises(InputError, match=f"does not know.*{re.escape(extra)}"):
        load_model(tmp_path)


@pytest.mark.parametrize("change", ["lacks", "does not know"])
def test_an_adapter_that_is_not_whole_is_named(
    tiny_model: Path, tmp_path: Path, change: str
) -> None:
    model = adapt(load_model(tiny_model), LoraSpec(rank=2, targets=("q_proj", "v_proj")))
    save_adapter(model, tmp_path, tiny_model, None)
    load_model(tmp_path)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    name = max(name for name in tensors if "lora_B" in name)
    tensors[name.replace("layers.1", "layers.7")] = tensors[name].clone()
    if change == "lacks":
        tensors = {each: value for each, value in tensors.items() if "layers.1" not in each}
        tensors.pop(name.replace("layers.1", "layers.7"))
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(InputError, match=rf"{change}.*layers\.[17]\..*lora_B"):
        load_model(tmp_path)


def test_a_local_folder_is_used_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    assert folder_of(str(tiny_model), tmp_path) == tiny_model
    assert not list(tmp_path.iterdir())
    (tmp_path / "round").symlink_to("round")  # what is in it nobody looks at
    with pytest.raises(InputError, match="is not a model folder"):
        folder_of(str(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("nowhere", InputError, "no model at nowhere"),
        ("missing.gguf", InputError, r"no model at missing\.gguf"),
        ("package:pytest", InputError, "ships 0 files"),
        ("package:no-such-package-here", DependencyError, "not installed"),
        ("package:no.such.package", DependencyError, "not installed"),
        ("package:", DependencyError, "not installed"),
        ("package:../model", DependencyError, "not installed"),
    ],
)
def test_a_source_that_names_no_model_is_refused(
    tmp_path: Path, source: str, kind: type[Exception], message: str
) -> None:
    for find in (lambda: folder_of(source, tmp_path), lambda: add(source, tmp_path / "out")):
        with pytest.raises(kind, match=message):
            find()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "config",
    [
        None,
        [],
        {"model_type": 5},
        {"model_type": "llama", "hidden_size": "wide"},
        {"model_type": "llama", "rope_scaling": {"type": "owl"}},
        {"model_type": "musicgen"},  # which has two language parts
        {"model_type": "llama4", "text_config": {"num_attention_heads": 0}},
    ],
)
def test_a_configuration_that_transformers_cannot_read_is_an_error_with_its_folder(
    config: Any, tmp_path: Path
) -> None:
    named = str(tmp_path)
    if isinstance(config, dict):
        config = {**config, "architectures": ["OwlForCausalLM"]}
        named += " (OwlForCausalLM)"
    (tmp_path / "config.json").write_text(json.dumps(config))
    for read in (load_model, bare_model):
        with pytest.raises(InputError) as error:
            read(tmp_path)
        assert error.value.message.startswith(f"cannot load a model from {named}: ")
        assert error.value.hint
    with suppress(InputError):  # what it asks for may be readable; nothing else is raised
        text_config(tmp_path)


@pytest.mark.parametrize("said", ["{", "[]", "{}"])
def test_an_adapter_that_names_no_base_is_an_error_with_its_folder(
    said: str, tmp_path: Path
) -> None:
    (tmp_path / ADAPTER).mkdir()
    (tmp_path / ADAPTER / "adapter_config.json").write_text(said)
    for read in (load_model, base_folder, text_config):
        with pytest.raises(InputError, match=f"cannot load a model from {tmp_path}/adapter: "):
            read(tmp_path)
