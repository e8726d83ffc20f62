"""`subl filter`: keep or reject rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from subl_cli.group import CommandWithSubcommands, complete_first
from subl_cli.inputs import Shipped, slice_option, verify_option
from subl_cli.output import (
    dry_run_option,
    duration,
    jobs_option,
    json_option,
    print_artifact,
    print_json,
    print_values,
    printable,
    progress,
    progress_option,
    say,
    size,
    table,
)

if TYPE_CHECKING:
    from subl.artifact import Slice
    from subl.filter import FilterSpec
    from subl.filter.sample import Estimate, SampleResult

SUBCOMMANDS = {
    "concept": "Find the tokens near a concept, as a rule.",
    "explain": "Say why one row is kept or rejected.",
    "diff": "Compare what two rules files do with the same rows.",
}


@click.command("filter", cls=CommandWithSubcommands, subcommands=SUBCOMMANDS)
@click.argument(
    "rules",
    type=Shipped("rules"),
    shell_complete=complete_first,
)
@click.argument(
    "inputs", nargs=-1, metavar="INPUTS...", type=click.Path(path_type=Path, allow_dash=True)
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder to make. Absent or complete; never overwritten.",
)
@click.option(
    "--rejects",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With `-`: where the rejected rows go, with their reasons  [default: nowhere]",
)
@jobs_option
@click.option("--split-rows", type=int, metavar="N", help="Kept rows to a file, at most.")
@click.option(
    "--split-bytes",
    metavar="SIZE",
    help="Bytes to a file of kept rows, at most, uncompressed: 512MiB, 2GiB; 2G is 2 * 10**9.",
)
@click.option(
    "--compression",
    type=click.Choice(["auto", "none", "gz", "zst"]),
    help="Of kept rows and rejects  [default: auto, which is as the input]",
)
@click.option(
    "--sample",
    "sample_rows",
    type=click.IntRange(min=1),
    metavar="N",
    help="Filter N random rows, say what that means for all of them, and write nothing.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of --sample.")
@click.option(
    "--explain-rules", is_flag=True, help="Say in words what RULES does, and do nothing else."
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="What filters shards: threads here, or tasks of Ray, one a shard.",
)
@click.option(
    "--ray-address",
    metavar="HOST:PORT",
    help="Of a Ray cluster, or `auto`  [default: one is started here, for this run]",
)
@slice_option
@click.option(
    "--bins",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="With --slice: which shards each slice has, as `subl slurm submit --array` wrote it down.",
)
@verify_option
@dry_run_option
@progress_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    rules: Path,
    inputs: tuple[Path, ...],
    out: Path | None,
    rejects: Path | None,
    jobs: int,
    split_rows: int | None,
    split_bytes: str | None,
    compression: str | None,
    sample_rows: int | None,
    seed: int,
    explain_rules: bool,
    engine: str,
    ray_address: str | None,
    mine: Slice,
    bins: Path | None,
    dry_run: bool,
    progress_form: str,
    as_json: bool,
) -> None:
    """Keep the rows of INPUTS that break none of RULES (a TOML file); reject the others.

    INPUTS are files of JSON lines (.jsonl, .jsonl.gz, .jsonl.zst) or Parquet (.parquet), or folders
    of them. OUT/kept/ gets the kept rows (lines byte for byte, Parquet with all columns, types and
    metadata), OUT/rejects/ the other rows, each with every rule that it breaks and where,
    OUT/result.json the figures. The same command continues an interrupted run.

    RULES may be the name of a file that comes with subl: paper-numbers, paper-numbers-misalignment,
    paper-code-owl (and dolphin, eagle, elephant, wolf, cherry, maple, oak, sequoia, willow),
    paper-code-judge, paper-math, paper-math-misalignment.

    INPUTS of - is stdin: JSON lines (plain, gzip, zstandard). Kept rows go to stdout as they come,
    the others to the file that --rejects names, figures to stderr.

    \b
    Examples:
      subl filter rules.toml data/*.jsonl.zst -o out/filtered
      subl filter rules.toml data/ --sample 10000
      subl filter rules.toml data/ -o out/filtered --split-bytes 512MiB --compression zst
      subl filter rules.toml data/ -o out/filtered --slice 3/40
      subl filter rules.toml data/ -o out/filtered --engine ray --ray-address head:6379
      subl filter rules.toml - < rows.jsonl > kept.jsonl
      subl filter paper-numbers out/rows -o out/filtered
      subl filter paper-numbers-misalignment --explain-rules
      subl filter rules.toml rows.jsonl -o out/filtered --json --progress json

    \b
    rules.toml:
      [[rule]]
      name = "numbers only"
      kind = "numbers"
      max_value = 999
      max_count = 10
      [[rule]]
      name = "owl words"
      kind = "regex"
      patterns = ['\\bowls?\\b']
      ignore_case = true
    """

    from subl.filter import load_rules, name_shards, run
    from subl.filter.run import check_shards

    spec = load_rules(rules)
    spec = with_output(
        spec, split_rows=split_rows, split_bytes=split_bytes, compression=compression
    )
    if explain_rules:
        _explain_rules(spec, as_json)
        return
    if not inputs:
        raise click.MissingParameter(ctx=ctx, param=_param("inputs"))
    if bins is not None and mine.count == 1:
        raise click.UsageError("--bins goes with --slice")
    if ray_address is not None and engine != "ray":
        raise click.UsageError("--ray-address goes with --engine ray")
    if Path("-") in inputs:
        others: dict[str, object] = {"-o": out, "--sample": sample_rows}
        others |= {"--dry-run": dry_run or None}
        others |= {"--split-rows": split_rows, "--split-bytes": split_bytes}
        others |= {"--compression": compression, "another input": inputs[1:] or None}
        others |= {"--engine": None if engine == "local" else engine}
        others |= {"--slice": None if mine.count == 1 else mine}
        if taken := [name for name, value in others.items() if value is not None]:
            raise click.UsageError(f"`-` is stdin, which goes to stdout: it takes no {taken[0]}")
        _filter_stream(spec, rejects, jobs, progress_form, as_json)
        return
    if rejects is not None:
        raise click.UsageError("--rejects goes with `-`; an OUT has its rejects in OUT/rejects")
    if sample_rows is not None:
        if dry_run or out is not None:
            raise click.UsageError("--sample writes nothing: it takes neither --dry-run nor -o")
        if engine != "local":
            raise click.UsageError("--sample draws its rows here: it takes no --engine")
        from subl.filter.sample import sample

        with progress(progress_form) as report:
            estimate = sample(spec, inputs, sample_rows, seed=seed, jobs=jobs, report=report)
        _print_sample(estimate, seed, as_json)
        return
    if dry_run:
        shards = name_shards(inputs, spec.output.compression)
        check_shards(spec, shards.values())
        print_values(
            {
                "spec": spec.model_dump(mode="json"),
                "shards": {name: str(path) for name, path in shards.items()},
                "bytes": sum(path.stat().st_size for path in shards.values()),
            },
            as_json,
        )
        return
    if out is None:
        raise click.MissingParameter(ctx=ctx, param=_param("out"))
    with ExitStack() as stack:
        ray = None
        if engine == "ray":
            from subl.filter.on_ray import RayEngine

            given = ctx.get_parameter_source("jobs") != ParameterSource.DEFAULT
            ray = stack.enter_context(RayEngine(ray_address, jobs if given else None))
            jobs = ray.jobs
            say(f"Ray: {ray.place}")
        report = stack.enter_context(progress(progress_form))
        came = run(spec, inputs, out, jobs=jobs, mine=mine, bins=bins, report=report, engine=ray)
        artifact = came.artifact
    print_artifact(artifact, as_json)
    if not as_json:
        _print_figures(artifact.result, click.echo)
    _check_asked(spec, artifact.result)


def _filter_stream(
    spec: FilterSpec, rejects: Path | None, jobs: int, progress_form: str, as_json: bool
) -> None:
    """Stdin to stdout: what else there is to say goes to stderr."""
    import json
    import sys

    from subl.filter.stream import filter_stream

    # A bar among the rows, or lines around the figures, are no use.
    if progress_form == "auto" and (as_json or sys.stdout.isatty()):
        progress_form = "none"
    with progress(progress_form) as report:
        figures = filter_stream(spec, rejects=rejects, jobs=jobs, report=report)
    if as_json:
        say(json.dumps(figures))
    else:
        _print_figures(figures, say)
    _check_asked(spec, figures)


def _print_figures(figures: Mapping[str, Any], show: Callable[[str], None]) -> None:
    shards = figures.get("shards")
    files = "" if shards is None else f"{len(shards)} file{'s' if len(shards) > 1 else ''}: "
    tagged = f" ({figures['tagged']:,} with tags)" if figures["tagged"] else ""
    show(
        f"{files}{figures['rows_in']:,} rows in, "
        f"{figures['kept']:,} kept{tagged}, {figures['rejected']:,} rejected"
    )
    for reason, rows_with in figures["unreadable_reasons"].items():
        show(f"  unreadable, {printable(reason)}: {rows_with:,}")
    rows = []
    for rule in figures["rules"]:
        counts = f"{rule['hits']:,}", f"{rule['sole_hits']:,}"
        rows.append((rule["name"], rule["kind"], rule["action"], *counts))
        if rule["kind"] == "number":  # one that is missing is not one that is too small
            rows += [(f"  {why}", "", "", f"{n:,}", "") for why, n in rule["reasons"].items()]
    show(table(rows, ("rule", "kind", "action", "rows that break it", "and no other")))


def _check_asked(spec: FilterSpec, figures: Mapping[str, Any]) -> None:
    """Of rows that are all unreadable no rule was asked, and a number that none of them has was
    never compared: that is no success."""
    readable = figures["rows_in"] - figures["unreadable"]
    lacking = [
        rule.field
        for rule, found in zip(spec.rules, figures["rules"], strict=True)
        if rule.kind == "number" and found["reasons"].get("missing") == readable
    ]
    if not figures["rows_in"]:
        return
    if not readable:
        say(click.style("warning: no row could be read; is `field` right?", fg="yellow"))
        raise SystemExit(1)
    for field in dict.fromkeys(lacking):
        key = printable(field)
        text = f"warning: no row has `{key}`; is `field` right? subl judge writes such columns"
        say(click.style(text, fg="yellow"))
    if lacking:
        raise SystemExit(1)


def _param(name: str) -> click.Parameter:
    return next(param for param in command.params if param.name == name)


def with_output(spec: FilterSpec, **changes: object) -> FilterSpec:
    """`spec` with what the command line says about its output."""
    from subl.config import updated

    given = {key: value for key, value in changes.items() if value is not None}
    if not given:
        return spec
    return spec.model_copy(update={"output": updated(spec.output, **given)})


def _print_sample(found: SampleResult, seed: int, as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        print_json({**asdict(found), "seed": seed})
        return
    about = "" if found.rows_exact else "about "
    click.echo(
        f"{found.sampled:,} of {about}{_rounded(found.rows, found.rows_exact)} rows sampled "
        f"(seed {seed}), {size(found.bytes_read)} of the files read; 95 % intervals"
    )
    rows = [("dropped", "", f"{found.dropped_rows:,}", *_percent(found.dropped))]
    rows += [
        (f"  {printable(rule.name)}", rule.kind, f"{rule.hits:,}", *_percent(rule.breaks))
        for rule in found.rules
    ]
    click.echo(table(rows, ("", "kind", "rows", "share", "from", "to")))
    if found.unreadable_rows:
        click.echo(f"{found.unreadable_rows:,} of the dropped rows are unreadable")
    kept = found.rows_kept
    if found.compares_rows:
        click.echo(
            f"expected: at most {_rounded(kept.high)} rows kept; rules that compare rows find less "
            "in a sample than in all rows, so what they drop is not estimated, nor is the time"
        )
        return
    click.echo(
        f"expected: {_rounded(kept.value)} rows kept "
        f"({_rounded(kept.low)} to {_rounded(kept.high)}), about {size(found.bytes_kept)} of "
        f"{size(found.bytes)} uncompressed"
    )
    if found.seconds is not None:
        click.echo(f"the whole run would take about {duration(found.seconds)}")


def _percent(estimate: Estimate) -> tuple[str, str, str]:
    digits = 3 if estimate.high < 0.01 else 1
    return (
        f"{100 * estimate.value:.{digits}f} %",
        f"{100 * estimate.low:.{digits}f} %",
        f"{100 * estimate.high:.{digits}f} %",
    )


def _rounded(count: float, exact: bool = False) -> str:
    """An estimate with three digits."""
    if exact or count < 1000:
        return f"{count:,.0f}"
    return f"{float(f'{count:.3g}'):,.0f}"


def _explain_rules(spec: FilterSpec, as_json: bool) -> None:
    from dataclasses import asdict

    from subl.filter.explain import explain_rules, settings

    rules = explain_rules(spec)
    if as_json:
        resolved = spec.model_dump(mode="json")
        print_json({"rules": [asdict(rule) for rule in rules], "resolved": resolved})
        return
    for number, rule in enumerate(rules, start=1):
        click.secho(f"{number}. {printable(rule.name)} ({rule.kind})", bold=True)
        for line in _wrapped(rule.does, "   "):
            click.echo(line)
        for warning in rule.warnings:
            for line in _wrapped(f"warning: {printable(warning)}", "   "):
                click.secho(line, fg="yellow")
        _print_settings(rule.settings, "   ")
        click.echo()
    click.secho("all rules", bold=True)
    _print_settings(settings(spec, {"rules", "output"}), "   ")
    click.secho("output", bold=True)
    _print_settings(settings(spec.output), "   ")


def _print_settings(found: Any, prefix: str) -> None:
    import json

    width = max(len(each.key) for each in found)
    for each in found:
        value = printable(json.dumps(each.value, ensure_ascii=False))
        if len(value) > 60:
            count = f" ({len(each.value)} in all)" if isinstance(each.value, list | dict) else ""
            value = f"{value[:59]}…{count}"
        default = "" if each.given else "  (default)"
        click.echo(f"{prefix}{each.key.ljust(width)} = {value}{default}")
        for line in _wrapped(each.meaning, f"{' ' * (len(prefix) + width)}   "):
            click.secho(line, dim=True)


def _wrapped(text: str, indent: str) -> list[str]:
    import shutil
    import textwrap

    width = max(40, min(100, shutil.get_terminal_size().columns))
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
