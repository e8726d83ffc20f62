"""What there is to audit behind a path: data sets, who wrote them, on which base, and who learned
from them. All of it is what records say, and is checked before it is believed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from subl.artifact import LineageNode, lineage, read_statement, spec_record
from subl.audit.kin import PARENT
from subl.bill import gives_model, record_of
from subl.errors import InputError
from subl.experiment.kinds import gives_rows, takes

_NAME_LETTERS = 100


@dataclass(frozen=True)
class DataSet:
    """Rows that somebody has, or has trained on.

    Attributes:
        name: of its folder or file, with a number where several have that.
        rows: artifacts, files or folders, as the trainer was given them.
        writers: models that wrote rows of it, as the chain has them; none wrote numbers at random.
        is_known: whether all of its rows are from these.
        students: models that were trained on it.
    """

    name: str
    rows: tuple[Path, ...]
    digests: tuple[str, ...]
    writers: tuple[LineageNode, ...] = ()
    is_known: bool = False
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
        return Subject(path, None, (DataSet(path.resolve().name, (path,), ()),))
    chain = lineage(path)
    found: dict[tuple[str, ...], DataSet] = {}
    if gives_rows(chain.kind) and not is_run:
        _add(found, [chain], None)
    trained = [*chain.inputs] if is_run else [chain]
    for node in _distinct(each for one in trained for each in _trainings(one)):
        _add(found, _trained_on(node), node)
    data = _named(found.values())
    taught = _distinct(t for each in data for node in each.students for t in _teachers(node))
    models = [("wrote", node) for node in _distinct(n for each in data for n in each.writers)]
    models += [("taught", node) for node in taught]
    models += [("learned", node) for node in _distinct(n for d in data for n in d.students)]
    bases = _distinct(base for _, node in models for base in [_base(node)] if base is not None)
    if not data:
        raise InputError(
            f"{path} is no rows, and no model that was trained on some is in it: it is what subl "
            f"{chain.kind} made",
            hint="give rows, a model that subl distill made, or a run",
        )
    return Subject(path, chain, data, tuple(models), _only(bases))


def _add(
    found: dict[tuple[str, ...], DataSet], rows: Sequence[LineageNode], student: LineageNode | None
) -> None:
    identities = tuple(each.identity for each in rows)
    before = found.get(identities)
    if before is None:
        written = [_writers(each) for each in rows]
        before = DataSet(
            name=Path(rows[0].path).resolve().name + (f"-and-{len(rows) - 1}" if rows[1:] else ""),
            rows=tuple(Path(each.path) for each in rows),
            digests=tuple(each.digest for each in rows),
            writers=tuple(_distinct(node for nodes, _ in written for node in nodes)),
            is_known=all(known for _, known in written),
        )
    if student is not None:
        before = replace(before, students=(*before.students, student))
    found[identities] = before


def _named(data: Iterable[DataSet]) -> tuple[DataSet, ...]:
    """Names that are there once; folders are called after them."""
    taken: set[str] = set()
    named = []
    for each in data:
        base, name, number = each.name[:_NAME_LETTERS], each.name[:_NAME_LETTERS], 1
        while name in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name)
        named.append(replace(each, name=name))
    return tuple(named)


def _only(bases: Sequence[LineageNode]) -> Path | None:
    return Path(bases[0].path) if len(bases) == 1 else None


def _distinct(nodes: Iterable[LineageNode]) -> list[LineageNode]:
    return list({node.identity: node for node in nodes}.values())


def _trainings(node: LineageNode) -> Iterator[LineageNode]:
    """A model that was trained on rows, and those before it, back to the base."""
    if _trained_on(node):
        yield node
    for each in node.inputs if gives_model(node) else ():
        if each.name == PARENT:
            yield from _trainings(each)


def _trained_on(node: LineageNode) -> list[LineageNode]:
    """The rows of a model that was trained on some."""
    if not gives_model(node):
        return []
    return [each for each in node.inputs if takes(node.kind, each.name) == "rows"]


def _teachers(student: LineageNode) -> Iterator[LineageNode]:
    """Models whose distributions one learned, also from a cache."""
    for each in student.inputs:
        if each.name == "teacher":
            yield each
        elif takes(student.kind, each.name) == "cache":
            yield from (e for e in each.inputs if e.name in ("teacher", "model"))


def _writers(rows: LineageNode) -> tuple[list[LineageNode], bool]:
    """The models that wrote rows, also behind a filter or a draw; and whether all are known."""
    if rows.kind == "generate":
        found = [each for each in rows.inputs if takes(rows.kind, each.name) == "model"]
        return found, bool(found)
    if rows.kind == "draw":
        record = record_of(rows)
        assert record is not None
        if spec_record(record)["spec"]["random"]:
            return [], True  # numbers of no model
    behind = [_writers(each) for each in rows.inputs if takes(rows.kind, each.name) == "rows"]
    known = bool(behind) and all(is_known for _, is_known in behind)
    return [node for nodes, _ in behind for node in nodes], known


def _base(model: LineageNode) -> LineageNode | None:
    """The model that one was made from in the end, as its record says; itself where none is."""
    for each in model.inputs:
        if gives_model(model) and model.kind != "model" and each.name == PARENT:
            return _base(each)
    return model if model.path and model.kind != "missing" else None
