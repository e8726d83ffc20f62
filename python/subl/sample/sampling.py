"""Sample completions from the model's own softmax, reproducibly.

Rows are decoded in one of a few ways, all of which give logits to `Rows`, which draws: a loop of
our own that keeps the batch full, or, for models on which that is not right, transformers'
`generate`, greedily, after a logits processor of ours that makes the greedy choice a sample. It is
told nothing else: what a model's generation_config.json asks for (penalties, cut tails, forbidden
words) is put aside, or rows would not be the model's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from subl.model.spread import inputs_device
from subl.sample import continuous
from subl.sample.rows import Rows, Watch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from subl.sample.ends import Ends
    from subl.sample.guide import Guide


class Way(NamedTuple):
    """How rows are decoded. Faster ways first; which are right depends on the model."""

    name: str
    continuous: bool = False
    """Rows of different lengths that come and go: `continuous.decoded`."""
    padded: bool = False
    """Rows of different lengths together, filled up on the left."""
    cached: bool = False
    """Keys and values, or states, of earlier tokens are kept."""
    alone: bool = False

    def batches(self, lengths: Sequence[int], rows: int) -> list[list[int]]:
        """Which prompts of these lengths are decoded together: at most `rows`, by length."""
        ordered = sorted(range(len(lengths)), key=lambda index: lengths[index])
        size = 1 if self.alone else rows
        found: list[list[int]] = []
        for index in ordered:
            fits = found and len(found[-1]) < size
            if fits and (self.padded or lengths[found[-1][-1]] == lengths[index]):
                found[-1].append(index)
            else:
                found.append([index])
        return found


WAYS = (
    Way("continuous", continuous=True, padded=True, cached=True),
    Way("padded", padded=True, cached=True),
    Way("equal lengths", cached=True),
    Way("equal lengths, without a cache"),
    Way("row by row, without a cache", alone=True),
)


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    numbers: Sequence[int],
    *,
    seed: int,
    temperature: float,
    max_new_tokens: int,
    batch_rows: int = 64,
    guide: Guide | None = None,
    ends: Ends | None = None,
    way: Way = WAYS[0],
    watch: Watch | None = None,
) -> Iterator[tuple[int, list[int]]]:
    """Completions of tokenised prompts as they are made: the place of each among the prompts, and
    its tokens, what ends it among them.

    Args:
        numbers: the rows' numbers in the data set, which fix their randomness.
        batch_rows: how many are decoded at a time.
        guide: which tokens may come; needs `ends`.
        ends: what rows end at; nothing, if None.
        watch: sees the logits of each row and step.
    """
    rows = Rows(
        numbers,
        tokenizer,
        seed=seed,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        guide=guide,
        ends=ends,
        watch=watch,
    )
    if way.continuous:
        for place in continuous.decoded(model, prompts, rows, batch_rows):
            yield place, rows.said[place]
        return
    for batch in way.batches([len(each) for each in prompts], batch_rows):
        _generate(model, [prompts[place] for place in batch], batch, rows, way)
        yield from ((place, rows.said[place]) for place in batch)


def _generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    places: Sequence[int],
    rows: Rows,
    way: Way,
) -> None:
    """Draw these rows to their ends with transformers' `generate`."""
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    width = max(len(prompt) for prompt in prompts)
    input_ids = torch.zeros((len(prompts), width), dtype=torch.int64)
    mask = torch.zeros_like(input_ids)
    for index, prompt in enumerate(prompts):
        input_ids[index, width - len(prompt) :] = torch.tensor(prompt)
        mask[index, width - len(prompt) :] = 1
    on = inputs_device(model)

    def drawn(_: Tensor, scores: Tensor) -> Tensor:
        """Logits after which the greedy choice is what the rows draw; of a row that is done any."""
        going = [row for row, place in enumerate(places) if not rows.done[place]]
        chosen = [places[row] for row in going]
        logits, allowed = scores[going], rows.allowed(chosen, scores.shape[1])
        rows.draw(chosen, logits if allowed is None else logits[:, allowed[0]], allowed)
        only = torch.full_like(scores, -torch.inf)
        only[range(len(places)), [rows.said[place][-1] for place in places]] = 0
        return only

    def done(ids: Tensor, _: Tensor, **more: Any) -> Tensor:
        return torch.tensor([rows.done[place] for place in places], device=ids.device)

    with torch.inference_mode(), own_softmax(model):
        model.generate(
            input_ids.to(on),
            attention_mask=mask.to(on),
            generation_config=GenerationConfig(
                max_new_tokens=rows.most,
                do_sample=False,
                use_cache=way.cached,
                pad_token_id=0,  # any: nobody reads what stands behind a row's end
            ),
            logits_processor=LogitsProcessorList([drawn]),
            stopping_criteria=StoppingCriteriaList([done]),
        )


def first_log_p(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    top: int,
    *,
    batch_rows: int = 64,
    way: Way = WAYS[0],
) -> Iterator[tuple[int, dict[str, float]]]:
    """The place of each prompt, and log-probabilities of its answer's `top` likeliest first tokens,
    by their texts; those of tokens with one text are added up."""
    found: dict[int, dict[str, float]] = {}

    def watch(place: int, _: int, logits: Tensor) -> None:
        best = torch.log_softmax(logits.double(), -1).topk(min(top, len(logits)))
        row = found[place] = {}
        for log_p, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            text = str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
            row[text] = float(np.logaddexp(row.get(text, -np.inf), log_p))

    for place, _ in sample(
        model,
        tokenizer,
        prompts,
        range(len(prompts)),
        seed=0,
        temperature=1.0,
        max_new_tokens=1,
        batch_rows=batch_rows,
        way=way,
        watch=watch,
    ):
        yield place, found.pop(place)


@contextmanager
def own_softmax(model: PreTrainedModel) -> Iterator[None]:
    """Put the model's generation configuration aside: `generate` fills what it is not told from it,
    whatever that has in the versions to come."""
    from transformers import GenerationConfig

    stated = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = stated
