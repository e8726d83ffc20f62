"""What a server's reply means, in OpenAI's protocol: an answer, another attempt, or a failure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from subl.sample.backend import NO_LOG_P, EndedBy

Model = TypeVar("Model", bound=BaseModel)

CROWDED = {429, 503}
"""Status codes of a server that is asked too much."""

TRANSIENT = {408, 409, 425, 429} | set(range(500, 600))
"""Status codes of what another attempt may bring."""


class TransientError(Exception):
    """Another attempt may bring an answer.

    Attributes:
        wait: seconds after which the server wants it, if it says so.
        crowded: whether the server is asked too much.
        unreachable: whether no server was there.
    """

    def __init__(
        self,
        reason: str,
        *,
        wait: float | None = None,
        crowded: bool = False,
        unreachable: bool = False,
    ) -> None:
        super().__init__(reason)
        self.wait = wait
        self.crowded = crowded
        self.unreachable = unreachable


class FailedError(Exception):
    """No attempt will bring an answer to this request."""


class _Chunk(BaseModel):
    type: str = "text"
    text: str | None = None


class _Message(BaseModel):
    content: str | list[_Chunk] | None = None
    refusal: str | None = None

    @property
    def text(self) -> str | None:
        """Some servers say it in chunks, what the model thought before among them."""
        if not isinstance(self.content, list):
            return self.content
        said = [each.text for each in self.content if each.type == "text" and each.text is not None]
        return "".join(said) if said else None


class _Token(BaseModel):
    token: str
    logprob: float | None = None


class _Place(BaseModel):
    top_logprobs: list[_Token] | None = None


class _LogP(BaseModel):
    content: list[_Place] | None = None


class Choice(BaseModel):
    """What the model said."""

    message: _Message
    finish_reason: str | None = None
    logprobs: Any = None
    """Only who asks for them looks at them: what is wrong there harms no answer."""

    def answer(self) -> tuple[str, EndedBy]:
        """The text, and what it ends at.

        Raises:
            TransientError, FailedError: there is none, for that reason.
        """
        self._check()
        text = self.message.text
        if text is None:
            raise TransientError(f"no content (finish_reason {self.finish_reason})")
        # Half a letter, in JSON's escapes, is one that cannot be read, as in bytes.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text, "max_new_tokens" if self.finish_reason == "length" else "turn"

    def first_tokens(self) -> dict[str, float]:
        """See `FirstTokens.log_p`.

        Raises:
            TransientError, FailedError: there are none, for that reason.
        """
        import numpy as np

        self._check()
        places = _of(_LogP, self.logprobs or {}).content
        found: dict[str, float] = {}
        for each in (places[0].top_logprobs if places else None) or ():
            if each.logprob is not None and isfinite(each.logprob):
                before = found.get(each.token, -np.inf)
                found[each.token] = float(np.logaddexp(before, each.logprob))
        if not found:
            raise FailedError(NO_LOG_P)
        return found

    def _check(self) -> None:
        if self.message.refusal:
            raise FailedError(f"refusal: {self.message.refusal}")
        match self.finish_reason:
            case "stop" | "eos_token" | "stop_sequence" | "length":  # two of them are TGI's
                pass
            case "content_filter":
                raise FailedError("the server's content filter withheld it")
            case "tool_calls" | "function_call":
                raise FailedError("the model called a tool")
            case None:
                raise TransientError("it does not say how it ended (no finish_reason)")
            case other:
                raise FailedError(f"it ended in a way that nobody knows (finish_reason {other!r})")


class _Choices(BaseModel):
    choices: list[Choice]


class Refusal(NamedTuple):
    """An error in the body of a reply whose status says that all is well, as gateways send.

    Attributes:
        status: that of the same error where statuses are kept.
        code: as the body gives it.
    """

    status: int
    code: Any
    message: str


class Reply(BaseModel):
    """The body of a reply. What is beside the point is not looked at before it is needed."""

    model: str | None = None
    choices: Any = None
    usage: Any = None
    error: Any = None

    @staticmethod
    def of(body: bytes) -> Reply:
        """Raises TransientError: it is cut off. FailedError: it is no reply of this protocol."""
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise TransientError(f"the reply is no JSON ({error})") from None
        return _of(Reply, value)

    @property
    def tokens(self) -> dict[str, int]:
        """How many were read and written."""
        if not isinstance(self.usage, dict):
            return {}
        names = ("prompt_tokens", "completion_tokens")
        return {name: _count(self.usage.get(name)) for name in names}

    @property
    def refusal(self) -> Refusal | None:
        """The server's, or that of one behind it, which stands in the choice."""
        first = self.choices[0] if isinstance(self.choices, list) and self.choices else None
        error = self.error or (first.get("error") if isinstance(first, dict) else None)
        if not error:
            return None
        said = error if isinstance(error, dict) else {"message": error}
        code, message = said.get("code"), said.get("message")
        known = re.fullmatch("[45][0-9][0-9]", str(code))
        parts = [str(each) for each in (code, message) if each is not None]
        return Refusal(int(known[0]) if known else 400, code, " - ".join(parts))

    def choice(self) -> Choice:
        """Raises TransientError: there is none. FailedError: it is none of this protocol."""
        if self.choices == []:
            raise TransientError("the reply is no chat completion (choices: there is none)")
        return _of(_Choices, {"choices": self.choices}).choices[0]


def _of(kind: type[Model], value: Any) -> Model:
    """Raises FailedError: the server would make the same mistake again, and be paid for it."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        said = f"{where}: {first['msg']}" if where else first["msg"]
        raise FailedError(f"the reply is no chat completion ({said})") from None


def _count(value: Any) -> int:
    """A count that is none is no reason to throw an answer away."""
    return int(value) if isinstance(value, int | float) and isfinite(value) and value > 0 else 0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, from now on."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # no date, or one of an unknown zone
            return None
    return max(0.0, seconds) if isfinite(seconds) else None
