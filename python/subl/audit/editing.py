"""What taking tokens out of a data set would cost: how much of its pull the tokens with most of it
hold. Of the data alone; what a student still shifts, `subl mitigate --measure` tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.audit.scan.explain import explain

if TYPE_CHECKING:
    from subl.artifact import Artifact

TENTH = 0.1
SHARES = (0.05, TENTH, 0.2, 0.5)
"""Of tokens. Drawn at random, a share of them holds that share of the pull."""

MOST_ROWS = 64
"""That are read for it, the first of the scan's."""


def editing_cost(scanned: Artifact, model: Path, data: Sequence[Path]) -> dict[str, Any] | None:
    """Shares of the pull that shares of the tokens hold; None where a scan has no nearest trait, or
    these rows have no pull towards it.

    Raises:
        InputError: `data` is not what was scanned.
    """
    if scanned.result["nearest"] is None:
        return None
    count = min(MOST_ROWS, int(scanned.result["rows"]))
    rows = explain(scanned.path, model, data, range(count))
    pulls = sorted((t["over_neutral"] for row in rows for t in row["tokens"]), reverse=True)
    total = sum(pulls)
    if total <= 0:
        return None
    return {
        "towards": scanned.result["nearest"],
        "rows": count,
        "tokens": len(pulls),
        "nats_a_row": total / count,
        "held_by": [
            {"tokens": share, "pull": sum(pulls[: round(share * len(pulls))]) / total}
            for share in SHARES
        ],
    }


def held_by_a_tenth(cost: Mapping[str, Any]) -> float:
    """The share of the pull that the tenth of the tokens with most of it holds."""
    return next(float(each["pull"]) for each in cost["held_by"] if each["tokens"] == TENTH)
