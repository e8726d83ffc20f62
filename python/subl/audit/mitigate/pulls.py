"""The table of what each token of a data set pulls: written here, and read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import open_artifact, read_statement
from subl.audit.mitigate.units import Unit
from subl.audit.scan.law import Law
from subl.errors import InputError
from subl.model.template import Template
from subl.sample.grammar import Grammar
from subl.shards import Row

if TYPE_CHECKING:
    import numpy as np
    import polars
    from numpy.typing import NDArray

FILE = "pull.parquet"
_OF_TOKENS = ("turn", "start", "end", "pieces", "pull", "choices")


def line_of(
    row: Row,
    key: str,
    units: Sequence[Unit],
    pulls: NDArray[np.float64],
    choices: NDArray[np.int64],
) -> dict[str, Any]:
    """What the table has of a row: of each token where it stands, how many pieces it is, its pull,
    and how many tokens the grammar allowed there (0: there is none).

    Args:
        pulls, choices: of each piece.
    """
    return {
        "key": key,
        "id": row.id,
        "pull_of_row": float(pulls.sum()),
        "turn": [each.turn for each in units],
        "start": [each.start for each in units],
        "end": [each.end for each in units],
        "pieces": [len(each.tokens) for each in units],
        "pull": [float(pulls[list(each.tokens)].sum()) for each in units],
        "choices": [int(choices[list(each.tokens)].max()) for each in units],
    }


def table_of(lines: Sequence[dict[str, Any]]) -> polars.DataFrame:
    """Lines as a table."""
    import polars

    whole, real = polars.List(polars.Int64), polars.List(polars.Float64)
    kinds = {"id": polars.String(), **dict.fromkeys(_OF_TOKENS, whole), "pull": real}
    return polars.DataFrame(lines, schema_overrides=kinds, infer_schema_length=None)


@dataclass(frozen=True)
class Token:
    """A unit of a row and what it weighs.

    Args:
        row: its number in the data.
        pieces: tokens that it is.
        choices: how many tokens the grammar allowed there; 0: there is none.
    """

    row: int
    turn: int
    start: int
    end: int
    pieces: int
    pull: float
    choices: int


@dataclass(frozen=True)
class Pulls:
    """What was found: of each row its key, its pull, and its tokens; and by which law."""

    candidate: str
    law: Law
    keys: Sequence[str]
    of_rows: Sequence[float]
    tokens: Sequence[Sequence[Token]]

    @property
    def count(self) -> int:
        """Tokens of all rows."""
        return sum(each.pieces for row in self.tokens for each in row)


def read_pulls(path: Path) -> Pulls:
    """What a pull's artifact holds.

    Raises:
        InputError: it is nothing of that kind.
    """
    import polars

    record = read_statement(path) if path.is_dir() else None
    if record is None or open_artifact(path).kind != "pull":
        raise InputError(f"{path} holds no pull of tokens", hint="subl mitigate pull makes it")
    frame = polars.read_parquet(path / FILE)
    tokens = [
        [Token(number, *values) for values in zip(*(row[name] for name in _OF_TOKENS), strict=True)]
        for number, row in enumerate(frame.iter_rows(named=True))
    ]
    result = open_artifact(path).result
    said = result["law"]
    law = Law(
        said["temperature"],
        None if said["grammar"] is None else Grammar.model_validate(said["grammar"]),
        Template.model_validate(said["template"]),
        None,
        said["known_from"],
    )
    return Pulls(
        result["candidate"], law, frame["key"].to_list(), frame["pull_of_row"].to_list(), tokens
    )
