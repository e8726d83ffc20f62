"""What the documentation says that the code knows is what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
from pydantic import BaseModel, Field

from subl.config import load_toml
from subl.experiment.kinds import KINDS

from .scripts import script

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return script("reference")


def test_the_reference_is_that_of_the_code(reference: ModuleType) -> None:
    committed = {
        file.relative_to(DOCS).as_posix(): file.read_text(encoding="utf-8")
        for folder in ("reference", "schema")
        for file in (DOCS / folder).iterdir()
    }
    pages = reference.pages()
    differ = {name for name in committed | pages if committed.get(name) != pages.get(name)}
    assert not differ, f"out of date: {sorted(differ)}; run: python docs/reference.py"
    assert {f"schema/{kind}.json" for kind in KINDS} < set(pages)


def test_the_files_that_commands_show_load(reference: ModuleType, tmp_path: Path) -> None:
    commands = dict(reference.leaves(reference.subl, []))
    for kind, model in KINDS.items():
        files = reference.examples_of(kind, commands)
        assert files, kind
        for text in files:
            (tmp_path / "file.toml").write_text(text)
            load_toml(tmp_path / "file.toml", model)


def test_a_key_without_a_meaning_is_refused(reference: ModuleType) -> None:
    class Said(BaseModel):
        """A table."""

        rows: int = Field(3, gt=0, description="how many | in all")

    class Unsaid(Said):
        """A table."""

        seed: int = 0

    page = reference.kind_page("said", Said.model_json_schema(), ["rows = 3"], {})
    assert "| `rows` | integer > 0 | `3` | how many \\| in all |" in page
    with pytest.raises(SystemExit, match="`seed` in Unsaid has no meaning"):
        reference.kind_page("unsaid", Unsaid.model_json_schema(), [], {})


def test_every_option_of_a_command_is_on_its_page(reference: ModuleType) -> None:
    found = dict(reference.leaves(reference.subl, []))
    assert {"run", "config show", "filter", "filter diff"} <= set(found)
    for name, command in found.items():
        page = reference.command_page(name, command)
        for param in command.params:
            if isinstance(param, click.Option):
                assert all(option in page for option in param.opts), (name, param.opts)


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(
        [*command, "--site-dir", tmp_path / "site"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        # Links may lead away; what a page loads is its own.
        loaded = re.findall(
            r'<(?:script|img|link)[^>]* (?:src|href)="(https?:[^"]+)', page.read_text("utf-8")
        )
        assert not [each for each in loaded if "canonical" not in each], page
