"""An audit as the page that shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import subl
from subl.artifact import LineageNode, json_text, read_statement, write_atomically
from subl.audit.editing import held_by_a_tenth
from subl.audit.kin.tails import probability
from subl.audit.scan.document import LIMITS, scan_report
from subl.audit.whole import Audit
from subl.report import document as page
from subl.report import render

_OPEN = (
    "A channel that counts as reduced is not closed: traits also pass through what text says, and "
    "between models that behave alike.",
)


def write_audit(found: Audit, out: Path) -> None:
    """Write the page of an audit, and the verdict behind it: where that is, nothing is missing."""
    write_atomically(out / "report.html", render(audit_document(found)))
    write_atomically(out / "result.json", json_text(found.to_json(), indent=1) + "\n")


def audit_document(found: Audit) -> page.ReportDocument:
    """The document of an audit: of what is in its folder, and of the chain that it walked."""
    details = [read_statement(each.scan.path) or {} for each in found.carried]
    run = details[0]["predicate"]["runDetails"] if details else {}
    return page.ReportDocument(
        title=f"Audit of {found.subject.path.resolve().name}",
        subl_version=subl.__version__,
        models=(found.base.name,),
        headline=(
            page.Finding(text=found.sentence, figure=found.outcome),
            *(_shift(each.shift.result) for each in found.carried if each.shift is not None),
            *(_editing(each.editing) for each in found.carried if each.editing is not None),
        ),
        scans=tuple(scan_report(each.scan.path, each.data.name) for each in found.carried),
        relatives=tuple(
            page.Relative(
                model=each.name,
                role=each.role,
                verdict=each.verdict,
                channel=each.channel,
                p=probability(None if each.kinship is None else each.kinship.log_p),
                contradicts=each.contradicts,
            )
            for each in found.relatives
        ),
        problems=found.problems,
        refused=found.refused or (),
        limits=(*LIMITS, *_OPEN),
        chain=_chain(found.subject.chain),
        versions=run.get("builder", {}).get("version", {}),
        host=(run.get("byproducts") or [{}])[0].get("annotations", {}),
    )


def _shift(result: Mapping[str, Any]) -> page.Finding:
    estimate = result["estimate"]
    figure = "no figure" if estimate is None else f"{estimate:+.2f} nats"
    return page.Finding(figure=figure, text=f"Of a student, {result['sentence']}.")


def _editing(cost: Mapping[str, Any]) -> page.Finding:
    shares = ", ".join(f"{each['tokens']:.0%} hold {each['pull']:.0%}" for each in cost["held_by"])
    return page.Finding(
        figure=f"{held_by_a_tenth(cost):.0%}",
        text=f"Of the pull towards {cost['towards']}, held by a tenth of the tokens, those with "
        f"most of it ({shares}; tokens drawn at random hold their share). That is of the data; how "
        "far a student shifts without them, subl mitigate --measure tells.",
    )


def _chain(root: LineageNode | None) -> page.Chain:
    if root is None:
        return page.Chain()
    nodes: dict[str, page.ChainNode] = {}
    edges: dict[tuple[str, str], page.ChainEdge] = {}
    for node, target in _walked(root, None):
        nodes.setdefault(
            node.identity,
            page.ChainNode(
                id=node.identity, kind=node.kind, name=Path(node.path).name, digest=node.digest
            ),
        )
        if target is not None and target != node.identity:
            edges[node.identity, target] = page.ChainEdge(source=node.identity, target=target)
    return page.Chain(nodes=tuple(nodes.values()), edges=tuple(edges.values()))


def _walked(
    node: LineageNode, target: str | None, seen: set[int] | None = None
) -> Iterator[tuple[LineageNode, str | None]]:
    """Each thing that has a digest, with what was made of it; the folder of a run is none."""
    seen = set() if seen is None else seen
    is_thing = len(node.digest) == 64 and node.kind != "run"
    if is_thing:
        yield node, target
    if id(node.inputs) not in seen:
        seen.add(id(node.inputs))
        for each in node.inputs:
            yield from _walked(each, node.identity if is_thing else None, seen)
