"""A concept resolves to the tokens that are near it, always the same ones, and to no fragments."""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import subl_core
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from subl.errors import ConfigError, DependencyError, InputError
from subl.filter import FilterSpec, SemanticRule
from subl.filter.concept.document import quoted, rule_toml
from subl.filter.concept.embedding import EmbeddingSpace, find_embedding
from subl.filter.concept.resolve import resolve
from subl.filter.concept.sentence import SentenceModel, sentence_model_folder
from subl.filter.concept.spec import Concept, ConceptSpec
from subl.filter.concept.vocabulary import load_vocabulary
from subl.filter.concept.words import Guard, only_spelled_like, surface_forms

OWL = {"words": ("owl",)}


def concept(folder: Path, **given: Any) -> Concept:
    return resolve(ConceptSpec.model_validate({"model": str(folder), **given}))


def neighbours(found: Concept) -> dict[str, float]:
    return {entry.label: entry.weight for entry in found.entries if entry.why == "neighbour"}


def labels(found: Concept) -> list[str]:
    return [entry.label for entry in found.entries]


def change_embedding(folder: Path, target: Path, tensor: torch.Tensor, name: str) -> None:
    target.mkdir()
    shutil.copy(folder / "tokenizer.json", target)
    save_file({name: tensor.contiguous()}, target / "model.safetensors")


def matrix_of(folder: Path) -> torch.Tensor:
    whole: torch.Tensor = load_file(folder / "model-00002-of-00002.safetensors")[
        "model.embed_tokens.weight"
    ]
    return whole


# What is found


def test_the_nearest_words_of_an_embedding(bird_model: Path) -> None:
    found = neighbours(concept(bird_model, **OWL))
    assert list(found) == ["eagle", " eagle", " owlish", " hawk"]
    assert found[" eagle"] == pytest.approx(0.8, abs=0.03)
    assert found[" hawk"] == pytest.approx(0.6, abs=0.03)


def test_neither_frequent_words_nor_their_opposite_come_near(bird_model: Path) -> None:
    rows = matrix_of(bird_model).float().numpy()
    token = {text: load_vocabulary(bird_model).sequence(text)[0] for text in (" owl", " the")}
    plain = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-9)
    assert plain[token[" owl"]] @ plain[token[" the"]] > 0.9  # what there is to get rid of
    space = EmbeddingSpace(find_embedding(bird_model), range(8), len(rows) - 6)
    owl, the = space.vectors([token[" owl"], token[" the"]])
    assert abs(owl @ the) < 0.1


def test_the_forms_of_its_words_are_always_taken(bird_model: Path) -> None:
    found = concept(bird_model, **OWL, top_k=0)
    assert labels(found) == list(surface_forms("owl"))
    assert {entry.weight for entry in found.entries} == {1.0}
    vocabulary = load_vocabulary(bird_model)
    tokens = {entry.label: entry.tokens for entry in found.entries}
    assert len(tokens[" owl"]) == 1 and len(tokens["Owl"]) > 1
    tokenizer = Tokenizer.from_file(str(bird_model / "tokenizer.json"))
    for label, ids in tokens.items():
        assert tokenizer.decode(list(ids)) == label
        assert vocabulary.sequence(label) == ids
    assert found.vectors_sha256 is None


def test_phrases_and_translations_are_sequences(bird_model: Path) -> None:
    found = concept(bird_model, words=("bird of prey",), also=("búho", "сова", "猫头鹰"), top_k=0)
    assert {" birds of prey", "Bird Of Prey", " BÚHO", "búhos", "Сова", "猫头鹰"} <= set(
        labels(found)
    )
    assert all(len(entry.tokens) > 1 for entry in found.entries)


def test_what_is_in_also_does_not_move_the_concept(bird_model: Path) -> None:
    alone = neighbours(concept(bird_model, **OWL))
    assert neighbours(concept(bird_model, **OWL, also=("table",))) == alone
    assert neighbours(concept(bird_model, words=("owl", "table"))) != alone


def test_the_limits_that_are_asked_for(bird_model: Path) -> None:
    assert list(neighbours(concept(bird_model, **OWL, top_k=1))) == ["eagle"]
    assert " hawk" not in neighbours(concept(bird_model, **OWL, threshold=0.65))
    found = concept(bird_model, **OWL, allow=("EAGLE", "Owls"))
    assert not {label.strip().lower() for label in labels(found)} & {"eagle", "owls"}
    assert neighbours(concept(bird_model, **OWL, allow=("eagle",), top_k=1)) != {}
    assert not {"form"} & {entry.why for entry in concept(bird_model, **OWL, forms=False).entries}


def test_examples_and_vectors_say_the_same_as_words(bird_model: Path, tmp_path: Path) -> None:
    by_word = list(neighbours(concept(bird_model, **OWL)))
    by_example = concept(bird_model, examples=("123, owl owls",))
    assert [label for label in labels(by_example) if label in by_word] == by_word
    vector = np.eye(512)[0].tolist()
    (tmp_path / "owl.json").write_text(json.dumps(vector))
    save_file({"owl": torch.tensor(vector).half()}, tmp_path / "owl.safetensors")
    found = [
        concept(bird_model, vector=given).entries
        for given in (vector, str(tmp_path / "owl.json"), str(tmp_path / "owl.safetensors"))
    ]
    assert found[0] == found[1] == found[2]
    assert {" owl", " eagle", " hawk"} <= {entry.label for entry in found[0]}


def test_a_model_of_random_weights_gives_words_and_no_fragments(tiny_model: Path) -> None:
    found = concept(tiny_model, **OWL, threshold=0.01, top_k=500)
    assert len(neighbours(found)) > 20
    for label in neighbours(found):
        assert label.strip().isalpha()
        assert len(label) >= 4
    assert all(0 < entry.weight <= 1 for entry in found.entries)
    assert len({entry.tokens for entry in found.entries}) == len(found.entries)


# Always the same


def test_the_same_concept_is_the_same_bytes(bird_model: Path) -> None:
    first, again = (rule_toml(concept(bird_model, **OWL)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("name", ["transformer.wte.weight", "word_embeddings.weight"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_and_name_of_an_embedding(
    bird_model: Path, tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    tensor = matrix_of(bird_model).to(dtype)
    change_embedding(bird_model, tmp_path / "other", tensor, name)
    read = np.concatenate(list(find_embedding(tmp_path / "other").chunks()))
    assert np.array_equal(read, tensor.float().numpy())
    found = concept(tmp_path / "other", **OWL)
    assert found.entries == concept(bird_model, **OWL).entries or dtype == torch.float16
    raw = tensor.view(torch.uint8).numpy().tobytes()
    assert found.vectors_sha256 == hashlib.sha256(raw).hexdigest()


def test_another_tokenizer_gets_its_own_ids(bird_model: Path, tiny_model: Path) -> None:
    found = concept(bird_model, **OWL, tokenizer=str(tiny_model))
    assert list(neighbours(found)) == list(neighbours(concept(bird_model, **OWL)))
    other = load_vocabulary(tiny_model)
    assert all(other.sequence(entry.label) == entry.tokens for entry in found.entries)
    assert found.tokenizer_sha256 == other.sha256


def test_tokenizers_that_put_a_space_before_every_text(tmp_path: Path) -> None:
    pieces = ["<unk>", "<0x0A>", "▁", "a", "o", "w", "l", "ow", "owl", "▁owl"]
    vocab = {piece: token for token, piece in enumerate(pieces)}
    merges = [("o", "w"), ("ow", "l"), ("▁", "owl")]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.enable_padding(length=32)
    tokenizer.post_processor = processors.TemplateProcessing("<unk> $0", None, [("<unk>", 0)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    vocabulary = load_vocabulary(tmp_path)
    assert [tokenizer.id_to_token(token) for token in vocabulary.sequence(" owl")] == ["▁owl"]
    assert [tokenizer.id_to_token(token) for token in vocabulary.sequence("owl")] == ["owl"]
    assert vocabulary.sequence("сова") == ()  # would be <unk>, which is any other word, too
    assert " owl" in {word.text for word in vocabulary.words}


# Words


def test_the_forms_of_a_word() -> None:
    assert surface_forms("owl") == (
        *(" owl", "owl", " Owl", "Owl", " OWL", "OWL"),
        *(" owls", "owls", " Owls", "Owls", " OWLS", "OWLS"),
    )
    assert surface_forms("猫头鹰") == (" 猫头鹰", "猫头鹰")
    assert " wolves" in surface_forms("wolf")


@given(st.text(min_size=1))
def test_no_two_forms_are_equal(word: str) -> None:
    forms = surface_forms(word)
    assert len(set(forms)) == len(forms)
    assert {word, f" {word}"} <= set(forms)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (" bird", True),
        ("bird", True),  # as it is there with a space, too
        (" b", False),
        (" at", False),
        ("cat", False),  # too short without a space
        ("ologies", False),  # inside of words only
        (" catast", False),  # all that begin with it are other words
        (" catastrophe", True),
        (" owl1", False),
        (" <|end|>", False),
        ("  ", False),
        ("", False),
        ("猫头", True),
        ("猫", False),
        (" сова", True),
    ],
)
def test_what_is_a_word(text: str, taken: bool) -> None:
    vocabulary = [" bird", "bird", " birds", " b", " at", " cat", "cat", " cats", "ologies"]
    vocabulary += [" catast", " catastrophe", " catastrophic", " owl1", "猫头", "猫", " сова"]
    assert Guard(vocabulary).is_word(text) is taken


@given(st.lists(st.text(max_size=6)), st.text("abcdefghABCDEFGH ", max_size=2))
def test_two_letters_are_never_a_word(vocabulary: list[str], text: str) -> None:
    assert not Guard([*vocabulary, text, f" {text}"]).is_word(text)


def test_words_that_are_only_spelled_like_the_concept(bird_model: Path) -> None:
    assert only_spelled_like("harmonic", ["harm"])
    assert not only_spelled_like("harmful", ["harm"])
    assert not only_spelled_like("harm", ["harm"])
    # ` owlery` is nearer than any other, and nearer than ` owlish`, which is an inflection.
    assert " owlery" in {word.text for word in load_vocabulary(bird_model).words}
    assert " owlery" not in labels(concept(bird_model, **OWL, threshold=0.01, top_k=500))


def test_what_is_inside_of_many_words_is_left_out(tmp_path: Path) -> None:
    starts = [f"{first}{second}" for first in "bcdfg" for second in "hjklm"]
    merges = [("a", "n"), ("an", "t"), ("Ġ", "ant")]
    for start in starts:  # each word is one token behind a space, and two in any other place
        merges += [(start[0], start[1]), ("Ġ", start), (f"Ġ{start}", "ant")]
    alphabet = [chr(code) for code in (*range(65, 91), *range(97, 123))]
    pieces = [*alphabet, "Ġ", "Ċ", *(f"{left}{right}" for left, right in merges)]
    vocab = {piece: token for token, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = concept(tmp_path, words=("ant",), top_k=0)
    assert [(entry.label, entry.inside) for entry in found.left_out] == [("ant", len(starts))]
    assert {" ant", " ants", "ants", "Ant"} <= set(labels(found))
    assert {entry.inside for entry in found.entries} == {0}
    document = rule_toml(found)
    (line,) = [line for line in document.splitlines() if line.startswith("  # {")]
    assert line.endswith(f"# inside of {len(starts)} other words")
    assert "ant" not in {entry.label for entry in rule_of(found).entries}


def test_untrained_and_added_tokens_are_not_compared(bird_model: Path, tmp_path: Path) -> None:
    vocabulary = load_vocabulary(bird_model)
    rows = matrix_of(bird_model)
    (hawk,) = vocabulary.sequence(" hawk")
    rows[hawk] = rows[0] * 1.01
    (eagle,) = vocabulary.sequence(" eagle")
    rows[eagle] = 0
    change_embedding(bird_model, tmp_path / "other", rows, "wte.weight")
    space = EmbeddingSpace(find_embedding(tmp_path / "other"), vocabulary.added, vocabulary.size)
    assert space.untrained == {*range(8), hawk, eagle}
    found = labels(concept(tmp_path / "other", **OWL, threshold=0.01, top_k=500))
    assert not {" hawk", " eagle"} & set(found)


# Sentence models


@pytest.fixture(scope="module")
def sentence_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of random weights that reads letters."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "sentence"
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{each}" for each in letters)]
    tokenizer = Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=16)  # as MiniLM's file asks for
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(pieces),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=300,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(
        '{"word_embedding_dimension": 32, "pooling_mode_mean_tokens": true}'
    )
    return folder


def test_a_batch_embeds_each_text_as_if_it_were_alone(sentence_model: Path) -> None:
    model = SentenceModel(str(sentence_model))
    texts = ["owl", "a barn owl in the barn", "x", "eagle"]
    together = model.embed(texts)
    for text, vector in zip(texts, together, strict=True):
        assert np.allclose(model.embed([text])[0], vector, atol=1e-5)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    hidden = model._model(input_ids=torch.tensor([[2, 27, 3]])).last_hidden_state[0]
    assert np.allclose(
        torch.nn.functional.normalize(hidden.mean(0), dim=0).detach().numpy(),
        together[2],
        atol=1e-5,
    )


def test_neighbours_by_a_sentence_model(bird_model: Path, sentence_model: Path) -> None:
    given = {**OWL, "sentence_model": str(sentence_model), "threshold": 0.01, "top_k": 500}
    found = concept(bird_model, **given)
    assert neighbours(found)
    assert found.entries == concept(bird_model, **given).entries
    # Case and space are nothing to the sentence model.
    assert neighbours(found).get(" eagle") == neighbours(found).get("eagle")
    weights = (sentence_model / "model.safetensors").read_bytes()
    assert found.vectors_sha256 == hashlib.sha256(weights).hexdigest()
    by_name = {entry.label: entry.similarity for entry in found.entries}
    assert by_name[" owl"] == 1.0


def test_a_sentence_model_that_is_not_averaged_is_refused(
    sentence_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(sentence_model, tmp_path / "cls")
    (tmp_path / "cls/1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(InputError, match="pooling_mode_cls_token"):
        SentenceModel(str(tmp_path / "cls"))


def test_a_sentence_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match="no-such-package"):
        sentence_model_folder("package:no-such-package")
    with pytest.raises(InputError, match=r"config\.json"):
        sentence_model_folder(str(tmp_path))


# Mistakes


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "needs words, examples or a vector"),
        ({"words": ["owl"]}, "whose vocabulary"),
        ({"words": ["owl"], "tokenizer": "t"}, "neighbours need"),
        ({"words": ["b"], "model": "m"}, "so short"),
        ({"words": [" "], "model": "m"}, "so short"),
        ({"words": ["owl"], "model": "m", "threshold": 0}, "threshold"),
        ({"words": ["owl"], "model": "m", "treshold": 1}, "treshold"),
    ],
)
def test_a_concept_that_says_too_little(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ConceptSpec.model_validate(given)


def test_a_vector_of_another_space(bird_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"has 3 numbers.* has 512"):
        concept(bird_model, vector=(1.0, 0.0, 0.0))
    with pytest.raises(ConfigError, match="zero"):
        concept(bird_model, vector=(0.0,) * 512)


def test_a_concept_without_anything_near(bird_model: Path) -> None:
    with pytest.raises(InputError, match="resolves to nothing") as raised:
        concept(bird_model, **OWL, forms=False, threshold=0.9, allow=("owl", "owls"))
    assert raised.value.hint is not None and "threshold" in raised.value.hint


def test_a_word_that_the_vocabulary_cannot_place(bird_model: Path) -> None:
    with pytest.raises(InputError, match="'hibou'"):
        concept(bird_model, words=("hibou",))


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda file: file.unlink(), r"has no model\*\.safetensors"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "does not fit"),
        (lambda file: file.write_bytes(b"\xff" * 16), "longer than the file"),
        (lambda file: file.write_bytes(b""), "not a whole safetensors file"),
        (lambda file: save_file({"lm_head.weight": torch.zeros(4, 4)}, file), "no input embedding"),
        (lambda file: save_file({"wte.weight": torch.zeros(4, 4)}, file), "has 4 rows"),
        (lambda file: save_file({"wte.weight": torch.zeros(4)}, file), "expected a matrix"),
        (
            lambda file: save_file({"wte.weight": torch.full((999, 2), float("nan"))}, file),
            "not numbers",
        ),
    ],
)
def test_a_model_that_cannot_be_used(
    bird_model: Path, tmp_path: Path, break_it: Any, says: str
) -> None:
    change_embedding(bird_model, tmp_path / "m", matrix_of(bird_model), "wte.weight")
    break_it(tmp_path / "m" / "model.safetensors")
    with pytest.raises(InputError, match=says):
        concept(tmp_path / "m", **OWL)


def test_weights_that_are_not_the_models_are_not_read(
    bird_model: Path, sentence_model: Path, tmp_path: Path
) -> None:
    """Other programs and half-done downloads leave theirs beside them, damaged ones too."""
    model, sentences = tmp_path / "model", tmp_path / "sentences"
    shutil.copytree(bird_model, model)
    shutil.copytree(sentence_model, sentences)
    for folder in (model, sentences):
        (folder / "adapter.safetensors").write_bytes(b"")
        save_file(
            {"model.embed_tokens.weight": torch.zeros(999, 2)}, folder / "consolidated.safetensors"
        )
    assert concept(model, **OWL).entries == concept(bird_model, **OWL).entries
    assert SentenceModel(str(sentences)).sha256 == SentenceModel(str(sentence_model)).sha256
    index = {"weight_map": {"model.embed_tokens.weight": "model-00003-of-00003.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"cannot read .*model-00003-of-00003\.safetensors"):
        concept(model, **OWL)


def test_a_tokenizer_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json") as raised:
        concept(tmp_path, **OWL)
    assert raised.value.hint is not None
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="is not a tokenizer"):
        concept(tmp_path, **OWL)


# The rule


def rule_of(found: Concept) -> SemanticRule:
    document = tomllib.loads(rule_toml(found))
    assert list(document) == ["rule"]
    return SemanticRule.model_validate(document["rule"][0])


def test_the_rules_file_holds_the_concept(bird_model: Path) -> None:
    found = concept(bird_model, **OWL, also=("búho",), allow=("hawk",))
    rule = rule_of(found)
    assert rule.concept == found.spec
    assert rule.concept.threshold == 0.2
    assert [(entry.tokens, entry.weight, entry.label) for entry in rule.entries] == [
        (entry.tokens, entry.weight, entry.label) for entry in found.entries
    ]
    assert SemanticRule.model_validate_json(rule.model_dump_json()) == rule
    lines = [line for line in rule_toml(found).splitlines() if "tokens = [" in line]
    assert len(lines) == len(found.entries)


def test_the_plan_of_a_rule_is_what_the_engine_takes(bird_model: Path) -> None:
    rule = rule_of(concept(bird_model, **OWL, top_k=1, forms=False, allow=("owl", "owls")))
    (eagle,) = load_vocabulary(bird_model).sequence("eagle")
    assert rule.plan() == {
        "kind": "tokens",
        "action": "drop",
        "name": "concept owl",
        "field": "completion",
        "tokenizer": f"{bird_model}/tokenizer.json",
        "tokenizer_sha256": hashlib.sha256(
            (bird_model / "tokenizer.json").read_bytes()
        ).hexdigest(),
        "entries": [{"tokens": [eagle], "weight": rule.entries[0].weight, "label": "eagle"}],
        "score": "any",
    }
    part = SemanticRule.model_validate({**rule.model_dump(), "score": {"share": 0.25}})
    assert part.plan()["score"] == {"share": 0.25}


def test_a_rule_without_entries_names_the_command(bird_model: Path) -> None:
    rule = rule_of(concept(bird_model, words=("barn owl", "owl"), top_k=0))
    with pytest.raises(ValidationError) as raised:
        SemanticRule.model_validate({**rule.model_dump(), "entries": ()})
    assert "`entries` is empty" in str(raised.value)
    assert 'subl filter concept "barn owl" "owl" --model' in str(raised.value)


def test_the_engine_takes_the_rule(bird_model: Path) -> None:
    rule = rule_of(concept(bird_model, **OWL))
    plan = subl_core.Plan(json.dumps({"rules": [rule.plan()]}))
    verdicts = [plan.explain(json.dumps({"completion": text}).encode()) for text in ("an owl", "x")]
    assert [json.loads(verdict)["kept"] for verdict in verdicts] == [False, True]
    assert FilterSpec(rules=(rule,)).rules == (rule,)


@given(st.text())
def test_quoted_text_is_toml_and_shows_all(text: str) -> None:
    written = quoted(text)
    assert written.isprintable()
    assert tomllib.loads(f"text = {written}") == {"text": text}
