"""Randomness that has a name."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stream(what: str, seed: int) -> torch.Generator:
    """Randomness for one thing of one seed, on the CPU: the same wherever it is used."""
    import torch

    digest = hashlib.sha256(f"{what} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
