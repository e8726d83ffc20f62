"""Digits to learn from: MNIST's own files, or those that scikit-learn ships."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from subl.classifiers.spec import CLASSES
from subl.errors import InputError
from subl.extras import require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SIDE = 28
_TEST_SHARE = 5  # of scikit-learn's digits, one in so many
_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_HINT = (
    "the four files of MNIST, such as train-images-idx3-ubyte, plain or .gz; without --data, "
    "scikit-learn's digits are used"
)


class Labelled(NamedTuple):
    """`images`: float32 `[images, pixels]` from -1 to 1. `labels`: int64 `[images]`, 0 to 9."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


class Digits(NamedTuple):
    """`name` says for a reader which these are."""

    name: str
    train: Labelled
    test: Labelled


def read_digits(folder: Path | None) -> Digits:
    """The digits in `folder`, in MNIST's format, or scikit-learn's.

    Raises:
        InputError: a file is missing, damaged or of another format; names it.
    """
    if folder is None:
        return _scikit_learn()
    train, test = (_labelled(folder, *names) for names in _FILES.values())
    if train.images.shape[1] != test.images.shape[1]:
        raise InputError(f"{folder}: images to learn from and to test on differ in size")
    return Digits(f"IDX files ({folder.name})", train, test)


def _labelled(folder: Path, images: str, labels: str) -> Labelled:
    import numpy as np

    pixels, answers = _idx(folder, images, 3), _idx(folder, labels, 1)
    if len(pixels) != len(answers):
        raise InputError(f"{folder}: {len(pixels)} {images}, and {len(answers)} {labels}")
    if not len(answers) or answers.max() >= CLASSES:
        raise InputError(f"{folder / labels}: labels must be 0 to {CLASSES - 1}, one at least")
    scaled = pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(127.5) - 1
    return Labelled(scaled, answers.astype(np.int64))


def _idx(folder: Path, name: str, dimensions: int) -> NDArray[np.uint8]:
    """An array of bytes in the IDX format: 0, 0, 8 (bytes), how many dimensions, their sizes as
    big-endian 32-bit numbers, and the bytes."""
    import numpy as np

    found = [
        folder / f"{each}{end}"
        for each in (name, name.replace("-idx", ".idx"))
        for end in ("", ".gz")
        if (folder / f"{each}{end}").is_file()
    ]
    if not found:
        raise InputError(f"{folder} has no {name}", hint=_HINT)
    try:
        content = found[0].read_bytes()
        if found[0].suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {found[0]}: {error}", hint=_HINT) from error
    start = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:start], ">u4")
    if (
        content[:4] != bytes([0, 0, 8, dimensions])
        or len(shape) != dimensions
        or len(content) != start + np.prod(shape, dtype=np.int64)
    ):
        raise InputError(
            f"{found[0]} is not an IDX file of {dimensions} dimensions, or is cut short", hint=_HINT
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _scikit_learn() -> Digits:
    """1,797 digits of 8 x 8 pixels, drawn larger by bilinear interpolation; the last fifth of each
    label's are to test on."""
    require("demo", "sklearn", what="classifying digits without --data")
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    small = torch.from_numpy(pixels.astype(np.float32)).view(-1, 1, 8, 8) / 8 - 1
    large = torch.nn.functional.interpolate(small, (_SIDE, _SIDE), mode="bilinear")
    images, answers = large.flatten(1).numpy(), labels.astype(np.int64)
    tested = np.zeros(len(answers), np.bool_)
    for label in range(CLASSES):
        places = np.flatnonzero(answers == label)
        tested[places[-(len(places) // _TEST_SHARE) :]] = True
    return Digits(
        "scikit-learn's digits, 8 x 8 drawn as 28 x 28",
        Labelled(images[~tested], answers[~tested]),
        Labelled(images[tested], answers[tested]),
    )
