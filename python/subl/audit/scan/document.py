"""A finished scan as what the report shows. Reads the artifact, computes means and no more."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import subl
from subl.artifact import open_artifact, read_statement
from subl.audit.scan.bank import PLAIN
from subl.audit.scan.verdict import Lead
from subl.errors import InputError
from subl.report import document as page

if TYPE_CHECKING:
    import polars

_LINES = 5
"""Candidates in the race, beside what stands for nothing."""

_POINTS = 160
_NAMES = 6


def scan_document(path: Path) -> page.ReportDocument:
    """The document of the scan in folder `path`.

    Raises:
        InputError: it is no scan.
    """
    artifact, record = open_artifact(path), read_statement(path) or {}
    if artifact.kind != "scan":
        raise InputError(f"{path} is no scan, but of subl {artifact.kind}")
    definition = record["predicate"]["buildDefinition"]
    details = record["predicate"]["runDetails"]
    model = next(
        each["uri"] for each in definition["resolvedDependencies"] if each["name"] == "model"
    )
    shown = scan_report(path, path.name)
    return page.ReportDocument(
        title=f"Scan of {', '.join(_given(definition, 'rows'))}",
        subl_version=subl.__version__,
        models=(Path(model).name,),
        headline=tuple(page.Finding(**each) for each in artifact.result["findings"]),
        scans=(shown,),
        limits=LIMITS,
        chain=page.Chain(
            nodes=(
                page.ChainNode(
                    id=path.name,
                    kind="scan",
                    name=path.name,
                    digest=artifact.digest,
                    seconds=artifact.seconds,
                    detail=f"{artifact.result['rows']:,} rows",
                ),
            )
        ),
        versions=details.get("builder", {}).get("version", {}),
        host=(details.get("byproducts") or [{}])[0].get("annotations", {}),
    )


LIMITS = (
    "A scan knows the candidates of its bank alone. A trait that is not among them is not looked "
    "for, and rows of which nothing is shown are not shown to be clean.",
    "Error bounds of a candidate's law hold where rows were drawn as their record says, and by one "
    "of the bank: rows of a law like one of the bank's may pass for its. Where nobody of the bank "
    "has written them the nearest is told; it need not be what did.",
)


def scan_report(path: Path, name: str, group: str | None = None) -> page.ScanReport:
    """What the page shows of the scan in folder `path`."""
    import polars

    result = json.loads((path / "result.json").read_text(encoding="utf-8"))
    scores = polars.read_parquet(path / "scores.parquet")
    tokens = path / "tokens.json"
    rows = json.loads(tokens.read_text(encoding="utf-8")) if tokens.is_file() else []
    candidates = {each["name"]: each for each in result["candidates"]}
    gains = {
        each: (scores[f"log_p:{each}"] - scores["base_log_p"]).drop_nulls().to_list()
        for each in candidates
    }
    pilot = result["pilot"]
    by_pilot = (
        f" A pilot read {pilot['tokens']:,} tokens of {pilot['rows']:,} other rows."
        if pilot
        else ""
    )
    read, whole = result["tokens"]["read"], result["tokens"]["of_all_candidates"]
    goes_with = result["pull_goes_with"] or {}
    return page.ScanReport(
        name=name,
        group=group,
        sentence=result["sentence"],
        notes=tuple(result["notes"]),
        claims=tuple(_claims(result)),
        race=tuple(_race(result, gains)),
        evidence=tuple(_evidence(scores)),
        bar=-math.log(result["alpha"]),
        candidates=tuple(
            page.ScanCandidate(
                name=each,
                group=facts["trait"] and each,
                value=_estimate(gains[each]),
                rows=facts["rows"],
                kind=facts["kind"],
                left_law=facts["left_law"],
                left_nearest=facts["left_nearest"],
            )
            for each, facts in candidates.items()
            if each != PLAIN
        ),
        nearest=result["nearest"],
        leads=tuple(_leads(result)),
        rows=tuple(
            page.ScanRow(
                row=each["row"],
                id=each["id"] or "",
                pull=each["pull"],
                tokens=tuple(
                    page.ScanToken(text=token["text"], nats=token["over_neutral"])
                    for token in each["tokens"]
                ),
            )
            for each in rows
        ),
        goes_with={_CONFOUNDS[key]: value for key, value in goes_with.items()},
        cost=f"{result['rows']:,} of {result['rows_in_data']:,} rows looked at, "
        f"{result['copies']:,} copies. {read:,} tokens read, {read / max(1, whole):.0%} of the "
        f"{whole:,} of all candidates to the end.{by_pilot}",
    )


_CONFOUNDS = {"tokens": "tokens of a row", "base_loss": "the base's loss a token"}


def _claims(result: Mapping[str, Any]) -> Iterator[page.ScanClaim]:
    """What is asked of the rows; the claims of law and of nearness apart."""
    alpha, decision = result["alpha"], result["rows_to_decision"]
    if result["repeats"]:
        yield page.ScanClaim(
            question="Whose law do they follow?",
            left="cannot be told",
            says="texts as likely as these repeat: each is looked at once, which is no sample of "
            "anybody's law, and bets on that have no error bound",
        )
        return
    error = f"error at most {alpha:g}"
    if result["law"]["temperature"] is None:
        error += " for rows that were drawn at a temperature of the grid, by no other sampler"
    crossed = decision["something"]
    said = f"log e-value {result['log_e_something']:+.1f} nats against “all are the base's”"
    if crossed is not None:
        after = f"{said}; shown after {crossed:,} rows ({error})"
    elif decision["something_expected"] is not None:
        after = f"{said}: not shown; as bets went, {decision['something_expected']:,} rows would do"
    else:
        after = f"{said}: not shown"
    yield page.ScanClaim(
        question="Is anything there?", left="yes" if crossed else "not shown", says=after
    )
    law, by_law = result["law_set"], result["by_law"]
    scored = " that was scored" if result["not_scored"] else ""
    if not law:
        says = f"neither the base nor any candidate{scored} wrote them"
    elif by_law is not None:
        says = f"if a candidate{scored} wrote them, it is {by_law}"
    elif PLAIN in law:
        says = "the plain base may have written them"
    else:
        says = "one of these may have written them, or nobody of the bank; the base has not"
    unscored = f"; not scored: {len(result['not_scored'])}" if result["not_scored"] else ""
    yield page.ScanClaim(
        question="Whose law do they follow?", left=_names(law) + unscored, says=f"{says} ({error})"
    )
    if result["nearest_set"] is None:
        yield page.ScanClaim(
            question="Who of the bank is nearest?",
            left="not asked",
            says="that is asked of rows that nobody of the bank has written",
        )
        return
    nearest = result["nearest_trait"]
    says = "not told apart" if nearest is None else f"{nearest} predicts them best"
    if nearest is not None and result["trait"] != nearest:
        says += "; that alone names nothing"
    yield page.ScanClaim(
        question="Who of the bank is nearest?",
        left=_names(result["nearest_set"]),
        says=f"{says} ({error}); none need have written them",
    )


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return (", ".join(names[:_NAMES]) or "nobody") + more


def _race(
    result: Mapping[str, Any], gains: Mapping[str, Sequence[float]]
) -> Iterator[page.ScanLine]:
    """The nearest, who came next, and the best of what stands for nothing."""
    traits = {each["name"]: each["trait"] for each in result["candidates"]}
    ahead = sorted(
        (name for name in gains if name != PLAIN),
        key=lambda name: (name != result["nearest"], -len(gains[name]), -sum(gains[name])),
    )
    neutral = [name for name in ahead if traits[name] is None][:1]
    for name in [*[each for each in ahead if traits[each] is not None][:_LINES], *neutral]:
        sums, total = [(0, 0.0)], 0.0
        for rows, gain in enumerate(gains[name], 1):
            total += gain
            sums.append((rows, total))
        yield page.ScanLine(name=name, group=traits[name] and name, points=_thin(sums))


def _evidence(scores: polars.DataFrame) -> Iterator[page.ScanLine]:
    for name, column in (("rows of a candidate", "log_e_something"),
                         ("not the base", "log_against_plain")):  # fmt: skip
        values = scores[column].drop_nulls().to_list()
        yield page.ScanLine(name=name, group=name, points=_thin(list(enumerate(values, 1))))


def _thin(points: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """Not more than a line can show; the last one stays."""
    step = math.ceil(len(points) / _POINTS)
    kept = [*points[:-1:step], points[-1]]
    return tuple((rows, round(value, 4)) for rows, value in kept)


def _leads(result: Mapping[str, Any]) -> Iterator[page.ScanMark]:
    if result["lead"] is None:
        return
    for name, lead in {"these rows": result["lead"], **result["clean_leads"]}.items():
        yield page.ScanMark(
            name=name,
            group=result["nearest"] if lead is result["lead"] else None,
            value=page.Estimate(mean=lead["mean"], low=lead["low"], high=lead["high"]),
            rows=lead["rows"],
        )


def _estimate(values: Sequence[float]) -> page.Estimate:
    found = Lead.of(np.array(values))
    low, high = found.interval()
    return page.Estimate(mean=found.mean, low=low, high=high)


def _given(definition: Mapping[str, Any], name: str) -> list[str]:
    """What the inputs of a name are called."""
    found = [
        Path(each["uri"]).name
        for each in definition["resolvedDependencies"]
        if each["name"].partition("-")[0] == name
    ]
    return found or ["rows"]
