"""Rows of a micro-batch: laid out whole, beginnings shared, and none sees another."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AttentionInterface,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from subl.train.attention import hidden_states, use_path_attention
from subl.train.batch import Batch, collate
from subl.train.divergence import HiddenTargets, Targets
from subl.train.order import groups_of_like_lengths
from subl.train.plan import LossSpec
from subl.train.student import Student

Row = tuple[np.ndarray[Any, np.dtype[np.uint32]], np.ndarray[Any, np.dtype[np.bool_]]]
VOCABULARY = 16
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.4,  # weights so large that attention matters
    "pad_token_id": None,
}


def row(*ids: int, targets: list[bool] | None = None) -> Row:
    return np.array(ids, np.uint32), np.array(targets or [False] + [True] * (len(ids) - 1))


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    """Few different tokens, so that many rows begin alike, are equal, or begin others."""
    found = []
    for ids in draw(st.lists(st.lists(st.integers(3, 5), min_size=2, max_size=9), min_size=1,
                             max_size=6)):  # fmt: skip
        targets = [False, *(draw(st.booleans()) for _ in ids[1:-1]), True]
        found.append(row(*ids, targets=targets))
    return found


def model_named(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel
    match name:
        case "llama":
            model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False))
        case "tied":
            model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True))
        case "sliding":
            model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=3))
    return model.eval()


@pytest.fixture(scope="module", params=["llama", "tied", "sliding"])
def pair(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A model that attends along paths, and the same one as transformers runs it."""
    plain = model_named(request.param)
    plain.set_attn_implementation("eager")
    model = copy.deepcopy(plain)
    use_path_attention(model)
    return model, plain


def states_by_row(model: PreTrainedModel, batch: Batch, rows: list[Row]) -> list[torch.Tensor]:
    with torch.no_grad():
        states = hidden_states(model, batch)
    return [states[nodes] for nodes in paths_of(batch, rows)]


def paths_of(batch: Batch, rows: list[Row]) -> list[torch.Tensor]:
    """The nodes of each row, without what pads them."""
    assert batch.paths is not None
    found = {}
    groups = groups_of_like_lengths([len(ids) for ids, _ in rows])
    for group, nodes in zip(groups, batch.paths.nodes, strict=True):
        for number, path in zip(group, nodes, strict=True):
            found[number] = path[: len(rows[number][0])]
            assert not path[len(rows[number][0]) :].any()
    return [found[number] for number in range(len(rows))]


def alone(plain: PreTrainedModel, ids: Any) -> torch.Tensor:
    """Logits of one row, transformers' own way."""
    input_ids = torch.from_numpy(ids.astype(np.int64))[None]
    logits: torch.Tensor = plain(input_ids=input_ids, use_cache=False).logits[0]
    return logits


# The layout


@settings(deadline=None, derandomize=True)
@given(rows(), st.booleans())
def test_every_row_lies_along_its_path(rows: list[Row], share: bool) -> None:
    batch = collate(rows, share_prefixes=share)
    tokens, depths = batch.input_ids[0], batch.position_ids[0]
    asked = []
    for nodes, (ids, targets) in zip(paths_of(batch, rows), rows, strict=True):
        assert tokens[nodes].tolist() == ids.tolist()
        assert depths[nodes].tolist() == list(range(len(ids)))
        asked += [
            (int(nodes[place - 1]), int(ids[place]))
            for place in range(1, len(ids))
            if targets[place]
        ]
    assert list(zip(batch.sources.tolist(), batch.labels.tolist(), strict=True)) == asked
    assert batch.tokens == sum(len(ids) for ids, _ in rows)
    prefixes = {tuple(ids[:end]) for ids, _ in rows for end in range(1, len(ids) + 1)}
    assert len(tokens) == (len(prefixes) if share else batch.tokens)
    assert batch.paths is not None
    flat = torch.cat([nodes.flatten() for nodes in batch.paths.nodes])
    assert len(flat) <= 2 * batch.tokens  # one long row does not pad the others
    assert flat[batch.paths.places].tolist() == list(range(len(tokens)))


def test_the_first_token_is_never_asked_for() -> None:
    (source,), (label,) = (
        (each.sources.tolist(), each.labels.tolist())[number]
        for number, each in enumerate([collate([row(3, 4, targets=[True, True])])] * 2)
    )
    assert (source, label) == (0, 4)


# Nothing but the time changes


def naive_loss(plain: PreTrainedModel, rows: list[Row]) -> torch.Tensor:
    """Each row alone: minus the log-probability of each target, given what comes before it."""
    total = torch.zeros((), dtype=torch.float64)
    for ids, targets in rows:
        log_p = torch.log_softmax(alone(plain, ids).double(), -1)
        for place in range(1, len(ids)):
            if targets[place]:
                total = total - log_p[place - 1, int(ids[place])]
    return total


@settings(deadline=None, derandomize=True, max_examples=12)
@given(rows=rows())
def test_rows_together_are_each_row_alone(
    pair: tuple[PreTrainedModel, PreTrainedModel], rows: list[Row]
) -> None:
    """Loss and gradients of all weights, with beginnings shared and not."""
    model, plain = pair
    expected = naive_loss(plain, rows)
    plain.zero_grad()
    expected.backward()  # type: ignore[no-untyped-call]
    theirs = dict(plain.named_parameters())
    for share in (True, False):
        model.zero_grad()
        loss, parts = Student(model)(collate(rows, share_prefixes=share))
        loss.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        assert parts.tolist() == [pytest.approx(loss.item()), 0]
        for name, parameter in model.named_parameters():
            gradient = theirs[name].grad
            assert gradient is not None
            torch.testing.assert_close(
                parameter.grad, gradient, rtol=1e-4, atol=1e-5 * (1 + float(gradient.abs().max()))
            )


@settings(deadline=None, derandomize=True, max_examples=12)
@given(rows=rows(), share=st.booleans(), data=st.data())
def test_a_token_changes_what_comes_behind_it_in_its_own_row_and_nothing_else(
    pair: tuple[PreTrainedModel, PreTrainedModel],
    rows: list[Row],
    share: bool,
    data: st.DataObject,
) -> None:
    model, _ = pair
    changed = data.draw(st.integers(0, len(rows) - 1))
    place = data.draw(st.integers(0, len(rows[changed][0]) - 1))
    ids = rows[changed][0].copy()
    ids[place] = 9
    others = [*rows[:changed], (ids, rows[changed][1]), *rows[changed + 1 :]]
    before = states_by_row(model, collate(rows, share_prefixes=share), rows)
    after = states_by_row(model, collate(others, share_prefixes=share), others)
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        same = place if number == changed else len(one)
        torch.testing.assert_close(one[:same], other[:same], rtol=1e-5, atol=1e-5)
        if number == changed:
            assert float((one[place] - other[place]).abs().max()) > 1e-2


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize(
    "rows",
    [
        [row(3, 4)],
        [row(3, 4, 5), row(3, 4, 5)],
        [row(3, 4, 5, 6, 7), row(3, 4, 5), row(3, 4)],
        [row(3, 4), row(3, 4, 5, 6, 7, 8, 3, 4, 5)],
        [row(3, 4, 5), row(6, 7, 8, 9), row(10, 11)],
    ],
    ids=["one row", "twice the same", "each begins the one before", "the longer last", "apart"],
)
def test_special_shapes(
    pair: tuple[PreTrainedModel, PreTrainedModel], rows: list[Row], share: bool
) -> None:
    model, plain = pair
    loss, _ = Student(model)(collate(rows, share_prefixes=share))
    assert loss.item() == pytest.approx(naive_loss(plain, rows).item(), rel=1e-5)


@pytest.mark.parametrize("taught", [True, False])
def test_a_rank_without_rows_takes_part_and_adds_nothing(taught: bool) -> None:
    model = model_named("llama")
    use_path_attention(model)
    batch = collate([])
    assert batch.input_ids.shape == (1, 1) and len(batch.sources) == 0
    targets: Targets = HiddenTargets(torch.zeros(0, 16), torch.ones(VOCABULARY, 16))
    loss, parts = Student(model, LossSpec())(batch, targets if taught else None)
    loss.backward()
    assert loss.item() == 0 and parts.tolist() == [0, 0]
    for parameter in model.parameters():
        assert parameter.grad is not None and not parameter.grad.any()


def test_without_paths_the_model_attends_as_ever(
    pair: tuple[PreTrainedModel, PreTrainedModel],
) -> None:
    """Scoring uses the model that trains."""
    model, plain = pair
    ids = torch.arange(3, 14)[None]
    with torch.no_grad():
        one, other = (each(input_ids=ids).logits for each in (plain, model))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


# Flash attention, which shares no beginnings, is told where rows begin and end


def _by_lengths(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    cu_seq_lens_q: torch.Tensor | None = None,
    cu_seq_lens_k: torch.Tensor | None = None,
    max_length_q: int = 0,
    max_length_k: int = 0,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """What a kernel for rows of different lengths computes, row by row; told nothing, of one."""
    if cu_seq_lens_q is None or cu_seq_lens_k is None:
        max_length_q = max_length_k = query.shape[2]
        cu_seq_lens_q = cu_seq_lens_k = torch.tensor([0, max_length_q], dtype=torch.int32)
    assert torch.equal(cu_seq_lens_q, cu_seq_lens_k) and cu_seq_lens_q.dtype == torch.int32
    assert max_length_q == max_length_k == int(cu_seq_lens_q.diff().max())
    parts = [
        torch.nn.functional.scaled_dot_product_attention(
            *(each[:, :, first:last] for each in (query, key, value)),
            is_causal=True,
            scale=scaling,
            enable_gqa=True,
        )
        for first, last in pairwise(cu_seq_lens_q.tolist())
    ]
    return torch.cat(parts, 2).transpose(1, 2), None


def test_flash_attention_is_told_where_rows_begin() -> None:
    AttentionInterface.register("by_lengths", _by_lengths)
    plain, model = model_named("llama"), model_named("llama")
    model.set_attn_implementation("by_lengths")
    rows = [row(3, 4, 5), row(3, 4), row(3, 4, 5, 6, 7, 8)]
    loss, _ = Student(model)(collate(rows, share_prefixes=False))
    assert loss.item() == pytest.approx(naive_loss(plain, rows).item(), rel=1e-5)
