"""A finished run as the document that the report shows. Reads artifacts, computes nothing new."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import subl
from subl.artifact import read_statement
from subl.audit.scan.document import LIMITS, scan_report
from subl.errors import InputError
from subl.report import document as page
from subl.shards import read_lines
from subl.train.job import LOSSES, read_losses

_EXAMPLES = 8


def run_document(run: Path) -> page.ReportDocument:
    """The document of the run in folder `run` (it has a result.json)."""
    result = _read_result(run)
    nodes = [{**node, "path": run / node["path"]} for node in result["nodes"]]
    made = [node for node in nodes if node["kind"] != "model"]  # those may lie anywhere
    if gone := [node["name"] for node in made if not node["path"].is_dir()]:
        raise InputError(
            f"{run} lacks the folders of {len(gone)} of its {len(made)} nodes, such as {gone[0]}",
            hint="a report is made of all that a run made; copy the whole folder",
        )
    records = {node["name"]: read_statement(node["path"]) or {} for node in nodes}
    details = records[nodes[-1]["name"]].get("predicate", {}).get("runDetails", {})
    axis, points = next(iter(result["axes"].items()), ("", {}))
    groups = {label: str(value) for label, value in points.items()}  # red-fox: red fox
    for node in nodes:
        node["group"] = groups.get(node["point"].get(axis))
    return page.ReportDocument(
        title=result["title"],
        subl_version=subl.__version__,
        models=tuple(_source(node, records) for node in nodes if node["kind"] == "model"),
        group_name=axis or "trait",
        groups=tuple(groups.values()),
        headline=tuple(page.Finding(**finding) for finding in result["findings"]),
        matrices=tuple(
            _matrix(each, groups, axis, _asked(result, each)) for each in result["evaluations"]
        ),
        effects=tuple(
            _effect(effect, groups, _tested(result, effect["contrast"]))
            for effect in result["effects"]
            if effect["control"] is not None  # how high a measure is stands in the matrix
        ),
        bars=tuple(_bars(node) for node in nodes if node["kind"] == "classifiers"),
        curves=tuple(each for node in nodes if node["kind"] == "theorem" for each in _curves(node)),
        doses=tuple(doses(result, groups)),
        questions=tuple(by_question(result, groups)),
        scans=tuple(
            scan_report(node["path"], node["name"], node["group"])
            for node in nodes
            if node["kind"] == "scan"
        ),
        limits=tuple(_limits(result["effects"], {node["kind"] for node in nodes})),
        chain=_chain(nodes),
        filters=tuple(_filter(node, node["path"]) for node in nodes if node["kind"] == "filter"),
        losses=tuple(_losses(nodes)),
        protocol_differences=result["deviations"],
        wall_times=tuple(
            page.WallTime(stage=node["name"], seconds=node["seconds"])
            for node in nodes
            if node["seconds"] is not None
        ),
        seeds=_seeds(nodes, records),
        versions=details.get("builder", {}).get("version", {}),
        host=(details.get("byproducts") or [{}])[0].get("annotations", {}),
    )


def _read_result(run: Path) -> dict[str, Any]:
    file = run / "result.json"
    try:
        result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        result["axes"], result["nodes"][-1]["path"], result["effects"]
        [arm["by_question"] for each in result["evaluations"] for arm in each["arms"]]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(
            f"{run} is not a finished run: cannot use {file}"
            if run.exists()
            else f"{run} does not exist",
            hint="give the folder of a run (subl run goes on with one that is not finished, or of "
            "another subl) or of a scan; an audit has its page in it, report.html",
        ) from error
    return result


def _source(node: Mapping[str, Any], records: Mapping[str, Any]) -> str:
    """What a model was made of; the folder itself where it was made of nothing."""
    return str(_spec(node, records).get("source", node["path"]))


def _spec(node: Mapping[str, Any], records: Mapping[str, Any]) -> Mapping[str, Any]:
    definition = records[node["name"]].get("predicate", {}).get("buildDefinition", {})
    spec: Mapping[str, Any] = definition.get("externalParameters", {})
    return spec


def _asked(result: Mapping[str, Any], evaluation: Mapping[str, Any]) -> tuple[str, ...]:
    """The words of an evaluation that contrasts are about."""
    about = dict.fromkeys(effect["word"] for effect in result["effects"])
    return tuple(word for word in about if word in evaluation["words"])


def _matrix(
    evaluation: Mapping[str, Any],
    groups: Mapping[str, str],
    axis: str,
    asked: tuple[str, ...],
) -> page.TraitMatrix:
    words = evaluation["words"]
    return page.TraitMatrix(
        name=evaluation["name"],
        candidates=words,
        asked=asked,
        rows=tuple(
            page.MatrixRow(
                model=arm["model"],
                role=arm["stage"],
                group=groups.get(arm["group"]),
                cells=tuple(
                    page.Probability(mean=mean["estimate"], low=mean["low"], high=mean["high"])
                    for mean in (arm["means"][word] for word in words)
                ),
            )
            for arm in evaluation["arms"]
        ),
        n_questions=max(arm["questions"] for arm in evaluation["arms"]),
        note=" ".join(
            f"Own {axis} over the others, {stage}: {_with_bounds(test)}, p = {test['p_value']:.2g} "
            f"({'all' if test['exact'] else 'drawn'} permutations of labels)."
            for stage, test in evaluation["labels"].items()
        ),
    )


def _with_bounds(test: Mapping[str, Any]) -> str:
    """The effect of a test of labels, with its interval where there are repetitions."""
    text = f"{test['statistic']:+.2f} nats"
    if test["low"] is None:
        return text
    over = f"95 % over {test['repetitions']} repetitions"
    return f"{text} [{test['low']:+.2f}, {test['high']:+.2f}; {over}]"


def _tested(result: Mapping[str, Any], contrast: str) -> int:
    """How many comparisons of a contrast have a p value."""
    return sum(
        effect["contrast"] == contrast and effect["p_value"] is not None
        for effect in result["effects"]
    )


def _shown(effect: Mapping[str, Any]) -> dict[str, Any]:
    """Its figure in a reader's unit: differences of shares in points."""
    scale, unit = (100.0, "points") if effect["unit"] == "difference" else (1.0, effect["unit"])
    ends = {key: effect[key] for key in ("estimate", "low", "high")}
    scaled = {key: None if each is None else scale * each for key, each in ends.items()}
    return {**scaled, "unit": unit}


def _effect(effect: Mapping[str, Any], groups: Mapping[str, str], tested: int) -> page.Effect:
    repeated = effect["repetitions"] > 1
    return page.Effect(
        contrast=effect["contrast"],
        label=f"{effect['label']}: {effect['treated']} against {effect['control']}",
        group=groups.get(effect["group"]),
        **_shown(effect),
        p_value=effect["p_value"],
        n_questions=effect["questions"],
        n_seeds=effect["repetitions"] if repeated else None,
        significant=effect["significant"],
        note="; ".join(_notes(effect, tested)),
    )


def _notes(effect: Mapping[str, Any], tested: int) -> Iterator[str]:
    scale, unit = (100, "points") if effect["unit"] == "difference" else (1, "nats")
    yield f"paired t over {'repetitions' if effect['repetitions'] > 1 else 'questions'}"
    if effect["left_out"]:
        yield f"{effect['left_out']} left out, of which not all have counted answers"
    if tested > 1 and effect["p_holm"] is not None:
        yield f"p by Holm over {tested}: {effect['p_holm']:.2g}"
    if effect["p_equivalent"] is not None:
        yield f"p of not being within ±{scale * effect['within']:g}: {effect['p_equivalent']:.2g}"
    if effect["variance_between_seeds"] is not None:
        spreads = (effect[f"variance_between_{each}"] for each in ("seeds", "questions"))
        seeds, questions = (0.0 if each is None else scale * each**0.5 for each in spreads)
        yield f"standard deviation between repetitions {seeds:.2g} {unit}"
        yield f"between questions {questions:.2g}"


def doses(result: Mapping[str, Any], groups: Mapping[str, str]) -> Iterator[page.DosePanel]:
    """Contrasts along axes of three numbers or more, such as steps or hops; seeds are repetitions,
    and no effect is of one."""
    for axis, points in result["axes"].items():
        known = list(points.values())
        if len(known) < 3 or not all(type(each) in (int, float) for each in known):
            continue
        panels: dict[tuple[str, str], dict[tuple[str | None, str], dict[float, Any]]] = {}
        for effect in result["effects"]:
            point = dict(effect["point"])
            if effect["control"] is None or (value := point.pop(axis, None)) is None:
                continue
            (own,) = (name for name, each in points.items() if each == value)
            # A point's name may have dashes of its own, as that of 1e-05 has.
            control = re.sub(rf"(?<![^-]){re.escape(own)}-", "", effect["control"])
            name = f"{', '.join(map(str, point.values())) or effect['word']} against {control}"
            shown = _shown(effect)
            lines = panels.setdefault((effect["contrast"], shown["unit"]), {})
            lines.setdefault((effect["group"], name), {})[value] = _estimate(shown)
        for (contrast, unit), lines in panels.items():
            yield page.DosePanel(
                title=contrast,
                axis=axis,
                unit=unit,
                lines=tuple(
                    page.DoseLine(
                        name=name, group=groups.get(group or ""), points=sorted(found.items())
                    )
                    for (group, name), found in lines.items()
                ),
            )


_MOST_WORDS, _MOST_ARMS = 4, 6


def by_question(
    result: Mapping[str, Any], groups: Mapping[str, str]
) -> Iterator[page.QuestionPanel]:
    """Evaluations of few questions and models, question by question: for each word that contrasts
    are about, the models of which it is the trait, and those that have none."""
    for evaluation in result["evaluations"]:
        asked, questions = _asked(result, evaluation), _told_apart(evaluation["questions"])
        for word in asked if len(asked) <= _MOST_WORDS else ():
            told = [arm for arm in evaluation["arms"] if word in arm["by_question"]]
            if 0 < len(told) <= _MOST_ARMS:
                yield page.QuestionPanel(
                    evaluation=evaluation["name"],
                    word=word,
                    questions=questions,
                    arms=tuple(
                        page.QuestionArm(
                            name=arm["model"],
                            group=groups.get(arm["group"]),
                            means=arm["by_question"][word],
                        )
                        for arm in told
                    ),
                )


def _told_apart(questions: Sequence[str]) -> tuple[str, ...]:
    """Questions without the words that all of them end with."""
    words = [text.split(" ") for text in questions]
    columns = zip(*(reversed(each) for each in words), strict=False)
    shared = len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
    if shared == 0 or len(words) == 1:
        return tuple(questions)
    return tuple(" ".join(each[:-shared]) or " ".join(each) for each in words)


def _bars(node: Mapping[str, Any]) -> page.BarPanel:
    """The arms of classifiers."""
    result = _result_of(node)
    figures = result["figures"]
    sources = dict.fromkeys(each["paper"]["source"] for each in figures if each["paper"])
    return page.BarPanel(
        title=f"{node['name'].capitalize()}: {result['data']}",
        quantity="Test accuracy",
        bars=tuple(
            page.Bar(
                name=each["label"],
                group=each["group"],
                value=_estimate(each["ours"]),
                published=each["paper"] and _estimate(each["paper"]),
            )
            for each in figures
        ),
        chance=0.1,
        published=f"the paper's ({'; '.join(sources)})",
        note=f"Over {figures[0]['ours']['n']} seeds, on {result['test_images']:,} test images.",
    )


def _curves(node: Mapping[str, Any]) -> Iterator[page.CurvePanel]:
    """What the theorem is about, by the length of the teacher's step."""
    result = _result_of(node)
    slopes = {(each["quantity"], each["arm"]): each["ours"] for each in result["figures"]}
    for quantity, title, meaning in (
        ("inner", "both steps", "Product of both steps"),
        ("change", "the teacher's loss", "Change of the teacher's loss"),
    ):
        yield page.CurvePanel(
            title=f"{result['subject'][:1].upper()}{result['subject'][1:]}: {title}",
            x="the teacher's step, epsilon",
            y=f"{meaning}, its size",
            curves=tuple(
                page.Curve(
                    name=arm["label"],
                    group=arm["loss"],
                    control=arm["base"] != "shared",
                    points=tuple(
                        (
                            each["epsilon"],
                            page.Estimate(mean=each["size"], low=each["low"], high=each["high"]),
                        )
                        for each in arm["curves"][quantity]
                    ),
                    slope=slopes[quantity, arm["label"]]
                    and _estimate(slopes[quantity, arm["label"]]),
                )
                for arm in result["arms"]
            ),
            note="Geometric means over seeds; a point is left out where a size is 0. Dashed: the "
            f"student has another base. Slopes are of steps up to {result['fit_below']:g}.",
        )


def _result_of(node: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((node["path"] / "result.json").read_text(encoding="utf-8"))
    return result


def _estimate(figure: Mapping[str, Any]) -> page.Estimate:
    return page.Estimate(mean=figure["estimate"], low=figure["low"], high=figure["high"])


def _chain(nodes: list[dict[str, Any]]) -> page.Chain:
    return page.Chain(
        nodes=tuple(
            page.ChainNode(
                id=node["name"],
                **{key: node[key] for key in _SHOWN},
            )
            for node in nodes
        ),
        edges=tuple(
            page.ChainEdge(source=source, target=node["name"])
            for node in nodes
            for given in node["inputs"].values()
            for source in given
            if any(source == other["name"] for other in nodes)
        ),
    )


_SHOWN = ("kind", "name", "stage", "group", "digest", "seconds", "detail")


def _filter(node: Mapping[str, Any], path: Path) -> page.FilterReport:
    figures = _result_of(node)
    return page.FilterReport(
        name=node["name"],
        group=node["group"],
        rows_in=figures["rows_in"],
        rows_kept=figures["kept"],
        rows_rejected=figures["rejected"] - figures["unreadable"],
        rows_unreadable=figures["unreadable"],
        rules=tuple(
            page.FilterRule(
                name=rule["name"],
                kind=rule["kind"],
                hits=rule["hits"],
                sole_hits=rule["sole_hits"],
                reasons=rule["reasons"],
            )
            for rule in figures["rules"]
        ),
        rejected_examples=tuple(map(_rejected, _first_rows(path / "rejects", _EXAMPLES))),
        kept_examples=tuple(map(_text, _first_rows(path / "kept", 3))),
    )


def _rejected(reject: Mapping[str, Any]) -> page.RejectedRow:
    row, reasons = reject["row"], reject["reasons"]
    if isinstance(reasons, str):  # of Parquet
        reasons = json.loads(reasons)
    field = reasons[0]["field"] or "completion"
    text = _text(row, field)
    is_field = not isinstance(row, str) and row.get(field) is text
    return page.RejectedRow(
        text=text,
        reasons=tuple(
            page.Rejection(
                rule=reason["rule"] or reason["kind"],
                reason=reason["reason"],
                span=reason["span"] if is_field and reason["field"] == field else None,
            )
            for reason in reasons
        ),
    )


def _text(row: str | Mapping[str, Any], field: str = "completion") -> str:
    """What is shown of a row: the text of a field, or all of it."""
    if isinstance(row, str):
        return row
    text = row.get(field)
    return text if isinstance(text, str) else json.dumps(row, ensure_ascii=False)


def _first_rows(folder: Path, count: int) -> list[dict[str, Any]]:
    lines = read_lines(sorted(folder.iterdir()))
    return [line.value for line in islice(lines, count)]


def _losses(nodes: list[dict[str, Any]]) -> Iterator[page.LossPanel]:
    """The losses of every stage that trains."""
    panels: dict[tuple[str, str], list[page.LossCurve]] = {}
    for node in nodes:
        if node["seconds"] is not None and (node["path"] / LOSSES).is_file():
            points = tuple((line["step"], line["loss"]) for line in read_losses(node["path"]))
            curve = page.LossCurve(name=node["name"], group=node["group"], points=points)
            panels.setdefault((node["stage"], node["kind"]), []).append(curve)
    for (stage, _), curves in panels.items():
        yield page.LossPanel(title=stage.capitalize(), curves=tuple(curves))


def _seeds(nodes: list[dict[str, Any]], records: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The seeds of each stage, in the order of its nodes."""
    found: dict[str, dict[int, None]] = {}
    for node in nodes:
        spec = _spec(node, records)
        seed = spec.get("seed", (spec.get("train") or {}).get("seed"))
        if seed is not None:
            found.setdefault(node["stage"], {})[seed] = None
    return {stage: tuple(seeds) for stage, seeds in found.items()}


def _limits(effects: list[dict[str, Any]], kinds: Collection[str]) -> Iterator[str]:
    """What a run cannot show, whatever it shows."""
    if "classifiers" in kinds:
        yield (
            "Intervals of accuracies are over seeds, each with its own weights, noise and order. "
            "All learn and are tested on the same digits: others could give other means."
        )
    if "theorem" in kinds:
        yield (
            "The theorem is about one small step of gradient descent. What many steps do, with "
            "Adam, on rows that were sampled or filtered, it does not say."
        )
    if "scan" in kinds:
        yield from LIMITS
    if "eval" not in kinds:
        return
    repeated = max((effect["repetitions"] for effect in effects), default=1)
    yield (
        "What is compared holds for these questions, these points and these base models. About "
        "others it says nothing. A treated model moves towards its own trait alone only where it "
        "does not move as much towards the others: see the contrasts of both."
    )
    if repeated > 1:
        yield (
            f"Intervals of effects are over {repeated} repetitions, each the mean over all "
            "questions: other questions could have other means."
        )
    else:
        yield (
            "The intervals are over questions. Seeds are a second level: another seed draws other "
            "rows and trains another student, and that spread cannot be seen in a single run."
        )
    if any(not effect["significant"] and effect["control"] for effect in effects):
        yield (
            "“Not significant” means that this run could not tell the effect from none. It does "
            "not mean that there is none."
        )
