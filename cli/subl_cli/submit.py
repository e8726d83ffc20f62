"""`subl slurm submit`: a command as jobs of a cluster."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from subl_cli.group import CommandWithSubcommands
from subl_cli.output import Command, json_option, print_json, printable, say_hint

if TYPE_CHECKING:
    from subl.filter import FilterSpec
    from subl.filter.inputs import Inputs
    from subl.slurm.book import About, Book
    from subl.slurm.job import Job
    from subl.slurm.spec import Layer
    from subl.slurm.submit import Submitted

WISHES = {
    "partition": "Where to run.",
    "account": "Who is charged.",
    "qos": "Quality of service.",
    "time": "Limit: MINUTES, HH:MM:SS, D-HH or D-HH:MM:SS.",
    "nodes": "Machines.",
    "tasks": "Ranks on all machines together; srun starts several.",
    "gpus-per-node": "As in 8 or a100:4.",
    "cpus": "Cores of a rank.",
    "memory": "Of a machine, as in 64G; 0 is all of it.",
    "constraint": "Features that a machine must have.",
    "array": "Tasks that share the command's work, each with a --slice of it.",
    "parallel": "Tasks of an array at a time.",
    "signal-seconds": "How long before its end a job is told to save  [default: 120]",
    "restarts": "How often a job that saved in time goes on by itself  [default: 16]",
}
"""The options that take one value, as text: `null` drops what was said earlier."""


def wish_options(command: Command) -> Command:
    """The options of a `SlurmSpec`, by its names, and `--profile`."""
    lists = {
        "--module": ("modules", "NAME", "For `module load`. Repeatable."),
        "--setup": ("setup", "LINE", "Of shell, before the command. Repeatable."),
        "--env": ("environment", "NAME=VALUE", "For the command. Repeatable."),
        "--directive": ("directives", "OPTION", "Whatever else sbatch takes. Repeatable."),
    }
    for option, (name, metavar, meaning) in reversed(lists.items()):
        command = click.option(option, name, multiple=True, metavar=metavar, help=meaning)(command)
    command = click.option(
        "--requeue/--no-requeue", default=None, help="Whether a job that saved goes on by itself."
    )(command)
    command = click.option(
        "--container", metavar="WORDS", help="Before the command: 'apptainer exec --nv subl.sif'."
    )(command)
    for name, meaning in reversed(WISHES.items()):
        command = click.option(f"--{name}", help=meaning)(command)
    return click.option(
        "--profile", metavar="NAME", help="A table of ~/.config/subl/slurm.toml  [default: default]"
    )(command)


@click.command("submit", context_settings={"allow_interspersed_args": False})
@click.argument("stage", metavar="COMMAND")
@click.argument("arguments", nargs=-1, metavar="ARGUMENTS...", type=click.UNPROCESSED)
@wish_options
@click.option("--after", multiple=True, metavar="JOB", help="That must succeed first. Repeatable.")
@click.option("--dry-run", is_flag=True, help="Print the scripts; ask nobody, write nothing.")
@json_option
def command(
    stage: str,
    arguments: tuple[str, ...],
    profile: str | None,
    after: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Submit COMMAND with its own ARGUMENTS as a job, or what is missing of it.

    COMMAND is filter, generate, judge, distill, eval, run, or another that makes a folder. The job
    runs this very command; its script is in OUT.slurm/. Options of the job come before COMMAND.
    They overrule a [slurm] table in the command's configuration file, which overrules a profile;
    the word null drops what was said earlier.

    With --array N, N tasks share the work, and a last job sees that all is there. An experiment
    becomes a job or an array a stage, in the order of its graph; [slurm.stages.NAME] says more of a
    stage. Submitting again submits what is missing, and nothing twice.

    \b
    Examples:
      subl slurm submit --array 40 filter rules.toml data/ -o out/filtered
      subl slurm submit --time 4:00:00 --gpus-per-node 8 --tasks 8 \\
        distill kd.toml --model models/m --rows out/filtered --teacher out/t -o out/student
      subl slurm submit --profile a100 run runs/demo.toml
      subl slurm submit --dry-run --partition gpu eval owl.toml --model out/student -o out/scores
    """
    from subl.slurm.book import Book
    from subl.slurm.made import done_of
    from subl.slurm.submit import submit

    asked = _asked([stage, *arguments])
    flags = layer_of(given)
    book = Book.of(asked.out)
    about, jobs, bins = _planned(asked, book, profile, flags, waits=bool(after))
    if bins is not None and not dry_run:
        bins.write()
    came = submit(book, about, jobs, lambda: done_of(about), after=after, dry_run=dry_run)
    if as_json:
        print_json({"book": str(book.path), "jobs": [_json(each) for each in came]})
    elif dry_run:
        for each in came:
            click.echo("\n".join(map(printable, each.script.split("\n"))))
    else:
        for each in came:
            click.echo(printable(f"{each.name}: {_said(each)}"))
        say_hint(f"subl slurm status {printable(shlex.quote(str(asked.out)))}")


class _Asked(NamedTuple):
    """A command that is to be a job: its words, the kind of what it makes, what its options are,
    and the folder that it makes."""

    words: list[str]
    kind: str
    params: dict[str, Any]
    out: Path

    @property
    def is_begun(self) -> bool:
        """Whether there is something of what is to be made."""
        partial = self.out.with_name(f"{self.out.name}.partial")
        return any((folder / "spec.json").is_file() for folder in (self.out, partial))


def _asked(words: list[str]) -> _Asked:
    """Have a command read its own arguments; nothing of it runs."""
    from subl_cli.main import subl

    root = click.Context(subl, info_name="subl")
    with root:
        name, inner, rest = subl.resolve_command(root, list(words))
        assert name is not None and inner is not None
        if isinstance(inner, click.Group):
            with click.Context(inner, info_name=name, parent=root) as group:
                found = inner.get_command(group, rest[0]) if rest else None
                if found is None and not isinstance(inner, CommandWithSubcommands):
                    raise click.UsageError(f"{name} makes no folder here (-o OUT), so it is no job")
                if found is not None:
                    name, inner, rest = rest[0], found, rest[1:]
        with inner.make_context(name, rest, parent=root) as ctx:
            params = dict(ctx.params)
    if params.get("dry_run"):
        raise click.UsageError("--dry-run comes before the command: it is the submission's")
    if str(params.get("mine", "")) not in ("", _whole()):
        raise click.UsageError("give --array N before the command, and no --slice")
    if name == "run" and params["out"] is None:
        from subl.experiment import load_experiment

        params["out"] = Path("out") / load_experiment(params["experiment"]).spec.name
        words = [*words, "-o", str(params["out"])]
    if params.get("out") is None:
        raise click.UsageError(f"{name} makes no folder here (-o OUT), so it is no job")
    return _Asked(words, name, params, params["out"])


def _whole() -> str:
    from subl.artifact import WHOLE

    return str(WHOLE)


def layer_of(given: dict[str, Any]) -> Layer:
    """What the options said."""
    import shlex

    said = {key: value for key, value in given.items() if value not in (None, ())}
    if "container" in said and said["container"] != "null":
        said["container"] = shlex.split(said["container"])
    if "environment" in said:
        pairs = [each.partition("=") for each in said["environment"]]
        if wrong := [name for name, equals, _ in pairs if not equals]:
            raise click.UsageError(f"--env {wrong[0]}: it is NAME=VALUE")
        said["environment"] = {name: value for name, _, value in pairs}
    return said


class _Bins(NamedTuple):
    """Which shards each task of an array has, for a file whose name says what is in it: tasks that
    wait keep theirs."""

    folder: Path
    text: str

    @property
    def file(self) -> Path:
        from subl.artifact import json_digest

        return self.folder / f"bins-{json_digest(self.text)[:12]}.json"

    def write(self) -> None:
        from subl.artifact import write_atomically

        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.file, self.text)


def _planned(
    asked: _Asked, book: Book, profile: str | None, flags: Layer, *, waits: bool
) -> tuple[About, list[Job], _Bins | None]:
    """What is to be made, by which jobs, and how an array's tasks share it if that has to be
    written down. `waits`: other jobs come first, which may make its inputs."""
    from subl.config import load_toml
    from subl.errors import ConfigError
    from subl.experiment.kinds import KINDS
    from subl.filter.inputs import check_shared
    from subl.slurm.book import About
    from subl.slurm.job import stage_jobs
    from subl.slurm.spec import layered, table_of
    from subl.slurm.spec import profile as profile_called
    from subl.stages import STAGES

    words = ["subl", *asked.words]
    config = asked.params.get("config") or asked.params.get("experiment")
    config = config or asked.params.get("rules")
    own, stages = ({}, {}) if config is None else table_of(config)
    layers: Sequence[Layer] = [profile_called(profile), own]
    typed = ["slurm", "submit", *([] if profile is None else ["--profile", profile])]
    for key, value in flags.items():
        typed += _option(key, value)
    made, here = str(asked.out.absolute()), str(Path.cwd())
    if asked.kind == "run":
        from subl.experiment import load_experiment
        from subl.slurm import chain

        if asked.params.get("only"):
            raise click.UsageError("--only is what the jobs of an experiment are; leave it out")
        graph = load_experiment(asked.params["experiment"])
        jobs = chain.jobs(graph, words, layers, stages, flags)
        file = str(asked.params["experiment"].absolute())
        return About("run", made, here, [*typed, *asked.words], experiment=file), jobs, None
    found = None
    if asked.kind == "filter":
        found = _looked_at(asked, waits=waits)
    elif (asked.kind in STAGES or asked.words[0] == "shards") and asked.is_begun:
        _compare(asked)
    elif config is not None and asked.kind in KINDS:
        load_toml(config, KINDS[asked.kind])
    spec = layered([*layers, flags])
    if spec.array is not None and "mine" not in asked.params:
        raise ConfigError(
            f"array = {spec.array}: {asked.kind} is not made in slices",
            hint="filter, generate and eval are; give a training tasks = RANKS",
        )
    if spec.tasks not in (None, 1) and "ranks" not in asked.params:
        raise ConfigError(
            f"tasks = {spec.tasks}: {asked.kind} is one process", hint="leave tasks out"
        )
    slices, bins = spec.array, None
    if slices is not None and found is not None:
        rules, inputs = found
        if inputs is None:
            later = next(path for path in asked.params["inputs"] if not path.exists())
            raise ConfigError(
                f"{later} is not there yet, and an array's tasks share out the shards that are",
                hint="leave --array out, or submit when the jobs that it waits for are done",
            )
        check_shared(rules, f"a task of {slices}")
        slices = min(slices, len(inputs.shards))
        if slices > 1:
            bins = _Bins(book.path, inputs.text(rules, asked.params["inputs"], slices))
    if slices == 1:  # who has all of the work is no task of an array
        slices = None
    about = About("stage", made, here, [*typed, *asked.words], slices=slices)
    name = f"{asked.kind}-{asked.out.name}"
    jobs = stage_jobs(name, words, spec, slices, bins=None if bins is None else bins.file)
    return about, jobs, bins


def _compare(asked: _Asked) -> None:
    """Raise if what is there is of another configuration: the command itself sees that."""
    from subl.artifact import comparing
    from subl_cli.main import subl

    with comparing(asked.out):
        subl(asked.words, prog_name="subl", standalone_mode=False)


def _looked_at(asked: _Asked, *, waits: bool) -> tuple[FilterSpec, Inputs | None]:
    """The rules of a filter, and what it is given; None while it waits for what is not there."""
    from subl.artifact import check_out
    from subl.filter import load_rules
    from subl.filter.inputs import look
    from subl_cli.filter import with_output

    named = ("split_rows", "split_bytes", "compression")
    rules = load_rules(asked.params["rules"])
    rules = with_output(rules, **{each: asked.params[each] for each in named})
    paths = asked.params["inputs"]
    if waits and not asked.is_begun and not all(path.exists() for path in paths):
        return rules, None
    inputs = look(rules, paths)
    check_out(asked.out, "filter", rules, inputs.named)
    return rules, inputs


def _option(key: str, value: Any) -> list[str]:
    """How an option was typed."""
    import shlex

    match key, value:
        case "requeue", bool():
            return ["--requeue" if value else "--no-requeue"]
        case "container", list():
            return ["--container", shlex.join(value)]
        case "environment", dict():
            return [word for name in value for word in ("--env", f"{name}={value[name]}")]
        case _, tuple():
            name = {"modules": "module", "directives": "directive"}.get(key, key)
            return [word for each in value for word in (f"--{name}", each)]
    return [f"--{key.replace('_', '-')}", str(value)]


def _said(came: Submitted) -> str:
    parts = [f"{came.done} done"] if came.done else []
    parts += [f"{came.queued} in the queue"] if came.queued else []
    parts += [f"{came.tasks} submitted as job {came.job}"] if came.job else []
    return ", ".join(parts)


def _json(came: Submitted) -> dict[str, Any]:
    return {
        "name": came.name,
        "job": came.job,
        "submitted": came.tasks if came.job else 0,
        "missing": came.tasks,
        "queued": came.queued,
        "done": came.done,
        "script": came.script or None,
    }
