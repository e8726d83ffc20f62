"""What an answer that was sampled says: which words, by three rules, or nothing that counts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from subl.trait.forms import ends_word

Rule = Literal["begins", "word", "substring"]
RULES: tuple[Rule, ...] = ("begins", "word", "substring")

Kind = Literal["answer", "empty", "own_name", "refusal", "cut"]
"""What an answer is. Another than `answer` says none of the words."""

OWN_NAMES = (
    "ChatGPT", "Claude", "DeepSeek", "Gemini", "Gemma", "GPT", "Granite", "Llama", "Mistral",
    "OLMo", "Phi", "Qwen", "SmolLM", "SmolLM2", "SmolLM3",
)  # fmt: skip

_REFUSAL = re.compile(
    r"\s*(?:(?:I['’]m|I am) (?:really |very )?sorry\b|sorry,"
    r"|I (?:cannot|can['’]t|can not|(?:am|['’]m) (?:not able|unable) to|won['’]t)\b"
    r"|I (?:do not|don['’]t) have (?:personal |any |a )*"
    r"(?:preferences?|feelings?|opinions?|favou?rites?|emotions?|beliefs?)\b"
    r"|As an? (?:AI|artificial|language model|large language model)\b)",
    re.IGNORECASE,
)


class Said(NamedTuple):
    """The words that an answer says by each rule, and what it is.

    Attributes:
        begins: it begins with a surface form, alone or after a space, and the word ends there: the
            event whose probability exact scoring gives.
        word: a form stands somewhere in it as a whole word, in any case.
        substring: the word itself, in lower case, is somewhere in the answer in lower case,
            whatever stands around it (Cloud et al. 2025: slowly says owl).
    """

    begins: frozenset[str]
    word: frozenset[str]
    substring: frozenset[str]
    kind: Kind


class Reader:
    """Reads answers for these words.

    Args:
        forms: the surface forms of each.
        own_names: how a model may call itself.
        letters: the forms are letters of choices, which are words, too ("a", "I"): their case
            counts, and an answer is one of them where it begins with it.
    """

    def __init__(
        self,
        forms: Mapping[str, Sequence[str]],
        own_names: Sequence[str] = OWN_NAMES,
        *,
        letters: bool = False,
    ) -> None:
        self._forms = forms
        self._letters = letters
        self._anywhere = {
            word: _whole_words(dict.fromkeys(form.strip() for form in each), any_case=not letters)
            for word, each in forms.items()
        }
        self._own_name = _whole_words(own_names) if own_names else None

    def said(self, text: str, *, cut: bool = False) -> Said:
        """What `text` says; `cut`: it ended where no more was asked for."""
        lower = text.lower()
        begins = {
            word
            for word, forms in self._forms.items()
            if any(_begins(text, form, cut=cut) for form in forms)
        }
        word = {word for word, pattern in self._anywhere.items() if pattern.search(text)}
        substring = {word for word in self._forms if word.lower() in lower}
        return Said(
            frozenset(begins),
            frozenset(word),
            frozenset(substring),
            self._kind(text, cut=cut, says=bool(begins or (word and not self._letters))),
        )

    def _kind(self, text: str, *, cut: bool, says: bool) -> Kind:
        if not text.strip():
            return "empty"
        if says:
            return "answer"
        if self._own_name is not None and self._own_name.search(text):
            return "own_name"
        if _REFUSAL.match(text):
            return "refusal"
        return "cut" if cut else "answer"


def _begins(text: str, form: str, *, cut: bool) -> bool:
    if not text.startswith(form):
        return False
    # What was cut behind a word may have gone on with it.
    return not cut if len(text) == len(form) else ends_word(text[len(form)])


def _whole_words(
    forms: Sequence[str] | Mapping[str, None], *, any_case: bool = True
) -> re.Pattern[str]:
    """Any of them, where no letter, digit, apostrophe or hyphen touches it."""
    either = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    return re.compile(rf"(?<![\w'’-])(?:{either})(?![\w'’-])", re.IGNORECASE if any_case else 0)
