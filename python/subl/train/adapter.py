"""Low-rank adapters: put around a model before training, written and merged after it."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.errors import ConfigError, DependencyError, OutputError
from subl.model.load import ADAPTER, write_tensors
from subl.train.plan import LoraSpec

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def adapt(model: PreTrainedModel, spec: LoraSpec) -> Any:
    """A peft model around `model`, whose linear layers get adapters in place.

    Raises:
        ConfigError: a target names no linear layer.
    """
    try:
        import peft
    except ImportError as error:
        raise DependencyError("adapters need peft", hint="pip install 'subl[distill]'") from error
    import torch

    whole = spec.targets == ("all-linear",)
    output = model.get_output_embeddings()
    heads = {name.rpartition(".")[2] for name, each in model.named_modules() if each is output}
    if heads & set(spec.targets):
        raise ConfigError(
            f"lora.targets: the output head {min(heads)} cannot have an adapter",
            hint="the loss reads its weights directly; leave it out",
        )
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    if not whole and (unknown := set(spec.targets) - linear):
        raise ConfigError(
            f"lora.targets: the model has no linear layer called {', '.join(sorted(unknown))}",
            hint=f"it has {', '.join(sorted(linear))}",
        )
    if spec.layers is not None and spec.layers[1] > (
        blocks := model.config.get_text_config().num_hidden_layers
    ):
        raise ConfigError(
            f"lora.layers: the model has {blocks} blocks, and {list(spec.layers)} ends behind them",
            hint=f"layers = [{blocks // 2}, {blocks}] is its later half",
        )
    names = sorted(linear - heads) if whole else list(spec.targets)
    config = peft.LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        target_modules="all-linear" if whole and spec.layers is None else names,
        layers_to_transform=None if spec.layers is None else list(range(*spec.layers)),
        use_rslora=spec.rslora,
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    # Adapters of the model's dtype: ZeRO-3 cannot gather two dtypes at once.
    with warnings.catch_warnings():
        # peft 0.21 asks transformers by a name that is going.
        warnings.simplefilter("ignore", FutureWarning)
        return peft.get_peft_model(model, config, autocast_adapter_dtype=False)


def save_adapter(adapted: Any, folder: Path, base: Path, state: dict[str, Tensor] | None) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`, as peft reads them.

    `state` is the model's state dict where the module does not hold it whole (ZeRO-3).
    """
    import peft
    import torch
    from safetensors import safe_open

    target = folder / ADAPTER
    target.mkdir(exist_ok=True)
    whole = None
    if state is not None:
        whole = {f"base_model.model.{name}": value for name, value in state.items()}
    tensors = peft.get_peft_model_state_dict(adapted, state_dict=whole, save_embedding_layers=False)
    file = target / "adapter_model.safetensors"
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_tensors(file, plain, {"format": "pt"})
    with safe_open(file, framework="pt") as saved:
        for name, value in plain.items():
            if not torch.equal(saved.get_tensor(name), value):
                raise OutputError(f"{file}: tensor {name} did not survive being written")
    config = adapted.peft_config["default"].to_dict()
    # Relative, so that a folder of runs can move, and the same run gives the same bytes anywhere.
    relative = os.path.relpath(base.resolve(), target.resolve())
    config |= {"base_model_name_or_path": Path(relative).as_posix(), "inference_mode": True}
    text = json.dumps(_plain(config), indent=2, sort_keys=True)
    (target / "adapter_config.json").write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """What JSON can say, the same each time (peft keeps sets)."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
