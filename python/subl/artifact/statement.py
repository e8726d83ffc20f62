"""The provenance record of an artifact: an in-toto Statement v1 with SLSA provenance v1.

It states inputs and outputs by sha256, the parameters, the versions and the host. It is a claim by
whoever ran the stage, not a signature; `lineage` checks that the files still say the same.
Formats: in-toto.io/Statement/v1 and slsa.dev/provenance/v1.
"""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import subl_core

from subl import __version__
from subl.artifact.digest import data_digest
from subl.cores import cores
from subl.errors import InputError

_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
_BUILD_TYPE = "urn:subl:"

PAUSED = "subl_pausedSeconds"
"""A field of our own in SLSA's `metadata`, named as it asks for."""


@dataclass(frozen=True)
class Inputs:
    """What a stage read: paths and digests by name; `base` is what URIs are relative to."""

    base: Path
    paths: Mapping[str, Path]
    digests: Mapping[str, str]


def statement(
    *,
    kind: str,
    format_version: int,
    key: str,
    spec: Mapping[str, Any],
    packages: Iterable[str],
    inputs: Inputs,
    outputs: Mapping[str, str],
    rows: Mapping[str, int],
    started: datetime,
    paused: float,
    finished: datetime,
) -> dict[str, Any]:
    """The statement of one finished stage. `packages`: whose versions it names; `outputs`:
    {relative path: hex sha256}; `rows`: how many rows there are in those that have rows; `paused`:
    seconds between start and finish in which nobody worked on it."""
    return {
        "_type": _TYPE,
        "subject": [
            {"name": name, "digest": {"sha256": digest}, **_annotated(rows.get(name))}
            for name, digest in sorted(outputs.items())
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": f"{_BUILD_TYPE}{kind}:v{format_version}",
                "externalParameters": dict(spec),
                "internalParameters": {"key": key, "digest": data_digest(outputs)},
                "resolvedDependencies": [
                    {
                        "name": name,
                        "uri": _relative(inputs.paths[name], inputs.base),
                        "digest": {"sha256": inputs.digests[name]},
                    }
                    for name in sorted(inputs.paths)
                ],
            },
            "runDetails": {
                "builder": {"id": "urn:subl:local", "version": versions(packages)},
                "metadata": {
                    "invocationId": key,
                    "startedOn": started.isoformat(),
                    "finishedOn": finished.isoformat(),
                    **({PAUSED: round(paused, 1)} if paused >= 1 else {}),
                },
                "byproducts": [{"name": "host", "annotations": host()}],
            },
        },
    }


def _annotated(rows: int | None) -> dict[str, Any]:
    return {} if rows is None else {"annotations": {"rows": rows}}


def row_counts(record: Mapping[str, Any]) -> dict[str, int]:
    """{relative path: rows} of the files of an artifact for which its statement says it."""
    return {
        subject["name"]: subject["annotations"]["rows"]
        for subject in record["subject"]
        if "annotations" in subject
    }


def read_statement(path: Path) -> dict[str, Any] | None:
    """The in-toto statement of an artifact; None where `path` is no artifact.

    A `statement.json` that subl did not write is a file like others.

    Raises:
        InputError: it is no JSON, or one of subl's and lacks what each of them says.
    """
    file = path / "statement.json"
    return parse_statement(file.read_bytes(), file) if file.is_file() else None


def parse_statement(data: bytes, file: Path) -> dict[str, Any] | None:
    """The statement that is `data`, of a file that messages name; otherwise as `read_statement`."""
    try:
        record: dict[str, Any] = json.loads(data.decode())
        if not _is_ours(record):
            return None
        record["predicate"]["buildDefinition"]["internalParameters"]["digest"]
        times = record["predicate"]["runDetails"]["metadata"]
        for time in (times["startedOn"], times["finishedOn"]):
            datetime.fromisoformat(time)
        for subject in record["subject"]:
            Path(subject["name"]), str(subject["digest"]["sha256"])
        row_counts(record)
        spec_record(record)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{file} is damaged: {reason}",
            hint="restore that file; if subl did not make the folder, give its files one by one",
        ) from error
    return record


def _is_ours(record: Any) -> bool:
    """Whether JSON is a statement about what a stage of subl built."""
    if not isinstance(record, dict) or record.get("_type") != _TYPE:
        return False
    try:
        return str(record["predicate"]["buildDefinition"]["buildType"]).startswith(_BUILD_TYPE)
    except (KeyError, TypeError):
        return False


def stage_of(record: Mapping[str, Any]) -> tuple[str, int]:
    """Which stage made an artifact, and in which version of that stage's format."""
    _, _, kind, version = record["predicate"]["buildDefinition"]["buildType"].split(":")
    return kind, int(version.removeprefix("v"))


def spec_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the artifact's `spec.json` says, from its statement."""
    definition = record["predicate"]["buildDefinition"]
    kind, format_version = stage_of(record)
    return {
        "kind": kind,
        "format_version": format_version,
        "key": definition["internalParameters"]["key"],
        "spec": definition["externalParameters"],
        "inputs": {
            each["name"]: each["digest"]["sha256"] for each in definition["resolvedDependencies"]
        },
    }


def with_name(folder: Path) -> Path:
    """A folder as it was called, but that `.` and `..` have no name and no folder above them."""
    return folder if folder.name not in ("", "..") else Path(os.path.realpath(folder))


def input_place(artifact: Path, uri: str) -> Path:
    """Where an input is that a statement names: beside the artifact's folder as that was called,
    or, where nothing is there, beside what links in that name lead to."""
    real, called = Path(os.path.realpath(artifact)), with_name(artifact)
    found = Path(os.path.normpath(called.parent / uri))
    if not os.path.lexists(found) and real != called.absolute():
        behind = Path(os.path.normpath(real.parent / uri))
        return behind if os.path.lexists(behind) else found
    return found


def artifact_digest(path: Path) -> str | None:
    """The digest that a finished artifact states for its data; None where `path` is none."""
    record = read_statement(path)
    if record is None:
        return None
    return str(record["predicate"]["buildDefinition"]["internalParameters"]["digest"])


def artifact_around(path: Path) -> Path | None:
    """The artifact that a file, which may not be there yet, is a part of; None: it is in none."""
    for folder in path.expanduser().resolve().parents:
        if read_statement(folder) is not None:
            return folder
    return None


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python, of subl and its core, and of those packages that are installed."""
    found = {
        "python": platform.python_version(),
        "subl": __version__,
        "subl-core": subl_core.__version__,
    }
    for name in packages:
        from importlib import metadata  # takes as long as to filter a small file

        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def host() -> dict[str, str]:
    """Facts about the machine; no host or user name, so that a record can be published."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": str(cores()),
        "memory_gib": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f}",
        **({"gpus": found} if (found := _gpus(Path("/proc/driver/nvidia/gpus"))) else {}),
    }


def made_here(path: Path) -> bool:
    """Whether the artifact at `path` was made on a machine like this one: its time counts here."""
    record = read_statement(path)
    if record is None:
        return False
    facts = record["predicate"]["runDetails"].get("byproducts") or [{}]
    return bool(facts[0].get("annotations") == host())


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _gpus(folder: Path) -> str:
    """NVIDIA's, as their driver names them: `8 x NVIDIA H100 80GB HBM3`. No library is asked."""
    models = [
        line.partition(":")[2].strip()
        for file in sorted(folder.glob("*/information"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith("Model:")
    ]
    return ", ".join(f"{count} x {model}" for model, count in Counter(models).items())


def _relative(path: Path, base: Path) -> str:
    """Inputs are named relative to the artifact's parent, so that a run folder can move."""
    folder, name = os.path.split(path)
    if name in ("", ".."):
        return _relative_folder(str(path), base, Path.cwd()).as_posix()
    return (_relative_folder(folder or ".", base, Path.cwd()) / name).as_posix()


@lru_cache(maxsize=16)
def _relative_folder(folder: str, base: Path, here: Path) -> Path:
    """Many inputs are in one folder. What relative names mean depends on `here`, where we work.
    Where `..` of `base` is not what its name says, because a link leads there, links are followed.
    """
    real, found = os.path.realpath(base), os.path.relpath(folder, base)
    if os.path.realpath(Path(real, found)) != os.path.realpath(folder):
        found = os.path.relpath(os.path.realpath(folder), real)
    return Path(found)
