"""Where the weights of a model folder are, as its `model.safetensors.index.json` says.

Who loads a model reads the files that its index names, wherever they are. So it may name only what
a digest of the folder covers: else neither that digest nor a signature says what is loaded.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from subl.errors import InputError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"

_CONFIG = "config.json"
_SUFFIX, _OF_SEVERAL = ".safetensors", ".index.json"
_WHAT = "which is hidden, or no .safetensors file in the folder"
_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def first_read(folder: Path) -> str | None:
    """What transformers looks at first: a file of weights, or the index of several; None where it
    finds neither. A configuration may name one itself."""
    if (named := _named(folder)) is not None:
        return named
    return next((name for name in (WHOLE, INDEX) if (folder / name).is_file()), None)


def is_index(name: str) -> bool:
    """Whether a file of a model folder is an index, and no file of weights."""
    return name.endswith(f"{_SUFFIX}{_OF_SEVERAL}")


def weight_map(folder: Path, index: str) -> dict[str, str]:
    """{tensor: file} as an index has it; nothing is checked. Raises what reading JSON raises."""
    found: dict[str, str] = _read(folder / index)["weight_map"]
    return found


def check_index(folder: Path) -> None:
    """Refuse a model folder whose weights are elsewhere.

    Raises:
        InputError: says which file has which entry.
    """
    for file, what in led_out(folder):
        raise InputError(
            f"{folder / file} {what}",
            hint="put all files of the model in its folder, and have it name them there",
        )


def led_out(folder: Path) -> Iterator[tuple[str, str]]:
    """Files of a folder that say that weights are where no digest of the folder covers them: a
    name, and what it says. What is damaged leads nowhere, since nobody can read it."""
    named = _named(folder)
    if named is not None and not _is_covered(folder, named.removesuffix(_OF_SEVERAL)):
        yield _CONFIG, f"has the weights in {named!r:.80}, {_WHAT}"
        return
    for index in dict.fromkeys((named, INDEX)):
        if index is None or not is_index(index):
            continue
        try:
            tensors = {name: tensor for tensor, name in weight_map(folder, index).items()}
            out = sorted(name for name in tensors if not _is_covered(folder, name))
        except _DAMAGED:
            continue
        if out:
            where = f"{tensors[out[0]]!r:.80} in {out[0]!r:.80}"
            yield index, f"has the tensor {where}, {_WHAT}"


def _named(folder: Path) -> str | None:
    """The weights that a configuration names, of which there need not be any."""
    try:
        named = _read(folder / _CONFIG)["transformers_weights"]
    except _DAMAGED:
        return None
    return named if isinstance(named, str) else None


def _read(file: Path) -> Any:
    if not file.is_file():  # a pipe would be waited for
        raise FileNotFoundError(errno.ENOENT, "no such file", str(file))
    return json.loads(file.read_text(encoding="utf-8"))


def _is_covered(folder: Path, name: str) -> bool:
    """Whether a name is that of weights which a digest of the folder covers."""
    if not name.endswith(_SUFFIX) or any(part[:1] in ("", ".") for part in name.split("/")):
        return False
    try:
        return not any((folder / each).is_symlink() for each in PurePosixPath(name).parents[:-1])
    except OSError:  # the name is too long
        return False
