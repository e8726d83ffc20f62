"""`subl filter diff`: what changes from one rules file to another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subl_cli.inputs import Shipped
from subl_cli.output import (
    jobs_option,
    json_option,
    print_json,
    printable,
    progress,
    progress_option,
    table,
)

if TYPE_CHECKING:
    from subl.filter.diff import Change, Difference


@click.command("diff")
@click.argument("plan_a", type=Shipped("rules"))
@click.argument("plan_b", type=Shipped("rules"))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="File to make, with every changed row as a line of JSON.",
)
@click.option(
    "--examples",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Rows to show of each kind of change.",
)
@jobs_option
@progress_option
@json_option
def command(
    plan_a: Path,
    plan_b: Path,
    files: tuple[Path, ...],
    out: Path | None,
    examples: int,
    jobs: int,
    progress_form: str,
    as_json: bool,
) -> None:
    """Compare what the rules files PLAN_A and PLAN_B do with the rows of FILES.

    Exits with 0 where they treat every row alike, and with 1 where they do not. Rejects are joined
    on the disk (TMPDIR), whatever the size of the files.

    \b
    Examples:
      subl filter diff old.toml new.toml data/
      subl filter diff old.toml new.toml rows.jsonl -o changed.jsonl --json
    """

    from subl.filter import load_rules
    from subl.filter.diff import diff

    a, b = load_rules(plan_a), load_rules(plan_b)
    with _written(out) as write, progress(progress_form) as report:
        found = diff(
            a,
            b,
            files,
            jobs=jobs,
            examples=examples,
            on_change=lambda change: write(change.to_json_line()),
            report=report,
        )
    if as_json:
        print_json(_to_json(found))
    else:
        _print(found)
    if not found.equal:
        raise SystemExit(1)


@contextmanager
def _written(out: Path | None) -> Iterator[Callable[[str], object]]:
    """A function that appends to a file that appears when it is complete."""
    if out is None:
        yield lambda text: None
        return
    from subl.artifact import check_place, written_whole
    from subl.errors import OutputError

    if out.exists():
        raise OutputError(f"{out} exists", hint="choose another output with -o")
    check_place(out)
    with written_whole(out) as file:
        yield lambda text: file.write(text.encode(errors="surrogatepass"))


def _to_json(found: Difference) -> dict[str, Any]:
    import json

    return {
        "equal": found.equal,
        "rows": found.rows,
        "kept": found.kept,
        "changes": dict(found.changes),
        "rules": {
            kind: {side: dict(counts.most_common()) for side, counts in sides.items()}
            for kind, sides in found.rules.items()
        },
        "examples": [
            json.loads(change.to_json_line())
            for changes in found.examples.values()
            for change in changes
        ],
    }


def _print(found: Difference) -> None:
    from subl.filter.diff import KINDS

    changed = sum(found.changes.values())
    click.echo(
        f"{found.rows:,} rows: {found.kept['a']:,} kept by A, {found.kept['b']:,} kept by B; "
        f"{changed:,} {'row changes' if changed == 1 else 'rows change'}"
    )
    kinds = [kind for kind in KINDS if found.changes[kind]]
    if kinds:
        rows = [
            (kind, f"{found.changes[kind]:,}", f"{100 * found.changes[kind] / found.rows:.2f} %")
            for kind in kinds
        ]
        click.echo(table(rows, ("change", "rows", "share")))
    for kind in kinds:
        click.echo()
        click.secho(f"{kind}: {found.changes[kind]:,}", bold=True)
        for side, counts in found.rules[kind].items():
            for rule, count in counts.most_common():
                click.echo(f"  by `{printable(rule)}` of {side.upper()}: {count:,}")
        for change in found.examples[kind]:
            click.echo(f"  {printable(change.file.as_posix())}:{change.line}  {_row(change)}")


def _row(change: Change) -> str:
    text = printable(change.row)
    return text if len(text) <= 100 else f"{text[:99]}…"
