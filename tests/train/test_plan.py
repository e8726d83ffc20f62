"""A step is a pure function of (plan, step)."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from subl.train.plan import TrainSpec, learning_rate, permutation, rank_batches, step_rows


def spec(**changes: object) -> TrainSpec:
    return TrainSpec.model_validate({"steps": 10, "learning_rate": 1e-3, **changes})


many = settings(deadline=None, derandomize=True)


@many
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5))
def test_every_epoch_visits_every_row_once(rows: int, rows_per_step: int, seed: int) -> None:
    plan = spec(rows_per_step=rows_per_step, seed=seed)
    stream = [row for step in range(3 * rows) for row in step_rows(plan, rows, step)]
    assert len(stream) == 3 * rows * rows_per_step
    for epoch in range(3):
        part = stream[epoch * rows : (epoch + 1) * rows]
        assert sorted(part) == list(range(rows))
        assert part == permutation(rows, seed, epoch)


def test_a_step_needs_no_step_before_it() -> None:
    """A run that resumes at step 7 trains on what an uninterrupted one would."""
    plan = spec(rows_per_step=5)
    forwards = [step_rows(plan, 12, step) for step in range(10)]
    assert [step_rows(plan, 12, step) for step in reversed(range(10))] == forwards[::-1]


def test_epochs_and_seeds_order_rows_differently() -> None:
    orders = {tuple(permutation(30, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


@many
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_ranks_share_a_step_evenly(ranks: int, share: int, micro: int) -> None:
    plan = spec(ranks=ranks, rows_per_step=ranks * share, micro_batch_rows=micro, zero_stage=2)
    rows = step_rows(plan, 100, 3)
    batches = [rank_batches(plan, rows, rank) for rank in range(ranks)]
    assert {len(each) for each in batches} == {plan.micro_batches}
    assert Counter(row for each in batches for batch in each for row in batch) == Counter(rows)
    assert all(len(batch) <= micro for each in batches for batch in each)


@many
@given(st.integers(1, 60), st.integers(0, 20), st.sampled_from(["linear", "constant"]))
def test_the_learning_rate_rises_then_falls_and_stays_positive(
    steps: int, warmup: int, schedule: str
) -> None:
    plan = spec(steps=steps, warmup_steps=warmup, schedule=schedule)
    rates = [learning_rate(plan, step) for step in range(steps)]
    assert all(0 < rate <= 1e-3 * (1 + 1e-12) for rate in rates)
    rising = rates[: warmup + 1]
    assert rising == sorted(rising)
    falling = rates[warmup:]
    assert falling == sorted(falling, reverse=True)
    if steps > warmup:
        assert rates[warmup] == pytest.approx(1e-3)
        assert len(set(falling)) == (1 if schedule == "constant" else len(falling))


def test_the_learning_rate_step_by_step() -> None:
    plan = spec(steps=6, warmup_steps=2, learning_rate=12.0)
    assert [learning_rate(plan, step) for step in range(6)] == pytest.approx([4, 8, 12, 9, 6, 3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows_per_step": 3, "ranks": 2, "zero_stage": 2}, "must divide by ranks"),
        ({"ranks": 2}, "need a zero_stage"),
        ({"dtype": "bfloat16"}, "bfloat16 needs a zero_stage"),
        ({"steps": 0}, "greater than 0"),
        ({"rows_per_step": 0}, "greater than 0"),
        ({"learning_rate": 0.0}, "greater than 0"),
        ({"learning_rate": float("inf")}, "finite number"),
        ({"zero_stage": 4}, "'none', 1, 2 or 3"),
        ({"step": 1}, "Extra inputs"),
    ],
)
def test_what_cannot_run_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(**changes)
