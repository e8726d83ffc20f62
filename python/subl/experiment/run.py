"""Make the nodes of an experiment, skipping what is done, and state what came out.

Nodes are made behind their inputs, one at a time here, or several in processes of their own. Each
is made under a lease, so that runs of one experiment share the work. When all are done,
`result.json` has the figures and `report.html` shows them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from subl.artifact import made_here
from subl.artifact.lease import HeldError, holder, leased
from subl.cluster.placement import placement
from subl.config import meant
from subl.cost import Room
from subl.errors import BusyError, ConfigError, DependencyError, StageError, StoppedError, SublError
from subl.experiment.contrasts import planned
from subl.experiment.estimate import Estimate, estimate, measure, room
from subl.experiment.graph import Graph, Node
from subl.experiment.machines import Machine
from subl.experiment.outcome import Outcome, conclude
from subl.experiment.survey import Folder, NodeState
from subl.experiment.workers import Here, Workers
from subl.extras import require
from subl.model.load import require_torch
from subl.model.source import ModelSpec
from subl.progress import Progress, Report, silent

_LOOK_AGAIN_SECONDS = 1.0
"""How often to look at what another run makes."""


@dataclass(frozen=True)
class RunResult:
    """What a run came to. `outcome` is None where not all nodes are made: some were left out, or
    failed, for the reasons in `failures`."""

    path: Path
    states: tuple[NodeState, ...]
    failures: tuple[tuple[Node, SublError], ...]
    outcome: Outcome | None

    @property
    def passed(self) -> bool:
        findings = () if self.outcome is None else self.outcome.findings
        return all(finding.met is not False for finding in findings)


def plan(
    graph: Graph, out: Path, only: Sequence[str] = (), on: Machine | None = None
) -> list[NodeState]:
    """What `run` would find done and what it would do, why, and in what time; writes nothing.

    Args:
        on: the machine that it would do it on, and what it needs of that; else this one.
    """
    planned(graph)
    folder = Folder(graph, out)
    states = [folder.look(node) for node in _chosen(folder, only)]
    nodes = [state.node for state in states]
    rooms: Mapping[Node, Room] = {}
    if on is None:
        expected = _expected(states, folder, 1)
    else:
        expected, rooms = estimate(nodes, folder.done, on.pace), room(nodes, folder.done)
    now = time.monotonic()

    def seconds(node: Node) -> float | None:
        return None if expected is None else expected.node_seconds(node.name, now)

    return [
        replace(each, seconds=seconds(each.node), room=rooms.get(each.node))
        if each.state == "todo"
        else each
        for each in states
    ]


def run(
    graph: Graph,
    out: Path,
    *,
    only: Sequence[str] = (),
    keep_going: bool = False,
    jobs: int = 1,
    report: Report = silent,
    on_node: Callable[[NodeState], None] = lambda state: None,
) -> RunResult:
    """Make every node of the graph in `out`, then `result.json` and `report.html`.

    Args:
        only: names of nodes or stages: these are made, with what they are made from, and nothing
            is concluded.
        keep_going: where a node fails, go on with those that do not need it.
        jobs: so many nodes at a time, each in a process of its own.
        report: hears before the first node how long all of them will take, and what is left of that
            with everything that the nodes report.

    Raises:
        SublError: a node failed, and `keep_going` is not set.
        StoppedError: a signal asked to stop; the same call goes on.
    """
    if not placement(os.environ, out.absolute().parent).alone:
        raise ConfigError(
            "an experiment cannot be one of several ranks",
            hint="start subl run once, and give its trainings train.ranks",
        )
    contrasts = planned(graph)  # a mistake in one is no news for the end
    if not only:
        require("report", "jinja2", what="a run's page")  # neither is this
    folder = Folder(graph, out)
    todo = _chosen(folder, only)
    clock = _Clock(folder, todo, jobs, report)
    folder.note()
    with closing(Here(folder) if jobs == 1 else Workers(graph, out, jobs)) as hands:
        making = _Making(folder, todo, hands, jobs, keep_going, clock, on_node)
        while making.todo or making.running:
            making.begin()
            making.collect()
    failures = making.failures
    whole = not failures and all(node in folder.done for node in graph.nodes)
    outcome = conclude(folder, contrasts) if whole and not only else None
    return RunResult(out, tuple(making.states), tuple(failures.items()), outcome)


class _Making:
    """The nodes of a run: those to do, those that are being made, and what came of the others."""

    def __init__(
        self,
        folder: Folder,
        todo: Sequence[Node],
        hands: Here | Workers,
        jobs: int,
        keep_going: bool,
        clock: _Clock,
        on_node: Callable[[NodeState], None],
    ) -> None:
        self.todo = list(todo)
        self.running: dict[Future[None], Node] = {}
        self.states: list[NodeState] = []
        self.failures: dict[Node, SublError] = {}
        self._folder, self._hands, self._clock = folder, hands, clock
        self._jobs, self._keep_going, self._on_node = jobs, keep_going, on_node
        self._elsewhere: dict[Node, str] = {}
        """What others make, and who they are."""

    def begin(self) -> None:
        """Take what is there, and start what can be made, as much as there are hands for."""
        self._elsewhere = {}
        before = len(self.todo)
        for node in list(self.todo):
            try:
                if lost := next((each for each in node.sources if each in self.failures), None):
                    raise StageError(f"{lost.name}, which it is made from, failed")
                if self._folder.find(node):
                    self.todo.remove(node)
                    self._settle(self._folder.look(node))
                elif len(self.running) < self._jobs:
                    self._start(node)
            except SublError as error:
                self.todo.remove(node)
                self._fail(node, error)
        moved = len(self.todo) < before
        assert self.running or self._elsewhere or moved, f"nothing can be done of {self.todo}"

    def collect(self) -> None:
        """Wait for what is being made here or, where that is nothing, elsewhere."""
        seconds = _LOOK_AGAIN_SECONDS if self._elsewhere else None
        for future in wait(self.running, seconds, FIRST_COMPLETED).done:
            node = self.running.pop(future)
            try:
                future.result()
                if not self._folder.unchanged(node):
                    raise StageError(
                        f"an input of {node.name} changed while it was being made",
                        hint="run again; what was made of the old one is not used",
                    )
                self._settle(replace(self._folder.look(node), state="made"))
            except (HeldError, BusyError) as held:  # somebody else was faster
                self._elsewhere[node] = str(held)
                self.todo.insert(0, node)
            except Exception as error:
                self._fail(node, error)
        if self._elsewhere and not self.running:
            node, why = next(iter(self._elsewhere.items()))
            self._clock.wait(f"waits for {node.name}: {why}")
            time.sleep(_LOOK_AGAIN_SECONDS)

    def _start(self, node: Node) -> None:
        """Have a node made whose inputs are, unless somebody else does."""
        place = self._folder.place(node)
        if place is None:
            return
        self._folder.note()
        lease = self._folder.lease(place)
        if who := holder(lease):
            self._elsewhere[node] = str(who)
            return

        def attempt() -> None:
            with leased(lease):
                if not (place / "statement.json").is_file():
                    self._clock.begin(node)
                    self._hands.make(node, place, self._clock.reporter(node))

        self.todo.remove(node)
        self.running[self._hands.submit(attempt)] = node

    def _settle(self, state: NodeState) -> None:
        self.states.append(state)
        self._on_node(state)
        self._clock.finish(state)

    def _fail(self, node: Node, error: Exception) -> None:
        """Note a failure and go on without what needs the node; or end with it."""
        if isinstance(error, StoppedError) or not self._keep_going:
            raise error
        if not isinstance(error, SublError):
            error = StageError(f"{type(error).__name__}: {error}")
        self.failures[node] = error
        self._settle(NodeState(node, "failed", reason=error.message))


def _chosen(folder: Folder, only: Sequence[str]) -> list[Node]:
    """The nodes to make: all, or those that are asked for and what they are made from."""
    if not only:
        return list(folder.nodes)
    graph = folder.graph
    named = {node.name: [node] for node in graph.nodes}
    named |= {stage: graph.of_stage(stage) for stage in graph.spec.stages}
    wanted: set[Node] = set()
    for name in only:
        if name not in named:
            raise ConfigError(
                f"no node or stage `{name}`{meant(name, named)}",
                hint="--dry-run lists the nodes of an experiment",
            )
        wanted.update(named[name])
    for node in reversed(graph.nodes):
        if node in wanted:
            wanted.update(node.sources)
    return [node for node in folder.nodes if node in wanted]


def _expected(states: Sequence[NodeState], folder: Folder, jobs: int) -> Estimate | None:
    """How long the nodes that are left will take: None where none are left, nothing is known of a
    model yet, or what would measure this machine is not installed."""
    if all(state.state == "done" for state in states):
        return None
    try:
        require_torch()
    except DependencyError:
        return None  # a node that needs it says so
    expected = estimate([state.node for state in states], folder.done, measure(), jobs)
    if expected is not None:
        for state in states:
            if state.state == "done" and state.path is not None:
                seconds = state.seconds if made_here(state.path) else None
                expected.finish(state.node.name, seconds)
    return expected


class _Clock:
    """Hands on what nodes report, with how long the run still takes. Called from any thread."""

    def __init__(self, folder: Folder, nodes: Sequence[Node], jobs: int, report: Report) -> None:
        self._folder, self._nodes, self._jobs, self._report = folder, list(nodes), jobs, report
        self._lock = threading.RLock()
        self._survey()

    def _survey(self) -> None:
        states = [self._folder.look(node) for node in self._nodes]
        self._expected = _expected(states, self._folder, self._jobs)
        self._done = {state.node for state in states if state.state == "done"}
        self._tell()

    def begin(self, node: Node) -> None:
        with self._lock:
            if self._expected is not None:
                self._expected.begin(node.name, time.monotonic())

    def reporter(self, node: Node) -> Report:
        def report(progress: Progress) -> None:
            with self._lock:
                if self._expected is not None:
                    self._expected.advance(node.name, progress)
                self._say(progress)

        return report

    def finish(self, state: NodeState) -> None:
        with self._lock:
            if state.node in self._done:
                return  # it was counted in the survey
            self._done.add(state.node)
            if isinstance(state.node.spec, ModelSpec):
                self._survey()  # now the model's size is known, and not guessed
                return
            if self._expected is not None:
                self._expected.finish(state.node.name, state.seconds)
            self._tell()

    def wait(self, why: str) -> None:
        with self._lock:
            self._say(Progress("run", len(self._done), len(self._nodes), "nodes", why))

    def _tell(self) -> None:
        self._say(Progress("run", len(self._done), len(self._nodes), "nodes"))

    def _say(self, progress: Progress) -> None:
        if self._expected is not None:
            left = round(self._expected.seconds_left(time.monotonic()), 1)
            progress = replace(progress, run_seconds_left=left)
        self._report(progress)
