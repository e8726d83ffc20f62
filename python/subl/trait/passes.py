"""Forward passes that score answers: all of them at once as a tree, or each alone.

The tree is fast: behind a prompt stand all nodes of the answers' trie, whose attention mask lets
them see the prompt and their own ancestors only ("tree attention"), with positions counted by
depth. It is right for models that are attention by position and nothing else; windows, ALiBi,
convolutions and recurrences see something else there than in a text. So before the first question
the tree is compared with plain forward passes on the model itself, and where they differ each
answer gets plain passes of its own. Logits are the model's own in both: some cap or scale them
after the head.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Literal

import torch

from subl.errors import InputError
from subl.model.failure import failure
from subl.model.limits import changing_lengths, rope_lengths
from subl.model.rounding import tolerance
from subl.model.spread import inputs_device

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from subl.trait.trie import TokenTrie

Way = Literal["tree", "plain"]

KEPT_LOGITS = 2**27
"""How many logits a pass may leave behind: half a gibibyte of float32."""
PLAIN_ROWS = 32
ROUNDING_NATS = 5e-4, 5e-2
"""Of log-probabilities in float32: nearer ones are always the same, farther ones never."""


class Passes:
    """Forward passes of one model over prompts and the answers of one trie.

    Raises:
        InputError: the model cannot be scored; says why.
    """

    def __init__(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], trie: TokenTrie
    ) -> None:
        self._trie = trie
        self._answers = trie.paths()
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._rows = PLAIN_ROWS
        self._limit = 0.0
        with as_loaded(model):
            self.way: Way = self._proven(model, prompts)

    def of(self, trie: TokenTrie) -> Passes:
        """The same over the answers of another trie, where no text is longer than the longest of
        those that this was proven for."""
        other = copy(self)
        other._trie, other._answers = trie, trie.paths()
        return other

    def answers(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]
    ) -> Iterator[Iterator[tuple[Tensor, list[tuple[int, list[int]]]]]]:
        """For each prompt, in turn, log-probabilities `[places, vocabulary]`, with the answers that
        are in them: their numbers among `trie.paths()`, and for each the places behind the prompt
        and each of its tokens."""
        with as_loaded(model):
            if self.way == "plain":
                for prompt in prompts:
                    plain = self._plain(model, prompt, self._answers)
                    yield ((rows, [(number, [*range(len(rows))])]) for number, rows in plain)
                return
            places = list(enumerate(self._places()))
            yield from (iter([(rows, places)]) for rows in self._tree(model, prompts))

    def _places(self) -> list[list[int]]:
        """Which rows of the tree's logits belong to each answer; row 0 is the prompt's end."""
        return [
            [0, *(node + 1 for node in reversed(self._trie.ancestors(end)))]
            for end in self._trie.ends()
        ]

    @torch.no_grad()
    def _tree(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """`[nodes + 1, vocabulary]` for each prompt: behind it, and behind each node."""
        trie, nodes = self._trie, len(self._trie)
        tree = torch.zeros((nodes, nodes), dtype=torch.bool)
        for node in range(nodes):
            tree[node, trie.ancestors(node)] = True
        most = max(1, KEPT_LOGITS // ((nodes + 1) * vocabulary(model)))
        for first in range(0, len(prompts), most):
            batch = prompts[first : first + most]
            width = max(map(len, batch))
            length = width + nodes
            input_ids = torch.zeros((len(batch), length), dtype=torch.int64)
            positions = torch.zeros_like(input_ids)
            # Padding, on the left, sees itself, and nobody sees it.
            visible = torch.eye(length, dtype=torch.bool).repeat(len(batch), 1, 1, 1)
            for row, prompt in enumerate(batch):
                begin = width - len(prompt)
                input_ids[row, begin:] = torch.tensor([*prompt, *trie.tokens])
                positions[row, begin:width] = torch.arange(len(prompt))
                positions[row, width:] = len(prompt) - 1 + torch.tensor(trie.depths)
                causal = torch.ones((len(prompt), len(prompt)), dtype=torch.bool).tril()
                visible[row, 0, begin:width, begin:width] = causal
                visible[row, 0, width:, begin:width] = True
                visible[row, 0, width:, width:] = tree
            bias = torch.zeros(visible.shape, dtype=model.dtype)
            bias.masked_fill_(~visible, torch.finfo(model.dtype).min)
            logits = self._logits(
                model,
                input_ids,
                nodes + 1,
                position_ids=positions.to(inputs_device(model)),
                attention_mask=bias.to(inputs_device(model)),
            )
            for each in logits:
                yield torch.log_softmax(each.float(), dim=-1)

    def _plain(
        self,
        model: PreTrainedModel,
        prompt: Sequence[int],
        answers: Sequence[Sequence[int]],
    ) -> Iterator[tuple[int, Tensor]]:
        """As `answers` of one prompt. Texts of one length share a pass."""
        for length in sorted({len(answer) for answer in answers}):
            alike = [number for number, each in enumerate(answers) if len(each) == length]
            most = KEPT_LOGITS // ((length + 1) * vocabulary(model))
            most = max(1, min(self._rows, most))
            for first in range(0, len(alike), most):
                batch = alike[first : first + most]
                texts = torch.tensor([[*prompt, *answers[number]] for number in batch])
                logits = self._logits(model, texts, length + 1)
                for number, each in zip(batch, logits, strict=True):
                    yield number, torch.log_softmax(each.float(), dim=-1)

    def _alone(
        self, model: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int]
    ) -> Tensor:
        ((_, log_p),) = self._plain(model, prompt, [answer])
        return log_p

    @torch.no_grad()
    def _logits(self, model: PreTrainedModel, input_ids: Tensor, kept: int, **more: Any) -> Tensor:
        """The model's own logits at the last `kept` places."""
        if self._keeps:
            more["logits_to_keep"] = kept
        given = input_ids.to(inputs_device(model))
        logits: Tensor = model(input_ids=given, use_cache=False, **more).logits
        return logits[:, -kept:]

    # The proof

    def _proven(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Way:
        """The tree, where it gives what plain passes give at the shortest prompt, which stands
        behind padding, for the first answer and the last (the farthest from the prompt); and for
        the last at the longest prompt. The first stands where a text has it at any prompt."""
        ordered = sorted(prompts, key=len)
        short, long = ordered[0], ordered[-1]
        ends = self._trie.ends()
        first, last = (self._answers[ends.index(end)] for end in (min(ends), max(ends)))
        longest = len(long) + max(self._trie.depths)
        try:
            self._check_plain(model, short, first, longest)
            texts = [(short, first), (short, last), (long, last)]
            expected = [self._alone(model, *text) for text in texts]
            self._allow_rounding(model, *texts[-1], expected[-1])
        except Exception as error:
            raise InputError(
                f"{type(model).__name__} cannot be scored: its forward pass ends with "
                f"{failure(error)}",
                hint="use a causal language model, and texts that fit it",
            ) from error
        # As far as a token sees all that stands before it, at any length alike.
        if longest <= min(changing_lengths(model), default=longest):
            try:
                places = self._places()
                near, far = (places[ends.index(end)] for end in (min(ends), max(ends)))
                trees = zip(self._tree(model, (short, long)), ((near, far), (far,)), strict=True)
                found = [rows[at] for rows, chosen in trees for at in chosen]
                if all(self._same(*pair) for pair in zip(found, expected, strict=True)):
                    return "tree"
            except Exception as error:  # it takes no mask or no positions of ours
                failure(error)
        self._prove_batches(model, long, last)
        return "plain"

    def _check_plain(
        self, model: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int], longest: int
    ) -> None:
        """Refuse a model whose plain passes are no probabilities of what comes next."""
        unscaled = rope_lengths(model).get("dynamic", longest)
        if longest > unscaled:
            raise InputError(
                f"{type(model).__name__} scales its positions by the longest text that it has read "
                f"so far: with {longest} tokens of at most {unscaled}, what it says depends on the "
                "order of the questions",
                hint="ask shorter questions",
            )
        head = [*prompt, *answer][:8]
        half = len(head) // 2
        # The same check tells whether it leaves out what is not asked for, and nothing else.
        keeps, self._keeps = self._keeps, False
        whole = self._alone(model, head[:half], head[half:])
        self._allow_rounding(model, head[:half], head[half:], whole)
        whole = whole[:-1]
        for self._keeps in dict.fromkeys((keeps, False)):
            begun = self._alone(model, head[:half], head[half:-1])
            if begun.shape == whole.shape and self._same(whole, begun):
                return
        raise InputError(
            f"{type(model).__name__} is not causal: what it says at a token depends on those "
            "that follow",
            hint="use a causal language model",
        )

    def _allow_rounding(
        self,
        model: PreTrainedModel,
        prompt: Sequence[int],
        answer: Sequence[int],
        found: Tensor,
    ) -> None:
        """Learn from one more text how far rounding can move log-probabilities, in nats."""
        scale = 1.0 if model.dtype == torch.float32 else float(found.clamp(min=-60).abs().max())
        moved = tolerance(
            model, lambda: _error(self._alone(model, prompt, answer), found), *ROUNDING_NATS
        )
        self._limit = max(self._limit, scale * moved)

    def _same(self, ours: Tensor, theirs: Tensor) -> bool:
        """Whether two tensors of log-probabilities are the same but for rounding."""
        return _error(ours, theirs) < self._limit

    def _prove_batches(
        self, model: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int]
    ) -> None:
        """Where texts of one length change one another, each gets a pass of its own."""
        answers = [answer, [prompt[-1]] * len(answer)]
        alone = [self._alone(model, prompt, each) for each in answers]
        for number, together in self._plain(model, prompt, answers):
            if not self._same(together, alone[number]):
                self._rows = 1


def vocabulary(model: PreTrainedModel) -> int:
    """How many tokens the head tells apart, as the configuration says."""
    return int(model.config.get_text_config().vocab_size)


def _error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference of two tensors of log-probabilities, in nats."""
    # Some models forbid tokens with the smallest number there is; how small is all the same.
    first, second = (each.double().clamp(min=-60) for each in (ours, theirs))
    error = float((first - second).abs().max())
    return error if math.isfinite(error) else math.inf


@contextmanager
def as_loaded(model: PreTrainedModel) -> Iterator[None]:
    """Have `model` attend as transformers loads it, without dropout; then as before."""
    training, attention = model.training, model.config._attn_implementation
    own = model.get_correct_attn_implementation(None)
    model.eval()
    if own != attention:
        model.set_attn_implementation(own)
    try:
        yield
    finally:
        if own != attention:
            model.set_attn_implementation(attention)
        model.train(training)
