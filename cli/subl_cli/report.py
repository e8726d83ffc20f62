"""`subl report`: a run as one page, or several beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from subl_cli.output import json_option, print_json, printable

if TYPE_CHECKING:
    from subl.report import ReportDocument


@click.command("report")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="HTML file  [default, of one run: RUN/report.html; of a scan: SCAN.html]",
)
@json_option
def command(runs: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Write the report of a finished RUN (a folder that subl run made) as one HTML page; or that of
    a scan.

    Of several, a page that has their effects, models and figures beside each other.

    The page needs no network and no script; it can be mailed.

    \b
    Examples:
      subl report out/demo
      subl report out/demo -o owl.html
      subl report out/qwen out/gemma -o both.html
      subl report out/scan
    """
    from subl.artifact import check_place, write_atomically
    from subl.report import beside, render

    if out is None and len(runs) > 1:
        raise click.UsageError("Missing option '-o' / '--out': several runs have no folder.")
    documents = {name: _document(run) for name, run in zip(_names(runs), runs, strict=True)}
    found = next(iter(documents.values())) if len(runs) == 1 else beside(documents)
    # A scan is an artifact: a file more in its folder, and it would not be what was made.
    if out is None and _is_scan(runs[0]):
        folder = runs[0] if runs[0].name else runs[0].resolve()
        out = folder.with_name(f"{folder.name}.html")
    out = out or runs[0] / "report.html"
    check_place(out)
    write_atomically(out, render(found))
    if as_json:
        print_json({"path": str(out)})
    else:
        click.echo(printable(str(out)))


def _document(run: Path) -> ReportDocument:
    from subl.audit.scan.document import scan_document
    from subl.experiment.document import run_document

    return scan_document(run) if _is_scan(run) else run_document(run)


def _is_scan(run: Path) -> bool:
    from subl.artifact import read_statement, stage_of

    record = read_statement(run)
    return record is not None and stage_of(record)[0] == "scan"


def _names(runs: tuple[Path, ...]) -> list[str]:
    """The folders' names, or their paths where names are alike."""
    paths = [run.resolve() for run in runs]
    if len(set(paths)) < len(paths):
        raise click.UsageError("A run is given twice.")
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else list(map(str, paths))
