"""Which rows two filters treat differently.

Both are run over the same shards into a temporary folder, and what they rejected is joined by line
number: rejects are written in the order of the input, so the join holds one row at a time. Kept
rows are not looked at, and their files go as soon as their shard is done; so the folder (TMPDIR
says where) needs room for the rejects of both, and for the kept rows of the shards at work.

A row that is kept with tags is in no reject. Where a filter has rules that tag, it runs once more
with `drop` in their place, which tells those rows and their tags.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from subl.artifact import json_text
from subl.filter.run import filter_shards
from subl.filter.spec import FilterSpec, OutputSpec
from subl.progress import Progress, Report, silent
from subl.shards import format_of, open_lines
from subl.shards.names import name_shards

Kind = Literal["kept to dropped", "dropped to kept", "other reasons", "other tags"]
_REPORTED_BYTES = 8 << 20

KINDS: tuple[Kind, ...] = ("kept to dropped", "dropped to kept", "other reasons", "other tags")


@dataclass(frozen=True)
class Outcome:
    """What a filter does with a row. `tags` is None where it adds none."""

    kept: bool
    reasons: Sequence[Mapping[str, Any]] = ()
    tags: tuple[str, tuple[str, ...]] | None = None

    def to_json(self) -> dict[str, Any]:
        tags = {} if self.tags is None else {"tags": {self.tags[0]: list(self.tags[1])}}
        return {"kept": self.kept, **tags, "reasons": list(self.reasons)}


KEPT = Outcome(True)


@dataclass(frozen=True)
class Change:
    """A row that the two filters treat differently. `row` is its JSON, verbatim."""

    file: Path
    line: int
    a: Outcome
    b: Outcome
    row: str

    @property
    def kind(self) -> Kind:
        if self.a.kept != self.b.kept:
            return "kept to dropped" if self.a.kept else "dropped to kept"
        return "other tags" if self.a.kept else "other reasons"

    @property
    def rules(self) -> dict[str, list[str]]:
        """The rules that make the difference, by filter: all of one that drops a row which the
        other keeps, else those with a reason that this filter alone has."""
        found = {}
        for side, own, other in (("a", self.a, self.b), ("b", self.b, self.a)):
            shared = other.reasons if own.kept or not other.kept else ()
            alone = [_rule(reason) for reason in own.reasons if reason not in shared]
            found[side] = list(dict.fromkeys(alone))
        return found

    def to_json_line(self) -> str:
        head = {
            "file": self.file.as_posix(),
            "line": self.line,
            "change": self.kind,
            "a": self.a.to_json(),
            "b": self.b.to_json(),
        }
        return f'{json_text(head)[:-1]}, "row": {self.row}}}\n'


@dataclass
class Difference:
    """Sums over all rows. `rules` counts changed rows by kind, by filter and rule."""

    rows: int
    kept: dict[str, int]
    changes: Counter[Kind] = field(default_factory=Counter)
    rules: dict[Kind, dict[str, Counter[str]]] = field(default_factory=dict)
    examples: dict[Kind, list[Change]] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        return not self.changes


def diff(
    a: FilterSpec,
    b: FilterSpec,
    inputs: Sequence[Path],
    *,
    jobs: int = 1,
    examples: int = 5,
    on_change: Callable[[Change], object] = lambda change: None,
    report: Report = silent,
) -> Difference:
    """Compare what filters `a` and `b` do with the rows of `inputs`.

    Keeps the first `examples` changes of each kind; `on_change` is called with every one, in order.

    Raises:
        InputError: an input is missing, has no rows, or is truncated or corrupt.
    """
    inputs_by_name = name_shards(inputs)
    width = len(str(len(inputs_by_name)))
    shards = {
        f"{position:0{width}}{'.parquet' if format_of(path) == '.parquet' else '.jsonl'}": path
        for position, path in enumerate(inputs_by_name.values())
    }
    with tempfile.TemporaryDirectory(prefix="subl-diff-") as name:
        folder = Path(name)
        sides = [
            _Side(spec, folder / side, side, shards, jobs, report)
            for side, spec in (("a", a), ("b", b))
        ]
        result = Difference(sides[0].rows, {"a": sides[0].kept, "b": sides[1].kept})
        meter = _Meter(sum(side.bytes for side in sides), report)
        for shard, path in shards.items():
            a_rejected, b_rejected = (side.rejected(shard, meter.add) for side in sides)
            for change in _changes(path, a_rejected, b_rejected):
                _add(result, change, examples)
                on_change(change)
        meter.finish()
    return result


class _Meter:
    """Reports how much of the rejects is compared."""

    def __init__(self, total: int, report: Report) -> None:
        self._done, self._reported, self._total, self._report = 0, 0, total, report

    def add(self, count: int) -> None:
        self._done += count
        if self._done - self._reported >= _REPORTED_BYTES:
            self._reported = self._done
            self._report(Progress("compare rejects", self._done, self._total, "bytes"))

    def finish(self) -> None:
        self._report(Progress("compare rejects", self._total, self._total, "bytes"))


def _add(result: Difference, change: Change, examples: int) -> None:
    result.changes[change.kind] += 1
    shown = result.examples.setdefault(change.kind, [])
    if len(shown) < examples:
        shown.append(change)
    counts = result.rules.setdefault(change.kind, {"a": Counter(), "b": Counter()})
    for side, rules in change.rules.items():
        counts[side].update(rules)


def _changes(path: Path, a: Iterator[_Found], b: Iterator[_Found]) -> Iterator[Change]:
    for one, other in _join(a, b):
        if one is not None and other is not None and one.same(other):
            continue
        found = one or other
        assert found is not None
        outcomes = [KEPT if each is None else each.outcome for each in (one, other)]
        left, right = outcomes
        if left.kept and right.kept and left.tags == right.tags:
            continue  # whatever was only counted
        if left != right:
            yield Change(path, found.line, left, right, found.row)


def _join(
    a: Iterator[_Found], b: Iterator[_Found]
) -> Iterator[tuple[_Found | None, _Found | None]]:
    """Both in order of lines: what belongs to the same line together."""
    one, other = next(a, None), next(b, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.line < other.line):
            yield one, None
            one = next(a, None)
        elif one is None or other.line < one.line:
            yield None, other
            other = next(b, None)
        else:
            yield one, other
            one, other = next(a, None), next(b, None)


class _Found:
    """A line of the rejects, parsed only where it is asked. `tagging` (a key, and the rules that
    tag) is given where the row is kept with tags."""

    def __init__(
        self, record: bytes, start: int, line: int, tagging: tuple[str, frozenset[str]] | None
    ) -> None:
        self._record, self._start, self.line, self._tagging = record, start, line, tagging
        self._parsed: tuple[Sequence[Mapping[str, Any]], str] | None = None

    def same(self, other: _Found) -> bool:
        return self._record == other._record and self._tagging == other._tagging

    @property
    def outcome(self) -> Outcome:
        reasons = self._parse()[0]
        if self._tagging is None:
            return Outcome(False, reasons)
        key, tagging = self._tagging
        names = (reason["rule"] for reason in reasons if reason["rule"] in tagging)
        return Outcome(True, reasons, (key, tuple(dict.fromkeys(names))))

    @property
    def row(self) -> str:
        return self._parse()[1]

    def _parse(self) -> tuple[Sequence[Mapping[str, Any]], str]:
        if self._parsed is None:
            text = self._record[self._start :].decode(errors="replace")
            reasons, end = json.JSONDecoder().raw_decode(text)
            row = text[end:].removeprefix(',"row":').removesuffix("\n").removesuffix("}")
            self._parsed = reasons, row
        return self._parsed


_HEAD = re.compile(rb'\{"file":"(?:[^"\\]|\\.)*","line":(\d+),"reasons":')


class _Side:
    """One of the filters, and its rejects."""

    def __init__(
        self,
        spec: FilterSpec,
        folder: Path,
        name: str,
        shards: Mapping[str, Path],
        jobs: int,
        report: Report,
    ) -> None:
        # How the result is written is no difference, and rejects are read again at once.
        spec = spec.model_copy(update={"output": OutputSpec(compression="none")})
        self._folder = folder
        self._tag_field = spec.tag_field
        self._tagging = frozenset(rule.name for rule in spec.rules if rule.action == "tag")
        statistics = self._run(spec, folder / "drops", name, shards, jobs, report)
        self.rows = sum(each["rows_in"] for each in statistics.values())
        self.kept = sum(each["kept"] for each in statistics.values())
        if self._tagging:
            rules = [
                rule.model_copy(update={"action": "drop"}) if rule.action == "tag" else rule
                for rule in spec.rules
            ]
            tags = spec.model_copy(update={"rules": tuple(rules)})
            self._run(tags, folder / "tags", f"{name} (tags)", shards, jobs, report, spec)

    def _run(
        self,
        spec: FilterSpec,
        folder: Path,
        name: str,
        shards: Mapping[str, Path],
        jobs: int,
        report: Report,
        comparing: FilterSpec | None = None,
    ) -> dict[str, dict[str, Any]]:
        folder.mkdir(parents=True)
        return filter_shards(
            spec,
            shards,
            folder,
            jobs,
            report,
            comparing=comparing,
            task=f"filter {name}",
            finished=lambda shard: (folder / "kept" / shard).unlink(),
        )

    @property
    def bytes(self) -> int:
        """How much there is to read."""
        return sum(file.stat().st_size for file in self._folder.glob("*/rejects/*"))

    def rejected(self, shard: str, on_read: Callable[[int], None]) -> Iterator[_Found]:
        """The rows of a shard that are not kept as they are, in order.

        `on_read` is called with the length of each record that is read.
        """
        dropped = self._read(self._folder / "drops" / "rejects" / shard, None, on_read)
        if not self._tagging:
            yield from dropped
            return
        file = self._folder / "tags" / "rejects" / shard
        tagged = self._read(file, (self._tag_field, self._tagging), on_read)
        for drop, tag in _join(dropped, tagged):
            found = drop or tag
            assert found is not None
            yield found

    def _read(
        self,
        file: Path,
        tagging: tuple[str, frozenset[str]] | None,
        on_read: Callable[[int], None],
    ) -> Iterator[_Found]:
        with open_lines(file) as records:
            for record in records:
                if file.suffix == ".parquet":
                    record = _like_jsonl(record)
                on_read(len(record))
                head = _HEAD.match(record)
                assert head is not None, record[:200]
                yield _Found(record, head.end(), int(head[1]), tagging)


def _like_jsonl(record: bytes) -> bytes:
    """A row of Parquet rejects, as JSON, as a line of those of JSON lines: reasons are JSON."""
    row = json.loads(record)
    head = json.dumps({"file": row["file"], "line": row["line"]}, separators=(",", ":"))
    original = json.dumps(row["row"], ensure_ascii=False)
    return f'{head[:-1]},"reasons":{row["reasons"]},"row":{original}}}\n'.encode()


def _rule(reason: Mapping[str, Any]) -> str:
    """What a reason is counted as: its rule, or why the row could not be read."""
    return str(reason["rule"] if reason["rule"] is not None else f"unreadable: {reason['reason']}")
