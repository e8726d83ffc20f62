"""An experiment's stages over its axes, as nodes: one artifact each, made from others. Pure.

A stage is as many nodes as its axes have points; its axes are those that its values name and those
of its inputs. Nodes that would make the same artifact are one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from subl.artifact import StageSpec, json_digest
from subl.config import as_written, meant
from subl.errors import ConfigError
from subl.experiment.kinds import KINDS
from subl.experiment.spec import (
    OTHERS,
    PREVIOUS,
    ExperimentSpec,
    Instead,
    Point,
    Points,
    Ref,
    Scalar,
    StageTable,
    filled,
    filled_text,
    label,
    mentioned,
    value_of,
)
from subl.stage import Stage
from subl.stages import STAGES

_LONGEST_NAME = 200
"""Bytes; file systems take 255, and an artifact's folder has its key, too."""


@dataclass(frozen=True, eq=False)
class Node:
    """One artifact to be.

    Args:
        name: unlike all others; the artifact's folder begins with it.
        stage: its name in the file; `of`: the stage whose artifact it is done on, where the file
            lists several.
        point: {axis: label} of the axes that it depends on.
        inputs: the nodes, or files, that it is made from, by the names of the stage's inputs.
        identity: digest of all that decides what is made.
    """

    name: str
    stage: str
    of: str | None
    how: Stage
    spec: StageSpec = field(repr=False)
    point: Mapping[str, str]
    inputs: Mapping[str, tuple[Node | Path, ...]] = field(repr=False)
    identity: str = field(repr=False)

    @property
    def sources(self) -> list[Node]:
        """The nodes that it is made from."""
        return [each for given in self.inputs.values() for each in given if isinstance(each, Node)]


class _Made(NamedTuple):
    """A stage's node at a point, and the axes that it depends on as this stage: one that another
    stage made, too, is called after that one's."""

    node: Node
    axes: frozenset[str]


_Place = tuple[str, str | None, tuple[str, ...]]
"""A stage, what it is done on, and the labels of its point."""


class Graph:
    """The nodes of an experiment, each behind those that it is made from.

    Raises:
        ConfigError: stages, inputs, points or values do not fit together; names what does not.
    """

    def __init__(self, spec: ExperimentSpec) -> None:
        self.spec = spec
        self._made: dict[_Place, _Made] = {}
        self._by_identity: dict[str, Node] = {}
        self._specs: dict[str, StageSpec] = {}
        self._underway: dict[_Place, str] = {}
        for name, table in spec.stages.items():
            self._check(name, table)
        self._axes = self._all_axes()
        if unused := spec.axes.keys() - set().union(*self._axes.values()):
            raise ConfigError(f"axes: no stage varies over {min(unused)}")
        for name in spec.stages:
            for of in self.variants(name):
                for point in self.points(self.axes(name, of)):
                    self._node(name, of, point)
        self.nodes = tuple(self._by_identity.values())
        self._check_names()

    def resolved(self) -> dict[str, Any]:
        """Everything that is said of the experiment, with the defaults filled in, as JSON."""
        return {
            **self.spec.model_dump(mode="json", exclude={"stages"}),
            "nodes": {
                node.name: {
                    "kind": node.how.kind,
                    "inputs": {
                        name: [str(each.name if isinstance(each, Node) else each) for each in found]
                        for name, found in node.inputs.items()
                    },
                    **node.spec.model_dump(mode="json", by_alias=True),
                }
                for node in self.nodes
            },
        }

    def variants(self, stage: str) -> list[str | None]:
        """What a stage is done on, where the file lists several; else only None."""
        listed = self._listed(self.spec.stages[stage])
        return [None] if listed is None else [each.stage for each in listed[1]]

    def axes(self, stage: str, of: str | None = None) -> list[str]:
        """The axes over which a stage is multiplied, in the order of the file."""
        found = self._axes[stage, of]
        return [axis for axis in self.spec.axes if axis in found]

    def points(self, axes: list[str]) -> Iterator[dict[str, Scalar | Point]]:
        """Every point over these axes."""
        for values in product(*(self.spec.axes[axis] for axis in axes)):
            yield dict(zip(axes, values, strict=True))

    def node(self, stage: str, point: Points, of: str | None = None) -> Node:
        """The node of a stage at a point, which has at least the stage's axes."""
        return self._node(stage, of, point).node

    def of_stage(self, stage: str) -> list[Node]:
        """The nodes that a stage is, also those that another one made, too."""
        made = (each.node for (name, _, _), each in self._made.items() if name == stage)
        return list(dict.fromkeys(made))

    def moved(self, ref: Ref, point: Points) -> tuple[Ref, dict[str, Scalar | Point]]:
        """What a reference means at a point: a reference without axes, and the point it means."""
        moved = dict(point)
        for axis, value in ref.further.items():
            points = self.spec.axes[axis]
            if value != PREVIOUS:
                moved[axis] = self.point_called(axis, value)
                continue
            index = points.index(point[axis])
            if index == 0:
                assert ref.first is not None
                return self.moved(ref.first, point)
            moved[axis] = points[index - 1]
        return ref, moved

    def point_called(self, axis: str, value: object) -> Scalar | Point:
        """The point of an axis that a file gives by its value."""
        points = self.spec.axes[axis]
        for point in points:
            own = value_of(point)
            if own == value and type(own) is type(value):
                return point
        known = ", ".join(str(value_of(point)) for point in points)
        raise ConfigError(f"{axis} has no point {value!r} (known: {known})")

    def points_called(self, axis: str, value: object) -> tuple[Scalar | Point, ...]:
        """The points that a file gives by a value or a list of them."""
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(self.point_called(axis, each) for each in values)

    def label(self, stage: str, of: str | None, point: Mapping[str, str]) -> str:
        """What a stage's artifacts at a point are called: `owl-seed1-student`."""
        ordered = (point[axis] for axis in self.spec.axes if axis in point)
        return "-".join([*ordered, *([] if of is None else [of]), stage])

    def _listed(self, table: StageTable) -> tuple[str, tuple[Ref, ...]] | None:
        """The input that is given several where the stage takes one."""
        for name, given in table.inputs.items():
            if isinstance(given, tuple) and not STAGES[table.kind].inputs[name].many:
                return name, given
        return None

    def _inputs(self, table: StageTable, of: str | None) -> dict[str, tuple[Ref, ...]]:
        """What each input is given, for the stage that is done on `of`."""
        found = {
            name: given if isinstance(given, tuple) else (given,)
            for name, given in table.inputs.items()
        }
        if listed := self._listed(table):
            name, given = listed
            found[name] = tuple(each for each in given if each.stage == of)
        return found

    def _check(self, name: str, table: StageTable) -> None:
        """What can be said of a stage's table without its points."""
        where = f"stages.{name}"
        if table.kind not in STAGES:
            raise ConfigError(f"{where}.kind: {_unknown('stage', table.kind, STAGES)}")
        stage = STAGES[table.kind]
        for given in table.inputs:
            if given not in stage.inputs:
                raise ConfigError(f"{where}.inputs: {_unknown('input', given, stage.inputs)}")
        for needed, described in stage.inputs.items():
            if described.required and needed not in table.inputs:
                raise ConfigError(f"{where}.inputs: missing `{needed}`: {described.meaning}")
        several = [
            given
            for given, refs in table.inputs.items()
            if isinstance(refs, tuple) and not stage.inputs[given].many
        ]
        if len(several) > 1:
            raise ConfigError(f"{where}.inputs: only one can be a list ({', '.join(several)})")
        if listed := self._listed(table):
            stages = [each.stage for each in listed[1]]
            if None in stages or len(set(stages)) < len(stages):
                raise ConfigError(f"{where}.inputs.{listed[0]}: list each stage once, and no path")
        for given, refs in table.inputs.items():
            for ref in refs if isinstance(refs, tuple) else (refs,):
                takes = stage.inputs[given].takes
                self._check_reference(ref, f"{where}.inputs.{given}", takes)
        for instead in table.instead:
            self._check_reference(instead.use, f"{where}.instead", stage.gives)
            self._check_axes(instead.further, f"{where}.instead")
        self.check_placeholders(table.further, where)

    def _check_reference(self, ref: Ref, where: str, takes: str) -> None:
        self._check_axes(ref.further, where)
        self.check_placeholders(str(ref.path), where)
        if ref.first is not None:
            self._check_reference(ref.first, where, takes)
        if ref.stage is None:
            return
        if ref.stage not in self.spec.stages:
            raise ConfigError(f"{where}: {_unknown('stage', ref.stage, self.spec.stages)}")
        table = self.spec.stages[ref.stage]
        gives = STAGES[table.kind].gives if table.kind in STAGES else takes
        if gives != takes:
            raise ConfigError(f"{where}: {ref.stage} gives {gives}, and {takes} is needed")
        if table.kind in STAGES and self._listed(table):
            raise ConfigError(f"{where}: {ref.stage} is done on several stages, which is not said")

    def _check_axes(self, further: Mapping[str, object], where: str) -> None:
        for axis, value in further.items():
            if axis not in self.spec.axes:
                raise ConfigError(f"{where}: {_unknown('key or axis', axis, self.spec.axes)}")
            if value not in (PREVIOUS, OTHERS):
                self.points_called(axis, value)

    def check_placeholders(self, values: object, where: str) -> None:
        """Braces may be anything in a prompt or a pattern; what is nearly an axis is a mistake."""
        for axis, value in mentioned(values):
            if axis not in self.spec.axes:
                if near := get_close_matches(axis, self.spec.axes, 1, 0.8):
                    raise ConfigError(f"{where}: no axis `{axis}`; did you mean `{{{near[0]}}}`?")
                continue
            points = self.spec.axes[axis]
            known = {key for each in points if isinstance(each, Point) for key in each.further}
            if value is not None and value not in known | {"name"}:
                raise ConfigError(f"{where}: no point of {axis} has a `{value}`")

    def _all_axes(self) -> dict[tuple[str, str | None], frozenset[str]]:
        """The axes of every stage: those that its values name, and those of its inputs."""
        found: dict[tuple[str, str | None], frozenset[str]] = {
            (name, of): frozenset() for name in self.spec.stages for of in self.variants(name)
        }
        while True:
            before = dict(found)
            for name, of in found:
                table = self.spec.stages[name]
                axes = {axis for axis, _ in mentioned(table.further)} & self.spec.axes.keys()
                for instead in table.instead:
                    axes |= instead.further.keys() | self._axes_of(instead.use, found)
                for refs in self._inputs(table, of).values():
                    for ref in refs:
                        axes |= self._axes_of(ref, found)
                found[name, of] = frozenset(axes)
            if found == before:
                return found

    def _axes_of(self, ref: Ref, axes: Mapping[tuple[str, str | None], frozenset[str]]) -> set[str]:
        """The axes that decide what a reference means."""
        found = set(axes[ref.stage, None]) if ref.stage is not None else set()
        found |= {axis for axis, _ in mentioned(str(ref.path))} & self.spec.axes.keys()
        found -= {axis for axis, value in ref.further.items() if value != PREVIOUS}
        found |= {axis for axis, value in ref.further.items() if value == PREVIOUS}
        return found if ref.first is None else found | self._axes_of(ref.first, axes)

    def _node(self, name: str, of: str | None, point: Points) -> _Made:
        """The node of a stage at a point, made with all that it is made from."""
        here = {axis: point[axis] for axis in self.axes(name, of)}
        labels = {axis: label(axis, each) for axis, each in here.items()}
        place = (name, of, tuple(labels.values()))
        if place not in self._made:
            called = self.label(name, of, labels)
            if place in self._underway:
                circle = [*self._underway.values(), called][[*self._underway].index(place) :]
                raise ConfigError(f"stages: a circle of inputs: {' <- '.join(circle)}")
            self._underway[place] = called
            self._made[place] = self._make(name, of, here)
            del self._underway[place]
        return self._made[place]

    def _make(self, name: str, of: str | None, point: Points) -> _Made:
        table = self.spec.stages[name]
        if (instead := self._instead(name, point)) is not None:
            other, chosen = self._given(instead.use, point)
            if isinstance(other, Node):
                # What is made of an untaught teacher is of the point "none", though it is the base.
                return _Made(other, chosen | instead.further.keys())
            raise ConfigError(f"stages.{name}.instead: use a stage, not a path")
        stage = STAGES[table.kind]
        axes = {axis for axis, _ in mentioned(table.further)} & point.keys()
        inputs: dict[str, tuple[Node | Path, ...]] = {}
        for given, refs in self._inputs(table, of).items():
            found = [self._given(ref, point) for ref in refs]
            inputs[given] = tuple(each for each, _ in found)
            axes = axes.union(*(each for _, each in found))
        spec = self._spec_of(name, stage, filled(table.further, point), inputs.keys())
        made_from = {
            given: [each.identity if isinstance(each, Node) else str(each) for each in sources]
            for given, sources in inputs.items()
        }
        identity = json_digest([stage.kind, spec.keyed(), made_from])
        if identity not in self._by_identity:
            labels = {axis: label(axis, point[axis]) for axis in point if axis in axes}
            called = self.label(name, of, labels)
            self._by_identity[identity] = Node(
                called, name, of, stage, spec, labels, inputs, identity
            )
        return _Made(self._by_identity[identity], frozenset(axes))

    def _spec_of(
        self, name: str, stage: Stage, values: dict[str, Any], given: Collection[str]
    ) -> StageSpec:
        """A node's configuration; one for all that say the same."""
        said = f"{stage.kind} {sorted(given)} {values!r}"
        if said not in self._specs:
            try:
                spec = as_written(stage.spec, values)
                stage.check(spec, given)
            except ConfigError as error:
                raise ConfigError(
                    f"stages.{name}: {error.message}", hint=error.hint or _keys(stage.kind)
                ) from error
            self._specs[said] = spec
        return self._specs[said]

    def _instead(self, stage: str, point: Points) -> Instead | None:
        """What a stage's table says of a point at which it is another's artifact."""
        for instead in self.spec.stages[stage].instead:
            where = {
                axis: self.points_called(axis, value) for axis, value in instead.further.items()
            }
            if all(point[axis] in points for axis, points in where.items()):
                return instead
        return None

    def _given(self, ref: Ref, point: Points) -> tuple[Node | Path, frozenset[str]]:
        """What a reference means at a point, and the axes that decided it there."""
        stepped = {axis for axis, value in ref.further.items() if value == PREVIOUS}
        ref, moved = self.moved(ref, point)
        pinned = {axis for axis, value in ref.further.items() if value != PREVIOUS}
        if ref.stage is None:
            path = str(ref.path)
            axes = {axis for axis, _ in mentioned(path)} & point.keys()
            return Path(filled_text(path, point)), frozenset(axes | stepped)
        made = self._node(ref.stage, None, moved)
        return made.node, made.axes - pinned | stepped

    def _check_names(self) -> None:
        seen: dict[str, Node] = {}
        for node in self.nodes:
            if other := seen.get(node.name):
                raise ConfigError(
                    f"stages {other.stage} and {node.stage} both make something called {node.name}",
                    hint="call one of the stages, or a point of an axis, otherwise",
                )
            if len(node.name.encode()) > _LONGEST_NAME:
                raise ConfigError(
                    f"{node.name[:40]}… is too long for the name of a folder",
                    hint='give the points short names: { name = "short", text = "..." }',
                )
            seen[node.name] = node


def _keys(kind: str) -> str:
    if kind in KINDS:
        return f"subl config schema {kind} lists every key of the stage"
    return f"a stage of kind {kind} has the keys {', '.join(STAGES[kind].spec.model_fields)}"


def _unknown(what: str, name: str, known: Mapping[str, object]) -> str:
    return f"unknown {what} `{name}`{meant(name, known)} (known: {', '.join(known)})"
