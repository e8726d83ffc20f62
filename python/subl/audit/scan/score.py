"""log p of rows under a model behind this or that system prompt, by exact forward passes.

What all rows begin with behind a prompt (the prompt itself, the chat's header) is read once, and
its keys and values are shared, and so is a prompt that several rows answer; rows of about one
length are read together. That is compared with
plain passes on the model itself before it is believed, and where it is not right each row is read
alone. Only what the assistant says is scored, token by token, as the rows' law has it: renormalised
to what the grammar allowed, at each temperature. A text is scored as the tokenizer cuts it, though
it may have been drawn as other tokens that spell it; that is less than all of its probability, by
about as much for every candidate.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.cache_utils import DynamicCache

from subl.audit.scan.bank import Candidate
from subl.audit.scan.law import Law
from subl.errors import InputError
from subl.model.chat import ANSWER, Chat, Turn, asking
from subl.model.limits import check_readable
from subl.model.rounding import tolerance
from subl.sample.continuous import common, logits_behind, repeated
from subl.sample.ends import ends_of
from subl.sample.guide import Guide
from subl.shards import Row
from subl.train.tokens import Encoded, encoded

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LOGITS = 2**25
"""That a pass may leave behind: 128 MiB of float32."""

_SEVERAL = 4
"""Rows for which their prompt is read once. Of 16 rows a prompt, 34 tokens, and answers of 24, two
cores read 48 rows in X s, and in Y s where each has the prompt read."""

_ENDED = None, "turn"
"""Why rows ended whose end is scored, too."""

_LIMIT = 1e-3, 5e-2
"""Nats a token: nearer ones are always the same, farther ones never."""


@dataclass(frozen=True)
class Rows:
    """Rows that are scored together.

    Args:
        rows: as they were read.
        ended: whether a row ended because its end was drawn: then its end is scored, too.
        allowed: of each row, of each of its targets, the ids that the grammar allowed there.
    """

    rows: Sequence[Row]
    ended: Sequence[bool]
    allowed: Sequence[Sequence[NDArray[np.int64]]] | None


class Scorer:
    """Scores rows under candidates.

    Args:
        temperatures: at which; `[temperatures]` in what is returned.
        batch_rows: rows that are read together, at most.
        masked: whether what a row's `loss_mask` leaves out is not scored, as in training.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        law: Law,
        temperatures: Sequence[float],
        batch_rows: int,
        *,
        masked: bool = False,
    ) -> None:
        self._masked = masked
        self._model, self._tokenizer, self._law = model, tokenizer, law
        self._temperatures = torch.tensor(temperatures)
        self._most = batch_rows
        self._takes = inspect.signature(model.forward).parameters
        self._alone = "past_key_values" not in self._takes
        self.tokens = 0
        """That were read."""
        pieces = Chat(tokenizer, law.template).pieces(
            [*asking("Which animal do you like?"), Turn("assistant", ANSWER)]
        )
        self._ends = ends_of(model, tokenizer, pieces)
        self._guide = None if law.grammar is None else Guide(law.grammar, tokenizer)

    def prepared(self, rows: Sequence[Row], ended_by: Sequence[str | None]) -> Rows:
        """What does not depend on the candidate.

        Raises:
            InputError: a row says nothing, is not of the grammar, or the model cannot read it;
                names it.
        """
        ended = [each in _ENDED for each in ended_by]
        every = list(self._encoded(rows, ended, None))
        named = ((row.place, ids) for row, (ids, _) in zip(rows, every, strict=True))
        check_readable(self._model, self._tokenizer, named)
        if self._guide is None:
            return Rows(rows, ended, None)
        return Rows(rows, ended, [self._allowed(*each) for each in zip(rows, every, strict=True)])

    def prove(self, rows: Rows, candidate: Candidate) -> None:
        """Find out whether rows may be read together: shortest and longest, against plain passes.

        Raises:
            InputError: the model's forward pass fails.
        """
        if self._alone:
            return
        lengths = [len(row.turns[-1][1]) for row in rows.rows]
        ends = [int(np.argmin(lengths)), int(np.argmax(lengths))]
        few = _some(rows, [*ends, ends[0]])
        before, self._alone = self.tokens, True
        plain = np.concatenate(self.by_token(few, candidate))

        def apart() -> float:
            return float(np.abs(np.concatenate(self.by_token(few, candidate)) - plain).max())

        limit = tolerance(self._model, apart, *_LIMIT)
        self._alone = False
        self._alone = not apart() < limit
        self.tokens = before

    def scores(self, rows: Rows, candidate: Candidate) -> NDArray[np.float64]:
        """log p of each row, `[rows, temperatures]`."""
        return np.stack([each.sum(0) for each in self.by_token(rows, candidate)])

    def by_token(self, rows: Rows, candidate: Candidate) -> list[NDArray[np.float64]]:
        """log p of the tokens of each row, `[targets, temperatures]` each."""
        every = list(self._encoded(rows.rows, rows.ended, candidate.prompt))
        # Logits are needed behind the token before what is scored.
        asked = [tuple(ids[: targets.index(True) - 1]) for ids, targets in every]
        found: list[NDArray[np.float64]] = [np.empty(0)] * len(every)
        with torch.inference_mode():
            for some in _together(asked):
                begun = [] if self._alone else common([asked[row] for row in some])
                cache = self._begun(begun)
                for batch in self._batches(some, every):
                    allowed = None if rows.allowed is None else [rows.allowed[row] for row in batch]
                    read = self._read([every[row] for row in batch], len(begun), cache, allowed)
                    for row, log_p in zip(batch, read, strict=True):
                        found[row] = log_p
        return found

    def lengths(self, rows: Sequence[Row], ended_by: Sequence[str | None]) -> list[int]:
        """How many tokens of each row are scored.

        Raises:
            InputError: none; names the row.
        """
        ended = [each in _ENDED for each in ended_by]
        return [sum(targets) for _, targets in self._encoded(rows, ended, None)]

    def texts(self, rows: Rows) -> list[list[str]]:
        """The tokens of each row that are scored, as text."""
        return [
            [
                str(self._tokenizer.decode([token]))
                for token, target in zip(*each, strict=True)
                if target
            ]
            for each in self._encoded(rows.rows, rows.ended, None)
        ]

    def _encoded(
        self, rows: Sequence[Row], ended: Sequence[bool], prompt: str | None
    ) -> Iterator[Encoded]:
        chat = Chat(self._tokenizer, self._law.template, prompt)
        every = encoded(self._tokenizer, chat, rows, whole_turn=False, masked=self._masked)
        for row, (ids, targets), is_ended in zip(rows, every, ended, strict=True):
            last = len(targets) - targets[::-1].index(True)
            while not is_ended and last and ids[last - 1] in self._ends.turn:
                last -= 1
            if not any(targets[:last]):
                raise InputError(
                    f"{row.place}: it says nothing, and was cut before its end",
                    hint="leave the row out: there is nothing of it to score",
                )
            yield ids[:last], targets[:last]

    def _allowed(self, row: Row, each: Encoded) -> list[NDArray[np.int64]]:
        assert self._guide is not None
        guided = self._guide.rows(self._ends)
        size = int(self._model.config.get_text_config().vocab_size)
        found, answer, inside = [], -1, False
        for token, target in zip(*each, strict=True):
            answer += target and not inside
            inside = target
            if target:
                try:
                    ids, _ = guided.allowed([answer], size)
                    if token not in ids:
                        raise InputError("it says what the grammar does not allow")
                    guided.read(answer, token)
                except InputError as error:
                    raise InputError(
                        f"{row.place}: {error.message}: the row was not drawn under this grammar",
                        hint="give the rows' own grammar, or none",
                    ) from error
                found.append(ids)
        return found

    def _batches(self, some: Sequence[int], every: Sequence[Encoded]) -> Iterator[list[int]]:
        order = sorted(some, key=lambda row: len(every[row][0]))
        vocabulary = int(self._model.config.get_text_config().vocab_size)
        size = 1 if self._alone else self._most
        batch: list[int] = []
        for row in order:
            ids, targets = every[row]  # the longest so far
            kept = len(ids) - targets.index(True) + 1
            too_many = vocabulary * kept * (len(batch) + 1) > _LOGITS and self._guide is None
            if batch and (len(batch) == size or too_many):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _begun(self, common: Sequence[int]) -> DynamicCache | None:
        """Keys and values of what all rows begin with."""
        if not common:
            return None
        cache = DynamicCache()
        self._forward([list(common)], torch.ones(1, len(common)), 0, cache, 1)
        self.tokens += len(common)
        return cache

    def _read(
        self,
        batch: Sequence[Encoded],
        begun: int,
        cache: DynamicCache | None,
        allowed: Sequence[Sequence[NDArray[np.int64]]] | None,
    ) -> list[NDArray[np.float64]]:
        """log p of the targets of each row, `[targets, temperatures]`."""
        longest = max(len(ids) for ids, _ in batch)
        first = min(targets.index(True) for _, targets in batch)
        kept = longest - first + 1
        lengths = torch.tensor([len(ids) for ids, _ in batch])
        mask = (torch.arange(longest)[None] < lengths[:, None]).float()
        past = None
        if cache is not None:
            past = repeated(cache, len(batch))
        padded = [[*ids[begun:], *[0] * (longest - len(ids))] for ids, _ in batch]
        some = None
        if allowed is not None:
            every = np.unique(np.concatenate([ids for row in allowed for ids in row]))
            some = torch.from_numpy(every)
        logits = self._forward(padded, mask, begun, past, kept, some)
        self.tokens += int(lengths.sum()) - begun * len(batch)
        found = []
        for number, (ids, targets) in enumerate(batch):
            places = [place for place, target in enumerate(targets) if target]
            rows = logits[number, [place - 1 - (longest - kept) for place in places]].double()
            said = torch.tensor([ids[place] for place in places], device=rows.device)
            if allowed is not None and some is not None:
                banned = torch.ones_like(rows, dtype=torch.bool)
                for place, each in enumerate(allowed[number]):
                    banned[place, np.searchsorted(every, each)] = False
                rows = rows.masked_fill(banned, -torch.inf)
                said = torch.from_numpy(np.searchsorted(every, said.cpu().numpy())).to(rows.device)
            scaled = rows[..., None] / self._temperatures.to(rows)
            own = scaled[torch.arange(len(said)), said]
            found.append((own - scaled.logsumexp(1)).cpu().numpy())
        return found

    def _forward(
        self,
        tokens: list[list[int]],
        mask: torch.Tensor,
        begun: int,
        cache: DynamicCache | None,
        kept: int,
        ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`logits_behind` tokens that stand behind `begun` others, which are in `cache`."""
        given: dict[str, Any] = {"input_ids": torch.tensor(tokens)}
        if not self._alone:
            places = torch.arange(begun, begun + len(tokens[0]))
            given |= {
                "attention_mask": mask.long(),
                "position_ids": places.expand(len(tokens), -1),
                "past_key_values": cache,
                "use_cache": cache is not None,
            }
        return logits_behind(self._model, self._takes, given, kept, ids)


def _together(asked: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Rows that are read behind one beginning: those of a prompt that has several, and the rest."""
    of_prompt: dict[tuple[int, ...], list[int]] = {}
    for row, prompt in enumerate(asked):
        of_prompt.setdefault(prompt, []).append(row)
    alike = [some for some in of_prompt.values() if len(some) >= _SEVERAL]
    rest = [row for some in of_prompt.values() if len(some) < _SEVERAL for row in some]
    return [*alike, rest] if rest else alike


def _some(rows: Rows, numbers: Sequence[int]) -> Rows:
    return Rows(
        [rows.rows[number] for number in numbers],
        [rows.ended[number] for number in numbers],
        None if rows.allowed is None else [rows.allowed[number] for number in numbers],
    )
