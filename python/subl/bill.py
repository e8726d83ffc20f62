"""A chain as a bill of materials: CycloneDX 1.7, JSON.

Models are components of type `machine-learning-model`, all else of type `data`; each has its files,
with their SHA-256, and depends on what it was made from. What CycloneDX has no field for is in
properties that begin with `subl:`: the digest of a folder, which is no hash of a file, the stage,
its key and its parameters. The same chain gives the same document.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from subl import __version__
from subl.artifact import LineageNode, json_text, read_statement
from subl.errors import InputError
from subl.experiment.kinds import takes
from subl.extras import require
from subl.stages import STAGES

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

_OURS = UUID("c8d0ee70-6c2b-5d4f-8f0f-3a3f5c9b7a10")
"""The space of names of our serial numbers."""


def cyclonedx(root: LineageNode) -> str:
    """The bill of a chain that `lineage` has verified, as text.

    Raises:
        InputError: it is not what its records say.
    """
    require("sign", "cyclonedx", what="a bill of materials")
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    if not root.verified():
        raise InputError(
            f"{root.path} is not what its records say", hint=f"subl lineage {root.path} says where"
        )
    parts = {_reference(node): _component(node, is_model) for node, is_model in _walk(root)}
    subject, *others = parts.values()
    tool = Component(name="subl", version=__version__, type=ComponentType.APPLICATION)
    bill = Bom(
        components=others,
        serial_number=uuid5(_OURS, _reference(root)),
        metadata=BomMetaData(component=subject, timestamp=_finished(root)),
    )
    bill.metadata.tools.components.add(tool)
    for node, _ in _walk(root):
        inputs = {_reference(each): parts[_reference(each)] for each in node.inputs}
        bill.register_dependency(parts[_reference(node)], inputs.values())
    outputter = make_outputter(bill, OutputFormat.JSON, SchemaVersion.V1_7)
    return outputter.output_as_string(indent=2)


def _walk(root: LineageNode) -> Iterator[tuple[LineageNode, bool]]:
    """Each thing of a chain once, `root` first, and whether it is a model."""
    seen: set[str] = set()

    def walk(node: LineageNode, is_model: bool) -> Iterator[tuple[LineageNode, bool]]:
        if _reference(node) in seen:
            return
        seen.add(_reference(node))
        yield node, is_model
        for each in node.inputs:
            given = takes(node.kind, each.name) == "model"
            yield from walk(each, given or gives_model(each))

    yield from walk(root, gives_model(root))


def gives_model(node: LineageNode) -> bool:
    """Whether something is the artifact of a stage that makes models."""
    return node.kind in STAGES and STAGES[node.kind].gives == "model"


def _reference(node: LineageNode) -> str:
    return f"{node.kind}:{node.identity}"


def _finished(node: LineageNode) -> datetime:
    """When the newest of a chain was made."""
    times = [datetime.min.replace(tzinfo=UTC)]
    for each, _ in _walk(node):
        if (record := record_of(each)) is not None:
            metadata = record["predicate"]["runDetails"]["metadata"]
            times.append(datetime.fromisoformat(metadata["finishedOn"]))
    return max(times)


def record_of(node: LineageNode) -> dict[str, Any] | None:
    """The statement of an artifact; None of what no stage made."""
    return read_statement(Path(node.path)) if node.format_version is not None else None


def _component(node: LineageNode, is_model: bool) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType

    def hashed(digest: str) -> list[HashType]:
        return [HashType(alg=HashAlgorithm.SHA_256, content=digest)]

    said = {"kind": node.kind, "digest": node.digest}
    files: list[Component] = []
    if (record := record_of(node)) is not None:
        definition = record["predicate"]["buildDefinition"]
        said["key"] = definition["internalParameters"]["key"]
        said["format_version"] = str(node.format_version)
        said["parameters"] = json_text(definition["externalParameters"], sort_keys=True)
        files = [
            Component(
                name=_text(subject["name"]),
                type=ComponentType.FILE,
                bom_ref=f"{_reference(node)}/{_text(subject['name'])}",
                hashes=hashed(subject["digest"]["sha256"]),
            )
            for subject in record["subject"]
        ]
    return Component(
        name=_text(Path(node.path).resolve().name),
        type=ComponentType.MACHINE_LEARNING_MODEL if is_model else ComponentType.DATA,
        bom_ref=_reference(node),
        hashes=hashed(node.digest) if Path(node.path).is_file() else (),
        components=files,
        properties=[Property(name=f"subl:{name}", value=each) for name, each in said.items()],
    )


def _text(name: str) -> str:
    """The name of a file, with escapes for bytes that are no UTF-8."""
    return json_text(name)[1:-1] if not name.isprintable() else name
