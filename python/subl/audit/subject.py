"""What there is to audit behind a path: data sets, who wrote them, on which base, and who learned
from them. All of it is what records say, and is checked before it is believed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from subl.artifact import LineageNode, lineage, read_statement
from subl.errors import InputError
from subl.experiment.kinds import STAGES, gives_rows, takes

PLAIN = "input"


@dataclass(frozen=True)
class DataSet:
    """Rows that somebody has, or has trained on.

    Attributes:
        rows: artifacts, files or folders, as the trainer was given them.
        writers: models that wrote rows of it, as the chain has them.
        students: models that were trained on it.
    """

    name: str
    rows: tuple[Path, ...]
    digests: tuple[str, ...]
    writers: tuple[LineageNode, ...] = ()
    students: tuple[LineageNode, ...] = ()


@dataclass(frozen=True)
class Subject:
    """What an audit is about.

    Attributes:
        chain: what stands behind it; of plain rows without a record, None.
        models: that are to be compared with the base: (what each is to it, the model).
        base: the one base that the records name; None where they name none, or several.
    """

    path: Path
    chain: LineageNode | None
    data: tuple[DataSet, ...]
    models: tuple[tuple[str, LineageNode], ...] = field(default=())
    base: Path | None = None


def subject(path: Path) -> Subject:
    """Find out. Every file of the chain is read and compared with its digest.

    Raises:
        InputError: there is nothing, or nothing that could be audited.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist", hint="give rows, a model, or a run")
    is_run = path.is_dir() and any(
        read_statement(file.parent) is not None for file in path.glob("*/statement.json")
    )
    if not is_run and (not path.is_dir() or read_statement(path) is None):
        if path.is_dir() and (path / "config.json").is_file():
            raise InputError(
                f"{path} is a model without a record: what it was trained on is not known",
                hint="subl kin says what it is to another model; subl scan looks at rows",
            )
        return Subject(path, None, (DataSet(path.name, (path,), ()),))
    chain = lineage(path)
    students = (
        [node for node in _distinct(iter(chain.inputs)) if _trained_on(node)] if is_run else [chain]
    )
    found: dict[tuple[str, ...], DataSet] = {}
    for node in students:
        rows = [chain] if gives_rows(node.kind) else _trained_on(node)
        digests = tuple(each.digest for each in rows)
        before = found.get(digests)
        if before is None:
            writers = _distinct(each for row in rows for each in _writers(row))
            name = " and ".join(Path(each.path).name for each in rows)
            before = DataSet(name, tuple(Path(e.path) for e in rows), digests, tuple(writers))
        if node is not chain or not gives_rows(node.kind):
            before = replace(before, students=(*before.students, node))
        if rows:
            found[digests] = before
    data = tuple(found.values())
    models = [("wrote", node) for each in data for node in each.writers]
    models += [("learned", node) for each in data for node in each.students]
    bases = _distinct(base for _, node in models for base in [_base(node)] if base is not None)
    if not data:
        raise InputError(
            f"{path}: no rows are in its chain, and no model was trained on some",
            hint="give rows, a model that subl distill made, or a run",
        )
    return Subject(path, chain, data, tuple(models), _only(bases))


def _only(bases: Sequence[LineageNode]) -> Path | None:
    return Path(bases[0].path) if len(bases) == 1 else None


def _distinct(nodes: Iterator[LineageNode]) -> list[LineageNode]:
    return list({node.digest: node for node in nodes}.values())


def _trained_on(node: LineageNode) -> list[LineageNode]:
    """The rows of a model that was distilled."""
    if node.kind not in STAGES or STAGES[node.kind].gives != "model":
        return []
    return [each for each in node.inputs if takes(node.kind, each.name) == "rows"]


def _writers(rows: LineageNode) -> Iterator[LineageNode]:
    """The models that wrote rows, also behind a filter or a draw."""
    for each in rows.inputs:
        what = takes(rows.kind, each.name)
        if what == "model" and rows.kind == "generate":
            yield each
        elif what == "rows":
            yield from _writers(each)


def _base(model: LineageNode) -> LineageNode | None:
    """The model that one was made from in the end, as its record says; itself where none is."""
    for each in model.inputs:
        if model.kind != "model" and takes(model.kind, each.name) == "model":
            return _base(each)
    return model
