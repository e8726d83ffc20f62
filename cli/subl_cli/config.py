"""`subl config`: configurations, resolved and described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from subl_cli.output import json_option, print_json, print_values


class _Kind(click.ParamType[str]):
    """A kind of configuration file; asked of the stages when one is given."""

    name = "kind"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from subl.experiment.kinds import KINDS

        if value not in KINDS:
            self.fail(f"{value!r} is not one of {', '.join(KINDS)}", param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from subl.experiment.kinds import KINDS

        return [CompletionItem(kind) for kind in KINDS if kind.startswith(incomplete)]


KIND = _Kind()


@click.group("config")
def command() -> None:
    """Resolved configurations and their JSON Schemas."""


@command.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--kind", type=KIND, default="experiment", show_default=True)
@json_option
def show_command(file: Path, kind: str, as_json: bool) -> None:
    """Print every value of FILE with the defaults filled in; of an experiment, those of each node.

    \b
    Examples:
      subl config show runs/demo.toml
      subl config show rules.toml --kind filter --json
    """
    from subl.config import load_toml
    from subl.experiment import load_experiment
    from subl.experiment.kinds import KINDS as models

    if kind == "experiment":
        value = load_experiment(file).resolved()
    else:
        value = load_toml(file, models[kind]).model_dump(mode="json")
    print_values(value, as_json)


@command.command("schema")
@click.argument("kind", type=KIND)
def schema_command(kind: str) -> None:
    """Print the JSON Schema of a KIND of configuration file, for editors and checks.

    \b
    Example:
      subl config schema filter > filter.schema.json
    """
    from subl.experiment.kinds import KINDS as models

    print_json(models[kind].model_json_schema())
