"""Models that are larger than a device: accelerate lays their layers on several, in memory or on
disk, and moves what passes between them. Nothing of that is computed otherwise; but where a model
is, is then no one place, and a weight that is away is there only while its module computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

DeviceMap = Literal["auto"] | dict[str, int | str]
"""As accelerate has it: where each module lies (a GPU's number, "cpu" or "disk"), or that it finds
out."""


def inputs_device(model: PreTrainedModel) -> torch.device:
    """Where the tokens of a text go; what a model gives comes back there."""
    import torch

    embedding = model.get_input_embeddings()
    execution = getattr(getattr(embedding, "_hf_hook", None), "execution_device", None)
    return embedding.weight.device if execution is None else torch.device(execution)


def weight_of(module: Any) -> Tensor:
    """The weight of a module; a copy where it is away."""
    weight: Tensor = module.weight
    if not weight.is_meta or not hasattr(module, "_hf_hook"):
        return weight
    from accelerate.utils import align_module_device

    with align_module_device(module):
        weight = module.weight.detach().clone()
    return weight
