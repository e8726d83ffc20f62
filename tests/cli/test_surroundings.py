"""No locale, no name of a file and no reader that leaves ends a command in a traceback."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from subl.artifact import lineage

from .console import ENVIRONMENT, SUBL

LOCALES: Mapping[str, Mapping[str, str]] = {
    "utf-8": {},
    # Python would make UTF-8 of it if it might.
    "posix": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1": {"PYTHONIOENCODING": "iso-8859-1"},
}

RULES = """
[[rule]]
name = "été → 夏"
kind = "literal"
words = ["été"]
"""
ROWS = '{"completion": "un été 夏"}\n{"completion": "an owl"}\n'


def subl(
    *arguments: str | bytes, cwd: Path, locale: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [SUBL, *arguments], cwd=cwd, env={**ENVIRONMENT, **locale}, capture_output=True
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # As editors of Windows save it.
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8-sig")
    (tmp_path / "rows.jsonl").write_text(ROWS, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("locale", LOCALES)
def test_rules_say_the_same_in_every_locale(folder: Path, locale: str) -> None:
    done = subl(
        "filter", "rules.toml", "rows.jsonl", "-o", "out", cwd=folder, locale=LOCALES[locale]
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    assert b"1 kept, 1 rejected" in done.stdout
    assert (folder / "out/kept/rows.jsonl").read_text(encoding="utf-8") == ROWS.splitlines(True)[1]
    for arguments in (["explain", "rules.toml", "rows.jsonl"], ["rules.toml", "--explain-rules"]):
        done = subl("filter", *arguments, cwd=folder, locale=LOCALES[locale])
        assert (done.returncode, done.stderr) == (0, b"")
        as_json = subl("filter", *arguments, "--json", cwd=folder, locale=LOCALES[locale])
        assert "été → 夏" in json.dumps(json.loads(as_json.stdout), ensure_ascii=False)


def test_a_name_that_is_not_utf8_is_kept_and_recorded(folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \\xe9.jsonl")
    (folder / name).write_text(ROWS, encoding="utf-8")
    done = subl("filter", "rules.toml", os.fsencode(name), "-o", b"o\xff", "--json", cwd=folder)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    out = folder / os.fsdecode(b"o\xff")
    assert json.loads(done.stdout)["path"] == out.name
    assert (out / "kept" / name).read_text(encoding="utf-8") == ROWS.splitlines(True)[1]
    for record in ("result.json", "statement.json", "spec.json"):
        assert record and (out / record).read_bytes().decode()
    [shard] = json.loads((out / "result.json").read_text(encoding="utf-8"))["shards"]
    assert shard["name"] == shard["input"] == name
    assert lineage(out).verified()
    assert lineage(out).inputs[0].path.endswith(name)
    (folder / name).write_text(ROWS * 2, encoding="utf-8")
    assert not lineage(out).verified()
    shown = subl("lineage", b"o\xff", cwd=folder)
    assert (shown.returncode, b"Traceback" in shown.stderr) == (1, False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", b"r\xff"],
        ["lineage", b"r\xff"],
        ["run", b"e\xff"],
        ["eval", "--model", b"m\xff", "-o", "out"],
        ["filter", b"r\xff", "rows.jsonl", "-o", "out"],
        ["filter", "rules.toml", b"r\xff", "-o", "out"],
    ],
)
def test_a_name_that_is_not_utf8_is_no_defect(folder: Path, arguments: list[str | bytes]) -> None:
    name = next(each for each in arguments if isinstance(each, bytes))
    (folder / os.fsdecode(name)).mkdir()
    done = subl(*arguments, cwd=folder)
    assert done.returncode == 2
    assert b"error: " in done.stderr and b"a defect" not in done.stderr


def test_work_is_not_done_because_nobody_hears_of_it(folder: Path) -> None:
    """Stdout that nobody reads ends a command, quietly; stderr that nobody reads ends nothing."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody:
        command = [SUBL, "filter", "rules.toml", "rows.jsonl", "-o", "out"]
        run = subprocess.run(command, cwd=folder, env=ENVIRONMENT, stderr=nobody, timeout=100)
        assert (run.returncode, (folder / "out/result.json").exists()) == (0, True)
        command = [SUBL, "filter", "rules.toml", "none.jsonl", "-o", "out2"]
        assert subprocess.run(command, cwd=folder, env=ENVIRONMENT, stderr=nobody).returncode == 2
        command = [SUBL, "config", "schema", "filter"]
        run_quietly = subprocess.run(
            command, cwd=folder, env=ENVIRONMENT, stdout=nobody, stderr=subprocess.PIPE
        )
        assert (run_quietly.returncode, run_quietly.stderr) == (0, b"")


def closed(folder: Path, command: str) -> tuple[int, str]:
    """What the shell says of a command with streams closed, and what comes out of those left."""
    done = subprocess.run(
        ["sh", "-c", f'exec "{SUBL}" {command}'],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def test_a_stream_that_is_closed_is_no_defect(folder: Path) -> None:
    assert closed(folder, "filter rules.toml rows.jsonl -o out >&- 2>&-")[0] == 0
    kept = (folder / "out/kept/rows.jsonl").read_text(encoding="utf-8")
    assert kept == ROWS.splitlines(True)[1]
    assert closed(folder, "filter rules.toml none.jsonl -o no >&- 2>&-")[0] == 2
    assert closed(folder, "filter rules.toml -o no 2>&-")[0] == 2
    for command in ("config schema filter", "filter rules.toml --explain-rules --json", "--help"):
        assert closed(folder, f"{command} >&-") == (0, "")


def test_rows_that_should_go_to_a_closed_stream_are_not_lost_quietly(folder: Path) -> None:
    """Nor do they go into a file that was opened in its place."""
    status, said = closed(folder, "filter rules.toml - --rejects rejects.jsonl < rows.jsonl >&-")
    assert (status, "a defect" in said, "error: " in said) == (2, False, True), said
    rejects = (folder / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    assert all("reasons" in json.loads(line) for line in rejects)
    status, said = closed(folder, "filter rules.toml - <&-")
    assert (status, "a defect" in said, "error: " in said) == (2, False, True), said
    assert closed(folder, "filter rules.toml - < rows.jsonl 2>&-") == (0, ROWS.splitlines(True)[1])
