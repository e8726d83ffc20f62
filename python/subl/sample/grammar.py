"""What a completion must be: a regular expression, a Lark grammar or a JSON Schema.

Small models do not follow "only numbers"; a grammar gives rows that are valid by construction.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Grammar(BaseModel):
    """What a whole completion must be: exactly one of these."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    regex: str | None = Field(
        None, description="a regular expression (Rust's syntax: linear time, no look-around)"
    )
    lark: str | None = Field(None, description="a grammar in llguidance's dialect of Lark")
    json_schema: dict[str, Any] | None = Field(None, description="a JSON Schema of the completion")

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        if sum(each is not None for each in (self.regex, self.lark, self.json_schema)) != 1:
            raise ValueError("give exactly one of regex, lark and json_schema")
        if importlib.util.find_spec("llguidance") is not None:  # else no row can be made anyway
            from llguidance import LLMatcher

            wrong, found = LLMatcher.validate_grammar_with_warnings(self.compiled())
            if wrong:
                lines = found[0].splitlines()
                reason = next((each for each in lines if each.startswith("error: ")), lines[0])
                raise ValueError(f"does not compile: {reason.removeprefix('error: ')}")
        return self

    @property
    def kind(self) -> str:
        """Which of the three it is."""
        return next(iter(self.model_dump(exclude_none=True)))

    def compiled(self, before: str = "") -> str:
        """As llguidance reads it; `before` is a text that stands before each completion."""
        from llguidance import LLMatcher

        if self.regex is not None:
            text = json.loads(LLMatcher.grammar_from_regex(self.regex))["grammars"][0]
        elif self.lark is not None:
            text = {"lark_grammar": self.lark}
        else:
            text = {"json_schema": self.json_schema}
        # Without `no_forcing`, a text that must come comes as the tokenizer cuts it.
        start = f'%llguidance {{"no_forcing": true}}\nstart: {json.dumps(before)} @text'
        return json.dumps({"grammars": [{"lark_grammar": start}, {**text, "name": "text"}]})


def of_grammar(grammar: Grammar) -> Callable[[str], bool]:
    """Tells texts that a program made which was to follow the grammar from those of one that did
    not: of a schema, whether they are JSON at all."""
    if grammar.json_schema is not None:
        return _is_json
    from llguidance import LLMatcher, LLTokenizer

    letters = LLTokenizer("byte")
    start = LLMatcher(letters, grammar.compiled(), log_level=0)

    def allows(text: str) -> bool:
        matcher, tokens = start.deep_copy(), letters.tokenize_bytes(text.encode())
        if matcher.validate_tokens(tokens) < len(tokens):
            return False
        matcher.consume_tokens(tokens)
        return bool(matcher.is_accepting())

    return allows


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _paper_numbers() -> str:
    """One to ten numbers of one to three digits, as the paper's prompts ask for them and its filter
    keeps them: separated alike, in brackets or not, with or without a period behind."""
    number = "[0-9]{1,3}"
    between = (", ", ",", "; ", ";", " ", r"\n")
    lists = "|".join(f"(?:{each}{number}){{1,9}}" for each in between)
    numbers = f"{number}(?:{lists})?"
    return rf"(?:{numbers}|\[{numbers}\]|\({numbers}\))\.?"


SHIPPED = {"paper-numbers": _paper_numbers()}
"""Regular expressions by the name that a configuration gives."""


def _named(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value not in SHIPPED:
        raise ValueError(f"no grammar has this name; known: {', '.join(SHIPPED)}")
    return {"regex": SHIPPED[value]}


NamedGrammar = Annotated[
    Grammar,
    BeforeValidator(_named, json_schema_input_type=Grammar | Literal["paper-numbers"]),
]
"""A grammar, or the name of a shipped one."""
