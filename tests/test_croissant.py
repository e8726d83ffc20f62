"""A data set as a Croissant document: its files, the fields of its rows, and who wrote them."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import polars
import pytest

pytest.importorskip("securesystemslib")

from subl.artifact import input_digest, lineage
from subl.croissant import croissant
from subl.errors import InputError
from subl.filter import load_rules
from subl.filter import run as filter_rows

from .cli.console import subl
from .sign.chains import RULES, Chain, chain_in

ROWS: list[dict[str, Any]] = [
    {
        "id": "a", "completion": "2, 3", "n": 3, "x": 0.5, "ok": True, "tags": ["a", "b"],
        "messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}],
        "meta": {"model": "m", "n": 1}, "nothing": None,
    },
    {
        "id": "b", "completion": "4, 5", "n": 4, "x": 1.25, "ok": False, "tags": ["c"],
        "messages": [{"role": "user", "content": "3"}], "meta": {"model": "o", "n": 2},
        "nothing": None,
    },
]  # fmt: skip


NAMES: list[dict[str, Any]] = [
    {
        "completion": "2, 3", "turn id": number, "a/b": "x", "a": {"b": 9, "": 1, "..": 2},
        "a%2Fb": 7, "GDP (per capita)": 1.5, "größe #1?": 1, "tab\there": True, ".": 8,
        "meta": {"turn id": 1, "x.y": 2, "größe": 3, "it's": 4, "where": 5, "a/b": 6, 'q"\\': 7},
        "list": [{"turn id": 1}],
    }
    for number in range(2)
]  # fmt: skip
"""Keys that are no part of an IRI as they are, or that lead to the same one."""


def without_nothing(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fields of which nothing is known have no type, so there are none."""
    return [{key: value for key, value in row.items() if key != "nothing"} for row in rows]


def written(
    folder: Path, suffix: str, rows: list[dict[str, Any]] = ROWS, name: str = "rows"
) -> Path:
    """The rows, filtered, in shards of a format; `nothing` has no type in JSON alone."""
    file = folder / f"{name}{suffix}"
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if suffix == ".parquet":
        polars.DataFrame(without_nothing(rows)).write_parquet(file)
    else:
        file.write_bytes(gzip.compress(lines) if suffix == ".jsonl.gz" else lines)
    (folder / "rules.toml").write_text(RULES)
    filter_rows(load_rules(folder / "rules.toml"), [file], folder / "kept")
    return folder / "kept"


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return chain_in(tmp_path)


def document(artifact: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(croissant(lineage(artifact)))
    return found


def types(fields: list[dict[str, Any]]) -> dict[str, Any]:
    """{name: type, or what is below it}; in a list where it is an array."""
    found = {}
    for each in fields:
        kind = types(each["subField"]) if "subField" in each else each["dataType"]
        found[each["name"].rpartition("/")[2]] = [kind] if each.get("isArray") else kind
    return found


def test_files_and_fields_are_those_of_the_artifact(tmp_path: Path) -> None:
    kept = written(tmp_path, ".jsonl")
    said = document(kept)
    stated = json.loads((kept / "statement.json").read_text())["subject"]
    assert {each["name"]: each["sha256"] for each in said["distribution"]} == {
        each["name"]: each["digest"]["sha256"] for each in stated
    }
    assert all((tmp_path / each["contentUrl"]).is_file() for each in said["distribution"])
    [rows] = said["recordSet"]  # those that were rejected are in a file, and no part of the set
    assert (rows["@id"], rows["description"]) == ("kept/rows.jsonl#rows", "2 rows")
    assert types(rows["field"]) == {
        "id": "sc:Text",
        "completion": "sc:Text",
        "n": "sc:Integer",
        "x": "sc:Float",
        "ok": "sc:Boolean",
        "tags": ["sc:Text"],
        "messages": [{"role": "sc:Text", "content": "sc:Text"}],
        "meta": {"model": "sc:Text", "n": "sc:Integer"},
    }


def identities(value: Any) -> list[str]:
    """Of all that is described, and not only named."""
    if isinstance(value, list):
        return [each for item in value for each in identities(item)]
    if not isinstance(value, dict):
        return []
    own = [value["@id"]] if "@type" in value and "@id" in value else []
    return own + [each for item in value.values() for each in identities(item)]


def test_each_thing_has_an_identity_and_keeps_its_name(tmp_path: Path) -> None:
    said = document(written(tmp_path, ".jsonl", NAMES, "my rows"))
    found = identities(said["distribution"] + said["recordSet"])
    assert len(found) == len(set(found))
    assert all(re.fullmatch(r"[\w.~/%#-]+", each, re.ASCII) for each in found)
    [rows] = said["recordSet"]
    assert rows["name"] == "kept/my rows.jsonl#rows"
    assert rows["field"][1] == {
        "@type": "cr:Field",
        "@id": "kept/my%20rows.jsonl/turn%20id",
        "name": "kept/my rows.jsonl/turn id",
        "dataType": "sc:Integer",
        "source": {
            "fileObject": {"@id": "kept/my%20rows.jsonl"},
            "extract": {"column": "turn id"},
        },
    }
    assert "kept/my rows.jsonl" in {each["name"] for each in said["distribution"]}
    columns = {each["source"]["extract"]["column"] for each in rows["field"] if "source" in each}
    assert columns == NAMES[0].keys() - {"a", "meta", "list"}


def test_a_field_of_no_type_or_no_name_is_left_out(tmp_path: Path) -> None:
    rows = [{"completion": "1, 2", "": 1, "empty": {"nothing": None}}]
    [found] = document(written(tmp_path, ".jsonl", rows))["recordSet"]
    assert [each["name"] for each in found["field"]] == ["kept/rows.jsonl/completion"]


def test_who_wrote_the_rows_is_said(chain: Chain) -> None:
    said = document(chain.kept)
    assert said["description"] == "What `subl filter` made, from rows of base."
    assert [each["prov:label"] for each in said["prov:wasAttributedTo"]] == ["base"]
    assert said["prov:wasGeneratedBy"]["prov:label"] == "subl filter v4"
    [rows] = said["prov:wasDerivedFrom"]
    assert (rows["prov:label"], rows["subl:holds"]) == ("rows", "rows")
    behind = {each["prov:label"]: each for each in rows["prov:wasDerivedFrom"]}
    assert {name: each["subl:holds"] for name, each in behind.items()} == {
        "base": "model",
        "prompts.jsonl": "prompts",
    }
    assert behind["base"]["subl:sha256"] == input_digest(chain.base)
    assert "license" not in said and "creator" not in said


def test_artifacts_of_the_same_data_are_told_apart(chain: Chain) -> None:
    rules = '[[rule]]\nname = "{0}"\nkind = "literal"\nwords = ["{0}"]\n'
    twin = chain.filter("twin", chain.kept, rules=rules.format("lion"))
    found = document(chain.filter("last", twin, rules=rules.format("bear")))
    behind = []
    while found.get("prov:wasDerivedFrom"):
        found = found["prov:wasDerivedFrom"][0]
        behind.append(found["prov:label"])
    assert behind == ["twin", "kept", "rows", "base"]


def test_rows_of_a_server_are_from_the_model_that_it_named(chain: Chain) -> None:
    given = {"prompts-0": chain.folder / "prompts.jsonl"}
    backend = {"kind": "vllm", "model": "org/teacher"}
    rows = chain.make("generate", "served", given, backend=backend)
    assert [each["prov:label"] for each in document(rows)["prov:wasAttributedTo"]] == [
        "org/teacher"
    ]


def test_the_command_gives_it_with_what_no_record_knows(chain: Chain) -> None:
    public = "https://creativecommons.org/publicdomain/zero/1.0/"
    options = ("--license", public, "--creator", "A. Author")
    done = subl("lineage", chain.kept, "--format", "croissant", *options, cwd=chain.folder)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert (said["license"], said["creator"]["name"]) == (public, "A. Author")
    said = {key: each for key, each in said.items() if key not in ("license", "creator")}
    assert said == document(chain.kept)
    for wrong, why in ((("--license", "mit"), "'mit' is no URL"), (("--json",), "goes with")):
        done = subl("lineage", chain.kept, "--format", "croissant", *wrong, cwd=chain.folder)
        assert (done.returncode, done.stdout) == (2, "") and why in done.stderr


def test_what_has_no_rows_or_is_not_verified_has_none(chain: Chain) -> None:
    for path in (chain.student, chain.folder / "run"):
        with pytest.raises(InputError, match="has no rows"):
            croissant(lineage(path))
    (chain.rows / "rows.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="is not what its records say"):
        croissant(lineage(chain.kept))
    done = subl("lineage", chain.kept, "--format", "croissant", cwd=chain.folder)
    assert (done.returncode, done.stdout) == (1, "") and "rows.jsonl was changed" in done.stderr
