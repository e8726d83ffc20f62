"""What commands that make one stage's artifact share: models by name, rows, and the making."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from subl_cli.output import Command, printable, say

if TYPE_CHECKING:
    from subl.artifact import Artifact, PartsSpec, Slice, StageSpec
    from subl.progress import Report
    from subl.sample.tables import BackendTable
    from subl.stage import Stage

PartsT = TypeVar("PartsT", bound="PartsSpec")

MODELS = Path("models")
"""Where models that are no local folder are added."""

_LOOK_AGAIN_SECONDS = 0.5


class Shipped(click.Path):
    """A file, or the name of one of a folder that comes with subl; completion offers both."""

    def __init__(self, folder: str) -> None:
        super().__init__(path_type=Path)
        self._folder = folder

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from subl.shipped import shipped

        names = [name for name in shipped(self._folder) if name.startswith(incomplete)]
        return [*super().shell_complete(ctx, param, incomplete), *map(CompletionItem, names)]


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
        help="Rows: a file, a folder, an artifact (of subl filter: its kept rows), a manifest or a "
        "bin of subl shards. Repeatable.",
    )(command)


def reference_option(command: Command) -> Command:
    """`--reference ROWS`, any number of times: clean rows beside those that are scanned."""
    return click.option(
        "--reference",
        multiple=True,
        type=click.Path(path_type=Path),
        help="A set of clean rows, such as the base's own to the same prompts. Repeatable.",
    )(command)


def policy_options(*, required: bool) -> Callable[[Command], Command]:
    """`--policy POLICY` and `--search DIR`: see `subl.sign.verify`."""

    def both(command: Command) -> Command:
        command = click.option(
            "--search",
            multiple=True,
            metavar="DIR",
            type=click.Path(path_type=Path),
            help="Look here, by digest, for inputs that are not where they were. Repeatable.",
        )(command)
        return click.option(
            "--policy",
            required=required,
            type=click.Path(path_type=Path),
            help="Whose signatures count, and what must be in the chain (TOML).",
        )(command)

    return both


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


def warn_without_keys(*tables: BackendTable) -> None:
    """Of a dry run, which sends nothing: that the run itself would lack a server's key."""
    import os

    from subl.sample import Http

    names = [table.key_env for table in tables if isinstance(table, Http)]
    for name in dict.fromkeys(filter(None, names)):
        if not os.environ.get(name):
            text = f"warning: the environment has no {name} (backend.key_env)"
            say(click.style(text, fg="yellow"))


def ranks_option(command: Command) -> Command:
    """`--ranks N`: see `with_ranks`."""
    return click.option(
        "--ranks",
        type=click.IntRange(min=1),
        help="Processes of this machine that share the work, each with a device; overrides the "
        "CONFIG.",
    )(command)


def with_ranks(spec: PartsT, ranks: int | None, mine: Slice) -> PartsT:
    """The configuration with the number of ranks that the command line gives, if it gives one.

    Raises:
        ConfigError: several are to make one slice, which is for one process or tasks of srun.
    """
    from subl.artifact import WHOLE
    from subl.errors import ConfigError

    spec = spec if ranks is None else spec.model_copy(update={"ranks": ranks})
    if spec.ranks > 1 and mine != WHOLE:
        raise ConfigError(
            f"{spec.ranks} ranks beside --slice {mine.index}/{mine.count}",
            hint="give --ranks 1 and a slice to each process, or no --slice",
        )
    return spec


def slice_option(command: Command) -> Command:
    """`--slice I/N`, which the command gets as `mine`."""

    def parsed(ctx: click.Context, param: click.Parameter, given: str | None) -> Slice:
        from subl.artifact import WHOLE, Slice

        if given is None:
            return WHOLE
        index, _, count = given.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise click.BadParameter(
                f"{given!r} is not I/N with 0 <= I < N, such as 0/16", ctx, param
            )
        return Slice(int(index), int(count))

    return click.option(
        "--slice",
        "mine",
        metavar="I/N",
        callback=parsed,
        help="Make share I of N of the files alone, as a task of a job array does; whoever makes "
        "the last file finishes the folder.",
    )(command)


def model_folder(source: str, report: Report) -> Path:
    """The folder behind a model option; adds it to `models/` the first time.

    Among ranks, whoever comes first does, and the others wait for it.
    """
    import os
    import time

    from subl.cluster.placement import placement
    from subl.errors import BusyError
    from subl.model.source import folder_of

    while True:
        try:
            return folder_of(source, MODELS, report)
        except BusyError:
            if placement(os.environ, Path()).alone:
                raise
        time.sleep(_LOOK_AGAIN_SECONDS)


Options = Mapping[str, str | Path | tuple[Path, ...] | None]
"""What options gave, with a value for each of a stage's inputs; a text is a model."""


def make(
    kind: str, spec: StageSpec, out: Path, report: Report, given: Options, **how: Any
) -> Artifact:
    """The artifact of a stage, from what its options gave, as an experiment would make it.

    `how` is what changes nothing of what is made.
    """
    from subl.experiment.make import make as made

    stage, paths = _begun(kind, spec, out, given)  # before a model is fetched
    for name, value in given.items():
        if isinstance(value, str):
            paths[name] = (model_folder(value, report),)
    return made(stage, spec, paths, out, out.name, report, **how)


def check(kind: str, spec: StageSpec, out: Path, given: Options) -> None:
    """What `make` would refuse before its work; nothing is fetched or made.

    Raises:
        SublError: as the stage does.
    """
    from subl.artifact import comparing
    from subl.experiment.make import make as made
    from subl.model.source import folder_there
    from subl.progress import silent

    stage, paths = _begun(kind, spec, out, given)
    for name, value in given.items():
        if isinstance(value, str):
            if (folder := folder_there(value, MODELS)) is None:
                say(f"{printable(value)} is no folder here: it would be fetched first")
                return  # and with it, nothing can be told of what is there
            paths[name] = (folder,)
    with comparing(out):
        made(stage, spec, paths, out, out.name, silent)


def _begun(
    kind: str, spec: StageSpec, out: Path, given: Options
) -> tuple[Stage, dict[str, tuple[Path, ...]]]:
    """The stage, and what it is given but for models, after a look at both."""
    from subl.artifact import check_place
    from subl.experiment.kinds import check_inputs
    from subl.stages import STAGES

    stage = STAGES[kind]
    stage.check(spec, [name for name, value in given.items() if value])
    paths = {
        name: (value,) if isinstance(value, Path) else value
        for name, value in given.items()
        if value and not isinstance(value, str)
    }
    check_inputs(stage, paths)
    check_place(out, (path for some in paths.values() for path in some))
    return stage, paths


def first_rank() -> bool:
    """Whether this process is alone, or rank 0 of those that srun, torchrun, ... started."""
    import os

    from subl.cluster.placement import placement

    return placement(os.environ, Path()).rank == 0
