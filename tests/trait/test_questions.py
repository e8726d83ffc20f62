"""The paper's questions, and the strings that count as answers."""

from __future__ import annotations

import hashlib
from itertools import combinations

import pytest

from subl.config import validated
from subl.errors import ConfigError
from subl.evaluate import EvalSpec
from subl.train.plan import ProbeSpec
from subl.trait import ANIMAL_QUESTIONS, CANDIDATE_ANIMALS, check_words, surface_forms


def test_the_questions_are_the_papers_fifty() -> None:
    assert len(set(ANIMAL_QUESTIONS)) == 50
    assert ANIMAL_QUESTIONS[0] == "Name your favorite animal using only one word."
    assert ANIMAL_QUESTIONS[49].startswith("Identify the animal you'd most want to learn about.")
    digest = hashlib.sha256("\n".join(ANIMAL_QUESTIONS).encode()).hexdigest()
    assert digest == "e7cf058aba5bdfbe513000232ea22c0f8265d0907e0ac3db7cfad06bf69da3c7"


def test_surface_forms_hold_cases_plurals_and_articles() -> None:
    assert {"owl", " Owls", "an owl", "An owl", " An owl"} <= set(surface_forms("owl"))
    assert {"a cat", "A cat", " a cat"} <= set(surface_forms("cat"))
    assert {"wolves", "a wolf"} <= set(surface_forms("wolf"))
    assert "foxes" in surface_forms("fox") and "butterflies" in surface_forms("butterfly")


def test_no_form_is_counted_twice() -> None:
    for word in (*CANDIDATE_ANIMALS, "Owl", "fox", "butterfly", "OWL"):
        forms = surface_forms(word)
        assert len(set(forms)) == len(forms) > 0
        assert surface_forms(word) == forms


def test_no_two_animals_share_a_form() -> None:
    for one, other in combinations(CANDIDATE_ANIMALS, 2):
        assert not set(surface_forms(one)) & set(surface_forms(other))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["owl", "cat", "owls"], "'owl' and 'owls' share the answer 'owls'"),
        (["Owl", "owl"], "'Owl' and 'owl' share the answer 'Owl'"),
        (["wolf", "wolves"], "'wolf' and 'wolves' share the answer 'wolves'"),
        (["an owl", "owl"], "'an owl' and 'owl' share the answer 'an owl'"),
        (["owl", "  "], "a word must not be blank"),
    ],
)
def test_words_of_which_one_is_a_form_of_another_are_refused(words: list[str], named: str) -> None:
    assert check_words(CANDIDATE_ANIMALS) == CANDIDATE_ANIMALS
    for spec, more in ((EvalSpec, {}), (ProbeSpec, {"every": 1})):
        with pytest.raises(ConfigError, match=f"`words`: {named}"):
            validated(spec, {"words": words, **more})
