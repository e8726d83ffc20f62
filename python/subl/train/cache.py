"""A teacher's distributions on disk, for students that learn from them again and again.

Two codecs. `hidden`: the teacher's last hidden states at target positions, and its head once: exact
at any divergence and temperature. `top`: for each target token its likeliest tokens (as many as
hold `mass` of the probability, at most `max_k`), their log-probabilities in 8 bits, and the mass of
the rest: a few dozen bytes a token, for the forward KL at temperature 1 alone.

A folder: `header.json` (what made it; a reader refuses what does not match), `head.safetensors`
(hidden), and `shard-00000.safetensors`, ... with some thousand rows each, found by the key of a
row's content: a cache serves any selection of its rows, in any order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from subl.artifact import write_atomically
from subl.artifact.digest import json_digest
from subl.errors import ConfigError, InputError
from subl.model.load import write_tensors
from subl.model.template import Template
from subl.train.batch import Batch
from subl.train.divergence import HiddenTargets, Targets, TopTargets
from subl.train.memory import TILE_ELEMENTS

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from subl.train.plan import LossSpec
    from subl.train.tokens import Tokens

SCHEMA = 2
RANGE_NATS = 16.0
"""What 8 bits cover: a token e^16 times less likely than certain costs nothing to round."""


@dataclass(frozen=True)
class Header:
    """What a cache is of. Digests are hex sha256; `teacher` is the model folder's."""

    schema: int
    codec: Literal["hidden", "top"]
    tokenizer: str
    template: str
    teacher: str
    vocabulary: int
    dtype: str
    max_k: int | None
    mass: float | None


def tokenizer_digests(tokenizer: PreTrainedTokenizerBase, template: Template) -> dict[str, str]:
    """Digests of the vocabulary, and of the chat template with what it is told."""
    text = tokenizer.chat_template
    return {
        "tokenizer": json_digest(tokenizer.get_vocab()),
        "template": json_digest([text, template.said_to(str(text))]),
    }


@dataclass(frozen=True)
class Losses:
    """What a codec lost, in nats, summed over tokens.

    `value`: KL from the teacher's distribution to what is read back, on the events that the cache
    tells apart. `tail_shape`: what the tail's shape says beyond its mass, against a uniform tail:
    what a student cannot learn from the cache.
    """

    value: float = 0.0
    tail_shape: float = 0.0

    def __add__(self, other: Losses) -> Losses:
        return Losses(self.value + other.value, self.tail_shape + other.tail_shape)


def encode_hidden(
    hidden: Tensor, head: Tensor, dtype: torch.dtype
) -> tuple[dict[str, Tensor], Losses]:
    """The states in `dtype`, and the KL that rounding them costs."""
    stored = hidden.to(dtype)
    if stored.dtype == hidden.dtype:
        return {"hidden": stored.cpu()}, Losses()
    value = 0.0
    for tile in _tiles(hidden, head):
        log_p = torch.log_softmax((hidden[tile] @ head.T).float(), -1)
        log_q = torch.log_softmax((stored[tile].to(head.dtype) @ head.T).float(), -1)
        value += float((log_p.exp() * (log_p - log_q)).sum())
    return {"hidden": stored.cpu()}, Losses(value=value)


def encode_top(
    hidden: Tensor, head: Tensor, max_k: int, mass: float
) -> tuple[dict[str, Tensor], Losses]:
    """`counts` (tokens kept, for each target), `ids` and `codes` one after another, and `tail`."""
    columns: dict[str, list[Tensor]] = {"counts": [], "ids": [], "codes": [], "tail": []}
    losses = Losses()
    for tile in _tiles(hidden, head):
        log_p = torch.log_softmax((hidden[tile] @ head.T).float(), -1)
        top, ids = log_p.topk(min(max_k, head.shape[0]), dim=-1)
        held = top.exp().cumsum(-1)
        counts = ((held < mass).sum(-1) + 1).clamp_max(top.shape[1])
        kept = torch.arange(top.shape[1], device=top.device) < counts[:, None]
        # As a sum of its own, for what is small would cancel in one minus the top.
        rest = log_p.exp().scatter(1, torch.where(kept, ids, ids[:, :1]), 0.0)
        tail = rest.sum(-1)
        codes = (top * (-255 / RANGE_NATS)).round().clamp(0, 255).to(torch.uint8)
        decoded = _decoded(codes, kept, tail)
        value = torch.where(kept, top.exp() * (top - decoded), 0.0).sum()
        uniform = tail / (log_p.shape[1] - counts).clamp_min(1)
        shape = torch.xlogy(rest, rest / uniform[:, None].clamp_min(1e-38)).sum()
        losses += Losses(float(value), float(shape))
        columns["counts"].append(counts.to(torch.int32))
        columns["ids"].append(ids[kept])
        columns["codes"].append(codes[kept])
        columns["tail"].append(tail)
    narrow = torch.uint16 if head.shape[0] <= 1 << 16 else torch.int32
    joined = {name: torch.cat(parts).cpu() for name, parts in columns.items()}
    return {**joined, "ids": joined["ids"].to(narrow)}, losses


def _decoded(codes: Tensor, kept: Tensor, tail: Tensor) -> Tensor:
    """Log-probabilities that with the tail sum to one; -inf where none is kept."""
    rounded = codes.float() * (-RANGE_NATS / 255)
    rounded = rounded.masked_fill(~kept, -torch.inf)
    total = torch.logsumexp(rounded, -1, keepdim=True)
    return rounded - total + torch.log1p(-tail.clamp(0, 1 - 1e-7))[:, None]


def _tiles(hidden: Tensor, head: Tensor) -> list[slice]:
    size = max(1, TILE_ELEMENTS // head.shape[0])
    return [slice(start, start + size) for start in range(0, hidden.shape[0], size)]


def write_shard(
    file: Path, keys: Sequence[bytes], tokens: Sequence[int], columns: dict[str, Tensor]
) -> None:
    """Write one shard, whole or not at all: rows' keys, their target tokens, the columns."""
    rows = {
        "keys": torch.tensor([list(key) for key in keys], dtype=torch.uint8),
        "tokens": torch.tensor(tokens, dtype=torch.int32),
    }
    write_tensors(file, {**rows, **columns})


def write_header(folder: Path, header: Header) -> None:
    """Write `header.json`."""
    write_atomically(folder / "header.json", json.dumps(asdict(header), indent=2) + "\n")


class Cache:
    """A cache that is read. Shards are mapped; what a micro-batch needs is read from them."""

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self.header = read_header(folder)
        self._head: Tensor | None = None
        if self.header.codec == "hidden":
            file: Any = safe_open(folder / "head.safetensors", framework="pt")
            self._head = file.get_tensor("head")
        self._rows: dict[bytes, tuple[int, int, int, int, int]] = {}
        """key: shard, first target token, one past the last; the same of the `top` entries."""
        self._shards: list[Any] = []
        for number, path in enumerate(sorted(folder.glob("shard-*.safetensors"))):
            shard: Any = safe_open(path, framework="pt")
            self._shards.append(shard)
            keys = shard.get_tensor("keys").numpy()
            ends = shard.get_tensor("tokens").cumsum(0).tolist()
            entries = ends
            if self.header.codec == "top":
                sums = [0, *shard.get_tensor("counts").cumsum(0).tolist()]
                entries = [sums[end] for end in ends]
            for row, key in enumerate(keys):
                first, entry = (ends[row - 1], entries[row - 1]) if row else (0, 0)
                self._rows[key.tobytes()] = (number, first, ends[row], entry, entries[row])

    def check_rows(self, tokens: Tokens, folder: Path) -> None:
        """Refuse rows that the cache does not have."""
        missing = [n for n in range(len(tokens)) if tokens.key(n) not in self._rows]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(tokens)} rows are not in the cache {folder}, the first is "
                f"row {missing[0] + 1}",
                hint="make the cache of the same rows, with the same max_row_tokens",
            )

    def source(self, tokens: Tokens, device: torch.device) -> Any:
        """A `TargetSource` of these rows."""
        head = None if self._head is None else self._head.to(device)

        def targets(batch: Batch, rows: Sequence[int]) -> Targets:
            places = [self._rows[tokens.key(row)] for row in rows]
            if head is not None:
                hidden = [self._column("hidden", n, first, last) for n, first, last, _, _ in places]
                whole = torch.cat(hidden) if hidden else head.new_zeros(0, head.shape[1])
                return HiddenTargets(whole.to(device).to(head.dtype), head)
            return self._top(places, device)

        return targets

    def _top(
        self, places: Sequence[tuple[int, int, int, int, int]], device: torch.device
    ) -> Targets:
        if not places:
            return TopTargets(
                torch.zeros(0, 1, dtype=torch.int64), torch.zeros(0, 1), torch.zeros(0)
            )
        counts = torch.cat(
            [self._column("counts", n, first, last) for n, first, last, _, _ in places]
        )
        tail = torch.cat([self._column("tail", n, first, last) for n, first, last, _, _ in places])
        ids = torch.cat([self._column("ids", n, a, b).to(torch.int64) for n, _, _, a, b in places])
        codes = torch.cat([self._column("codes", n, a, b) for n, _, _, a, b in places])
        kept = torch.arange(int(counts.max())) < counts[:, None]
        wide_ids, wide_codes = (
            torch.zeros(kept.shape, dtype=torch.int64),
            kept.new_zeros(kept.shape, dtype=torch.uint8),
        )
        wide_ids[kept], wide_codes[kept] = ids, codes
        wide_ids = torch.where(kept, wide_ids, wide_ids[:, :1])
        log_p = _decoded(wide_codes, kept, tail)
        return TopTargets(wide_ids.to(device), log_p.to(device), tail.to(device))

    def _column(self, name: str, shard: int, first: int, last: int) -> Tensor:
        part: Tensor = self._shards[shard].get_slice(name)[first:last]
        return part


def read_header(folder: Path) -> Header:
    """The header of a cache.

    Raises:
        InputError: there is none, or another version of subl wrote it.
    """
    file = folder / "header.json"
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} is not a cache of a teacher (no readable header.json)",
            hint="subl distill cache makes one",
        ) from error
    if value.get("schema") != SCHEMA:
        raise InputError(
            f"{file}: schema {value.get('schema')} is not the one this version reads ({SCHEMA})",
            hint="make the cache anew",
        )
    return Header(**value)


def check_header(
    header: Header,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    vocabulary: int,
    folder: Path,
) -> None:
    """Refuse a cache that was made for another vocabulary or another template."""
    hints = {
        "tokenizer": "make one with subl distill cache and a teacher of the student's family",
        "template": "make one with subl distill cache, with the student's chat template and "
        "the same `template` in the configuration",
    }
    for name, digest in tokenizer_digests(tokenizer, template).items():
        if getattr(header, name) != digest:
            raise InputError(
                f"the cache {folder} was made with another {name} than the student's",
                hint=hints[name],
            )
    if header.vocabulary != vocabulary:
        raise InputError(
            f"the cache {folder} is over {header.vocabulary} tokens, the student's head "
            f"over {vocabulary}",
            hint="heads of different sizes need the online teacher",
        )


def check_codec(codec: str, loss: LossSpec, cache: Path) -> None:
    """Refuse a loss that the cache's codec cannot give.

    Raises:
        ConfigError: another loss than the likeliest tokens allow.
    """
    given = (loss.divergence, loss.temperature, loss.tokens) == ("forward_kl", 1.0, "all")
    if codec == "top" and not given:
        raise ConfigError(
            f"the cache {cache} has the likeliest tokens only: they give the forward KL over all "
            "tokens at temperature 1 and nothing else",
            hint='make one with codec = "hidden", or leave out loss.divergence, '
            "loss.temperature and loss.tokens",
        )
