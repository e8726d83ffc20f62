"""What follows from a configuration alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from subl.train.plan import LoraSpec, LossSpec, ProbeSpec, TrainSpec, learning_rate

many = settings(deadline=None, derandomize=True)


def spec(**changes: object) -> TrainSpec:
    return TrainSpec.model_validate({"steps": 10, "learning_rate": 1e-3, **changes})


@many
@given(st.integers(1, 60), st.integers(0, 70), st.sampled_from(["linear", "cosine", "constant"]))
def test_the_learning_rate_rises_then_falls_and_stays_positive(
    steps: int, warmup: int, schedule: str
) -> None:
    plan = spec(warmup_steps=warmup, schedule=schedule)
    rates = [learning_rate(plan, steps, step) for step in range(steps)]
    assert all(0 < rate <= 1e-3 * (1 + 1e-12) for rate in rates)
    rising = rates[: warmup + 1]
    assert rising == sorted(rising) and len(set(rising)) == len(rising)
    falling = rates[warmup:]
    assert falling == sorted(falling, reverse=True)
    if steps > warmup:
        assert rates[warmup] == pytest.approx(1e-3)
        assert len(set(falling)) == (1 if schedule == "constant" else len(falling))


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("linear", [4, 8, 12, 9, 6, 3]),
        ("cosine", [4, 8, 12, 6 + 6 * math.sqrt(0.5), 6, 6 - 6 * math.sqrt(0.5)]),
        ("constant", [4, 8, 12, 12, 12, 12]),
    ],
)
def test_the_learning_rate_step_by_step(schedule: str, rates: list[float]) -> None:
    plan = spec(warmup_steps=2, learning_rate=12.0, schedule=schedule)
    assert [learning_rate(plan, 6, step) for step in range(6)] == pytest.approx(rates)


@pytest.mark.parametrize(
    ("changes", "rows", "steps"),
    [
        ({"steps": 7}, 100, 7),
        ({"steps": None, "epochs": 1, "rows_per_step": 8}, 80, 10),
        ({"steps": None, "epochs": 1, "rows_per_step": 8}, 81, 11),
        ({"steps": None, "epochs": 2.5, "rows_per_step": 10}, 100, 25),
        ({"steps": None, "epochs": 0.001, "rows_per_step": 10}, 100, 1),
    ],
)
def test_epochs_are_steps_enough_for_every_row(
    changes: dict[str, object], rows: int, steps: int
) -> None:
    assert spec(**changes).step_count(rows) == steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": None}, "give either steps or epochs"),
        ({"epochs": 1.0}, "give either steps or epochs"),
        ({"ranks": 2}, r"several ranks need a zero_stage \(0, 1, 2 or 3\)"),
        ({"offload_optimizer": True}, "offload_optimizer needs zero_stage 1, 2 or 3"),
        ({"offload_optimizer": True, "zero_stage": 0}, "offload_optimizer needs zero_stage 1"),
        ({"offload_parameters": True, "zero_stage": 2}, "offload_parameters needs zero_stage 3"),
        ({"long_rows": "drop"}, 'long_rows = "drop" needs max_row_tokens'),
        ({"max_row_tokens": 1}, "greater than 1"),
        ({"steps": 0}, "greater than 0"),
        ({"rows_per_step": 0}, "greater than 0"),
        ({"micro_batch_tokens": 0}, "greater than 0"),
        ({"learning_rate": 0.0}, "greater than 0"),
        ({"learning_rate": float("inf")}, "finite number"),
        ({"zero_stage": 4}, "'none', 0, 1, 2 or 3"),
        ({"schedule": "step"}, "'linear', 'cosine' or 'constant'"),
        ({"step": 1}, "Extra inputs"),
        ({"lora": {"targets": []}}, "at least 1 item"),
        ({"lora": {"rank": 0}}, "greater than 0"),
        ({"probe": {}}, "Field required"),
        ({"probe": {"every": 1, "words": []}}, "at least 1 item"),
    ],
)
def test_what_cannot_run_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"divergence_weight": 0.0}, "cannot both be 0"),
        ({"divergence_weight": -1.0}, "greater than or equal to 0"),
        ({"beta": 0.0}, "greater than 0"),
        ({"beta": 1.0}, "less than 1"),
        ({"temperature": 0.0}, "greater than 0"),
        ({"divergence": "kl"}, "'forward_kl', 'reverse_kl' or 'jsd'"),
    ],
)
def test_what_cannot_be_minimised_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LossSpec.model_validate(changes)


def test_what_can_run_is_taken() -> None:
    spec(ranks=2, zero_stage=0, lora=LoraSpec(), probe=ProbeSpec(every=5))
    spec(ranks=2, zero_stage=3, offload_optimizer=True, offload_parameters=True)
    spec(max_row_tokens=100, long_rows="truncate")
    LossSpec(divergence_weight=0.0, cross_entropy_weight=1.0)
