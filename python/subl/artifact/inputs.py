"""What a stage reads: files, plain folders and artifacts, each told by its digest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from subl.artifact import seen
from subl.artifact.digest import changed, data_digest, directory_digest, file_digests
from subl.artifact.index import check_index
from subl.artifact.statement import artifact_digest, input_place, read_statement
from subl.errors import InputError


def check_there(path: Path, hint: str = "check the path") -> None:
    """Raise `InputError` where there is nothing."""
    if not path.exists():
        raise InputError(f"{path} does not exist", hint=hint)


def input_digest(path: Path, of: Callable[[Path], str] | None = None) -> str:
    """Digest of anything a stage reads: a file, an artifact, or a plain directory. `of` finds that
    of a file; files are read unless they are known.

    An artifact's is taken from its statement (verified by `lineage`, and where everything is
    reread: a chain's keys are computed often).

    Raises:
        InputError: there is nothing, or a model whose weights are elsewhere; or it cannot be read.
    """
    of = of or seen.Record().digest
    if path.is_file():
        return of(path)
    check_there(path)
    check_index(path)
    stated = artifact_digest(path)
    if stated is None:
        return directory_digest(path, of)
    if seen.rereads() and data_digest(file_digests(path, of)) != stated:
        raise InputError(
            f"{path} is not what its statement says", hint=f"subl lineage {path} says where"
        )
    return stated


def known_input_digest(path: Path, record: seen.Record) -> str | None:
    """The same, unless it is a file and would have to be read."""
    return record.known_digest(path) if path.is_file() else input_digest(path, record.digest)


def check_made_with(made: Path, name: str, path: Path) -> None:
    """Refuse another input than that of this name which an artifact was made with; of what is no
    artifact, nothing is known.

    Raises:
        InputError: says where that was.
    """
    if (record := read_statement(made)) is None:
        return
    seen.recall(made)
    for each in record["predicate"]["buildDefinition"]["resolvedDependencies"]:
        if each["name"] == name and each["digest"]["sha256"] != input_digest(path):
            then = input_place(made, each["uri"])
            raise InputError(
                f"{made} was made with another {name} than {path}", hint=f"that was {then}"
            )


def check_unchanged(
    inputs: Mapping[str, Path], digests: Mapping[str, str], record: seen.Record
) -> None:
    """Raise `InputError` if an input is not what it was when this process read it."""
    for name, path in inputs.items():
        if input_digest(path, record.same_digest) != digests[name]:
            raise changed(path)
