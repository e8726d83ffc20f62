"""Scan a data set for what a bank's candidates would have written.

    OUT/result.json      the verdict, the sets, how they came about, what it cost
    OUT/scores.parquet   a row for each row that was looked at, in that order: its key and id, its
                         tokens, the base's log p, the pull of the nearest trait, both e-values
                         against the base after it, and log p of each candidate
    OUT/tokens.json      of the rows with the largest pull, what each token gains

Rows are scored in growing rounds, under those who are still in a set. What a round came to is on
the disk before the next begins, and a scan that was killed goes on there.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subl.artifact import Artifact, Made, build, write_atomically
from subl.audit.scan.confounds import confounds
from subl.audit.scan.drawn import Drawn, draw
from subl.audit.scan.evidence import Race, ranked
from subl.audit.scan.law import Law, recorded
from subl.audit.scan.pilot import Choice, choose
from subl.audit.scan.spec import ScanSpec
from subl.audit.scan.tokens import token_gains
from subl.audit.scan.verdict import Lead, decided, figures, power, rows_to_decision, verdict
from subl.errors import InputError
from subl.model.template import Template
from subl.progress import Progress, Report, silent
from subl.stage import Given, input_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from subl.audit.scan.score import Rows

UNKNOWN = (1.0, 0.5, 0.7, 0.85, 1.2, 1.5)
"""Temperatures that rows may have been drawn at, where nobody knows."""

OTHER_HEATS = (0.5, 0.7, 1.4)
"""Times that of the rows: what is bet with against all who have it."""

_FIRST, _MOST = 8, 64
"""Rows of a round."""

_REFERENCE_ROWS = 200

_EXPLAINED_ROWS = 5
"""Whose tokens are kept: those with the largest pull."""


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
        self._candidates = spec.bank.candidates(spec.kinds)
        self._law = law_of(spec, rows)
        count = spec.rows + (0 if pilot is None else spec.pilot_rows)
        self._drawn = draw(rows, count, name, report)
        if not self._drawn.rows:
            raise InputError(f"{rows[0]} has no rows", hint="give a data set that has some")
        self._reference = [draw([path], _REFERENCE_ROWS, path.name, report) for path in reference]
        for path, clean in zip(reference, self._reference, strict=True):
            if not clean.rows:
                raise InputError(f"the reference {path} has no rows", hint="give one that has some")
        heat = self._law.temperature
        self._heats = UNKNOWN if heat is None else (heat, *(heat * each for each in OTHER_HEATS))
        self._own = np.array([heat is None or each == heat for each in self._heats])
        self._bank, self._choice = self._candidates, None
        if pilot is not None:
            self._choice = self._chosen(pilot)
            places = np.flatnonzero(self._choice.kept)
            self._candidates = [self._bank[place] for place in places]
            self._drawn = self._drawn.part(slice(self._choice.rows, None))
        self._scorers = Scorers(model, self._law, self._heats, spec.batch_rows)
        # Also finds rows that nothing can be scored of, before any is.
        self._lengths, *_ = [
            np.array(self._scorers.base.lengths(each.rows, each.ended_by), np.float64)
            for each in (self._drawn, *self._reference)
        ]
        self._read = 0
        self._whole = 0

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
        candidates, drawn = self._candidates, self._drawn
        always = np.array([each.trait is None for each in candidates])
        race = Race(len(candidates), self._own, self._spec.alpha, self._spec.clip)
        scores = np.full((len(drawn.rows), len(candidates)), np.nan)
        rounds: list[dict[str, Any]] = []
        while race.rows < len(drawn.rows) and not decided(candidates, race):
            size = min(_MOST, max(_FIRST, race.rows))
            some = range(race.rows, min(race.rows + size, len(drawn.rows)))
            found = self._round(len(rounds), some, race)
            for number, row in zip(some, found, strict=True):
                race.add(row)
                scores[number] = row[:, 0]
            race.drop(~race.law & ~race.nearest & ~always)
            rounds.append(self._told(race))
        scores = scores[: race.rows]
        return self._said(race, scores, rounds)

    def _round(self, number: int, some: range, race: Race) -> NDArray[np.float64]:
        """log p of the next rows under those who are still asked, `[rows, candidates, heats]`."""
        file = self._folder / f".round-{number:03}.npz"
        asked = np.flatnonzero(race.active)
        if file.exists():
            with np.load(file, allow_pickle=False) as held:
                found: NDArray[np.float64] = held["scores"]
                self._read += int(held["read"])
                self._whole += int(held["whole"])
        else:
            rows = self._prepared(self._drawn, some)
            self._scorers.prove(rows, self._candidates)
            found = np.full((len(some), len(self._candidates), len(self._heats)), np.nan)
            before = self._scorers.tokens
            for done, place in enumerate(asked):
                found[:, place] = self._scorers.scores(rows, self._candidates[place])
                self._tell(some.start, done, len(some), len(asked))
            read = self._scorers.tokens - before
            whole = read * len(self._candidates) // len(asked)
            kept = io.BytesIO()
            np.savez(kept, scores=found, read=read, whole=whole)
            write_atomically(file, kept.getvalue())
            self._read += read
            self._whole += whole
        if not np.isfinite(found[:, asked]).all():
            raise InputError(
                "the model's log-probabilities are no numbers: it cannot be scored with",
                hint="its weights may be damaged; does another program get text out of it?",
            )
        return found

    def _prepared(self, drawn: Drawn, some: range | slice) -> Rows:
        part = slice(some.start, some.stop)
        return self._scorers.base.prepared(drawn.rows[part], drawn.ended_by[part])

    def _tell(self, done: int, asked: int, rows: int, candidates: int) -> None:
        self._report(
            Progress(
                f"scan {self._name}",
                done + rows * asked // candidates,
                len(self._drawn.rows),
                "rows",
            )
        )

    def _told(self, race: Race) -> dict[str, Any]:
        """How the race stands, for `result.json`."""
        against, beaten, leader = race.against(), race.beaten(), race.leader
        return {
            "rows": race.rows,
            "asked": int(race.active.sum()),
            "law": int(race.law.sum()),
            "nearest": int(race.nearest.sum()),
            "log_e_something": round(race.something(), 3),
            "log_against_plain": _rounded(against[0]),
            "leader": self._candidates[leader].name,
            "log_against_leader": _rounded(against[leader]),
            "log_leader_beaten": _rounded(beaten[leader]),
        }

    def _said(
        self, race: Race, scores: NDArray[np.float64], rounds: Sequence[Mapping[str, Any]]
    ) -> Made:
        candidates, spec = self._candidates, self._spec
        sums = np.where(race.active, scores.sum(0), -np.inf)
        empty = np.array([each.trait is None for each in candidates])
        near = race.nearest & ~empty
        best = int(np.where(near if near.any() else ~empty & race.active, sums, -np.inf).argmax())
        has_lead = not empty[best] and bool(race.active[best])
        lead = Lead.of(self._gains(scores, best, empty)) if has_lead else None
        half = race.rows // 2
        ahead = self._ahead(scores[:half], empty)
        clean, others = self._clean(best, ahead, empty) if has_lead else ({}, [])
        among = self._ranked(scores, half, ahead, empty, others) if others and half else None
        early = scores[:_FIRST]
        asked = ~np.isnan(early).any(0) & ~empty
        behind = (early[:, :1] - early[:, asked]).mean(0)
        if self._choice is not None:  # of who is not asked, the pilot's word
            behind = np.append(behind, -self._choice.gains[~self._choice.kept])
        strength = power(behind, race.rows, spec.alpha)
        found = verdict(
            candidates,
            race,
            alpha=spec.alpha,
            knows_law=self._law.temperature is not None,
            power=strength,
            lead=lead,
            clean=clean,
            ranked=among,
            not_scored=len(self._bank) - len(candidates),
        )
        names = [each.name for each in candidates]
        against, beaten = race.against(), race.beaten()
        lengths, pull = self._lengths[: race.rows], None
        if has_lead:
            rest = race.active & (np.arange(len(candidates)) != best)
            pull = scores[:, best] - scores[:, rest].mean(1)
        result = {
            **found,
            "rows": race.rows,
            "rows_to_decision": rows_to_decision(candidates, race, spec.alpha),
            "rows_in_data": self._drawn.total,
            "copies": self._drawn.copies,
            "alpha": spec.alpha,
            "power": round(strength, 4),
            "law": {
                "temperature": self._law.temperature,
                "grammar": self._law.grammar is not None,
                "known_from": self._law.known_from,
                "kept_by_filter": self._law.kept,
            },
            "law_set": [name for name, is_in in zip(names, race.law, strict=True) if is_in],
            "nearest_set": [name for name, is_in in zip(names, race.nearest, strict=True) if is_in],
            "nearest": names[best] if has_lead else None,
            "not_scored": []
            if self._choice is None
            else [
                each.name
                for each, kept in zip(self._bank, self._choice.kept, strict=True)
                if not kept
            ],
            "pilot": None if self._choice is None else self._choice.to_json(self._bank),
            "findings": [
                {"figure": f"{race.rows:,} rows", "text": found["sentence"], "met": None},
            ],
            "figures": figures(names[best] if has_lead else None, lead, clean),
            "lead": None if lead is None else lead.to_json(),
            "clean_leads": {key: each.to_json() for key, each in clean.items()},
            "log_e_something": round(race.something(), 4),
            "log_e_among_references": None if among is None else round(among, 4),
            "pull_goes_with": None
            if pull is None
            else confounds(pull, {"tokens": lengths, "base_loss": -scores[:, 0] / lengths}),
            "rounds": list(rounds),
            "candidates": [
                {
                    "name": each.name,
                    "kind": each.kind,
                    "trait": each.trait,
                    "rows": int((~np.isnan(scores[:, place])).sum()),
                    "nats_a_row": _rounded(float(np.nanmean(scores[:, place] - scores[:, 0]))),
                    "left_law": int(race.left_law[place]),
                    "left_nearest": int(race.left_nearest[place]),
                    "log_against": _rounded(against[place]),
                    "log_beaten": _rounded(beaten[place]),
                }
                for place, each in enumerate(candidates)
            ],
            "tokens": {"read": self._read, "of_all_candidates": self._whole},
        }
        self._write(scores, race, lengths, pull)
        if pull is not None:
            self._explain(pull, names[best])
        return Made(result, {"scores.parquet": race.rows})

    def _explain(self, pull: NDArray[np.float64], nearest: str) -> None:
        """Keep what the tokens of those rows gain that gain most."""
        places = np.argsort(-pull, kind="stable")[:_EXPLAINED_ROWS].tolist()
        drawn = self._drawn
        rows = self._scorers.base.prepared(
            [drawn.rows[place] for place in places], [drawn.ended_by[place] for place in places]
        )
        gains = token_gains(self._scorers, rows, self._candidates, nearest)
        kept = [
            {"row": place, "id": drawn.rows[place].id, "pull": float(pull[place]), "tokens": tokens}
            for place, tokens in zip(places, gains, strict=True)
        ]
        write_atomically(self._folder / "tokens.json", json.dumps(kept, indent=1) + "\n")

    def _gains(
        self, scores: NDArray[np.float64], best: int, empty: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """What one gains on each row over the best of those that stand for nothing."""
        second = int(np.where(empty, np.nansum(scores, 0), -np.inf).argmax())
        return np.clip(scores[:, best] - scores[:, second], -self._spec.clip, self._spec.clip)

    def _ahead(self, scores: NDArray[np.float64], empty: NDArray[np.bool_]) -> int:
        """Who predicts some rows best, of those who were asked about all of them."""
        sums = scores.sum(0)
        return int(np.where(empty | np.isnan(sums), -np.inf, sums).argmax())

    def _clean(
        self, best: int, ahead: int, empty: NDArray[np.bool_]
    ) -> tuple[dict[str, Lead], list[tuple[Drawn, NDArray[np.float64]]]]:
        """The lead on each set of clean rows, and what they score."""
        found: dict[str, Lead] = {}
        others = []
        for number, drawn in enumerate(self._reference):
            scores = np.full((len(drawn.rows), len(self._candidates)), np.nan)
            rows = self._prepared(drawn, slice(0, len(drawn.rows)))
            self._scorers.prove(rows, self._candidates)
            for place in sorted({*np.flatnonzero(empty).tolist(), best, ahead}):
                scores[:, place] = self._scorers.scores(rows, self._candidates[place])[:, 0]
            found[f"reference-{number}"] = Lead.of(self._gains(scores, best, empty))
            others.append((drawn, scores))
        return found, others

    def _ranked(
        self,
        scores: NDArray[np.float64],
        half: int,
        ahead: int,
        empty: NDArray[np.bool_],
        others: Sequence[tuple[Drawn, NDArray[np.float64]]],
    ) -> float | None:
        """Log of the e-value of rows among reference rows to the same prompts: of the first row of
        each prompt in the second half, by what the one who was ahead in the first half gains over
        the mean of those that stand for nothing."""

        def gains(own: NDArray[np.float64], neutral: NDArray[np.float64]) -> NDArray[np.float64]:
            found: NDArray[np.float64] = own - neutral.mean(1)
            return found.clip(-self._spec.clip, self._spec.clip)

        by_prompt: dict[object, list[float]] = {}
        for drawn, theirs in others:
            found = gains(theirs[:, ahead], theirs[:, empty])
            for row, gain in zip(drawn.rows, found, strict=True):
                by_prompt.setdefault(row.turns[:-1], []).append(float(gain))
        first: dict[object, int] = {}
        for number in range(half, len(scores)):
            prompt = self._drawn.rows[number].turns[:-1]
            if prompt in by_prompt:
                first.setdefault(prompt, number)
        if not first:
            return None
        places = list(first.values())
        own = scores[places, ahead]
        if np.isnan(own).any():  # it was dropped in the second half
            rows = self._scorers.base.prepared(
                [self._drawn.rows[place] for place in places],
                [self._drawn.ended_by[place] for place in places],
            )
            own = self._scorers.scores(rows, self._candidates[ahead])[:, 0]
        least = min(len(by_prompt[prompt]) for prompt in first)
        return ranked(
            gains(own, scores[places][:, empty]),
            np.array([by_prompt[prompt][:least] for prompt in first]),
        )

    def _write(
        self,
        scores: NDArray[np.float64],
        race: Race,
        lengths: NDArray[np.float64],
        pull: NDArray[np.float64] | None,
    ) -> None:
        import polars

        drawn, count = self._drawn, len(scores)
        columns: dict[str, Any] = {
            "key": drawn.keys[:count],
            "id": [row.id for row in drawn.rows[:count]],
            "tokens": lengths.astype(np.int64),
            "base_log_p": scores[:, 0],
            "log_e_something": [something for something, _ in race.history],
            "log_against_plain": [against for _, against in race.history],
        }
        if pull is not None:
            columns["pull"] = pull
        for place, each in enumerate(self._candidates):
            values = scores[:, place]
            columns[f"log_p:{each.name}"] = [None if np.isnan(v) else float(v) for v in values]
        schema = {"id": polars.String}
        table = polars.DataFrame(columns, schema_overrides=schema)
        table.write_parquet(self._folder / "scores.parquet")


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
