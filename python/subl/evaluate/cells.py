"""What an evaluation is made of: cells, in Parquet parts of an unfinished artifact.

A cell is what one model does with one question, once. Its name is the digest of all that it follows
from: the digest of the model (never its path), the question, the settings and the sample's index.
Parts of the same cells are made whole or not at all, by any process; a run that was interrupted
makes those that are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import json_digest, written_whole

if TYPE_CHECKING:
    import polars

Cell = tuple[str, int]
"""A question, and which of its samples."""


@dataclass(frozen=True)
class Cells:
    """All cells of one evaluation.

    Attributes:
        name: of the file that they end in.
        cells: in its order.
        part: how many are made at a time.
        origin: what all of them follow from, but for question and sample.
        columns: what each says, by name, as Polars' types.
        own: what those of a question follow from, beside that.
    """

    name: str
    cells: Sequence[Cell]
    part: int
    origin: Mapping[str, Any]
    columns: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The files of all parts; hidden: they are no part of what is made."""
        count = -(-len(self.cells) // self.part)
        return [f".{self.name}/part-{number:05d}.parquet" for number in range(count)]

    def of(self, number: int) -> Sequence[Cell]:
        """The cells of a part."""
        return self.cells[number * self.part : (number + 1) * self.part]

    def write(self, folder: Path, number: int, values: Sequence[Mapping[str, Any]]) -> None:
        """Write a part: what each of its cells says."""
        import polars

        rows = [
            {"cell": self._digest(cell), "question": cell[0], "sample": cell[1], **said}
            for cell, said in zip(self.of(number), values, strict=True)
        ]
        own = {"cell": polars.String, "question": polars.String, "sample": polars.Int64}
        file = folder / self.names[number]
        file.parent.mkdir(exist_ok=True)
        _write(polars.DataFrame(rows, schema=own | dict(self.columns)), file)

    def merged(self, folder: Path) -> polars.DataFrame:
        """All parts, which are there; also written as one file."""
        import polars

        frame = polars.concat(
            [polars.read_parquet(folder / name, glob=False) for name in self.names]
        )
        _write(frame, folder / f"{self.name}.parquet")
        return frame

    def _digest(self, cell: Cell) -> str:
        question, sample = cell
        own = self.own.get(question, {})
        return json_digest({**self.origin, **own, "question": question, "sample": sample})


def _write(frame: polars.DataFrame, file: Path) -> None:
    with written_whole(file) as written:
        frame.write_parquet(written)
