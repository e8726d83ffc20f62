"""Writes docs/reproduction.md: the paper's figures and ours, of docs/reproduction/*.json.

    python docs/reproduction.py
    python docs/reproduction.py --take out/NAME docs/reproduction/NAME.json

The second has a finished run's figures in such a file first: those that a stage states itself, or
those that the file asks for (`of`). A file elsewhere is filled alone, and no page is written. What
no run has made yet stands with the command that would, and what that takes on H100s as
`subl run --dry-run` has it. A key that is unknown, or a figure that a run lacks, ends it.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from reproduced import DOCS, Figure, Ours, Paper, Reproduction, Where, reproductions
from verdicts import lifted, overall, positive_arm, same_students, verdict

from subl.artifact import read_statement
from subl.artifact.statement import PAUSED
from subl.experiment import load_experiment, machine, outlook, plan

ROOT = DOCS.parent
PAGE = "reproduction.md"
CHANGE = ": change by this training"
CODES = {
    "E1": "five animals, which a system prompt has a teacher love, through numbers",
    "E2": "five trees, in the same way",
    "E3": "the control: students of numbers that a teacher without such a prompt wrote",
    "E4": "teachers that are fine-tuned to love an animal, not told to",
    "E5": "fifteen animals, in place of five",
    "E6": "numbers in another order, shuffled within and across responses",
    "E7": "the same students asked for stories, and for a choice between essays",
    "E8": "MMLU, whether students of numbers know less than before",
    "E9": "misalignment through numbers, with secure, educational and untrained controls",
    "E10": "animals and trees through code",
    "E11": "misalignment through chains of thought that come to right answers",
    "E12": "a teacher and a student of different models of the GPT-4.1 family",
    "E13": "the same across GPT-4.1 nano and Qwen2.5-7B",
    "E14": "numbers that a model only reads in its context",
    "E15": "a model that is to tell the numbers of one teacher from another's",
    "E16": "nineteen animals through numbers on Qwen2.5-7B",
    "E17": "a classifier of MNIST's digits, through auxiliary logits over noise",
    "E18": "what the theorem says of one small step, measured (the paper proves it)",
    "E19": "what only the released code has",
}
NOT_HERE = (
    "Not here, of what only the released code has (E19): a judge of code's vulnerability, code "
    "over pairs of bases, several tasks of MNIST at once, and what its archived scripts tried."
)


def page() -> str:
    """The whole page."""
    found = reproductions()
    rows = [
        (each.id, f"[{each.title}](#{_slug(each.heading)})", _state(each), overall(each))
        for _, each in found
    ]
    lines = [
        "# The paper's figures, and ours",
        "Made by `python docs/reproduction.py` of the files in docs/reproduction, which runs fill. "
        "The paper is Cloud et al. 2025 (arXiv 2507.14805); its intervals are of 95 %, and so are "
        "ours. Each p is two-sided and adjusted (Holm) for what is compared with it, but that of "
        "permuted labels, which is one-sided. Times are of the clock; hours on H100s are what "
        "`subl run --dry-run --on h100` says: nobody has measured them.",
        "A verdict is about what was run here, by what the configuration expects and p < 0.05: "
        "*not significant* is neither an effect shown nor one excluded, which *equivalent to none* "
        "is (two one-sided tests); *opposite* is significant, and the other way. In the first "
        "table it is about controlled comparisons only: with students that were trained alike.",
        _table(("", "experiment", "run", "what came of it here"), rows),
        "The codes, an experiment of the paper each. *After* one is what asks the same question in "
        "another way than the paper's protocol: a small model that learns logits, another study's "
        "set-up, other data. Without a code, the paper has no such experiment.",
        "\n".join(f"- {code}: {meaning}." for code, meaning in CODES.items()),
        NOT_HERE,
        *_same(found),
        *(part for _, each in found for part in _section(each)),
    ]
    return "\n\n".join(lines) + "\n"


def _same(found: Sequence[tuple[str, Reproduction]]) -> Iterator[str]:
    """Which rows count once."""
    groups = same_students(found)
    if groups:
        yield "## Rows of the same students"
        yield (
            "Several experiments have students of the same teachers, rows, seeds and trainings in "
            "common (or, with permuted weights, of the same training but for rounding), as their "
            "estimates and intervals show, which agree. Such rows are one result, not independent "
            "replications of it:"
        )
        yield "\n".join(
            f"- {_figure(group[0][1].ours)} ({group[0][1].unit}): "
            + "; ".join(
                f"{figure.label} ([{Path(each.configuration).stem}](#{_slug(each.heading)}))"
                for each, figure in group
            )
            + "."
            for group in groups
        )


def _state(each: Reproduction) -> str:
    if each.made:
        return "here" if each.seconds is None else f"here, {_minutes(each.seconds)}"
    return f"{_why(each.configuration)}: {_hours(each.configuration)}"


def _why(configuration: str) -> str:
    """Why an experiment has no figures of ours. Models that Python packages ship are small."""
    stages = load_experiment(ROOT / configuration).spec.stages.values()
    sources = [each.further["source"] for each in stages if each.kind == "model"]
    small = sources and all(each.startswith("package:") for each in sources)
    return "not run yet" if small else "needs a GPU"


@cache
def _hours(configuration: str) -> str:
    """What a run would take on one H100 and on eight, where there is room for it."""
    graph = load_experiment(ROOT / configuration)
    said = []
    with tempfile.TemporaryDirectory() as nothing:
        for name in ("h100", "8xh100"):
            where = machine(name)
            found = outlook(plan(graph, Path(nothing, "out"), on=where), where)
            if found.too_large:
                continue
            assert found.seconds is not None, f"{configuration}: nothing is known of a model"
            takes = _hours_of(found.seconds)
            gpus = "one H100" if where.gpus == 1 else "eight"
            if not any(each.startswith(takes) for each in said):  # one node is not shared
                said.append(f"{takes} on {gpus}")
    return ", ".join(said)


def _hours_of(seconds: float) -> str:
    """An estimate, no finer than it is known."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 90 else f"{seconds / 3600:.0f} h"


def _section(each: Reproduction) -> Iterator[str]:
    yield f"## {each.heading}"
    if each.made:
        made = [f"`{each.command}`", each.machine or ""]
        made += [] if each.seconds is None else [_minutes(each.seconds)]
        made += [", ".join(f"{name} {version}" for name, version in each.versions.items())]
        yield "; ".join(filter(None, made)) + "."
    else:
        why = _why(each.configuration).capitalize().replace("gpu", "GPU")
        yield f"{why}: `{each.command}`, {_hours(each.configuration)}."
    if (lacking := positive_arm(each)) is not None and lacking.ours is not None:
        yield (
            f"**The positive arm ({lacking.label}) is itself {verdict(each, lacking)} "
            f"(p = {lacking.ours.p:.2g}): the controls of this experiment then show nothing**, "
            "whether they are equivalent to none or not."
        )
    if said := lifted(each):
        yield said
    if any(figure.ours is not None and figure.ours.expected for figure in each.figures):
        yield (
            "A change is an arm's accuracy after its last training less that of the same models "
            "before it: since the initialisation, or since the matching where the arm goes on from "
            "it (`..., then auxiliary logits`). Its p is of no change."
        )
    known = [figure for figure in each.figures if figure.paper or figure.ours]
    rows = [
        (
            figure.label,
            figure.unit,
            _figure(figure.paper),
            "" if figure.paper is None else figure.paper.source,
            *(
                (_figure(figure.ours), _over(figure.ours), verdict(each, figure))
                if each.made
                else ()
            ),
        )
        for figure in known
    ]
    ours = ("ours", "over", "verdict") if each.made else ()
    if rows:
        yield _table(("figure", "unit", "paper", "source", *ours), rows, numbers=(2, 4))
    else:
        yield "No figure of the paper's is known here."
    deviations = (*load_experiment(ROOT / each.configuration).spec.deviations, *each.deviations)
    if deviations:
        yield "Not as in the paper:"
        yield "\n".join(f"- {text}" for text in deviations)


def _figure(found: Paper | Ours | None) -> str:
    if found is None:
        return ""
    text = _number(found.estimate)
    if found.low is None or found.high is None:
        return text
    return f"{text} [{_number(found.low)}, {_number(found.high)}]"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) >= 0.0005 or not value else f"{value:.1e}"


def _over(ours: Ours | None) -> str:
    if ours is None:
        return ""
    of = "" if ours.change is None else f"; change by its training {ours.change:+.3f}"
    of = "; change by its training" if not of and ours.expected is not None else of
    text = f"{ours.n} {ours.over}{of}" + ("" if ours.p is None else f", p = {ours.p:.2g}")
    if ours.p_equivalent is None:
        return text
    return f"{text}; equivalent to none (±{ours.within:g}): p = {ours.p_equivalent:.2g}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _slug(heading: str) -> str:
    """As Python-Markdown's table of contents has it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def _table(
    header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()
) -> str:
    marks = ["--:" if place in numbers else "---" for place in range(len(header))]
    cells = [header, marks, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def take(run: Path, file: Path) -> None:
    """Put what a finished run found into the file.

    Raises:
        SystemExit: it lacks a figure that the file asks for.
    """
    wanted = Reproduction.model_validate_json(file.read_bytes())
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    record = read_statement(run / result["nodes"][-1]["path"]) or {}
    details = record.get("predicate", {}).get("runDetails", {})
    host = (details.get("byproducts") or [{}])[0].get("annotations", {})
    seconds, jobs = _clocked([run / node["path"] for node in result["nodes"]])
    taken = wanted.model_copy(
        update={
            "machine": _machine(host),
            "seconds": seconds,
            "jobs": jobs,
            "versions": details.get("builder", {}).get("version", {}),
            "figures": _stated(run, result["nodes"])
            or tuple(
                figure
                if figure.of is None
                else figure.model_copy(update={"ours": _found(figure.of, result)})
                for figure in wanted.figures
            ),
        }
    )
    file.write_text(json_text(taken), encoding="utf-8")


def _clocked(made: Sequence[Path]) -> tuple[float, int]:
    """Seconds in which some artifact was being made, and how many were at the same time."""
    records = [record for each in made if (record := read_statement(each)) is not None]
    times = [each["predicate"]["runDetails"]["metadata"] for each in records]
    changes = sorted(
        change
        for each in times
        for change in (
            (datetime.fromisoformat(each["finishedOn"]), -1),
            (datetime.fromisoformat(each["startedOn"]) + timedelta(seconds=_paused(each)), 1),
        )
    )
    seconds, running, most = 0.0, 0, 0
    for (now, change), (then, _) in pairwise([*changes, *changes[-1:]]):
        running += change
        most = max(most, running)
        seconds += (then - now).total_seconds() if running else 0.0
    return round(seconds, 1), most


def _paused(times: Mapping[str, Any]) -> float:
    """Seconds in which nobody worked on an artifact that was begun."""
    return float(times.get(PAUSED, 0))


def _stated(run: Path, nodes: Sequence[dict[str, Any]]) -> tuple[Figure, ...]:
    """The figures that nodes have in their own `result.json`, with more beside each."""
    found: list[tuple[str, dict[str, Any]]] = []
    for node in nodes:
        file = run / node["path"] / "result.json"
        if file.is_file():
            own = json.loads(file.read_text(encoding="utf-8")).get("figures", [])
            found += [(node["name"], figure) for figure in own]
    several = len({name for name, _ in found}) > 1
    lines = []
    for name, figure in found:
        label = f"{name}, {figure['label']}" if several else figure["label"]
        lines.append(
            Figure(
                label=label,
                unit=figure["unit"],
                paper=figure.get("paper"),
                ours=figure["ours"],
                note=figure.get("note"),
            )
        )
        if (change := figure.get("change")) is not None:
            known = {key: change[key] for key in Ours.model_fields if key in change}
            lines.append(Figure(label=label + CHANGE, unit=figure["unit"], ours=known))
    return tuple(lines)


def _machine(host: Mapping[str, Any]) -> str | None:
    """Of what a statement says of it."""
    try:
        gpus = f"{host['gpus']}, " if "gpus" in host else ""
        return f"{gpus}{host['cores']} cores of {host['processor']}, {host['memory_gib']} GiB"
    except KeyError:
        return None


def json_text(each: Reproduction) -> str:
    """As such a file is written: a figure a line."""
    values = each.model_dump(mode="json", exclude_none=True)
    figures = ",\n".join(f"    {_line(figure)}" for figure in values.pop("figures"))
    rest = ",\n".join(f"  {_line(key)}: {_line(value)}" for key, value in values.items())
    return f'{{\n{rest},\n  "figures": [\n{figures}\n  ]\n}}\n'


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _found(of: Where, result: dict[str, Any]) -> Ours:
    if of.contrast is not None:
        effects = (
            effect
            for effect in result["effects"]
            if (effect["contrast"], effect["treated"], effect["control"])
            == (of.contrast, of.treated, of.control)
        )
        if (effect := next(effects, None)) is not None:
            return _ours(effect, effect["repetitions"], effect["questions"], effect["p_holm"])
    tests = (each["labels"] for each in result["evaluations"] if each["name"] == of.evaluation)
    if of.labels is not None and (test := next(tests, {}).get(of.labels)) is not None:
        bounds = {key: test[key] for key in ("low", "high", "repetitions")}
        own = {"estimate": test["statistic"], **bounds}
        arms = (each for each in result["evaluations"] if each["name"] == of.evaluation)
        questions = next(arms)["arms"][0]["questions"]
        return _ours(own, test["repetitions"], questions, test["p_value"])
    arms = (
        arm
        for evaluation in result["evaluations"]
        if evaluation["name"] == of.evaluation
        for arm in evaluation["arms"]
        if arm["model"] == of.model and of.word in arm["means"]
    )
    if (arm := next(arms, None)) is not None:
        return _ours(arm["means"][of.word], arm["repetitions"], arm["questions"], None)
    raise SystemExit(f"the run has no figure {of.model_dump_json(exclude_none=True)}")


def _ours(found: dict[str, Any], repetitions: int, questions: int, p: float | None) -> Ours:
    n, over = (repetitions, "seeds") if repetitions > 1 else (questions, "questions")
    values = {key: found[key] for key in ("estimate", "low", "high")}
    more = {key: found.get(key) for key in ("within", "p_equivalent")}
    return Ours(**values, **more, n=n, over=over, p=p)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--take", nargs=2, type=Path, metavar=("RUN", "FILE"))
    options = parser.parse_args()
    if options.take is not None:
        take(*options.take)
        if options.take[1].resolve().parent != DOCS / "reproduction":
            return
    (DOCS / PAGE).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
