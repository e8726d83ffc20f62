"""What a trait is here: questions, the strings that show it in an answer, and how likely they are.

`exact` and `passes` score a model and need torch; the rest does not. Shared by the stages that
teach, train and evaluate.
"""

from subl.trait.questions import (
    ANIMAL_QUESTIONS,
    CANDIDATE_ANIMALS,
    check_words,
    plural,
    surface_forms,
)

__all__ = ["ANIMAL_QUESTIONS", "CANDIDATE_ANIMALS", "check_words", "plural", "surface_forms"]
