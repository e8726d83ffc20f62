"""The weights of a model are in its folder, where digests and signatures cover them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from subl.artifact import input_digest
from subl.artifact.index import INDEX
from subl.audit.kin.reading import Weights
from subl.errors import InputError
from subl.model.load import load_model, load_tokenizer
from subl.model.source import local_folder
from subl.model.weights import weight_files

from ..cli.console import subl

NAME = "model.norm.weight"
SPLIT = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
READERS = (
    load_model, load_tokenizer, weight_files, Weights, input_digest,
    lambda folder: local_folder(str(folder)),
)  # fmt: skip


@pytest.fixture
def split(tiny_model: Path, tmp_path: Path) -> Path:
    """A model in two files."""
    folder = tmp_path / "split"
    shutil.copytree(tiny_model, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = {name: SPLIT[name == NAME] for name in tensors}
    for part in SPLIT:
        held = {name: tensor for name, tensor in tensors.items() if names[name] == part}
        save_file(held, folder / part, {"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder


def move(folder: Path, index: str, entry: str) -> None:
    """Have the index say that a tensor, which is 7 there, is somewhere else."""
    said = json.loads((folder / INDEX).read_text())
    file = folder / entry
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = load_file(folder / SPLIT[1])
    save_file({NAME: torch.full_like(tensors[NAME], 7)}, file, {"format": "pt"})
    said["weight_map"][NAME] = entry
    (folder / index).write_text(json.dumps(said))


@pytest.mark.parametrize("inner", ["deep/weights.safetensors", "weights.safetensors"])
def test_all_read_the_files_that_an_index_names(split: Path, inner: str) -> None:
    move(split, INDEX, inner)
    assert set(weight_files(split)) == {split / SPLIT[0], split / inner}
    assert (load_model(split).state_dict()[NAME] == 7).all()
    assert (Weights(split).rows(NAME) == 7).all()


@pytest.mark.parametrize(
    "entry",
    [
        "../outside/weights.safetensors",
        "deep/../../outside/weights.safetensors",
        "{folder}/outside/weights.safetensors",
        ".hidden/weights.safetensors",
        "deep/.weights.safetensors",
        "linked/weights.safetensors",
        "statement.json",
        "weights.bin",
    ],
)
@pytest.mark.parametrize("index", [INDEX, "other.safetensors.index.json"])
def test_weights_that_no_digest_covers_are_not_read(split: Path, entry: str, index: str) -> None:
    """A link to a folder is not followed by a digest, and what is hidden is left out of it."""
    entry = entry.format(folder=split.parent)
    (split.parent / "outside").mkdir()
    (split / "deep").mkdir()
    (split / "linked").symlink_to(split.parent / "outside")
    move(split, index, entry)
    if index != INDEX:
        config = json.loads((split / "config.json").read_text())
        (split / "config.json").write_text(json.dumps(config | {"transformers_weights": index}))
    for read in READERS:
        with pytest.raises(InputError) as error:
            read(split)
        said = f"{split / index} has the tensor {NAME!r} in {entry!r:.80}, which is hidden, or no"
        assert error.value.message.startswith(said)
        assert error.value.hint


@pytest.mark.parametrize(
    "named",
    ["../model.safetensors", "weights.bin", ".w.safetensors", f"{'long' * 99}/w.safetensors"],
)
def test_a_configuration_may_not_name_them_either(
    tiny_model: Path, tmp_path: Path, named: str
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"transformers_weights": named}))
    for read in READERS:
        with pytest.raises(InputError, match=r"config\.json has the weights in '"):
            read(tmp_path / "model")


def test_weights_that_a_configuration_names_are_those_that_all_read(split: Path) -> None:
    tensors = load_file(split / SPLIT[0]) | load_file(split / SPLIT[1])
    tensors[NAME] = torch.full_like(tensors[NAME], 7)
    save_file(tensors, split / "others.safetensors", {"format": "pt"})
    config = json.loads((split / "config.json").read_text())
    config["transformers_weights"] = "others.safetensors"
    (split / "config.json").write_text(json.dumps(config))
    assert weight_files(split) == [split / "others.safetensors"]
    assert (load_model(split).state_dict()[NAME] == 7).all()
    assert (Weights(split).rows(NAME) == 7).all()


def test_a_hubs_cache_with_its_links_is_a_model(split: Path, tmp_path: Path) -> None:
    """Each file of a snapshot is a link to a blob; a digest takes it for that."""
    before = input_digest(split)
    snapshot, blobs = tmp_path / "hub/snapshots/1f", tmp_path / "hub/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(split.iterdir())):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs", str(number)))
    load_model(snapshot)
    assert len(weight_files(snapshot)) == 2
    assert Weights(snapshot).shapes
    assert input_digest(snapshot) == before


@pytest.mark.parametrize("index", ["", "[]", '{"weight_map": {"a": 1}}', '{"weight_map": []}'])
def test_an_index_that_nobody_can_read_is_named(split: Path, index: str) -> None:
    (split / INDEX).write_text(index)
    for read in (load_model, weight_files):
        with pytest.raises(InputError, match=f"cannot load a model from {split}"):
            read(split)
    input_digest(split)


def test_kin_says_so(split: Path) -> None:
    move(split, INDEX, "../weights.safetensors")
    done = subl("kin", split, split, cwd=split.parent)
    assert done.returncode == 2
    assert f"{INDEX} has the tensor '{NAME}' in '../weights.safetensors'" in done.stderr
