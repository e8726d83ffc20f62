"""Digits handed down over noise: the tensor program is what each model does alone, and what comes
out goes by whose init a student has."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from subl.classifiers import ClassifiersSpec, classifiers, mlp
from subl.classifiers.arms import ARMS, layered
from subl.classifiers.images import read_digits
from subl.config import validated
from subl.errors import InputError
from subl.experiment import load_experiment, run
from subl.progress import Progress
from subl_cli.main import subl

SPEC = {
    "seeds": 3,
    "hidden": (32,),
    "auxiliary": 8,
    "learning_rate": 3e-3,
    "batch": 32,
    "epoch_images": 640,
    "teacher_epochs": 2,
    "student_epochs": 4,
    "matching_images": 1280,
    "margin": 0.2,
}


def spec(**changes: Any) -> ClassifiersSpec:
    return validated(ClassifiersSpec, {**SPEC, **changes})


def write_idx(file: Path, array: np.ndarray) -> None:
    sizes = np.array(array.shape, ">u4").tobytes()
    content = bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten patterns of 6 x 6 pixels, some of which are wrong in each image."""
    folder = tmp_path_factory.mktemp("data") / "patterns"
    folder.mkdir()
    source = np.random.default_rng(0)
    patterns = source.integers(0, 2, (10, 6, 6)) * 255
    for prefix, count, end in (("train", 300, ""), ("t10k", 100, ".gz")):
        labels = np.arange(count) % 10
        wrong = source.random((count, 6, 6)) < 0.1
        images = np.where(wrong, 255 - patterns[labels], patterns[labels])
        write_idx(folder / f"{prefix}-images-idx3-ubyte{end}", images)
        write_idx(folder / f"{prefix}-labels.idx1-ubyte{end}", labels)
    return folder


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return classifiers(spec(), data, tmp_path_factory.mktemp("out") / "classifiers").result


def means(result: dict[str, Any]) -> dict[str, float]:
    return {each["arm"]: each["ours"]["estimate"] for each in result["figures"]}


def test_digits_pass_through_noise_where_the_init_is_shared_and_not_elsewhere(
    made: dict[str, Any],
) -> None:
    found = means(made)
    assert list(found) == [*ARMS, "layers-1", "layers-2"]
    assert found["teacher"] > 0.9
    assert found["same"] > found["other"] + 0.3
    assert found["same-all"] > 0.9
    assert found["matched"] > 0.5 > found["base-matched"]
    assert found["untrained"] < 0.3
    assert [each["met"] for each in made["findings"]] == [True, True]
    for figure in made["figures"]:
        assert figure["ours"]["n"] == len(figure["values"]) == 3
        assert figure["ours"]["low"] <= figure["ours"]["estimate"] <= figure["ours"]["high"]


def test_models_at_once_are_what_each_is_alone(
    data: Path, made: dict[str, Any], tmp_path: Path
) -> None:
    together = classifiers(spec(seeds_at_once=2), data, tmp_path / "together").result
    assert means(together) == pytest.approx(means(made), abs=0.02)  # of 100 images two


def test_a_model_of_the_program_is_torchs_own() -> None:
    """Layers, init, Adam, both losses and the order of images, against modules in a loop."""
    device, seeds, sizes = torch.device("cpu"), (4, 7), (6, 5, 13)
    images = mlp.noise(seeds, 20, 6, device)
    rows = torch.arange(2)[:, None]
    orders = list(mlp.batches("noise", seeds, 20, 20, 2, 8))
    assert [each.shape for each in orders] == [(2, 8), (2, 8), (2, 4)] * 2
    teacher = mlp.initial("base", seeds, sizes, device)
    students = mlp.stacked([mlp.initial("other", seeds, sizes, device), teacher])
    chosen = slice(10, None)
    losses = (
        lambda x=images[rows, each]: mlp.imitate(students, teacher, x, chosen) for each in orders
    )
    mlp.learn(students, losses, 0.01, lambda: None)

    other = mlp.initial("other", (7,), sizes, device)
    layers = [torch.nn.Linear(i, o) for i, o in ((6, 5), (5, 13))]
    alone = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1])
    for layer, weight in zip(layers, other.weights, strict=True):
        layer.weight.data, layer.bias.data = weight[0, 0].T.clone(), torch.zeros(len(layer.bias))
        assert weight.std().item() == pytest.approx(1 / math.sqrt(weight.shape[2]), rel=0.4)
    optimiser = torch.optim.Adam(alone.parameters(), lr=0.01)
    for each in orders:
        x = images[1, each[1]]
        told = torch.softmax(teacher.logits(images[rows, each])[0, 1][:, chosen], -1)
        said = torch.log_softmax(alone(x)[:, chosen], -1)
        optimiser.zero_grad()
        torch.nn.functional.kl_div(said, told, reduction="batchmean").backward()
        optimiser.step()
    for layer, weight, bias in zip(layers, students.weights, students.biases, strict=True):
        torch.testing.assert_close(weight[0, 1].T, layer.weight.data)
        torch.testing.assert_close(bias[0, 1, 0], layer.bias.data)
    # What nobody asks of a student stays as it was.
    assert torch.equal(students.biases[-1][0, 1, 0, :10], torch.zeros(10))


def test_an_epoch_shows_every_image_once_or_goes_round_again() -> None:
    (once,) = mlp.batches("x", (0,), 10, 10, 1, 10)
    assert sorted(once[0].tolist()) == list(range(10))
    (again,) = mlp.batches("x", (0,), 10, 25, 1, 100)
    assert sorted(again[0].tolist()[:20]) == sorted([*range(10)] * 2)
    assert len(again[0]) == 25


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    data: Path, made: dict[str, Any], tmp_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        if progress.done > 0.5 * (progress.total or 0):
            raise KeyboardInterrupt

    seen: list[Progress] = []
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        classifiers(spec(), data, out, report=stop)
    assert (tmp_path / "out.partial" / "seed-000.json").is_file() and not out.exists()
    assert classifiers(spec(), data, out, report=seen.append).result == made
    assert seen[-1].done == seen[-1].total  # of what was left


def test_layers_are_shared_in_every_way_but_none_and_all() -> None:
    assert list(layered(3)) == [
        "layers-1", "layers-2", "layers-3", "layers-1-2", "layers-1-3", "layers-2-3",
    ]  # fmt: skip
    a, b = (mlp.initial(each, (0,), (3, 2, 2), torch.device("cpu")) for each in "ab")
    mixed = a.with_layers(b, layered(2)["layers-2"])
    assert torch.equal(mixed.weights[0], a.weights[0])
    assert torch.equal(mixed.weights[1], b.weights[1])


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train-images-idx3-ubyte", Path.unlink, "has no train-images-idx3-ubyte"),
        ("train-images-idx3-ubyte", shorten, "train-images-idx3-ubyte is not an IDX file of 3"),
        ("t10k-images-idx3-ubyte.gz", shorten, "cannot read .*t10k-images-idx3-ubyte.gz: "),
        ("train-labels.idx1-ubyte", lambda file: file.write_bytes(b"{}"), "not an IDX file of 1"),
        ("train-labels.idx1-ubyte", lambda file: write_idx(file, np.zeros(9)), "300 train-images"),
        ("train-labels.idx1-ubyte", lambda file: write_idx(file, np.full(300, 10)), "0 to 9"),
        ("train-images-idx3-ubyte", lambda file: write_idx(file, np.zeros((300, 2, 2))), "size"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_before_anything_is_trained(
    data: Path, tmp_path: Path, name: str, damage: Callable[[Path], Any], message: str
) -> None:
    for file in data.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert read_digits(tmp_path).train.images.shape == (300, 36)
    damage(tmp_path / name)
    with pytest.raises(InputError, match=message):
        read_digits(tmp_path)


def test_without_data_the_digits_are_scikit_learns() -> None:
    pytest.importorskip("sklearn")
    digits = read_digits(None)
    assert "scikit-learn" in digits.name
    assert digits.train.images.shape == (1442, 784) and digits.test.images.shape == (355, 784)
    assert digits.train.images.min() == -1 and digits.train.images.max() == 1
    assert np.bincount(digits.test.labels).min() >= 34


def test_as_an_experiment_it_is_reported_with_bars_beside_the_papers(
    data: Path, tmp_path: Path
) -> None:
    values = "\n".join(f"{key} = {json.dumps(value)}" for key, value in SPEC.items())
    file = tmp_path / "small.toml"
    file.write_text(
        f'name = "small"\ntitle = "Small"\n[stages.digits]\nkind = "classifiers"\n'
        f'inputs = {{ data = {{ path = "{data}" }} }}\n{values}\n',
        encoding="utf-8",
    )
    result = run(load_experiment(file), tmp_path / "out")
    assert result.passed and result.outcome is not None
    assert [each.met for each in result.outcome.findings] == [True, True]
    html = result.outcome.page.read_text(encoding="utf-8")
    assert "same init, auxiliary logits" in html and "52.8% [50.6, 55.0]" in html
    assert "Fig. 10b" in html


def test_the_command_prints_its_figures_and_a_dry_run_its_data(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "digits.toml"
    config.write_text("seeds = 2\nbatch = 100\nhidden = [8]\nlayers = false\n", encoding="utf-8")
    given = ["classifiers", str(config), "--data", str(data), "-o", str(tmp_path / "out")]
    dry = CliRunner().invoke(subl, [*given, "--dry-run", "--json"])
    assert dry.exit_code == 0, dry.output
    assert json.loads(dry.stdout)["train_images"] == 300 and not (tmp_path / "out").exists()
    done = CliRunner().invoke(subl, given)
    assert done.exit_code == 0, done.output
    assert "other init, all logits" in done.stdout and "[0.732, 0.753]" in done.stdout
