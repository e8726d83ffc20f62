"""What a server's reply means, in OpenAI's protocol: an answer, another attempt, or a failure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite

from pydantic import BaseModel, Field, ValidationError

from subl.sample.backend import EndedBy

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


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Token(BaseModel):
    token: str
    logprob: float


class _Place(_Token):
    top_logprobs: list[_Token] = []


class _LogP(BaseModel):
    content: list[_Place] | None = None


class Choice(BaseModel):
    """What the model said."""

    message: _Message
    finish_reason: str | None = None
    logprobs: _LogP | None = None

    def answer(self) -> tuple[str, EndedBy]:
        """The text, and what it ends at.

        Raises:
            TransientError, FailedError: there is none, for that reason.
        """
        self._check()
        if self.message.content is None:
            raise TransientError(f"no content (finish_reason {self.finish_reason})")
        return self.message.content, "turn" if self.finish_reason == "stop" else "max_new_tokens"

    def first_tokens(self) -> dict[str, float]:
        """See `FirstTokens.log_p`.

        Raises:
            TransientError, FailedError: there are none, for that reason.
        """
        import numpy as np

        self._check()
        if self.logprobs is None or not self.logprobs.content:
            raise FailedError("the server gave no log-probabilities")
        found: dict[str, float] = {}
        for each in self.logprobs.content[0].top_logprobs or self.logprobs.content[:1]:
            found[each.token] = float(np.logaddexp(found.get(each.token, -np.inf), each.logprob))
        return found

    def _check(self) -> None:
        if self.message.refusal is not None:
            raise FailedError(f"refusal: {self.message.refusal}")
        match self.finish_reason:
            case "stop" | "length":
                pass
            case "content_filter":
                raise FailedError("the server's content filter withheld it")
            case "tool_calls" | "function_call":
                raise FailedError("the model called a tool")
            case None:
                raise TransientError("it does not say how it ended (no finish_reason)")
            case other:
                raise FailedError(f"it ended in a way that nobody knows (finish_reason {other!r})")


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Reply(BaseModel):
    """The body of a reply."""

    model: str | None = None
    choices: list[Choice] = Field(min_length=1)
    usage: _Usage | None = None

    @staticmethod
    def of(body: bytes) -> Reply:
        """Raises TransientError: it is cut off, or no reply of this protocol."""
        try:
            return Reply.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            said = f"{where}: {first['msg']}" if where else first["msg"]
            raise TransientError(f"the reply is no chat completion ({said})") from None

    @property
    def tokens(self) -> dict[str, int]:
        """How many were read and written."""
        return {} if self.usage is None else self.usage.model_dump()


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
