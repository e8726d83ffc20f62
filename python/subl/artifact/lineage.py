"""Walk an artifact's chain back to what it was made from, checking every digest on the way.

Each artifact names its inputs by path and digest. `lineage` rereads every file, so what it calls
verified is what lies on the disk now, not what a record claims. What no digest covers, hidden files
above all, is a problem of the folder that it is in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import subl_core

from subl.artifact.digest import (
    ENVELOPE,
    data_digest,
    directory_digest,
    file_digest,
    file_digests,
    listing_digest,
)
from subl.artifact.inputs import check_there
from subl.artifact.statement import (
    PREDICATE_TYPE,
    input_place,
    read_statement,
    row_counts,
    spec_record,
    stage_of,
)
from subl.artifact.uncovered import OWN, uncovered
from subl.errors import InputError

_DEEPEST = 150
"""Steps of a chain; `subl verify` takes five frames of Python's thousand for each."""


@dataclass(frozen=True)
class LineageNode:
    """One thing in a chain: an artifact (kind = its stage) or a plain file or folder (`input`).

    `format_version` is that of the stage when it made the artifact, `key` of what it was asked for;
    a plain file has neither. `prompt` is the system prompt that a model was told, by the record of
    what it wrote, or of itself. `problems` is empty where every file is what the records say.
    """

    name: str
    path: str
    kind: str
    digest: str
    problems: tuple[str, ...] = ()
    inputs: tuple[LineageNode, ...] = field(default=())
    format_version: int | None = None
    key: str = ""
    prompt: str | None = None

    @property
    def identity(self) -> str:
        """Of its data and of what it was made by: several artifacts may hold the same data."""
        return f"{self.digest}:{self.key}" if self.key else self.digest

    def verified(self) -> bool:
        """Whether this node and everything behind it is what the records say."""
        return not any(node.problems for node in self.nodes())

    def nodes(self) -> Iterator[LineageNode]:
        """This node and those behind it."""
        return self._all(set())

    def sentences(self) -> list[str]:
        """What is wrong here and behind, each once: a path, and what is with it."""
        found = [f"{node.path} {text}" for node in self.nodes() for text in node.problems]
        return list(dict.fromkeys(found))

    def remark(self) -> str:
        """What else there is to say of this node, on its line."""
        return "" if self.prompt is None else f"behind the system prompt {quoted(self.prompt)}"

    def _all(self, seen: set[int]) -> Iterator[LineageNode]:
        """This node and those behind it; what is behind a node once, however many ways go there."""
        yield self
        if id(self.inputs) not in seen:
            seen.add(id(self.inputs))
            for node in self.inputs:
                yield from node._all(seen)

    def to_json(self) -> dict[str, Any]:
        """As JSON: what is behind a node stands where the node is first named, and is `as_above` in
        other places: there may be very many ways to it."""
        return self._to_json(set())

    def _to_json(self, seen: set[int]) -> dict[str, Any]:
        again = bool(self.inputs) and id(self.inputs) in seen
        seen.add(id(self.inputs))
        return {
            "name": self.name,
            "path": self.path,
            "kind": self.kind,
            "format_version": self.format_version,
            "digest": self.digest,
            "problems": list(self.problems),
            **({} if self.prompt is None else {"system_prompt": self.prompt}),
            "inputs": [] if again else [node._to_json(seen) for node in self.inputs],
            "as_above": again,
        }


def lineage(path: Path) -> LineageNode:
    """The chain behind the artifact at `path`, verified; or those of all artifacts in a folder.

    Raises:
        InputError: there is no artifact, so nothing states what the files should be.
    """
    seen: dict[Path, LineageNode] = {}
    name = path.resolve().name
    if (node := _artifact(name, path, seen)) is not None:
        return node
    found = artifacts_in(path)
    artifacts = tuple(
        _node(folder.relative_to(path).as_posix(), folder, None, seen) for folder in found
    )
    digest = listing_digest({node.name: node.digest for node in artifacts})
    return LineageNode(name, str(path), "run", digest, (), artifacts)


def artifacts_in(path: Path) -> list[Path]:
    """The artifacts in a folder, such as that of a run, sorted; also those in folders of it.

    Raises:
        InputError: there is none.
    """
    check_there(path, "give an artifact or a folder of artifacts")
    if not path.is_dir():
        raise InputError(
            f"{path} is a file, and no artifact",
            hint=f"give the folder that it is in: {path.parent}",
        )
    found = list(_artifacts_below(path))
    if not found:
        raise InputError(
            f"{path} is no artifact: nothing states what its files should be",
            hint="give what a stage of subl made, or the folder of a run",
        )
    return found


def _artifacts_below(path: Path) -> Iterator[Path]:
    for folder in sorted(each for each in path.iterdir() if each.is_dir()):
        if read_statement(folder) is not None:
            yield folder
        elif not folder.is_symlink() and not folder.name.startswith("."):
            yield from _artifacts_below(folder)


def _node(
    name: str, path: Path, expected: str | None, seen: dict[Path, LineageNode], depth: int = 0
) -> LineageNode:
    """`expected` is the digest that the reader of this input recorded."""
    if not path.exists():
        return LineageNode(name, str(path), "missing", expected or "", ("is missing",))
    resolved = path.resolve()
    known = seen.get(resolved)
    if known is None:
        known = _artifact(name, path, seen, depth) or _plain(name, path)
        seen[resolved] = known
    problems = known.problems
    if expected is not None and known.digest != expected:
        problems += (f"is not what was read: sha256 {expected[:12]} then, {known.digest[:12]} now",)
    return replace(known, name=name, path=str(path), problems=problems)


def _plain(name: str, path: Path) -> LineageNode:
    if path.is_file():
        return LineageNode(name, str(path), "input", file_digest(path))
    problems = uncovered(path, OWN, links_to_files=True)
    return LineageNode(name, str(path), "input", directory_digest(path), tuple(problems))


def check_depth(path: Path, depth: int) -> None:
    """Raise where more artifacts were made of one another than a walk takes at a time."""
    if depth > _DEEPEST:
        raise InputError(
            f"{path} and what is behind it is too far back: a chain of more than {_DEEPEST} "
            "artifacts, one made of another, is not walked at once",
            hint=f"begin at one further back, such as {path}",
        )


def _artifact(
    name: str, path: Path, seen: dict[Path, LineageNode], depth: int = 0
) -> LineageNode | None:
    check_depth(path, depth)
    record = read_statement(path) if path.is_dir() else None
    if record is None:
        return None
    digest, problems = compare(path, record)
    problems += uncovered(path, OWN, links_to_files=True)
    kind, format_version = stage_of(record)
    return LineageNode(
        name=name,
        path=str(path),
        kind=kind,
        digest=digest,
        problems=tuple(problems),
        inputs=tuple(
            _node(
                each["name"],
                input_place(path, each["uri"]),
                each["digest"]["sha256"],
                seen,
                depth + 1,
            )
            for each in record["predicate"]["buildDefinition"]["resolvedDependencies"]
        ),
        format_version=format_version,
        key=record["predicate"]["buildDefinition"]["internalParameters"]["key"],
        prompt=told(record),
    )


def told(record: Mapping[str, Any]) -> str | None:
    """The system prompt in the parameters of a statement."""
    said = record["predicate"]["buildDefinition"]["externalParameters"].get("system_prompt")
    return said if isinstance(said, str) else None


def quoted(prompt: str) -> str:
    """A system prompt in a sentence, its beginning if it is long."""
    return repr(shorten(prompt, 200, placeholder=" …"))


def compare(path: Path, record: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Read all files of an artifact: the digest of its data as it is now, and in what they are not
    what `record`, its statement, says."""
    stated = {subject["name"]: subject["digest"]["sha256"] for subject in record["subject"]}
    found = file_digests(path)
    for name in ("statement.json", ENVELOPE):
        found.pop(name, None)
    problems = [f"{file} is missing" for file in sorted(stated.keys() - found.keys())]
    problems += [f"{file} was added" for file in sorted(found.keys() - stated.keys())]
    problems += [
        f"{file} was changed"
        for file in sorted(stated)
        if found.get(file, stated[file]) != stated[file]
    ]
    counts = row_counts(record)
    problems += [
        problem
        for file in sorted(counts.keys() & found.keys())
        if (problem := _other_rows(path, file, counts[file])) is not None
    ]
    definition = record["predicate"]["buildDefinition"]
    if definition["internalParameters"]["digest"] != data_digest(stated):
        problems.append("statement.json states another digest than its files have")
    if (kind := record.get("predicateType")) != PREDICATE_TYPE:
        problems.append(f"statement.json is of an unknown kind: {kind!r:.80}")
    if _spec_of(path) != spec_record(record):
        problems.append("statement.json and spec.json disagree")
    return data_digest(found), problems


def _other_rows(artifact: Path, file: str, rows: int) -> str | None:
    """What is wrong with the number of rows in a file. Digests say that nothing has changed since
    the statement was made; this says that it was true then."""
    try:
        count = subl_core.count_rows(artifact / file)
    except subl_core.FilterError as error:
        return f"{file} cannot be read: {error}"
    return None if count == rows else f"{file} has {count:,} rows, but {rows:,} were written"


def _spec_of(path: Path) -> object:
    try:
        return json.loads((path / "spec.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
