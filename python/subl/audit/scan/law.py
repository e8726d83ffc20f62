"""Under which law rows were drawn: temperature and grammar, as their artifact's records say.

A candidate's probability of a row is that of a sampler, not of the bare model: what a grammar
forbids had no chance, and a temperature made likely tokens likelier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from subl.artifact import input_digest, input_place, open_artifact, read_statement, spec_record
from subl.artifact.statement import artifact_digest
from subl.model.template import Template
from subl.sample.grammar import Grammar


@dataclass(frozen=True)
class Writer:
    """Who wrote rows, as their record says.

    Args:
        digest: of the model.
        place: where that was.
        prompt: the system prompt that it was told.
    """

    digest: str
    place: Path
    prompt: str | None

    def told(self, base: Path) -> tuple[str, str | None]:
        """What this is to the base, and behind which system prompt it wrote; a prompted model is
        what is prompted, as long as it is there to be looked at."""
        own = input_digest(base)
        if self.digest == own:
            return ("the base behind a system prompt" if self.prompt else "the base"), self.prompt
        record = read_statement(self.place) if self.place.is_dir() else None
        if record is None:
            return ("another model" if self.place.exists() else "not known"), self.prompt
        said = spec_record(record)
        if artifact_digest(self.place) != self.digest:
            return "not known", self.prompt
        if said["kind"] == "teach" and said["spec"]["method"] in ("prompt", "context"):
            prompt = said["spec"].get("system_prompt", self.prompt)
            if said["inputs"]["model"] == own:
                return "the base behind a system prompt", prompt
        return "another model", self.prompt


@dataclass(frozen=True)
class Law:
    """How rows were drawn.

    Args:
        temperature: None: nobody knows.
        grammar: what completions were held to while they were drawn.
        template: what the chat template was told.
        kept: share of rows that a filter left; None: there was none, or nobody knows.
        known_from: where this is from, in words.
        writers: of all rows, as their records name them.
    """

    temperature: float | None
    grammar: Grammar | None
    template: Template
    kept: float | None
    known_from: str
    writers: tuple[Writer, ...] = ()

    def written_by(self, base: Path) -> tuple[str | None, tuple[str, ...]]:
        """Who wrote the rows by their records, as `Writer.told` says it, and behind which prompts;
        None: they name nobody."""
        if not self.writers:
            return None, ()
        told = [each.told(base) for each in self.writers]
        who = {each for each, _ in told}
        prompts = tuple(dict.fromkeys(prompt for _, prompt in told if prompt is not None))
        return who.pop() if len(who) == 1 else "several models", prompts


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
    writers = tuple(each for law in laws for each in law.writers)
    return replace(first, kept=min(kept, default=None), writers=writers)


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
        grammar, prompt = spec.get("grammar"), spec.get("system_prompt")
        model = next(each for each in dependencies if each["name"] == "model")
        return Law(
            float(spec["temperature"]),
            None if grammar is None else Grammar.model_validate(grammar),
            Template.model_validate(spec.get("template") or {}),
            kept if kept < 1 else None,
            f"the record of {path.resolve().name}",
            (Writer(model["digest"]["sha256"], input_place(path, model["uri"]), prompt),),
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
