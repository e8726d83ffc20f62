"""What a stage knows of a model that answers: requests go in, answers come out as they are made.

A request has randomness of its own, named by the run's seed and the request's number, which is the
same however requests are ordered, batched, spread over ranks or asked again. Whether that makes the
same answers, too, depends on what computes them: `Backend.same_answers`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from subl.model.chat import Turn
from subl.model.template import Template
from subl.progress import Report, silent
from subl.sample.grammar import NamedGrammar
from subl.sample.tables import BackendTable, Http, Transformers, check_template

Answered = TypeVar("Answered")
Read = TypeVar("Read")

NO_LOG_P = "the server gave no log-probabilities"
"""Why there are no first tokens, where there are never any."""

EndedBy = Literal["turn", "control_token", "max_new_tokens", "grammar", "failed"]


@dataclass(frozen=True)
class Request:
    """Turns that are to be answered.

    Attributes:
        name: what an error calls it, such as `prompt 7`.
        turns: at least one, the user's last.
        number: with the seed it is what the randomness of the answer depends on; below 2**64.
    """

    name: str
    turns: tuple[Turn, ...]
    number: int


@dataclass(frozen=True)
class Answer:
    """What a model said. With `ended_by` "failed" it said nothing, for the reason in `text`.

    `usage`: counts that add up over answers, such as tokens that a server charges for.
    """

    text: str
    ended_by: EndedBy
    usage: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.ended_by == "failed"


@dataclass(frozen=True)
class FirstTokens:
    """How an answer may begin.

    Attributes:
        log_p: natural logarithms of the model's own probabilities of the likeliest first tokens, by
            their texts.
        failure: why there are none.
        usage: as an answer's.
    """

    log_p: dict[str, float]
    failure: str | None = None
    usage: dict[str, int] = field(default_factory=dict)


class Sampling(BaseModel):
    """How answers are drawn: from the model's own softmax, over what a grammar allows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: BackendTable = Field(
        Transformers(), description="what the model runs in; default: this process"
    )
    grammar: NamedGrammar | None = Field(
        None, description="what a completion must be, or the name of a shipped grammar"
    )
    template: Template = Template()
    temperature: float = Field(
        1.0,
        gt=0,
        description="of the model's own softmax; its generation_config.json changes nothing",
    )
    max_new_tokens: int = Field(
        64, gt=0, description="of a completion; what is longer is cut, by a grammar or not"
    )
    seed: int = Field(0, ge=0, lt=2**64, description="of what is drawn")
    batch_rows: int = Field(64, gt=0, description="completions that are sampled at a time")

    @property
    def failed_share(self) -> float:
        """Of requests that may fail."""
        return self.backend.failed_share if isinstance(self.backend, Http) else 0.0

    @model_validator(mode="after")
    def _goes_with_the_backend(self) -> Self:
        check_template(self.backend, self.template)
        if not isinstance(self.backend, Http):
            return self
        ways = {"structured_outputs": ("regex", "json_schema"), "response_format": ("json_schema",)}
        if self.grammar is not None and self.grammar.kind not in ways.get(
            self.backend.grammars or "", ()
        ):
            raise ValueError(
                f"grammar: how the server takes a {self.grammar.kind} is not said "
                '(backend.grammars = "structured_outputs" for vLLM: regex and json_schema; '
                '"response_format": json_schema)'
            )
        return self


Requests = Callable[[], Iterator[Request]]
"""All requests of a run, from the first; made anew at each call, and the same ones."""


class Backend(Protocol):
    """A model that answers."""

    same_answers: bool
    """Whether a request's answer depends on nothing but the model, the sampling and the request."""

    def begin(self, requests: Requests, notes: Path, report: Report = silent) -> None:
        """Refuse what cannot be answered, before the first answer is made.

        Args:
            requests: all of the run's.
            notes: a file that it may write what it found out to, and finds again when an
                interrupted run goes on; the caller's to delete.

        Raises:
            InputError: names the request.
        """

    def answers(self, requests: Sequence[Request]) -> Generator[tuple[int, Answer], None, None]:
        """An answer to each, with its place among them, in the order in which they are made.

        Who stops before the last one closes it: what is under way somewhere else may cost. What was
        answered already can be had before (`rest_of`).
        """

    def first_tokens(
        self, requests: Sequence[Request], top: int
    ) -> Generator[tuple[int, FirstTokens], None, None]:
        """The `top` likeliest first tokens of an answer to each, with its place, as in `answers`.

        Temperature and grammar change nothing of them.
        """

    def facts(self) -> dict[str, Any]:
        """What an artifact should say of how answers were made."""

    def close(self) -> None:
        """Nobody asks any more; all that it gave is closed."""


def request_seed(seed: int, number: int) -> int:
    """What another program draws one request's answer with: below 2**31, which all of them take."""
    digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def rest_of(came: Generator[Answered, None, None]) -> Iterator[Answered]:
    """What answers there are already, of those that nobody waits for any more."""
    with suppress(KeyboardInterrupt, StopIteration):
        yield came.throw(KeyboardInterrupt())
        yield from came


def kept(
    came: Generator[tuple[int, Answered], None, None], keep: Callable[[int, Answered], None]
) -> Generator[tuple[int, Answered], None, None]:
    """`came`, of which all that is there is kept, whether it is handed on or not."""
    with closing(came):
        try:
            for each in came:
                keep(*each)
                yield each
        except BaseException:  # there, or of whom they are for, who closes this: such as a signal
            for each in rest_of(came):
                keep(*each)
            raise


def handed_on(
    came: Generator[tuple[int, Answered], None, None],
    read: Callable[[int, Answered], Iterable[Read]],
) -> Generator[Read, None, None]:
    """What `read` makes of each answer and its place; to be left as `Backend.answers` is."""
    with closing(came):
        try:
            for each in came:
                yield from read(*each)
        except GeneratorExit:
            raise
        except BaseException:
            for each in rest_of(came):
                yield from read(*each)
            raise
