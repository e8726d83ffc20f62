"""`subl distill`: train a student."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subl_cli.group import CommandWithSubcommands, complete_first
from subl_cli.inputs import first_rank, make, model_folder, model_option, rows_option, verify_option
from subl_cli.output import (
    dry_run_option,
    duration,
    json_option,
    print_artifact,
    print_json,
    print_values,
    printable,
    progress,
    progress_option,
)

if TYPE_CHECKING:
    from subl.distill import DistillSpec

SUBCOMMANDS = {"cache": "Write down what a teacher says about rows, for students to learn from."}


@click.command("distill", cls=CommandWithSubcommands, subcommands=SUBCOMMANDS)
@click.argument("config", type=click.Path(path_type=Path), shell_complete=complete_first)
@model_option("--model", "Model to start from: the student's base.")
@rows_option
@model_option("--teacher", 'Teacher; needed for targets = "teacher".', required=False)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help='What subl distill cache made; needed for targets = "cache".',
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder to make. Absent or complete; never overwritten.",
)
@click.option("--ranks", type=click.IntRange(min=1), help="Processes; overrides the CONFIG.")
@click.option(
    "--merge", is_flag=True, help="Also write the model with its adapter merged ([train.lora])."
)
@click.option(
    "--checkpoint-steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Save every N steps  [default: every ten minutes]",
)
@click.option(
    "--keep-checkpoints",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="N",
    help="Checkpoints to keep; the finished student has none.",
)
@click.option(
    "--tensorboard", type=click.Path(path_type=Path), metavar="DIR", help="Log for TensorBoard."
)
@click.option("--wandb", metavar="PROJECT", help="Log to Weights & Biases.")
@click.option(
    "--show-mask",
    type=click.IntRange(min=1),
    metavar="N",
    help="Print N rows with the tokens that the loss asks for marked, and do nothing else.",
)
@verify_option
@dry_run_option
@progress_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    config: Path,
    model: str,
    rows: tuple[Path, ...],
    teacher: str | None,
    cache: Path | None,
    out: Path | None,
    ranks: int | None,
    merge: bool,
    checkpoint_steps: int | None,
    keep_checkpoints: int,
    tensorboard: Path | None,
    wandb: str | None,
    show_mask: int | None,
    dry_run: bool,
    progress_form: str,
    as_json: bool,
) -> None:
    """Train a student on rows, towards a teacher's distributions or on the rows' own tokens.

    Interrupted in any way, the same command goes on from the last checkpoint. Ctrl-C, SIGTERM and
    SIGUSR1 save one first; exit code 75 then says that the work is not done. Started by srun,
    torchrun or accelerate, each process is a rank.

    \b
    Examples:
      subl distill kd.toml --model models/smollm2 --rows out/owl-filtered \\
        --teacher out/owl-teacher -o out/owl-student
      subl distill kd.toml --model models/smollm2 --rows out/owl-filtered \\
        --teacher out/owl-teacher --dry-run
      subl distill sft.toml --model models/smollm2 --rows my.jsonl.zst --show-mask 2
      subl distill sft.toml --model models/smollm2 --rows my.jsonl.zst -o out/student --ranks 2
      srun -n 8 subl distill zero3.toml --model models/llama --rows rows/ -o out/student

    \b
    kd.toml:
      targets = "teacher"
      [loss]
      divergence = "forward_kl"
      [train]
      epochs = 1
      learning_rate = 5e-5
      zero_stage = 2
      ranks = 2
    """
    from subl.config import load_toml, updated
    from subl.distill import DistillSpec
    from subl.distill import dry_run as look_ahead
    from subl.errors import ConfigError
    from subl.train.job import RunOptions

    spec = load_toml(config, DistillSpec)
    if ranks is not None:
        spec = updated(spec, train=updated(spec.train, ranks=ranks))
    if merge:
        if spec.train.lora is None:
            raise ConfigError(
                "--merge needs an adapter", hint=f"add [train.lora] to {config}, or leave it out"
            )
        lora = updated(spec.train.lora, merge=True)
        spec = updated(spec, train=updated(spec.train, lora=lora))
    if out is None and not (dry_run or show_mask):
        raise click.MissingParameter(
            ctx=ctx, param=next(each for each in command.params if each.name == "out")
        )
    with progress(progress_form) as report:
        if show_mask:
            _show_mask(spec, model_folder(model, report), rows, show_mask, as_json)
            return
        if dry_run:
            figures = look_ahead(
                spec,
                model_folder(model, report),
                rows,
                teacher=None if teacher is None else model_folder(teacher, report),
                cache=cache,
                report=report,
            )
        else:
            assert out is not None
            options = RunOptions(
                checkpoint_steps=checkpoint_steps,
                keep_checkpoints=keep_checkpoints,
                tensorboard=tensorboard,
                wandb=wandb,
            )
            given = {"model": model, "rows": rows, "teacher": teacher, "cache": cache}
            artifact = make("distill", spec, out, report, given, options=options)
    if dry_run:
        _print_preview(spec, figures, as_json)
    elif first_rank():
        print_artifact(artifact, as_json)


def _print_preview(spec: DistillSpec, figures: dict[str, Any], as_json: bool) -> None:
    resolved = spec.model_dump(mode="json")
    if as_json:
        print_json({"spec": resolved, **figures})
        return
    print_values(resolved, as_json=False)
    timed = figures["seconds"]
    if timed is None:
        time = f"not known: {figures['not_timed_because']}"
    else:
        time = f"{duration(timed)} ({figures['seconds_per_step']:.2f} s a step, timed here)"
    dropped = ""
    if figures["dropped"] or figures["truncated"]:
        dropped = f" ({figures['dropped']} more dropped, {figures['truncated']} cut: too long)"
    click.echo(
        f"""
rows           {figures["rows"]}{dropped}
tokens         {figures["tokens"]}, of which targets {figures["target_tokens"]}; longest row \
{figures["longest"]}
steps          {figures["steps"]} of {spec.train.rows_per_step} rows: {figures["epochs"]} epochs
micro-batches  {figures["micro_batches_per_step"]} a step on each of {figures["ranks"]} ranks, \
the largest of {figures["largest_micro_batch_tokens"]} tokens
memory         {_memory(figures["memory"])}
time           {time}"""
    )


def _memory(needs: dict[str, Any]) -> str:
    free = f"{needs['free'] / 2**30:.2f} free"
    if needs["needed"] is None:
        return f"not known: the model's configuration has sizes of its own; {free}"
    parts = ", ".join(
        f"{name} {size / 2**30:.2f}" for name, size in needs["needed"].items() if size
    )
    fits = "" if needs["fits"] else ": it does not fit"
    return f"about {needs['total'] / 2**30:.2f} GiB a rank of {free}{fits} ({parts})"


def _show_mask(
    spec: DistillSpec, model: Path, rows: tuple[Path, ...], count: int, as_json: bool
) -> None:
    from dataclasses import asdict

    from subl.distill import masked_rows

    found = masked_rows(spec, model, rows, count)
    if as_json:
        print_json([asdict(each) for each in found])
        return
    for each in found:
        click.echo(f"row {each.row}: {each.target_tokens} of {each.tokens} tokens are targets")
        text = ""
        for part, target in each.runs:
            shown = "\n".join(printable(line) for line in part.split("\n"))
            text += click.style(f"[[{shown}]]", fg="green", bold=True) if target else shown
        click.echo("".join(f"  {line}\n" for line in text.split("\n")))
