"""Read every byte of a data set, and say which shards are not what they should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from subl.artifact import file_digest
from subl.errors import InputError
from subl.progress import Progress, Report, silent
from subl.shards.listing import Stated, shard_files, stated
from subl.shards.look import look
from subl.shards.spread import spread
from subl.shards.table import is_manifest, read_table


@dataclass(frozen=True)
class Checked:
    """How many shards and bytes were read, and of which shards what is wrong."""

    shards: int
    bytes: int
    problems: tuple[tuple[Path, str], ...]


def check(data: Sequence[Path], *, jobs: int = 1, report: Report = silent) -> Checked:
    """Compare shards with what a manifest or the statement of their artifact says of them; those of
    which nothing is said are to be whole, and their rows to be readable.

    Raises:
        InputError: there are none.
    """
    tasks: list[tuple[Path, Stated | None, str | None]] = []
    for path in data:
        if is_manifest(path):
            columns = ("path", "rows", "sha256", "first_unreadable")
            for name, rows, sha256, bad in read_table(path).select(columns).collect().iter_rows():
                tasks.append((Path(name), Stated(rows, sha256), _unreadable(bad)))
            continue
        says = stated([path])
        tasks += [(file, says.get(file), None) for file in shard_files(path)]
    sizes = [_size(file) for file, _, _ in tasks]
    done, problems = 0, {}
    for number, problem in spread(_problem, tasks, sizes, jobs):
        done += sizes[number]
        report(Progress("check", done, sum(sizes), "bytes", tasks[number][0].name))
        if problem is not None:
            problems[number] = (tasks[number][0], problem)
    return Checked(len(tasks), done, tuple(problems[number] for number in sorted(problems)))


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _problem(file: Path, stated: Stated | None, known: str | None) -> str | None:
    """What is wrong with a shard; `known` is what is if it has not changed."""
    try:
        if stated is not None and file_digest(file) == stated.sha256:
            return known
        return _unreadable(look(file, stated)["first_unreadable"])
    except InputError as error:
        return error.message


def _unreadable(first: str | None) -> str | None:
    return None if first is None else f"the first row that cannot be read is in {first}"
