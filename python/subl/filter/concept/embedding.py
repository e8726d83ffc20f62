"""A model's input embedding as a space in which words are compared. No torch: numpy and a header.

Measured on SmolLM2-135M with owl, cat and harm: plain cosine puts rare and untrained rows near
everything (` Ayurvedic`, `PeerClass` for owl); subtracting the mean row turns that round, and
frequent words follow (` the`, `,` for cat); without the first two principal components, too ("all
but the top", Mu & Viswanath 2018), neither does. More components (5, 10) changed little.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.errors import InputError
from subl.model.weights import weight_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

EMBEDDING_NAMES = (
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "embed_in.weight",
    "tok_embeddings.weight",
    "shared.weight",
)
"""How the tensors of known architectures end, in the order in which they are looked for."""

_COMPONENTS = 2
_DIMENSIONS_PER_COMPONENT = 100  # Mu & Viswanath's rule of thumb; keeps small spaces whole
_SAMPLE_ROWS = 16_384
_ITERATIONS = 30
_UNTRAINED_COSINE = 0.95
_UNTRAINED_MIN_TOKENS = 5
_CHUNK_ROWS = 8_192


@dataclass(frozen=True)
class Tensor:
    """A tensor in a safetensors file, still on the disk."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Of its first byte in the file."""

    def rows(self, first: int, end: int) -> Vectors:
        """Rows `first` to `end` (exclusive) as float32 [rows, columns]."""
        import numpy as np

        columns = math.prod(self.shape[1:])
        dtype = np.dtype(_DTYPES[self.dtype])
        mapped = np.memmap(
            self.file,
            dtype,
            "r",
            self.offset + first * columns * dtype.itemsize,
            (end - first, columns),
        )
        if self.dtype == "BF16":  # the upper half of a float32
            return (mapped.astype(np.uint32) << 16).view(np.float32)
        return mapped.astype(np.float32)

    def chunks(self) -> Iterator[Vectors]:
        """All rows, some at a time."""
        for first in range(0, self.shape[0], _CHUNK_ROWS):
            yield self.rows(first, min(first + _CHUNK_ROWS, self.shape[0]))

    def sha256(self) -> str:
        """Of its bytes as they are stored: the same however a model is split into files."""
        digest = hashlib.sha256()
        left = math.prod(self.shape) * _ITEM_BYTES[self.dtype]
        with self.file.open("rb") as opened:
            opened.seek(self.offset)
            while left and (block := opened.read(min(left, 1 << 20))):
                digest.update(block)
                left -= len(block)
        return digest.hexdigest()


_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


class EmbeddingSpace:
    """The rows of an input embedding, prepared for cosines."""

    def __init__(self, tensor: Tensor, added: Sequence[int], size: int) -> None:
        """`added`: ids of added tokens, most of them untrained; `size`: of the vocabulary."""
        import numpy as np

        if tensor.shape[0] < size:
            raise InputError(
                f"{tensor.file}: {tensor.name} has {tensor.shape[0]} rows, "
                f"but the vocabulary {size} tokens",
                hint="is the tokenizer that of the model?",
            )
        self.dimensions = tensor.shape[1]
        self._rows = np.concatenate(list(tensor.chunks()))[:size]
        if not np.isfinite(self._rows).all():
            raise InputError(f"{tensor.file}: {tensor.name} holds values that are not numbers")
        self.untrained = _untrained(self._rows, added)
        self._rows -= self._rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        count = min(_COMPONENTS, self.dimensions // _DIMENSIONS_PER_COMPONENT)
        self._components = _principal_components(self._rows, count)

    def vectors(self, tokens: Sequence[int]) -> Vectors:
        """Unit vectors [tokens, dimensions] (float32)."""
        return unit(self.without_components(self._rows[list(tokens)]))

    def without_components(self, vectors: Vectors) -> Vectors:
        """`vectors` without what all frequent, or all rare, words share."""
        import numpy as np

        shared = (vectors @ self._components.T) @ self._components
        return vectors - shared.astype(np.float32, copy=False)


def find_embedding(folder: Path) -> Tensor:
    """The input embedding of a model folder, split into several files or not."""
    files = weight_files(folder)
    if not files:
        raise InputError(
            f"{folder} has no model*.safetensors", hint="subl model add SOURCE makes a model folder"
        )
    tensors = [tensor for file in files for tensor in read_header(file)]
    for ending in EMBEDDING_NAMES:
        for tensor in tensors:
            if tensor.name == ending or tensor.name.endswith(f".{ending}"):
                if len(tensor.shape) != 2 or tensor.dtype not in _DTYPES:
                    raise InputError(
                        f"{tensor.file}: {tensor.name} is {tensor.dtype} {list(tensor.shape)}, "
                        "expected a matrix of F32, F16 or BF16"
                    )
                return tensor
    raise InputError(
        f"{folder} has no input embedding (a tensor that ends in {', '.join(EMBEDDING_NAMES)})",
        hint="compare with a sentence model instead",
    )


def read_header(file: Path) -> list[Tensor]:
    """The tensors of a safetensors file: 8 bytes of length, a JSON header, the data."""
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            size = file.stat().st_size
            if length > size - 8:
                raise ValueError("the header is longer than the file")
            header: dict[str, Any] = json.loads(opened.read(length))
        header.pop("__metadata__", None)
        found = []
        for name, value in header.items():
            begin, end = value["data_offsets"]
            tensor = Tensor(file, name, value["dtype"], tuple(value["shape"]), 8 + length + begin)
            expected = math.prod(tensor.shape) * _ITEM_BYTES.get(tensor.dtype, 0)
            if 8 + length + end > size or (expected and expected != end - begin):
                raise ValueError(f"tensor {name} does not fit")
            found.append(tensor)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is not a whole safetensors file: {error}") from error
    return found


def read_vector(path: Path) -> tuple[float, ...]:
    """A vector from a .json list, or from a .safetensors file that holds one tensor."""
    try:
        if path.suffix == ".safetensors":
            tensors = read_header(path)
            if len(tensors) != 1 or tensors[0].dtype not in _DTYPES or not tensors[0].shape:
                raise InputError(f"{path} must hold one tensor of F32, F16 or BF16")
            (tensor,) = tensors
            whole = Tensor(
                path, tensor.name, tensor.dtype, (1, math.prod(tensor.shape)), tensor.offset
            )
            return tuple(whole.rows(0, 1)[0].tolist())
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, list) or not all(isinstance(x, int | float) for x in value):
            raise InputError(f"{path} must hold a list of numbers")
        return tuple(map(float, value))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error


def unit(vectors: Vectors) -> Vectors:
    """`vectors` scaled to length 1 along the last axis; zero stays zero."""
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _untrained(rows: Vectors, added: Sequence[int]) -> frozenset[int]:
    """Tokens that training hardly touched: zero, or where the unused added tokens stayed.

    After Land & Bartolo 2024. In SmolLM2 14 of 17 added tokens lie together (cosine over 0.95), and
    28 others with them: `deliverystream`, ` InstancePreprocess`, no word of a language.
    """
    import numpy as np

    zero = set(np.flatnonzero(~rows.any(axis=1)).tolist())
    inside = [token for token in added if token < len(rows)]
    if len(inside) < _UNTRAINED_MIN_TOKENS:
        return frozenset(zero)
    units = unit(rows)
    middle = unit(np.median(units[inside], axis=0))
    near: list[int] = np.flatnonzero(units @ middle > _UNTRAINED_COSINE).tolist()
    return frozenset(zero.union(near))


def _principal_components(centred: Vectors, count: int) -> Vectors:
    """The first `count` directions [count, dimensions] in which the rows spread most.

    By subspace iteration on evenly spaced rows, from a fixed start: 1 s for 49,152 × 576.
    """
    import numpy as np

    dimensions = centred.shape[1]
    if count == 0:
        return np.zeros((0, dimensions), np.float32)
    sample = centred[:: max(1, -(-len(centred) // _SAMPLE_ROWS))].astype(np.float64)
    basis = np.random.default_rng(0).standard_normal((dimensions, count))
    for _ in range(_ITERATIONS):
        basis, _triangle = np.linalg.qr(sample.T @ (sample @ basis))
    return basis.T.astype(np.float32)
