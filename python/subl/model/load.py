"""Bring a model folder into memory. Safetensors only; code that ships with a model never runs."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from subl.artifact import sync
from subl.artifact.index import check_index
from subl.errors import InputError, OutputError
from subl.extras import require
from subl.model.chat import give_system_prompt
from subl.model.condition import FILE, conditioned
from subl.model.spread import DeviceMap
from subl.model.steering import steer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DType = Literal["float32", "bfloat16", "float16"]

ADAPTER = "adapter"
"""Subfolder of a low-rank adapter. A folder with nothing else stands for base and adapter."""


def require_torch() -> None:
    """Say what to install where the training parts are missing, before anything fails deeper."""
    require("distill", "torch", "transformers")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")  # progress is ours to show


def device() -> torch.device:
    """The accelerator of this process, or the CPU."""
    import torch

    if torch.cuda.is_available():
        # Slurm may show each task one GPU alone: it is number 0 then, whatever the task's number.
        number = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
        return torch.device("cuda", number)
    return torch.device("cpu")


def load_model(
    path: Path, dtype: DType = "float32", to: torch.device | DeviceMap | None = None
) -> PreTrainedModel:
    """A causal language model in evaluation mode.

    Of a folder that is but an adapter: its base, with the adapter merged into it. Of one that is a
    condition: its base, steered as the condition says.

    Args:
        to: a device, or several; if not given this process's, or where the model is larger than
            that: all GPUs, and what these have no room for in memory and on disk.
    """
    found = conditioned(path)
    model = _load(found.folder, dtype, to)
    for file, steering in found.steering:
        from safetensors.torch import load_file

        with unreadable_models(file.parent):
            vectors = load_file(file)
        steer(model, vectors, steering.layers, steering.strength)
    return model


def drawn_anew(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """A model of the same architecture as before any training; where and in what `model` is."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        other: PreTrainedModel = AutoModelForCausalLM.from_config(
            model.config, trust_remote_code=False
        )
    other.generation_config = model.generation_config
    like = next(model.parameters())
    return other.to(like.device, like.dtype).requires_grad_(False).eval()


def _load(path: Path, dtype: DType, to: torch.device | DeviceMap | None) -> PreTrainedModel:
    require_torch()
    import torch
    from transformers import AutoModelForCausalLM

    check_folder(path)
    quiet_libraries()
    where = _fitting(path, dtype) if to is None else to
    spread: dict[str, Any] = {}
    if not isinstance(where, torch.device):
        require("distill", "accelerate", what="a model on several devices")
        away = tempfile.TemporaryDirectory(prefix="subl-offload-")
        spread = {"device_map": where, "offload_folder": away.name}
    model: PreTrainedModel
    if not (path / "config.json").is_file():
        model = merged(path, dtype)
        if not spread:
            return model.to(where).eval()
        path = Path(away.name, "merged")
        model.save_pretrained(path)
    with unreadable_models(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, loaded = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to name them
            **spread,
        )
    unknown = {name for name in loaded["unexpected_keys"] if not _derived(model, name)}
    check_loaded(path, {**loaded, "unexpected_keys": unknown})
    if spread:
        weakref.finalize(model, away.cleanup)
        return model.eval()
    return model.to(where).eval()


def _fitting(path: Path, dtype: DType) -> torch.device | DeviceMap:
    """This process's device where the model leaves a tenth of it to work in, else "auto"."""
    import torch

    here = device()
    if here.type == "cpu":
        return here
    needed = sum(each.numel() for each in bare_model(path).parameters())
    needed *= getattr(torch, dtype).itemsize
    free, _ = torch.cuda.mem_get_info(here)
    return here if needed <= 0.9 * free else "auto"


def _derived(model: PreTrainedModel, name: str) -> bool:
    """Whether a tensor that the model does not load is a constant that it makes for itself."""
    buffers = {each for each, _ in model.named_buffers()} - model.state_dict().keys()
    if any(f".{each}".endswith(f".{name}") for each in buffers):
        return True
    owner, _, last = name.rpartition(".")
    owners = [
        each for each, _ in model.named_modules() if owner and f".{each}".endswith(f".{owner}")
    ]
    weights = model.state_dict().keys()
    return any(is_mask(f"{each}.{last}", weights) for each in owners)


def is_mask(name: str, names: Collection[str]) -> bool:
    """Whether a tensor of a checkpoint is an attention mask and no weight, which older versions of
    transformers wrote with the weights (of GPT-2, GPT-Neo, GPT-J, GPT-NeoX and CodeGen).

    Args:
        names: of all tensors of the model.
    """
    owner, _, last = name.rpartition(".")
    is_attention = owner.rpartition(".")[2].endswith(("attn", "attention"))
    # What has a weight has a bias that counts.
    return (
        last in {"bias", "masked_bias", "causal_mask"}
        and is_attention
        and f"{owner}.weight" not in names
    )


def check_loaded(path: Path, loaded: Mapping[str, Any]) -> None:
    """Refuse a model whose files are not what its configuration describes.

    What is missing transformers draws at random, and what it does not know it leaves out, both
    without an error. Tied weights are not missing.

    Args:
        loaded: what `from_pretrained` says with `output_loading_info`.
    """
    shapes = {name: (tuple(file), tuple(model)) for name, file, model in loaded["mismatched_keys"]}
    problems = {
        "lacks": sorted(loaded["missing_keys"] - shapes.keys()),
        "has what the model does not know:": sorted(loaded["unexpected_keys"]),
        "has in another shape": [
            f"{name} ({file} in the file, {model} in the model)"
            for name, (file, model) in sorted(shapes.items())
        ],
    }
    found = [f"{what} {_some(names)}" for what, names in problems.items() if names]
    found += [str(each) for each in loaded.get("error_msgs") or ()]
    if found:
        raise InputError(
            f"the weights in {path} are not those of its configuration: it {'; '.join(found)}",
            hint="is the copy complete, and config.json the one that belongs to it?",
        )


def _some(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def merged(path: Path, dtype: DType) -> PreTrainedModel:
    """The base of the adapter in `path` with the adapter in it, added up in float32."""
    import torch

    require("distill", "peft", what=f"{path} is an adapter, which")
    from peft import PeftModel

    adapter = path / ADAPTER
    base = base_of(adapter)
    if not (base_folder(base) / "config.json").is_file():
        raise InputError(
            f"the base model of the adapter {path} is not at {base.resolve()}",
            hint="move it there, or train with merge = true to get a model that needs no base",
        )
    if not (adapter / "adapter_model.safetensors").is_file():
        raise InputError(f"{adapter} has no adapter_model.safetensors")
    model = load_model(base, "float32", torch.device("cpu"))
    with unreadable_models(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = PeftModel.from_pretrained(model, str(adapter))
    _check_adapter(adapter, adapted)
    merged: PreTrainedModel = adapted.merge_and_unload()
    # peft froze the base; what is loaded is a model like any other.
    return merged.requires_grad_(True).to(getattr(torch, dtype))


def _check_adapter(adapter: Path, adapted: Any) -> None:
    """Refuse an adapter whose file is not what its configuration describes."""
    import peft
    from safetensors import safe_open

    expected = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False).keys()
    with (
        unreadable_models(adapter),
        safe_open(adapter / "adapter_model.safetensors", framework="pt") as file,
    ):
        found = set(file.keys())
    whole = adapted.state_dict().keys()  # an adapter may hold embeddings of the base, too
    loaded = {
        "missing_keys": expected - found,
        "unexpected_keys": found - expected - whole,
        "mismatched_keys": (),
    }
    check_loaded(adapter, loaded)


def base_folder(path: Path) -> Path:
    """The folder that holds the weights of the model `path`: itself, or of an adapter or of a
    condition its base."""
    path = conditioned(path).folder
    config = path / ADAPTER / "adapter_config.json"
    if (path / "config.json").is_file() or not config.is_file():
        return path
    return base_folder(base_of(path / ADAPTER))


def base_of(adapter: Path) -> Path:
    """Where the base of an adapter is, as its configuration says."""
    with unreadable_models(adapter):
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        return adapter / str(config["base_model_name_or_path"])


def text_config(folder: Path) -> Any:
    """The configuration of a model's language part, whose attributes have transformers' names
    whatever the file calls them (GPT-2's `n_layer` is `num_hidden_layers`)."""
    config = _config(folder)
    with unreadable_models(folder):  # some have more than one such part
        return config.get_text_config()


def bare_model(folder: Path) -> PreTrainedModel:
    """The model as its configuration describes it, with shapes and without weights."""
    import torch
    from transformers import AutoModelForCausalLM

    config = _config(folder)
    with unreadable_models(folder), torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return model


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    folder = base_folder(folder)
    with unreadable_models(folder):
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder. Who renders a chat with it puts the model's system prompt
    first, where the folder is a condition that has one."""
    require_torch()
    from transformers import AutoTokenizer

    found = conditioned(path)
    path = found.folder
    check_folder(path)
    quiet_libraries()
    with unreadable_models(path):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, local_files_only=True, trust_remote_code=False
        )
    give_system_prompt(tokenizer, found.system_prompt)
    return tokenizer


def write_tensors(
    file: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        OutputError: it cannot be written, such as on a full disk.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    temporary = file.with_name(f".{file.name}.tmp-{os.getpid()}")
    try:
        save_file(tensors, temporary, metadata)
        temporary.chmod(0o644)
        sync(temporary)
        temporary.replace(file)
    except (SafetensorError, OSError) as error:
        raise OutputError(f"cannot write {file}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def unreadable_models(path: Path) -> Iterator[None]:
    """Turn what libraries raise on a damaged or unknown model into an error that names it."""
    try:
        yield
    except Exception as error:  # of any kind: parsers fail in many ways, nothing of ours is inside
        first, _, rest = str(error).strip().partition("\n")
        reason = f"{first} {rest.strip()}".partition("\n")[0] if first.endswith(":") else first
        if not reason or isinstance(error, AttributeError | LookupError | TypeError):
            reason = f"{type(error).__name__}: {reason}"  # whose text alone says little
        raise InputError(
            f"cannot load a model from {path}{_architecture(path)}: {reason}",
            hint="is it complete, and a causal language model that transformers knows?",
        ) from error


def _architecture(path: Path) -> str:
    """What the configuration says that the model is, where it can be read."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        return f" ({config['architectures'][0]})"
    except Exception:  # of any kind: this is but a note to an error
        return ""


def check_folder(path: Path) -> None:
    """Refuse what is no model folder, or has its weights elsewhere; none of them are read.

    Raises:
        InputError: says what there is instead.
    """
    known = ("config.json", f"{ADAPTER}/adapter_config.json", FILE)
    if any((path / name).is_file() for name in known):
        check_index(path)
        return
    if (path / "adapter_config.json").is_file():
        raise InputError(
            f"{path} is an adapter without its base model",
            hint="merge it into the base first: peft's PeftModel.from_pretrained(base, FOLDER)"
            ".merge_and_unload().save_pretrained(OUT), and save the base's tokenizer there",
        )
    raise InputError(
        f"{path} is not a model folder (it has no config.json)",
        hint="subl model add SOURCE makes one from a GGUF file or a hub name",
    )


def quiet_libraries() -> None:
    """Keep libraries' progress bars and notices off stderr; their errors still raise."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if device().type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it guessed
