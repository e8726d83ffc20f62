"""What each token of rows gains under a candidate: over the base, and over what stands for
nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from subl.audit.scan.bank import PLAIN, Candidate

if TYPE_CHECKING:
    from subl.audit.scan.score import Rows
    from subl.audit.scan.scorers import Scorers


def token_gains(
    scorers: Scorers, rows: Rows, candidates: Sequence[Candidate], nearest: str
) -> list[list[dict[str, Any]]]:
    """Of each row, of each token that is scored: its text, and the nats that it gains under the
    candidate `nearest` over the plain base, and over the mean of the neutral prompts; at the first
    temperature of the scorers."""
    asked = [each for each in candidates if each.trait is None or each.name == nearest]
    scorers.prove(rows, asked)
    said = {each.name: scorers.by_token(rows, each) for each in asked}
    own, plain = said.pop(nearest), said.pop(PLAIN)
    found = []
    for row, texts in enumerate(scorers.base.texts(rows)):
        neutral = np.mean([each[row][:, 0] for each in said.values()], axis=0)
        found.append(
            [
                {"text": text, "over_base": float(a - b), "over_neutral": float(a - c)}
                for text, a, b, c in zip(
                    texts, own[row][:, 0], plain[row][:, 0], neutral, strict=True
                )
            ]
        )
    return found
