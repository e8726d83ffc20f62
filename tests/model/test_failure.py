"""What a model's own code fails with is a reason against it, unless it is no fault of its own."""

from __future__ import annotations

import pytest
import torch

from subl.errors import InputError, StageError
from subl.model.failure import failure


@pytest.mark.parametrize("kind", [AssertionError, KeyError, ZeroDivisionError, RuntimeError])
def test_any_exception_is_a_reason_of_one_line(kind: type[Exception]) -> None:
    reason = failure(kind("no mask of ours\nat layer 3"))
    assert reason.startswith(f"{kind.__name__}: ") and "\n" not in reason
    assert failure(kind()) == kind.__name__


def test_memory_that_ran_out_is_none() -> None:
    with pytest.raises(RuntimeError) as on_a_cpu:
        torch.empty(2**50)
    for error in (on_a_cpu.value, torch.OutOfMemoryError("CUDA out of memory"), MemoryError()):
        with pytest.raises(StageError, match="does not fit into memory") as caught:
            failure(error)
        assert caught.value.__cause__ is error and caught.value.hint


def test_an_error_of_ours_stays_what_it_is() -> None:
    error = InputError("the model is not causal")
    with pytest.raises(InputError) as caught:
        failure(error)
    assert caught.value is error
