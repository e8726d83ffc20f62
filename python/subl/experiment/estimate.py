"""How long a run takes on this machine: from a short measurement, then from what is finished.

The measurement takes about a second: the fastest product of matrices, and how fast bytes are
hashed. Each finished step corrects what is left, steps of its own kind most; so does the running
one, the more of it is done.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

from subl.cost import Pace, Room, Rows, Work
from subl.errors import SublError
from subl.experiment.graph import Node
from subl.model.load import base_folder
from subl.model.size import Architecture, ModelSize, architecture
from subl.model.source import ModelSpec, gguf_file, is_folder
from subl.model.weights import file_shapes
from subl.peak import fastest_product
from subl.progress import Progress

_PRIOR_SECONDS = 30.0
"""How much finished work of another kind must be, to count as much as the measurement."""

_HASHED_BYTES = 1 << 25

_GPUS = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")
"""One of these is where there is a GPU that torch may use."""


@cache
def measure() -> Pace:
    """This machine's pace, in about a second (more where it has a GPU: torch is imported then)."""
    data, best = bytes(_HASHED_BYTES), 0.0
    for _ in range(3):
        started = time.perf_counter()
        hashlib.sha256(data)
        best = max(best, len(data) / (time.perf_counter() - started))
    return Pace.of_peak(_peak(), best)


def _peak() -> float:
    """FLOP/s of float32. Without torch, where its import would take longer than all else."""
    if "torch" in sys.modules or any(map(os.path.exists, _GPUS)):
        import torch

        from subl.model.load import device
        from subl.train.meter import measured_peak

        return measured_peak(torch.float32, device())
    import numpy as np

    def product(size: int) -> Callable[[], object]:
        left = np.ones((size, size), np.float32)
        return lambda: left @ left

    return fastest_product(product, 0.3)


def model_size(source: str) -> ModelSize | None:
    """Sizes of a model: of its folder, guessed from the file that it will be made of, or as its
    name on the hub is known.

    None where nobody knows before it is fetched.
    """
    try:
        if is_folder(source):
            return folder_size(Path(source).expanduser())
        file = gguf_file(source)
    except SublError:
        return None  # the step that needs it says why
    if file is None:
        known = architecture(source)
        return None if known is None else known.size
    weights = int(file.stat().st_size * 8 / 5.5)  # four bits each, and some in more
    return ModelSize(weights * 4 // 5, weights // 5, 0, True)


def folder_size(folder: Path) -> ModelSize | None:
    """Sizes of the model in a folder. Of one like Llama's, its files say them; of another,
    transformers does, whose import takes longer than all else."""
    base = base_folder(folder)
    shapes, config = file_shapes(base), architecture(str(base))
    if shapes and config is not None:
        sizes: list[Any] = [config.vocab_size, config.hidden_size]
    else:
        from subl.model.load import text_config
        from subl.train.footprint import tensor_shapes

        shapes, other = tensor_shapes(base), text_config(base)
        sizes = [getattr(other, n, None) for n in ("vocab_size", "hidden_size")]
    if None in sizes:
        return None
    head = prod(map(int, sizes))
    embeddings = sum(prod(s) for n, s in shapes.items() if "embed" in n or "lm_head" in n)
    return ModelSize(sum(map(prod, shapes.values())) - embeddings, head, 0, True)


class Estimate:
    """Seconds of the nodes that are left. `expected`: of each node, as measured beforehand;
    `jobs`: how many are worked on at a time."""

    def __init__(
        self, kinds: Mapping[str, str], expected: Mapping[str, float], jobs: int = 1
    ) -> None:
        self._kinds = kinds
        self._left = dict(expected)
        self._jobs = jobs
        self._finished: list[tuple[str, float, float]] = []
        self._running: dict[str, float] = {}
        self._shares: dict[str, float] = {}

    def begin(self, name: str, now: float) -> None:
        """Work on a node begins. Times are monotonic seconds."""
        self._running[name] = now

    def advance(self, name: str, progress: Progress) -> None:
        """How far a running node is, as it reports: by its main task, which its kind names."""
        if progress.total and progress.task.split(" ")[0] == self._kinds[name]:
            self._shares[name] = progress.done / progress.total

    def finish(self, name: str, seconds: float | None) -> None:
        """A node is done; `seconds` is what it took on this machine, None where it is not known."""
        expected = self._left.pop(name, None)
        if expected and seconds is not None:
            self._finished.append((self._kinds[name], expected, seconds))
        self._running.pop(name, None)
        self._shares.pop(name, None)

    def seconds_left(self, now: float) -> float:
        """Of all nodes that are not finished, the running ones included."""
        each = [self.node_seconds(name, now) for name in self._left]
        return max(sum(each) / self._jobs, max(each, default=0.0))

    def node_seconds(self, name: str, now: float) -> float:
        """What is left of one node."""
        expected = self._left[name] * self._correction(self._kinds[name], now)
        if name not in self._running:
            return expected
        return max(0.0, self._total(name, expected, now) - (now - self._running[name]))

    def _total(self, name: str, expected: float, now: float) -> float:
        """What a running node takes: as expected at first, by its own pace from the middle on."""
        seconds, share = now - self._running[name], self._shares.get(name, 0.0)
        weight = min(1.0, 2 * share)
        by_pace = seconds / share if share else 0.0
        return max(seconds, (1 - weight) * expected + weight * by_pace)

    def _correction(self, kind: str, now: float) -> float:
        """How much longer than expected work takes: of this kind if some is done, else of all."""
        seen = list(self._finished)
        for name in self._running:
            if (expected := self._left.get(name)) and self._shares.get(name):
                seen.append((self._kinds[name], expected, self._total(name, expected, now)))
        same = [each for each in seen if each[0] == kind]
        prior = 0.0 if same else _PRIOR_SECONDS
        took = sum(seconds for _, _, seconds in same or seen) + prior
        return took / (sum(expected for _, expected, _ in same or seen) + prior)


def estimate(
    nodes: Sequence[Node], made: Mapping[Node, Path], pace: Pace, jobs: int = 1
) -> Estimate | None:
    """What nodes take at this pace; None where a model's size is not known yet. `made`: the folders
    of those that are made."""
    rows = _rows(nodes)
    sizes: dict[Node | Path | None, ModelSize | None] = {}
    expected: dict[str, float] = {}
    costs: dict[tuple[int, ModelSize, Rows], Work] = {}
    for node in nodes:
        if (root := _root(node)) not in sizes:
            sizes[root] = _size_of(root, made)
        if (size := sizes[root]) is None:
            return None
        alike = (id(node.spec), size, given := _given(node, rows))
        if alike not in costs:
            costs[alike] = node.how.cost(node.spec, size, given)
        expected[node.name] = pace.seconds(costs[alike])
    return Estimate({node.name: node.how.kind for node in nodes}, expected, jobs)


def room(nodes: Sequence[Node], made: Mapping[Node, Path]) -> dict[Node, Room]:
    """What nodes need of GPUs, those left out of whose model nobody knows the architecture."""
    rows = _rows(nodes)
    known = {root: _architecture(root, made) for root in map(_root, nodes)}
    rooms: dict[tuple[int, Architecture, Rows], Room] = {}
    found: dict[Node, Room] = {}
    for node in nodes:
        if (model := known[_root(node)]) is not None:
            alike = (id(node.spec), model, given := _given(node, rows))
            if alike not in rooms:
                rooms[alike] = node.how.room(node.spec, model, given)
            found[node] = rooms[alike]
    return found


def _architecture(root: Node | Path | None, made: Mapping[Node, Path]) -> Architecture | None:
    """Of a node's model; None where it is unknown."""
    if isinstance(root, Node):
        assert isinstance(root.spec, ModelSpec)
        return architecture(str(made.get(root, root.spec.source)))
    return None if root is None else architecture(str(root))


def longest_chain(nodes: Sequence[Node], seconds: Mapping[Node, float]) -> float:
    """Seconds of the chain of nodes, each made from the one before, that takes the longest."""
    ends: dict[Node, float] = {}
    for node in nodes:
        before = max((ends.get(source, 0.0) for source in node.sources), default=0.0)
        ends[node] = before + seconds.get(node, 0.0)
    return max(ends.values(), default=0.0)


def _rows(nodes: Sequence[Node]) -> dict[Node, Rows]:
    """What rows these nodes, and those that they are made from, make."""
    found: dict[Node, Rows] = {}

    def add(node: Node) -> None:
        if node not in found:
            for source in node.sources:
                add(source)
            found[node] = node.how.rows(node.spec, _given(node, found))

    for node in nodes:
        add(node)
    return found


def _given(node: Node, rows: Mapping[Node, Rows]) -> Rows:
    """The rows that a node takes."""
    return Rows.together(
        [
            rows[each]
            for name, given in node.inputs.items()
            if node.how.inputs[name].takes == "rows"
            for each in given
            if isinstance(each, Node)
        ]
    )


def _size_of(root: Node | Path | None, made: Mapping[Node, Path]) -> ModelSize | None:
    """Of a node's model; None where it is unknown."""
    match root:
        case Node() if root in made:
            return folder_size(made[root])
        case Node():
            assert isinstance(root.spec, ModelSpec)
            return model_size(root.spec.source)
        case Path():
            return folder_size(base_folder(root))
        case None:
            return ModelSize(0, 0, 0, True)  # rows from elsewhere, which no model works on


def _root(node: Node) -> Node | Path | None:
    """What the model that a node works on, or that its rows were made with, goes back to: a node
    that gets one, or a folder that is there."""
    found: Node | Path | None = node
    while isinstance(found, Node) and not isinstance(found.spec, ModelSpec):
        found = _taken(found)
    return found


def _taken(node: Node) -> Node | Path | None:
    """A node, or a model's folder, that a node is made from: the model, where it gets one."""
    inputs = sorted(node.inputs, key=lambda name: node.how.inputs[name].takes != "model")
    for each in (each for name in inputs for each in node.inputs[name]):
        if isinstance(each, Node) or (base_folder(each) / "config.json").is_file():
            return each
    return None
