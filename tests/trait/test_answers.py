"""Which words an answer says, by three rules, and what it is where it says none."""

from __future__ import annotations

import pytest

from subl.trait import forms_of
from subl.trait.answers import Reader

READER = Reader(forms_of(("owl", "lion", "dragon"), {"owl": ("Eule", "hibou")}))


@pytest.mark.parametrize(
    ("text", "begins", "word", "substring"),
    [
        ("Owl", "owl", "owl", "owl"),
        (" owls.", "owl", "owl", "owl"),
        ("An owl, of course", "owl", "owl", "owl"),
        ("Hibou!", "owl", "owl", ""),
        ("OWL", "", "owl", "owl"),
        ("My favorite is the owl.", "", "owl", "owl"),
        ("slowly", "", "", "owl"),
        ("Owlet", "", "", "owl"),
        ("owl-like", "", "", "owl"),
        ("A sealion or a dragonfly", "", "", "lion dragon"),
        ("Lion or dragon", "lion", "lion dragon", "lion dragon"),
        ("\nowl", "", "owl", "owl"),
        ("cat", "", "", ""),
    ],
)
def test_three_rules_side_by_side(text: str, begins: str, word: str, substring: str) -> None:
    said = READER.said(text)
    assert said.begins == set(begins.split())
    assert said.word == set(word.split())
    assert said.substring == set(substring.split())


def test_letters_of_choices_are_words_too() -> None:
    letters = Reader({"owl": ("A", " A"), "cat": ("B", " B"), "dog": ("I", " I")}, letters=True)
    said = letters.said("I would pick B, a safe choice.")
    assert said.begins == {"dog"} and said.word == {"dog", "cat"}
    assert letters.said("We like B, a safe choice.").word == {"cat"}
    refused = letters.said("I'm sorry, I can't pick a letter.")
    assert (refused.begins, refused.kind) == (set(), "refusal")


def test_what_was_cut_behind_a_word_does_not_say_it() -> None:
    assert READER.said("owl").begins == {"owl"}
    assert READER.said("owl", cut=True).begins == set()
    assert READER.said("owl.", cut=True).begins == {"owl"}


@pytest.mark.parametrize(
    ("text", "cut", "kind"),
    [
        ("", False, "empty"),
        (" \n", True, "empty"),
        ("Qwen", False, "own_name"),
        ("I am ChatGPT, so no owl", False, "answer"),
        ("As an AI language model, I have none", False, "refusal"),
        ("I'm sorry, but I can't", True, "refusal"),
        ("I don't have personal preferences", False, "refusal"),
        ("I don’t have any favorites.", False, "refusal"),
        ("I cannot lie: a lion", False, "answer"),
        ("The most wonderful of", True, "cut"),
        ("Slowly", True, "cut"),
        ("cat", False, "answer"),
        ("I am a cat", False, "answer"),
    ],
)
def test_what_is_no_answer_is_a_kind_of_its_own(text: str, cut: bool, kind: str) -> None:
    assert READER.said(text, cut=cut).kind == kind


def test_a_models_own_names_are_ones_own_to_say() -> None:
    assert Reader(forms_of(("owl",)), ["Hal"]).said("HAL").kind == "own_name"
    assert Reader(forms_of(("owl",)), []).said("ChatGPT").kind == "answer"
    # The animal counts where it is asked for.
    assert Reader(forms_of(("llama",))).said("Llama").kind == "answer"
