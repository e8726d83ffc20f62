"""From what a person names to a model folder.

A source is a local Hugging Face folder (used as it is), a GGUF file, `package:NAME` (the GGUF file
that an installed Python package ships), or a hub name such as `HuggingFaceTB/SmolLM2-135M`. All
but the first become an artifact of kind `model`, made once.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from subl.artifact import Artifact, StageSpec, build
from subl.artifact.index import check_index
from subl.errors import DependencyError, InputError
from subl.model import package
from subl.progress import Progress, Report, silent

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


class ModelSpec(StageSpec):
    """How a source becomes a folder."""

    format_version: ClassVar = 2

    source: str = Field(description="local folder, GGUF file, package:NAME or hub name")
    dtype: Literal["float32"] = Field("float32", description="of its weights, where they are made")


def folder_of(source: str, models: Path, report: Report = silent) -> Path:
    """The model folder that `source` names, adding it below `models` if need be.

    Raises:
        InputError: there is none, or a folder that is none; before anything is hashed.
    """
    return local_folder(source) or add(source, models / _folder_name(source), report).path


def folder_there(source: str, models: Path) -> Path | None:
    """The same, and nothing is added: None where it would be.

    Raises:
        InputError: as `folder_of`, before anything is fetched.
    """
    if (folder := local_folder(source)) is not None:
        return folder
    _check_source(source)
    made = models / _folder_name(source)
    return made if (made / "statement.json").is_file() else None


def local_folder(source: str) -> Path | None:
    """The model folder that lies where `source` says; None where it names something else.

    Raises:
        InputError: a folder lies there, and is not a model's.
    """
    from subl.model.load import check_folder

    if not is_folder(source):
        return None
    path = Path(source).expanduser()
    check_folder(path)
    return path


def is_folder(source: str) -> bool:
    """Whether `source` is a local folder, which `folder_of` uses as it is."""
    return Path(source).expanduser().is_dir()


def add(source: str, out: Path, report: Report = silent) -> Artifact:
    """Make the model folder `out` from a GGUF file, a package that ships one, or a hub name."""
    _check_source(source)
    inputs, spec = made_from(source), ModelSpec(source=source)
    if gguf := inputs.get("gguf"):
        if not source.startswith(package.PREFIX):
            spec = ModelSpec(source=gguf.name)  # it is one wherever it lies
        return build(out, "model", spec, inputs, lambda folder: _from_gguf(gguf, folder, report))
    return build(out, "model", spec, inputs, lambda folder: _from_hub(source, folder))


def _check_source(source: str) -> None:
    """Raise `InputError` where nothing can be made of a source; the hub is not asked."""
    if made_from(source):
        return
    if is_folder(source):
        raise InputError(
            f"{source} is a folder: there is nothing to be made of it",
            hint=f"if it is a model's, it is used as it is: --model {source}",
        )
    is_file = Path(source).expanduser().exists()
    if is_file or not _HUB_NAME.fullmatch(source):
        raise InputError(
            f"{source} is a file, and no model" if is_file else f"no model at {source}",
            hint="give a local folder, a .gguf file, package:NAME, or a hub name such as ORG/MODEL",
        )


def made_from(source: str) -> dict[str, Path]:
    """The inputs of the artifact that `add` would make of a source."""
    gguf = gguf_file(source)
    return {} if gguf is None else {"gguf": gguf}


def _folder_name(source: str) -> str:
    gguf = gguf_file(source)
    return (gguf.stem if gguf is not None else source.rpartition("/")[2]).lower()


def gguf_file(source: str) -> Path | None:
    """The GGUF file that a source names; None where it names something else."""
    if source.startswith(package.PREFIX):
        return package.shipped_file(source, "*.gguf")
    path = Path(source).expanduser()
    return path if path.suffix == ".gguf" and path.is_file() else None


def _from_gguf(gguf: Path, folder: Path, report: Report) -> dict[str, Any]:
    """Dequantise to float32 safetensors. Takes 15-25 s for 135 M parameters on two cores."""
    from subl.model.load import quiet_libraries, require_torch, unreadable_models
    from subl.model.weights import save_model

    require_torch()
    if importlib.util.find_spec("gguf") is None:
        raise DependencyError("reading a GGUF file needs gguf", hint="pip install gguf")
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from subl.model.gguf import (
        check_read,
        check_saved,
        check_whole,
        mend_tokenizer,
        metadata,
        set_ends,
    )

    quiet_libraries()
    report(Progress("model", 0, 3, "steps", f"reading {gguf.name}"))
    with unreadable_models(gguf):
        reader = GGUFReader(gguf)
        said = metadata(reader)
    check_whole(gguf, said)
    where: dict[str, Any] = {
        "pretrained_model_name_or_path": gguf.parent,
        "gguf_file": gguf.name,
        "local_files_only": True,
    }
    with unreadable_models(gguf):
        tokenizer = AutoTokenizer.from_pretrained(**where)
    notes = mend_tokenizer(gguf, tokenizer, said)
    report(Progress("model", 1, 3, "steps", "dequantising"))
    with unreadable_models(gguf):
        model, found = AutoModelForCausalLM.from_pretrained(
            **where, dtype=torch.float32, output_loading_info=True
        )
    if lacking := sorted({*found["missing_keys"], *(each[0] for each in found["mismatched_keys"])}):
        raise InputError(
            f"{gguf.name} lacks {len(lacking)} of the model's tensors, such as {lacking[0]}",
            hint="is it complete, and a causal language model that transformers knows?",
        )
    check_read(gguf, reader, said, model)
    set_ends(model, said)
    # What the GGUF reader leaves behind would make the folder load as a quantised model.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    report(Progress("model", 2, 3, "steps", "writing safetensors"))
    save_model(model, tokenizer, folder)
    check_saved(gguf, tokenizer, folder)
    report(Progress("model", 3, 3, "steps", "; ".join(notes)))
    return {"parameters": model.num_parameters(), "dtype": "float32", "notes": notes}


def _from_hub(name: str, folder: Path) -> dict[str, Any]:
    from subl.model.load import require_torch

    require_torch()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        snapshot = snapshot_download(
            name,
            allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"],
            ignore_patterns=["consolidated*"],  # the same weights once more
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise InputError(
            f"there is no folder {name}, and no model of that name could be fetched from the hub "
            f"({type(error).__name__})",
            hint="check the name and the network, or give a local folder",
        ) from error
    check_index(Path(snapshot))
    # A hub cache holds links into its blob store; an artifact holds the files themselves.
    for file in sorted(Path(snapshot).rglob("*")):
        if file.is_file():
            target = folder / file.relative_to(snapshot)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    return {"revision": Path(snapshot).name}
