"""`subl filter`: keep or reject rows."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.group import CommandWithSubcommands
from subl_cli.output import (
    dry_run_option,
    json_option,
    out_option,
    print_artifact,
    print_json,
    progress,
    table,
)


@click.command(
    "filter",
    cls=CommandWithSubcommands,
    subcommands={
        "concept": "Find the tokens near a concept, as a rule.",
        "explain": "Show what each rule says about one row.",
    },
)
@click.argument("rules", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    help="Threads  [default: one a core]",
)
@dry_run_option
@json_option
def command(
    rules: Path,
    inputs: tuple[Path, ...],
    out: Path,
    jobs: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Keep the rows of INPUTS that break none of RULES (a TOML file); reject the others.

    INPUTS are files of JSON lines (.jsonl, .jsonl.gz, .jsonl.zst) or folders of them. OUT/kept/
    gets the kept lines byte for byte, OUT/rejects/ the other rows, each with every rule that it
    breaks and where, OUT/result.json the figures. The same command continues an interrupted run.

    \b
    Examples:
      subl filter rules.toml data/*.jsonl.zst -o out/filtered
      subl filter rules.toml rows.jsonl -o out/filtered --json

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
    import os

    from subl.filter import load_rules, name_shards, run

    spec = load_rules(rules)
    if dry_run:
        shards = name_shards(inputs)
        print_json(
            {
                "spec": spec.model_dump(mode="json"),
                "shards": {name: str(path) for name, path in shards.items()},
                "bytes": sum(path.stat().st_size for path in shards.values()),
            }
        )
        return
    with progress() as report:
        artifact = run(spec, inputs, out, jobs=jobs or os.cpu_count() or 1, report=report).artifact
    print_artifact(artifact, as_json)
    if as_json:
        return
    figures = artifact.result
    unreadable = f" ({figures['unreadable']:,} unreadable)" if figures["unreadable"] else ""
    click.echo(
        f"{figures['rows_in']:,} rows in, {figures['kept']:,} kept, "
        f"{figures['rejected']:,} rejected{unreadable}"
    )
    rows = [
        (rule["name"], rule["kind"], f"{rule['hits']:,}", f"{rule['sole_hits']:,}")
        for rule in figures["rules"]
    ]
    click.echo(table(rows, ("rule", "kind", "rejects", "alone")))
