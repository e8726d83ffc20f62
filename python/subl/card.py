"""A model's card as hubs show it: what the model's own card says, the chain behind it, and what the
weights say of that chain.

The card that a stage leaves in an artifact is one of its files, and is there before anybody has
verified anything; this one is written by who publishes the model, of a chain that is verified.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subl.artifact import LineageNode
from subl.artifact.lineage import quoted
from subl.bill import gives_model, record_of
from subl.distill.card import inline
from subl.errors import InputError
from subl.extras import require
from subl.model.load import ADAPTER

if TYPE_CHECKING:
    from subl.audit.kin import Claim

_METADATA = re.compile(r"\A---[ \t]*\r?\n.*?^---[ \t]*\r?$\n?", re.DOTALL | re.MULTILINE)
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def model_card(
    root: LineageNode,
    claims: Sequence[Claim] | None = None,
    licence: str | None = None,
) -> str:
    """The card of a model whose chain `lineage` has verified, in Markdown with metadata.

    Args:
        claims: what `declared` found; None where nobody has asked.
        licence: an identifier of the hub's, such as apache-2.0; no record knows it.

    Raises:
        InputError: it is no model, or not what its records say.
    """
    require("distill", "huggingface_hub", what="a model card")
    from huggingface_hub import ModelCardData

    if not root.verified():
        raise InputError(
            f"{root.path} is not what its records say", hint=f"subl lineage {root.path} says where"
        )
    if not gives_model(root):
        raise InputError(
            f"{root.path} is no model", hint="give what subl distill, teach or recast made"
        )
    path = Path(root.path)
    own = path / "README.md"
    # Its metadata, which need not be any that a hub takes, is not handed on.
    body = _METADATA.sub("", own.read_text(encoding="utf-8")).strip() if own.is_file() else ""
    bases = sorted(set(_hub_bases(root)))
    is_adapter = (path / ADAPTER).is_dir()
    data = ModelCardData(
        library_name="peft" if is_adapter else "transformers",
        tags=["subl", root.kind],
        license=licence,
        base_model=bases or None,
        base_model_relation=("adapter" if is_adapter else "finetune") if bases else None,
    )
    parts = [body or f"# {inline(path.resolve().name)}", _chain(root)]
    if claims is not None:
        parts.append(_kinship(claims))
    return "\n\n".join([f"---\n{data.to_yaml()}\n---", *parts]) + "\n"


def _hub_bases(root: LineageNode) -> Iterator[str]:
    """Names on a hub of the models that a chain of weights began from."""
    record = record_of(root)
    if root.kind == "model" and record is not None:
        source = record["predicate"]["buildDefinition"]["externalParameters"].get("source")
        if isinstance(source, str) and _HUB_NAME.fullmatch(source):
            yield source
    for each in root.inputs:
        if each.name == "model":
            yield from _hub_bases(each)


def _chain(root: LineageNode) -> str:
    lines = [
        "## Made from",
        "",
        "`subl lineage` has read every file of this chain, and found it as the records say.",
        "",
        "| | made by | sha256 |",
        "|---|---|---|",
    ]
    seen: set[tuple[str, str]] = set()
    prompts: list[str] = []
    for node in root.nodes():
        if (node.path, node.digest) in seen:
            continue
        seen.add((node.path, node.digest))
        by = "–" if node.format_version is None else f"subl {node.kind} v{node.format_version}"
        name = inline(Path(node.path).resolve().name)
        lines.append(f"| {name} | {by} | `{node.digest}` |")
        if node.prompt is not None:
            prompts.append(f"{name}: behind the system prompt {inline(quoted(node.prompt))}.")
    lines += [f"\n{each}" for each in prompts]
    return "\n".join(lines)


def _kinship(claims: Sequence[Claim]) -> str:
    if not claims:
        return "## Weights\n\nNo model in this chain is said to begin from another."
    lines = [
        "## Weights",
        "",
        f"{_compared(claims)} Hidden traits pass most readily between models that share weights.",
        "",
        "| model | said to begin from | finding | log10 p |",
        "|---|---|---|--:|",
    ]
    for each in claims:
        child, parent = (inline(Path(path).resolve().name) for path in (each.child, each.parent))
        found = each.kinship.to_json()["log10_p"] if each.kinship else None
        said = f"{parent} (drawn anew)" if each.is_drawn else parent
        p = "–" if found is None else f"{found:.1f}"
        lines.append(f"| {child} | {said} | {each.finding}: {_plain(each.reason)} | {p} |")
    return "\n".join(lines)


def _compared(claims: Sequence[Claim]) -> str:
    """Whether weights were read: those of an adapter on its very base need not be."""
    count = sum(each.kinship is not None for each in claims)
    if count == len(claims):
        return (
            "`subl kin` has compared the weights of each model with those that it is said to begin "
            "from."
        )
    if not count:
        return "No weights were compared; each finding says why."
    return (
        f"`subl kin` has compared the weights of {count} of {len(claims)} models with those that "
        "they are said to begin from; each other finding says why not."
    )


def _plain(text: str) -> str:
    """A sentence in a cell of a table, in which a path may be."""
    return inline(text) if re.search(r"[^\w ,.;:()'-]", text) else text
