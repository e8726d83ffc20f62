"""How much each token of a data set speaks for the trait that a scan came to.

    OUT/pull.parquet   a row for each row of the data, in its order: key and id, and of each of its
                       tokens where it stands and its pull
    OUT/result.json    whose pull, and how it is spread

The pull of a token is log p behind the trait's system prompt, less the mean of log p behind the
neutral ones of the bank, under the rows' own law: what `subl scan explain` shows, of all rows. Of a
suspect, a model that may have written the rows or was trained on them, it is log p under that less
log p under the base.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import Artifact, Made, build, check_made_with
from subl.artifact import write_atomically as written
from subl.audit.mitigate.pulls import FILE, line_of, table_of
from subl.audit.mitigate.spec import PullSpec
from subl.audit.mitigate.units import units_of
from subl.audit.scan.bank import PLAIN, Candidate
from subl.audit.scan.drawn import key_of
from subl.audit.scan.law import Law
from subl.audit.scan.run import law_of, scanned
from subl.audit.scan.spec import ScanSpec
from subl.errors import ConfigError, InputError
from subl.model.chat import Chat
from subl.progress import Progress, Report, silent
from subl.shards import Row, read_objects
from subl.shards.rows import LOSS_MASK, row_of
from subl.stage import input_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUSPECT = "suspect"
_ROUND = 64
"""Rows whose scores are on the disk before the next are read."""
_SAME = 0.5
"""Share of the rows that a scan has read which must be among those that it is given for: they may
have been filtered since."""


def named(scan: Artifact, candidates: Sequence[Candidate]) -> str | None:
    """The candidate whose trait the scan named, or which alone is the nearest; None: the scan could
    not tell, and who merely is ahead is nobody."""
    result = scan.result
    trait = result["trait"] or result["nearest_trait"]
    own = [each.name for each in candidates if trait is not None and each.trait == trait]
    nearest: str | None = result["nearest"]
    return nearest if nearest in own else next(iter(own), None)


def pulling(scan: Artifact, told: ScanSpec, name: str | None) -> list[Candidate]:
    """Whose pull is meant, and behind that the neutral candidates.

    Raises:
        InputError: the bank does not have it, or it stands for nothing, or the scan named nobody.
    """
    candidates = told.bank.candidates(told.kinds)
    name = named(scan, candidates) if name is None else name
    if name is None:
        ahead = scan.result["nearest"]
        merely = "" if ahead is None else f" ({ahead} is ahead, and not alone)"
        raise InputError(
            f"{scan.path} named no trait{merely}",
            hint="--candidate NAME of subl mitigate, or candidate = NAME in the pull.toml of subl "
            "mitigate pull, says whose is meant, of the scan's bank",
        )
    own = next((each for each in candidates if each.name == name), None)
    if own is None or own.trait is None:
        raise InputError(
            f"the bank of {scan.path} has no candidate {name!r} that stands for something",
            hint=f"such as {', '.join(each.name for each in candidates if each.trait)[:80]}",
        )
    return [own, *(each for each in candidates if each.trait is None and each.name != PLAIN)]


def pull(
    spec: PullSpec,
    model: Path,
    rows: Sequence[Path],
    scan: Path | None,
    out: Path,
    *,
    suspect: Path | None = None,
    name: str = "rows",
    report: Report = silent,
) -> Artifact:
    """Measure the pull of every token of `rows`.

    Args:
        model: the base that `scan` was made with.
        suspect: whose pull it is, in place of a candidate's of the scan.

    Raises:
        InputError: `scan` is no scan, or of other rows or another model, or named nobody; a row
            cannot be scored; or the suspect has other tokens.
    """
    if scan is not None:
        scanned(scan)
        check_made_with(scan, "model", model)

    def work(folder: Path) -> Made:
        return _Pull(spec, model, rows, scan, suspect, folder, name, report).made()

    given = {"model": [model], "rows": rows}
    given |= {} if scan is None else {"scan": [scan]}
    given |= {} if suspect is None else {"suspect": [suspect]}
    return build(out, "pull", spec, input_names(spec, given), work)


def check_given(spec: PullSpec, given: Collection[str]) -> None:
    """Refuse to measure nobody's pull, and a candidate's beside a suspect's.

    Raises:
        ConfigError: says what to give.
    """
    if "scan" not in given and "suspect" not in given:
        raise ConfigError(
            "whose pull is meant?", hint="give a scan, or a suspect: a model that may have written"
        )
    if "suspect" in given and spec.candidate is not None:
        raise ConfigError(f"there is a suspect beside the candidate {spec.candidate}")


class _Pull:
    def __init__(
        self,
        spec: PullSpec,
        model: Path,
        rows: Sequence[Path],
        scan: Path | None,
        suspect: Path | None,
        folder: Path,
        name: str,
        report: Report,
    ) -> None:
        from subl.audit.scan.score import Scorer
        from subl.model.load import load_model, load_tokenizer

        self._folder, self._name, self._report = folder, name, report
        self._rows, self._ended = _read(rows)
        self._keys = [key_of(row) for row in self._rows]
        told, self._found = ScanSpec(), 0
        if scan is not None:
            artifact, told = scanned(scan)
            self._found = check_scanned(scan, self._keys, rows)
        plain = Candidate(PLAIN, PLAIN, None, None)
        # Whose pull it is, and of whom the mean is taken from that.
        candidates = [plain, plain]
        if suspect is None:
            assert scan is not None
            candidates = pulling(artifact, told, spec.candidate)
        self._whose = None if suspect is not None else candidates[0]
        self._law: Law = law_of(told, rows)
        self._tokenizer = load_tokenizer(model)
        heat = 1.0 if self._law.temperature is None else self._law.temperature

        def scorer(folder: Path) -> Scorer:
            tokenizer = load_tokenizer(folder)
            if tokenizer.get_vocab() != self._tokenizer.get_vocab():
                raise InputError(
                    f"{folder} has other tokens than the base",
                    hint="a suspect, or a candidate's adapter, is a model of this base",
                )
            return Scorer(load_model(folder), tokenizer, self._law, [heat], spec.batch_rows)

        self._proven = False
        base = scorer(model)
        of = candidates[0].adapter if suspect is None else suspect
        own = base if of is None else scorer(of)
        self._asked = [(own, candidates[0]), *((base, each) for each in candidates[1:])]

    def made(self) -> Made:
        """Score all rows, some at a time, and write them down."""
        chat = Chat(self._tokenizer, self._law.template)
        table = []
        for start in range(0, len(self._rows), _ROUND):
            part = slice(start, start + _ROUND)
            scored = zip(self._rows[part], self._keys[part], self._round(start), strict=True)
            for row, key, (pulls, choices) in scored:
                units = units_of(self._tokenizer, chat, row)
                table.append(line_of(row, key, units, pulls, choices))
        return self._written(table)

    def _round(self, start: int) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """Of each row, its tokens' pulls, and how many tokens the grammar allowed there (0: there
        is none)."""
        import numpy as np

        file = self._folder / f".round-{start:08}.npz"
        if not file.exists():
            part = slice(start, start + _ROUND)
            rows = self._asked[-1][0].prepared(self._rows[part], self._ended[part])
            if not self._proven:
                for scorer in dict.fromkeys(scorer for scorer, _ in self._asked):
                    mine = (each for own, each in self._asked if own is scorer)
                    scorer.prove(rows, max(mine, key=lambda each: len(each.prompt or "")))
                self._proven = True
            scores = []
            for done, (scorer, each) in enumerate(self._asked):
                self._tell(start + len(rows.rows) * done // len(self._asked))
                scores.append([found[:, 0] for found in scorer.by_token(rows, each)])
            own, *neutral = (np.concatenate(each) for each in scores)
            lengths = [len(each) for each in scores[0]]
            choices = np.zeros(len(own), np.int64)
            if rows.allowed is not None:
                choices[:] = [len(ids) for row in rows.allowed for ids in row]
            pulls = own - np.mean(neutral, axis=0)
            if not np.isfinite(pulls).all():
                raise InputError("the model's log-probabilities are no numbers")
            held = io.BytesIO()
            np.savez(held, pulls=pulls, choices=choices, lengths=lengths)
            written(file, held.getvalue())
        with np.load(file, allow_pickle=False) as kept:
            cuts = np.cumsum(kept["lengths"])[:-1]
            yield from zip(
                np.split(kept["pulls"], cuts), np.split(kept["choices"], cuts), strict=True
            )

    def _tell(self, done: int) -> None:
        self._report(Progress(f"pull {self._name}", done, len(self._rows), "rows"))

    def _written(self, table: Sequence[dict[str, Any]]) -> Made:
        frame = table_of(table)
        frame.write_parquet(self._folder / FILE)
        each = frame["pull"].explode(empty_as_null=False).sort(descending=True)
        tenth = each.head(len(each) // 10)
        grammar = self._law.grammar
        result = {
            "candidate": SUSPECT if self._whose is None else self._whose.name,
            "trait": None if self._whose is None else self._whose.trait,
            "rows": len(table),
            "scanned_rows": self._found,
            "tokens": int(frame["pieces"].explode(empty_as_null=False).sum()),
            "nats_a_token": each.mean(),
            "nats_a_token_of_highest_tenth": tenth.mean(),
            "law": {
                "temperature": self._law.temperature,
                "grammar": None if grammar is None else grammar.model_dump(mode="json"),
                "template": self._law.template.model_dump(mode="json"),
                "known_from": self._law.known_from,
            },
        }
        return Made(result, {FILE: len(table)})


def _read(paths: Sequence[Path]) -> tuple[list[Row], list[str | None]]:
    columns = ["id", "prompt", "completion", "messages", LOSS_MASK, "ended_by"]
    rows, ended = [], []
    for value, place in read_objects(paths, columns):
        rows.append(row_of(value, place))
        said = value.get("ended_by")
        ended.append(said if isinstance(said, str) else None)
    if not rows:
        raise InputError(f"{paths[0]} has no rows", hint="give a data set that has some")
    return rows, ended


def check_scanned(scan: Path, keys: Collection[str], rows: Sequence[Path]) -> int:
    """How many of the rows, of which these are the keys, the scan has read.

    Raises:
        InputError: most rows that the scan has read are not among them.
    """
    import polars

    read = {*polars.read_parquet(scan / "scores.parquet", columns=["key"])["key"].to_list()}
    found = len(read.intersection(keys))
    if found < _SAME * len(read):
        raise InputError(
            f"{scan} is of other rows: of the {len(read):,} that it has read, {found:,} are in "
            f"{rows[0]}",
            hint="give the rows that were scanned, or scan these",
        )
    return sum(key in read for key in keys)
