from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from subl.report import ReportDocument

from .sample import sample_document

FIELDS: dict[str, Any] = json.loads(sample_document().model_dump_json())


def altered(path: str, value: object) -> dict[str, Any]:
    """The sample's fields with the value at a dotted path replaced."""
    fields: dict[str, Any] = json.loads(json.dumps(FIELDS))
    *parents, last = path.split(".")
    place: Any = fields
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[int(last) if isinstance(place, list) else last] = value
    return fields


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("surprise", 1, "Extra inputs"),
        ("chain.nodes.0.digest", "abc", "pattern"),
        ("chain.nodes.1.id", "base", "same id"),
        ("chain.edges.0.source", "nowhere", "unknown nodes"),
        ("chain.edges.0", {"source": "eval", "target": "base"}, "cycle"),
        ("filters.0.rows_kept", 1, "rows in = 256"),
        ("filters.0.rules.0.sole_hits", 23, "23 sole hits of 22"),
        ("filters.0.rules.3.hits", 1, "7 sole hits of 1"),
        ("filters.0.rules.0", {"name": "a", "kind": "b", "hits": 99, "sole_hits": 99},
         "more sole hits than rejected"),
        ("matrices.0.rows.0.cells", [], "0 cells for 10"),
        ("matrices.0.rows.0.cells.0.low", None, "two ends or none"),
        ("matrices.0.rows.0.cells.0.mean", 1.2, "less than or equal to 1"),
        ("effects.0.low", 9.0, "upside down"),
        ("effects.0.estimate", float("nan"), "finite"),
        ("losses.0.curves.0.points", [], "at least 1"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(path: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ReportDocument.model_validate(altered(path, value))


def test_a_document_survives_json_and_cannot_be_changed() -> None:
    document = sample_document()
    assert ReportDocument.model_validate_json(document.model_dump_json()) == document
    with pytest.raises(ValidationError, match="frozen"):
        setattr(document, next(iter(ReportDocument.model_fields)), "other")


def test_lone_surrogates_keep_byte_offsets() -> None:
    fields = altered("filters.0.kept_examples", ["a\ud800b"])
    text = ReportDocument.model_validate(fields).filters[0].kept_examples[0]
    assert text == "a\ufffdb"
    assert len(text.encode()) == len("a\ud800b".encode("utf-8", "surrogatepass"))
