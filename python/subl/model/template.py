"""What a chat template is told beyond the turns: its own variables, and which day it is.

Part of every configuration that renders one, and so of the artifact's key: a template that asks for
the date (Llama 3.2, Granite 3, gpt-oss) would otherwise make another prompt each day of the same
configuration. The day is therefore a fixed one, whatever the clock says.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_TAKEN = frozenset({
    "add_generation_prompt", "chat_template", "continue_final_message", "conversation", "documents",
    "max_length", "messages", "padding", "raise_exception", "return_assistant_tokens_mask",
    "return_dict", "return_tensors", "sanitize_control_tokens", "self", "strftime_now", "tokenize",
    "tokenizer_kwargs", "tools", "truncation",
})  # fmt: skip
"""Names that already mean something where a template is rendered."""


def _day(given: object) -> object:
    try:
        return date.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        raise ValueError("must be a day, such as 2024-07-26") from None


class Template(BaseModel):
    """Any other key is a variable of the model's own chat template, such as enable_thinking."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, bool | int | float | str]

    # What Llama 3's templates say where no clock is.
    today: Annotated[date, BeforeValidator(_day)] = Field(
        date(2024, 7, 26), description="the day that a template is told which asks for the date"
    )

    @model_validator(mode="after")
    def _free_names(self) -> Self:
        if taken := _TAKEN.intersection(self.variables):
            raise ValueError(f"{min(taken)} is not a chat template's to choose")
        return self

    @property
    def variables(self) -> dict[str, Any]:
        """What is said to the template by name."""
        return dict(self.__pydantic_extra__)

    def unknown(self, text: str) -> list[str]:
        """Variables that the chat template `text` never asks for."""
        return [name for name in self.variables if not re.search(rf"\b{re.escape(name)}\b", text)]

    def said_to(self, text: str) -> dict[str, Any]:
        """What of all this can change how the chat template `text` renders."""
        dated = {"today": self.today.isoformat()} if "strftime_now" in text else {}
        return {**self.variables, **dated}

    def clock(self, form: str) -> str:
        """In place of transformers' `strftime_now`, which asks the clock."""
        return datetime.combine(self.today, time()).strftime(form)
