"""Sample completions from the model's own softmax, reproducibly.

Transformers' `generate` does the decoding, greedily, after one logits processor of ours that makes
the greedy choice a sample. It is told nothing else: what a model's generation_config.json asks for
(penalties, cut tails, forbidden words) is put aside, or rows would not be the model's.

Randomness is a function of (seed, row, step): each row owns a stream of uniform numbers, and a
token is chosen by inverting the cumulative distribution at the row's next number. Which rows share
a batch does not matter to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from subl.errors import InputError
from subl.model.spread import inputs_device

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from subl.sample.ends import Ends
    from subl.sample.guide import Guide, GuidedRows


class Way(NamedTuple):
    """How rows are decoded. Faster ways first; which are right depends on the model."""

    name: str
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
    Way("padded", padded=True, cached=True),
    Way("equal lengths", cached=True),
    Way("equal lengths, without a cache"),
    Way("row by row, without a cache", alone=True),
)


def uniforms(seed: int, row: int, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """`[count]` numbers in [0, 1) that belong to this row under this seed."""
    # Of a list with a number beyond 2**63 numpy would make floats, and one key of many.
    key = np.array([seed, row], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


class SeededChoice:
    """A logits processor after which the greedy choice is a sample.

    Args:
        uniform: `[rows, steps]` numbers in [0, 1).
        prompt_length: tokens before the first step.
        guided: which tokens may come, or None for the whole vocabulary.
        watch: called with each step and its logits, `[rows, vocabulary]`.
    """

    def __init__(
        self,
        uniform: Tensor,
        prompt_length: int,
        temperature: float,
        guided: GuidedRows | None = None,
        watch: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        self._uniform = uniform
        self._prompt_length = prompt_length
        self._temperature = temperature
        self._guided = guided
        self._watch = watch

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - self._prompt_length
        if self._watch is not None:
            self._watch(step, scores)
        logits = scores.double()
        ids = None
        if self._guided is not None:
            ids, rows = (
                torch.from_numpy(each).to(scores.device)
                for each in self._guided.allowed(scores.shape[1])
            )
            logits = logits[:, ids].masked_fill(~rows, -torch.inf)
        # The largest becomes 0 first: a low temperature would make infinities of the others.
        p = torch.softmax((logits - logits.amax(-1, keepdim=True)) / self._temperature, dim=-1)
        cumulative = p.cumsum(dim=-1)
        if not bool(cumulative[:, -1].isfinite().all()):
            raise InputError(
                "the model's logits are no numbers: it cannot be sampled from",
                hint="its weights may be damaged; does another program get text out of it?",
            )
        target = self._uniform[:, step : step + 1] * cumulative[:, -1:]
        # A target that rounds up to the whole is the last token's that has a probability.
        last = (cumulative < cumulative[:, -1:]).sum(dim=-1)
        choice = torch.minimum((cumulative <= target).sum(dim=-1), last)
        only = torch.full_like(scores, -torch.inf)
        return only.scatter_(1, (choice if ids is None else ids[choice])[:, None], 0.0)


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[int],
    *,
    seed: int,
    temperature: float,
    max_new_tokens: int,
    guide: Guide | None = None,
    ends: Ends | None = None,
    way: Way = WAYS[0],
    watch: Callable[[int, Tensor], None] | None = None,
) -> list[list[int]]:
    """Sampled tokens of a batch of tokenised prompts, what ends a row among them.

    Behind its end a row may hold anything: other rows of the batch were not done.

    Args:
        prompts: token ids; padded on the left here, where `way` allows other lengths.
        rows: the rows' numbers in the data set, which fix their randomness.
        guide: which tokens may come; needs `ends`.
        ends: what rows end at; nothing, if None.
        watch: see `SeededChoice`.
    """
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    width = max(len(prompt) for prompt in prompts)
    input_ids = torch.zeros((len(prompts), width), dtype=torch.int64)
    mask = torch.zeros_like(input_ids)
    for index, prompt in enumerate(prompts):
        input_ids[index, width - len(prompt) :] = torch.tensor(prompt)
        mask[index, width - len(prompt) :] = 1
    uniform = torch.from_numpy(np.stack([uniforms(seed, row, max_new_tokens) for row in rows]))
    on = inputs_device(model)
    stops = [] if ends is None else sorted(ends.turn | ends.control)
    stopping: list[Any] = []
    guided = None if guide is None or ends is None else guide.rows(len(rows), ends)
    if guided is not None:
        stopping.append(_Complete(guided))
    elif ends is not None and ends.spelled:
        stopping.append(_Spelled(tokenizer, ends, width))
    with torch.inference_mode(), own_softmax(model):
        made = model.generate(
            input_ids.to(on),
            attention_mask=mask.to(on),
            generation_config=GenerationConfig(
                max_new_tokens=max_new_tokens,
                do_sample=False,
                use_cache=way.cached,
                pad_token_id=0,  # any: nobody reads what stands behind a row's end
                eos_token_id=stops or None,
            ),
            logits_processor=LogitsProcessorList(
                [SeededChoice(uniform.to(on), width, temperature, guided, watch)]
            ),
            stopping_criteria=StoppingCriteriaList(stopping),
        )
    completions: list[list[int]] = made[:, width:].tolist()
    return completions


def first_log_p(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    top: int,
    way: Way = WAYS[0],
) -> list[dict[str, float]]:
    """Log-probabilities of each answer's `top` likeliest first tokens, by their texts; those of
    tokens with one text are added up."""
    seen: list[Tensor] = []
    sample(
        model,
        tokenizer,
        prompts,
        range(len(prompts)),
        seed=0,
        temperature=1.0,
        max_new_tokens=1,
        way=way,
        watch=lambda step, logits: seen.append(logits),
    )
    best = torch.log_softmax(seen[0].double(), -1).topk(min(top, seen[0].shape[-1]))
    found: list[dict[str, float]] = []
    for row_log_p, row_ids in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        row: dict[str, float] = {}
        for log_p, token in zip(row_log_p, row_ids, strict=True):
            text = str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
            row[text] = float(np.logaddexp(row.get(text, -np.inf), log_p))
        found.append(row)
    return found


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


class _Spelled:
    """Stops a row whose text has the end of turn in it, where that is no token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Ends, width: int) -> None:
        self._tokenizer = tokenizer
        self._texts = ends.turn_texts
        self._width = width
        # Each token is at least a byte of the text, and a character at most four bytes.
        self._tail = 4 * max(map(len, self._texts)) + 4

    def __call__(self, input_ids: Tensor, scores: Tensor, **more: Any) -> Tensor:
        tails = input_ids[:, max(self._width, input_ids.shape[1] - self._tail) :]
        texts = self._tokenizer.batch_decode(tails, clean_up_tokenization_spaces=False)
        done = [any(each in text for each in self._texts) for text in texts]
        return torch.tensor(done, device=input_ids.device)


class _Complete:
    """Stops a row whose grammar is complete."""

    def __init__(self, guided: GuidedRows) -> None:
        self._guided = guided

    def __call__(self, input_ids: Tensor, scores: Tensor, **more: Any) -> Tensor:
        done = self._guided.read(input_ids[:, -1].tolist())
        return torch.tensor(done, device=input_ids.device)
