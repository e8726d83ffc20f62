"""What a data set is made of, as a table of Polars: one row a shard.

`inspect` looks at every shard once. `keep` has a Parquet file with what was found, and looks again
only at files that are not the same ones by their identity. Such a file stands for its shards
wherever rows are taken. It is believed: who opens a shard sees whether size and time are still
those that it had, and `check` reads all bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subl.artifact import check_place, identify, read_notes, read_statement, rereads, spec_record
from subl.artifact.partial import locked
from subl.errors import OutputError
from subl.progress import Progress, Report, silent
from subl.shards.format import MANIFEST
from subl.shards.listing import Piece, check_once, shard_files, stated
from subl.shards.look import Record, look
from subl.shards.spread import spread
from subl.shards.table import is_manifest, read_table, relative, schema, write_table

if TYPE_CHECKING:
    import polars


def inspect(
    data: Sequence[Path | str],
    *,
    known: polars.DataFrame | None = None,
    jobs: int = 1,
    report: Report = silent,
    found: Callable[[Record], None] = lambda record: None,
) -> polars.LazyFrame:
    """The manifest of files, folders and artifacts: one row a shard, in order, with the columns of
    `table.schema`. One that is given as a file is taken as it is.

    Args:
        known: the rows of manifests, of whatever files: what they say of those that are the same
            ones by their identity is taken over.
        jobs: processes that look at shards. More than one needs a script that can be imported
            (`if __name__ == "__main__"`), as all of Python's do.
        found: is told of each shard that was looked at.

    Raises:
        InputError: a shard is missing, truncated, corrupt, not what its artifact says, or given
            twice.
    """
    import polars

    paths = list(map(Path, data))
    if len(paths) == 1 and is_manifest(paths[0]):
        return read_table(paths[0])
    tables = [read_table(path) for path in paths if is_manifest(path)]
    if files := [path for path in paths if not is_manifest(path)]:
        tables.append(_looked(files, known, jobs, report, found).lazy())
    table = polars.concat(tables)
    # What is to be opened of a million shards: what is given twice has the same bytes.
    alike = table.filter(polars.col("sha256").is_duplicated()).select("path").collect()
    check_once([Piece(file) for file in map(Path, alike.get_column("path")) if file.exists()])
    return table


def keep(
    data: Sequence[Path | str], file: Path | str, *, jobs: int = 1, report: Report = silent
) -> int:
    """Put the manifest of `data` into a file. What it says already of files that are the same ones
    is taken over, and so is what an interrupted call had found.

    Returns:
        How many shards were looked at.

    Raises:
        InputError: as `inspect`.
        OutputError: the file is something else than a manifest, or one of other data, or cannot be
            written; `BusyError` if another process is at it.
    """
    paths, file = list(map(Path, data)), Path(file)
    if not is_manifest(file):
        raise OutputError(f"{file} is to be a manifest", hint=f"call it NAME{MANIFEST}")
    check_place(file)
    _check_replaces(paths, file)
    partial = file.with_name(f"{file.name}.partial")
    journal = partial / "looked.ndjson"
    looked = 0
    with locked(partial, what=str(file)):
        known = None if rereads() else _known(file, journal)
        try:
            with journal.open("ab", buffering=0) as notes:

                def note(record: Record) -> None:
                    nonlocal looked
                    looked += 1
                    notes.write(json.dumps(record).encode() + b"\n")

                table = inspect(paths, known=known, jobs=jobs, report=report, found=note).collect()
        except OSError as error:
            raise OutputError(f"cannot write {journal}: {error.strerror}") from error
        write_table(table, file)
        journal.unlink()
    return looked


def _check_replaces(data: Sequence[Path], file: Path) -> None:
    """Refuse to put a manifest in the place of one that has none of its shards."""
    if not file.exists():
        return
    listed = _paths(file)
    now = [each for path in data for each in _paths(path)]
    if listed and set(relative(listed, "/")).isdisjoint(relative(now, "/")):
        raise OutputError(
            f"{file} is the manifest of other data, such as {listed[0]}",
            hint="name another file, or remove this one",
        )


def _paths(path: Path) -> list[str]:
    if is_manifest(path):
        return read_table(path).select("path").collect().get_column("path").to_list()
    return list(map(str, shard_files(path)))


def _known(file: Path, journal: Path) -> polars.DataFrame:
    import polars

    noted = polars.DataFrame(list(read_notes(journal)), schema=schema())
    return polars.concat([read_table(file).collect(), noted]) if file.exists() else noted


def _looked(
    data: Sequence[Path],
    known: polars.DataFrame | None,
    jobs: int,
    report: Report,
    found: Callable[[Record], None],
) -> polars.DataFrame:
    import polars

    now = _now(data)
    places = now.select("position", *_PLACES)
    tables = []
    if known is not None:
        rest = known.drop(_PLACES).unique("identity", keep="last")
        tables.append(now.select("position", "identity").join(rest, on="identity"))
        now = now.join(rest, on="identity", how="anti")
    files, sizes = list(map(Path, now.get_column("path"))), now.get_column("size").to_list()
    positions, says = now.get_column("position"), stated(data)
    done, total = 0, sum(sizes)
    records: list[Record] = []
    for number, record in spread(look, [(file, says.get(file)) for file in files], sizes, jobs):
        found(record)
        records.append({**record, "position": positions[number]})
        if len(records) == _CHUNK_ROWS:  # they are smaller in a table
            tables.append(_table(records))
            records = []
        done += sizes[number]
        report(Progress("inspect", done, total, "bytes", files[number].name))
    tables.append(_table(records))
    table = polars.concat([each.select(tables[-1].columns) for each in tables])
    return table.join(places, on="position").sort("position").select(list(schema()))


def _now(data: Sequence[Path]) -> polars.DataFrame:
    """The files, in order, as the file system knows them."""
    import polars

    rows = []
    for path in data:
        made_by = _made_by(path)
        for file in shard_files(path):
            identity = identify(file)
            rows.append(
                (str(file), file.name, made_by, identity.size, "-".join(map(str, identity)))
            )
    texts = dict.fromkeys(("path", "name", "made_by", "identity"), polars.String)
    columns = ["path", "name", "made_by", "size", "identity"]
    table = polars.DataFrame(rows, columns, orient="row", schema_overrides=texts)
    return table.with_row_index("position")


def _table(records: Sequence[Record]) -> polars.DataFrame:
    import polars

    columns = {name: dtype for name, dtype in schema().items() if name not in _PLACES}
    return polars.DataFrame(records, {"position": polars.UInt32, **columns})


def _made_by(path: Path) -> str | None:
    """The artifact that a path is: the kind of its stage, and its key."""
    record = read_statement(path)
    if record is None:
        return None
    spec = spec_record(record)
    return f"{spec['kind']}:{spec['key']}"


_CHUNK_ROWS = 10_000
_PLACES = ("path", "name", "made_by")
"""What a manifest says of where a file is, and not of what is in it."""
