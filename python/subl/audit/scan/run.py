"""Scan a data set for what a bank's candidates would have written.

    OUT/result.json      the verdict, the sets, how they came about, what it cost
    OUT/scores.parquet   a row for each row that was looked at, in that order: its key and id, its
                         tokens, the base's log p, the pull of the nearest trait, both e-values
                         against the base after it, and log p of each candidate; none where
                         nobody was asked
    OUT/tokens.json      of the rows with the largest pull, what each token gains

Rows are scored in growing rounds, under those who may still have written all of them. Where nobody
has, they are gone through once more, for the nearest: what is known of a row is not asked again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subl.artifact import (
    Artifact,
    Made,
    build,
    check_there,
    input_digest,
    open_artifact,
    read_statement,
    spec_record,
    write_atomically,
)
from subl.artifact.lineage import quoted
from subl.audit.scan.asking import Asking, prepared
from subl.audit.scan.bank import Candidate
from subl.audit.scan.confounds import confounds
from subl.audit.scan.drawn import draw
from subl.audit.scan.evidence import Column, Nearest, Race
from subl.audit.scan.law import Law, recorded
from subl.audit.scan.pilot import Choice, choose
from subl.audit.scan.references import References
from subl.audit.scan.rounds import compared, raced
from subl.audit.scan.spec import ScanSpec
from subl.audit.scan.tokens import token_gains
from subl.audit.scan.verdict import (
    MOST_REPEATS,
    Lead,
    best_of,
    figures,
    for_nothing,
    gains,
    lag,
    power,
    rows_for_power,
    rows_to_decision,
    verdict,
)
from subl.errors import InputError
from subl.model.load import check_folder
from subl.model.template import Template
from subl.progress import Progress, Report, silent
from subl.stage import Given, input_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNKNOWN = (1.0, 0.5, 0.7, 0.85, 1.2, 1.5)
"""Temperatures that rows may have been drawn at, where nobody knows."""

OTHER_HEATS = (0.5, 0.7, 1.4)
"""Times that of the rows: what is bet with against all who have it."""

STRENGTHS = (0.25, 0.5, 1.5)
"""Of a candidate: what is bet with against it."""

REFERENCE_ROWS = 200

_EXPLAINED_ROWS = 5
"""Whose tokens are kept: those with the largest pull."""


def columns_of(heats: Sequence[Column], *, moves: bool = True) -> list[Column]:
    """Of log p as a scan asks for it, at such temperatures.

    Args:
        moves: whether odds are moved.
    """
    strengths: list[Column] = ["strength"] * len(STRENGTHS)
    moved: list[Column] = ["moved"] * (heats.count("own") if moves else 0)
    return [*heats, *strengths, *moved]


def law_of(spec: ScanSpec, rows: Sequence[Path]) -> Law:
    """How rows were drawn, as the configuration or else their record says."""
    found = recorded(rows)
    if found is None:
        found = Law(None, None, Template(), None, "nothing")
    if spec.temperature is not None or spec.grammar is not None:
        found = replace(
            found,
            temperature=found.temperature if spec.temperature is None else spec.temperature,
            grammar=found.grammar if spec.grammar is None else spec.grammar,
            known_from="the configuration",
        )
    return found if spec.template == Template() else replace(found, template=spec.template)


def candidates_of(spec: ScanSpec) -> list[Candidate]:
    """Who is asked about.

    Raises:
        ConfigError: the bank cannot be.
        InputError: an adapter of it is no model folder.
    """
    found = spec.bank.candidates(spec.kinds)
    for each in found:
        if each.adapter is not None:
            check_folder(each.adapter)
    return found


def scan(
    spec: ScanSpec,
    model: Path,
    rows: Sequence[Path],
    out: Path,
    *,
    reference: Sequence[Path] = (),
    pilot: Path | None = None,
    name: str = "rows",
    report: Report = silent,
) -> Artifact:
    """Find out which candidates may have written `rows`, or predict them best.

    Args:
        model: the base, by which all candidates are scored.
        reference: sets of clean rows, each by itself: what lead the nearest has on those.
        pilot: a small model, of the same family, that says which candidates are asked about.

    Raises:
        InputError: a row cannot be read or scored; names it.
    """

    def work(folder: Path) -> Made:
        return _Scan(spec, model, rows, reference, pilot, folder, name, report).made()

    given = {"model": [model], "rows": rows, "reference": reference}
    given |= {} if pilot is None else {"pilot": [pilot]}
    return build(out, "scan", spec, scan_names(spec, given), work)


def scan_names(spec: ScanSpec, given: Given) -> dict[str, Path]:
    """The inputs by their names in the artifact's key: those given, and the bank's adapters."""
    return input_names(spec, given) | spec.bank.adapters()


def scanned(path: Path) -> tuple[Artifact, ScanSpec]:
    """A scan that was made, and what it was told.

    Raises:
        InputError: it is none.
    """
    check_there(path)
    record = read_statement(path) if path.is_dir() else None
    if record is None or open_artifact(path).kind != "scan":
        raise InputError(f"{path} is no scan", hint="subl scan makes one")
    return open_artifact(path), ScanSpec.model_validate(spec_record(record)["spec"])


class _Scan:
    def __init__(
        self,
        spec: ScanSpec,
        model: Path,
        rows: Sequence[Path],
        reference: Sequence[Path],
        pilot: Path | None,
        folder: Path,
        name: str,
        report: Report,
    ) -> None:
        from subl.audit.scan.scorers import Scorers

        self._spec, self._folder, self._name, self._report = spec, folder, name, report
        self._candidates = candidates_of(spec)
        self._law = law_of(spec, rows)
        self._writer, self._prompts = self._law.written_by(model)
        count = spec.rows + (0 if pilot is None else spec.pilot_rows)
        self._drawn = draw(rows, count, name, report)
        if not self._drawn.rows:
            raise InputError(f"{rows[0]} has no rows", hint="give a data set that has some")
        clean = [draw([path], REFERENCE_ROWS, path.name, report) for path in reference]
        for path, drawn in zip(reference, clean, strict=True):
            if not drawn.rows:
                raise InputError(f"the reference {path} has no rows", hint="give one that has some")
        keys = {*self._drawn.keys}
        self._shared = sum(key in keys for drawn in clean for key in drawn.keys)
        for row in (row for drawn in (self._drawn, *clean) for row in drawn.rows):
            if row.turns[0][0] == "system":
                raise InputError(
                    f"{row.place}: it has a system prompt, in whose place a persona would stand",
                    hint="scan the rows without their system prompts",
                )
        heat = self._law.temperature
        heats = UNKNOWN if heat is None else (heat, *(heat * each for each in OTHER_HEATS))
        kinds: list[Column] = ["own" if heat in (None, each) else "heat" for each in heats]
        # What a filter dropped is missing in everybody's rows: it would be bet against everybody.
        self._columns = columns_of(kinds, moves=self._law.kept is None)
        self._bank, self._choice = self._candidates, None
        if pilot is not None:
            self._choice = self._chosen(pilot)
            places = np.flatnonzero(self._choice.kept)
            self._candidates = [self._bank[place] for place in places]
            before = self._choice.rows
            self._drawn = self._drawn.part(slice(before, before + spec.rows))
        self._empty = for_nothing(self._candidates)
        self._scorers = Scorers(model, self._law, heats, spec.batch_rows, STRENGTHS)
        for each in (self._drawn, *clean):
            self._scorers.base.check(each.rows, each.ended_by)
        self._asking = Asking(
            *(self._scorers, self._drawn, self._candidates, self._columns),
            *(folder, f"scan {name}", report),
        )
        self._references = References(
            self._scorers, self._candidates, spec.clip, clean, folder, f"references {name}", report
        )
        self._rounds: list[dict[str, Any]] = []

    def _chosen(self, pilot: Path) -> Choice:
        """Who is asked about, by rows that nobody bets on."""
        spec, drawn = self._spec, self._drawn
        count = min(spec.pilot_rows, len(drawn.rows) // 2)
        if not count:
            raise InputError("one row is too few for a pilot", hint="scan it without")
        self._report(Progress(f"pilot {self._name}", 0, count, "rows"))
        some, file = drawn.part(slice(0, count)), self._folder / ".pilot.npz"
        keep, batch_rows = spec.pilot_keep, spec.batch_rows
        return choose(pilot, self._law, some, self._bank, keep, batch_rows, file)

    def made(self) -> Made:
        """Score until all is said, and say it."""
        spec, ask, near = self._spec, self._asking.round, None
        count, exhaustive = len(self._drawn.rows), spec.exhaustive
        race, ahead = raced(
            *(self._candidates, self._columns, spec.alpha, count, ask, self._told),
            exhaustive=exhaustive,
        )
        if not race.kept.any() and self._repeats() <= MOST_REPEATS:
            known, clip = self._asking.rows, spec.clip
            near = compared(self._candidates, spec.alpha, clip, count, ask, self._told, known=known)
        return self._said(race, ahead, near)

    def _on_the_writer(self) -> list[str]:
        """What there is to say of whom the rows' records name."""
        found = [
            f"by their record the rows were written behind the system prompt {quoted(prompt)}"
            for prompt in self._prompts
        ]
        adapters = {input_digest(each) for each in self._spec.bank.adapters().values()}
        named = {each.digest for each in self._law.writers}
        if self._writer in ("another model", "several models") and not named <= adapters:
            found.append(
                "the rows' record names another model than the base as their writer: if it was "
                "fine-tuned, they follow no candidate's law, and no law of this base if it is "
                "another's"
            )
        return found

    def _repeats(self) -> float:
        """How often rows may be expected to say again what one says that was looked at."""
        count = self._asking.rows
        likely = np.exp(np.nanmax(self._asking.log_p[:count], axis=1))
        return float(np.array(self._drawn.others[:count]) @ likely)

    def _told(self, phase: str, bets: Race | Nearest) -> None:
        """How it stands after a round, for `result.json`."""
        told = {
            "phase": phase,
            "rows": bets.rows,
            "asked": int(bets.active.sum()),
            "left": int(bets.kept.sum()),
            "leader": self._candidates[bets.leader].name,
        }
        if isinstance(bets, Race):
            against = bets.against()
            told |= {
                "log_e_something": round(bets.something(), 3),
                "log_against_plain": _rounded(against[0]),
                "log_against_leader": _rounded(against[bets.leader]),
            }
        self._rounds.append(told)

    def _said(self, race: Race, ahead: Mapping[int, int | None], near: Nearest | None) -> Made:
        candidates, spec, drawn = self._candidates, self._spec, self._drawn
        scores = self._asking.log_p[: self._asking.rows]
        count = len(scores)
        whole = ~np.isnan(scores).any(0)  # who was asked about every row
        left = (race if near is None else near).kept & ~self._empty
        best = best_of(scores, left, spec.clip)
        lead, clean, pull = None, {}, None
        if best is not None:
            lead = Lead.of(gains(scores, best, self._empty, spec.clip))
            clean = self._references.leads(best)
            rest = whole & (np.arange(len(candidates)) != best)
            pull = scores[:, best] - scores[:, rest].mean(1)
        among = self._references.among(drawn, scores[: race.rows], ahead)
        behind = lag(scores[: race.rows], self._empty)
        if self._choice is not None:  # of who is not asked, the pilot's word
            behind = np.append(behind, -self._choice.gains[~self._choice.kept])
        strength = power(behind, race.rows, spec.alpha)
        enough = rows_for_power(behind, spec.alpha)
        repeats = self._repeats()
        not_scored = [each for each in self._bank if each not in candidates]
        found = verdict(
            candidates,
            race,
            near,
            alpha=spec.alpha,
            knows_law=self._law.temperature is not None,
            power=strength,
            rows_for_power=enough,
            lead=lead,
            clean=clean,
            ranked=among,
            not_scored=len(not_scored),
            repeats=repeats > MOST_REPEATS,
        )
        found["notes"] += self._on_the_writer()
        if self._shared:
            found["notes"].append(
                f"{self._shared:,} reference rows are among the rows themselves: draw references "
                "with another seed"
            )
        names = [each.name for each in candidates]
        lengths = self._asking.tokens[:count]
        nearest = None if best is None else names[best]
        result = {
            **found,
            "rows": count,
            "rows_to_decision": rows_to_decision(candidates, race, near, spec.alpha),
            "rows_in_data": drawn.total,
            "copies": drawn.copies,
            "repeats_expected": round(repeats, 4),
            "repeats": repeats > MOST_REPEATS,
            "alpha": spec.alpha,
            "power": round(strength, 4),
            "rows_for_power": enough,
            "law": {
                "temperature": self._law.temperature,
                "grammar": self._law.grammar is not None,
                "known_from": self._law.known_from,
                "kept_by_filter": self._law.kept,
                "written_by": self._writer,
                "system_prompts": list(self._prompts),
            },
            "law_set": _names(candidates, race.kept),
            "nearest_set": None if near is None else _names(candidates, near.kept),
            "nearest": nearest,
            "not_scored": [each.name for each in not_scored],
            "pilot": None if self._choice is None else self._choice.to_json(self._bank),
            "findings": [{"figure": f"{count:,} rows", "text": found["sentence"], "met": None}],
            "figures": figures(nearest, lead, clean),
            "lead": None if lead is None else lead.to_json(),
            "clean_leads": {key: each.to_json() for key, each in clean.items()},
            "log_e_something": round(race.something(), 4),
            "log_e_among_references": None if among is None else round(among, 4),
            "pull_goes_with": None
            if pull is None
            else confounds(
                pull, {"tokens": lengths.astype(float), "base_loss": -scores[:, 0] / lengths}
            ),
            "rounds": self._rounds,
            "candidates": list(self._candidate_facts(scores, race, near)),
            "tokens": {"read": self._asking.read, "of_all_candidates": self._asking.whole},
        }
        self._write(scores, race, lengths, pull)
        if pull is not None and nearest is not None:
            self._explain(pull, nearest)
        return Made(result, {"scores.parquet": count})

    def _candidate_facts(
        self, scores: NDArray[np.float64], race: Race, near: Nearest | None
    ) -> Iterator[dict[str, Any]]:
        against = race.against()
        beaten = np.full(len(against), np.nan) if near is None else near.beaten()
        for place, each in enumerate(self._candidates):
            over = scores[:, place] - scores[:, 0]
            yield {
                "name": each.name,
                "kind": each.kind,
                "trait": each.trait,
                "rows": int((~np.isnan(over)).sum()),
                "nats_a_row": _rounded(float(np.nanmean(over))),
                "left_law": int(race.left[place]),
                "left_nearest": None if near is None else int(near.left[place]),
                "log_against": _rounded(against[place]),
                "log_beaten": _rounded(beaten[place]),
            }

    def _explain(self, pull: NDArray[np.float64], nearest: str) -> None:
        """Keep what the tokens of those rows gain that gain most."""
        places = np.argsort(-pull, kind="stable")[:_EXPLAINED_ROWS].tolist()
        rows = prepared(self._scorers, self._drawn, places)
        gains = token_gains(self._scorers, rows, self._candidates, nearest)
        kept = [
            {
                "row": place,
                "id": self._drawn.rows[place].id,
                "pull": float(pull[place]),
                "tokens": tokens,
            }
            for place, tokens in zip(places, gains, strict=True)
        ]
        write_atomically(self._folder / "tokens.json", json.dumps(kept, indent=1) + "\n")

    def _write(
        self,
        scores: NDArray[np.float64],
        race: Race,
        lengths: NDArray[np.int64],
        pull: NDArray[np.float64] | None,
    ) -> None:
        import polars

        drawn, count = self._drawn, len(scores)
        later = [None] * (count - race.rows)
        columns: dict[str, Any] = {
            "key": drawn.keys[:count],
            "id": [row.id for row in drawn.rows[:count]],
            "tokens": lengths,
            "base_log_p": scores[:, 0],
            "log_e_something": [*(something for something, _ in race.history), *later],
            "log_against_plain": [*(against for _, against in race.history), *later],
        }
        if pull is not None:
            columns["pull"] = pull
        for place, each in enumerate(self._candidates):
            values = scores[:, place]
            columns[f"log_p:{each.name}"] = [None if np.isnan(v) else float(v) for v in values]
        schema = {"id": polars.String}
        table = polars.DataFrame(columns, schema_overrides=schema)
        table.write_parquet(self._folder / "scores.parquet")


def _names(candidates: Sequence[Candidate], among: NDArray[np.bool_]) -> list[str]:
    return [each.name for each, is_in in zip(candidates, among, strict=True) if is_in]


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
