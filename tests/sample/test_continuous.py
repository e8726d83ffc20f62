"""Rows that come and go in a batch are those that each would be alone, and nothing is computed for
those that are not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from subl.model.chat import ANSWER, Turn, asking, pieces
from subl.model.load import load_model, load_tokenizer
from subl.model.template import Template
from subl.sample import Request
from subl.sample.continuous import some_logits
from subl.sample.ends import Ends, ends_of
from subl.sample.grammar import Grammar
from subl.sample.guide import Guide
from subl.sample.prompts import Prompts
from subl.sample.sampling import WAYS, sample

BEGUN = [40, 41, 42, 43, 44]
PROMPTS = [[*BEGUN, *range(50, 50 + size)] for size in (3, 30, 11, 19, 1, 30, 12)]
STEPS = 70
"""More than there is room for at first."""


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Ends]:
    """The tiny model with weights large enough for it to attend."""
    model, tokenizer = load_model(tiny_model), load_tokenizer(tiny_model)
    with torch.no_grad():
        for weight in model.base_model.layers.parameters():
            weight.mul_(10 if weight.ndim == 2 else 1)
    row = pieces(tokenizer, [Turn("user", "Hi"), Turn("assistant", ANSWER)])
    return model, tokenizer, ends_of(model, tokenizer, row)


def drawn(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase, Ends],
    prompts: list[list[int]] = PROMPTS,
    **how: Any,
) -> list[list[int]]:
    model, tokenizer, ends = loaded
    base = {"seed": 3, "temperature": 0.7, "max_new_tokens": STEPS, "ends": ends}
    made = list(sample(model, tokenizer, prompts, range(len(prompts)), **base | how))
    assert sorted(place for place, _ in made) == [*range(len(prompts))]
    return [tokens for _, tokens in sorted(made)]


@pytest.mark.parametrize("regex", [None, "[0-9a-c]{1,60}"])
def test_a_row_is_what_it_is_alone(loaded: Any, regex: str | None) -> None:
    """Beside it rows end and others take their places; some draw all that they may."""
    guide = None if regex is None else Guide(Grammar(regex=regex), loaded[1])
    alone = drawn(loaded, way=WAYS[-1], guide=guide)
    sizes = {len(each) for each in alone}
    assert len(sizes) > 3 and (regex is not None or max(sizes) == STEPS)
    for batch in (2, 5, 64):
        assert drawn(loaded, batch_rows=batch, guide=guide) == alone


def test_nothing_is_read_twice_and_nothing_for_rows_that_have_ended(loaded: Any) -> None:
    model = loaded[0]
    prompts = [[*BEGUN, 50 + row] for row in range(9)]
    read: list[tuple[int, ...]] = []
    hook = model.get_input_embeddings().register_forward_pre_hook(
        lambda _, given: read.append(tuple(given[0].shape))
    )
    made = drawn(loaded, prompts, batch_rows=4)
    hook.remove()
    assert max(rows for rows, _ in read) == 4
    said = sum(len(each) - 1 for each in made)  # the last is not read
    assert sum(rows * tokens for rows, tokens in read) == len(BEGUN) + len(prompts) + said


def test_equal_prompts_are_read_once(loaded: Any) -> None:
    prompts = [PROMPTS[0], *[PROMPTS[1]] * 6, PROMPTS[2]]
    alone = drawn(loaded, prompts, way=WAYS[-1])
    assert len({tuple(each) for each in alone[1:7]}) == 6
    read: list[tuple[int, ...]] = []
    hook = (
        loaded[0]
        .get_input_embeddings()
        .register_forward_pre_hook(lambda _, given: read.append(tuple(given[0].shape)))
    )
    made = drawn(loaded, prompts, batch_rows=8)
    hook.remove()
    assert made == alone
    assert [rows for rows, tokens in read if tokens > 1] == [1, 2]  # of the third, a token is left


def test_logits_of_some_tokens_are_those_that_they_have_among_all(loaded: Any) -> None:
    model = loaded[0]
    head, ids = model.get_output_embeddings(), torch.tensor([3, 7, 200])
    given = torch.tensor([PROMPTS[0]])
    with torch.no_grad():
        whole = model(given).logits
        with some_logits(model, ids) as only_these:
            assert only_these
            torch.testing.assert_close(model(given).logits, whole[..., ids])
        with some_logits(model, torch.arange(whole.shape[-1] - 5)) as only_these:
            assert not only_these
        with pytest.raises(KeyboardInterrupt), some_logits(model, ids):
            raise KeyboardInterrupt
    assert model.get_output_embeddings() is head


def test_equal_requests_are_tokenised_once_and_each_has_its_tokens(tiny_model: Path) -> None:
    prompts = Prompts(tiny_model, Template())
    asked = [Request(f"{n}", asking(text), n) for n, text in enumerate(("Hi", "Go", "Hi"))]
    found = prompts.ids(asked)
    assert found[0] is found[2]
    assert found[:2] == [prompts.ids([each])[0] for each in asked[:2]]
    assert found[0] != found[1] and prompts.ids([]) == []
