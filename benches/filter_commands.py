"""What a person types to filter rows: the shortest command of each tool, as a process.

The idea to know: each of these is a `System` like those of `filter_systems`, so that time runs from
the start of the process to its end, with all imports, records and syncs in it. Peers find out the
columns by themselves, as they do for whoever gives none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filter_systems import program


def subl(rule: dict[str, Any], source: Path, out: Path, cores: int) -> None:
    """What JSON writes of a rule is TOML, too."""
    rules, artifact = out.with_name("rules.toml"), out.with_name("filtered")
    values = (f"{key} = {json.dumps(value)}\n" for key, value in rule.items())
    rules.write_text("[[rule]]\n" + "".join(values))
    options: list[str | Path] = [rules, source, "-o", artifact, "-j", str(cores)]
    start([program("subl"), "filter", *options])
    os.link(artifact / "kept" / source.name, out)


def polars(condition: str, source: Path, out: Path, cores: int) -> None:
    rows = f"pl.scan_ndjson({str(source)!r}).filter({condition}).sink_ndjson({str(out)!r})"
    python(f"import polars as pl; {rows}")


def duckdb(condition: str, source: Path, out: Path, cores: int) -> None:
    query = f"COPY (FROM '{source}' WHERE {condition}) TO '{out}' (FORMAT json)"
    python(f"import duckdb; duckdb.sql({query!r})")


def nothing(source: Path, out: Path, cores: int) -> None:
    """What starting Python takes."""
    python("pass")
    out.touch()


def python(script: str) -> None:
    start([sys.executable, "-c", script])


def start(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {Path(command[0]).name} failed: {done.stderr}")


def jq(name: str, condition: str, source: Path, out: Path, cores: int) -> None:
    """jq, or jaq, which is jq written in Rust."""
    with out.open("wb") as file:
        subprocess.run(
            [program(name), "-c", f"select({condition})", source], stdout=file, check=True
        )


# --- Conditions: that a text is found, or that none is


def polars_found(pattern: str) -> str:
    return f"pl.col('completion').str.contains({pattern!r})"


def polars_union(patterns: Sequence[str]) -> str:
    return "~" + polars_found("(?i)" + "|".join(patterns))


def polars_ascii_union(patterns: Sequence[str]) -> str:
    return polars_union([pattern.replace(r"\b", r"(?-u:\b)") for pattern in patterns])


def polars_each(patterns: Sequence[str]) -> str:
    return f"~pl.any_horizontal([{', '.join(polars_found('(?i)' + each) for each in patterns)}])"


def jq_found(pattern: str) -> str:
    return f".completion | test({json.dumps(pattern)})"


def jq_union(patterns: Sequence[str]) -> str:
    return f'.completion | test({json.dumps("|".join(patterns))}; "i") | not'
