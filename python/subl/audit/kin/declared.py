"""Whether models in a chain are what their records say: each beside the model that it is said to
have begun from. A record is a claim; weights are not asked to believe it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from subl.artifact import LineageNode
from subl.audit.kin.compare import UNITS, kin
from subl.audit.kin.verdict import Kinship
from subl.bill import gives_model, record_of
from subl.errors import InputError
from subl.experiment.kinds import takes
from subl.model.condition import conditioned
from subl.model.load import ADAPTER, base_of
from subl.progress import Progress, Report, silent

PARENT = "model"
"""The name that stages give the model that another one begins from. A teacher is none: students
learn from its rows, and need not share its weights."""


class Finding(StrEnum):
    """How weights stand to what is declared of them."""

    CONSISTENT = "declared and consistent"
    CONTRADICTED = "declared, but the weights contradict it"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Claim:
    """What the record of a model says of another, and what weights say.

    Attributes:
        child, parent: their paths.
        is_drawn: whether the child is said to have been drawn anew, with nothing of the parent's
            weights, instead of to begin from them.
        finding: what comes of it.
        reason: a sentence.
        kinship: what was measured; None where nothing had to be or could be.
    """

    child: str
    parent: str
    is_drawn: bool
    finding: Finding
    reason: str
    kinship: Kinship | None = None

    def to_json(self) -> dict[str, Any]:
        """What `subl lineage --kin --json` prints."""
        return {
            "child": self.child,
            "parent": self.parent,
            "declared": "drawn anew" if self.is_drawn else "begun from it",
            "finding": self.finding.value,
            "reason": self.reason,
            "kin": None if self.kinship is None else self.kinship.to_json(),
        }


def declared(
    root: LineageNode, *, units: int = UNITS, seed: int = 0, report: Report = silent
) -> tuple[Claim, ...]:
    """All models of a chain beside the models that they are said to begin from, each pair once.

    Weights that cannot be read are a reason, not an error: others still can be.
    """
    pairs = list(_pairs(root))
    found = []
    for done, (child, parent) in enumerate(pairs):
        report(Progress("kin: models", done, len(pairs), "models", child.name))
        found.append(_judged(child, parent, units, seed, report))
    return tuple(found)


def _pairs(root: LineageNode) -> Iterator[tuple[LineageNode, LineageNode]]:
    seen: set[tuple[str, str]] = set()
    for node in root.nodes():
        for each in node.inputs if gives_model(node) else ():
            is_parent = each.name == PARENT and takes(node.kind, each.name) == "model"
            pair = (node.path, each.path)
            if is_parent and pair not in seen:
                seen.add(pair)
                yield node, each


def _judged(
    child: LineageNode, parent: LineageNode, units: int, seed: int, report: Report
) -> Claim:
    def claim(finding: Finding, reason: str, kinship: Kinship | None = None) -> Claim:
        return Claim(child.path, parent.path, is_drawn, finding, reason, kinship)

    is_drawn = False
    try:
        is_drawn = _is_drawn(child)
        if not is_drawn and (why := by_construction(Path(child.path), Path(parent.path))):
            return claim(Finding.CONSISTENT, why)
        paths = Path(parent.path), Path(child.path)
        names = (parent.path, child.path)
        found = kin(*paths, names=names, units=units, seed=seed, report=report)
    except InputError as error:
        return claim(Finding.CANNOT_TELL, str(error))
    if found.is_related is None:
        return claim(Finding.CANNOT_TELL, found.sentence.removeprefix("cannot tell: "), found)
    agrees = found.is_related is not is_drawn
    finding = Finding.CONSISTENT if agrees else Finding.CONTRADICTED
    return claim(finding, found.sentence, found)


def _is_drawn(node: LineageNode) -> bool:
    record = record_of(node)
    if record is None or node.kind != "recast":
        return False
    said = record["predicate"]["buildDefinition"]["externalParameters"]
    return bool(said.get("weights") == "drawn")


def by_construction(child: Path, parent: Path) -> str | None:
    """Why no other weights than the parent's are asked for; None where it has its own.

    Raises:
        InputError: what it is a condition of, or an adapter on, is not there.
    """
    found, base = conditioned(child).folder, conditioned(parent).folder
    if found.resolve() == base.resolve():
        return "it has no weights but that one's"
    if (found / "config.json").is_file() or not (found / ADAPTER).is_dir():
        return None
    if base_of(found / ADAPTER).resolve() == base.resolve():
        return "it is an adapter, whose other weights are that one's"
    return None
