"""Filter rows on their way from one process to the next: stdin to stdout.

    zcat rows.jsonl.gz | subl filter rules.toml - | subl ... -

Rows are lines of JSON, plain or compressed, and go on as they come. There is no artifact: what was
written before a failure is written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import subl_core

from subl.errors import InputError, OutputError
from subl.filter.run import summarise
from subl.filter.spec import FilterSpec
from subl.progress import Progress, Report, silent

STREAM = Path("-")


def filter_stream(
    spec: FilterSpec, *, rejects: Path | None = None, jobs: int = 1, report: Report = silent
) -> dict[str, Any]:
    """Filter the rows of stdin. Those that no rule drops go to stdout, the others to `rejects`.

    Returns:
        The figures of a run, as `result.json` has them, without shards.

    Raises:
        BrokenPipeError: nobody reads stdout any more.
        InputError: stdin is truncated, corrupt or no JSON lines, or rules compare rows.
        OutputError: rows cannot be written.
    """
    plan = spec.plan()
    if plan.comparisons:
        rule = next(rule for rule in spec.rules if rule.kind == "duplicate")
        raise InputError(
            f"rule `{rule.name}` ({rule.kind}) compares all rows before any is kept, and stdin can "
            "be read once",
            hint="write the rows to a file, and filter that with -o",
        )

    def progress(bytes_read: int, rows: int, kept: int, _skipped: int) -> None:
        figures = {"rows": rows, "kept": kept}
        report(Progress("filter", bytes_read, None, "bytes", f"{rows:,} rows", figures))

    try:
        text = subl_core.filter_stream(plan, rejects=rejects, threads=jobs, progress=progress)
    except subl_core.WriteError as error:
        raise OutputError(str(error)) from error
    except subl_core.FormatError as error:
        raise InputError(
            str(error), hint="stdin takes JSON lines: plain, gzip or zstandard"
        ) from error
    except subl_core.FilterError as error:
        raise InputError(str(error)) from error
    figures = summarise(spec, {"-": STREAM}, {"-": json.loads(text)})
    del figures["shards"]
    return figures
