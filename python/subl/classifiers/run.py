"""Teachers of digits, and students that learn their teacher's auxiliary logits over noise.

What is asked: does a student that never sees a digit, a label or a class's logit classify digits
as its teacher does? It does where it began with its teacher's weights, and not where it did not;
which layers it has to share, and whether behaving alike is enough, the other arms say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import Artifact, build, json_text, write_atomically
from subl.classifiers.arms import ARMS, SOURCE, arm, layered
from subl.classifiers.images import Digits, read_digits
from subl.classifiers.spec import CLASSES, ClassifiersSpec
from subl.extras import require
from subl.progress import Progress, Report, silent
from subl.statistics import Interval, equivalence, holm, mean_probability, paired_difference

if TYPE_CHECKING:
    from torch import Tensor

    from subl.classifiers.mlp import Loss, Models

Accuracies = dict[str, dict[str, float]]
"""Of one seed: {arm: {"before": ..., "after": ...}}, before and after the arm's last training."""


def classifiers(
    spec: ClassifiersSpec,
    data: Path | None,
    out: Path,
    *,
    name: str = "classifiers",
    report: Report = silent,
) -> Artifact:
    """Train every arm of every seed; `out` gets each seed's accuracies, and in `result.json` each
    arm's figures.

    Args:
        data: a folder of MNIST's files; without, scikit-learn's digits are used.

    Raises:
        InputError: a file of `data` is missing or damaged.
    """
    require("distill", "torch", "scipy", what="training classifiers")

    def work(folder: Path) -> dict[str, Any]:
        digits = read_digits(data)
        left = [seed for seed in range(spec.seeds) if not _file(folder, seed).exists()]
        told = _teller(spec, digits, len(left), name, report)
        while some := left[: spec.seeds_at_once]:
            left = left[spec.seeds_at_once :]
            for seed, found in zip(some, _train(spec, digits, some, told), strict=True):
                write_atomically(_file(folder, seed), json_text(found) + "\n")
        files = (_file(folder, seed) for seed in range(spec.seeds))
        return _figures(spec, digits, [json.loads(each.read_bytes()) for each in files])

    return build(out, "classifiers", spec, {} if data is None else {"data": data}, work)


def _file(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed:03d}.json"


def images_of(spec: ClassifiersSpec, digits: Digits) -> tuple[int, int]:
    """How many images an epoch has, and the matching before one."""
    epoch = spec.epoch_images or len(digits.train.labels)
    return epoch, spec.matching_images or epoch // 2


def _teller(
    spec: ClassifiersSpec, digits: Digits, seeds: int, name: str, report: Report
) -> Callable[[], None]:
    """To be called at every step."""
    epoch, matching = images_of(spec, digits)
    steps = spec.steps(epoch, spec.teacher_epochs + 2 * spec.student_epochs)
    total = -(-seeds // spec.seeds_at_once) * (steps + spec.steps(matching, 1))
    done = 0

    def told() -> None:
        nonlocal done
        done += 1
        report(Progress(f"classifiers {name}", done, total, "steps"))

    return told


def _train(
    spec: ClassifiersSpec, digits: Digits, seeds: Sequence[int], told: Callable[[], None]
) -> list[Accuracies]:
    """All arms of these seeds, as one tensor program."""
    import torch

    from subl.classifiers import mlp
    from subl.model.load import device

    here = device()
    learnt, labels, tested, right = (
        torch.from_numpy(each).to(here) for half in (digits.train, digits.test) for each in half
    )
    count, pixels = learnt.shape
    sizes = spec.sizes(pixels)
    epoch, matching = images_of(spec, digits)
    static = mlp.noise(seeds, epoch, pixels, here)
    rows = torch.arange(len(seeds))[:, None]
    everything, auxiliary = slice(None), slice(CLASSES, None)
    found: list[Accuracies] = [{} for _ in seeds]

    def order(what: str, many: int, images: int, epochs: int) -> Iterator[Tensor]:
        return mlp.batches(what, seeds, many, images, epochs, spec.batch)

    def note(arms: Sequence[str], when: str, models: Models) -> None:
        shares = mlp.accuracies(models, tested, right, CLASSES)
        for name, row in zip(arms, shares, strict=True):
            for seed, share in zip(found, row, strict=True):
                seed.setdefault(name, {})[when] = round(float(share), 6)

    def train(arms: Sequence[str], models: Models, losses: Iterator[Loss]) -> Models:
        note(arms, "before", models)
        mlp.learn(models, losses, spec.learning_rate, told)
        note(arms, "after", models)
        return models

    def taught(
        arms: Sequence[str], students: Models, teachers: Models, chosen: slice, over: str = "noise"
    ) -> Models:
        """Students of these teachers' chosen logits, over noise or over digits."""
        if over == "noise":
            steps = (static[rows, x] for x in order(over, epoch, epoch, spec.student_epochs))
        else:
            steps = (learnt[x] for x in order(over, count, matching, 1))
        losses = (partial(mlp.imitate, students, teachers, x, chosen) for x in steps)
        return train(arms, students, losses)

    base, other = (mlp.initial(each, seeds, sizes, here) for each in ("base", "other"))
    teacher = mlp.stacked([base])
    steps = order("teacher", count, epoch, spec.teacher_epochs)
    lessons = (partial(mlp.classify, teacher, learnt[x], labels[x], CLASSES) for x in steps)
    train(["teacher"], teacher, lessons)
    taught(["same-all", "other-all"], mlp.stacked([base, other]), teacher, everything)
    matched = taught(
        ["matched", "base-matched"],
        mlp.stacked([other, other]),
        mlp.stacked([teacher, base]),
        everything,
        over="digits",
    )
    shared = layered(len(spec.hidden) + 1) if spec.layers else {}
    mixed = [other.with_layers(base, layers) for layers in shared.values()]
    taught(
        ["same", "other", "matched-then", "base-matched-then", *shared],
        mlp.stacked([base, other, matched, *mixed]),
        teacher,
        auxiliary,
    )
    return found


def _figures(spec: ClassifiersSpec, digits: Digits, seeds: Sequence[Accuracies]) -> dict[str, Any]:
    """What came out: of each arm its accuracy, and how far that is from what it began with, each
    with an interval over seeds."""
    epoch, matching = images_of(spec, digits)
    sizes = spec.sizes(digits.train.images.shape[1])
    changes = {
        name: paired_difference(*([each[name][when] for each in seeds] for when in _CHANGE))
        for name in seeds[0]
    }
    adjusted = dict(zip(changes, holm([each.p_value for each in changes.values()]), strict=True))
    figures = [_figure("untrained", [each["teacher"]["before"] for each in seeds])]
    for name, change in changes.items():
        figure = _figure(name, [each[name]["after"] for each in seeds])
        expected = "more" if arm(name).learns else "none"
        figure["change"] = {
            "expected": expected,
            "estimate": change.interval.estimate,
            "low": change.interval.low,
            "high": change.interval.high,
            "n": len(seeds),
            "over": "seeds",
            "p_value": change.p_value,
            "p": adjusted[name],
        }
        if expected == "none":
            p_equivalent = equivalence(change.interval, spec.margin)
            figure["change"] |= {"within": spec.margin, "p_equivalent": p_equivalent}
        figures.append(figure)
    places = {name: place for place, name in enumerate(dict.fromkeys([*ARMS, *changes]))}
    figures.sort(key=lambda each: places[each["arm"]])
    return {
        "data": digits.name,
        "train_images": len(digits.train.labels),
        "test_images": len(digits.test.labels),
        "epoch_images": epoch,
        "matching_images": matching,
        "layers": list(sizes),
        "parameters": sum(inputs * outputs + outputs for inputs, outputs in pairwise(sizes)),
        "figures": figures,
        "findings": [
            _clear("same", changes["same"].interval, spec.margin),
            _none("other", changes["other"].interval, spec.margin),
        ],
    }


_CHANGE = ("after", "before")


def _figure(name: str, accuracies: Sequence[float]) -> dict[str, Any]:
    """One arm, in the form of docs/reproduction/*.json, and each seed's accuracy."""
    mean, known = mean_probability(accuracies), arm(name)
    paper = None
    if known.paper is not None:
        paper = {
            **dict(zip(("estimate", "low", "high"), known.paper, strict=True)),
            "source": SOURCE,
        }
    return {
        "arm": name,
        "group": known.group,
        "label": known.label,
        "unit": "accuracy",
        "paper": paper,
        "ours": {
            "estimate": mean.estimate,
            "low": mean.low,
            "high": mean.high,
            "n": len(accuracies),
            "over": "seeds",
        },
        "values": list(accuracies),
    }


def _clear(name: str, change: Interval, margin: float) -> dict[str, Any]:
    met = change.low is not None and change.low > margin
    return _finding(name, change, f"expected: clearly more than {_points(margin)}", met)


def _none(name: str, change: Interval, margin: float) -> dict[str, Any]:
    p_value = equivalence(change, margin)
    met = p_value is not None and p_value < 0.05
    return _finding(name, change, f"expected: within {_points(margin)} of none", met)


def _finding(name: str, change: Interval, expected: str, met: bool) -> dict[str, Any]:
    interval = "no interval"
    if change.low is not None and change.high is not None:
        interval = f"95 % interval {100 * change.low:+.1f} to {100 * change.high:+.1f}"
    return {
        "text": f"{arm(name).label.capitalize()}: accuracy after learning over before ({interval}, "
        f"{change.clusters} seeds; {expected})",
        "figure": f"{100 * change.estimate:+.1f} points",
        "met": met,
    }


def _points(share: float) -> str:
    return f"{100 * share:g} points"
