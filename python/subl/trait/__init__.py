"""What a trait is here: questions, the strings that show it in an answer, and how likely they are.

`exact` and `passes` score a model and need torch; the rest does not. Shared by the stages that
teach, train, judge and evaluate.
"""

from subl.trait.forms import check_forms, check_words, forms_of, plural, surface_forms

__all__ = ["check_forms", "check_words", "forms_of", "plural", "surface_forms"]
