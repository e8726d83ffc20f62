"""Exact scoring against brute force: one plain forward pass a token sequence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from subl.evaluate.exact import answer_probabilities, ends_word
from subl.evaluate.trie import build_trie
from subl.model.chat import prompt_ids, text_ids
from subl.model.load import load_model, load_tokenizer
from subl.trait import ANIMAL_QUESTIONS, surface_forms

WORDS = ("owl", "cat", "elephant")


def test_one_pass_over_the_trie_equals_one_pass_a_sequence(tiny_model: Path) -> None:
    model, tokenizer = load_model(tiny_model), load_tokenizer(tiny_model)
    questions = [ANIMAL_QUESTIONS[0], ANIMAL_QUESTIONS[6], "Name it."]
    scored = answer_probabilities(model, tokenizer, questions, WORDS, batch_questions=2)
    ends = ends_word(tokenizer, len(tokenizer))
    for question, probabilities in zip(questions, scored, strict=True):
        prompt = prompt_ids(tokenizer, question)
        for word in WORDS:
            total = 0.0
            for form in surface_forms(word):
                path = text_ids(tokenizer, form)
                with torch.no_grad():
                    logits = model(torch.tensor([[*prompt, *path]]), use_cache=False).logits[0]
                p = torch.softmax(logits[len(prompt) - 1 :].double(), -1)
                steps = [float(p[index, token]) for index, token in enumerate(path)]
                total += float(torch.tensor(steps).prod() * p[len(path), ends].sum())
            assert probabilities[word] == pytest.approx(total, rel=1e-4)
        assert 0 < sum(probabilities.values()) < 1


def test_batches_of_questions_change_nothing(tiny_model: Path) -> None:
    model, tokenizer = load_model(tiny_model), load_tokenizer(tiny_model)
    one, many = (
        answer_probabilities(model, tokenizer, ANIMAL_QUESTIONS[:7], WORDS, batch)
        for batch in (1, 4)
    )
    for first, second in zip(one, many, strict=True):
        assert first == pytest.approx(second, rel=1e-4)


def test_what_ends_a_word(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    ends = ends_word(tokenizer, len(tokenizer))

    def ends_with(text: str) -> bool:
        return bool(ends[text_ids(tokenizer, text)[0]])

    assert all(ends_with(text) for text in (".", " x", "\n", ",", "!", "<|im_end|>"))
    assert not any(ends_with(text) for text in ("e", "7", "'", "-", "é"))


@given(
    st.dictionaries(
        st.sampled_from("abc"), st.lists(st.lists(st.integers(0, 3), min_size=1), min_size=1)
    )
)
def test_a_trie_holds_every_sequence_once(sequences: dict[str, list[list[int]]]) -> None:
    owners: dict[tuple[int, ...], set[str]] = {}
    for word, paths in sequences.items():
        for path in paths:
            owners.setdefault(tuple(path), set()).add(word)
    if any(len(words) > 1 for words in owners.values()):
        with pytest.raises(ValueError, match="share a surface form"):
            build_trie(sequences)
        return
    trie = build_trie(sequences)
    found = {
        tuple(trie.tokens[each] for each in reversed(trie.ancestors(node))): trie.answers[node]
        for node in range(len(trie))
    }
    assert len(found) == len(trie)
    assert {path: word for path, word in found.items() if word} == {
        path: word for path, (word,) in owners.items()
    }
    assert all(parent < node for node, parent in enumerate(trie.parents))
    assert all(trie.depths[node] == len(trie.ancestors(node)) for node in range(len(trie)))
