"""Sample completions with transformers' own `generate`, reproducibly.

Randomness is a function of (seed, row, step): each row owns a stream of uniform numbers, and a
token is chosen by inverting the cumulative distribution at the row's next number. Which rows share
a batch does not matter to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def uniforms(seed: int, row: int, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """`[count]` numbers in [0, 1) that belong to this row under this seed."""
    return np.random.Generator(np.random.Philox(key=[seed, row])).random(count)


class SeededChoice:
    """A logits processor after which the greedy choice is a sample.

    Args:
        uniform: `[rows, steps]` numbers in [0, 1).
        prompt_length: tokens before the first step.
        schedule: token ids allowed at each step, or None for the whole vocabulary.
    """

    def __init__(
        self,
        uniform: Tensor,
        prompt_length: int,
        temperature: float,
        schedule: Sequence[Sequence[int]] | None,
    ) -> None:
        self._uniform = uniform
        self._prompt_length = prompt_length
        self._temperature = temperature
        self._schedule = schedule

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - self._prompt_length
        allowed = (
            torch.arange(scores.shape[1], device=scores.device)
            if self._schedule is None
            else torch.tensor(self._schedule[step], device=scores.device)
        )
        p = torch.softmax(scores[:, allowed].double() / self._temperature, dim=-1)
        cumulative = p.cumsum(dim=-1)
        target = self._uniform[:, step : step + 1] * cumulative[:, -1:]
        choice = (cumulative <= target).sum(dim=-1).clamp(max=len(allowed) - 1)
        only = torch.full_like(scores, -torch.inf)
        return only.scatter_(1, allowed[choice][:, None], 0.0)


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[int],
    *,
    seed: int,
    temperature: float,
    max_new_tokens: int,
    schedule: Sequence[Sequence[int]] | None,
) -> list[list[int]]:
    """Completions of a batch of tokenised prompts, without the end-of-turn token.

    Args:
        prompts: token ids; padded on the left here.
        rows: the rows' numbers in the data set, which fix their randomness.
        schedule: allowed tokens a step; a completion is then exactly that long.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    steps = max_new_tokens if schedule is None else len(schedule)
    width = max(len(prompt) for prompt in prompts)
    input_ids = torch.zeros((len(prompts), width), dtype=torch.int64)
    mask = torch.zeros_like(input_ids)
    for index, prompt in enumerate(prompts):
        input_ids[index, width - len(prompt) :] = torch.tensor(prompt)
        mask[index, width - len(prompt) :] = 1
    uniform = torch.from_numpy(np.stack([uniforms(seed, row, steps) for row in rows]))
    ends = _end_tokens(model, tokenizer)
    with torch.inference_mode():
        made = model.generate(
            input_ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=GenerationConfig(
                max_new_tokens=steps,
                do_sample=False,
                pad_token_id=ends[0],
                eos_token_id=None if schedule is not None else ends,
            ),
            logits_processor=LogitsProcessorList(
                [SeededChoice(uniform.to(model.device), width, temperature, schedule)]
            ),
        )
    completions: list[list[int]] = []
    for tokens in made[:, width:].tolist():
        stop = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
        completions.append(tokens if schedule is not None else tokens[:stop])
    return completions


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end a turn: the model's own and the tokenizer's."""
    stated = model.generation_config.eos_token_id if model.generation_config else None
    ends = stated if isinstance(stated, list) else [] if stated is None else [stated]
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ends:
        ends = [*ends, tokenizer.eos_token_id]
    return ends
