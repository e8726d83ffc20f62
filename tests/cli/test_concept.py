"""`subl filter concept`: what a person sees and prunes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from .console import subl


def subl_concept(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subl("filter", "concept", *arguments, cwd=cwd)


@pytest.fixture
def folder(tmp_path: Path, bird_model: Path) -> Path:
    shutil.copytree(bird_model, tmp_path / "birds")
    return tmp_path


def test_a_concept_prints_its_tokens_and_why(folder: Path) -> None:
    done = subl_concept("owl", "--model", "birds", "-o", "owl.toml", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "concept: 15/15 words, compared"
    assert done.stdout == (
        "token            ids  similarity        why  inside\n"
        '" owl"           266      1.0000       form       0\n'
        '"owl"            265      1.0000       form       2\n'
        '" Owl"           298      1.0000       form       2\n'
        '"Owl"         54 264           -       form       2\n'
        '" OWL"           299      1.0000       form       0\n'
        '"OWL"         54 279           -       form       0\n'
        '" owls"          295      1.0000       form       0\n'
        '"owls"        265 90           -       form       0\n'
        '" Owls"       298 90           -       form       0\n'
        '"Owls"     54 264 90           -       form       0\n'
        '" OWLS"       299 58           -       form       0\n'
        '"OWLS"     54 279 58           -       form       0\n'
        '"eagle"          277      0.7887  neighbour       0\n'
        '" eagle"         291      0.7887  neighbour       0\n'
        '" owlish"        305      0.6865  neighbour       0\n'
        '" hawk"          303      0.5862  neighbour       0\n'
        "12 forms, 4 neighbours of 15 tokens compared\n"
        "owl.toml\n"
    )


def test_the_rules_file_is_the_same_each_time_and_is_not_overwritten(folder: Path) -> None:
    arguments = ["owl", "--model", "birds", "-o", "owl.toml", "--json"]
    made = json.loads(subl_concept(*arguments, cwd=folder).stdout)
    first = (folder / "owl.toml").read_bytes()
    (folder / "owl.toml").unlink()
    for _ in range(2):
        assert json.loads(subl_concept(*arguments, cwd=folder).stdout) == made
        assert (folder / "owl.toml").read_bytes() == first
    entries = tomllib.loads(first.decode())["rule"][0]["entries"]
    assert [entry["tokens"] for entry in entries] == [each["tokens"] for each in made["entries"]]

    pruned = first.replace(b"  {", b"# {", 1)
    (folder / "owl.toml").write_bytes(pruned)
    done = subl_concept(*arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(
        "error: owl.toml exists and says something else, perhaps pruned by hand\n"
        "hint: choose another output with -o, or delete it\n"
    )
    assert (folder / "owl.toml").read_bytes() == pruned


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "error: a concept needs words, examples or a vector\n"),
        (["owl"], "error: whose vocabulary? give a model or a tokenizer\n"),
        (["owl", "--model", "nothing"], "error: cannot read nothing"),
    ],
)
def test_mistakes(folder: Path, arguments: list[str], says: str) -> None:
    done = subl_concept(*arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_help_has_examples_that_parse(folder: Path) -> None:
    from subl_cli.concept import command

    done = subl_concept("--help", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    examples = re.sub(r"\\\n\s*", "", command.help or "").partition("Examples:")[2]
    lines = re.findall(r"subl filter concept ([^\n]+)", examples)
    assert len(lines) == 3
    import shlex

    for line in lines:
        command.make_context("concept", shlex.split(line))
