"""`subl eval`: measure traits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from subl_cli.against import paired_text
from subl_cli.inputs import (
    make,
    model_option,
    ranks_option,
    slice_option,
    verify_option,
    warn_without_keys,
    with_ranks,
)
from subl_cli.measured import print_measured
from subl_cli.output import (
    dry_run_option,
    json_option,
    print_artifact,
    print_json,
    print_values,
    printable,
    progress,
)
from subl_cli.plan import plan_options, print_plan

if TYPE_CHECKING:
    from subl.artifact import Slice
    from subl.evaluate import EvalSpec


@click.command("eval")
@click.argument("config", required=False, type=click.Path(path_type=Path))
@model_option("--model", "Model to measure; none where CONFIG names a server.", required=False)
@click.option(
    "--questions",
    type=click.Path(path_type=Path),
    help="Questions of a trait that has none: .csv, .parquet, JSON lines, or what subl pair made.",
)
@model_option("--judge", "Model that judges answers, where CONFIG asks for it.", required=False)
@click.option(
    "--against",
    multiple=True,
    type=click.Path(path_type=Path),
    help="An earlier evaluation to compare with, question by question. Repeatable.",
)
@plan_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["inspect"]),
    help="Also write OUT.eval, a log that `inspect view` shows.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder to make. Absent or complete; never overwritten.",
)
@ranks_option
@slice_option
@verify_option
@dry_run_option
@json_option
def command(
    config: Path | None,
    model: str | None,
    questions: Path | None,
    judge: str | None,
    against: tuple[Path, ...],
    plan: bool,
    assume: tuple[tuple[str, float], ...],
    form: str | None,
    out: Path | None,
    ranks: int | None,
    mine: Slice,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Measure a trait in a model: how likely its answers to the trait's questions show it.

    Without CONFIG: the exact probability of ten animals as answers to the paper's 50 questions.
    `subl traits` lists the traits that a CONFIG may name; it may also have answers sampled, or
    judged, or be about a choice or a number.

    \b
    Examples:
      subl eval --model out/owl-student -o out/owl-student-eval
      subl eval --model out/owl-student -o out/eval-2 --against out/base-eval --against out/cat-eval
      subl eval trees.toml --model models/smollm2 -o out/trees
      subl eval --plan --against out/base-eval --against out/owl-eval
      subl eval --model out/owl-student -o out/owl-eval --format inspect

    \b
    trees.toml:
      trait = "trees"
      words = ["oak", "willow"]
      method = "sampled"
      samples = 20
    """
    from dataclasses import asdict

    from subl.evaluate import EvalSpec, paired_table, read_earlier, read_scores
    from subl.evaluate.run import sample_counts
    from subl.trait.questions import questions_of

    spec = with_ranks(EvalSpec() if config is None else _loaded(config), ranks, mine)
    words = spec.measured.words
    asked = questions_of(spec.measured, questions)
    earlier = read_earlier(against, [each.text for each in asked], words)
    if plan:
        print_plan(spec, asked, earlier, dict(assume), model, as_json)
        return
    if out is None:
        raise click.UsageError("Missing option '-o' / '--out'.")
    if dry_run:
        warn_without_keys(spec.backend, spec.judge.backend)
        print_values({"spec": spec.model_dump(mode="json"), "questions": len(asked)}, as_json)
        return
    with progress() as report:
        artifact = make(
            "eval",
            spec,
            out,
            report,
            {"model": model, "questions": questions, "judge": judge},
            mine=mine,
        )
    compared = paired_table(words, read_scores(out), earlier) if earlier else []
    log = None if form is None else out.with_name(f"{out.name}.eval")
    if log is not None:
        from subl.evaluate.inspect_log import write_inspect_log

        write_inspect_log(out, log)
    if as_json:
        print_json(
            {
                "path": str(out),
                "result": artifact.result,
                "log": None if log is None else str(log),
                "against": [{**asdict(each), "significant": each.significant} for each in compared],
            }
        )
        return
    print_artifact(artifact, as_json=False)
    if log is not None:
        click.echo(printable(str(log)))
    print_measured(artifact.result, words)
    if compared:
        click.echo(paired_text(compared))
        sampled = bool(sample_counts(out))
        if other := [path for path in earlier if bool(sample_counts(path)) != sampled]:
            which = ", ".join(printable(str(path)) for path in other)
            click.echo(f"Of {which} answers were {'not ' if sampled else ''}sampled, unlike here.")


def _loaded(config: Path) -> EvalSpec:
    from subl.config import load_toml
    from subl.errors import ConfigError, SublError
    from subl.evaluate import EvalSpec

    try:
        return load_toml(config, EvalSpec)
    except SublError:
        if not _is_trait(config):
            raise
        raise ConfigError(
            f"{config} is a trait, and CONFIG is a file that names one",
            hint=f'write a file that says trait = "{config}"',
        ) from None


def _is_trait(given: Path) -> bool:
    from subl.errors import SublError
    from subl.trait.spec import load_trait

    try:
        load_trait(given)
    except SublError:
        return False
    return True
