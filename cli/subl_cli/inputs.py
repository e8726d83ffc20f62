"""What commands that make one stage's artifact share: models by name, rows, and the making."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subl_cli.output import Command

if TYPE_CHECKING:
    from subl.artifact import Artifact, StageSpec
    from subl.progress import Report

MODELS = Path("models")
"""Where models that are no local folder are added."""


def model_option(
    name: str, description: str, *, required: bool = True
) -> Callable[[Command], Command]:
    """An option that takes a model: a local folder, a GGUF file, package:NAME or a hub name."""
    return click.option(name, required=required, metavar="MODEL", help=description)


def rows_option(command: Command) -> Command:
    """`--rows ROWS`, once or more: what is trained on."""
    return click.option(
        "--rows",
        multiple=True,
        required=True,
        type=click.Path(path_type=Path),
        help="Rows: a file, a folder, or what subl filter made (its kept rows). Repeatable.",
    )(command)


def verify_option(command: Command) -> Command:
    """`--verify`: for the whole command, what records say of inputs counts for nothing."""

    def reread(ctx: click.Context, _: click.Parameter, given: bool) -> None:
        if given:
            from subl.artifact import rereading

            ctx.with_resource(rereading())

    return click.option(
        "--verify",
        is_flag=True,
        expose_value=False,
        callback=reread,
        help="Read and hash every input again, however large, artifacts too: believe no record of "
        "sizes, times and inodes.",
    )(command)


def model_folder(source: str, report: Report) -> Path:
    """The folder behind a model option; adds it to `models/` the first time.

    Among ranks, the first does: the others take part in what it makes of it.
    """
    from subl.model.source import resolve

    if not first_rank():
        return Path(source)
    return resolve(source, MODELS, report)


def make(
    kind: str,
    spec: StageSpec,
    out: Path,
    report: Report,
    given: dict[str, str | Path | tuple[Path, ...] | None],
    **how: Any,
) -> Artifact:
    """The artifact of a stage, from what its options gave, as an experiment would make it.

    `given` has a value for each of the stage's inputs; `how` is what changes nothing of what is
    made.
    """
    from subl.experiment.kinds import STAGES

    stage = STAGES[kind]
    paths: dict[str, tuple[Path, ...]] = {}
    for name, value in given.items():
        match value:
            case str():
                paths[name] = (model_folder(value, report),)
            case Path():
                paths[name] = (value,)
            case tuple() if value:
                paths[name] = value
    stage.check(spec, paths)
    return stage.make(spec, paths, out, out.name, report, **how)


def first_rank() -> bool:
    """Whether this process is alone, or rank 0 of those that srun, torchrun, ... started."""
    import os

    from subl.cluster.placement import placement

    return placement(os.environ, Path()).rank == 0
