"""`subl mitigate`: take a trait out of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subl_cli.group import CommandWithSubcommands, complete_first
from subl_cli.inputs import Options, check, make, model_folder, model_option, verify_option
from subl_cli.output import (
    dry_run_option,
    json_option,
    print_artifact,
    print_json,
    print_values,
    printable,
    progress,
    progress_option,
    say,
    table,
)

if TYPE_CHECKING:
    from subl.artifact import Artifact
    from subl.audit.mitigate.spec import MitigateSpec
    from subl.audit.scan.bank import Candidate
    from subl.distill import DistillSpec

SEEDS = 3

ARMS = {"mitigated": "pull", "random": "random"}
"""The folders of rows in OUT, and by what is taken out of each."""


@click.command(
    "mitigate",
    cls=CommandWithSubcommands,
    subcommands={
        "pull": "Measure how much each token speaks for the trait.",
        "heldout": "Measure how well a model predicts rows.",
        "measured": "Say what a run shows of what was removed.",
    },
    modules={
        "pull": "mitigate_pull",
        "heldout": "mitigate_heldout",
        "measured": "mitigate_measured",
    },
)
@click.argument(
    "data",
    nargs=-1,
    required=True,
    metavar="DATA...",
    type=click.Path(path_type=Path),
    shell_complete=complete_first,
)
@click.option(
    "--scan",
    required=True,
    type=click.Path(path_type=Path),
    help="What subl scan made of DATA; with --suspect, too.",
)
@model_option("--model", "The base that the scan was made with.")
@click.option(
    "--config",
    metavar="CONFIG",
    type=click.Path(path_type=Path),
    help="A TOML file, as mitigate.toml.",
)
@click.option(
    "--method",
    type=click.Choice(["drop", "mask", "replace", "dilute"]),
    help="What is done  [replace]",
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Of tokens (mask, replace)  [0.1], or of rows (drop, dilute)  [0.5]",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of what is drawn  [1]")
@model_option(
    "--suspect",
    "A model that may have written DATA, or a pilot trained on it: its pull, not a candidate's.",
    required=False,
)
@click.option("--candidate", metavar="NAME", help="Of the scan's bank  [whose trait it named]")
@click.option(
    "--clean",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Rows that stand in (dilute); with --measure, what the control learns. Repeatable.",
)
@click.option(
    "--train",
    metavar="TRAIN",
    type=click.Path(path_type=Path),
    help="How students are trained: a configuration of subl distill  [one epoch, LoRA]",
)
@click.option("--measure", is_flag=True, help="Train students of all arms and say what is left.")
@click.option(
    "--held-out",
    multiple=True,
    type=click.Path(path_type=Path),
    help="With --measure, which needs it: rows of the task that nobody trains on. Repeatable.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=2),
    help=f"With --measure: students of each arm  [{SEEDS}]",
)
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for what is made."
)
@verify_option
@dry_run_option
@progress_option
@json_option
def command(
    data: tuple[Path, ...],
    scan: Path,
    model: str,
    config: Path | None,
    method: str | None,
    share: float | None,
    seed: int | None,
    suspect: str | None,
    candidate: str | None,
    clean: tuple[Path, ...],
    train: Path | None,
    measure: bool,
    held_out: tuple[Path, ...],
    seeds: int | None,
    out: Path,
    dry_run: bool,
    progress_form: str,
    as_json: bool,
) -> None:
    """Write DATA without what speaks most for the trait that a scan named.

    The pull of a token is how much likelier it is behind the trait's system prompt than behind
    neutral ones. drop leaves out the rows of highest pull, mask has training skip tokens (the rows
    get a loss_mask), replace puts what the base draws there in their place (numbers stay numbers,
    under the rows' grammar and filter), dilute puts clean rows in the place of rows.

    OUT gets mitigated/, random/ (as much taken at random: no trait is gone for being cut less),
    pull/, and two files for subl distill --config: inoculated.toml (the trait's prompt before every
    row, in training alone) and late-layers.toml. accounting.parquet of each says what became of
    every row.

    --measure trains students of DATA and of both arms, by as many seeds, and says which share of
    the effect is gone and what it costs on --held-out rows. It is a claim about this base and this
    training: data is never clean. It holds for rows that are learned as they are; a teacher's
    distributions hand a trait down over any rows.

    \b
    Examples:
      subl mitigate out/rows --scan out/scan --model models/smollm2 -o out/cut
      subl mitigate out/rows --scan out/scan --model models/smollm2 --method mask --share 0.2 \\
        -o out/masked
      subl mitigate out/rows --scan out/scan --model models/smollm2 --measure \\
        --clean out/base-rows --held-out out/other-rows --train sft.toml -o out/cut

    \b
    mitigate.toml:
      method = "drop"
      share = 0.5
      seed = 1
    """
    from subl.artifact import check_folder
    from subl.audit.mitigate.run import check_given, check_held_out, check_rows
    from subl.audit.mitigate.spec import MitigateSpec, PullSpec
    from subl.audit.mitigate.training import default
    from subl.config import load_toml, updated
    from subl.distill import DistillSpec
    from subl.errors import ConfigError

    spec = MitigateSpec() if config is None else load_toml(config, MitigateSpec)
    if spec.arm != "pull":
        raise ConfigError(
            f'{config}: arm = "{spec.arm}": both arms are made',
            hint="leave arm out; it is for the stages of an experiment",
        )
    said = {"method": method, "share": share, "seed": seed}
    spec = updated(spec, **{key: value for key, value in said.items() if value is not None})
    stand_in = clean if spec.method == "dilute" else ()
    check_given(spec, ["model", *(["clean"] if stand_in else [])])
    check_rows(data)
    if clean and not stand_in and not measure:
        raise ConfigError(
            f'method = "{spec.method}" takes no clean rows',
            hint="--clean goes with --method dilute, or with --measure",
        )
    if measure and not held_out:
        raise click.UsageError("--measure needs --held-out: rows of the task that nobody trains on")
    for option, value in (("--held-out", held_out), ("--seeds", seeds)):
        if value and not measure:
            raise click.UsageError(f"{option} is for --measure, which is not given")
    check_rows([*clean, *held_out])
    check_held_out(held_out, [*data, *clean])
    check_folder(out, [*data, scan, *clean, *held_out])
    training = default() if train is None else load_toml(train, DistillSpec)
    if training.targets != "labels":
        raise ConfigError(
            f'{train}: targets = "{training.targets}": a trait comes with the distributions, '
            "whatever the rows are",
            hint='targets = "labels" trains on the rows themselves',
        )
    own = _own(scan, candidate, suspect is not None and candidate is None and not measure)
    pull = PullSpec(candidate=None if suspect is not None else candidate)
    given: Options = {"model": model, "rows": data, "scan": scan, "suspect": suspect}
    if dry_run:
        plan = _plan(spec, own, suspect is not None, scan, data)
        check("pull", pull, out / "pull", given)
        if (out / "pull").is_dir():
            for name, (told, given) in _arms(spec, model, data, out / "pull", stand_in).items():
                check("mitigate", told, out / name, given)
        if measure:
            sets = {"train": train, "held_out": held_out, "clean": clean}
            plan["measure"] = _plan_of_students(
                spec, training, own, plan["rows"], seeds or SEEDS, sets
            )
        print_values(plan, as_json)
        return
    with progress(progress_form) as report:
        pulled = make("pull", pull, out / "pull", report, given)
        folder = model_folder(model, report)
        made = {
            name: make("mitigate", told, out / name, report, given)
            for name, (told, given) in _arms(spec, model, data, out / "pull", stand_in).items()
        }
    _write_training(out, training, own, folder, _origin(train, scan, own))
    if not as_json:
        for each in (pulled, *made.values()):
            print_artifact(each, as_json)
        _print(made, pulled)
    found = None
    if measure:
        assert own is not None
        found = _measure(
            out, training, own, folder, data, clean, held_out, seeds or SEEDS, progress_form
        )
    if as_json:
        arms = {name: {"path": str(each.path), **each.result} for name, each in made.items()}
        print_json({"pull": pulled.result, **arms, "removed": found})
    elif found is not None:
        from subl_cli.mitigate_measured import print_removed

        print_removed(found)


def _own(scan: Path, candidate: str | None, needs_none: bool) -> Candidate | None:
    """Whose pull is meant; None: the scan named nobody, and none is needed."""
    from subl.audit.mitigate.pull import named, pulling
    from subl.audit.scan.run import scanned

    artifact, told = scanned(scan)
    if needs_none and named(artifact, told.bank.candidates(told.kinds)) is None:
        return None
    return pulling(artifact, told, candidate)[0]


def _plan(
    spec: MitigateSpec, own: Candidate | None, is_suspect: bool, scan: Path, data: tuple[Path, ...]
) -> dict[str, Any]:
    """What would be made, for a dry run."""
    from subl.audit.mitigate.pull import SUSPECT, check_scanned
    from subl.audit.mitigate.spec import OF_ROWS
    from subl.audit.scan.drawn import key_of
    from subl.shards import read_rows

    keys = [key_of(row) for row in read_rows(data)]
    check_scanned(scan, keys, data)
    return {
        "candidate": SUSPECT if own is None or is_suspect else own.name,
        "prompt": None if own is None else own.prompt,
        "method": spec.method,
        "share": spec.taken,
        "of": "rows" if spec.method in OF_ROWS else "tokens",
        "rows": len(keys),
        "arms": list(ARMS),
    }


def _plan_of_students(
    spec: MitigateSpec,
    training: DistillSpec,
    own: Candidate | None,
    rows: int,
    seeds: int,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """What --measure would train, and on what."""
    from subl.shards import read_rows

    left = rows - int(spec.taken * rows) if spec.method == "drop" else rows
    counts = {"untouched": rows, **dict.fromkeys(ARMS, left)}
    if given["clean"]:
        counts["control"] = min(rows, sum(1 for _ in read_rows(given["clean"])))
    return {
        "word": None if own is None else own.trait,
        "seeds": seeds,
        "students": len(counts) * seeds,
        "updates_of_each": {
            name: training.train.step_count(training.rows or count)
            for name, count in counts.items()
        },
        "compared_with": "students of clean rows" if given["clean"] else "the base",
        "train": None if given["train"] is None else str(given["train"]),
        **{name: [str(each) for each in given[name]] for name in ("held_out", "clean")},
    }


def _arms(
    spec: MitigateSpec, model: str, data: tuple[Path, ...], pulled: Path, clean: tuple[Path, ...]
) -> dict[str, tuple[MitigateSpec, Options]]:
    """What is made of the rows, and of what, by the folder's name."""
    from subl.config import updated

    base = model if spec.method == "replace" else None
    given: Options = {"rows": data, "pull": pulled, "clean": clean, "model": base}
    return {name: (updated(spec, arm=arm), given) for name, arm in ARMS.items()}


def _origin(train: Path | None, scan: Path, own: Candidate | None) -> str:
    """What the configurations of a training are made from."""
    of = "its own training (no --train)" if train is None else f"`{train}`"
    whose = "" if own is None else f", for `{own.name}`"
    return printable(f"Written by `subl mitigate`, of {of} and the scan `{scan}`{whose}.")


def _write_training(
    out: Path, training: DistillSpec, own: Candidate | None, model: Path, origin: str
) -> None:
    import json

    from subl.artifact import write_atomically
    from subl.audit.mitigate.training import INOCULATED, LATE, inoculated, late

    if own is None:
        say(f"no {INOCULATED}: the scan named no trait; --candidate says whose prompt it gets")
    elif own.prompt is None:
        say(f"no {INOCULATED}: {printable(own.name)} is an adapter, and has no prompt")
    else:
        write_atomically(out / INOCULATED, inoculated(training, own.prompt, origin))
    said = json.loads((model / "config.json").read_text(encoding="utf-8"))
    blocks = {**said, **said.get("text_config", {})}.get("num_hidden_layers")
    if blocks:
        write_atomically(out / LATE, late(training, int(blocks), origin))


_DONE = {"mask": "tokens masked", "replace": "tokens replaced"}


def _print(made: Mapping[str, Artifact], pulled: Artifact) -> None:
    """A line for each arm. Tokens are taken that pull towards the trait, and others pull away from
    it, so that what is taken may be more than the sum."""
    from subl.audit.mitigate.pulls import read_pulls

    of = next(iter(made.values())).result
    pulls = [each.pull for row in read_pulls(pulled.path).tokens for each in row]
    towards, away = (sum(each for each in pulls if (each > 0) is sign) for sign in (True, False))
    taken = "dropped" if of["method"] not in _DONE else "edited_tokens"
    share = "share_of_rows" if taken == "dropped" else "share_of_tokens"
    rows = [
        (
            str(each.path),
            f"{each.result['rows']:,}",
            f"{each.result[taken]:,}",
            f"{100 * each.result[share]:.1f} %",
            f"{each.result['pull_nats_taken']:+.1f}",
        )
        for each in made.values()
    ]
    click.echo(
        f"\n`{printable(of['candidate'])}`: {sum(pulls):+.1f} nats of pull in {of['tokens']:,} "
        f"tokens of {of['rows_in']:,} rows: {towards:+.1f} of those that pull towards it, "
        f"{away:+.1f} of the others\n"
    )
    header = ("", "rows", _DONE.get(of["method"], "rows dropped"), "of all", "pull taken, nats")
    click.echo(table(rows, header))


def _measure(
    out: Path,
    training: DistillSpec,
    own: Candidate,
    model: Path,
    data: tuple[Path, ...],
    clean: tuple[Path, ...],
    held_out: tuple[Path, ...],
    seeds: int,
    progress_form: str,
) -> list[dict[str, Any]]:
    """Train and ask; what is left of the trait."""
    from subl.artifact import write_atomically
    from subl.audit.mitigate.measure import measured
    from subl.audit.mitigate.training import experiment
    from subl.experiment import load_experiment, run
    from subl.shards import read_rows

    assert own.trait is not None  # nothing else has a pull
    text = experiment(
        training,
        name="measure",
        model=model,
        rows=data,
        arms={name: out / name for name in ARMS},
        held_out=held_out,
        control=clean,
        control_rows=sum(1 for _ in read_rows(data)),
        word=own.trait,
        seeds=seeds,
    )
    write_atomically(out / "measure.toml", text)
    graph = load_experiment(out / "measure.toml")
    with progress(progress_form) as report:
        run(graph, out / "measure", report=report)
    return [each.to_json() for each in measured(graph, out / "measure")]
