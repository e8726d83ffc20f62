"""`subl shards` as a person sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .console import subl

HOSTILE = '{"id": "\\u001b]0;owned", "text": "\x9b31m \u202e"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    for name, numbers in (("a", range(60)), ("b", range(60, 90))):
        rows = (f'{{"id": "{number}", "n": {number}}}\n' for number in numbers)
        (data / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
    return tmp_path


def called(folder: Path, *arguments: str, code: int = 0) -> str:
    done = subl("shards", *arguments, "--progress", "none", cwd=folder)
    assert done.returncode == code, done.stderr
    assert not done.stderr
    return done.stdout


def test_a_data_set_from_its_manifest_to_its_bins(folder: Path) -> None:
    assert called(folder, "inspect", "data", "-o", "all.manifest.parquet") == (
        "shard         format  rows   bytes  uncompressed  first id  columns  made by\n"
        "data/a.jsonl  jsonl     60  1.3 kB        1.3 kB         0        2\n"
        "data/b.jsonl  jsonl     30   660 B         660 B        60        2\n"
        "2 shards, 90 rows, 1.96 kB (1.96 kB uncompressed)\n"
        "all.manifest.parquet: 2 looked at\n"
    )
    found = json.loads(called(folder, "inspect", "data", "--json"))
    assert (found["shards"], found["rows"], found["looked_at"]) == (2, 90, None)
    assert [each["columns"][1]["kind"] for each in found["each"]] == ["int", "int"]
    text = called(folder, "stats", "all.manifest.parquet")
    assert "n                 int       90     0" in text
    assert "90 rows with an id, 0 without; 0 ids come again, in 0 rows" in text
    plan = ["split", "all.manifest.parquet", "--bins", "2", "--by", "rows", "-o", "bins"]
    shown = json.loads(called(folder, *plan, "--dry-run", "--json"))
    assert (shown["bins"], shown["largest"]) == (2, 60) and not (folder / "bins").exists()
    assert "2 bins of 30 to 60 rows in 2 parts, 90 rows in all" in called(folder, *plan)
    assert called(folder, "sample", "bins/00001.bin.json", "-n", "30") == (
        (folder / "data/b.jsonl").read_text(encoding="utf-8")
    )
    made = json.loads(called(folder, "sample", "data", "-n", "9", "-o", "some", "--json"))
    assert made["kind"] == "sample" and made["result"]["rows"] == 9


def test_other_files(folder: Path) -> None:
    arguments = ["convert", "data", "--to", "parquet", "-o", "tables"]
    plan = json.loads(called(folder, *arguments, "--dry-run", "--json"))
    assert plan["files"]["a.parquet"] == {"rows": 60, "from": ["data/a.jsonl"]}
    assert called(folder, *arguments).endswith("\n2 files, 90 rows\n")
    assert called(folder, "merge", "tables", "-o", "table").endswith("\n1 file, 90 rows\n")
    assert (folder / "table/part-00000.parquet").exists()
    called(folder, "convert", "table", "--to", "jsonl", "-o", "lines")
    whole = [(folder / f"data/{name}.jsonl").read_text(encoding="utf-8") for name in "ab"]
    lines = (folder / "lines/part-00000.jsonl").read_text(encoding="utf-8")
    assert lines == "".join(whole).replace(": ", ":").replace(", ", ",")
    done = subl("shards", "merge", "tables", "data", "-o", "all", cwd=folder)
    assert done.returncode == 2 and "say --to what it is merged" in done.stderr


def test_what_is_wrong_is_said_and_is_the_exit_code(folder: Path) -> None:
    called(folder, "inspect", "data", "-o", "all.manifest.parquet")
    assert called(folder, "check", "all.manifest.parquet").endswith("nothing wrong\n")
    (folder / "data/b.jsonl").write_text("{\n", encoding="utf-8")
    text = called(folder, "check", "all.manifest.parquet", code=1)
    assert text.startswith("data/b.jsonl: data/b.jsonl has 1 rows, and is said to have 30\n")
    found = json.loads(called(folder, "check", "data", "--json", code=1))
    assert found["problems"][0]["path"] == "data/b.jsonl"
    done = subl("shards", "sample", "all.manifest.parquet", "-n", "3", cwd=folder)
    assert done.returncode == 2
    assert "data/b.jsonl has changed since its manifest was made" in done.stderr
    assert "hint: subl shards inspect DATA -o NAME.manifest.parquet" in done.stderr


def test_what_models_wrote_does_not_reach_the_terminal(folder: Path) -> None:
    (folder / "data/c.jsonl").write_text(HOSTILE * 2, encoding="utf-8")
    for arguments in (["inspect", "data"], ["stats", "data"], ["inspect", "data", "--json"]):
        text = called(folder, *arguments)
        assert "owned" in text
        assert all(line.isprintable() for line in text.splitlines())
