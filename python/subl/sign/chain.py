"""What a policy asks of a chain as a whole: its stages, what it starts from, and its rows' way.

Rows are followed from whoever has them, the artifact itself or what was trained on them, back to
the model that they are from, through stages that hand rows on. On each way all rules are looked
for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from subl.experiment.kinds import gives_rows, takes
from subl.sign.policy import Policy
from subl.sign.verify import ORIGIN, Link

Refusal = tuple[str, str]
"""A path, and a sentence on what is at it."""


def refusals(root: Link, policy: Policy) -> list[Refusal]:
    """Everything that the policy refuses of a chain, each once."""
    found = [(link.path, problem) for link in root.links() for problem in link.problems]
    found += _stages(root, policy)
    begun: set[tuple[str, frozenset[str]]] = set()
    for artifact in root.artifacts():
        found += _starts(artifact, policy)
        if not gives_rows(artifact.kind):
            for link in _rows_of(artifact):
                found += _ways(link, policy, frozenset(), begun)
        elif artifact is root:
            found += _ways(root, policy, frozenset(), begun)
    return list(dict.fromkeys(found))


def _stages(root: Link, policy: Policy) -> Iterator[Refusal]:
    kinds = {artifact.kind for artifact in root.artifacts()}
    for stage in policy.chain.stages:
        if stage not in kinds:
            yield root.path, f"has no {stage} in its chain, which the policy wants"


def _starts(artifact: Link, policy: Policy) -> Iterator[Refusal]:
    """Models are to be among the policy's models, all else among its files."""
    models, files = set(policy.chain.models.values()), set(policy.chain.files.values())
    for link in artifact.inputs:
        assert isinstance(link, Link)
        if link.kind != ORIGIN or link.problems:
            continue
        if takes(artifact.kind, link.name) == "model":
            if link.digest not in models:
                yield link.path, "is used as a model, and the policy lists it among the files"
        elif link.digest not in files:
            yield link.path, "is used as a file, and the policy lists it among the models"
    if artifact.kind == "model" and not artifact.inputs and artifact.digest not in models:
        yield (
            artifact.path,
            f"is a model from elsewhere that the policy does not list: sha256 {artifact.digest}",
        )
    if artifact.kind == "generate" and "model" not in {link.name for link in artifact.inputs}:
        backend = (artifact.spec or {}).get("backend")
        server = backend.get("model") if isinstance(backend, Mapping) else None
        if server not in policy.chain.servers:
            yield (
                artifact.path,
                f"has rows of a server's model that the policy does not list: {server!r:.80}",
            )


def _ways(
    link: Link, policy: Policy, passed: frozenset[str], begun: set[tuple[str, frozenset[str]]]
) -> Iterator[Refusal]:
    """`passed`: names of the rules that are between this link and whoever has its rows; `begun`:
    where ways have been, having passed what."""
    if link.spec is None and link.kind != ORIGIN:  # which is refused as it is
        return
    spec = link.spec or {}
    if link.kind == "filter":
        passed |= {name for name, rules in policy.rules.items() if _has(spec, rules)}
    if (link.path, passed) in begun:
        return
    begun.add((link.path, passed))
    before = _rows_of(link) if link.kind not in ("generate", ORIGIN) else []
    for each in before:
        yield from _ways(each, policy, passed, begun)
    if before and not (link.kind == "draw" and spec.get("random")):
        return
    if link.kind not in ("generate", ORIGIN):
        yield link.path, "has rows that are from no model"
    for name in sorted(policy.rules.keys() - passed):
        yield link.path, f"has rows that were not filtered by {name}"


def _has(spec: Mapping[str, Any], rules: Collection[Mapping[str, Any]]) -> bool:
    """Whether all of these rules are among those of a filter."""
    return all(rule in spec.get("rules", ()) for rule in rules)


def _rows_of(link: Link) -> list[Link]:
    """The inputs that a link has its rows from, or was trained on."""
    found = []
    for each in link.inputs:
        assert isinstance(each, Link)
        if takes(link.kind, each.name) == "rows":
            found.append(each)
    return found
