"""`subl report`: a run as one page."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.output import json_option, print_json, printable


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="HTML file  [default: RUN/report.html]"
)
@json_option
def command(run: Path, out: Path | None, as_json: bool) -> None:
    """Write the report of a finished RUN (a folder that subl run made) as one HTML page.

    The page needs no network and no script; it can be mailed.

    \b
    Examples:
      subl report out/demo
      subl report out/demo -o owl.html
    """
    from subl.artifact import write_atomically
    from subl.experiment.document import run_document
    from subl.report import render

    out = out or run / "report.html"
    write_atomically(out, render(run_document(run)))
    if as_json:
        print_json({"path": str(out)})
    else:
        click.echo(printable(str(out)))
