"""Under which law rows were drawn: temperature and grammar, as their artifact's records say.

A candidate's probability of a row is that of a sampler, not of the bare model: what a grammar
forbids had no chance, and a temperature made likely tokens likelier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from subl.artifact import input_digest, input_place, open_artifact, read_statement, spec_record
from subl.model.template import Template
from subl.sample.grammar import Grammar


@dataclass(frozen=True)
class Law:
    """How rows were drawn.

    Args:
        temperature: None: nobody knows.
        grammar: what completions were held to while they were drawn.
        template: what the chat template was told.
        kept: share of rows that a filter left; None: there was none, or nobody knows.
        known_from: where this is from, in words.
        writer: digest of the model that the rows' record names; None: of several, or of none.
    """

    temperature: float | None
    grammar: Grammar | None
    template: Template
    kept: float | None
    known_from: str
    writer: str | None = None

    def written_by(self, model: Path) -> bool | None:
        """Whether the rows' record names this model; None: it names none."""
        return None if self.writer is None else self.writer == input_digest(model)


def recorded(rows: Sequence[Path]) -> Law | None:
    """The law of rows that are artifacts of `subl generate`, filtered or not; None where one of
    them is something else, or they are of several laws."""
    found = [_recorded(path, 1.0) for path in rows]
    laws = [law for law in found if law is not None]
    if len(laws) < len(found) or not laws:
        return None
    first = laws[0]
    same = first.temperature, first.grammar, first.template
    if any((each.temperature, each.grammar, each.template) != same for each in laws):
        return None
    kept = [law.kept for law in laws if law.kept is not None]
    writers = {law.writer for law in laws}
    writer = first.writer if len(writers) == 1 else None
    return replace(first, kept=min(kept, default=None), writer=writer)


_THROUGH = ("filter", "draw", "judge", "convert", "split", "merge")


def _recorded(path: Path, kept: float) -> Law | None:
    record = read_statement(path) if path.is_dir() else None
    if record is None:
        return None
    said = spec_record(record)
    spec: dict[str, Any] = said["spec"]
    dependencies = record["predicate"]["buildDefinition"]["resolvedDependencies"]
    if said["kind"] == "generate":
        if spec["backend"]["kind"] == "http":
            return None  # what else a server does with its model's distribution it does not say
        grammar = spec.get("grammar")
        return Law(
            float(spec["temperature"]),
            None if grammar is None else Grammar.model_validate(grammar),
            Template.model_validate(spec.get("template") or {}),
            kept if kept < 1 else None,
            f"the record of {path.resolve().name}",
            _writer(path, next(each for each in dependencies if each["name"] == "model")),
        )
    if said["kind"] not in _THROUGH or spec.get("shuffle") or spec.get("random"):
        return None  # nobody has drawn numbers like that
    if said["kind"] == "filter":
        result = open_artifact(path).result
        kept *= result["kept"] / max(1, result["rows_in"])
    before = [
        _recorded(input_place(path, each["uri"]), kept)
        for each in dependencies
        if each["name"] != "model"
    ]
    return before[0] if len(before) == 1 else None


def _writer(rows: Path, model: Mapping[str, Any]) -> str:
    """Digest of the model that a record names: of a prompted one, as long as it is there, of what
    is prompted."""
    digest: str = model["digest"]["sha256"]
    place = input_place(rows, model["uri"])
    record = read_statement(place) if place.is_dir() else None
    if record is not None and input_digest(place) == digest:
        said = spec_record(record)
        if said["kind"] == "teach" and said["spec"].get("method") in ("prompt", "context"):
            below: str = said["inputs"]["model"]
            return below
    return digest
