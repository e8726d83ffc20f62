"""`subl bench`: speeds on the user's own data and machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from subl_cli.inputs import Shipped
from subl_cli.output import (
    json_option,
    print_json,
    printable,
    progress,
    progress_option,
    size,
    table,
)

if TYPE_CHECKING:
    from subl.filter.bench import FilterBench


@click.group("bench")
def command() -> None:
    """Measure speeds on your data and this machine."""


@command.command("filter")
@click.argument("rules", required=False, type=Shipped("rules"))
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    help="Threads to compare with one  [default: one a core]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    show_default=True,
    help="For each measurement, at most.",
)
@progress_option
@json_option
def filter_command(
    rules: Path | None,
    files: tuple[Path, ...],
    jobs: int | None,
    seconds: float,
    progress_form: str,
    as_json: bool,
) -> None:
    """Measure how fast RULES filter FILES, and what the time goes into.

    The work is begun and broken off when its time is over; what it wrote (in TMPDIR) goes. What a
    rule costs is its time alone, less that of a length rule that nothing breaks; matching is the
    time of all rules less that, while they only count. Reasons are what rejecting adds, and
    decoding (lines, fields, escapes) is what is left. Files that were read before come from memory.
    Without RULES, the number rule and ten words filter 100 MB of made-up number rows.

    \b
    Examples:
      subl bench filter
      subl bench filter rules.toml data/*.jsonl.zst --seconds 10 --json
    """
    import os

    from subl.errors import InputError
    from subl.filter import load_rules
    from subl.filter.bench import bench, example_spec, write_example_rows

    spec = example_spec() if rules is None else load_rules(rules)
    with tempfile.TemporaryDirectory(prefix="subl-bench-") as folder:
        inputs = list(files)
        if rules is not None and not files:
            raise InputError(
                "RULES without FILES", hint="subl bench filter RULES FILES..., or neither"
            )
        if not inputs:
            inputs = [Path(folder) / "numbers.jsonl"]
            write_example_rows(inputs[0])
        with progress(progress_form) as report:
            threads = jobs or os.cpu_count() or 1
            found = bench(spec, inputs, threads=threads, limit_seconds=seconds, report=report)
    if as_json:
        from dataclasses import asdict

        print_json(asdict(found))
    else:
        _print(found)


def _print(found: FilterBench) -> None:
    ratio = found.compression_ratio
    compressed = f", compressed {ratio:.1f} to 1" if ratio > 1.001 else ""
    files = "1 file" if found.files == 1 else f"{found.files} files"
    click.echo(f"{files}, {size(found.file_bytes)}{compressed}")
    rows = [
        (
            f"all rules, {speed.threads} thread{'s' if speed.threads > 1 else ''}",
            f"{speed.bytes_per_second / 1e6:,.0f}",
            f"{speed.rows_per_second:,.0f}",
            f"{100 * speed.kept_share:.1f} %",
        )
        for speed in found.speeds
    ]
    base = found.baseline
    rows.append(
        (
            "baseline: a length rule, 1 thread",
            f"{base.bytes_per_second / 1e6:,.0f}",
            f"{base.rows_per_second:,.0f}",
            f"{100 * base.kept_share:.1f} %",
        )
    )
    click.echo(table(rows, ("", "MB/s", "rows/s", "kept")))
    click.echo("\nSeconds for each uncompressed GB on one thread\n")
    total = sum(found.seconds_per_gigabyte.values())
    parts = [
        (part, f"{seconds:.2f}", f"{100 * seconds / total:.0f} %")
        for part, seconds in found.seconds_per_gigabyte.items()
    ]
    click.echo(table(parts, ("part", "s/GB", "share")))
    click.echo()
    costs = [
        (
            printable(rule.name),
            rule.kind,
            "needs others"
            if rule.seconds_per_gigabyte is None
            else f"{rule.seconds_per_gigabyte:.2f}",
        )
        for rule in found.rules
    ]
    click.echo(table(costs, ("rule, alone and above the baseline", "kind", "s/GB")))
    click.echo(f"\n{printable(found.limit)}")
