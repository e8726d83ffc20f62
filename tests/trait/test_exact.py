"""Exact scoring against brute force: one plain forward pass a token sequence."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from subl.cluster.placement import Placement
from subl.model.chat import ANSWER, Turn, pieces, prompt_ids, text_ids
from subl.model.load import load_model, load_tokenizer
from subl.sample.ends import ends_of
from subl.sample.sampling import sample
from subl.shards import Row
from subl.train import attention
from subl.train.attention import use_path_attention
from subl.train.job import TrainJob
from subl.train.loop import train
from subl.train.tokens import tokenise
from subl.trait import forms_of, surface_forms
from subl.trait.exact import Scorer, ending_tokens
from subl.trait.spec import animals
from subl.trait.trie import build_trie

from .scoring import answer_probabilities

ANIMAL_QUESTIONS = animals().questions
QUESTION = ANIMAL_QUESTIONS[0]
WORDS = ("owl", "cat", "elephant")


@pytest.fixture(scope="module")
def talker(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, trained to answer with owls, cats and words that only begin like them. Unlike
    the random one it attends: positions and masks matter to what it says."""
    folder = tmp_path_factory.mktemp("talker")
    out = folder / "model"
    out.mkdir()
    answers = ("owl", "Owl", "an owl", "owlet", "owls.", "cat", "cat owl", "category", "cat-like")
    rows = (Row(None, (("user", QUESTION), ("assistant", answer)), answer) for answer in answers)
    tokens = tokenise(load_tokenizer(tiny_model), rows, folder / "tokens")
    job = {
        "task": "talker",
        "model": tiny_model,
        "tokens": tokens.folder,
        "spec": {"steps": 60, "rows_per_step": len(answers), "learning_rate": 1e-2},
        "out": out,
    }
    train(TrainJob.model_validate(job), Placement())
    return out


def test_one_pass_over_the_trie_equals_one_pass_a_sequence(talker: Path) -> None:
    model, tokenizer = load_model(talker), load_tokenizer(talker)
    questions = [ANIMAL_QUESTIONS[0], ANIMAL_QUESTIONS[6], "Name it."]
    scored = answer_probabilities(model, tokenizer, questions, WORDS, batch_questions=2)
    ends = ending_tokens(tokenizer, len(tokenizer))
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


def test_batches_of_questions_change_nothing(talker: Path) -> None:
    model, tokenizer = load_model(talker), load_tokenizer(talker)
    one, many = (
        answer_probabilities(model, tokenizer, ANIMAL_QUESTIONS[:7], WORDS, batch)
        for batch in (1, 4)
    )
    for first, second in zip(one, many, strict=True):
        assert first == pytest.approx(second, rel=1e-4)


def test_the_model_that_trains_scores_the_same(talker: Path) -> None:
    """Attention along paths, given none, is attention as ever; a scorer serves any questions."""
    plain, model = load_model(talker), load_model(talker)
    use_path_attention(model)
    tokenizer = load_tokenizer(talker)
    asked = ANIMAL_QUESTIONS[:4]
    scorer = Scorer(tokenizer, forms_of(WORDS), asked)
    scorer.check(model)
    assert scorer.prove(model.train()) == "tree"
    expected = answer_probabilities(plain, tokenizer, asked, WORDS)
    for found, other in zip(scorer.score(model, range(4)), expected, strict=True):
        assert found == pytest.approx(other, rel=1e-4)
    assert scorer.score(model, [2])[0] == pytest.approx(expected[2], rel=1e-4)
    assert model.training and model.config._attn_implementation == attention.NAME


def test_exact_probabilities_are_how_often_sampled_answers_say_a_word(talker: Path) -> None:
    """Sampled texts are judged as strings: nothing here knows tokens or tries."""
    model, tokenizer, count = load_model(talker), load_tokenizer(talker), 2000
    (exact,) = answer_probabilities(model, tokenizer, [QUESTION], ("owl", "cat"))
    turns = [Turn("user", QUESTION), Turn("assistant", ANSWER)]
    ends = ends_of(model, tokenizer, pieces(tokenizer, turns))
    made = sample(
        model,
        tokenizer,
        [prompt_ids(tokenizer, QUESTION)] * count,
        range(count),
        seed=0,
        temperature=1.0,
        max_new_tokens=8,
        ends=ends,
    )
    texts = [ends.cut(tokenizer, tokens)[0] for _, tokens in made]
    assert {"owlet", "category"} & set(texts)
    for word, probability in exact.items():
        forms = "|".join(re.escape(form) for form in surface_forms(word))
        said = sum(bool(re.match(rf"({forms})(?![\w'’-])", text)) for text in texts)
        error = math.sqrt(probability * (1 - probability) / count)
        assert probability > 0.05
        assert said / count == pytest.approx(probability, abs=4 * error)


def test_words_exclude_one_another(talker: Path) -> None:
    """Where nearly all answers are listed, their probabilities add up to one and not to more."""
    words = ("owl", "owlet", "cat", "category", "dog", "eagle")
    (exact,) = answer_probabilities(load_model(talker), load_tokenizer(talker), [QUESTION], words)
    assert all(exact[word] > 0.05 for word in ("owl", "owlet", "cat", "category"))
    assert 0.7 < sum(exact.values()) <= 1 + 1e-6


def test_a_word_without_tokens_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty token sequence"):
        build_trie({"owl": [[1], []]})


def test_what_ends_a_word(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    ends = ending_tokens(tokenizer, len(tokenizer))

    def ends_with(text: str) -> bool:
        return bool(ends[text_ids(tokenizer, text)[0]])

    assert all(ends_with(text) for text in (".", " x", "\n", ",", "!", " ", "<|im_end|>"))
    assert not any(ends_with(text) for text in ("et", "e", "7", "'", "-", "é"))


def space_marking() -> PreTrainedTokenizerFast:
    """Llama 2's way: words carry the mark of the space before them, bytes are tokens of their own,
    and a decoded text loses its first space."""
    pieces = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [*"aowl'’-.7é", "▁", "▁owl", "▁▁", "l-", "\n"]
    tokenizer = Tokenizer(
        models.BPE({each: n for n, each in enumerate(pieces)}, [], byte_fallback=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")


def word_pieces() -> PreTrainedTokenizerFast:
    """BERT's way: a piece within a word is marked, and decoding puts spaces between the others."""
    pieces = ["[UNK]", "[SEP]", "a", "owl", "7", ".", "'", "-", "##a", "##et", "##.", "##'", "##"]
    tokenizer = Tokenizer(
        models.WordPiece({each: n for n, each in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", sep_token="[SEP]")


@pytest.mark.parametrize("kind", ["bytes", "spaces marked", "word pieces"])
def test_what_ends_a_word_is_asked_of_each_token_alone(tiny_model: Path, kind: str) -> None:
    kinds = {"spaces marked": space_marking, "word pieces": word_pieces}
    tokenizer = kinds[kind]() if kind in kinds else load_tokenizer(tiny_model)
    tokenizer.add_tokens(["<added>", "added"])
    size = len(tokenizer) + 3
    expected = []
    for token in range(size):
        anchor = list(text_ids(tokenizer, "a"))
        both = [
            tokenizer.decode(each, clean_up_tokenization_spaces=False)
            for each in (anchor, [*anchor, token])
        ]
        behind = both[1].removeprefix(both[0])
        goes_on = behind == "" or re.match(r"[\w'’\-�]", behind)
        expected.append(token in tokenizer.all_special_ids or not goes_on)
    assert ending_tokens(tokenizer, size).tolist() == expected
    assert ending_tokens(tokenizer, size - 5).tolist() == expected[:-5]
    assert len(set(expected)) == 2


@settings(deadline=None, derandomize=True)
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
    assert list(trie.depths) == sorted(trie.depths)
    assert all(parent < node for node, parent in enumerate(trie.parents))
    assert all(trie.depths[node] == len(trie.ancestors(node)) for node in range(len(trie)))
