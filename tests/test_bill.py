"""A chain as a bill of materials: valid CycloneDX 1.7, and what the chain says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cyclonedx")
pytest.importorskip("securesystemslib")

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from subl.artifact import input_digest, lineage
from subl.bill import cyclonedx
from subl.errors import InputError

from .cli.console import subl
from .sign.chains import Chain, chain_in


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return chain_in(tmp_path)


def bill_of(path: Path) -> dict[str, Any]:
    text = cyclonedx(lineage(path))
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(text) is None
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_bill_has_everything_of_a_chain(chain: Chain) -> None:
    bill = bill_of(chain.student)
    assert bill["specVersion"] == "1.7"
    parts = [bill["metadata"]["component"], *bill["components"]]
    assert {(each["name"], each["type"]) for each in parts} == {
        ("student", "machine-learning-model"),
        ("base", "machine-learning-model"),
        ("kept", "data"),
        ("rows", "data"),
        ("prompts.jsonl", "data"),
    }
    by_reference = {each["bom-ref"]: each["name"] for each in parts}
    depends = {
        by_reference[each["ref"]]: {by_reference[one] for one in each.get("dependsOn", ())}
        for each in bill["dependencies"]
        if each["ref"] in by_reference
    }
    assert depends == {
        "student": {"base", "kept"},
        "kept": {"rows"},
        "rows": {"base", "prompts.jsonl"},
        "base": set(),
        "prompts.jsonl": set(),
    }


def test_artifacts_of_the_same_data_are_told_apart(chain: Chain) -> None:
    """Filters that drop nothing, one after another; others have a component depend on itself
    (syft#4105)."""
    rules = '[[rule]]\nname = "{0}"\nkind = "literal"\nwords = ["{0}"]\n'
    twin = chain.filter("twin", chain.kept, rules=rules.format("lion"))
    last = chain.filter("last", twin, chain.kept, rules=rules.format("bear"))
    assert input_digest(twin) == input_digest(chain.kept)
    bill = bill_of(last)
    parts = [bill["metadata"]["component"], *bill["components"]]
    by_reference = {each["bom-ref"]: each["name"] for each in parts}
    depends = {
        by_reference[each["ref"]]: {by_reference[one] for one in each.get("dependsOn", ())}
        for each in bill["dependencies"]
    }
    assert depends["last"] == {"twin", "kept"} and depends["twin"] == {"kept"}
    assert {each["name"] for each in parts} == {
        "last", "twin", "kept", "rows", "base", "prompts.jsonl"
    }  # fmt: skip


def test_hashes_are_those_of_files_and_digests_of_folders_are_said_to_be_such(chain: Chain) -> None:
    bill = bill_of(chain.student)
    parts = {each["name"]: each for each in bill["components"]}
    said = {each["name"]: each["value"] for each in parts["base"]["properties"]}
    assert said == {"subl:kind": "input", "subl:digest": input_digest(chain.base)}
    assert "hashes" not in parts["base"]
    [hashed] = parts["prompts.jsonl"]["hashes"]
    assert hashed["content"] == input_digest(chain.folder / "prompts.jsonl")
    statement = json.loads((chain.kept / "statement.json").read_text())
    assert {each["name"]: each["hashes"][0]["content"] for each in parts["kept"]["components"]} == {
        each["name"]: each["digest"]["sha256"] for each in statement["subject"]
    }
    said = {each["name"]: each["value"] for each in parts["kept"]["properties"]}
    rules = json.loads(said["subl:parameters"])["rules"]
    assert [rule["name"] for rule in rules] == ["numbers only"]


def test_the_same_chain_gives_the_same_bill(chain: Chain) -> None:
    once = cyclonedx(lineage(chain.student))
    done = subl("lineage", chain.student, "--format", "cyclonedx", cwd=chain.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json.loads(once)
    other = json.loads(cyclonedx(lineage(chain.kept)))
    assert json.loads(once)["serialNumber"] != other["serialNumber"]


def test_a_whole_run_has_a_bill(chain: Chain) -> None:
    bill = bill_of(chain.folder / "run")
    assert bill["metadata"]["component"]["name"] == "run"
    assert {"student", "kept", "rows", "base"} < {each["name"] for each in bill["components"]}


def test_a_chain_that_is_not_verified_has_none(chain: Chain) -> None:
    (chain.kept / "more").write_text("")
    with pytest.raises(InputError, match="is not what its records say"):
        cyclonedx(lineage(chain.student))
    done = subl("lineage", chain.student, "--format", "cyclonedx", cwd=chain.folder)
    assert done.returncode == 1
    assert "more was added" in done.stderr and done.stdout == ""
