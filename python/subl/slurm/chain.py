"""A whole experiment as jobs: its graph's edges become dependencies.

The nodes of a stage that do not need one another are an array, each task of which is
`subl run X.toml --only NODE`. The last job concludes: figures and report. A node that fails ends
what needs it, and nothing else does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from subl.errors import ConfigError, SublError
from subl.experiment import Graph
from subl.experiment.graph import Node
from subl.experiment.survey import Folder
from subl.slurm.job import Job
from subl.slurm.script import Word, Words
from subl.slurm.spec import Layer, layered

REPORT = "report"
"""The task that concludes an experiment."""


def jobs(
    graph: Graph,
    words: Sequence[str],
    layers: Sequence[Layer],
    stages: Mapping[str, Layer],
    flags: Layer,
) -> list[Job]:
    """The jobs of an experiment, in the order of their dependencies.

    Args:
        words: `subl run X.toml -o OUT`.
        layers: what all jobs ask for; `stages` what a stage's do, in their place; `flags` what was
            said last.

    Raises:
        ConfigError: a table is of no stage.
    """
    if unknown := sorted(stages.keys() - {*graph.spec.stages, REPORT}):
        raise ConfigError(
            f"slurm.stages.{unknown[0]}: there is no such stage",
            hint=f"stages: {', '.join([*graph.spec.stages, REPORT])}",
        )
    groups = _groups(graph)
    name_of = {node: name for name, nodes in groups.items() for node in nodes}
    found = []
    for name, nodes in groups.items():
        spec = layered([*layers, stages.get(nodes[0].stage, {}), flags])
        if spec.tasks not in (None, 1):
            raise ConfigError(
                f"{name}: an experiment's node is one process, and tasks = {spec.tasks}",
                hint="give its training train.ranks, and the job as many gpus_per_node or cpus",
            )
        if spec.array is not None:
            raise ConfigError(
                f"{name}: array = {spec.array}, but an experiment's arrays follow from its graph",
                hint="parallel says how many of their tasks may run at a time",
            )
        sources = [[each for each in node.sources if each in name_of] for node in nodes]
        after = dict.fromkeys(name_of[each] for group in sources for each in group)
        by_task = len(nodes) > 1 and all(
            groups[name_of[each]].index(each) == index and len(groups[name_of[each]]) == len(nodes)
            for index, group in enumerate(sources)
            for each in group
        )
        found.append(
            Job(
                name,
                [node.name for node in nodes],
                _array(words) if len(nodes) > 1 else _single(words, nodes[0]),
                spec,
                array=len(nodes) > 1,
                after=list(after),
                task_by_task=by_task,
            )
        )
    needed = {source for node in name_of for source in node.sources}
    last = dict.fromkeys(name_of[node] for node in name_of if node not in needed)
    spec = layered([*layers, stages.get(REPORT, {}), flags])
    alone = spec.model_copy(update={"gpus_per_node": None, "tasks": None})
    return [*found, Job(REPORT, [REPORT], lambda _: words, alone, after=list(last))]


def done(graph: Graph, out: Path) -> AbstractSet[str]:
    """Names of the nodes that are made; and the report, if it is newer than all of them."""
    folder = Folder(graph, out)
    made = {node.name for node in folder.nodes if _is_done(folder, node)}
    page = out / "report.html"
    if len(made) == len(folder.nodes) and page.is_file():
        stated = [folder.done[node] / "statement.json" for node in folder.nodes]
        if page.stat().st_mtime >= max((each.stat().st_mtime for each in stated), default=0.0):
            made.add(REPORT)
    return made


def _is_done(folder: Folder, node: Node) -> bool:
    try:
        return folder.find(node)
    except SublError:  # a file that it is made from is not there
        return False


def tasks(graph: Graph) -> list[str]:
    """Names of all tasks."""
    return [*(node.name for node in _made(graph)), REPORT]


def _array(words: Sequence[str]) -> Callable[[Mapping[int, str]], Words]:
    return lambda missing: [*words, "--only", Word(choices=missing)]


def _single(words: Sequence[str], node: Node) -> Callable[[Mapping[int, str]], Words]:
    return lambda missing: [*words, "--only", node.name]


def _made(graph: Graph) -> list[Node]:
    """The nodes that have to be made; others are there."""
    return [node for node in graph.nodes if node.how.found(node.spec) is None]


def _groups(graph: Graph) -> dict[str, list[Node]]:
    """The nodes of each stage that do not need one another, by a name; in the order of the graph:
    what a group needs is before it."""
    depths: dict[Node, int] = {}
    for node in graph.nodes:
        depths[node] = max((depths[each] + 1 for each in node.sources), default=0)
    nodes = sorted(_made(graph), key=lambda node: depths[node])
    found: dict[tuple[str, str | None, int], list[Node]] = {}
    for node in nodes:
        found.setdefault((node.stage, node.of, depths[node]), []).append(node)
    names: dict[str, list[Node]] = {}
    for (stage, of, depth), group in found.items():
        name = f"{of}-{stage}" if of else stage
        names[f"{name}-{depth}" if name in names else name] = group
    return names
