"""Write a data set without what a scan found in it.

    OUT/kept/part-00000.jsonl   the rows, in their order; those that nothing was done to byte for
                                byte (of Parquet: as JSON)
    OUT/accounting.parquet      what became of each row of the data: kept, edited (where, from what,
                                to what) or dropped (why); and the rows that were added
    OUT/result.json             how much was taken

It is about rows that a student learns as they are (`targets = "labels"`). A teacher's distributions
hand a trait down over any rows, so that taking some out takes nothing away.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from subl.artifact import (
    Artifact,
    Made,
    build,
    check_made_with,
    input_digest,
    open_artifact,
    read_statement,
    spec_record,
    write_atomically,
)
from subl.audit.mitigate import choose
from subl.audit.mitigate.pulls import Token, read_pulls
from subl.audit.mitigate.spec import MitigateSpec
from subl.audit.mitigate.units import Unit, joined
from subl.audit.scan.drawn import key_of
from subl.errors import ConfigError, InputError
from subl.filter import FilterSpec
from subl.filter.explain import explain
from subl.progress import Report, silent
from subl.shards import Line, read_lines
from subl.shards.decode import put
from subl.shards.rows import LOSS_MASK, row_of
from subl.stage import input_names

DATA, ACCOUNTING = "kept/part-00000.jsonl", "accounting.parquet"


@dataclass
class _Fate:
    """What becomes of a row; `edits`: (token, what stands there now)."""

    line: str
    fate: str = "kept"
    reason: str | None = None
    edits: Sequence[tuple[Token, str | None]] = ()


def check_given(spec: MitigateSpec, given: Collection[str]) -> None:
    """Refuse inputs that the method has no use for, and the other way round.

    Raises:
        ConfigError: says which to give or to leave out.
    """
    for name, needed in (("model", spec.method == "replace"), ("clean", spec.method == "dilute")):
        if needed and name not in given:
            raise ConfigError(
                f'method = "{spec.method}" needs {name}',
                hint="the scan's model, which says what else may stand there"
                if name == "model"
                else "rows of another source, to put in place of those that are taken out",
            )
        if name == "clean" and name in given and not needed:
            raise ConfigError(f'method = "{spec.method}" takes no clean rows', hint="leave it out")


def check_rows(rows: Sequence[Path]) -> None:
    """Refuse what is no rows, and what holds a teacher's distributions.

    Raises:
        InputError: it does.
    """
    from subl.experiment.kinds import check_input

    for path in rows:
        if path.is_dir() and read_statement(path) and open_artifact(path).kind == "cache":
            raise InputError(
                f"{path} holds a teacher's distributions, which hand a trait down over any rows: "
                "nothing of these can be cut out",
                hint='train on rows that were sampled (targets = "labels"), and mitigate those',
            )
        check_input(path, "rows")


def check_held_out(held_out: Sequence[Path], trained: Sequence[Path]) -> None:
    """Refuse to hold out a set of rows that students are trained on.

    Raises:
        InputError: names it.
    """
    known = {input_digest(path) for path in trained}
    for path in held_out:
        if input_digest(path) in known:
            raise InputError(
                f"{path} is held out, and students are trained on it",
                hint="give rows of the task that nobody trains on",
            )


def mitigate(
    spec: MitigateSpec,
    rows: Sequence[Path],
    pulled: Path,
    out: Path,
    *,
    model: Path | None = None,
    clean: Sequence[Path] = (),
    name: str = "rows",
    report: Report = silent,
) -> Artifact:
    """Take out of `rows` what `spec` says. All rows are held in memory.

    Args:
        pulled: what `pull` found of these rows.
        model: the base (replace).
        clean: rows that stand in (dilute).

    Raises:
        InputError: `pulled` is of other rows or another model; a row cannot be edited; or clean
            rows are too few.
    """
    check_rows(rows)
    if model is not None:
        check_made_with(pulled, "model", model)
    given = {
        "model": [] if model is None else [model],
        "rows": rows,
        "pull": [pulled],
        "clean": clean,
    }

    def work(folder: Path) -> Made:
        return _Mitigation(spec, rows, pulled, model, clean, report).made(folder)

    return build(out, "mitigate", spec, input_names(spec, given), work)


def _filters(rows: Sequence[Path]) -> list[FilterSpec]:
    """The rules that rows have passed, of those that a filter kept."""
    records = [read_statement(path) for path in rows if path.is_dir()]
    said = [spec_record(each) for each in records if each is not None]
    return [FilterSpec.model_validate(each["spec"]) for each in said if each["kind"] == "filter"]


class _Mitigation:
    def __init__(
        self,
        spec: MitigateSpec,
        rows: Sequence[Path],
        pulled: Path,
        model: Path | None,
        clean: Sequence[Path],
        report: Report,
    ) -> None:
        self._spec, self._model, self._clean, self._report = spec, model, clean, report
        self._lines = list(read_lines(rows))
        self._rows = [row_of(each.value, each.place) for each in self._lines]
        self._pulls = read_pulls(pulled)
        if [key_of(row) for row in self._rows] != list(self._pulls.keys):
            raise InputError(
                f"{pulled} is of other rows than {rows[0]}, or of these in another order",
                hint="give the rows whose pull was measured",
            )
        self._fates = [_Fate(each.content.decode()) for each in self._lines]
        self._rules = _filters(rows)
        self._added: list[Line] = []
        self._asked = 0

    def made(self, folder: Path) -> Made:
        match self._spec.method:
            case "mask":
                self._mask()
            case "replace":
                self._replace()
            case "drop":
                self._drop("its pull")
            case "dilute":
                self._dilute()
        if not self._asked:
            raise InputError(
                f"a share of {self._spec.taken:g} is nothing of {self._pulls.count:,} tokens in "
                f"{len(self._rows):,} rows",
                hint="take a larger share",
            )
        lines = [each.line for each in self._fates if each.fate != "dropped"]
        lines += [each.content.decode() for each in self._added]
        if not lines:
            raise InputError("nothing is left of the rows", hint="take a smaller share")
        (folder / DATA).parent.mkdir(exist_ok=True)
        write_atomically(folder / DATA, "".join(f"{line}\n" for line in lines))
        count = self._account(folder / ACCOUNTING)
        return Made(self._result(len(lines)), {DATA: len(lines), ACCOUNTING: count})

    def _chosen(self, texts: bool) -> list[list[Token]]:
        """The tokens that are taken of each row.

        Args:
            texts: only single tokens with a letter or digit, which others can stand for.
        """
        for row in self._rows:
            if row.left_out:
                raise InputError(
                    f"{row.place}: it has a `{LOSS_MASK}` already",
                    hint="mitigate the rows that it was made of",
                )

        def may(token: Token) -> bool:
            text = self._text(token)
            alone = token.pieces == 1 and choose.is_word_or_number(text)
            return choose.is_free(token) and (alone or not texts)

        spec = self._spec
        found = choose.tokens(self._pulls, spec.taken, spec.arm, spec.seed, may)
        self._asked = sum(each.pieces for each in found)
        return choose.by_row(found, len(self._rows))

    def _text(self, token: Token) -> str:
        return self._rows[token.row].turns[token.turn][1][token.start : token.end]

    def _mask(self) -> None:
        for number, tokens in enumerate(self._chosen(texts=False)):
            if tokens:
                units = [Unit(each.turn, each.start, each.end, ()) for each in tokens]
                masks: dict[int, Any] = {
                    turn: choose.mask_of(self._rows[number].turns[turn][1], joined(units, turn))
                    for turn in {each.turn for each in tokens}
                }
                self._edit(number, LOSS_MASK, masks, [(each, None) for each in tokens])

    def _replace(self) -> None:
        from subl.audit.mitigate.replace import Replacer
        from subl.model.load import load_model, load_tokenizer

        assert self._model is not None
        chosen = self._chosen(texts=True)
        replacer = Replacer(
            load_model(self._model),
            load_tokenizer(self._model),
            self._pulls.law,
            batch_rows=self._spec.batch_rows,
            seed=self._spec.seed,
            report=self._report,
        )
        done = replacer.replaced(self._rows, self._pulls.keys, chosen)
        for number, (row, edits) in enumerate(done):
            made = [(token, by) for token, by in edits if by is not None]
            if made:
                texts: dict[int, Any] = {
                    turn: row.turns[turn][1] for turn in {each.turn for each, _ in made}
                }
                self._edit(number, None, texts, made)
            elif edits:
                self._fates[number].reason = "no other token may stand there"

    def _edit(
        self,
        number: int,
        key: str | None,
        values: dict[int, Any],
        edits: Sequence[tuple[Token, str | None]],
    ) -> None:
        """Write values beside the texts of turns, or in their place."""
        fate = self._fates[number]
        line, has_turns = fate.line, self._lines[number].value.get("messages") is not None
        for turn, each in values.items():
            beside: list[str | int] = ["messages", turn] if has_turns else []
            line = put(line, [*beside, key or ("content" if has_turns else "completion")], each)
        # What is written is what is meant, or it is not written.
        row = row_of(json.loads(line), self._lines[number].place)
        assert (row.left_out or key is None) and len(row.turns) == len(self._rows[number].turns)
        if key is None and not all(explain(each, line.encode())["kept"] for each in self._rules):
            fate.reason = "the rows' filter drops it with what the base says there"
            return
        fate.line, fate.fate, fate.edits = line, "edited", edits

    def _drop(self, reason: str) -> None:
        spec = self._spec
        taken = choose.rows(self._pulls, spec.taken, spec.arm, spec.seed)
        self._asked = len(taken)
        for number in taken:
            fate = self._fates[number]
            fate.fate = "dropped"
            fate.reason = reason if spec.arm == "pull" else "drawn at random"

    def _dilute(self) -> None:
        self._drop("its pull; a clean row stands in")
        clean = list(read_lines(self._clean))
        if len(clean) < self._asked:
            raise InputError(
                f"{self._asked:,} rows are to be replaced, and there are {len(clean):,} clean ones",
                hint="take a smaller share, or give more",
            )
        for each in clean:
            row_of(each.value, each.place)  # raises where it is none
        places = Random(self._spec.seed).sample(range(len(clean)), self._asked)
        self._added = [clean[place] for place in places]

    def _account(self, path: Path) -> int:
        import polars

        rows: list[dict[str, Any]] = [
            {
                "row": number,
                "id": self._rows[number].id,
                "key": self._pulls.keys[number],
                "fate": each.fate,
                "reason": each.reason,
                "tokens": sum(token.pieces for token in self._pulls.tokens[number]),
                "pull_a_token": choose.mean(self._pulls, number),
                "edits": [
                    {
                        "turn": token.turn,
                        "start": token.start,
                        "text": self._text(token),
                        "by": by,
                        "pull": token.pull,
                    }
                    for token, by in each.edits
                ],
            }
            for number, each in enumerate(self._fates)
        ]
        for line in self._added:
            row = row_of(line.value, line.place)
            rows.append({"id": row.id, "key": key_of(row), "fate": "added", "edits": []})
        whole, text, real = polars.Int64(), polars.String(), polars.Float64()
        edit = polars.Struct(
            {"turn": whole, "start": whole, "text": text, "by": text, "pull": real}
        )
        schema = polars.Schema(
            {
                "row": whole,
                "id": text,
                "key": text,
                "fate": text,
                "reason": text,
                "tokens": whole,
                "pull_a_token": real,
                "edits": polars.List(edit),
            }
        )
        polars.DataFrame(rows, schema=schema).write_parquet(path)
        return len(rows)

    def _result(self, count: int) -> dict[str, Any]:
        fates = [each.fate for each in self._fates]
        edits = [token for each in self._fates for token, _ in each.edits]
        total = sum(map(sum, ([t.pull for t in row] for row in self._pulls.tokens)))
        gone = [number for number, fate in enumerate(fates) if fate == "dropped"]
        taken = sum(each.pull for each in edits) + sum(self._pulls.of_rows[each] for each in gone)
        edited = sum(each.pieces for each in edits)
        return {
            "method": self._spec.method,
            "arm": self._spec.arm,
            "candidate": self._pulls.candidate,
            "rows_in": len(fates),
            "rows": count,
            "shards": [DATA],
            **{fate: fates.count(fate) for fate in ("kept", "edited", "dropped")},
            "added": len(self._added),
            "tokens": self._pulls.count,
            "asked": self._asked,
            "edited_tokens": edited,
            "share_of_tokens": edited / max(1, self._pulls.count),
            "share_of_rows": len(gone) / len(fates),
            "pull_nats": total,
            "pull_nats_taken": taken,
        }
