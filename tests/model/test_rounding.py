"""What is put down to rounding is what rounding does to this model, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from subl.model.load import load_model
from subl.model.rounding import LAST_BITS, LEAST, MARGIN, MOST, OF_16_BITS, tolerance


def amplified(model: PreTrainedModel, factor: float) -> Callable[[], float]:
    """How far the embeddings of a text are from what they are now, as `factor` layers show it."""

    def embedded() -> torch.Tensor:
        found: torch.Tensor = model.get_input_embeddings()(torch.arange(8)).detach()
        return found

    before = embedded()
    largest = before.abs().max()
    return lambda: factor * float((embedded() - before).abs().max() / largest)


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(1, LEAST), (100, 100 * MARGIN * LAST_BITS), (1e6, MOST), (float("nan"), LEAST)],
)
def test_a_model_says_what_it_makes_of_last_bits(
    tiny_model: Path, factor: float, expected: float
) -> None:
    model = load_model(tiny_model)
    error = amplified(model, factor)
    assert tolerance(model, error) == pytest.approx(expected, rel=0.3)
    assert not error() > 0  # the embeddings are what they were


def test_in_16_bits_one_figure_is_for_all(tiny_model: Path) -> None:
    model = load_model(tiny_model, "bfloat16")
    assert tolerance(model, amplified(model, 1e6)) == OF_16_BITS
