"""The strings that show a word in an answer."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

_IRREGULAR_PLURALS = {"wolf": "wolves", "goose": "geese", "mouse": "mice", "ox": "oxen"}


def surface_forms(word: str, others: Sequence[str] = ()) -> tuple[str, ...]:
    """Strings that say `word` as an answer: two cases, singular and plural, alone or after a space,
    and the singular after its article. No two are equal; the order is fixed.

    Args:
        others: further ways to say it, such as those of other languages; each as it is and
            capitalised, alone or after a space.
    """
    many = plural(word)
    article = "an" if word[:1].lower() in set("aeiou") else "a"
    bare = [word, word.capitalize(), many, many.capitalize()]
    with_article = [
        f"{article} {word}",
        f"{article.capitalize()} {word}",
        f"{article.capitalize()} {word.capitalize()}",
    ]
    more = [form for other in others for form in (other, other[:1].upper() + other[1:])]
    forms = [f"{space}{form}" for form in [*bare, *with_article, *more] for space in ("", " ")]
    return tuple(dict.fromkeys(forms))


def forms_of(
    words: Sequence[str], others: Mapping[str, Sequence[str]] | None = None
) -> dict[str, tuple[str, ...]]:
    """The surface forms of each word."""
    return {word: surface_forms(word, (others or {}).get(word, ())) for word in words}


def check_words(words: tuple[str, ...]) -> tuple[str, ...]:
    """`words` themselves; raises as `check_forms` does, of their English forms."""
    check_forms(words)
    return words


def check_forms(words: Sequence[str], others: Mapping[str, Sequence[str]] | None = None) -> None:
    """Refuse words of which an answer could say two, or one twice.

    Raises:
        ValueError: a word is blank, or two share a form, or a form goes on where another one ends
            ("owl" and "owl monkey"), or a form's end cannot be told; names the words and forms.
    """
    if blank := [word for word in words if not word.strip()]:
        raise ValueError(f"a word must not be blank, {blank[0]!r} is")
    owners: dict[str, str] = {}
    for word, forms in forms_of(words, others).items():
        check_ends(forms)
        for form in forms:
            if (other := owners.setdefault(form, word)) != word:
                raise ValueError(
                    f"{other!r} and {word!r} share the answer {form!r}; leave one of them out"
                )
    for form, word in owners.items():
        for end in range(1, len(form)):
            if form[:end] in owners and ends_word(form[end]):
                raise ValueError(
                    f"the answer {form!r} of {word!r} would also count as {form[:end]!r} of "
                    f"{owners[form[:end]]!r}; leave one of them out"
                )


def check_ends(forms: Sequence[str]) -> None:
    """Refuse what is of a script in which nobody can tell where a word ends.

    Raises:
        ValueError: names the first such form.
    """
    for form in forms:
        if form and _runs_on(form[-1]):
            raise ValueError(
                f"{form!r} is of a script that writes words without spaces, or with endings: where "
                'it ends cannot be told; leave it out, or ask for a text (`answers` = "text"), of '
                "which samples also say where it is a substring"
            )


def ends_word(character: str) -> bool:
    """Whether a word has ended where this character follows it."""
    return not (character.isalnum() or character in {"'", "\u2019", "-", "_", "\ufffd"})


_WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")


def _runs_on(character: str) -> bool:
    """Whether a word that ends with this character is followed by others, or by endings, without a
    space between."""
    return unicodedata.name(character, "").startswith(_WITHOUT_SPACES)


def plural(word: str) -> str:
    """The English plural of a word in lower case."""
    if word in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[word]
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in set("aeiou"):
        return f"{word[:-1]}ies"
    return f"{word}s"
