"""Write down what a teacher says about rows, once, for all students that learn from it.

The teacher reads each row as an online teacher would, in the same micro-batches; shards of some
thousand rows are written whole, so that an interrupted run goes on with the next.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from subl.artifact import Artifact, StageSpec, build, input_digest, write_atomically
from subl.model.template import Template
from subl.progress import Progress, Report, silent
from subl.shards import read_rows
from subl.train.run import prepare_tokens

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from subl.train.cache import Losses
    from subl.train.layout import Layout
    from subl.train.tokens import Tokens


class CacheSpec(StageSpec):
    """What to keep of a teacher's distributions."""

    format_version: ClassVar = 2
    unkeyed: ClassVar = {"micro_batch_tokens"}

    codec: Literal["hidden", "top"] = Field(
        "hidden",
        description="the teacher's last hidden states and its head: exact, any divergence; or its "
        "likeliest tokens in 8 bits: small, forward KL at temperature 1",
    )
    hidden_dtype: Literal["teacher", "bfloat16"] = Field(
        "teacher", description="of stored hidden states; bfloat16 halves those of float32"
    )
    max_k: int = Field(64, gt=0, le=65535, description="tokens to keep at most (top)")
    mass: float = Field(
        0.999, gt=0, le=1, description="keep as many as hold this much probability (top)"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="the teacher's weights and activations"
    )
    max_row_tokens: int | None = Field(None, gt=1, description="rows may not be longer")
    long_rows: Literal["error", "truncate", "drop"] = Field(
        "error", description="what to do with rows that are longer than max_row_tokens"
    )
    whole_turn: bool = Field(
        False,
        description="ask, too, for the line break that a template puts behind the end of a turn, "
        "as the paper's code does",
    )
    template: Template = Template()
    micro_batch_tokens: int = Field(2048, gt=0, description="tokens of one forward pass, at most")
    shard_tokens: int = Field(
        65536,
        gt=0,
        description="target tokens of a shard: what is held in memory, and is lost "
        "when a run is interrupted",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.hidden_dtype != "teacher" and self.codec != "hidden":
            raise ValueError('hidden_dtype belongs to codec = "hidden"')
        if self.long_rows != "error" and self.max_row_tokens is None:
            raise ValueError(f'long_rows = "{self.long_rows}" needs max_row_tokens')
        return self


def make_cache(
    spec: CacheSpec, teacher: Path, rows: Sequence[Path], out: Path, *, report: Report = silent
) -> Artifact:
    """Make the cache `out` of the model folder `teacher` over `rows`."""

    def work(folder: Path) -> dict[str, Any]:
        from subl.model.load import device, require_torch

        require_torch()
        from subl.train.precision import products

        with products(spec.dtype, device()):
            return _write(spec, teacher, rows, folder, report)

    inputs = {"teacher": teacher, **{f"rows-{index}": path for index, path in enumerate(rows)}}
    return build(out, "cache", spec, inputs, work)


def _write(
    spec: CacheSpec, teacher: Path, rows: Sequence[Path], folder: Path, report: Report
) -> dict[str, Any]:
    import torch

    from subl.model.condition import conditioned
    from subl.model.load import load_model, load_tokenizer, write_tensors
    from subl.model.spread import inputs_device
    from subl.train.cache import (
        SCHEMA,
        Header,
        Losses,
        tokenizer_digests,
        write_header,
        write_shard,
    )
    from subl.train.layout import choose_layout
    from subl.train.preflight import check_weights, look_at
    from subl.train.student import check_head, head
    from subl.train.tokens import Tokens, check_tokens

    look_at(teacher, spec.template)
    check_weights(teacher)
    # Rows are found by what a student reads: a teacher's own system prompt is no part of that.
    unprompted = conditioned(teacher).folder
    tokens = Tokens(
        prepare_tokens(unprompted, read_rows(rows), spec, folder, report, spec.template, teacher)
    )
    tokenizer = load_tokenizer(teacher)
    model = load_model(teacher, spec.dtype).requires_grad_(False)
    check_head(model)
    check_tokens(tokens.of_teacher, model, tokenizer)
    layout = choose_layout(model, tokens.of_teacher.extremes())
    weight = head(model).detach().to(inputs_device(model))
    if spec.codec == "hidden":
        write_tensors(folder / "head.safetensors", {"head": weight.cpu().contiguous()})
    dtype = weight.dtype if spec.hidden_dtype == "teacher" else torch.bfloat16
    started, lost, done = time.monotonic(), Losses(), 0
    for number, shard_rows in enumerate(_shards(tokens.target_counts.tolist(), spec.shard_tokens)):
        file = folder / f"shard-{number:05d}.safetensors"
        record = folder / f".{file.name}.json"  # what it lost; hidden, so it goes at the end
        if not (file.is_file() and record.is_file()):
            columns, shard_lost = _shard(
                spec, model, layout, tokens.of_teacher, shard_rows, weight, dtype, report
            )
            keys = [tokens.key(row) for row in shard_rows]
            write_shard(file, keys, tokens.target_counts[shard_rows].tolist(), columns)
            write_atomically(record, json.dumps(asdict(shard_lost)))
        lost += Losses(**json.loads(record.read_text(encoding="utf-8")))
        done += len(shard_rows)
        report(Progress("cache", done, len(tokens), "rows"))
    top = spec.codec == "top"
    header = Header(
        schema=SCHEMA,
        codec=spec.codec,
        teacher=input_digest(teacher),
        vocabulary=weight.shape[0],
        dtype=str(dtype).removeprefix("torch."),
        max_k=spec.max_k if top else None,
        mass=spec.mass if top else None,
        **tokenizer_digests(tokenizer, spec.template),
    )
    write_header(folder, header)
    count = tokens.counts.target_tokens
    size = sum(path.stat().st_size for path in folder.glob("shard-*.safetensors"))
    return {
        "rows": len(tokens),
        "target_tokens": count,
        "bytes_per_token": round(size / count, 2),
        "value_kl_nats": lost.value / count,
        "tail_shape_kl_nats": lost.tail_shape / count,
        "tokens_per_second": round(tokens.counts.tokens / (time.monotonic() - started), 1),
    }


def _shards(counts: Sequence[int], most: int) -> Iterator[range]:
    """Runs of rows with at most so many target tokens, or one row."""
    first, held = 0, 0
    for row, count in enumerate(counts):
        if held and held + count > most:
            yield range(first, row)
            first, held = row, 0
        held += count
    yield range(first, len(counts))


def _shard(
    spec: CacheSpec,
    model: PreTrainedModel,
    layout: Layout,
    tokens: Tokens,
    rows: range,
    weight: Tensor,
    dtype: torch.dtype,
    report: Report,
) -> tuple[dict[str, Tensor], Losses]:
    """The columns of one shard, its rows in their order."""
    import torch

    from subl.model.spread import inputs_device
    from subl.train.attention import hidden_states
    from subl.train.cache import Losses, encode_hidden, encode_top
    from subl.train.layout import lay_out, share

    lengths = tokens.lengths[rows].tolist()
    (packed,) = share(layout, rows, lengths, 1, spec.micro_batch_tokens)
    found: dict[int, dict[str, Tensor]] = {}
    lost = Losses()
    for bin_rows in packed:
        batch = lay_out(layout, [tokens.row(row) for row in bin_rows]).to(inputs_device(model))
        with torch.no_grad():
            states = hidden_states(model, batch)[batch.sources]
            counts = tokens.target_counts[bin_rows].tolist()
            for row, hidden in zip(bin_rows, torch.split(states, counts), strict=True):
                if spec.codec == "hidden":
                    found[row], row_lost = encode_hidden(hidden, weight, dtype)
                else:
                    found[row], row_lost = encode_top(hidden, weight, spec.max_k, spec.mass)
                lost += row_lost
        report(Progress("cache", rows.start + len(found), len(tokens), "rows"))
    columns = {name: torch.cat([found[row][name] for row in rows]) for name in found[rows.start]}
    return columns, lost
