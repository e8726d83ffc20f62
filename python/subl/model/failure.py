"""Why a model cannot do what it is asked, in the words that its own code fails with.

Whether a way of computing is right for a model is found by trying it. Each architecture fails in
its own way where it is not, so an exception of any kind is an answer; but not each exception is.
"""

from __future__ import annotations

from subl.errors import StageError, SublError


def failure(error: Exception) -> str:
    """What a forward pass ended with: the kind and the first line of `error`.

    Raises:
        StageError: memory ran out, which says nothing about the model.
        SublError: `error` itself, where it is one: it has its reason.
    """
    import torch

    if isinstance(error, SublError):
        raise error
    words = str(error).strip().partition("\n")[0]
    reason = f"{type(error).__name__}: {words}" if words else type(error).__name__
    out = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if out or "can't allocate memory" in words:  # a RuntimeError on CPUs
        raise StageError(
            f"a forward pass does not fit into memory: {reason}",
            hint="shorter rows or prompts and smaller batches need less",
        ) from error
    return reason
