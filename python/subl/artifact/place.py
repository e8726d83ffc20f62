"""Where something new may be written: not over what it is made from, nor into what is finished."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from subl.artifact.statement import artifact_around
from subl.errors import OutputError

ELSEWHERE = "choose another output with -o"


def check_place(out: Path, inputs: Iterable[Path] = (), *, hint: str = ELSEWHERE) -> None:
    """Refuse a place where something is to be written, and where that would do damage.

    Args:
        inputs: files and folders that it is made from, as far as they are there.

    Raises:
        OutputError: it is an input, or in one; it is in an artifact, or below a file.
    """
    _check(out, out.resolve(), inputs, hint)


def check_folder(out: Path, inputs: Iterable[Path] = ()) -> None:
    """The same of a folder in which several things are to be written, and which may be there.

    Raises:
        OutputError: as `check_place`, or it is an artifact.
    """
    _check(out, out.resolve() / "any", inputs, ELSEWHERE)


def _check(out: Path, at: Path, inputs: Iterable[Path], hint: str) -> None:
    """`at` is where it would be written, as `out` says."""
    where = out.resolve()
    if (artifact := artifact_around(at)) is not None:
        which = "is an artifact" if artifact == where else f"would be in the artifact {artifact}"
        raise OutputError(f"{out} {which}, to which nothing is added", hint=hint)
    ways = {_inode(each): each for each in (at, *at.parents) if each.exists()}
    for path in inputs:
        if path.exists() and (found := ways.get(_inode(path))) is not None:
            which = "is an input itself" if found == where else f"would be in the input {path}"
            raise OutputError(f"{out} {which}, which stays as it is", hint=hint)
    above = next((each for each in at.parents if each.exists()), at)
    if not above.is_dir():
        raise OutputError(f"cannot write to {out}: {above} is no folder", hint=hint)


def _inode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
