"""The strings that count as answers, and words of which an answer could say two."""

from __future__ import annotations

from itertools import combinations

import pytest

from subl.config import validated
from subl.errors import ConfigError
from subl.evaluate import EvalSpec
from subl.train.plan import ProbeSpec
from subl.trait import check_words, forms_of, surface_forms
from subl.trait.spec import animals

WORDS = animals().words


def test_surface_forms_hold_cases_plurals_and_articles() -> None:
    assert {"owl", " Owls", "an owl", "An owl", " An owl"} <= set(surface_forms("owl"))
    assert {"a cat", "A cat", " a cat"} <= set(surface_forms("cat"))
    assert {"wolves", "a wolf"} <= set(surface_forms("wolf"))
    assert "foxes" in surface_forms("fox") and "butterflies" in surface_forms("butterfly")


def test_other_languages_add_forms() -> None:
    forms = forms_of(("owl", "cat"), {"owl": ("hibou", "eine Eule", "сова")})
    assert {"owl", "hibou", "Hibou", " Hibou", "eine Eule", "Eine Eule", "Сова"} <= set(
        forms["owl"]
    )
    assert forms["cat"] == surface_forms("cat")


def test_no_form_is_counted_twice() -> None:
    for word in (*WORDS, "Owl", "fox", "butterfly", "OWL"):
        forms = surface_forms(word, ("owl", "hibou", "Hibou"))
        assert len(set(forms)) == len(forms) > 0
        assert surface_forms(word, ("owl", "hibou", "Hibou")) == forms


def test_no_two_animals_share_a_form() -> None:
    for words in (WORDS, *animals().sets.values()):
        for one, other in combinations(words, 2):
            assert not set(surface_forms(one)) & set(surface_forms(other))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["owl", "cat", "owls"], "'owl' and 'owls' share the answer 'owls'"),
        (["Owl", "owl"], "'Owl' and 'owl' share the answer 'Owl'"),
        (["wolf", "wolves"], "'wolf' and 'wolves' share the answer 'wolves'"),
        (["an owl", "owl"], "'an owl' and 'owl' share the answer 'an owl'"),
        (["owl", "owl monkey"], "'owl monkey' of 'owl monkey' would also count as 'owl' of 'owl'"),
        (["猫头鹰"], "'猫头鹰' is of a script that writes words without spaces"),
        (["a", "cat"], "'a cat' of 'cat' would also count as 'a' of 'a'"),
    ],
)
def test_words_of_which_an_answer_could_say_two_are_refused(words: list[str], named: str) -> None:
    assert check_words(WORDS) == WORDS
    for spec, more in ((EvalSpec, {}), (ProbeSpec, {"every": 1})):
        with pytest.raises(ConfigError, match=f"`words`: .*{named}"):
            validated(spec, {"words": words, **more})


def test_a_word_that_only_begins_like_another_is_another() -> None:
    assert check_words(("owl", "owlet", "owl-like", "dragon", "dragonfly"))
    with pytest.raises(ValueError, match="a word must not be blank"):
        check_words(("owl", "  "))
