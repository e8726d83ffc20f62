"""Several runs on one page, beside each other: what each found, and how they differ in how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from subl.report.document import Record, ReportDocument

Part = TypeVar("Part", bound=Record)


def beside(runs: Mapping[str, ReportDocument]) -> ReportDocument:
    """One document of several, by what each run is called. Effects of one contrast stand together.

    What a run is made of (its chain, filters and losses) is on its own page.
    """
    contrasts = dict.fromkeys(each.contrast for run in runs.values() for each in run.effects)
    effects = [
        each
        for contrast in contrasts
        for name, run in runs.items()
        for each in _called(name, [e for e in run.effects if e.contrast == contrast], "label")
    ]
    first = next(iter(runs.values()))
    return ReportDocument(
        title=" beside ".join(dict.fromkeys(run.title for run in runs.values())),
        subl_version=first.subl_version,
        models=_distinct(model for run in runs.values() for model in run.models),
        group_name=first.group_name,
        groups=_distinct(group for run in runs.values() for group in run.groups),
        headline=_all(runs, "headline", "text"),
        matrices=_all(runs, "matrices", "name"),
        effects=tuple(effects),
        bars=_all(runs, "bars", "title"),
        curves=_all(runs, "curves", "title"),
        doses=_all(runs, "doses", "title"),
        scans=_all(runs, "scans", "name"),
        limits=(
            "Runs stand beside each other; no test compares one with another, and p values are "
            "adjusted within each.",
            *_distinct(limit for run in runs.values() for limit in run.limits),
        ),
        protocol_differences=tuple(
            f"{name}: {each}" for name, run in runs.items() for each in run.protocol_differences
        ),
        wall_times=_all(runs, "wall_times", "stage"),
        seeds={f"{name}: {k}": v for name, run in runs.items() for k, v in run.seeds.items()},
        versions=_merged({name: run.versions for name, run in runs.items()}),
        host=_merged({name: run.host for name, run in runs.items()}),
    )


def _all(runs: Mapping[str, ReportDocument], field: str, key: str) -> tuple[Record, ...]:
    """What all runs have of a field, each called after its run, too."""
    return tuple(
        each for name, run in runs.items() for each in _called(name, getattr(run, field), key)
    )


def _called(name: str, parts: Sequence[Part], key: str) -> list[Part]:
    return [each.model_copy(update={key: f"{name}: {getattr(each, key)}"}) for each in parts]


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _merged(facts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """A fact that is the same in all runs once, others by run."""
    keys = dict.fromkeys(key for each in facts.values() for key in each)
    found: dict[str, str] = {}
    for key in keys:
        values = {name: each.get(key, "none") for name, each in facts.items()}
        same = set(values.values())
        said = "; ".join(f"{name}: {value}" for name, value in values.items())
        found[key] = same.pop() if len(same) == 1 else said
    return found
