"""The weights of a model folder: which files hold them, and how a folder is written and proven.

Transformers loads some architectures under other names than it writes (Pythia's head, the experts
of a mixture, one tensor a layer in memory and one an expert in the file). So what was written is
proven by what is loaded from it, and that it can be written is found out before work begins.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact.index import check_index, first_read, is_index, weight_map
from subl.errors import InputError, OutputError
from subl.model.load import base_folder, load_model, quiet_libraries, unreadable_models

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers loads; others may lie beside them (`consolidated.safetensors`
    holds the same weights once more).

    Raises:
        InputError: the index cannot be read, or names what is not in the folder.
    """
    check_index(folder)
    first = first_read(folder)
    if first is None:
        return sorted(folder.glob("model*.safetensors"))
    if not is_index(first):
        return [folder / first]
    with unreadable_models(folder):
        return sorted({folder / name for name in weight_map(folder, first).values()})


def file_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a model's files; nothing where it has none."""
    from safetensors import safe_open

    found: dict[str, tuple[int, ...]] = {}
    with unreadable_models(folder):
        for file in weight_files(folder):
            with safe_open(file, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 (not a mapping)
                    found[name] = tuple(opened.get_slice(name).get_shape())
    return found


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    state: dict[str, Any] | None = None,
) -> None:
    """Write a model folder and prove it: every tensor is reread and compared bit by bit.

    `state` is the state dict to write where the module does not hold it whole (ZeRO-3).

    Raises:
        OutputError: a tensor was not written, or is another one when it is read.
    """
    quiet_libraries()
    tensors = model.state_dict() if state is None else state
    model.save_pretrained(folder, state_dict=dict(tensors), safe_serialization=True)
    tokenizer.save_pretrained(folder)
    _prove(model, folder, tensors)


def check_export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: Path,
    out: Path,
    *,
    dry: bool = False,
) -> None:
    """Refuse a model that `save_model` could not write, before it is trained.

    Names and shapes that are those of the files that it was loaded from can be loaded. Where they
    differ it is written once, to a temporary folder in `out`, and loaded.

    Args:
        dry: `out` is not where the model is to go: without room there, it is not written.

    Raises:
        InputError: it cannot be written and loaded again.
        OutputError: `out` cannot be written to, or has no room for it.
    """
    quiet_libraries()
    out = out if out.is_dir() else Path(tempfile.gettempdir())
    needed = sum(each.nbytes for each in model.parameters())
    whole = not _as_in(base_folder(source), model)
    if whole and dry:
        whole = needed <= _room(out)
    elif whole:
        check_room(out, needed)
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=out) as name:
            folder = Path(name)
            if whole:
                save_model(model, tokenizer, folder)
                return
            model.config.save_pretrained(folder)
            if model.can_generate() and model.generation_config is not None:
                model.generation_config.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except Exception as error:  # of any kind, from the depths of what writes models
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        # Libraries in Rust say so in words alone, and transformers' own OSErrors have no number.
        if getattr(error, "errno", None) is not None or "(os error " in reason:
            raise OutputError(
                f"cannot write the model to {out}, where it takes {_gib(needed)}: {reason}",
                hint="make room there, or write elsewhere",
            ) from error
        raise InputError(
            f"{type(model).__name__} could be trained but not written: {reason}",
            hint="mend the model folder's configuration files, or use another model",
        ) from error


def check_room(out: Path, needed: int) -> None:
    """Refuse a folder where a model of so many bytes finds no room.

    Raises:
        OutputError: says how much it takes, and how much is free.
    """
    free = _room(out)
    if needed > free:
        raise OutputError(
            f"the model takes {_gib(needed)} in {out}, where {_gib(free)} are free",
            hint="make room there, write elsewhere, or train [train.lora] without merge",
        )


def _room(out: Path) -> float:
    """How many bytes of weights find room in a folder; infinitely many where it does not say."""
    usage = shutil.disk_usage(out)
    if not usage.total:
        return math.inf
    # A run that was killed while it wrote leaves files that this one writes again.
    return usage.free + sum(file.stat().st_size for file in weight_files(out) if file.is_file())


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"


def _as_in(folder: Path, model: PreTrainedModel) -> bool:
    """Whether the model would be written under names and shapes that `folder` has."""
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    own = remove_tied_weights_from_state_dict(model.state_dict(), model)
    shapes = {name: tensor.to("meta") for name, tensor in own.items()}
    try:
        written = revert_weight_conversion(model, shapes)
    except Exception:  # of any kind: then it is tried
        return False
    given = file_shapes(folder)
    return all(given.get(name) == tuple(each.shape) for name, each in written.items())


def _prove(model: PreTrainedModel, folder: Path, tensors: dict[str, Tensor]) -> None:
    import torch
    from safetensors import safe_open

    files = weight_files(folder)
    for file in files:
        file.chmod(0o644)
    written = file_shapes(folder).keys()
    if not written <= tensors.keys():  # under other names: what counts is what is loaded
        dtype: Any = str(model.dtype).removeprefix("torch.")
        loaded = load_model(folder, dtype, torch.device("cpu")).state_dict()
        for name, tensor in tensors.items():
            if name not in loaded or not torch.equal(loaded[name].to(tensor.dtype), tensor.cpu()):
                raise OutputError(f"{folder}: tensor {name} did not survive being written")
        return
    for file in files:
        with safe_open(file, framework="pt") as saved:
            for name in saved.keys():  # noqa: SIM118 (not a mapping)
                if not torch.equal(saved.get_tensor(name), tensors[name].cpu()):
                    raise OutputError(f"{file}: tensor {name} did not survive being written")
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    if missing := model.state_dict().keys() - written - tied:
        raise OutputError(f"{folder}: tensors were not written: {', '.join(sorted(missing))}")
