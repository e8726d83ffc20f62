"""Where the nodes of an experiment stand in a run's folder, and why what is not done is not.

RUN/
  owl-teacher-3fa91c02/   one artifact a node, named after it and its key: a changed configuration
  ...                     makes new ones beside the old
  .leases/                who makes what, right now
  .seen.json              digests of what nodes were made from and no node made
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from subl.artifact import (
    check_folder,
    difference_between,
    input_digest,
    open_artifact,
    plan_key,
    read_statement,
)
from subl.artifact.lease import holder
from subl.artifact.seen import Record, recall
from subl.artifact.statement import spec_record
from subl.cost import Room
from subl.errors import SublError
from subl.experiment.graph import Graph, Node


@dataclass(frozen=True)
class NodeState:
    """Where a node stands: `done` (found), `made` (just now), `todo`, or `failed`.

    `reason` says why one that is to do is not done. `seconds`: what it took, or will take on this
    machine; None where nobody can tell. `room`: what it needs of another one, if that was asked.
    """

    node: Node
    state: Literal["done", "made", "todo", "failed"]
    path: Path | None = None
    seconds: float | None = None
    reason: str = ""
    room: Room | None = None


class _Inputs(NamedTuple):
    """By their names in an artifact's key."""

    paths: Mapping[str, Path]
    digests: Mapping[str, str]


class Folder:
    """A run's folder: where each node's artifact is, or belongs.

    Digests of inputs are kept: a model of some gigabytes takes a while to read. What was read for
    an earlier run, or by the process that this one works for, is known from the folder's record.
    """

    def __init__(self, graph: Graph, path: Path) -> None:
        check_folder(path)
        self.graph = graph
        self.path = path
        self.done: dict[Node, Path] = {}
        self._digests: dict[Path, str] = {}
        self._record = Record()
        self._inputs: dict[Node, _Inputs] = {}
        recall(path)
        for node in graph.nodes:
            if (found := node.how.found(node.spec)) is not None:
                self.done[node] = found
        self.nodes = [node for node in graph.nodes if node not in self.done]

    def given(self, node: Node) -> dict[str, tuple[Path, ...]] | None:
        """The paths of a node's inputs; None while one of them is not made."""
        if any(source not in self.done for source in node.sources):
            return None
        return {
            name: tuple(self.done[each] if isinstance(each, Node) else each for each in found)
            for name, found in node.inputs.items()
        }

    def place(self, node: Node) -> Path | None:
        """Where a node's artifact belongs; None while an input of it is missing."""
        found = self._inputs_of(node)
        if found is None:
            return None
        key = plan_key(node.how.kind, node.spec, found.digests)
        return self.path / f"{node.name}-{key[:8]}"

    def find(self, node: Node) -> bool:
        """Whether a node's artifact is there; remembers it."""
        if node not in self.done:
            place = self.place(node)
            if place is None or not (place / "statement.json").is_file():
                return False
            self.done[node] = place
        return True

    def find_sources(self, node: Node) -> None:
        """Look for all that a node goes back to, each once: there are many ways to most of it."""
        wanted = set(node.sources)
        for each in reversed(self.graph.nodes):
            if each in wanted:
                wanted.update(each.sources)
        for each in self.graph.nodes:
            if each in wanted:
                self.find(each)

    def look(self, node: Node) -> NodeState:
        """Where a node stands whose inputs were looked at before it."""
        if waits := dict.fromkeys(each.name for each in node.sources if each not in self.done):
            return NodeState(node, "todo", reason=f"waits for {', '.join(waits)}")
        try:
            place = self.place(node)
        except SublError as error:  # of an input that is there already, and is not
            return NodeState(node, "todo", reason=error.message)
        assert place is not None
        if self.find(node):
            return NodeState(node, "done", place, open_artifact(place).seconds)
        return NodeState(node, "todo", place, reason=self._why(node, place))

    def lease(self, place: Path) -> Path:
        """The lease of an artifact."""
        return self.path / ".leases" / place.name

    def note(self) -> None:
        """Leave a record of what was read, for the processes of this run and the next one."""
        self._record.note(self.path)

    def _inputs_of(self, node: Node) -> _Inputs | None:
        """A node's inputs as they were when they were first looked at; None until all are made."""
        if node not in self._inputs:
            given = self.given(node)
            if given is None:
                return None
            paths = node.how.names(node.spec, given)
            for path in paths.values():
                if path not in self._digests:
                    self._digests[path] = input_digest(path, self._record.digest)
            digests = {name: self._digests[path] for name, path in paths.items()}
            self._inputs[node] = _Inputs(paths, digests)
        return self._inputs[node]

    def _why(self, node: Node, place: Path) -> str:
        if (who := holder(self.lease(place))) is not None:
            return f"{who} makes it right now"
        if place.with_name(f"{place.name}.partial").is_dir():
            return "begun and interrupted; it goes on"
        inputs = self._inputs_of(node)
        assert inputs is not None, "it has a place"
        for earlier in self._earlier(node):
            changed = difference_between(earlier, node.how.kind, node.spec, *inputs)
            if changed is not None:
                return f"{earlier.name} was made from something else{changed}"
        return "never made"

    def _earlier(self, node: Node) -> list[Path]:
        """What was made for this node from other configurations or inputs, the newest first."""
        pattern = re.compile(re.escape(node.name) + "-[0-9a-f]{8}")
        found = self.path.iterdir() if self.path.is_dir() else iter(())
        earlier = [each for each in found if pattern.fullmatch(each.name)]
        dated = [each for each in earlier if (each / "statement.json").is_file()]
        return sorted(dated, key=_made, reverse=True)

    def unchanged(self, node: Node) -> bool:
        """Whether a node was made, where it belongs, from what its inputs were when it was looked
        for: files may change at any time."""
        record = read_statement(self.done[node]) if self.find(node) else None
        inputs = self._inputs_of(node)
        if record is None or inputs is None:
            return False
        return set(spec_record(record)["inputs"].values()) == set(inputs.digests.values())


def _made(artifact: Path) -> tuple[float, str]:
    """When it was: the folder's own time is also that of its record."""
    return (artifact / "statement.json").stat().st_mtime, artifact.name
