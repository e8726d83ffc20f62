"""Which tokens of a row speak for the trait that a scan came to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from subl.artifact import check_made_with
from subl.audit.scan.drawn import draw
from subl.audit.scan.run import law_of, scanned
from subl.audit.scan.tokens import token_gains
from subl.errors import InputError
from subl.progress import silent


def row_of(scan: Path, id: str) -> int:
    """The number in `scores.parquet` of the row of this id, the first of several.

    Raises:
        InputError: it is no scan, or looked at no such row.
    """
    import polars

    scanned(scan)
    ids = polars.read_parquet(scan / "scores.parquet", columns=["id"])["id"].to_list()
    if id not in ids:
        raise InputError(
            f"{scan} has looked at no row of the id {id!r}",
            hint="its scores.parquet has those that it has looked at; of copies, the first",
        )
    return ids.index(id)


def explain(
    scan: Path, model: Path, data: Sequence[Path], rows: Sequence[int]
) -> list[dict[str, Any]]:
    """What each token of rows gains under the nearest candidate, in nats.

    Args:
        scan: its folder.
        rows: their numbers in `scores.parquet`.

    Raises:
        InputError: it is no scan, or of other rows or another model, or has no such row, or no
            trait is nearest.
    """
    import polars

    from subl.audit.scan.scorers import Scorers

    artifact, spec = scanned(scan)
    check_made_with(scan, "model", model)
    nearest = artifact.result["nearest"]
    if nearest is None:
        raise InputError(f"{scan} has no nearest trait: there is nothing to explain")
    keys = polars.read_parquet(scan / "scores.parquet", columns=["key"])["key"].to_list()
    for row in rows:
        if not 0 <= row < len(keys):
            raise InputError(f"there is no row {row}: the scan has {len(keys)}, from 0")
    pilot = artifact.result["pilot"]
    before = 0 if pilot is None else int(pilot["rows"])
    drawn = draw(data, spec.rows + before, "rows", silent).part(slice(before, before + spec.rows))
    if list(drawn.keys[: len(keys)]) != keys:
        raise InputError("these are not the rows that were scanned", hint="give them to --data")
    law, was = law_of(spec, data), artifact.result["law"]
    if (law.temperature, law.grammar is not None) != (was["temperature"], was["grammar"]):
        raise InputError(
            f"{data[0]} says otherwise than the scanned rows did how they were drawn",
            hint="give the very artifact that was scanned: a copy of its rows has no record",
        )
    heat = 1.0 if law.temperature is None else law.temperature
    scorers = Scorers(model, law, [heat], spec.batch_rows)
    some = scorers.base.prepared(
        [drawn.rows[row] for row in rows], [drawn.ended_by[row] for row in rows]
    )
    gains = token_gains(scorers, some, spec.bank.candidates(spec.kinds), nearest)
    return [
        {"row": row, "id": drawn.rows[row].id, "nearest": nearest, "tokens": tokens}
        for row, tokens in zip(rows, gains, strict=True)
    ]
