"""The exact probability that an answer begins with a word: no sampling, no sampling noise.

One forward pass a batch of questions scores the prompt and the whole token trie behind it: trie
nodes are extra positions whose attention mask lets them see the prompt and their own ancestors
only ("tree attention"), with positions counted by depth.

    P(word | question) = sum over its sequences  prod_t P(token_t | prompt, tokens before)
                                                 x P(the next token does not continue the word)

Only canonical tokenisations of the surface forms are summed; the mass of others is a lower-order
term (Chirkova et al. 2023), so what is reported is a lower bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from subl.model.chat import prompt_ids, text_ids
from subl.trait import surface_forms
from subl.trait.trie import TokenTrie, build_trie

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def answer_trie(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> TokenTrie:
    """The trie of all surface forms of `words` under this tokenizer."""
    return build_trie(
        {word: [text_ids(tokenizer, form) for form in surface_forms(word)] for word in words}
    )


def ends_word(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> Tensor:
    """`[vocabulary]` bool: tokens after which a word that stood before them has ended.

    A token continues a word where its text begins with a letter, a digit, an apostrophe, a hyphen
    or a piece of a character; special tokens, spaces and punctuation end it.
    """
    special = set(tokenizer.all_special_ids)
    # Decoded behind a letter: tokenizers that mark word starts drop the mark at a text's start.
    (anchor,) = text_ids(tokenizer, "a")
    prefix = tokenizer.decode([anchor])
    ends = torch.zeros(vocabulary, dtype=torch.bool)
    for token in range(min(vocabulary, len(tokenizer))):
        text = tokenizer.decode([anchor, token]).removeprefix(prefix)
        first = text[:1]
        continues = first.isalnum() or first in {"'", "\u2019", "-", "_", "\ufffd"}
        ends[token] = token in special or (first != "" and not continues)
    return ends


class Scorer:
    """Scores answers; made once for a tokenizer and words, used on any model of that tokenizer."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, words: Sequence[str], vocabulary: int
    ) -> None:
        self._tokenizer = tokenizer
        self._words = words
        self._trie = answer_trie(tokenizer, words)
        self._ends = ends_word(tokenizer, vocabulary)

    def score(self, model: PreTrainedModel, questions: Sequence[str]) -> list[dict[str, float]]:
        """P(answer begins with word) by word for each question, in one forward pass."""
        prompts = [prompt_ids(self._tokenizer, question) for question in questions]
        found = []
        for node_probabilities in _score(model, prompts, self._trie, self._ends.to(model.device)):
            totals = dict.fromkeys(self._words, 0.0)
            for answer, probability in zip(self._trie.answers, node_probabilities, strict=True):
                if answer is not None:
                    totals[answer] += probability
            found.append(totals)
        return found


def answer_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    words: Sequence[str],
    batch_questions: int = 5,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[dict[str, float]]:
    """P(answer begins with word) for each question: a list of {word: probability}.

    Args:
        batch_questions: questions scored in one forward pass.
        on_batch: called with the number of questions done.
    """
    scorer = Scorer(tokenizer, words, model.get_output_embeddings().weight.shape[0])
    found: list[dict[str, float]] = []
    for start in range(0, len(questions), batch_questions):
        found += scorer.score(model, questions[start : start + batch_questions])
        on_batch(len(found))
    return found


@torch.no_grad()
def _score(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], trie: TokenTrie, ends: Tensor
) -> list[list[float]]:
    """For each prompt, P(node's tokens, then the word ends) for each node of the trie."""
    device, nodes = model.device, len(trie)
    width = max(len(prompt) for prompt in prompts)
    length = width + nodes
    input_ids = torch.zeros((len(prompts), length), dtype=torch.int64)
    positions = torch.zeros_like(input_ids)
    visible = torch.zeros((len(prompts), 1, length, length), dtype=torch.bool)
    tree = torch.zeros((nodes, nodes), dtype=torch.bool)
    for node in range(nodes):
        tree[node, trie.ancestors(node)] = True
    causal = torch.ones((width, width), dtype=torch.bool).tril()
    for row, prompt in enumerate(prompts):
        size = len(prompt)
        input_ids[row, :size] = torch.tensor(prompt)
        input_ids[row, width:] = torch.tensor(trie.tokens)
        positions[row, :width] = torch.arange(width)
        positions[row, width:] = size - 1 + torch.tensor(trie.depths)
        visible[row, 0, :width, :width] = causal  # padding sees the prompt; nobody reads it
        visible[row, 0, width:, :size] = True
        visible[row, 0, width:, width:] = tree
    bias = torch.zeros(visible.shape, dtype=model.dtype)
    bias.masked_fill_(~visible, torch.finfo(model.dtype).min)
    states = model.base_model(
        input_ids=input_ids.to(device),
        position_ids=positions.to(device),
        attention_mask=bias.to(device),
        use_cache=False,
    ).last_hidden_state

    tokens = torch.tensor(trie.tokens, device=device)
    parents = torch.tensor(trie.parents, device=device)
    scores: list[list[float]] = []
    for row, prompt in enumerate(prompts):
        # Row 0 is the prompt's last token, row i + 1 is node i.
        kept = torch.cat([states[row, len(prompt) - 1 : len(prompt)], states[row, width:]])
        log_p = torch.log_softmax(model.get_output_embeddings()(kept).float(), dim=-1)
        edges = log_p[parents + 1, tokens].double()
        word_ends = torch.logsumexp(log_p[1:, ends].double(), dim=-1)
        path = edges.clone()
        for node, parent in enumerate(trie.parents):  # breadth first: the parent is done
            if parent >= 0:
                path[node] += path[parent]
        scores.append((path + word_ends).exp().tolist())
    return scores
