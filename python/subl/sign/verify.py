"""Walk a chain back to what the policy lets it start from: every signature, every digest.

Of each artifact the envelope comes first: the payload is bytes until a key of the policy verifies
it, and then it, not the file beside it, says what the artifact is. An input is where the statement
says, or wherever else something has its digest. What is refused is not looked behind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from subl.artifact import (
    ENVELOPE,
    LineageNode,
    data_digest,
    file_digest,
    file_digests,
    input_place,
    parse_statement,
    stage_of,
)
from subl.artifact.digest import listing_digest
from subl.artifact.lineage import check_depth, told
from subl.artifact.statement import PREDICATE_TYPE
from subl.artifact.uncovered import LINK, OWN, uncovered
from subl.errors import InputError
from subl.sign.contents import read_contents
from subl.sign.envelope import PAYLOAD_TYPE, read_envelope, valid
from subl.sign.policy import Policy
from subl.sign.search import Below

ORIGIN = "origin"
MISSING = "missing"
REFUSED = "refused"

_UNSIGNED = f"has no {ENVELOPE}: nobody has signed it"


@dataclass(frozen=True)
class Link(LineageNode):
    """One thing in a chain: an artifact, of the kind that its stage is; what the policy lets the
    chain start from (`origin`); or what is `missing`, or `refused` before it was looked at.

    `problems` are sentences on why it is refused, without its name. `spec` is what the artifact was
    made by; `signers` are names of the policy's keys.
    """

    signers: tuple[str, ...] = ()
    spec: Mapping[str, Any] | None = None

    def remark(self) -> str:
        said = [f"signed by {', '.join(self.signers)}"] if self.signers else []
        return ", ".join([*said, *filter(None, [super().remark()])])

    def _to_json(self, seen: set[int]) -> dict[str, Any]:
        return {**super()._to_json(seen), "signers": list(self.signers)}

    def links(self) -> Iterator[Link]:
        """This one and those behind it, each by every name that it has."""
        for node in self.nodes():
            assert isinstance(node, Link)
            yield node

    def artifacts(self) -> Iterator[Link]:
        """What stages made, once each."""
        seen: set[str] = set()
        for link in self.links():
            if link.spec is not None and link.path not in seen:
                seen.add(link.path)
                yield link


def verify(path: Path, policy: Policy, search: Sequence[Path] = ()) -> Link:
    """The chain behind the artifact at `path`; what the policy refuses of it is in `problems`, but
    for what it asks of the chain as a whole (`chain`). Inputs that are not where they were are
    looked for in the folders `search`, by their digests.

    Raises:
        InputError: there is no such folder, or something in it cannot be read.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist", hint="give an artifact")
    return _Walk(policy, Below(search)).artifact(path.resolve().name, path)


class _Walk:
    def __init__(self, policy: Policy, below: Below) -> None:
        self._policy = policy
        self._below = below
        self._seen: dict[Path, Link] = {}
        self._depth = 0

    def artifact(self, name: str, path: Path) -> Link:
        place = path.resolve()
        if place not in self._seen:
            check_depth(path, self._depth)
            self._seen[place] = Link(name, str(path), REFUSED, "", ("is made from itself",))
            self._depth += 1
            self._seen[place] = self._artifact(name, path)
            self._depth -= 1
        return replace(self._seen[place], name=name, path=str(path))

    def _artifact(self, name: str, path: Path) -> Link:
        refused = Link(name, str(path), REFUSED, "")
        file = path / ENVELOPE
        if not file.is_file() or file.is_symlink():
            return replace(refused, problems=(_UNSIGNED,))
        try:
            envelope = read_envelope(file)
        except InputError:
            return replace(refused, problems=(f"has a {ENVELOPE} that is no envelope",))
        signers = tuple(sorted(valid(envelope, self._policy.keys)))
        if not signers:
            named = {each.keyid[:12] for each in envelope.signatures.values()} - {""}
            theirs = ", ".join(sorted(named)) or "nobody"
            why = f"has no valid signature by a key of the policy (its signatures name {theirs})"
            return replace(refused, problems=(why,))
        refused = replace(refused, signers=signers)
        if envelope.payload_type != PAYLOAD_TYPE:
            why = f"is signed as something else than a statement: {envelope.payload_type!r:.80}"
            return replace(refused, problems=(why,))
        record, why = _statement(envelope.payload, file)
        if record is None:
            return replace(refused, problems=(why,))
        kind, format_version = stage_of(record)
        if (objection := self._policy.objection(kind, signers)) is not None:
            return replace(refused, kind=kind, problems=(objection,))
        digest, problems = _contents(path, envelope.payload, record)
        definition = record["predicate"]["buildDefinition"]
        return Link(
            name=name,
            path=str(path),
            kind=kind,
            digest=digest,
            problems=tuple(problems),
            inputs=tuple(
                self._input(each["name"], path, each["uri"], each["digest"]["sha256"])
                for each in definition["resolvedDependencies"]
            ),
            format_version=format_version,
            key=definition["internalParameters"]["key"],
            prompt=told(record),
            signers=signers,
            spec=definition["externalParameters"],
        )

    def _input(self, name: str, reader: Path, uri: str, expected: str) -> Link:
        """`expected` is the digest of what was read then."""
        missing = Link(name, uri, MISSING, expected)
        if Path(uri).is_absolute() or "://" in uri or "\0" in uri:
            why = "is an input by a path that is not relative to the artifact's folder"
            return replace(missing, kind=REFUSED, problems=(why,))
        path = input_place(reader, uri)
        there = self._at(name, path, expected) if os.path.lexists(path) else None
        if there is not None and there.digest == expected:
            return there
        for elsewhere in self._below.of(expected):
            found = self._at(name, elsewhere, expected)
            if found.digest == expected:
                return found
        if there is None:
            why = (
                f"is missing: nothing is at {path}, and nothing that was searched (--search) has "
                "its digest"
            )
            return replace(missing, path=str(path), problems=(why,))
        if not there.digest:  # which is refused as it is
            return there
        why = f"is not what was read: sha256 {expected[:12]} then, {there.digest[:12]} now"
        return replace(there, problems=(*there.problems, why))

    def _at(self, name: str, path: Path, expected: str) -> Link:
        """What is at `path`, whose reader knew it by the digest `expected`."""
        link = Link(name, str(path), REFUSED, "")
        if path.is_symlink():
            return replace(link, problems=(LINK,))
        if path.is_file():
            return self._origin(replace(link, digest=file_digest(path)), expected)
        if not path.is_dir():
            return replace(link, problems=("is no regular file and no folder",))
        if os.path.lexists(path / ENVELOPE) and expected not in self._policy.origins():
            return self.artifact(name, path)
        strange = uncovered(path, OWN)
        if strange:
            return replace(link, problems=tuple(strange))
        found = file_digests(path)
        digests = {listing_digest(found), data_digest(found)}
        digest = expected if expected in digests else listing_digest(found)
        return self._origin(replace(link, digest=digest), expected)

    def _origin(self, link: Link, expected: str) -> Link:
        """`link` as something that no stage made, or somebody's artifact that the policy lists."""
        link = replace(link, kind=ORIGIN)
        if link.digest != expected or expected in self._policy.origins():
            return link
        if os.path.lexists(Path(link.path, "statement.json")):
            why = f"{_UNSIGNED}, and the policy does not list it: sha256 {expected}"
        else:
            why = f"was made by no stage, and the policy does not list it: sha256 {expected}"
        return replace(link, problems=(why,))


def _statement(payload: bytes, file: Path) -> tuple[dict[str, Any] | None, str]:
    """What a payload says whose signature holds; or None, and why that is nothing of subl's."""
    try:
        record = parse_statement(payload, file)
        kind = None if record is None else record.get("predicateType")
        if record is None:
            said = json.loads(payload)
            kind = said.get("predicateType") if isinstance(said, dict) else None
        if record is None or kind != PREDICATE_TYPE:
            return None, f"is signed with a statement of an unknown kind: {kind!r:.80}"
        stage_of(record)
        definition = record["predicate"]["buildDefinition"]
        if not isinstance(definition["externalParameters"], dict):
            raise ValueError("its parameters are no table")
        for each in definition["resolvedDependencies"]:
            Path(each["uri"])
    except (InputError, KeyError, TypeError, ValueError, RecursionError) as error:
        return None, f"is signed with a statement that is damaged: {error}"
    return record, ""


def _contents(path: Path, payload: bytes, record: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The digest of an artifact's data as it is now, and in what it is not what was signed."""
    digest, problems = read_contents(path, record)
    statement = path / "statement.json"
    if not statement.is_file():
        problems.append("statement.json is missing")
    elif statement.read_bytes() != payload:
        problems.append("statement.json is not what was signed")
    return digest, problems
