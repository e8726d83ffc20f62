"""`subl shards`: data sets as files and tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subl_cli.inputs import verify_option
from subl_cli.output import (
    Command,
    dry_run_option,
    jobs_option,
    json_option,
    out_option,
    print_artifact,
    print_json,
    print_values,
    printable,
    progress,
    progress_option,
    size,
    table,
)

if TYPE_CHECKING:
    import polars

    from subl.shards.convert import ConvertSpec
    from subl.shards.stats import Column, Stats

_SHOWN = 20
"""So many shards are listed."""


@click.group("shards")
def command() -> None:
    """Data sets: what is in their files, and other files of the same rows.

    DATA are files of JSON lines (.jsonl, .jsonl.gz, .jsonl.zst) or Parquet, folders of them,
    artifacts, manifests (NAME.manifest.parquet) and bins (NAME.bin.json).
    """


def _data_argument(command: Command) -> Command:
    return click.argument(
        "data", nargs=-1, required=True, metavar="DATA...", type=click.Path(path_type=Path)
    )(command)


@command.command("inspect")
@_data_argument
@click.option(
    "-o",
    "--out",
    "manifest",
    type=click.Path(path_type=Path),
    help="NAME.manifest.parquet: keep what is found, and look only at what it does not know.",
)
@jobs_option
@verify_option
@progress_option
@json_option
def inspect_command(
    data: tuple[Path, ...],
    manifest: Path | None,
    jobs: int,
    progress_form: str,
    as_json: bool,
) -> None:
    """Look at every shard of DATA: rows, bytes, digest, ids, columns.

    With -o it becomes a manifest, a Parquet file with a row for each shard, which stands for its
    shards wherever subl takes rows. The same command looks again at files that are new or changed,
    and goes on where an interrupted one was.

    \b
    Examples:
      subl shards inspect data/
      subl shards inspect data/ -o data.manifest.parquet
    """
    import polars

    from subl.shards.manifest import inspect, keep
    from subl.shards.table import read_table

    looked_at = None
    with progress(progress_form) as report:
        if manifest is None:
            found = inspect(data, jobs=jobs, report=report)
        else:
            looked_at = keep(data, manifest, jobs=jobs, report=report)
            found = read_table(manifest)
    sums = found.select(
        polars.len().alias("shards"),
        polars.col("rows", "bytes", "content_bytes", "unreadable").sum(),
    )
    figures: dict[str, Any] = sums.collect().row(0, named=True)
    if as_json:
        figures |= {"manifest": manifest and str(manifest), "looked_at": looked_at}
        if manifest is None:
            hidden = ("lengths", "is_exact", "marks", "modified_ns", "identity")
            figures["each"] = found.drop(hidden).collect().to_dicts()
        print_json(figures)
        return
    click.echo(_shards_text(found, figures["shards"]))
    click.echo(
        f"{figures['shards']:,} shards, {figures['rows']:,} rows, {size(figures['bytes'])} "
        f"({size(figures['content_bytes'])} uncompressed)"
    )
    for path, count, first in _unreadable(found):
        click.echo(f"{printable(path)}: {count:,} rows cannot be read, the first in {first}")
    if manifest is not None:
        rest = figures["shards"] - (looked_at or 0)
        as_before = f", {rest:,} as before" if rest else ""
        click.echo(f"{printable(str(manifest))}: {looked_at:,} looked at{as_before}")


def _shards_text(found: polars.LazyFrame, count: int) -> str:
    shown = found.head(_SHOWN).collect().iter_rows(named=True)
    rows: list[tuple[str, ...]] = [
        (
            each["path"],
            each["format"] if each["compression"] in (None, "none") else each["compression"],
            f"{each['rows']:,}",
            size(each["bytes"]),
            size(each["content_bytes"]),
            each["first_id"] or "",
            str(len(each["columns"])),
            (each["made_by"] or "").partition(":")[0],
        )
        for each in shown
    ]
    if count > _SHOWN:
        rows.append((f"… {count - _SHOWN:,} more", *[""] * 7))
    header = ("shard", "format", "rows", "bytes", "uncompressed", "first id", "columns", "made by")
    return table(rows, header, left=(0, 1))


def _unreadable(found: polars.LazyFrame) -> list[tuple[str, int, str]]:
    import polars

    bad = found.filter(polars.col("unreadable") > 0).head(_SHOWN)
    return bad.select("path", "unreadable", "first_unreadable").collect().rows()


@command.command("stats")
@_data_argument
@jobs_option
@progress_option
@json_option
def stats_command(data: tuple[Path, ...], jobs: int, progress_form: str, as_json: bool) -> None:
    """Say what is in DATA: rows, lengths, columns whose types differ, ids that come twice.

    \b
    Examples:
      subl shards stats data.manifest.parquet
      subl shards stats data/ out/filtered --json
    """
    from dataclasses import asdict

    from subl.shards.stats import stats

    with progress(progress_form) as report:
        found = stats(data, jobs=jobs, report=report)
    if as_json:
        print_json(asdict(found))
        return
    unreadable = f", {found.unreadable:,} of them unreadable" if found.unreadable else ""
    click.echo(
        f"{found.shards:,} shards, {found.rows:,} rows{unreadable}, {size(found.bytes)} "
        f"({size(found.content_bytes)} uncompressed)\n"
    )
    rows = [
        (each.name, " | ".join(each.kinds), f"{each.rows:,}", f"{each.nulls:,}", *_lengths(each))
        for each in found.columns
    ]
    rows.append(("(rows, in bytes)", "", f"{found.rows:,}", "", *_lengths(found)))
    header = ("column", "kind", "rows", "null", "shortest", "median", "95 %", "longest")
    click.echo(table(rows, header, left=(0, 1)))
    for each in found.columns:
        if len(each.kinds) > 1:
            where = (
                f"{kind} in {count:,} ({path}{' …' if count > 1 else ''})"
                for kind, (count, path) in each.kinds.items()
            )
            click.echo(printable(f"{each.name}: {', '.join(where)}"))
    ids = found.ids
    click.echo(
        f"\n{ids.rows:,} rows with an id, {ids.without:,} without; "
        f"{ids.repeated:,} {'id comes' if ids.repeated == 1 else 'ids come'} again, in "
        f"{ids.again:,} rows"
    )
    for name, count, shard, row in ids.examples:
        click.echo(printable(f"  {name}: {count:,} rows, the first is {shard}, row {row}"))


def _lengths(found: Column | Stats) -> tuple[str, ...]:
    of = found.lengths
    return tuple(f"{of[each]:,}" if of else "" for each in (0.0, 0.5, 0.95, 1.0))


@command.command("sample")
@_data_argument
@click.option("-n", "--rows", type=click.IntRange(min=1), required=True, help="How many.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder to make, with the rows in a file of JSON lines  [default: they go to stdout]",
)
@progress_option
@json_option
def sample_command(
    data: tuple[Path, ...],
    rows: int,
    seed: int,
    out: Path | None,
    progress_form: str,
    as_json: bool,
) -> None:
    """Draw rows of DATA, each as likely as any other: exactly so many, the same ones for a seed.

    They come in their order, as lines of JSON. Not everything is read: of Parquet, and of plain
    files in a manifest, what is around the rows that are drawn.

    \b
    Examples:
      subl shards sample data.manifest.parquet -n 5
      subl shards sample data/ -n 10000 --seed 1 -o out/sample
    """
    import sys

    from subl.config import validated
    from subl.shards.sample import SampleSpec, sample, write_sample

    spec = validated(SampleSpec, {"rows": rows, "seed": seed})
    if out is not None:
        with progress(progress_form) as report:
            print_artifact(write_sample(spec, data, out, report=report), as_json)
        return
    is_terminal = sys.stdout.isatty()
    with progress("none" if is_terminal and progress_form == "auto" else progress_form) as report:
        for line in sample(spec, data, report=report):
            text = printable(line.decode(errors="replace")) if is_terminal else line
            click.echo(text)


@command.command("split")
@_data_argument
@out_option
@click.option("--bins", type=click.IntRange(min=1), required=True, help="How many, at most.")
@click.option(
    "--by",
    type=click.Choice(["bytes", "rows"]),
    default="bytes",
    show_default=True,
    help="What bins have about the same of; bytes are uncompressed.",
)
@click.option(
    "--cut", is_flag=True, help="Cut shards that are larger than a bin into ranges of their rows."
)
@jobs_option
@dry_run_option
@progress_option
@json_option
def split_command(
    data: tuple[Path, ...],
    out: Path,
    bins: int,
    by: str,
    cut: bool,
    jobs: int,
    dry_run: bool,
    progress_form: str,
    as_json: bool,
) -> None:
    """Split DATA into bins of about the same size, one for each task of a job array.

    OUT gets a file for each bin, 00000.bin.json and so on, which lists its shards. It stands for
    them wherever subl takes rows. With --cut bins may hold ranges of rows; these go to what reads
    rows (distill, eval, judge, ...) and not to subl filter, which takes whole files.

    \b
    Examples:
      subl shards split data.manifest.parquet --bins 64 -o bins
      subl shards split data/ --bins 16 --by rows --cut -o bins
    """
    from subl.config import validated
    from subl.shards.manifest import inspect
    from subl.shards.split import SplitSpec, bins_of, figures, split

    spec = validated(SplitSpec, {"bins": bins, "by": by, "cut": cut})
    with progress(progress_form) as report:
        if dry_run:
            found = bins_of(spec, inspect(data, jobs=jobs, report=report), ".")
            print_values(figures(spec, found), as_json)
            return
        artifact = split(spec, data, out, jobs=jobs, report=report)
    print_artifact(artifact, as_json)
    if not as_json:
        made = artifact.result
        shown = size if by == "bytes" else "{:,}".format
        click.echo(
            f"{made['bins']:,} bins of {shown(made['smallest'])} to {shown(made['largest'])} "
            f"{'' if by == 'bytes' else 'rows '}in {made['parts']:,} parts, "
            f"{made['rows']:,} rows in all"
        )


_FORMATS = click.Choice(["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])


@command.command("convert")
@_data_argument
@click.option("--to", type=_FORMATS, required=True, help="What is written.")
@out_option
@jobs_option
@dry_run_option
@progress_option
@json_option
def convert_command(
    data: tuple[Path, ...],
    to: str,
    out: Path,
    jobs: int,
    dry_run: bool,
    progress_form: str,
    as_json: bool,
) -> None:
    """Make a file in another format of each shard of DATA.

    Every key of every row is kept, and every number as it is spelled. Lines that stay lines stay as
    they are. The same command goes on where an interrupted one was.

    \b
    Examples:
      subl shards convert data/ --to parquet -o out/tables
      subl shards convert out/tables --to jsonl.zst -o out/lines
    """
    from subl.config import validated
    from subl.shards.convert import ConvertSpec

    spec = validated(ConvertSpec, {"to": to})
    _convert(spec, data, out, jobs, dry_run, progress_form, as_json)


@command.command("merge")
@_data_argument
@click.option("--to", type=_FORMATS, help="What is written  [default: as all of DATA is]")
@out_option
@click.option("--rows", type=click.IntRange(min=1), metavar="N", help="Rows to a file, at most.")
@click.option(
    "--bytes",
    "most_bytes",
    metavar="SIZE",
    help="Bytes to a file, at most, uncompressed  [default: 512MiB, or as --rows says]",
)
@jobs_option
@dry_run_option
@progress_option
@json_option
def merge_command(
    data: tuple[Path, ...],
    to: str | None,
    out: Path,
    rows: int | None,
    most_bytes: str | None,
    jobs: int,
    dry_run: bool,
    progress_form: str,
    as_json: bool,
) -> None:
    """Make few large files of the many small ones of DATA, in their order.

    No shard is cut: one that is larger than a file may be is a file by itself. What is kept is as
    for subl shards convert.

    \b
    Examples:
      subl shards merge data/ -o out/merged
      subl shards merge data/ --to parquet --rows 1000000 -o out/merged
    """
    from subl.config import validated
    from subl.shards.convert import MergeSpec

    if rows is None and most_bytes is None:
        most_bytes = "512MiB"
    to = to or _common_format(data)
    spec = validated(MergeSpec, {"to": to, "rows": rows, "bytes": most_bytes})
    _convert(spec, data, out, jobs, dry_run, progress_form, as_json)


def _common_format(data: tuple[Path, ...]) -> str:
    from subl.shards import format_of, shard_files

    formats = {format_of(file).removeprefix(".") for path in data for file in shard_files(path)}
    if len(formats) > 1:
        raise click.UsageError(f"DATA is {', '.join(sorted(formats))}: say --to what it is merged")
    return formats.pop()


def _convert(
    spec: ConvertSpec,
    data: tuple[Path, ...],
    out: Path,
    jobs: int,
    dry_run: bool,
    progress_form: str,
    as_json: bool,
) -> None:
    from subl.shards.convert import convert, planned
    from subl.shards.manifest import inspect

    with progress(progress_form) as report:
        if dry_run:
            files = planned(spec, inspect(data, jobs=jobs, report=report))
            each = {
                name: {"rows": shards["rows"].sum(), "from": shards["path"].to_list()}
                for name, shards in files.items()
            }
            print_values({"spec": spec.model_dump(mode="json"), "files": each}, as_json)
            return
        artifact = convert(spec, data, out, jobs=jobs, report=report)
    print_artifact(artifact, as_json)
    if not as_json:
        made = artifact.result
        count = len(made["shards"])
        click.echo(f"{count:,} file{'' if count == 1 else 's'}, {made['rows']:,} rows")


@command.command("check")
@_data_argument
@jobs_option
@progress_option
@json_option
def check_command(data: tuple[Path, ...], jobs: int, progress_form: str, as_json: bool) -> None:
    """Read every byte of DATA, and say which shards are not what they should be.

    Shards of a manifest, a bin or an artifact are compared with the digests there; others are to be
    whole, and their rows to be readable. Exit code 1 if something is wrong.

    \b
    Examples:
      subl shards check data.manifest.parquet
      subl shards check out/filtered data/more.jsonl.gz --json
    """
    from subl.shards.check import check

    with progress(progress_form) as report:
        found = check(data, jobs=jobs, report=report)
    if as_json:
        problems = [{"path": str(path), "problem": problem} for path, problem in found.problems]
        print_json({"shards": found.shards, "bytes": found.bytes, "problems": problems})
    else:
        for path, problem in found.problems:
            click.echo(f"{printable(str(path))}: {printable(problem)}")
        wrong = len(found.problems)
        click.echo(f"{found.shards:,} shards, {size(found.bytes)} read: {wrong or 'nothing'} wrong")
    if found.problems:
        raise SystemExit(1)
