"""Turn (spec, inputs) into an artifact: absent or complete, and never made twice.

Work happens in `NAME.partial/` under a lock. Finishing is: write the records, fsync everything,
rename. A process killed at any moment leaves either the finished artifact or a partial one, which
the next run with the same key continues and any other key refuses to touch. Where work learns the
digests of its inputs only by reading them, the key is known at the end; until then what is known of
them has to agree.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from subl.artifact import seen
from subl.artifact.comparing import ComparedError, compares
from subl.artifact.difference import describe
from subl.artifact.digest import (
    changed,
    file_digest,
    file_digests,
    files_of,
    json_digest,
    record_text,
)
from subl.artifact.files import sync, write_atomically
from subl.artifact.inputs import check_unchanged, input_digest, known_input_digest
from subl.artifact.partial import LOCK, left_in, locked, read_spec
from subl.artifact.place import ELSEWHERE, check_place
from subl.artifact.spec import StageSpec, without
from subl.artifact.statement import (
    PAUSED,
    Inputs,
    read_statement,
    spec_record,
    stage_of,
    statement,
)
from subl.errors import InputError, OutputError


@dataclass(frozen=True)
class Artifact:
    """A finished artifact. `digest` names its data, `key` names what it was made from; `seconds`
    were worked on it, pauses between interrupted runs apart."""

    path: Path
    kind: str
    key: str
    digest: str
    result: dict[str, Any]
    seconds: float
    reused: bool


@dataclass(frozen=True)
class Made:
    """What work came to: the figures for `result.json`, and what it knows of files by having read
    or written all of them, so that nobody does it again.

    Args:
        rows: how many rows the figures count in which file: the statement keeps it beside the
            file's digest, so that `lineage` sees if they are there.
        outputs: hex sha256 of files, by their relative names.
        inputs: hex sha256 of inputs that are files, by their names.
    """

    result: dict[str, Any]
    rows: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)


def plan_key(kind: str, spec: StageSpec, input_digests: Mapping[str, str]) -> str:
    """Key of the artifact that `build` would make: hex sha256 over kind, the format version of the
    stage, spec and inputs."""
    return json_digest(
        {
            "kind": kind,
            "format_version": spec.format_version,
            "spec": spec.keyed(),
            "inputs": dict(input_digests),
        }
    )


def build(
    out: Path,
    kind: str,
    spec: StageSpec,
    inputs: Mapping[str, Path],
    work: Callable[[Path], dict[str, Any] | Made],
    *,
    learned: Callable[[Path], Mapping[str, str]] | None = None,
) -> Artifact:
    """Make the artifact `out`, or return it if it is already there with the same key.

    `work` gets the partial directory, writes data into it and returns the figures for
    `result.json`. It may find files of an interrupted run with the same key; what it does not
    want to continue it overwrites.

    `learned` is given where `work` learns the digests of inputs as it reads them: then no file is
    read for the key alone. It says which digests work that left files in a partial directory has
    learned; `work` sees to it that what it continues otherwise is of the same input.

    Raises:
        InputError: an input is missing, or changed while it was read.
        OutputError: `out` holds something else (the message says what differs), or nothing may be
            made there (see `check_place`), or another process is making it.
    """
    if compares(out):
        check_out(out, kind, spec, inputs)
        raise ComparedError
    partial, plan = _planned(out, kind, spec, inputs)
    if learned is None:
        plan = plan.closed()
    if (done := _finished(out, plan)) is not None:
        return done
    with locked(partial):
        if (done := _finished(out, plan)) is not None:  # made while we waited for the lock
            return done
        if _complete(partial, plan):  # killed while it was being published
            _publish(partial, out)
            return open_artifact(out)
        plan, started, paused = _claim(partial, plan, learned=learned)
        plan.files.note(partial)
        try:
            came = work(partial)
        except OSError as error:
            if error.filename is not None or isinstance(error, BrokenPipeError):
                raise
            # A disk that is full does not say where it was written to.
            raise OutputError(
                f"cannot make {out}: {error.strerror or error}",
                hint="check the disk and the permissions",
            ) from error
        made = came if isinstance(came, Made) else Made(came)
        plan = plan.closed(made.inputs)
        for name, digest in made.inputs.items():
            if plan.record["inputs"][name] != digest:
                raise changed(inputs[name])
        files = seen.Record()
        check_unchanged(inputs, plan.record["inputs"], files)
        files.note(partial)
        _write_json(partial / "spec.json", plan.record)
        _write_json(partial / "result.json", made.result)
        names = files_of(partial)
        if gone := sorted((made.rows.keys() | made.outputs.keys()) - set(names)):
            raise OutputError(
                f"{partial / gone[0]} was written and is gone",
                hint="nothing else may work in that folder; remove it and run the command again",
            )
        stated = statement(
            kind=kind,
            format_version=spec.format_version,
            key=plan.key,
            spec=plan.record["spec"],
            packages=spec.packages,
            inputs=Inputs(out.parent, dict(inputs), plan.record["inputs"]),
            outputs={name: made.outputs.get(name) or file_digest(partial / name) for name in names},
            rows=made.rows,
            started=started,
            paused=paused,
            finished=datetime.now(UTC),
        )
        _write_json(partial / "statement.json", stated)
        _publish(partial, out)
    artifact = open_artifact(out)
    return replace(artifact, reused=False)


@contextmanager
def beginning(
    out: Path,
    kind: str,
    spec: StageSpec,
    inputs: Mapping[str, Path],
    *,
    closed: bool = True,
    unseen: Collection[str] = (),
) -> Iterator[Path | None]:
    """The partial directory of the artifact `out`, for several processes at a time to work in; what
    they make there `build` goes on with. None if the artifact is there.

    Args:
        closed: read inputs for their digests; else `build` learns from the work what they are.
        unseen: names of inputs that are not even looked at: their digests stay open.

    Raises:
        OutputError: as `build`; `BusyError` if another process makes it alone, or finishes it.
    """
    partial, plan = _planned(out, kind, spec, inputs, unseen)
    if closed:
        plan = plan.closed()
    if _finished(out, plan) is not None:
        yield None
        return
    if left_in(partial) and (held := read_spec(partial / "spec.json")) is not None:
        _check_same(partial, plan, held)  # so that who is busy makes the same
    with locked(partial, how=fcntl.LOCK_SH):
        if _finished(out, plan) is not None:
            yield None
            return
        with locked(partial, f"{LOCK}-claim", wait=True):  # which nobody holds for long
            plan, _, _ = _claim(partial, plan, alone=False)
            plan.files.note(partial)
        yield partial


def check_out(out: Path, kind: str, spec: StageSpec, inputs: Mapping[str, Path]) -> None:
    """Look at what there is of the artifact `out`, whole or unfinished, without reading an input.

    Raises:
        OutputError: it was made from another spec or other inputs, as far as that can be told; or
            nothing may be made there.
    """
    partial, plan = _planned(out, kind, spec, inputs)
    if (record := _stated(out)) is not None:
        if not plan.goes_on_with(spec_record(record)):
            raise _other(out, plan, spec_record(record))
    elif left_in(partial) and (held := read_spec(partial / "spec.json")) is not None:
        _check_same(partial, plan, held)


def _planned(
    out: Path,
    kind: str,
    spec: StageSpec,
    inputs: Mapping[str, Path],
    unseen: Collection[str] = (),
) -> tuple[Path, _Plan]:
    """The partial directory of `out`, and the plan as far as it is known without reading."""
    check_place(out, inputs.values())
    if not out.name:
        raise OutputError(f"{out} is no name for a new folder", hint=ELSEWHERE)
    partial = out.with_name(f"{out.name}.partial")
    seen.recall(out)
    seen.recall(partial)
    return partial, _Plan.of(kind, spec, inputs, unseen)


def difference_between(
    path: Path, kind: str, spec: StageSpec, inputs: Mapping[str, Path], digests: Mapping[str, str]
) -> str | None:
    """In which values the artifact at `path` was made from another spec or other inputs, a line
    each; None where it says the same, or is none."""
    record = read_statement(path)
    plan = _Plan(spec, inputs, seen.Record(), _record(kind, spec, digests))
    if record is None or spec_record(record)["key"] == plan.key:
        return None
    return plan.differs_from(spec_record(record))


def _record(kind: str, spec: StageSpec, digests: Mapping[str, str | None]) -> dict[str, Any]:
    known = {name: digest for name, digest in digests.items() if digest is not None}
    return {
        "kind": kind,
        "format_version": spec.format_version,
        "key": plan_key(kind, spec, known) if len(known) == len(digests) else None,
        "spec": spec.model_dump(mode="json"),
        "inputs": dict(digests),
    }


@dataclass(frozen=True)
class _Plan:
    """What is to be made: `record` is what `spec.json` says of it. While the digest of an input is
    open, it is null there, and so is the key."""

    spec: StageSpec
    inputs: Mapping[str, Path]
    files: seen.Record
    record: dict[str, Any]

    @staticmethod
    def of(
        kind: str, spec: StageSpec, inputs: Mapping[str, Path], unseen: Collection[str] = ()
    ) -> _Plan:
        """Inputs whose digests are not known are open."""
        files = seen.Record()
        digests = {
            name: None if name in unseen else known_input_digest(path, files)
            for name, path in inputs.items()
        }
        return _Plan(spec, inputs, files, _record(kind, spec, digests))

    @property
    def key(self) -> str:
        assert self.record["key"] is not None, "the digest of an input is open"
        return str(self.record["key"])

    def closed(self, learned: Mapping[str, str] | None = None) -> _Plan:
        """The same with the digests of all inputs: as `learned`, or by reading."""
        learned = learned or {}
        return self._with(lambda name: learned.get(name) or self._read(name))

    def compared_to(self, then: Mapping[str, Any]) -> _Plan:
        """The same with the digests of all inputs that another `spec.json` knows."""
        return self._with(lambda name: self._read(name) if then["inputs"].get(name) else None)

    def _read(self, name: str) -> str:
        return input_digest(self.inputs[name], self.files.digest)

    def _with(self, find: Callable[[str], str | None]) -> _Plan:
        if self.record["key"] is not None:
            return self
        inputs = {name: digest or find(name) for name, digest in self.record["inputs"].items()}
        return replace(self, record=_record(self.record["kind"], self.spec, inputs))

    def goes_on_with(self, then: Mapping[str, Any]) -> bool:
        """Whether another `spec.json` says the same, as far as both know."""
        if then["key"] is not None and self.record["key"] is not None:
            return bool(then["key"] == self.key)
        return not self._differences(then)

    def differs_from(self, then: Mapping[str, Any]) -> str:
        """Which values of another `spec.json` are not this plan's, for the end of a message."""
        found = self._differences(then)
        return f":{found}" if found else f" (key {then['key'][:12]}, this run's {self.key[:12]})"

    def _differences(self, then: Mapping[str, Any]) -> str:
        old = then.get("spec")
        if isinstance(old, Mapping):  # what is no part of the key is no reason
            then = {**then, "spec": without(old, self.spec.unkeyed)}
        now = {**self.record, "spec": self.spec.keyed()}
        return describe(then, now, {name: str(path) for name, path in self.inputs.items()})


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
    ).total_seconds() - metadata.get(PAUSED, 0)
    return Artifact(
        path=path,
        kind=stage_of(record)[0],
        key=build_definition["internalParameters"]["key"],
        digest=build_definition["internalParameters"]["digest"],
        result=json.loads((path / "result.json").read_text(encoding="utf-8")),
        seconds=max(0.0, seconds),  # clocks are put back, and that of a file server is another
        reused=True,
    )


def _finished(out: Path, plan: _Plan) -> Artifact | None:
    """The artifact `out`, if it is there."""
    if (record := _stated(out)) is None:
        return None
    plan = plan.closed()
    found = open_artifact(out)
    if found.key != plan.key:
        raise _other(out, plan, spec_record(record))
    plan.files.note(out)
    return found


def _stated(out: Path) -> dict[str, Any] | None:
    """The statement of the artifact `out`; None where there is nothing."""
    if not out.exists():
        return None
    record = read_statement(out) if out.is_dir() else None
    if record is None:
        raise OutputError(f"{out} exists and is not an artifact of subl", hint=ELSEWHERE)
    return record


def _other(out: Path, plan: _Plan, held: Mapping[str, Any]) -> OutputError:
    if held["kind"] != plan.record["kind"]:
        return OutputError(
            f"{out} is an artifact of {held['kind']}, and none of {plan.record['kind']}",
            hint=ELSEWHERE,
        )
    return OutputError(
        f"{out} was made from another configuration or other inputs{plan.differs_from(held)}",
        hint="choose another output with -o, or remove that folder",
    )


def _claim(
    partial: Path,
    plan: _Plan,
    *,
    learned: Callable[[Path], Mapping[str, str]] | None = None,
    alone: bool = True,
) -> tuple[_Plan, datetime, float]:
    """Make the partial directory this plan's, with what the same work left in it; when that began,
    and the seconds since in which nobody worked on it.

    Args:
        alone: nobody else works in it, so that a `spec.json` with nothing beside it binds nobody.
    """
    file = partial / "spec.json"
    held, left, started, paused = read_spec(file), left_in(partial), datetime.now(UTC), 0.0
    if held is None and (left or file.exists()):
        raise OutputError(f"{partial} exists and subl did not make it", hint=ELSEWHERE)
    if held is not None and (left or not alone):
        _check_same(partial, plan, held)
        if learned is not None:  # and on the same inputs, as they are now
            held["inputs"] |= learned(partial)
            plan = plan.compared_to(held)
            _check_same(partial, plan, held)
        if "started" in held:  # which it is not in what is published
            started = datetime.fromisoformat(held["started"])
            paused = held.get("paused", 0.0) + (_idle_seconds(partial) if alone else 0.0)
    for name in ("result.json", "statement.json"):  # of a run killed before the last rename
        (partial / name).unlink(missing_ok=True)
    _write_json(file, {**plan.record, "started": started.isoformat(), "paused": paused})
    return plan, started, paused


def _idle_seconds(partial: Path) -> float:
    """Since anything was written there."""
    written = max(path.lstat().st_mtime for path in partial.rglob("*"))
    return max(0.0, time.time() - written)


def _check_same(partial: Path, plan: _Plan, held: Mapping[str, Any]) -> None:
    if not plan.goes_on_with(held):
        raise OutputError(
            f"{partial} holds unfinished work of another configuration or other inputs"
            f"{plan.differs_from(held)}",
            hint="the command that began it goes on with it; to give it up, remove that folder, or "
            "choose another output with -o",
        )


def _complete(partial: Path, plan: _Plan) -> bool:
    """Whether all of this plan is in `partial`, byte for byte as its statement says."""
    try:
        record = read_statement(partial)
    except InputError:
        return False
    if record is None or not (partial / "result.json").is_file():
        return False
    key = record["predicate"]["buildDefinition"]["internalParameters"]["key"]
    if key != plan.closed().key:
        return False
    stated = {each["name"]: each["digest"]["sha256"] for each in record["subject"]}
    found = file_digests(partial)
    return stated == {name: found[name] for name in stated if name in found}


def _publish(partial: Path, out: Path) -> None:
    """Rename the partial directory; what is hidden in it (temporaries of a killed run) goes, but
    for the record of what was read."""
    for folder, folders, files in os.walk(partial):
        for name in (name for name in [*folders, *files] if name.startswith(".")):
            path = Path(folder, name)
            if path.is_dir() and not path.is_symlink():
                import shutil

                shutil.rmtree(path)
            elif path not in (partial / LOCK, partial / seen.RECORD):
                path.unlink()
        folders[:] = [name for name in folders if not name.startswith(".")]
        sync(folder)
    for name in files_of(partial):
        sync(f"{partial}/{name}")
    partial.rename(out)
    (out / LOCK).unlink()  # after the rename: nobody can take the lock of what is published
    sync(out.parent)


def _write_json(path: Path, value: object) -> None:
    write_atomically(path, f"{record_text(value)}\n")
