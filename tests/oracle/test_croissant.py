"""A data set's Croissant document as MLCommons' own library reads it, down to the rows.

It brings dozens of packages, so it is in an environment of its own (tests/oracle/croissant.txt;
`make adapters` makes it), whose interpreter is SUBL_CROISSANT_PYTHON or `.venv-croissant`.
Without it these tests are skipped, unless SUBL_REQUIRE_CROISSANT is set.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from subl.artifact import lineage
from subl.croissant import croissant

from ..sign.chains import Chain, chain_in
from ..test_croissant import NAMES, ROWS, without_nothing, written

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("SUBL_CROISSANT_PYTHON", ROOT / ".venv-croissant/bin/python"))

READ = """
import json, sys
import mlcroissant
data = mlcroissant.Dataset(jsonld=sys.argv[1])
issues = data.metadata.ctx.issues
rows = {each.id: list(data.records(each.id)) for each in data.metadata.record_sets}
said = {"errors": sorted(issues.errors), "warnings": sorted(issues.warnings), "rows": rows}
print(json.dumps(said, default=bytes.decode))
"""


@pytest.fixture(autouse=True)
def is_there() -> None:
    if not PYTHON.exists() and not os.environ.get("SUBL_REQUIRE_CROISSANT"):
        pytest.skip(f"no mlcroissant: no {PYTHON}")


def read(artifact: Path, licence: str | None = None, creator: str | None = None) -> Any:
    document = artifact.parent / "card.json"
    document.write_text(croissant(lineage(artifact), licence, creator))
    done = subprocess.run(
        [PYTHON, "-c", READ, document], capture_output=True, encoding="utf-8", check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_rows_are_read_as_they_are(tmp_path: Path, suffix: str) -> None:
    kept = written(tmp_path, suffix)
    found = read(kept, "https://spdx.org/licenses/CC0-1.0", "A. Author")
    assert found["errors"] == []
    missing = ["citeAs", "datePublished", "version"]
    assert len(found["warnings"]) == 3, found["warnings"]
    assert all(name in each for name, each in zip(missing, found["warnings"], strict=True))
    [(name, rows)] = found["rows"].items()
    assert name == f"kept/rows{suffix}#rows"
    assert [plain(row, name.removesuffix("#rows")) for row in rows] == without_nothing(ROWS)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_are_read_whatever_their_keys_are_called(tmp_path: Path, suffix: str) -> None:
    found = read(written(tmp_path, suffix, NAMES, "my rows"))
    assert found["errors"] == []
    [(name, rows)] = found["rows"].items()
    assert name == f"kept/my%20rows{suffix}#rows"
    assert [plain(row, name.removesuffix("#rows")) for row in rows] == NAMES


def test_a_chain_has_a_document_that_is_valid(tmp_path: Path) -> None:
    chain: Chain = chain_in(tmp_path)
    found = read(chain.kept)
    assert found["errors"] == []
    [rows] = found["rows"].values()
    assert [row["kept/rows.jsonl/of"] for row in rows] == ["rows"]


def plain(value: Any, above: str) -> Any:
    """A record without the prefixes of its fields' names."""
    if isinstance(value, list):
        return [plain(each, above) for each in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, each in value.items():
        *within, last = map(unquote, name.removeprefix(f"{above}/").split("/"))
        place = found
        for part in within:
            place = place.setdefault(part, {})
        place[last] = plain(each, name)
    return found
