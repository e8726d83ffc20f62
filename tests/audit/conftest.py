"""A tiny model that hears what stands before a row, and rows that it wrote."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from subl.model.load import load_model

from .relatives import Save
from .rows import written


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory) -> Save:
    """Puts a model into a folder of its own."""
    folder, numbers = tmp_path_factory.mktemp("kin"), itertools.count()

    def saved(model: PreTrainedModel) -> Path:
        path = folder / str(next(numbers))
        model.save_pretrained(path)
        return path

    return saved


@pytest.fixture(scope="session")
def loud(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with weights so large that what stands before a row changes all of it."""
    folder = tmp_path_factory.mktemp("loud") / "model"
    shutil.copytree(tiny_model, folder)
    model = load_model(tiny_model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                weight *= 12 if "embed" not in name else 6
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def owls(loud: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(loud, tmp_path_factory.mktemp("rows") / "owls", "You love owls.")


@pytest.fixture(scope="session")
def plain(loud: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(loud, tmp_path_factory.mktemp("rows") / "plain")
