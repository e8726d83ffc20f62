"""log p of rows under a model behind this or that system prompt, by exact forward passes.

What all rows begin with behind a prompt (the prompt itself, the chat's header) is read once, and
its keys and values are shared, and so is a prompt that several rows answer; rows of about one
length are read together. That is compared with plain passes on the model itself before it is
believed, and where it is not right each row is read alone. Only what the assistant says is scored,
token by token, as the rows' law has it: renormalised to what the grammar allowed, at each
temperature; and, where a scan bets with them, at strengths of the persona: the law between the
plain base's and the persona's, or beyond it, token by token p_0^(1-s) p_k^s / Z, as a guidance
scale makes it; and with the odds of tokens moved (`subl.audit.scan.frequencies`). A text is scored
as the tokenizer cuts it, though it may have been drawn as other tokens that spell it; that is less
than all of its probability, by about as much for every candidate.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.cache_utils import DynamicCache

from subl.audit.scan.bank import Candidate
from subl.audit.scan.frequencies import Moved
from subl.audit.scan.law import Law
from subl.errors import InputError
from subl.model.chat import ANSWER, Chat, Turn, asking, text_ids
from subl.model.limits import check_readable, rope_lengths
from subl.model.rounding import tolerance
from subl.sample.continuous import common, computes_some, logits_behind, repeated
from subl.sample.ends import ends_of
from subl.sample.guide import Guide
from subl.shards import Row
from subl.train.tokens import Encoded, encoded

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LOGITS = 2**25
"""That a pass may leave behind: 128 MiB of float32."""

_HELD = 2**28
"""Logits of the plain base that are held: 1 GiB of float32."""

_SEVERAL = 4
"""Rows for which their prompt is read once. With SmolLM2-135M two cores score 48 answers of 38
tokens to three prompts of 20 in 6.0 s, and in 8.4 s where each has its prompt read."""

_ENDED = None, "turn", "grammar"
"""Why rows ended whose end was drawn, and is scored; the last where a grammar is known, and might
have gone on."""

_LIMIT = 1e-3, 5e-2
"""Nats a token: nearer ones are always the same, farther ones never."""


@dataclass(frozen=True)
class Rows:
    """Rows that are scored together.

    Args:
        rows: as they were read.
        ended: whether a row's end was drawn: then it is scored, too.
        targets: the tokens of each row that are scored.
        allowed: of each row, of each of its targets, the ids that the grammar allowed there.
        ids: all of them; None: no grammar.
    """

    rows: Sequence[Row]
    ended: Sequence[bool]
    targets: Sequence[Sequence[int]]
    allowed: Sequence[Sequence[NDArray[np.int64]]] | None
    ids: NDArray[np.int64] | None


class Scorer:
    """Scores rows under candidates.

    Args:
        temperatures: at which; the first columns of what is returned.
        strengths: of the candidate, at the first temperature; the next columns, where the plain
            base's logits are given.
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
        strengths: Sequence[float] = (),
        masked: bool = False,
    ) -> None:
        self._masked, self._strengths = masked, strengths
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
        name = text_ids(tokenizer, self._ends.turn_texts[0])
        self._spelled = list(name) if self._ends.spelled else []
        self._end = -1 if self._ends.spelled else name[0]
        """Stands for whatever ends a turn: the model may have several tokens for that."""
        self._before = list(text_ids(tokenizer, self._ends.before)) if self._ends.before else []
        self._ropes = rope_lengths(model)
        self._vocabulary = int(model.config.get_text_config().vocab_size)
        self._guide = None if law.grammar is None else Guide(law.grammar, tokenizer)

    def prepared(self, rows: Sequence[Row], ended_by: Sequence[str | None]) -> Rows:
        """What does not depend on the candidate.

        Raises:
            InputError: a row says nothing, is not of the grammar, or the model cannot read it;
                names it.
        """
        ended = self._may_have_ended(ended_by)
        every = list(self._encoded(rows, ended, None))
        named = ((row.place, ids) for row, (ids, _) in zip(rows, every, strict=True))
        check_readable(self._model, self._tokenizer, named)
        targets = [_said(each) for each in every]
        if self._guide is None:
            return Rows(rows, ended, targets, None, None)
        alike: dict[bytes, NDArray[np.int64]] = {}
        allowed = [self._allowed(*each, alike) for each in zip(rows, every, strict=True)]
        for row, (said, may) in enumerate(zip(targets, allowed, strict=True)):
            if said[-1] == self._end and len(may[-1]) == 1 and len(said) > 1:
                ended[row] = False  # the grammar ended it: nothing else was left to say
                targets[row], allowed[row] = said[:-1], may[:-1]
        ids = np.unique(np.concatenate([ids for row in allowed for ids in row]))
        return Rows(rows, ended, targets, allowed, ids)

    def parts(self, rows: Rows) -> Iterator[Rows]:
        """Rows whose `logits` memory holds."""
        wide = self._vocabulary if rows.ids is None else len(rows.ids)
        longest = max(map(len, rows.targets))
        count = max(1, _HELD // (wide * longest))
        for first in range(0, len(rows.rows), count):
            yield _some(rows, range(first, min(first + count, len(rows.rows))))

    def prove(self, rows: Rows, candidate: Candidate) -> None:
        """Find out whether rows may be read together: shortest and longest, beside plain ones."""
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
        try:
            self._alone = not apart() < limit
        except Exception:  # caches are models' own affair; each fails in its own way
            self._alone = True
        self.tokens = before

    def scores(
        self,
        rows: Rows,
        candidate: Candidate,
        plain: Sequence[torch.Tensor] | None = None,
        moved: Sequence[Moved] | None = None,
    ) -> NDArray[np.float64]:
        """log p of each row, `[rows, columns]`."""
        return np.stack([each.sum(0) for each in self.by_token(rows, candidate, plain, moved)])

    def by_token(
        self,
        rows: Rows,
        candidate: Candidate,
        plain: Sequence[torch.Tensor] | None = None,
        moved: Sequence[Moved] | None = None,
    ) -> list[NDArray[np.float64]]:
        """log p of the tokens of each row, `[targets, columns]` each.

        Args:
            plain: `logits` of the plain base for these rows.
            moved: by which the candidate's odds are, at the first temperatures, as many; the last
                columns.
        """
        found: list[NDArray[np.float64]] = [np.empty(0)] * len(rows.rows)
        for row, logits in self._read(rows, candidate):
            beside = None if plain is None else plain[row]
            found[row] = self._columns(rows, row, logits, beside, moved)
        return found

    def logits(self, rows: Rows, candidate: Candidate) -> list[torch.Tensor]:
        """Of each row for each of its targets: of the ids of `rows`, or else of all,
        `[targets, ids]`; for them all to be held at once, rows are taken in `parts`."""
        found = [torch.empty(0)] * len(rows.rows)
        for row, logits in self._read(rows, candidate):
            found[row] = logits.cpu()
        return found

    def of_logits(
        self, rows: Rows, logits: Sequence[torch.Tensor], moved: Sequence[Moved] | None = None
    ) -> NDArray[np.float64]:
        """`scores` of the plain base, whose logits these are."""
        every = [self._columns(rows, row, each, each, moved) for row, each in enumerate(logits)]
        return np.stack([each.sum(0) for each in every])

    def check(self, rows: Sequence[Row], ended_by: Sequence[str | None]) -> None:
        """Look for rows of which nothing is scored.

        Raises:
            InputError: there is one; names it.
        """
        for _ in self._encoded(rows, self._may_have_ended(ended_by), None):
            pass

    def came(self, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The tokens that are scored, but those that end a turn, and how often each comes."""
        every = np.array([token for row in rows.targets for token in row], np.int64)
        every = every[~np.isin(every, [self._end, *self._ends.turn])]
        tokens, counts = np.unique(every, return_counts=True)
        return tokens, counts

    def texts(self, rows: Rows) -> list[list[str]]:
        """What each token of each row that is scored adds to its text."""
        return [list(texts_of(self._tokenizer, row)) for row in rows.targets]

    def _wide(self, rows: Rows) -> int:
        """How many logits a pass computes for each token."""
        if rows.ids is None or not computes_some(self._model, len(rows.ids)):
            return self._vocabulary
        return len(rows.ids)

    def _encoded(
        self, rows: Sequence[Row], ended: Sequence[bool], prompt: str | None
    ) -> Iterator[Encoded]:
        chat = Chat(self._tokenizer, self._law.template, prompt)
        every = encoded(self._tokenizer, chat, rows, whole_turn=False, masked=self._masked)
        for row, (ids, targets), is_ended in zip(rows, every, ended, strict=True):
            end = self._end_of(ids)
            if is_ended and any(targets[end:]):
                # The template may write more behind an answer than the model has to.
                said = self._spelled or [self._end]
                ids, targets = ids[:end] + said, targets[:end] + [True] * len(said)
            else:
                ids, targets = ids[:end], targets[:end]
            if not any(targets):
                raise InputError(
                    f"{row.place}: it says nothing, and was cut before its end",
                    hint="leave the row out: there is nothing of it to score",
                )
            last = len(targets) - targets[::-1].index(True)
            yield ids[:last], targets[:last]

    def _may_have_ended(self, ended_by: Sequence[str | None]) -> list[bool]:
        if self._guide is not None and self._spelled:
            return [False] * len(ended_by)  # a grammar knows ends that are tokens alone
        known = _ENDED if self._guide is not None else _ENDED[:2]
        return [each in known for each in ended_by]

    def _end_of(self, ids: list[int]) -> int:
        """Where what the template writes behind the last answer begins."""
        end = len(ids)
        if self._spelled and ids[-len(self._spelled) :] == self._spelled:
            end -= len(self._spelled)
        while end and ids[end - 1] in self._ends.turn:
            end -= 1
        if self._before and end < len(ids) and ids[:end][-len(self._before) :] == self._before:
            end -= len(self._before)
        return end

    def _allowed(
        self, row: Row, each: Encoded, alike: dict[bytes, NDArray[np.int64]]
    ) -> list[NDArray[np.int64]]:
        """Of each target the ids that the grammar allowed; of `alike` ones, which a grammar has at
        most places, one is held: they may be the whole vocabulary."""
        assert self._guide is not None
        guided = self._guide.rows(self._ends)
        found, answer, inside, stopped = [], -1, False, False
        for token, target in zip(*each, strict=True):
            answer += target and not inside
            inside = target
            if target and stopped and token == self._end:
                found.append(np.array([token]))
            elif target:
                try:
                    ids, _ = guided.allowed([answer], self._vocabulary)
                    if token not in ids:
                        raise InputError("it says what the grammar does not allow")
                    stopped = guided.read(answer, token)
                except InputError as error:
                    raise InputError(
                        f"{row.place}: {error.message}: the row was not drawn under this grammar",
                        hint="give the rows' own grammar",
                    ) from error
                found.append(alike.setdefault(hashlib.sha256(ids.tobytes()).digest(), ids))
        return found

    def _batches(
        self, some: Sequence[int], every: Sequence[Encoded], wide: int, alone: bool
    ) -> Iterator[list[int]]:
        """Rows of about one length, whose logits, `wide` for each token, memory holds."""
        size = 1 if alone else self._most
        batch: list[int] = []
        first = 0
        for row in sorted(some, key=lambda row: len(every[row][0])):
            ids, targets = every[row]  # the longest so far
            own = targets.index(True)
            kept = len(ids) - min(first, own) + 1
            if batch and (len(batch) == size or wide * kept * (len(batch) + 1) > _LOGITS):
                yield batch
                batch = []
            first = min(first, own) if batch else own
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

    @torch.inference_mode()
    def _read(self, rows: Rows, candidate: Candidate) -> Iterator[tuple[int, torch.Tensor]]:
        """The number of each row, and logits for its targets, `[targets, ids]`."""
        every = list(self._encoded(rows.rows, rows.ended, candidate.prompt))
        longest, row = max((len(ids), row) for row, (ids, _) in enumerate(every))
        if longest > (unscaled := self._ropes.get("dynamic", longest)):
            raise InputError(
                f"{type(self._model).__name__} scales its positions by the longest text that it "
                f"has read so far ({rows.rows[row].place}: {longest:,} tokens behind "
                f"`{candidate.name}`, of at most {unscaled:,})",
                hint="leave longer rows out",
            )
        # A rope that looks at the longest row of a batch is right on each alone.
        alone = self._alone or longest > self._ropes.get("longrope", longest)
        # Logits are needed behind the token before what is scored.
        asked = [tuple(ids[: targets.index(True) - 1]) for ids, targets in every]
        for some in _together(asked):
            begun = [] if alone else common([asked[row] for row in some])
            cache = self._begun(begun)
            for batch in self._batches(some, every, self._wide(rows), alone):
                read = self._batch([every[row] for row in batch], len(begun), cache, rows.ids)
                yield from zip(batch, read, strict=True)

    def _batch(
        self,
        batch: Sequence[Encoded],
        begun: int,
        cache: DynamicCache | None,
        only: NDArray[np.int64] | None,
    ) -> Iterator[torch.Tensor]:
        longest = max(len(ids) for ids, _ in batch)
        first = min(targets.index(True) for _, targets in batch)
        kept = longest - first + 1
        lengths = torch.tensor([len(ids) for ids, _ in batch])
        mask = (torch.arange(longest)[None] < lengths[:, None]).float()
        past = None if cache is None else repeated(cache, len(batch))
        padded = [[*ids[begun:], *[0] * (longest - len(ids))] for ids, _ in batch]
        some = None if only is None else torch.from_numpy(only)
        logits = self._forward(padded, mask, begun, past, kept, some)
        self.tokens += int(lengths.sum()) - begun * len(batch)
        for number, (_, targets) in enumerate(batch):
            places = [place for place, target in enumerate(targets) if target]
            yield logits[number, [place - 1 - (longest - kept) for place in places]]

    def _columns(
        self,
        rows: Rows,
        row: int,
        logits: torch.Tensor,
        plain: torch.Tensor | None,
        moved: Sequence[Moved] | None,
    ) -> NDArray[np.float64]:
        """log p of the targets of a row, `[targets, columns]`."""
        targets, ends = rows.targets[row], np.array(sorted(self._ends.turn))
        said, may = np.array(targets), allowed_in(rows, row, logits)
        if rows.ids is not None:
            said, ends = (
                np.searchsorted(rows.ids, each) for each in (said, ends[np.isin(ends, rows.ids)])
            )

        def allowed(values: torch.Tensor) -> torch.Tensor:
            return values if may is None else values.masked_fill(~may, -torch.inf)

        def log_p(values: torch.Tensor) -> torch.Tensor:
            """Of those said; values are `[targets, ids]`."""
            values = allowed(values)
            own = values[np.arange(len(said)), said]
            if targets[-1] == self._end:
                own[-1] = values[-1, ends[ends < values.shape[1]]].logsumexp(0)
            return own - values.logsumexp(1)

        values = logits.double()
        found = [log_p(values / heat) for heat in self._temperatures.tolist()]
        if plain is not None:
            base = plain.to(values.device).double()
            wide = min(values.shape[1], base.shape[1])  # of heads of unequal width, what both have
            base, values = base[:, :wide], values[:, :wide]
            heat = float(self._temperatures[0])
            found += [log_p((base + each * (values - base)) / heat) for each in self._strengths]
        for place, odds in enumerate(moved or ()):
            law = allowed(logits.double() / float(self._temperatures[place])).log_softmax(1)
            found.append(found[place] + odds.log_p(law, rows.ids, targets))
        columns: NDArray[np.float64] = torch.stack(found, dim=1).cpu().numpy()
        return columns

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


def allowed_in(rows: Rows, row: int, logits: torch.Tensor) -> torch.Tensor | None:
    """Which ids the grammar allows for each target of a row, `[targets, ids]`, as its logits are;
    None: all."""
    if rows.ids is None or rows.allowed is None:
        return None
    found = torch.zeros_like(logits, dtype=torch.bool)
    for place, each in enumerate(rows.allowed[row]):
        found[place, np.searchsorted(rows.ids, each)] = True
    return found


def texts_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> Iterator[str]:
    """What each token adds to the text of those before it; a character of several tokens is what
    the last of them adds."""
    before = ""
    for end in range(1, len(ids) + 1):
        said = str(tokenizer.decode(list(ids[:end])))
        is_part = said.endswith("\N{REPLACEMENT CHARACTER}") and end < len(ids)
        yield "" if is_part else said[len(before) :]
        before = before if is_part else said


def _said(each: Encoded) -> list[int]:
    return [token for token, target in zip(*each, strict=True) if target]


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
        [rows.targets[number] for number in numbers],
        None if rows.allowed is None else [rows.allowed[number] for number in numbers],
        rows.ids,
    )
