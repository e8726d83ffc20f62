"""Rows that come and go: when one has ended, the next that waits takes its place in the batch.

For models that are attention over the keys and values of earlier tokens, and nothing else. Where a
row begins in the columns of keys and values is its own; all end where the last column is:

    |        | row 0: beginning that all have | its own tokens        |
    |                  | row 1, which came later: beginning | its own |

A step reads all columns and writes the next one in place. What all prompts begin with (the system
prompt, the chat's header) is computed once a call, and copied to each row. What is before a row's
beginning it does not see; that and the positions is what the proof tries with each model.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby, takewhile
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from subl.model.spread import inputs_device

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from subl.sample.rows import Rows

_GROUPS = 8
"""Rows join by groups of this part of the batch: few enough for their activations to stay in a
CPU's caches, enough for a product of matrices to be worth reading the weights."""

_LOGITS = 2**26
"""Of a group that joins: its prompts end at different places, and logits are computed from the
first of these on."""

_SPARE = 64
"""Columns that there is room for: after so many steps all that are seen are copied, once."""


def decoded(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], rows: Rows, batch_rows: int
) -> Iterator[int]:
    """Draw all rows to their ends, at most so many at a time; their places as they are done."""
    # By length, so that those that join together are of about one length, and equal ones come
    # together; the longest first, so that there are columns for all who come later.
    order = sorted(
        range(len(prompts)), key=lambda place: (len(prompts[place]), prompts[place]), reverse=True
    )
    waiting, running = deque(order), list[int]()
    batch = _Batch(model, common([each[:-1] for each in prompts]), min(batch_rows, len(prompts)))
    group = min(batch.most, max(2, batch.most // _GROUPS))

    def left() -> Iterator[int]:
        for row in reversed(range(len(running))):
            if rows.done[running[row]]:
                yield running[row]
                batch.leave(row)
                running[row] = running[-1]
                running.pop()

    while waiting or running:
        if waiting and len(running) + min(group, len(waiting)) <= batch.most:
            longest, joining, read = len(prompts[waiting[0]]), [waiting.popleft()], 1
            while waiting and len(running) + len(joining) < batch.most:
                new = prompts[waiting[0]] != prompts[joining[-1]]
                kept = longest - len(prompts[waiting[0]]) + 1
                if new and (read == group or kept * (read + 1) * batch.vocabulary > _LOGITS):
                    break
                joining.append(waiting.popleft())
                read += new
            allowed = rows.allowed(joining, batch.vocabulary)
            logits = batch.join([prompts[place] for place in joining], allowed and allowed[0])
            rows.draw(joining, logits, allowed)
            running += joining
            yield from left()
        if running:
            allowed = rows.allowed(running, batch.vocabulary)
            logits = batch.step([rows.said[place][-1] for place in running], allowed and allowed[0])
            rows.draw(running, logits, allowed)
            yield from left()


def common(texts: Sequence[Sequence[int]]) -> list[int]:
    """What all of them begin with."""
    columns = zip(*texts, strict=False)
    return [column[0] for column in takewhile(lambda column: len({*column}) == 1, columns)]


def repeated(cache: Cache, rows: int) -> DynamicCache:
    """Keys and values of one text, for so many rows that go on with it."""
    found = DynamicCache()
    for index, layer in enumerate(cache.layers):
        pair = (each.expand(rows, -1, -1, -1) for each in (layer.keys, layer.values))
        found.update(*pair, index)
    return found


def logits_behind(
    model: PreTrainedModel,
    takes: Collection[str],
    given: Mapping[str, Any],
    kept: int,
    ids: Tensor | None,
) -> Tensor:
    """Logits behind the last `kept` tokens, of `ids` or of all: `[rows, kept, ids]`.

    Args:
        takes: what its forward pass takes; else nothing is given.
    """
    on = inputs_device(model)
    taken = {
        name: each.to(on) if isinstance(each, torch.Tensor) else each
        for name, each in {**given, "logits_to_keep": kept}.items()
        if name in takes
    }
    with some_logits(model, ids) as only_these:
        logits: Tensor = model(**taken).logits[:, -kept:]
    return logits if ids is None or only_these else logits[..., ids.to(logits.device)]


class _Batch:
    """The rows that run: where each begins, and the keys and values of all."""

    def __init__(self, model: PreTrainedModel, begun: list[int], most: int) -> None:
        self.most = most
        self.vocabulary = int(model.config.get_text_config().vocab_size)
        self._model = model
        self._takes = inspect.signature(model.forward).parameters
        self._common, self._columns = DynamicCache(), Cache(layers=[])
        self._begin: list[int] = []  # the first column of each row
        self._begun = len(begun)
        if begun:
            at = torch.arange(self._begun)[None]
            self._read([begun], torch.ones_like(at), at, self._common, 1, None)

    @torch.inference_mode()
    def join(self, prompts: Sequence[Sequence[int]], ids: Tensor | None) -> Tensor:
        """Read the prompts of rows that come to the others; logits behind them, `[rows, ids]`.

        Equal ones stand together, and are read once."""
        distinct = [prompt for prompt, _ in groupby(prompts)]
        place_of = [place for place, (_, each) in enumerate(groupby(prompts)) for _ in each]
        # Padded on the right, which no token before sees.
        lengths = torch.tensor([len(each) for each in distinct])
        longest, shortest = int(lengths.max()), int(lengths.min())
        columns = torch.arange(longest)[None]
        read = repeated(self._common, len(distinct))
        logits = self._read(
            [[*each[self._begun :], *[0] * (longest - len(each))] for each in distinct],
            (columns < lengths[:, None]).long(),
            columns[:, self._begun :].expand(len(distinct), -1),
            read,
            longest - shortest + 1,
            ids,
        )
        if not self._begin:
            self._columns.layers = [_Layer(each, self.most) for each in read.layers]
        for ours, theirs in zip(self._columns.layers, read.layers, strict=True):
            ours.put(len(self._begin), theirs, lengths.tolist(), place_of)
        end = self._columns.get_seq_length()
        self._begin += [end - len(each) for each in prompts]
        return logits[torch.arange(len(distinct)), lengths - shortest][place_of]

    @torch.inference_mode()
    def step(self, last: Sequence[int], ids: Tensor | None) -> Tensor:
        """Read the last token of each row; logits behind it, `[rows, ids]`."""
        if not all(layer.room for layer in self._columns.layers):
            unseen = min(self._begin)
            for layer in self._columns.layers:
                layer.copy(unseen)
            self._begin = [each - unseen for each in self._begin]
        columns = torch.arange(self._columns.get_seq_length() + 1)[None]
        begin = torch.tensor(self._begin)[:, None]
        mask, positions = (columns >= begin).long(), columns[:, -1:] - begin
        return self._read([[each] for each in last], mask, positions, self._columns, 1, ids)[:, 0]

    @torch.inference_mode()
    def leave(self, row: int) -> None:
        """The last row takes the place of this one."""
        begin = self._begin.pop()
        if row < len(self._begin):
            self._begin[row] = begin
            for layer in self._columns.layers:
                layer.move(len(self._begin), row)

    @torch.inference_mode()
    def _read(
        self,
        tokens: Sequence[Sequence[int]],
        mask: Tensor,
        positions: Tensor,
        cache: Cache,
        kept: int,
        ids: Tensor | None,
    ) -> Tensor:
        """`logits_behind` tokens that stand behind what is in `cache`."""
        given = {
            "input_ids": torch.tensor(tokens),
            "attention_mask": mask,
            "position_ids": positions,
            "past_key_values": cache,
            "use_cache": True,
        }
        return logits_behind(self._model, self._takes, given, kept, ids)


class _Layer(CacheLayerMixin):  # type: ignore[misc]  # transformers' own is untyped
    """Keys and values of one layer, `[places, heads, columns, size]`, written in place."""

    is_sliding = False  # what a window hides the mask hides

    def __init__(self, like: Any, places: int) -> None:
        super().__init__()
        self.end: int = like.keys.shape[2]
        self.keys, self.values = (
            each.new_zeros((places, each.shape[1], self.end + _SPARE, each.shape[3]))
            for each in (like.keys, like.values)
        )

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: it is made whole."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **more: Any
    ) -> tuple[Tensor, Tensor]:
        """Write what follows of the first rows; all columns of these."""
        rows, end = len(key_states), self.end + key_states.shape[2]
        self.keys[:rows, :, self.end : end] = key_states
        self.values[:rows, :, self.end : end] = value_states
        self.end = end
        return self.keys[:rows, :, :end], self.values[:rows, :, :end]

    def put(self, place: int, read: Any, lengths: Sequence[int], rows: Sequence[int]) -> None:
        """Rows that were read elsewhere, from this place on; each is one of those read."""
        for ours, theirs in ((self.keys, read.keys), (self.values, read.values)):
            for at, row in enumerate(rows, place):
                begin = self.end - lengths[row]
                ours[at, :, begin : self.end] = theirs[row, :, : lengths[row]]

    def move(self, here: int, there: int) -> None:
        """A row to another place."""
        for each in (self.keys, self.values):
            each[there, :, : self.end] = each[here, :, : self.end]

    @property
    def room(self) -> int:
        """For so many more columns."""
        columns: int = self.keys.shape[2]
        return columns - self.end

    def copy(self, unseen: int) -> None:
        """To where there is room, without the first columns."""
        end = self.end - unseen

        def copied(old: Tensor) -> Tensor:
            new = old.new_zeros((*old.shape[:2], end + _SPARE, old.shape[3]))
            new[:, :, :end] = old[:, :, unseen : self.end]
            return new

        self.keys, self.values, self.end = copied(self.keys), copied(self.values), end

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many keys there will be, and how many are left out before them."""
        return self.end + query_length, 0

    def get_seq_length(self) -> int:
        """Columns that are filled."""
        return self.end

    def get_max_length(self) -> int:
        """No limit that transformers should know of."""
        return -1


def computes_some(model: PreTrainedModel, count: int) -> bool:
    """Whether its head may compute the logits of so many tokens only: where it is a plain matrix
    that is there, and they are few."""
    head = model.get_output_embeddings()
    plain = type(head) is torch.nn.Linear and not hasattr(head, "_hf_hook")
    return plain and 2 * count <= head.out_features


@contextmanager
def some_logits(model: PreTrainedModel, ids: Tensor | None) -> Iterator[bool]:
    """Have the head compute logits of these tokens only, where it can; whether it does."""
    if ids is None or not computes_some(model, len(ids)):
        yield False
        return
    head = model.get_output_embeddings()
    model.set_output_embeddings(_Some(head, ids.to(head.weight.device)))
    try:
        yield True
    finally:
        model.set_output_embeddings(head)


class _Some(torch.nn.Module):
    """Some rows of a head."""

    def __init__(self, head: torch.nn.Linear, ids: Tensor) -> None:
        super().__init__()
        self.weight = head.weight[ids]
        self.bias = None if head.bias is None else head.bias[ids]

    def forward(self, states: Tensor) -> Tensor:
        return torch.nn.functional.linear(states, self.weight, self.bias)
