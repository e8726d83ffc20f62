"""`subl slurm`: commands as jobs of a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subl_cli import submit
from subl_cli.output import about as roughly
from subl_cli.output import duration, json_option, print_json, printable, say, size, table

if TYPE_CHECKING:
    from subl.slurm.book import Book
    from subl.slurm.status import TaskState

_LAST_LINES = 20
"""Of each log, where there are several."""

_GOOD = {"done", "running", "waiting"}


@click.group("slurm")
def command() -> None:
    """Commands as jobs of a Slurm cluster: submit, watch and end them."""


command.add_command(submit.command)

made_argument = click.argument("made", metavar="OUT", type=click.Path(path_type=Path))
task_option = click.option(
    "--task", "chosen", multiple=True, metavar="TASK",
    help="Only this task, by its name (or a part of it) or its number in its array. Repeatable.",
)  # fmt: skip


@command.command("status")
@made_argument
@click.option("--efficiency", is_flag=True, help="What ended jobs used of what they asked for.")
@json_option
def status_command(made: Path, efficiency: bool, as_json: bool) -> None:
    """Show where the jobs that make OUT stand, by one query of the queue.

    A task is done when what it makes has its statement, whatever Slurm says. It is waiting (for
    what), running (how far), failed (of what: OUT_OF_MEMORY, an exit code, a signal), resumable
    (TIMEOUT, NODE_FAIL, or told to stop: submit again, it goes on), cancelled, lost (Slurm does not
    have it, and it left no word), unknown (Slurm does not answer), or not submitted. Exits with 1
    where tasks failed, stopped, are lost or were not submitted.

    \b
    Examples:
      subl slurm status out/filtered
      subl slurm status out/demo --json
      subl slurm status out/student --efficiency
    """
    from subl.slurm.book import Book

    book = Book.of(made)
    states = _states(book)
    if efficiency:
        _print_usage(book, states, as_json)
    elif as_json:
        print_json([_json(each) for each in states])
    else:
        _print(states)
    if any(each.state not in _GOOD | {"unknown"} for each in states):
        raise SystemExit(1)


def _states(book: Book) -> list[TaskState]:
    from subl.slurm.made import done_of, tasks_of
    from subl.slurm.status import status

    about = book.about()
    return status(book, tasks_of(about), done_of(about))


def _print(states: Sequence[TaskState]) -> None:
    counts = Counter(each.state for each in states)
    click.echo(", ".join(f"{count} {state}" for state, count in counts.items()))
    shown = [each for each in states if each.state != "done"] or list(states)
    rows = [(each.task, each.state, each.job or "", each.nodes, _how_far(each), each.why)
            for each in shown]  # fmt: skip
    click.echo("\n" + table(rows, ("task", "state", "job", "on", "how far", "why"), left=range(6)))
    if any(each.state not in _GOOD | {"unknown"} for each in states):
        say("the same `subl slurm submit` again submits what is missing")


def _how_far(state: TaskState) -> str:
    beat = state.beat
    if beat is None or state.state == "done":
        return ""
    total = "" if beat.total is None else f"/{beat.total:,}"
    if beat.unit == "bytes":
        far = size(beat.done) + ("" if beat.total is None else f" of {size(beat.total)}")
    else:
        far = f"{beat.done:,}{total} {beat.unit}"
    note = f", {beat.note}" if beat.note else ""
    left = beat.seconds_left
    is_running = state.state == "running" and left
    return f"{beat.task}: {far}{note}" + (f", {roughly(left)} left" if is_running and left else "")


def _json(state: TaskState) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "task": state.task,
        "state": state.state,
        "why": state.why,
        "job": state.job,
        "nodes": state.nodes,
        "beat": None if state.beat is None else asdict(state.beat),
        "end": None if state.life is None else asdict(state.life),
    }


def _print_usage(book: Book, states: Sequence[TaskState], as_json: bool) -> None:
    from dataclasses import asdict

    from subl.slurm.usage import usage

    found = usage(book, states)
    if as_json:
        shares = ("cpu_share", "memory_share", "time_share")
        print_json(
            [asdict(each) | {name: getattr(each, name) for name in shares} for each in found]
        )
        return

    def share(value: float | None, used: str, asked: str) -> str:
        return used if value is None else f"{used} of {asked} ({100 * value:.0f} %)"

    rows = [
        (
            each.task,
            share(each.time_share, duration(each.seconds or 0), duration(each.limit_seconds or 0)),
            share(
                each.cpu_share,
                duration(each.cpu_seconds or 0),
                f"{each.cpus} core{'' if each.cpus == 1 else 's'}",
            ),
            share(each.memory_share, size(each.memory or 0), size(each.asked_memory or 0)),
        )
        for each in found
    ]
    click.echo(table(rows, ("task", "time", "work", "memory")))


@command.command("logs")
@made_argument
@task_option
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until the jobs end.")
@click.option("--rank", type=click.IntRange(min=0), help="Only what this rank printed.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="The last N lines of each log.")
def logs_command(
    made: Path, chosen: tuple[str, ...], following: bool, rank: int | None, lines: int | None
) -> None:
    """Print what the jobs that make OUT print; of several, the last lines of each.

    \b
    Examples:
      subl slurm logs out/student -f
      subl slurm logs out/student --rank 3
      subl slurm logs out/filtered --task 3
      subl slurm logs out/demo --task owl-student -n 50
    """
    from subl.slurm.book import Book
    from subl.slurm.watch import chosen as chosen_of
    from subl.slurm.watch import follow, lines_of

    book = Book.of(made)
    found_states = chosen_of(_states(book), chosen)
    states = [each for each in found_states if each.submission is not None]
    for state in found_states:
        if state.submission is None:
            say(printable(f"{state.task}: {_without_log(state)}"))
    several = len(states) > 1
    if following:
        for state, line in follow(book, states, rank, lambda: _states(book)):
            click.echo(printable(f"{state.task}: {line}" if several else line))
        return
    last = lines if lines is not None else _LAST_LINES if several else None
    for state in states:
        assert state.submission is not None
        log = book.log(state.submission.number, state.index)
        found = lines_of(log, rank)
        if several:
            click.secho(printable(f"==> {state.task} ({state.state}): {log}"), bold=True)
        if not log.exists():
            say(printable(f"{state.task}: {_without_log(state)}"))
        for line in found if last is None else found[len(found) - min(last, len(found)) :]:
            click.echo(printable(line))


def _without_log(state: TaskState) -> str:
    return f"there is no log; it is {state.state}" + (f": {state.why}" if state.why else "")


@command.command("cancel")
@made_argument
@task_option
@json_option
def cancel_command(made: Path, chosen: tuple[str, ...], as_json: bool) -> None:
    """End the jobs that make OUT. What they have saved stays: submit again, it goes on.

    \b
    Examples:
      subl slurm cancel out/filtered
      subl slurm cancel out/demo --task owl-student
    """
    from subl.slurm.book import Book
    from subl.slurm.watch import cancel

    book = Book.of(made)
    book.about()  # there is one
    ended = cancel(book, chosen)
    if as_json:
        print_json([{"task": task, "job": job} for task, job in ended])
        return
    for task, job in ended:
        click.echo(printable(f"cancelled {task} (job {job})"))
    if not ended:
        click.echo("nothing waits or runs")


@command.command("doctor")
@submit.wish_options
@click.option(
    "--on-nodes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run a short job on N nodes: do they see this folder, with the same software and clock?",
)
@json_option
def doctor_command(profile: str | None, on_nodes: int | None, as_json: bool, **given: Any) -> None:
    """Look at what the cluster has, and what may go wrong. Exits with 1 where something will.

    \b
    Examples:
      subl slurm doctor
      subl slurm doctor --profile a100 --on-nodes 2
    """
    from dataclasses import asdict

    from subl.slurm.doctor import doctor
    from subl.slurm.spec import layered
    from subl.slurm.spec import profile as profile_called

    spec = layered([profile_called(profile), submit.layer_of(given)])
    found = doctor(spec, Path.cwd(), nodes=on_nodes or 0)
    if as_json:
        print_json([asdict(each) for each in found])
    else:
        rows = [(each.state, each.what, each.said) for each in found]
        click.echo(table(rows, ("", "what", ""), left=range(3)))
        for each in found:
            if each.state != "ok" and each.hint:
                click.echo(printable(f"{each.what}: {each.hint}"))
    if any(each.state == "error" for each in found):
        raise SystemExit(1)


@command.command("work", hidden=True, context_settings={"allow_interspersed_args": False})
@click.argument("book", type=click.Path(path_type=Path))
@click.argument("number")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--restarts", type=int, required=True)
def work_command(book: Path, number: str, words: tuple[str, ...], restarts: int) -> None:
    """Inside a job: run its command, pass signals on, and write down how it ended.

    \b
    Example:
      subl slurm work --restarts 16 out/kept.slurm 001 subl filter rules.toml data/ -o out/kept
    """
    from subl.slurm.work import work

    raise SystemExit(work(book, number, words, restarts=restarts))
