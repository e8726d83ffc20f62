"""What an evaluation has found out so far: cells, in Parquet parts of an unfinished artifact.

A cell is what one model does with one question, once. Its name is the digest of all that it follows
from: the digest of the model (never its path), the question, the settings and the sample's index.
Parts are only ever added; a run that was interrupted reads them, and makes what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import json_digest, written_whole

if TYPE_CHECKING:
    import polars

Cell = tuple[str, int]
"""A question, and which of its samples."""


class Cells:
    """The cells of one kind, in one folder.

    Args:
        name: of the file of all cells, and of the folder of its parts.
        origin: what all of them follow from, but for question and sample.
        columns: what each says, by name, as Polars' types.
    """

    def __init__(
        self, folder: Path, name: str, origin: Mapping[str, Any], columns: Mapping[str, Any]
    ) -> None:
        import polars

        self._file, self._parts = folder / f"{name}.parquet", folder / f"{name}.parts"
        self._origin = origin
        self._schema = {
            "cell": polars.String,
            "question": polars.String,
            "sample": polars.Int64,
            **columns,
        }
        self._parts.mkdir(exist_ok=True)
        files = [*sorted(self._parts.glob("part-*.parquet")), *folder.glob(self._file.name)]
        self._frames = [polars.read_parquet(file, glob=False) for file in files]
        self._known = {name for frame in self._frames for name in frame["cell"]}

    def digest(self, cell: Cell) -> str:
        """The cell's name."""
        question, sample = cell
        return json_digest({**self._origin, "question": question, "sample": sample})

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those of `cells` that are to be made."""
        return [each for each in cells if self.digest(each) not in self._known]

    def add(self, made: Mapping[Cell, Mapping[str, Any]]) -> None:
        """Write what has been found out, as a part of its own."""
        import polars

        frame = polars.DataFrame(
            [
                {"cell": self.digest(cell), "question": cell[0], "sample": cell[1], **values}
                for cell, values in made.items()
            ],
            schema=self._schema,
        )
        _write(frame, self._parts / f"part-{len(self._frames):05d}.parquet")
        self._frames.append(frame)
        self._known.update(frame["cell"])

    def finish(self, cells: Sequence[Cell]) -> polars.DataFrame:
        """Write these, all of which have been made, as one file, in this order, and leave no parts.

        Returns:
            What the file has.
        """
        import shutil

        import polars

        wanted = polars.DataFrame({"cell": [self.digest(each) for each in cells]})
        known = polars.concat(self._frames).unique("cell")
        frame = wanted.join(known, on="cell", how="left", maintain_order="left")
        _write(frame, self._file)
        shutil.rmtree(self._parts)
        return frame


def _write(frame: polars.DataFrame, file: Path) -> None:
    with written_whole(file) as written:
        frame.write_parquet(written)
