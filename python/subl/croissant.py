"""A data set's card for machines: Croissant 1.1 of MLCommons, JSON-LD.

It has the files of an artifact with rows, by SHA-256, the fields of its rows as they are, and in
PROV-O the chain behind them, back to the models that wrote them. Paths are relative to the folder
that the artifact is in: the document goes beside the artifact, which it is no part of. The same
chain gives the same document.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from subl.artifact import LineageNode, json_text
from subl.bill import gives_model, record_of
from subl.errors import InputError
from subl.experiment.kinds import gives_rows, takes
from subl.shards.columns import Kind, read
from subl.shards.format import format_of
from subl.shards.listing import shard_files
from subl.shards.look import look

_VERSION = "http://mlcommons.org/croissant/1.1"

_TERMS = (
    "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field",
    "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset",
    "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated",
    "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
"""Names of the specification that a document may use without a prefix."""

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "subl": "urn:subl:",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS},
}

_TYPES = {
    "string": "sc:Text", "bool": "sc:Boolean", "int": "sc:Integer", "long": "sc:Integer",
    "float": "sc:Float", "number": "sc:Float",
}  # fmt: skip

_ENCODINGS = {
    ".jsonl": "application/jsonlines",
    ".jsonl.gz": ["application/jsonlines", "application/gzip"],
    ".jsonl.zst": ["application/jsonlines", "application/zstd"],
    ".parquet": "application/x-parquet",
}

Json = dict[str, Any]


def croissant(root: LineageNode, licence: str | None = None, creator: str | None = None) -> str:
    """The card of an artifact with rows whose chain `lineage` has verified, as text.

    Args:
        licence: its URL; no record knows it.
        creator: a name, for the same reason.

    Raises:
        InputError: the artifact has no rows, or is not what its records say.
    """
    if not root.verified():
        raise InputError(
            f"{root.path} is not what its records say", hint=f"subl lineage {root.path} says where"
        )
    record = record_of(root)
    if record is None or not gives_rows(root.kind):
        raise InputError(
            f"{root.path} has no rows, and Croissant is for data sets",
            hint="give the artifact of a stage that makes rows, such as subl generate or filter",
        )
    path = Path(root.path)
    name = path.resolve().name
    writers = dict.fromkeys(_writers(root))
    by = f", from rows of {', '.join(map(_shown, writers))}" if writers else ""
    times = record["predicate"]["runDetails"]["metadata"]
    card = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": _shown(name),
        "description": f"What `subl {root.kind}` made{by}.",
        "conformsTo": _VERSION,
        "identifier": _urn(root.identity),
        "dateCreated": times["finishedOn"],
        "license": licence,
        "creator": creator and {"@type": "sc:Person", "name": creator},
        **_provenance(root, {root.identity}),
        "prov:wasAttributedTo": [
            {"@type": "prov:SoftwareAgent", "prov:label": _shown(each)} for each in writers
        ],
        "distribution": [_file(path, name, subject) for subject in record["subject"]],
        "recordSet": [
            each for file in shard_files(path) if (each := _records(path, file)) is not None
        ],
    }
    kept = {key: value for key, value in card.items() if value}
    return json_text(kept, indent=2)


def _writers(node: LineageNode) -> Iterator[str]:
    """The models that the rows are from, as they are called."""
    if node.kind == "generate":
        models = [each for each in node.inputs if takes(node.kind, each.name) == "model"]
        for model in models:
            yield Path(model.path).resolve().name
        record = record_of(node)
        if record is not None and not models:
            backend = record["predicate"]["buildDefinition"]["externalParameters"].get("backend")
            if isinstance(backend, dict) and backend.get("model"):
                yield str(backend["model"])
        return
    for each in node.inputs:
        if takes(node.kind, each.name) == "rows":
            yield from _writers(each)


def _provenance(node: LineageNode, seen: set[str]) -> Json:
    """What made something, and of what; what is behind it once."""
    found: Json = {}
    if (record := record_of(node)) is not None:
        times = record["predicate"]["runDetails"]["metadata"]
        definition = record["predicate"]["buildDefinition"]
        found["prov:wasGeneratedBy"] = {
            "@type": "prov:Activity",
            "prov:label": f"subl {node.kind} v{node.format_version}",
            "prov:startedAtTime": times["startedOn"],
            "prov:endedAtTime": times["finishedOn"],
            "subl:key": definition["internalParameters"]["key"],
            "subl:parameters": json_text(definition["externalParameters"], sort_keys=True),
        }
    if node.inputs:
        found["prov:wasDerivedFrom"] = [_entity(node, each, seen) for each in node.inputs]
    return found


def _entity(reader: LineageNode, node: LineageNode, seen: set[str]) -> Json:
    entity: Json = {"@id": _urn(node.identity)}
    if node.identity in seen:
        return entity
    seen.add(node.identity)
    is_model = takes(reader.kind, node.name) == "model" or gives_model(node)
    return {
        **entity,
        "@type": "prov:Entity",
        "prov:label": _shown(Path(node.path).resolve().name),
        "subl:holds": "model" if is_model else takes(reader.kind, node.name),
        "subl:sha256": node.digest,
        **_provenance(node, seen),
    }


def _urn(identity: str) -> str:
    return f"urn:subl:sha256:{identity}"


def _file(artifact: Path, name: str, subject: Json) -> Json:
    path = artifact / subject["name"]
    rows = "annotations" in subject
    return {
        "@type": "cr:FileObject",
        "@id": _identity(subject["name"], "/"),
        "name": _shown(subject["name"]),
        "contentUrl": f"{_shown(name)}/{_shown(subject['name'])}",
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _ENCODINGS[format_of(path)] if rows else _encoding(path),
        "sha256": subject["digest"]["sha256"],
    }


def _encoding(path: Path) -> str:
    return "application/json" if path.suffix == ".json" else "application/octet-stream"


def _records(artifact: Path, file: Path) -> Json | None:
    """The rows of a file and their fields; None where there are none."""
    name = file.relative_to(artifact).as_posix()
    identity = _identity(name, "/")
    found = look(file)
    if not found["rows"]:
        return None
    fields = [
        each
        for column in found["columns"]
        if (each := _field(identity, _shown(name), (column["name"],), read(column["kind"])))
        is not None
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": f"{identity}#rows",
        "name": f"{_shown(name)}#rows",
        "description": f"{found['rows']} rows",
        "field": fields,
    }


def _field(file: str, name: str, path: tuple[str, ...], kind: Kind) -> Json | None:
    """A field, whose column is the first of `path`; None where that has no name, or its values have
    no one type, as nulls have none.

    Args:
        file: its identity.
        name: of the file, or of the field above.
    """
    name = f"{name}/{_shown(path[-1])}"
    identity = "/".join([file, *map(_identity, path)])
    field: Json = {"@type": "cr:Field", "@id": identity, "name": name}
    lists = 0
    while isinstance(kind, list):
        kind, lists = kind[0], lists + 1
    if lists:
        field |= {"isArray": True, "arrayShape": ",".join(["-1"] * lists)}
    if isinstance(kind, dict):
        below = [_field(file, name, (*path, key), each) for key, each in kind.items()]
        found = [each for each in below if each is not None]
        return {**field, "subField": found} if found else None
    if kind not in _TYPES or not path[0]:
        return None
    source: Json = {"fileObject": {"@id": file}, "extract": {"column": path[0]}}
    if len(path) > 1:
        source["transform"] = {"jsonPath": ".".join(map(_step, path[1:]))}
    return {**field, "dataType": _TYPES[kind], "source": source}


def _step(key: str) -> str:
    """A key in a JSONPath, where `where` is a word of some who read them."""
    plain = key.isascii() and key.isidentifier() and key != "where"
    return key if plain else json_text(key)


def _identity(name: str, plain: str = "") -> str:
    """A name in an `@id`, which is an IRI: another name is another one, and no step upwards."""
    if name in (".", ".."):
        return name.replace(".", "%2E")
    return quote(name, plain, errors="surrogatepass")


def _shown(name: str) -> str:
    """A name, with escapes for what is no text."""
    return json_text(name)[1:-1] if not name.isprintable() else name
