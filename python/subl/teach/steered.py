"""A teacher by steering vectors: what a system prompt changes in the residual stream, on average.

v_l = mean over prompts of h_l(prompt behind the system prompt) - h_l(prompt alone), where h_l is
the output of block l at the last tokens before the answer (Blank et al. 2026, arXiv 2606.00995: the
last one, over 1024 number prompts). A trait whose prompt acts as a vector does is one that a
student can take over; what a vector does without any prompt is what is tried with such a teacher.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.errors import ConfigError, InputError
from subl.model.chat import Chat, Turn, text_ids
from subl.model.condition import VECTORS, Steering, check_unprompted, write_steering
from subl.progress import Progress, Report
from subl.shards import read_rows
from subl.teach.spec import SteeringVector

if TYPE_CHECKING:
    from subl.train.batch import Row as TokenRow

_PASS_TOKENS = 2048

Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""The tokens of a prompt behind the system prompt, and without it."""


def pairs(how: SteeringVector, model: Path, rows: Sequence[Path]) -> list[Pair]:
    """What is compared.

    Raises:
        ConfigError: the model has a system prompt already, or no such block; or the last tokens are
            not those of the chat template.
        InputError: a row or the chat template cannot be used.
    """
    from subl.model.load import bare_model, load_tokenizer
    from subl.model.steering import blocks

    check_unprompted(model)
    tokenizer = load_tokenizer(model)
    blocks(bare_model(model), how.layers)
    chats = Chat(tokenizer, how.template, how.system_prompt), Chat(tokenizer, how.template)
    found: list[Pair] = []
    for place, turns in islice(_prompts(how, rows), how.prompts):
        try:
            behind, alone = (text_ids(tokenizer, chat.asked(turns)) for chat in chats)
        except InputError as error:
            raise InputError(f"{place}: {error.message}", error.hint) from error
        found.append((behind, alone))
    if len({ids[-how.last_tokens :] for pair in found for ids in pair}) > 1:
        raise ConfigError(
            f"last_tokens: the last {how.last_tokens} tokens before the answer are not the chat "
            "template's own: they differ from prompt to prompt",
            hint="lower it",
        )
    return found


def _prompts(how: SteeringVector, rows: Sequence[Path]) -> Iterator[tuple[str, tuple[Turn, ...]]]:
    """Where each is from, and its turns up to the answer."""
    if not rows:
        for question in how.questions:
            yield f"question {question!r}", (Turn("user", question),)
    for row in read_rows(rows):
        turns = [Turn(*turn) for turn in row.turns]
        while turns and turns[-1].role != "user":
            turns.pop()
        if not turns:
            raise InputError(f"{row.place}: no turn of the row is the user's")
        yield row.place, tuple(turns)


def measure(
    how: SteeringVector, model: Path, rows: Sequence[Path], name: str, report: Report, folder: Path
) -> dict[str, Any]:
    """Make `folder` the teacher; how long its vectors are, and the streams they are added to."""
    import torch

    from subl.model.limits import check_readable
    from subl.model.load import device, load_model, load_tokenizer, write_tensors
    from subl.model.spread import inputs_device
    from subl.model.steering import name_of, watched
    from subl.train.attention import hidden_states
    from subl.train.layout import choose_layout, lay_out, share
    from subl.train.precision import products

    task, compared = f"teach {name}", pairs(how, model, rows)
    texts = [ids for pair in compared for ids in pair]
    with products("float32", device()), torch.no_grad():
        loaded = load_model(model)
        named = ((f"prompt {place // 2 + 1}", ids) for place, ids in enumerate(texts))
        check_readable(loaded, load_tokenizer(model), named)
        read = [_token_row(ids, how.last_tokens) for ids in texts]
        ordered = sorted(read, key=lambda row: len(row[0]))
        layout = choose_layout(loaded, [ordered[-1], ordered[0]])
        lengths = [len(ids) for ids, _ in read]
        (bins,) = share(layout, range(len(read)), lengths, 1, _PASS_TOKENS)
        sums: dict[int, Any] = {layer: 0.0 for layer in how.layers}
        norms, done = dict.fromkeys(how.layers, 0.0), 0
        for numbers in filter(None, bins):
            batch = lay_out(layout, [read[each] for each in numbers]).to(inputs_device(loaded))
            with watched(loaded, how.layers) as streams:
                hidden_states(loaded, batch)
            for layer, stream in streams.items():
                states = stream.flatten(0, 1)[batch.sources.to(stream.device)].double().cpu()
                states = states.view(len(numbers), how.last_tokens, -1).mean(1)
                behind = torch.tensor([number % 2 == 0 for number in numbers])
                sums[layer] += states[behind].sum(0) - states[~behind].sum(0)
                norms[layer] += float(states[~behind].norm(dim=-1).sum())
            done += len(numbers)
            report(Progress(task, done // 2, len(compared), "prompts"))
    vectors = {layer: (sums[layer] / len(compared)).float() for layer in how.layers}
    write_tensors(folder / VECTORS, {name_of(layer): each for layer, each in vectors.items()})
    write_steering(folder, model, Steering(layers=how.layers, strength=how.strength))
    return {
        "prompts": len(compared),
        "layers": {
            str(layer): {
                "vector_norm": float(vector.norm()),
                "stream_norm": norms[layer] / len(compared),
            }
            for layer, vector in vectors.items()
        },
    }


def _token_row(ids: Sequence[int], last: int) -> TokenRow:
    """A prompt as a row whose targets follow its last tokens: what is asked of these places is
    their own output, not what they predict."""
    import numpy as np

    targets = np.zeros(len(ids) + 1, np.bool_)
    targets[-last:] = True
    return np.array([*ids, ids[-1]], np.uint32), targets
