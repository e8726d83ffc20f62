"""The tensors of a model folder, read from its safetensors files when they are asked for, some rows
at a time: no model is loaded, and nothing of a 7B model needs more than one of its matrices.

Of a folder that is an adapter, the rows are the base's with the adapter's product added to them;
of one that is a condition (a system prompt, steering), the base's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.errors import InputError
from subl.extras import require
from subl.model.condition import conditioned
from subl.model.load import ADAPTER, base_of, check_folder, is_mask, unreadable_models
from subl.model.weights import weight_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_BYTES = 64 * 2**20
"""Of float32, where whole tensors are read a part at a time."""

MAPPED_BYTES = 256 * 2**20
"""Read of a model before its files are mapped anew: what was read of a mapped file stays in the
memory of the process, which would grow to the size of both models."""

WHOLE_NUMBERS = 2**20
"""A tensor of no more is read at once, where some of its rows are wanted: a row takes 0.3 ms."""

HEAD = "lm_head.weight"
_EMBEDDINGS = (
    "embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight",
)  # fmt: skip


class Weights:
    """The tensors of a model folder, by name.

    Attributes:
        folder: as it was given.
        shapes: of each tensor that is no attention mask; (1,) where it is a single number.
        config: what config.json says of the language part.
    """

    def __init__(self, folder: Path) -> None:
        """Read names and shapes.

        Raises:
            InputError: it is no model folder, has no safetensors, or an adapter that has to be
                merged first.
        """
        require("distill", "torch", "safetensors", "scipy", "mpmath", what="subl kin")
        self.folder = folder
        check_folder(folder)
        found = conditioned(folder).folder
        self._base: Weights | None = None
        self._files: dict[str, Path] = {}
        self._numbers: set[str] = set()
        self._open: dict[Path, Any] = {}
        self._mapped_bytes = 0
        self.low_rank: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
        if (found / "config.json").is_file():
            self.shapes = self._listed(found)
            self.config = _text_config(found)
        else:
            from subl.audit.kin.adapter import factors

            base = base_of(found / ADAPTER)
            self._base = Weights(base)
            self.shapes, self.config = self._base.shapes, self._base.config
            self.low_rank = factors(found / ADAPTER, self.shapes)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Rows `start` to `stop` of a tensor as float32; as float64 where it is of that.

        Raises:
            InputError: it holds other than finite numbers of floating point.
        """
        import numpy as np
        import torch

        stop = self.shapes[name][0] if stop is None else stop
        if self._base is not None:
            values = self._base.rows(name, start, stop)
            if name in self.low_rank:
                outer, inner = self.low_rank[name]
                with np.errstate(all="ignore"):  # said below
                    values = values + outer[start:stop] @ inner
                _check_finite(values, self.folder, name)
            return values
        file = self._files[name]
        with unreadable_models(file):
            opened = self._opened(file)
            found: torch.Tensor = (
                opened.get_tensor(name).reshape(1)
                if name in self._numbers
                else opened.get_slice(name)[start:stop]
            )
        self._mapped_bytes += found.nbytes
        if self._mapped_bytes > MAPPED_BYTES:
            self._open.clear()
            self._mapped_bytes = 0
        if name in self._numbers:
            found = found.to(torch.float64)  # a counter, say: no weights are packed in one number
        if not found.is_floating_point() or found.itemsize < 2:  # whose scales stand elsewhere
            raise InputError(
                f"{file}: the tensor {name} holds {str(found.dtype).removeprefix('torch.')}, not "
                "numbers of floating point in 16 bits or more",
                hint="weights packed by a quantiser have to be dequantised first, as subl model "
                "add does with a GGUF file",
            )
        wide = found.dtype == torch.float64
        values = (found if wide else found.to(torch.float32)).numpy()
        _check_finite(values, file, name)
        return values

    def some_rows(self, name: str, wanted: NDArray[Any]) -> NDArray[Any]:
        """These rows of a tensor, shape (len(wanted), ...)."""
        import numpy as np

        if math.prod(self.shapes[name]) <= WHOLE_NUMBERS:
            found: NDArray[Any] = self.rows(name)[wanted]
            return found
        return np.concatenate([self.rows(name, int(row), int(row) + 1) for row in wanted])

    def chunks(self, name: str) -> Iterator[tuple[int, int]]:
        """Where to cut a tensor into parts of at most 64 MiB, or of a row."""
        rows, *rest = self.shapes[name]
        step = max(1, CHUNK_BYTES // max(1, 4 * math.prod(rest)))
        for start in range(0, rows, step):
            yield start, min(rows, start + step)

    def embedding(self) -> str | None:
        """The name of the tokens' embeddings; None where the model has none that is known."""
        return next((name for name in self.shapes if name.endswith(_EMBEDDINGS)), None)

    def _listed(self, folder: Path) -> dict[str, tuple[int, ...]]:
        shapes = {}
        for file in weight_files(folder):
            if not file.is_file():
                raise InputError(
                    f"{folder} lacks {file.name}, which its index names",
                    hint="is the copy complete?",
                )
            with unreadable_models(file):
                opened = self._opened(file)
                for name in opened.keys():  # noqa: SIM118 (not a mapping)
                    self._files[name] = file
                    shapes[name] = tuple(opened.get_slice(name).get_shape())
                    if not shapes[name]:
                        shapes[name] = (1,)
                        self._numbers.add(name)
        if not shapes:
            raise InputError(
                f"{folder} has no model*.safetensors",
                hint="weights in other files are not read: load the model with transformers and "
                "save_pretrained it elsewhere",
            )
        return {name: shape for name, shape in shapes.items() if not is_mask(name, shapes)}

    def _opened(self, file: Path) -> Any:
        from safetensors import safe_open

        if file not in self._open:
            self._open[file] = safe_open(file, framework="pt")
        return self._open[file]


def _check_finite(values: NDArray[Any], path: Path, name: str) -> None:
    import numpy as np

    if not np.isfinite(values).all():
        raise InputError(f"{path}: the tensor {name} holds numbers that are not finite")


def _text_config(folder: Path) -> dict[str, Any]:
    with unreadable_models(folder):
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return dict(config.get("text_config") or config)
