"""An audit as the page that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import subl
from subl.artifact import LineageNode, read_statement
from subl.audit.kin.tails import probability
from subl.audit.scan.document import LIMITS, scan_report
from subl.audit.whole import Audit
from subl.report import document as page

_OPEN = (
    "A channel that counts as reduced is not closed: traits also pass through what text says, and "
    "between models that behave alike.",
)


def audit_document(found: Audit) -> page.ReportDocument:
    """The document of an audit: of what is in its folder, and of the chain that it walked."""
    details = [read_statement(each.path) or {} for each in found.scans]
    run = details[0]["predicate"]["runDetails"] if details else {}
    return page.ReportDocument(
        title=f"Audit of {found.subject.path.resolve().name}",
        subl_version=subl.__version__,
        models=(found.base.name,),
        headline=(
            page.Finding(text=found.sentence, figure=found.outcome),
            *(page.Finding(**each) for scan in found.scans for each in scan.result["findings"]),
        ),
        scans=tuple(
            scan_report(scan.path, data.name)
            for data, scan in zip(found.subject.data, found.scans, strict=True)
        ),
        relatives=tuple(
            page.Relative(
                model=Path(each.model.path).name,
                role=each.role,
                verdict=str(each.kinship.verdict),
                channel=str(each.kinship.channel),
                p=probability(each.kinship.log_p),
                contradicts=each.contradicts,
            )
            for each in found.relatives
        ),
        problems=found.problems,
        limits=(*LIMITS, *_OPEN),
        chain=_chain(found.subject.chain),
        versions=run.get("builder", {}).get("version", {}),
        host=(run.get("byproducts") or [{}])[0].get("annotations", {}),
    )


def _chain(root: LineageNode | None) -> page.Chain:
    if root is None:
        return page.Chain()
    nodes: dict[str, page.ChainNode] = {}
    edges: dict[tuple[str, str], page.ChainEdge] = {}
    for node, target in _walked(root, None):
        nodes.setdefault(
            node.digest,
            page.ChainNode(
                id=node.digest, kind=node.kind, name=Path(node.path).name, digest=node.digest
            ),
        )
        if target is not None and target != node.digest:
            edges[node.digest, target] = page.ChainEdge(source=node.digest, target=target)
    return page.Chain(nodes=tuple(nodes.values()), edges=tuple(edges.values()))


def _walked(
    node: LineageNode, target: str | None, seen: set[str] | None = None
) -> Iterator[tuple[LineageNode, str | None]]:
    """Each thing that has a digest, with what was made of it; the folder of a run is none."""
    seen = set() if seen is None else seen
    is_thing = len(node.digest) == 64 and node.kind != "run"
    if is_thing:
        yield node, target
    if node.digest not in seen:
        seen.add(node.digest)
        for each in node.inputs:
            yield from _walked(each, node.digest if is_thing else None, seen)
