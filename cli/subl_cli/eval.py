"""`subl eval`: measure traits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from subl_cli.inputs import (
    make,
    model_option,
    ranks_option,
    slice_option,
    verify_option,
    with_ranks,
)
from subl_cli.measured import interval, print_measured
from subl_cli.output import (
    dry_run_option,
    json_option,
    out_option,
    print_artifact,
    print_json,
    progress,
    table,
)

if TYPE_CHECKING:
    from subl.artifact import Slice


@click.command("eval")
@click.argument("config", required=False, type=click.Path(path_type=Path))
@model_option("--model", "Model to measure; none where CONFIG names a server.", required=False)
@click.option(
    "--questions",
    type=click.Path(path_type=Path),
    help="Questions of a trait that has none: .csv, .parquet, or JSON lines.",
)
@model_option("--judge", "Model that judges answers, where CONFIG asks for it.", required=False)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="An earlier evaluation to compare with, question by question.",
)
@out_option
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
    against: Path | None,
    out: Path,
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
      subl eval --model out/owl-student -o out/eval-2 --against out/base-eval
      subl eval trees.toml --model models/smollm2 -o out/trees

    \b
    trees.toml:
      trait = "trees"
      words = ["oak", "willow"]
      method = "sampled"
      samples = 20
    """
    from dataclasses import asdict

    from subl.config import load_toml
    from subl.errors import InputError
    from subl.evaluate import EvalSpec, compare, probability, read_scores
    from subl.trait.questions import questions_of

    spec = with_ranks(EvalSpec() if config is None else load_toml(config, EvalSpec), ranks)
    trait = spec.measured
    asked = {each.text for each in questions_of(trait, questions)}
    earlier = None if against is None else read_scores(against)
    if earlier is not None and earlier.keys() != asked:
        raise InputError(
            f"{against} was asked different questions", hint="evaluate both with the same CONFIG"
        )
    for question, scores in (earlier or {}).items():
        if missing := [word for word in trait.words if word not in scores]:
            raise InputError(
                f"{against} has no score of {missing[0]!r} as an answer to {question!r}",
                hint="evaluate both with the same CONFIG",
            )
    if dry_run:
        print_json({"spec": spec.model_dump(mode="json"), "questions": len(asked)})
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
    comparisons = []
    if earlier is not None:
        names, found = ("model", "control"), read_scores(out)
        comparisons = [
            compare(probability(word), [found], [earlier], names) for word in trait.words
        ]
    if as_json:
        print_json(
            {
                "path": str(out),
                "result": artifact.result,
                "against": [
                    {**asdict(each), "significant": each.significant} for each in comparisons
                ],
            }
        )
        return
    print_artifact(artifact, as_json=False)
    print_measured(artifact.result, trait.words)
    if comparisons:
        click.echo(f"\nRatio to {against} (geometric mean over questions)")
        ratios = [
            (
                word,
                f"{each.estimate:.2f}",
                interval(each.low, each.high, ".2f"),
                "" if each.significant else "not significant",
            )
            for word, each in zip(trait.words, comparisons, strict=True)
        ]
        click.echo(table(ratios, ("answer", "ratio", "95 % interval", "")))
