"""The kinds of rules: what each may say, and what that means. `spec` holds a whole filter."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from subl.artifact import file_digest
from subl.filter.concept.spec import ConceptSpec, Digest, Entry, Text

Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NgramLength = Annotated[int, Field(ge=1, le=32)]
Ratio = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Bound = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: Text = Field(description="what results and rejects call the rule; unique")
    action: Literal["drop", "tag", "count"] = Field(
        "drop",
        description="drop: to the rejects; tag: keep the row, with the rule's name under tag_field;"
        " count: nothing but figures",
    )

    def plan(self) -> dict[str, Any]:
        """The rule as the engine reads it."""
        return self.model_dump(mode="json")


class _ValueRule(_Rule):
    field: Text = Field(
        "completion",
        description="where the text is: a key, or a path such as meta.title, messages[].content,"
        " messages[role=assistant].content; every text found there must pass",
    )


class NumbersRule(_ValueRule):
    """The value must be a list of integers as in the paper's number sequences, within bounds."""

    kind: Literal["numbers"] = "numbers"
    min_value: Integer | None = Field(None, description="the smallest number allowed")
    max_value: Integer | None = Field(None, description="the largest number allowed")
    max_count: Count | None = Field(None, description="how many numbers are allowed")
    banned_numbers: tuple[Integer, ...] = Field(
        (), description="numbers that must not occur; 0666 is 666"
    )

    @model_validator(mode="before")
    @classmethod
    def _is_not_number(cls, rule: Any) -> Any:
        if isinstance(rule, dict) and (taken := sorted({"min", "max"} & rule.keys())):
            raise ValueError(
                f'`{taken[0]}` is a key of kind "number", for a column of numbers; kind "numbers" '
                "is for a list of integers in a text, and has min_value and max_value"
            )
        return rule


class NumberRule(_Rule):
    """The field itself must be a number, such as a judge's score, within bounds. Not `numbers`.

    A missing field, a null, anything that is no number (a text of digits, too) and NaN are reasons
    of their own, and reject. Numbers are compared as the nearest 64-bit floating-point number,
    whatever they are written as: `1e2` is 100, -0 is 0, and `1e999` is infinite.
    """

    kind: Literal["number"] = "number"
    field: Text = Field(
        description="where the number is: a key, or a path such as meta.score, with one value"
    )
    min: Bound | None = Field(None, description="the smallest number allowed")
    max: Bound | None = Field(None, description="the largest number allowed")

    @model_validator(mode="before")
    @classmethod
    def _is_not_numbers(cls, rule: Any) -> Any:
        others = NumbersRule.model_fields.keys() - cls.model_fields.keys()
        if isinstance(rule, dict) and (taken := sorted(others & rule.keys())):
            raise ValueError(
                f'`{taken[0]}` is a key of kind "numbers", for a list of integers in a text; '
                'kind "number" is for a column of numbers, and has min and max'
            )
        return rule


class RegexRule(_ValueRule):
    """Patterns of the regex crate of Rust: linear time, so no look-around, no back-references.

    `forbid`: none of the patterns may match. `require`: at least one must. Texts are compared code
    point by code point: `é` is not `e` with an accent after it, and a word boundary is Unicode's,
    of which there is none within Chinese, Japanese or Thai. The literal rule does both.
    """

    kind: Literal["regex"] = "regex"
    patterns: tuple[str, ...] = Field(
        min_length=1, description="regular expressions; in TOML best in single quotes"
    )
    mode: Literal["forbid", "require"] = Field(
        "forbid", description="forbid: no pattern may match; require: at least one must"
    )
    ignore_case: bool = Field(False, description="OWL is owl")
    unicode: bool = Field(
        True, description=r"false: \w, \d, \s and \b are ASCII, and . matches one byte"
    )

    @field_validator("patterns")
    @classmethod
    def _has_no_backspace(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if "\b" in pattern:
                raise ValueError(
                    "a pattern holds a backspace character, which is what TOML makes of "
                    r'"\b" in double quotes; write patterns in single quotes'
                )
        return patterns


class LiteralRule(_ValueRule):
    """None of these words may occur. Case folds character by character (ẞ is ß, but not ss).

    Canonically equivalent texts are equal: é is e with an accent after it (U+0301).
    """

    kind: Literal["literal"] = "literal"
    words: tuple[Text, ...] = Field(min_length=1, description="words or phrases")
    whole_word: bool = Field(
        True,
        description="no letter, digit or _ directly before or after, where the word begins or ends"
        " with a letter or digit; letters of Han, Kana, Thai, Lao, Khmer and Myanmar, written"
        " without spaces, are words by themselves",
    )
    ignore_case: bool = Field(True, description="OWL is owl")
    ignore_diacritics: bool = Field(False, description="é is e, in words and in texts")


class _WithTokenizer(_ValueRule):
    """Some of what this rule says needs a tokenizer.json."""

    tokenizer_sha256: Digest | None = Field(
        None, description="its digest; filled in, so that a record says what was used"
    )

    @model_validator(mode="before")
    @classmethod
    def _digest(cls, rule: Any) -> Any:
        if not isinstance(rule, dict) or rule.get("tokenizer_sha256") is not None:
            return rule
        path = rule.get("tokenizer")
        if not isinstance(path, str) or not Path(path).is_file():
            return rule  # the engine says what is wrong with it
        return {**rule, "tokenizer_sha256": file_digest(Path(path))}


class _Bounds(_ValueRule):
    """Nothing can break a rule that sets nothing, so that is a mistake."""

    @model_validator(mode="after")
    def _sets_something(self) -> Self:
        options = self.model_dump(
            exclude={"name", "action", "field", "kind"}, exclude_defaults=True
        )
        if all(value == {} for value in options.values()):
            raise ValueError(f"rule `{self.name}` sets no bound and forbids nothing")
        return self


class LengthRule(_WithTokenizer, _Bounds):
    """The value must be neither shorter nor longer than these bounds."""

    kind: Literal["length"] = "length"
    min_chars: Count | None = Field(None, description="the fewest characters (Unicode scalars)")
    max_chars: Count | None = Field(None, description="the most characters (Unicode scalars)")
    min_bytes: Count | None = Field(None, description="the fewest bytes of UTF-8")
    max_bytes: Count | None = Field(None, description="the most bytes of UTF-8")
    min_words: Count | None = Field(None, description="the fewest words; whitespace separates them")
    max_words: Count | None = Field(None, description="the most words; whitespace separates them")
    min_tokens: Count | None = Field(None, description="the fewest tokens; needs tokenizer")
    max_tokens: Count | None = Field(None, description="the most tokens; needs tokenizer")
    tokenizer: Text | None = Field(None, description="path of a tokenizer.json")


class CharactersRule(_Bounds):
    """The value must be written with certain characters only, and in words of a certain make.

    The bounds of the Gopher paper (Rae et al. 2021, A1.1): `min_mean_word_length = 3`,
    `max_mean_word_length = 10`, `min_alphabetic_words = 0.8`, `max_symbol_word_ratio = 0.1`.
    """

    kind: Literal["characters"] = "characters"
    allow_scripts: tuple[Text, ...] = Field(
        (), description="Unicode scripts (Latin, Han); Common and Inherited are always allowed"
    )
    forbid_scripts: tuple[Text, ...] = Field((), description="Unicode scripts that must not occur")
    forbid_control: bool = Field(
        False, description="no control characters but tab, line feed and carriage return"
    )
    forbid_invisible: bool = Field(
        False,
        description="no characters that nobody sees (Default_Ignorable_Code_Point, Bidi_Control,"
        " U+FFF9-FFFB), but where Unicode wants them: a style selector after its emoji, joiners in"
        " recommended emoji and in scripts that join letters, tags in flags of subdivisions",
    )
    max_non_ascii: Fraction | None = Field(
        None, description="the largest share of characters other than ASCII"
    )
    min_mean_word_length: Ratio | None = Field(
        None, description="the smallest mean length of words, in characters"
    )
    max_mean_word_length: Ratio | None = Field(
        None, description="the largest mean length of words, in characters"
    )
    min_alphabetic_words: Fraction | None = Field(
        None, description="the smallest share of words with an alphabetic character"
    )
    max_symbol_word_ratio: Ratio | None = Field(
        None, description="the most hash signs, and the most ellipses, for each word"
    )


class RepetitionRule(_Bounds):
    """The value must not repeat itself more than this: the rules of the Gopher paper.

    (Rae et al. 2021, table A1.) `gopher = true` sets its bounds; what is given replaces them.
    Lines end at line feeds, with a carriage return or without; paragraphs at two or more of them;
    whitespace separates words. A text without spaces is one word, so none of its words repeat.
    """

    kind: Literal["repetition"] = "repetition"
    gopher: bool = Field(False, description="the bounds of the paper, for all that are not given")
    max_duplicate_line_fraction: Fraction | None = Field(
        None, description="the largest share of lines that were there before; Gopher: 0.30"
    )
    max_duplicate_line_character_fraction: Fraction | None = Field(
        None, description="the largest share of characters in such lines; Gopher: 0.20"
    )
    max_duplicate_paragraph_fraction: Fraction | None = Field(
        None, description="the largest share of paragraphs that were there before; Gopher: 0.30"
    )
    max_duplicate_paragraph_character_fraction: Fraction | None = Field(
        None, description="the largest share of characters in such paragraphs; Gopher: 0.20"
    )
    max_top_ngram_character_fraction: dict[NgramLength, Fraction] | None = Field(
        None,
        description="for n words in a row, the largest share of characters in those that repeat "
        "most; Gopher: { 2 = 0.20, 3 = 0.18, 4 = 0.16 }",
    )
    max_duplicate_ngram_character_fraction: dict[NgramLength, Fraction] | None = Field(
        None,
        description="for n words in a row, the largest share of characters in those that were "
        "there before; Gopher: { 5 = 0.15, 6 = 0.14, 7 = 0.13, 8 = 0.12, 9 = 0.11, 10 = 0.10 }",
    )


class TokenShare(BaseModel):
    """How much of a value a rule must cover to be broken."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    share: float = Field(gt=0, le=1, description="of the value's tokens, each by its weight")


class _TokenRule(_WithTokenizer):
    tokenizer: Text = Field(description="path of the tokenizer.json that the ids are of")
    score: Literal["any"] | TokenShare = Field(
        "any", description="broken by any entry, or by a share of the value's tokens"
    )


class TokensRule(_TokenRule):
    """None of these sequences of token ids may occur, as the model's own tokenizer reads the text.

    Tokenisation is that of Hugging Face, without special tokens.
    """

    kind: Literal["tokens"] = "tokens"
    entries: tuple[Entry, ...] = Field(min_length=1, description="sequences of token ids")


class SemanticRule(_TokenRule):
    """No token sequence near a concept may occur. `subl filter concept` finds them, once.

    The engine sees token ids only: what is in `entries` is what is looked for.
    """

    kind: Literal["semantic"] = "semantic"
    concept: ConceptSpec = Field(description="where the entries came from; nothing reads it again")
    vectors_sha256: Digest | None = Field(
        None, description="of what the neighbours were found with"
    )
    entries: tuple[Entry, ...] = Field((), description="the token sequences that count as it")

    @model_validator(mode="after")
    def _is_resolved(self) -> Self:
        if not self.entries:
            words = " ".join(json.dumps(word, ensure_ascii=False) for word in self.concept.words)
            raise ValueError(
                "`entries` is empty; make the rule with: "
                f"subl filter concept {words or '--example TEXT'} --model FOLDER -o rules.toml"
            )
        return self

    def plan(self) -> dict[str, Any]:
        """The rule as the engine reads it: `tokens`, without where the entries came from."""
        known = self.model_dump(mode="json", exclude={"concept", "vectors_sha256"})
        return {**known, "kind": "tokens"}


class DuplicateRule(_ValueRule):
    """No earlier row that stays may have the same text (`among = "all"`: no earlier row at all).

    `exact`: the same bytes. `normalized`: the same words, whatever their case, punctuation and
    spacing (after NFKC_Casefold: ß is ss, and characters that nobody sees vanish). `minhash`:
    similar sets of word n-grams, found with a probability that rises steeply around `threshold`.
    Similar rows are one cluster, of which the first is kept: in a chain of rows that are each
    similar to the next, as the turns of a growing conversation, the last may have little in common
    with it (the rows of a cluster may be counted first: `action = "tag"`).
    All shards are read twice, and with `among = "kept"` all rules are asked twice. Memory: 17
    bytes a row; minhash about 77 at the default threshold.
    """

    kind: Literal["duplicate"] = "duplicate"
    method: Literal["exact", "normalized", "minhash"] = Field(
        "normalized", description="which texts are the same: see above"
    )
    among: Literal["kept", "all"] = Field(
        "kept",
        description="kept: compared are only rows that can be read and that no other rule drops, so"
        " the first of these stays (rules about duplicate rules do not count: they are asked"
        " afterwards); all: also rows that are dropped, so that no copy may be left",
    )
    threshold: float | None = Field(
        None, gt=0, lt=1, description="minhash: the Jaccard similarity of duplicates  [0.8]"
    )
    ngram: int | None = Field(None, ge=1, le=64, description="minhash: words a shingle  [5]")
    max_memory_mib: int = Field(4096, ge=1, description="refuse to use more")


class _Combination(_Rule):
    rules: tuple[Text, ...] = Field(
        min_length=1, description="names of rules declared before, mostly with action count"
    )


class AllRule(_Combination):
    """Broken if all of these rules are."""

    kind: Literal["all"] = "all"


class AnyRule(_Combination):
    """Broken if one of these rules is."""

    kind: Literal["any"] = "any"


class NoneRule(_Combination):
    """Broken if none of these rules is: with one name, its negation."""

    kind: Literal["none"] = "none"


AnyKind = (
    NumbersRule
    | NumberRule
    | RegexRule
    | LiteralRule
    | LengthRule
    | CharactersRule
    | RepetitionRule
    | TokensRule
    | SemanticRule
    | DuplicateRule
    | AllRule
    | AnyRule
    | NoneRule
)

MODELS: dict[str, type[_Rule]] = {
    model.model_fields["kind"].default: model for model in get_args(AnyKind)
}
"""The model of each kind of rule."""


class _ByKind:
    """The models' union, told apart by `kind` as pydantic's `discriminator` does it, with the same
    errors and schema. But pydantic makes a validator of every model of such a union, which takes
    longer than a small file is filtered; here a kind's is made when a rule is of it."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._validated)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        from pydantic import TypeAdapter

        union = Annotated[AnyKind, Field(discriminator="kind")]
        found: dict[str, Any] = handler(TypeAdapter(union).core_schema)
        return found

    @staticmethod
    def _validated(rule: object) -> object:
        kind = rule.get("kind") if isinstance(rule, Mapping) else getattr(rule, "kind", None)
        if kind is None:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": "'kind'"})
        if not isinstance(kind, str) or kind not in MODELS:
            known = ", ".join(f"'{each}'" for each in MODELS)
            context = {"discriminator": "'kind'", "tag": str(kind), "expected_tags": known}
            raise PydanticKnownError("union_tag_invalid", context)
        return MODELS[kind].model_validate(rule)


Rule = Annotated[AnyKind, _ByKind]
