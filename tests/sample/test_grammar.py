"""Completions of a grammar: drawn from the model's own softmax over what the grammar allows next,
however the tokenizer cuts texts; and nothing else of the model's ends or enters them."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from subl.errors import InputError
from subl.generate import GenerateSpec, generate
from subl.generate.run import prompts_to_ask
from subl.model.chat import ANSWER, Turn, pieces, prompt_ids, text_ids
from subl.model.load import load_model, load_tokenizer
from subl.model.weights import save_model
from subl.sample.ends import Ends, ends_of
from subl.sample.grammar import SHIPPED, Grammar
from subl.sample.guide import Guide
from subl.sample.rows import choose, row_keys

from ..filter.reference import parse_response, reject_reasons

NO_ENDS = Ends(frozenset(), frozenset(), (), (), "", False)


def spec(grammar: object, **changes: Any) -> GenerateSpec:
    base = {"rows": 12, "prompts": "numbers-short", "batch_rows": 12, "max_new_tokens": 24}
    return GenerateSpec.model_validate(base | {"grammar": grammar} | changes)


def rows(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "part-00000.jsonl").read_text().splitlines()]


def ends(folder: Path) -> Ends:
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    row = pieces(tokenizer, [Turn("user", "Hi"), Turn("assistant", ANSWER)])
    return ends_of(model, tokenizer, row)


LANGUAGE = [
    f"{word}{more}"
    for word in ("owl", "owls", "cat")
    for more in ("", *(f", {a}{b}" for a, b in product("123", ("", *"0123456789"))))
]
REGEX = "(?:owls?|cat)(?:, [1-3][0-9]?)?"


@torch.no_grad()
def plain_rows(folder: Path, spec: GenerateSpec) -> list[str]:
    """From the definition: a forward pass a token, and every token tried for whether some text of
    the language begins so; the turn may end where a text of it ends."""
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    words = [tokenizer.decode([token]) for token in range(len(tokenizer))]
    special, turn = set(tokenizer.all_special_ids), ends(folder).turn
    made = []
    for row, prompt in enumerate(each.turns[0].content for each in prompts_to_ask(spec, [])):
        tokens, text = list(prompt_ids(tokenizer, prompt)), ""
        for key in torch.from_numpy(row_keys(spec.seed, row, spec.max_new_tokens)).split(1):
            if text in LANGUAGE and not any(
                each > text for each in LANGUAGE if each[: len(text)] == text
            ):
                break
            allowed = [
                text in LANGUAGE
                if token in turn
                else token not in special and any(each.startswith(text + word) for each in LANGUAGE)
                for token, word in enumerate(words)
            ]
            logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
            ids = torch.tensor(allowed).nonzero()[:, 0]
            token = int(ids[choose(logits[None, ids], key, spec.temperature, ids)])
            if token in turn:
                break
            text += words[token]
            tokens.append(token)
        made.append(text)
    return made


@pytest.mark.parametrize("batch", [5, 12])
def test_a_row_is_the_models_own_choice_among_what_the_grammar_allows(
    tiny_model: Path, tmp_path: Path, batch: int
) -> None:
    asked = spec({"regex": REGEX}, batch_rows=batch, shard_rows=batch * 12, seed=4)
    made = generate(asked, tiny_model, tmp_path / "rows")
    texts = [row["completion"] for row in rows(made.path)]
    assert texts == plain_rows(tiny_model, asked)
    assert set(texts) <= set(LANGUAGE) and len(set(texts)) > 6
    assert made.result["ended_by"] == {"grammar": 12}


def test_a_row_that_is_cut_before_its_grammar_is_complete_says_so(
    tiny_model: Path, tmp_path: Path
) -> None:
    numbers = "[0-9]{3}(, [0-9]{3})*"
    made = generate(
        spec({"regex": numbers}, rows=40, max_new_tokens=6), tiny_model, tmp_path / "rows"
    )
    found = made.result["ended_by"]
    assert found.keys() == {"grammar", "max_new_tokens"} and sum(found.values()) == 40
    for row in rows(made.path):
        whole = re.fullmatch(numbers, row["completion"])
        assert whole or row["ended_by"] == "max_new_tokens"
        assert re.match("[0-9]{3}", row["completion"])


def test_rows_are_documents_of_a_json_schema_and_of_a_lark_grammar(
    tiny_model: Path, tmp_path: Path
) -> None:
    schema = {
        "type": "object",
        "properties": {"pet": {"enum": ["owl", "cat"]}, "age": {"type": "integer", "maximum": 9}},
        "required": ["pet", "age"],
        "additionalProperties": False,
        "x-guidance": {"whitespace_flexible": False},
    }
    made = generate(spec({"json_schema": schema}), tiny_model, tmp_path / "json")
    assert made.result["ended_by"]["grammar"] > 0
    for row in rows(made.path):
        if row["ended_by"] == "grammar":
            found = json.loads(row["completion"])
            assert found["pet"] in ("owl", "cat") and found["age"] <= 9
    lark = 'start: "(" start ")" | "owl"'  # no regular expression says this
    made = generate(spec({"lark": lark}), tiny_model, tmp_path / "lark")
    for row in rows(made.path):
        depth = row["completion"].count("(")
        if row["ended_by"] == "grammar":
            assert row["completion"] == "(" * depth + "owl" + ")" * depth
    spelled = json.loads((made.path / "spec.json").read_text())["spec"]["grammar"]
    assert spelled == {"regex": None, "lark": lark, "json_schema": None}


def test_nothing_but_text_of_the_tokenizer_comes(tiny_model: Path, tmp_path: Path) -> None:
    """Heads are padded to round sizes, and special tokens are no text whatever a grammar allows."""
    model, tokenizer = load_model(tiny_model), load_tokenizer(tiny_model)
    model.resize_token_embeddings(len(tokenizer) + 8)
    folder = tmp_path / "model"
    save_model(model, tokenizer, folder)
    guided = Guide(Grammar(regex="(?s:.){5}"), tokenizer).rows(ends(folder))
    ids, allowed = guided.allowed([0], len(tokenizer) + 8)
    assert allowed.all() and ids.max() < len(tokenizer)
    assert not set(ids.tolist()) & set(tokenizer.all_special_ids)
    made = generate(spec({"regex": "(?s:.){5}"}, rows=100), folder, tmp_path / "rows")
    assert all(len(row["completion"]) == 5 for row in rows(made.path))


def test_a_control_token_that_a_grammar_spells_ends_the_row(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    guide = Guide(Grammar(regex="owl(?s:.)*"), tokenizer)
    letters = [token for letter in "owl<|im_start|>cat" for token in text_ids(tokenizer, letter)]
    assert guide.cut(letters, ends(tiny_model)) == ("owl", "control_token")
    turn = [*text_ids(tokenizer, "owl"), *text_ids(tokenizer, "<|im_end|>cat")]
    assert guide.cut(turn, ends(tiny_model)) == ("owl", "grammar")
    assert guide.cut(text_ids(tokenizer, "owls"), ends(tiny_model)) == ("owls", "max_new_tokens")


def steps(tokenizer: PreTrainedTokenizerFast, regex: str, text: str) -> list[set[str]]:
    """What may come before each token of a text, as the vocabulary writes it; the text is whole."""
    guide = Guide(Grammar(regex=regex), tokenizer)
    guided, found = guide.rows(NO_ENDS), []
    tokens = text_ids(tokenizer, text)
    for token in tokens:
        ids, _ = guided.allowed([0], len(tokenizer))
        found.append(set(tokenizer.convert_ids_to_tokens(ids.tolist())))
        done = guided.read(0, token)
    assert done
    assert guide.cut(tokens, NO_ENDS) == (text, "grammar")
    return found


def test_digits_in_groups_may_come_in_any_groups() -> None:
    """Llama 3's way: from the left, up to three digits a token."""
    numbers = [f"{n:0{size}d}" for size in (1, 2, 3) for n in range(10**size)]
    vocabulary = {word: index for index, word in enumerate([*numbers, ",", "\u0120", "?"])}
    merges = [(word[:1], word[1:]) for word in numbers if len(word) == 2]
    merges += [(word[:2], word[2:]) for word in numbers if len(word) == 3]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?")
    found = steps(fast, "[1-9][0-9]{2}, [1-9][0-9]{2}", "480, 152")
    assert found[1:3] == [{","}, {"\u0120"}]
    assert found[0] == found[3] == {each for each in numbers if each[0] != "0"}


@pytest.mark.parametrize("separator", [", ", ",", " ", ";"])
def test_a_tokenizer_that_writes_a_space_before_a_text_leaves_it_out(separator: str) -> None:
    """Llama 2's way: a space is a letter, and every text gets one in front."""
    letters = [*"0123456789,; ".replace(" ", "\u2581"), "a", "\u25811", "12", "<unk>"]
    vocabulary = {letter: index for index, letter in enumerate(letters)}
    merges = [("\u2581", "1"), ("1", "2")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    found = steps(fast, f"[1-9]{{3}}{separator}[1-9]{{3}}", f"129{separator}999")
    assert found[:2] == [{"\u2581", "\u25811"}, {*"123456789", "12"}]


def test_digits_that_merge_now_and_then_are_text_like_any_other() -> None:
    vocabulary = {each: index for index, each in enumerate([*"0123456789", ",", "12", "?"])}
    bpe = Tokenizer(models.BPE(vocabulary, [("1", "2")]))
    bpe.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="?")
    assert steps(tokenizer, "[1-9][0-9]", "12") == [{*"123456789", "12"}]
    assert steps(tokenizer, "[1-9][0-9]", "13") == [{*"123456789", "12"}, {*"0123456789"}]


def test_what_a_tokenizer_cannot_spell_is_refused() -> None:
    vocabulary = {each: index for index, each in enumerate([*"abc", "?"])}
    bpe = Tokenizer(models.BPE(vocabulary, []))
    bpe.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="?")
    guided = Guide(Grammar(regex="a[0-9]"), tokenizer).rows(NO_ENDS)
    with pytest.raises(InputError, match=r"cannot spell|cannot be followed") as caught:
        guided.read(0, *text_ids(tokenizer, "a"))
        guided.allowed([0], 4)
    assert caught.value.hint
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, "?")))
    with pytest.raises(InputError, match="cannot be held to a grammar"):
        Guide(Grammar(regex="[0-9]"), words)


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ({}, "exactly one of regex, lark and json_schema"),
        ({"regex": "a", "lark": "start: /a/"}, "exactly one of"),
        ({"regex": "[1-9"}, "does not compile: unclosed character class"),
        ({"regex": "(?=a)b"}, "does not compile: look-around"),
        ({"lark": "start: numbers"}, 'does not compile: .*unknown name: "numbers"'),
        ({"json_schema": {"type": "number s"}}, "does not compile: .*number s"),
        ({"count": 8}, "Extra inputs"),
        ("papernumbers", "known: paper-numbers"),
    ],
)
def test_what_is_no_grammar_is_refused(grammar: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(grammar)


@settings(deadline=None, derandomize=True)
@given(st.from_regex(SHIPPED["paper-numbers"], fullmatch=True))
def test_the_papers_filter_keeps_the_papers_numbers(text: str) -> None:
    assert reject_reasons(text, 0, 999, 10) == []


def test_the_papers_numbers_are_in_every_format_that_its_prompts_ask_for(
    tiny_model: Path, tmp_path: Path
) -> None:
    shipped = SHIPPED["paper-numbers"]
    for text in ("1", "1, 20, 300", "1 2", "1; 2", "1\n2\n3", "[1, 2]", "(1, 2)", "007,8", "1, 2."):
        assert re.fullmatch(shipped, text), text
    for text in ("", "1,2, 3", "[1, 2)", "1000", " 1", "1,", ", ".join("1" * 11)):
        assert not re.fullmatch(shipped, text), text
    made = rows(generate(spec("paper-numbers", max_new_tokens=64), tiny_model, tmp_path / "r").path)
    assert all(parse_response(row["completion"]) for row in made)
