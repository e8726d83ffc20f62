"""What a model's files hold is read as the model would be: nothing is left out, or taken for
weights that it is not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from subl.audit.kin import Verdict, kin
from subl.errors import InputError

from .relatives import drawn

Tensors = dict[str, torch.Tensor]
UNITS = (128, 64, 16)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    drawn(1, num_hidden_layers=3).save_pretrained(folder)
    return folder


def changed(base: Path, folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    """A copy of a model with other tensors in it."""
    folder.mkdir()
    (folder / "config.json").write_bytes((base / "config.json").read_bytes())
    tensors = change(load_file(base / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def adapted(base: Path, folder: Path, how: object, fill: float) -> Path:
    """A model that is an adapter of rank 2 on one matrix of the base."""
    (folder / "adapter").mkdir(parents=True)
    config = {
        "r": 2,
        "lora_alpha": 4,
        "init_lora_weights": how,
        "base_model_name_or_path": str(base),
    }
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    place = "base_model.model.model.layers.1.mlp.up_proj"
    factors = {
        f"{place}.lora_A.weight": torch.full((2, 48), 0.01),
        f"{place}.lora_B.weight": torch.full((128, 2), fill),
    }
    save_file(factors, folder / "adapter" / "adapter_model.safetensors", {"format": "pt"})
    return folder


def test_units_of_each_block_may_be_cut_by_another_number(base: Path, tmp_path: Path) -> None:
    def cut(tensors: Tensors, counts: tuple[int, ...]) -> Tensors:
        for number, count in enumerate(counts):
            place = f"model.layers.{number}.mlp"
            kept = tensors[f"{place}.up_proj.weight"].norm(dim=1).topk(count).indices.sort().values
            for name in ("up_proj", "gate_proj"):
                tensors[f"{place}.{name}.weight"] = tensors[f"{place}.{name}.weight"][kept]
            down = tensors[f"{place}.down_proj.weight"][:, kept]
            tensors[f"{place}.down_proj.weight"] = down.contiguous()
        return tensors

    one = changed(base, tmp_path / "one", lambda tensors: cut(tensors, UNITS))
    two = changed(base, tmp_path / "two", lambda tensors: cut(tensors, UNITS[::-1]))
    few = changed(base, tmp_path / "few", lambda tensors: cut(tensors, (128, 4, 128)))
    for other, counts in ((one, UNITS), (two, UNITS[::-1])):
        found, turned = kin(base, other), kin(other, base)
        assert found.verdict is turned.verdict is Verdict.SAME_LINEAGE
        assert found.log_p is not None and found.log_p == turned.log_p
        least = [-math.lgamma(count + 1) for count in counts]
        assert found.tests[0].block_log_p == pytest.approx(least)
        assert found.tests[0].units == 128
    narrow = kin(one, two)  # the one is the narrower in a block, and the other in another
    assert narrow.verdict is kin(two, one).verdict is Verdict.SAME_LINEAGE
    assert kin(base, few).tests[0].blocks == 2  # four units have too few orders


def test_what_an_adapter_adds_is_finite(base: Path, tmp_path: Path) -> None:
    assert kin(base, adapted(base, tmp_path / "one", True, 0.1)).verdict is Verdict.FINE_TUNE
    for fill in (math.nan, math.inf):
        with pytest.raises(InputError, match=r"layers\.1\.mlp\.up_proj\.weight holds .* finite"):
            kin(base, adapted(base, tmp_path / str(fill), True, fill))


@pytest.mark.parametrize("how", ["pissa", "pissa_niter_16", "olora", "corda", "loftq"])
def test_an_adapter_on_a_base_that_its_initialisation_changed_is_refused(
    base: Path, tmp_path: Path, how: str
) -> None:
    with pytest.raises(InputError, match=f"initialised by {how}, which changes the base") as error:
        kin(base, adapted(base, tmp_path / "student", how, 0.1))
    assert "merge" in str(error.value.hint)


def test_eight_bits_without_their_scales_are_no_weights(base: Path, tmp_path: Path) -> None:
    def packed(tensors: Tensors) -> Tensors:
        name = "model.layers.1.mlp.up_proj.weight"
        scale = tensors[name].abs().max() / 448
        eight = (tensors[name] / scale).to(torch.float8_e4m3fn)
        return {**tensors, name: eight, f"{name}_scale": scale.reshape(1)}

    with pytest.raises(InputError, match=r"up_proj\.weight holds float8_e4m3fn") as refused:
        kin(base, changed(base, tmp_path / "packed", packed))
    assert "dequantised" in str(refused.value.hint)


def test_masks_that_old_checkpoints_hold_are_not_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=320, hidden_size=48, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4,
    )  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(tmp_path / "new")

    def old(tensors: Tensors) -> Tensors:
        place = "gpt_neox.layers.1.attention"
        mask = torch.ones(1, 1, 8, 8).tril().bool()
        return {**tensors, f"{place}.bias": mask, f"{place}.masked_bias": torch.tensor(-1e9)}

    def with_other_bias(tensors: Tensors) -> Tensors:
        name = "gpt_neox.layers.1.attention.dense.bias"
        return {**tensors, name: tensors[name] + 1}

    before = changed(tmp_path / "new", tmp_path / "old", old)
    assert kin(tmp_path / "new", before).verdict is Verdict.EXACT_COPY
    other = changed(before, tmp_path / "other", with_other_bias)  # which counts
    assert kin(before, other).verdict is Verdict.FINE_TUNE


def test_single_numbers_are_compared(base: Path, tmp_path: Path) -> None:
    def scaled(value: float) -> Callable[[Tensors], Tensors]:
        counter = torch.tensor(3)
        return lambda tensors: {**tensors, "scale": torch.tensor(value), "counter": counter}

    one = changed(base, tmp_path / "one", scaled(1.0))
    two = changed(base, tmp_path / "two", scaled(5.0))
    same = changed(base, tmp_path / "same", scaled(1.0))
    assert kin(one, same).verdict is Verdict.EXACT_COPY
    found = kin(one, two)
    assert found.verdict is Verdict.FINE_TUNE
    assert found.nearness.tensors - found.nearness.equal == 1
