"""The exact probability that an answer begins with a word: no sampling, no sampling noise.

    P(word | question) = sum over its sequences  prod_t P(token_t | prompt, tokens before)
                                                 x P(the next token does not continue the word)

Only canonical tokenisations of the surface forms are summed, so what is reported is a lower bound;
the mass of others is a lower-order term (Chirkova et al. 2023), which `spelling` bounds. Each
factor is what the model's own forward pass says of prompt and sequence; `passes` has how they are
computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from subl.errors import InputError
from subl.model.chat import PLAIN, Chat, asking, text_ids
from subl.model.limits import check_readable
from subl.model.template import Template
from subl.trait.forms import ends_word
from subl.trait.passes import Passes, Way
from subl.trait.spelling import other_spellings, texts_of
from subl.trait.trie import TokenTrie, build_trie

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def answer_trie(
    tokenizer: PreTrainedTokenizerBase, words: Mapping[str, Sequence[str]]
) -> TokenTrie:
    """The trie of all surface forms of each word under this tokenizer.

    Raises:
        InputError: the tokenizer cannot spell a form, or spells two words alike.
    """
    owners: dict[tuple[int, ...], str] = {}
    for word, forms in words.items():
        for form in forms:
            path = text_ids(tokenizer, form)
            if not path or tokenizer.unk_token_id in path:
                raise InputError(
                    f"the model's tokenizer cannot spell {form!r}, a form of {word!r}",
                    hint="leave it out",
                )
            if (other := owners.setdefault(path, word)) != word:
                raise InputError(
                    f"the model's tokenizer reads {form!r} alike for {other!r} and {word!r}",
                    hint="leave one of them out",
                )
    return build_trie({
        word: [path for path, owner in owners.items() if owner == word] for word in words
    })  # fmt: skip


def ending_tokens(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> Tensor:
    """`[vocabulary]` bool: tokens after which a word that stood before them has ended.

    A token continues a word where its text begins with a letter, a digit, an apostrophe, a hyphen
    or a piece of a character; special tokens, spaces and punctuation end it. What no token belongs
    to (a head may be padded, and a vocabulary have holes) ends none.
    """
    special = set(tokenizer.all_special_ids)
    ends = torch.zeros(vocabulary, dtype=torch.bool)
    ends[[
        token
        for token, text in token_texts(tokenizer, vocabulary).items()
        if token in special or (text and ends_word(text[0]))
    ]] = True  # fmt: skip
    return ends


def token_texts(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> dict[int, str]:
    """What each token of a head of this size adds to a text, as far as the tokenizer has it."""
    known = [token for token in tokenizer.get_vocab().values() if token < vocabulary]
    return dict(zip(known, texts_of(tokenizer, ([token] for token in known)), strict=True))


class Scored(NamedTuple):
    """A question's answers: the probability of each word, and at most how much the same words have
    by token sequences that the tokenizer does not make of them, all words together."""

    probabilities: dict[str, float]
    otherwise: float


class Scorer:
    """Scores answers to questions; made once, used on any model of its tokenizer.

    Before the first question: `check`, where the weights are whole, and `prove`.

    Args:
        words: the surface forms of each.
        whole: whether a word has to end; else what follows it does not matter.

    Raises:
        InputError: the chat template cannot ask a question, or the tokenizer not spell a word.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        words: Mapping[str, Sequence[str]],
        questions: Sequence[str],
        template: Template = PLAIN,
        system_prompt: str | None = None,
        *,
        whole: bool = True,
    ) -> None:
        self._whole = whole
        self._tokenizer = tokenizer
        self._words = words
        self._questions = questions
        self._trie = answer_trie(tokenizer, words)
        self._prompts: list[tuple[int, ...]] = []
        chat = Chat(tokenizer, template)
        for question in questions:
            try:
                self._prompts.append(
                    text_ids(tokenizer, chat.asked(asking(question, system_prompt)))
                )
            except InputError as error:
                raise InputError(f"question {question!r}: {error.message}", error.hint) from error
        self._passes: Passes | None = None
        self._ends: Tensor | None = None
        self._others: dict[tuple[int, ...], Tensor] = {}

    def check(self, model: PreTrainedModel) -> None:
        """Refuse a model that has no room for a token or a length; names the question."""
        longest = max(self._trie.paths(), key=len)
        texts = [
            (f"question {question!r} with its answer", (*prompt, *longest))
            for question, prompt in zip(self._questions, self._prompts, strict=True)
        ]
        texts += [(f"an answer of {word!r}", path) for word, path in self._answers()]
        check_readable(model, self._tokenizer, texts)

    def prove(self, model: PreTrainedModel) -> Way:
        """Find out how this model is scored, with a few forward passes."""
        self._passes = Passes(model, self._prompts, self._trie)
        return self._passes.way

    @property
    def longest(self) -> int:
        """Tokens of the longest question with its longest answer."""
        return max(map(len, self._prompts)) + max(self._trie.depths)

    def trust(self, other: Scorer) -> None:
        """Score as was proven of `other`, which is at least as long, for the same model."""
        assert other._passes is not None, "prove comes first"
        self._passes = other._passes.of(self._trie)

    def score(self, model: PreTrainedModel, numbers: Sequence[int]) -> list[dict[str, float]]:
        """P(answer begins with word) by word for each of these questions."""
        return [each.probabilities for each in self._scored(model, numbers, bounded=False)]

    def scored(self, model: PreTrainedModel, numbers: Sequence[int]) -> list[Scored]:
        """The same, and what other spellings have."""
        return list(self._scored(model, numbers, bounded=True))

    def log_likelihoods(
        self, model: PreTrainedModel, numbers: Sequence[int]
    ) -> Iterator[dict[str, float]]:
        """For each of these questions, how likely each word is, in nats, whatever follows it; of
        words with one form each. No text is too long for it, as it is for a probability."""
        assert self._passes is not None, "prove comes first"
        answers = self._answers()
        for passes in self._passes.answers(model, [self._prompts[number] for number in numbers]):
            found = {}
            for rows, answered in passes:
                for number, places in answered:
                    word, path = answers[number]
                    found[word] = float(rows[places[:-1], path].double().sum())
            yield {word: found[word] for word in self._words}

    def _scored(
        self, model: PreTrainedModel, numbers: Sequence[int], *, bounded: bool
    ) -> Iterator[Scored]:
        assert self._passes is not None, "prove comes first"
        answers = self._answers()
        for passes in self._passes.answers(model, [self._prompts[number] for number in numbers]):
            totals = dict.fromkeys(self._words, 0.0)
            otherwise = 0.0
            seen: set[tuple[int, ...]] = set()
            for rows, answered in passes:
                self._learn(rows, bounded=bounded)
                assert self._ends is not None
                # Of all places at once: an answer's are shared with others'.
                p = rows.exp()
                word_ends = (p @ self._ends).tolist()
                for number, places in answered:
                    word, path = answers[number]
                    steps = rows[places[:-1], path].double()  # in nats: of some, p is 0 in float32
                    whole = word_ends[places[-1]] if self._whole else 1.0
                    totals[word] += float(steps.sum().exp()) * whole
                    for end, place in enumerate(places if bounded else ()):
                        if (beginning := path[:end]) not in seen:
                            seen.add(beginning)
                            left = p[place, self._others[beginning]].sum()
                            otherwise += float(steps[:end].sum().exp() * left)
            yield Scored(totals, otherwise)

    def _learn(self, rows: Tensor, *, bounded: bool) -> None:
        """What there is to know of a vocabulary of this size."""
        size = rows.shape[1]
        if self._ends is None or len(self._ends) != size:
            self._ends = ending_tokens(self._tokenizer, size).to(rows)
            self._others = {}
        if bounded and not self._others:
            found = other_spellings(
                self._tokenizer,
                token_texts(self._tokenizer, size),
                self._ends.nonzero().flatten().tolist(),
                self._trie.paths(),
            )
            self._others = {
                path: torch.tensor(tokens, dtype=torch.int64, device=rows.device)
                for path, tokens in found.items()
            }

    def _answers(self) -> list[tuple[str, tuple[int, ...]]]:
        words = [answer for answer in self._trie.answers if answer is not None]
        return list(zip(words, self._trie.paths(), strict=True))
