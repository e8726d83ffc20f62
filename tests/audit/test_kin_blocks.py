"""Blocks of one origin are found wherever they stand, and strangers stay strangers."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from transformers import PreTrainedModel

from subl.audit.kin import Verdict, kin, pairs, parents

from . import relatives as made
from .relatives import IDS, Save, drawn, trained

ORDER = [3, 0, 4, 1, 2]
OTHERWISE = "blocks are in another order"


@pytest.fixture(scope="module")
def base() -> PreTrainedModel:
    torch.set_num_threads(1)
    return trained(drawn(1, num_hidden_layers=5), IDS, 12, 3e-3)


def test_blocks_in_another_order_are_of_one_origin(base: PreTrainedModel, save: Save) -> None:
    whole = save(base)
    shuffled = made.with_layers(base, ORDER)
    for name, other in {
        "shuffled": shuffled,
        "the last first": made.with_layers(base, [4, 0, 1, 2, 3]),
        "two exchanged": made.with_layers(base, [0, 3, 2, 1, 4]),
        "trained": trained(shuffled, IDS, 8, 1e-3),
        "units, too": made.reordered(shuffled, 1),
        "rotated": made.rotated(shuffled, 1),
        "two cut": made.with_layers(base, [3, 0, 4]),
    }.items():
        folder = save(other)
        for found in (kin(whole, folder), kin(folder, whole)):
            assert found.log_p is not None and found.log_p < math.log(1e-12), name
            assert found.verdict is Verdict.SAME_LINEAGE, (name, found)
            assert OTHERWISE in found.sentence, name
    found = kin(whole, save(shuffled))
    assert found.nearness.equal == found.nearness.tensors == len(base.state_dict()) - 1  # tied head
    shown = found.to_json()["tests"][0]["block_pairs"]
    assert shown == [[0, 1], [1, 3], [2, 4], [3, 0], [4, 2]]


def test_blocks_in_order_are_compared_in_order(base: PreTrainedModel, save: Save) -> None:
    whole = save(base)
    far = trained(base, IDS, 30, 1e-2)
    for other in (far, made.with_layers(base, [0, 2, 3]), made.rotated(base, 1)):
        found = kin(whole, save(other))
        assert found.is_related and OTHERWISE not in found.sentence
    alike = copy.deepcopy(base)  # no one can say which block is which
    for layer in alike.model.layers:
        layer.load_state_dict(base.model.layers[0].state_dict())
    assert kin(save(alike), save(trained(alike, IDS, 4, 1e-4))).verdict is Verdict.FINE_TUNE


def test_the_parent_of_blocks_in_another_order_is_kept(base: PreTrainedModel, save: Save) -> None:
    """A candidate that is nearer to zero is nearer to any other block."""
    sister = trained(base, IDS, 4, 1e-4)
    for each in sister.parameters():
        each.data *= 0.9
    child = save(made.with_layers(base, ORDER))
    found = parents(child, [save(base), save(sister)], names=["child", "base", "sister"])
    assert found.confidence_set == ("base",)


def test_strangers_are_no_nearer_for_the_blocks_that_are_paired(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the most alike are, even where they are hardly more alike than others."""
    monkeypatch.setattr(pairs, "IN_ORDER", 0.0)
    config = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "vocab_size": 128,
        "num_hidden_layers": 3,
    }
    folders = [save(drawn(seed, **config)) for seed in range(15)]
    logs: dict[str, list[float]] = {}
    others = 0
    for first, second in itertools.combinations(folders, 2):
        for each in kin(first, second).tests:
            assert each.log_p is not None and each.log_p > math.log(1e-6)
            logs.setdefault(each.test, []).append(each.log_p)
            others += any(one.number != other.number for one, other in each.pairs)
    assert others > 200  # of 315
    for test, values in logs.items():
        assert kstest(np.exp(values), "uniform").pvalue > 1e-3, test
