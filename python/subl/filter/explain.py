"""Why one row is kept or rejected."""

from __future__ import annotations

import json
from typing import Any

from subl.filter.rules import FilterSpec


def explain(spec: FilterSpec, line: bytes) -> dict[str, Any]:
    """The verdict on one line of JSON.

    Returns:
        `kept`; `unreadable`, a list of reasons why no rule could be asked; and `rules`, every rule
        in declared order with `name`, `kind`, `field`, `broken` and `reasons`. A reason is what
        the rejects hold: `span` has byte offsets into the UTF-8 value of the field.
    """
    verdict: dict[str, Any] = json.loads(spec.plan().explain(line))
    return verdict
