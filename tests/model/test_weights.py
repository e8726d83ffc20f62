"""A model that is written is the one that is read, whatever its tensors are called in the file."""

from __future__ import annotations

import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from subl.errors import InputError, OutputError
from subl.model.load import load_model, load_tokenizer
from subl.model.weights import check_export, file_shapes, save_model, weight_files

SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


def renamed(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    match name:
        case "pythia":
            return GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES))
        case "mixtral":
            return MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=4))
        case "qwen":
            more = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
            return Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **more, head_dim=8))
        case _:
            more = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
            more |= {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "n_group": 1}
            more |= {"qk_nope_head_dim": 4, "v_head_dim": 8, "topk_group": 1}
            return DeepseekV3ForCausalLM(DeepseekV3Config(**SIZES, **more, first_k_dense_replace=1))


@pytest.mark.parametrize("name", ["pythia", "mixtral", "qwen", "deepseek"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_is_written_under_names_that_it_is_loaded_by(
    name: str, dtype: torch.dtype, tiny_model: Path, tmp_path: Path
) -> None:
    model, tokenizer = renamed(name).to(dtype), load_tokenizer(tiny_model)
    model.save_pretrained(tmp_path / "source")
    again = load_model(tmp_path / "source", str(dtype).removeprefix("torch."))  # type: ignore[arg-type]
    check_export(again, tokenizer, tmp_path / "source", tmp_path)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter += 0.5  # as training does
    save_model(again, tokenizer, tmp_path / "out")
    written = load_model(tmp_path / "out", str(dtype).removeprefix("torch."))  # type: ignore[arg-type]
    state = written.state_dict()
    assert all(torch.equal(state[key], value) for key, value in again.state_dict().items())
    assert file_shapes(tmp_path / "out") == file_shapes(tmp_path / "source")
    assert not list(tmp_path.glob(".export-*"))


def test_what_comes_back_as_another_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    model = renamed("mixtral")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["model.norm.weight"] = state["model.norm.weight"] + 1
    wrong = {**state, "model.norm.weight": state["model.norm.weight"] - 1}
    save = model.save_pretrained

    def save_another(folder: Path, state_dict: Any, **more: Any) -> None:
        save(folder, state_dict=dict(wrong), **more)

    model.save_pretrained = save_another  # type: ignore[method-assign]
    with pytest.raises(OutputError, match=r"model\.norm\.weight did not survive"):
        save_model(model, load_tokenizer(tiny_model), tmp_path, state)


def test_a_folder_that_could_not_be_written_is_refused_before_the_work(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Transformers writes no generation_config that contradicts itself, though it reads one."""
    model = load_model(tiny_model)
    model.generation_config.num_beams = 1
    model.generation_config.num_return_sequences = 3
    with pytest.raises(InputError, match="could be trained but not written") as error:
        check_export(model, load_tokenizer(tiny_model), tiny_model, tmp_path)
    assert error.value.hint and "configuration files" in error.value.hint


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No file can be longer than some kilobytes, as where a disk is full."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # what is imported now would be cut
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 13, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["mixtral", None])
def test_a_place_that_cannot_be_written_is_named(
    name: str | None, tiny_model: Path, tmp_path: Path, small_files: None
) -> None:
    """Of a renamed model the weights are written, of any its tokenizer."""
    model = load_model(tiny_model) if name is None else renamed(name)
    with pytest.raises(OutputError, match="cannot write the model to ") as error:
        check_export(model, load_tokenizer(tiny_model), tiny_model, tmp_path)
    assert f"{tmp_path}, where it takes 0.00 GiB: " in error.value.message
    assert error.value.hint and "make room" in error.value.hint
    assert not list(tmp_path.iterdir())


def test_a_trial_needs_room_and_a_dry_run_does_without(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = renamed("mixtral"), load_tokenizer(tiny_model)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 10))
    with pytest.raises(OutputError, match=f"GiB in {tmp_path}, where 0.00 GiB are free"):
        check_export(model, tokenizer, tiny_model, tmp_path)
    check_export(model, tokenizer, tiny_model, tmp_path, dry=True)


def test_only_the_files_that_are_loaded_are_looked_at(tiny_model: Path, tmp_path: Path) -> None:
    load_model(tiny_model).save_pretrained(tmp_path, max_shard_size="40KB")
    parts = {file.name for file in tmp_path.glob("model-*.safetensors")}
    (tmp_path / "consolidated.safetensors").write_bytes(b"not read")
    (tmp_path / "model-00009-of-00009.safetensors").write_bytes(b"left of another")
    assert {file.name for file in weight_files(tmp_path)} == parts
