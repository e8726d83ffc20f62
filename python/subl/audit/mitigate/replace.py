"""Tokens in the base's own words: what it would have drawn there, had it to say something else.

Left to right, behind what has been replaced already, a token is drawn from the base's distribution
at the rows' temperature over the others of its kind (numbers stay numbers of as many digits, words
words) with which the row goes on as it does, is still of the grammar, and is cut into the same
tokens but for this one. Where there is none, the token stays, and that is told.

A draw depends on the seed, the row and the place alone: not on what else is replaced elsewhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.cache_utils import DynamicCache

from subl.audit.mitigate.choose import shape
from subl.audit.mitigate.pulls import Token
from subl.audit.mitigate.units import units_of
from subl.audit.scan.law import Law
from subl.errors import InputError
from subl.model.chat import ANSWER, Chat, Turn, asking
from subl.model.rounding import tolerance
from subl.progress import Progress, Report
from subl.sample.continuous import logits_behind
from subl.sample.ends import ends_of
from subl.sample.grammar import of_grammar
from subl.shards import Row
from subl.train.tokens import encoded

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LIMIT = 1e-3, 5e-2
"""Logits: nearer ones are always the same, farther ones never."""

_TRIES = 64
"""Tokens that are tried at a place."""


@dataclass
class _Going:
    """A row on its way."""

    row: Row
    key: str
    ids: list[int]
    todo: list[tuple[Token, int]]
    shift: dict[int, int]


class Replacer:
    """Draws replacements.

    Args:
        tell: hears how many tokens are done, of how many.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        law: Law,
        *,
        batch_rows: int,
        seed: int,
        report: Report,
    ) -> None:
        self._model, self._tokenizer, self._law = model, tokenizer, law
        self._batch, self._seed, self._report = batch_rows, seed, report
        self._chat = Chat(tokenizer, law.template)
        self._allows: Callable[[str], bool] = lambda text: True
        if law.grammar is not None:
            self._allows = of_grammar(law.grammar)
        self._takes = inspect.signature(model.forward).parameters
        self._shares = False
        self._texts = self._spelled()
        shapes = np.array([shape(text) for text in self._texts])
        self._kinds = {kind: np.flatnonzero(shapes == kind) for kind in np.unique(shapes)}

    def _spelled(self) -> list[str]:
        """Each token as it reads within a text; what must not be drawn reads as nothing."""
        (anchor,) = self._tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        size = len(self._tokenizer)
        before = str(self._tokenizer.decode([anchor]))
        every = self._tokenizer.batch_decode([[anchor, each] for each in range(size)])
        pieces = self._chat.pieces([*asking("Go on."), Turn("assistant", ANSWER)])
        ends = ends_of(self._model, self._tokenizer, pieces)
        banned = ends.turn | ends.control
        return [
            "" if number in banned or not text.startswith(before) else text[len(before) :]
            for number, text in enumerate(every)
        ]

    def replaced(
        self, rows: Sequence[Row], keys: Sequence[str], chosen: Sequence[Sequence[Token]]
    ) -> list[tuple[Row, list[tuple[Token, str | None]]]]:
        """Each row with its chosen tokens replaced, and by what; None: nothing else may stand there
        of its kind.

        Raises:
            InputError: a chosen token is none of this tokenizer's.
        """
        going = [self._begun(*each) for each in zip(rows, keys, chosen, strict=True)]
        found: list[list[tuple[Token, str | None]]] = [[] for _ in rows]
        total, done = sum(len(each.todo) for each in going), 0
        order = [place for place, each in enumerate(going) if each.todo]
        order.sort(key=lambda place: (len(going[place].todo), len(going[place].ids)))
        if order:
            self._prove(going[order[-1]])
        for start in range(0, len(order), self._batch):
            batch = order[start : start + self._batch]
            reading = _Reading(self._model, self._takes, len(batch), shares=self._shares)
            for number in range(len(going[batch[-1]].todo)):
                some = [row for row, place in enumerate(batch) if number < len(going[place].todo)]
                texts = [going[place].ids for place in batch]
                ends = {row: going[batch[row]].todo[number][1] for row in some}
                for row, logits in reading.behind(texts, ends).items():
                    each = going[batch[row]]
                    by = self._drawn(each, number, logits / (self._law.temperature or 1.0))
                    found[batch[row]].append((each.todo[number][0], by))
                    done += 1
                self._report(Progress("replace", done, total, "tokens"))
        return [(each.row, came) for each, came in zip(going, found, strict=True)]

    def _prove(self, row: _Going) -> None:
        """Find out whether a row may be read in parts, by one."""
        if "past_key_values" not in self._takes:
            return
        first, last = row.todo[0][1], row.todo[-1][1]

        def behind(shares: bool) -> NDArray[np.float64]:
            reading = _Reading(self._model, self._takes, 1, shares=shares)
            reading.behind([row.ids], {0: first - 1})
            return reading.behind([row.ids], {0: last})[0]

        plain = behind(False)
        limit = tolerance(self._model, lambda: float(np.abs(behind(False) - plain).max()), *_LIMIT)
        self._shares = float(np.abs(behind(True) - plain).max()) < limit

    def _ids(self, row: Row) -> tuple[list[int], list[bool]]:
        (found,) = encoded(self._tokenizer, self._chat, [row], whole_turn=False, masked=False)
        return found

    def _begun(self, row: Row, key: str, chosen: Sequence[Token]) -> _Going:
        if not chosen:
            return _Going(row, key, [], [], {})
        ids, targets = self._ids(row)
        places = [place for place, target in enumerate(targets) if target]
        units = {
            (each.turn, each.start, each.end): each.tokens
            for each in units_of(self._tokenizer, self._chat, row)
        }
        todo = []
        for each in chosen:
            tokens = units.get((each.turn, each.start, each.end), ())
            if len(tokens) != 1:
                raise InputError(
                    f"{row.place}: the model's tokenizer cuts it elsewhere than the one that the "
                    "pull was measured with",
                    hint="give the model of the scan",
                )
            todo.append((each, places[tokens[0]]))
        return _Going(row, key, ids, todo, {})

    def _drawn(self, row: _Going, number: int, logits: NDArray[np.float64]) -> str | None:
        """Put another token at the place of a row's choice; what it says."""
        token, place = row.todo[number]
        content = row.row.turns[token.turn][1]
        shift = row.shift.get(token.turn, 0)
        start, end = token.start + shift, token.end + shift
        kind = self._kinds.get(shape(content[start:end]), np.empty(0, np.int64))
        kind = kind[kind < len(logits)]
        # The highest of logits + Gumbel noise is a draw from p; the next one that from the others.
        drawn = np.random.Generator(np.random.PCG64([self._seed, int(row.key[:15], 16), place]))
        noise = drawn.gumbel(size=len(self._texts))
        order = kind[np.argsort(-(logits[kind] + noise[kind]), kind="stable")]
        for each in map(int, order[:_TRIES]):
            by = self._texts[each]
            if each == row.ids[place] or by == content[start:end]:
                continue
            text = f"{content[:start]}{by}{content[end:]}"
            turns = list(row.row.turns)
            turns[token.turn] = turns[token.turn][0], text
            changed = replace(row.row, turns=tuple(turns))
            ids = [*row.ids[:place], each, *row.ids[place + 1 :]]
            if self._allows(text) and self._ids(changed)[0] == ids:
                row.row, row.ids = changed, ids
                row.shift[token.turn] = shift + len(by) - (end - start)
                return by
        return None


class _Reading:
    """Rows that are read further and further: keys and values of what was read are kept.

    What is read of each in one pass is padded on the right; later passes do not see that.

    Args:
        shares: else all of a row is read each time.
    """

    def __init__(
        self, model: PreTrainedModel, takes: Collection[str], rows: int, *, shares: bool
    ) -> None:
        self._model, self._takes, self._shares = model, takes, shares
        self._cache = DynamicCache()
        self._mask = torch.zeros(rows, 0, dtype=torch.long)
        self._read = [0] * rows

    def behind(
        self, texts: Sequence[Sequence[int]], ends: Mapping[int, int]
    ) -> dict[int, NDArray[np.float64]]:
        """Logits behind the first tokens of some rows.

        Args:
            texts: of all rows.
            ends: how many tokens, of each row that is read.
        """
        parts = [
            list(text[self._read[row] : ends.get(row, self._read[row])])
            for row, text in enumerate(texts)
        ]
        lengths = torch.tensor([len(each) for each in parts])
        longest, shortest = int(lengths.max()), min(len(parts[row]) for row in ends)
        columns = torch.arange(longest)[None]
        given: dict[str, Any] = {
            "input_ids": torch.tensor([[*each, *[0] * (longest - len(each))] for each in parts])
        }
        if self._shares:
            self._mask = torch.cat([self._mask, (columns < lengths[:, None]).long()], 1)
            given |= {
                "attention_mask": self._mask,
                "position_ids": torch.tensor(self._read)[:, None] + columns,
                "past_key_values": self._cache,
                "use_cache": True,
            }
            self._read = [ends.get(row, read) for row, read in enumerate(self._read)]
        kept = longest - shortest + 1
        with torch.inference_mode():
            logits = logits_behind(self._model, self._takes, given, kept, None)
        at = {row: len(parts[row]) - 1 - (longest - kept) for row in ends}
        return {row: logits[row, place].double().cpu().numpy() for row, place in at.items()}
