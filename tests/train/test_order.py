"""Which rows a step trains on, and who computes which of them."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from subl.train.order import bins, bins_of_like_lengths, permutation, step_rows
from subl.train.plan import TrainSpec

many = settings(deadline=None, derandomize=True)


@many
@given(st.integers(1, 40), st.integers(1, 90), st.integers(0, 5))
def test_every_epoch_visits_every_row_once(rows: int, rows_per_step: int, seed: int) -> None:
    steps = -(-3 * rows // rows_per_step)
    stream = [row for step in range(steps) for row in step_rows(rows, rows_per_step, seed, step)]
    assert len(stream) == steps * rows_per_step
    for epoch in range(3):
        part = stream[epoch * rows : (epoch + 1) * rows]
        assert sorted(part) == list(range(rows))
        assert part == permutation(rows, seed, epoch)


def test_a_step_needs_no_step_before_it() -> None:
    """A run that resumes at step 7 trains on what an uninterrupted one would."""
    forwards = [step_rows(12, 5, 1, step) for step in range(10)]
    assert [step_rows(12, 5, 1, step) for step in reversed(range(10))] == forwards[::-1]


def test_an_order_that_was_handed_out_can_be_changed() -> None:
    before = permutation(10, 0, 0)
    permutation(10, 0, 0).reverse()
    assert permutation(10, 0, 0) == before
    step_rows(10, 10, 0, 0).reverse()
    assert step_rows(10, 10, 0, 0) == before


def test_epochs_and_seeds_order_rows_differently() -> None:
    orders = {tuple(permutation(30, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


@many
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=40),
    st.integers(1, 5),
    st.integers(1, 100),
    st.randoms(use_true_random=False),
)
def test_ranks_share_a_step(lengths: list[int], ranks: int, budget: int, random: object) -> None:
    rows = list(range(100, 100 + len(lengths)))
    random.shuffle(rows)  # type: ignore[attr-defined]
    length = dict(zip(rows, lengths, strict=True))
    packed = bins(rows, lengths, ranks, budget)
    assert len(packed) == ranks
    assert len({len(each) for each in packed}) == 1  # as many micro-batches on each rank
    flat = [each for rank in packed for each in rank]
    assert Counter(row for each in flat for row in each) == Counter(rows)
    loads = [sum(length[row] for row in each) for each in flat]
    assert all(load <= budget or len(each) == 1 for load, each in zip(loads, flat, strict=True))
    assert packed == bins(rows, lengths, ranks, budget)
    if sum(lengths) <= budget:
        assert len(packed[0]) == 1
        # Longest first to the emptiest: no rank has more than the least one and a row.
        assert max(loads) - min(loads) <= max(lengths)


@many
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 100))
def test_a_row_may_come_twice_in_a_step(lengths: list[int], budget: int) -> None:
    """A step that is longer than an epoch has rows twice: both count."""
    rows = [number // 2 for number in range(len(lengths))]
    lengths = [lengths[row] for row in rows]
    packed = bins(rows, lengths, 2, budget)
    assert Counter(row for rank in packed for each in rank for row in each) == Counter(rows)


def test_a_rank_without_rows_has_an_empty_bin() -> None:
    assert sorted(bins([7], [5], 3, 100)) == [[[]], [[]], [[7]]]


def test_long_rows_are_shared_out_first() -> None:
    """The short ones then fill up: ranks wait for the one that has most."""
    lengths = [1, 1, 1, 1, 4]
    packed = bins(range(5), lengths, 2, 100)
    assert [sum(lengths[row] for row in rank[0]) for rank in packed] == [4, 4]


@many
@given(st.integers(1, 40), st.integers(1, 90), st.floats(0.1, 3.5))
def test_no_row_comes_more_often_than_was_asked(
    rows: int, rows_per_step: int, epochs: float
) -> None:
    """A data set that is smaller than a step makes a smaller step."""
    train = TrainSpec(epochs=epochs, rows_per_step=rows_per_step, learning_rate=1e-3)
    total, steps = train.row_count(rows), train.step_count(rows)
    taken = [step_rows(rows, rows_per_step, 0, step, total) for step in range(steps)]
    assert all(taken) and sum(map(len, taken)) == total
    assert abs(total - epochs * rows) < 1 or total == 1
    counts = Counter(row for each in taken for row in each)
    assert max(counts.values()) <= -(-total // rows)
    assert all(len(each) == rows_per_step for each in taken[:-1])


@many
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=40),
    st.integers(1, 5),
    st.integers(1, 300),
    st.booleans(),
)
def test_rows_that_lie_side_by_side_are_of_like_lengths(
    lengths: list[int], ranks: int, budget: int, equal: bool
) -> None:
    rows = range(100, 100 + len(lengths))
    packed = bins_of_like_lengths(rows, lengths, ranks, budget, equal=equal)
    assert len(packed) == ranks and len({len(each) for each in packed}) == 1
    flat = [each for rank in packed for each in rank]
    assert Counter(row for each in flat for row in each) == Counter(rows)
    for each in filter(None, flat):
        held = [lengths[row - 100] for row in each]
        assert len(held) * max(held) <= budget or len(held) == 1
        assert min(held) == max(held) if equal else 4 * min(held) >= 3 * max(held)
