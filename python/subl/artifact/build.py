"""Turn (spec, inputs) into an artifact: absent or complete, and never made twice.

Work happens in `NAME.partial/` under a lock. Finishing is: write the records, fsync everything,
rename. A process killed at any moment leaves either the finished artifact or a partial one, which
the next run with the same key continues and any other key refuses to touch.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from subl.artifact.digest import file_digests, files_of, json_digest, json_text
from subl.artifact.files import sync, write_atomically
from subl.artifact.statement import Inputs, input_digest, read_statement, statement
from subl.errors import InputError, OutputError


@dataclass(frozen=True)
class Artifact:
    """A finished artifact. `digest` names its data, `key` names what it was made from."""

    path: Path
    kind: str
    key: str
    digest: str
    result: dict[str, Any]
    seconds: float
    reused: bool


def plan_key(kind: str, spec: BaseModel, input_digests: Mapping[str, str]) -> str:
    """Key of the artifact that `build` would make: hex sha256 over kind, spec and inputs.

    A spec class may name in `unkeyed` what says where work is done, not what is made: such values
    may change between an interrupted run and the one that goes on with it.
    """
    keyed = spec.model_dump(mode="json", exclude=getattr(type(spec), "unkeyed", None))
    return json_digest({"kind": kind, "spec": keyed, "inputs": dict(input_digests)})


def build(
    out: Path,
    kind: str,
    spec: BaseModel,
    inputs: Mapping[str, Path],
    work: Callable[[Path], dict[str, Any]],
) -> Artifact:
    """Make the artifact `out`, or return it if it is already there with the same key.

    `work` gets the partial directory, writes data into it and returns the figures for
    `result.json`. It may find files of an interrupted run with the same key; what it does not
    want to continue it overwrites.

    Raises:
        OutputError: `out` holds something else, or another process is making it.
    """
    input_digests = {name: input_digest(path) for name, path in inputs.items()}
    key = plan_key(kind, spec, input_digests)
    if (done := _finished(out, key)) is not None:
        return done
    partial = out.with_name(f"{out.name}.partial")
    with _locked(partial):
        if (done := _finished(out, key)) is not None:  # made while we waited for the lock
            return done
        if _complete(partial, key):  # killed while it was being published
            _publish(partial, out)
            return open_artifact(out)
        _claim(partial, key, kind, spec, input_digests)
        started = datetime.now(UTC)
        result = work(partial)
        _write_json(partial / "result.json", result)
        record = statement(
            kind=kind,
            key=key,
            spec=spec.model_dump(mode="json"),
            inputs=Inputs(out.parent, dict(inputs), input_digests),
            outputs=file_digests(partial),
            started=started,
            finished=datetime.now(UTC),
        )
        _write_json(partial / "statement.json", record)
        _publish(partial, out)
    made = open_artifact(out)
    return replace(made, reused=False)


def open_artifact(path: Path) -> Artifact:
    """Read a finished artifact's records. Data is verified by `lineage`, not here."""
    record = read_statement(path)
    if record is None:
        raise InputError(
            f"{path} is not a finished artifact (it has no statement.json)",
            hint="run the stage that makes it; a folder that ends in .partial is unfinished",
        )
    build_definition = record["predicate"]["buildDefinition"]
    metadata = record["predicate"]["runDetails"]["metadata"]
    seconds = (
        datetime.fromisoformat(metadata["finishedOn"])
        - datetime.fromisoformat(metadata["startedOn"])
    ).total_seconds()
    return Artifact(
        path=path,
        kind=build_definition["buildType"].split(":")[2],
        key=build_definition["internalParameters"]["key"],
        digest=build_definition["internalParameters"]["digest"],
        result=json.loads((path / "result.json").read_text(encoding="utf-8")),
        seconds=seconds,
        reused=True,
    )


def _finished(out: Path, key: str) -> Artifact | None:
    if not out.exists():
        return None
    if not out.is_dir() or read_statement(out) is None:
        raise OutputError(
            f"{out} exists and is not an artifact of subl", hint="choose another output with -o"
        )
    found = open_artifact(out)
    if found.key != key:
        raise OutputError(
            f"{out} was made from another configuration or other inputs "
            f"(key {found.key[:12]}, this run's is {key[:12]})",
            hint="choose another output with -o, or remove that folder",
        )
    return found


@contextmanager
def _locked(partial: Path) -> Iterator[None]:
    """Hold the partial directory for this process; the kernel lets go when it dies."""
    lock = partial / ".lock"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"cannot write to {partial}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"another process is writing {partial}", hint="wait for it, or stop it"
            ) from error
        yield
        if partial.exists() and [path.name for path in partial.iterdir()] == [".lock"]:
            lock.unlink()  # somebody else finished the work while we asked for it
            partial.rmdir()
    finally:
        os.close(descriptor)


def _claim(
    partial: Path, key: str, kind: str, spec: BaseModel, input_digests: Mapping[str, str]
) -> None:
    """Make the partial directory this key's, with what the same key left in it."""
    record = {
        "kind": kind,
        "key": key,
        "spec": spec.model_dump(mode="json"),
        "inputs": dict(input_digests),
    }
    file = partial / "spec.json"
    left = [path for path in partial.iterdir() if not path.name.startswith(".")]
    if left and (held := _key_of(file)) != key:
        if held is None:
            raise OutputError(
                f"{partial} exists and subl did not make it", hint="choose another output with -o"
            )
        if left != [file]:
            raise OutputError(
                f"{partial} holds unfinished work of another configuration or other inputs "
                f"(key {held[:12]}, this run's is {key[:12]})",
                hint="the command that began it goes on with it; to give it up, remove that "
                "folder, or choose another output with -o",
            )
    for name in ("result.json", "statement.json"):  # of a run killed before the last rename
        (partial / name).unlink(missing_ok=True)
    _write_json(file, record)


def _key_of(spec_file: Path) -> str | None:
    try:
        return str(json.loads(spec_file.read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _complete(partial: Path, key: str) -> bool:
    """Whether everything of this key is in `partial`, byte for byte as its statement says."""
    try:
        record = read_statement(partial)
    except InputError:
        return False
    if record is None or not (partial / "result.json").is_file():
        return False
    if record["predicate"]["buildDefinition"]["internalParameters"]["key"] != key:
        return False
    stated = {each["name"]: each["digest"]["sha256"] for each in record["subject"]}
    found = file_digests(partial)
    return stated == {name: found[name] for name in stated if name in found}


def _publish(partial: Path, out: Path) -> None:
    """Rename the partial directory; what is hidden in it (temporaries of a killed run) goes."""
    for path in partial.rglob(".*"):
        if path.name != ".lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in [*files_of(partial), *(p for p in partial.rglob("*") if p.is_dir()), partial]:
        sync(path)
    partial.rename(out)
    (out / ".lock").unlink()  # after the rename: nobody can take the lock of what is published
    sync(out.parent)


def _write_json(path: Path, value: object) -> None:
    text = json_text(value, indent=2, sort_keys=True, allow_nan=False)
    write_atomically(path, text + "\n")
