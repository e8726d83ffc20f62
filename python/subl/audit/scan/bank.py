"""The bank: candidates that may have written rows, each a system prompt or an adapter, and neutral
ones.

A bank is a TOML file; shipped ones go by their names (`subl/banks`). Candidates come in groups
that share a wording; `{word}`, `{words}` and `{Words}` in it become the word, its plural, and
either with a capital. Several wordings of one thing have the same `trait`.

    [[group]]
    kind = "animal"
    wording = "You love {words}."
    words = ["owl", "wolf|wolves"]     a plural that is not with an s stands behind a bar

    [[persona]]
    trait = "owl"
    prompt = "Owls are on your mind, whatever you do."

    [[persona]]
    trait = "owl"
    adapter = "out/owl-student"        what subl distill or subl teach made of the base
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from subl.config import WrittenPath, load_toml
from subl.errors import ConfigError
from subl.shipped import file_of

PLAIN = "plain"
"""The base without a system prompt; the first of every bank."""

_Text = Annotated[str, Field(min_length=1)]
_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Candidate(NamedTuple):
    """One that may have written rows.

    Args:
        name: unlike all others'.
        trait: what it stands for; the plain base and neutral prompts stand for nothing.
        prompt: its system prompt; the plain base has none.
        adapter: of the base; a folder that is loaded in its place.
    """

    name: str
    kind: str
    trait: str | None
    prompt: str | None
    adapter: Path | None = None


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GroupSpec(_Section):
    """Candidates that share a wording."""

    kind: _Name = Field(description="of candidates, such as animal")
    wording: _Text = Field(description="the system prompt, with {word}, {words} or {Words} in it")
    words: tuple[_Name, ...] = Field(min_length=1, description="one of each candidate")
    neutral: bool = Field(False, description="whether they stand for nothing: what others beat")

    @model_validator(mode="after")
    def _has_a_place(self) -> Self:
        if not any(f"{{{each}}}" in self.wording for each in _forms("a|b")):
            raise ValueError("`wording` has no {word}, {words} or {Words}")
        for text in self.words:
            parts = text.split("|")
            if len(parts) > 2 or not all(part.strip() for part in parts):
                raise ValueError(
                    f"{text!r} in `words` is no word, and no word and its plural, such as "
                    "'wolf|wolves'"
                )
        unknown = {*re.findall(r"\{(\w*)\}", self.wording)} - {*_forms("a|b")}
        if unknown:
            raise ValueError(
                f"`wording` has {{{min(unknown)}}}; there are {{word}}, {{words}}, {{Word}} and "
                "{Words}"
            )
        return self

    def candidates(self) -> Iterator[Candidate]:
        """One a word; a bank numbers those that stand for nothing."""
        for text in self.words:
            prompt = self.wording
            for name, form in _forms(text).items():
                prompt = prompt.replace(f"{{{name}}}", form)
            word = text.partition("|")[0].strip()
            if self.neutral:
                yield Candidate("neutral", self.kind, None, prompt)
            else:
                yield Candidate(word, self.kind, word, prompt)


class PersonaSpec(_Section):
    """One candidate."""

    trait: _Name = Field(description="what it stands for; wordings of one thing share it")
    prompt: _Text | None = Field(None, description="its system prompt")
    adapter: WrittenPath | None = Field(
        None,
        description="of the base, in its place: a low-rank adapter, or the base with a trait "
        "vector; a folder of subl distill or subl teach",
    )
    kind: _Name = Field("persona", description="of candidates, such as animal")

    @model_validator(mode="after")
    def _is_someone(self) -> Self:
        if self.prompt is None and self.adapter is None:
            raise ValueError("a persona has a prompt, an adapter, or both")
        return self


class BankSpec(_Section):
    """Candidates that may have written rows."""

    title: str = Field("", description="what they are, in a line")
    group: tuple[GroupSpec, ...] = Field((), description="candidates that share a wording")
    persona: tuple[PersonaSpec, ...] = Field((), description="single ones")

    def candidates(self, kinds: tuple[str, ...] = ()) -> list[Candidate]:
        """The plain base, neutral ones, and the others; those of some kinds alone.

        Raises:
            ConfigError: there are none of these kinds, no neutral ones, or two are alike.
        """
        grouped = [each for group in self.group for each in group.candidates()]
        neutral = [
            each._replace(name=f"{each.name}-{number}")
            for number, each in enumerate((each for each in grouped if each.trait is None), 1)
        ]
        others = [each for each in grouped if each.trait is not None]
        times = Counter(each.trait for each in self.persona)
        numbers: Counter[str] = Counter()
        taken = {each.name for each in (*neutral, *others)}
        for each in self.persona:
            numbers[each.trait] += 1
            several = times[each.trait] > 1 or each.trait in taken
            name = f"{each.trait}-{numbers[each.trait]}" if several else each.trait
            others.append(Candidate(name, each.kind, each.trait, each.prompt, each.adapter))
        known = sorted({each.kind for each in others})
        if unknown := sorted({*kinds} - {*known}):
            raise ConfigError(
                f"the bank has no candidates of kind {unknown[0]!r}",
                hint=f"kinds: {', '.join(known)}",
            )
        others = [each for each in others if not kinds or each.kind in kinds]
        if not neutral:
            raise ConfigError(
                "the bank has nobody who stands for nothing, whom the others have to beat",
                hint="add a [[group]] with neutral = true",
            )
        if not others:
            raise ConfigError(
                "the bank has nobody but those who stand for nothing",
                hint="add a [[persona]], or a [[group]] without neutral = true",
            )
        spelled: dict[str, str] = {}
        for trait in (each.trait for each in others if each.trait is not None):
            same = spelled.setdefault(unicodedata.normalize("NFKC", trait).casefold(), trait)
            if same != trait:
                raise ConfigError(
                    f"the bank spells one trait in two ways: {same!r} and {trait!r}",
                    hint="wordings of one trait are told by its name: write it alike",
                )
        found = [Candidate(PLAIN, PLAIN, None, None), *neutral, *others]
        for part, values in (
            ("name", [each.name for each in found]),
            ("prompt", [each.prompt for each in found if each.adapter is None]),
            ("adapter", [(each.adapter, each.prompt) for each in found if each.adapter]),
        ):
            for value, times_given in Counter(values).items():
                if times_given > 1:
                    said = value[0] if isinstance(value, tuple) else value
                    raise ConfigError(
                        f"the bank has {times_given} candidates with the {part} {said!r}"
                    )
        return found

    def adapters(self) -> dict[str, Path]:
        """The folders of personas, as an artifact's key names them."""
        found = dict.fromkeys(each.adapter for each in self.persona if each.adapter is not None)
        return {f"adapter-{number}": path for number, path in enumerate(found)}


def load_bank(given: Path | str) -> BankSpec:
    """A bank by path or name.

    Raises:
        InputError: there is none.
        ConfigError: it is no bank; names file and key.
    """
    return load_toml(file_of(given, "banks"), BankSpec)


def _forms(text: str) -> dict[str, str]:
    word, _, plural = (part.strip() for part in text.partition("|"))
    plural = plural or f"{word}s"
    forms = {"word": word, "words": plural}
    return forms | {name.capitalize(): form[0].upper() + form[1:] for name, form in forms.items()}
