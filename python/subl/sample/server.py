"""A model behind a server that speaks OpenAI's protocol.

Requests are made as many at a time as the server keeps up with (`Pace`), over one `Connection`.
What may be transient is tried again, in bounds. What cannot be (no such server, key or model) ends
the run. Else a request has failed, for a reason.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from subl.errors import ConfigError, InputError, StageError
from subl.extras import require
from subl.progress import Report, silent
from subl.sample.backend import (
    Answer,
    EndedBy,
    FirstTokens,
    Request,
    Requests,
    Sampling,
    request_seed,
)
from subl.sample.connection import Connection
from subl.sample.grammar import of_grammar
from subl.sample.reply import CROWDED, TRANSIENT, Choice, FailedError, Reply, TransientError
from subl.sample.reply import retry_after as seconds_to_wait
from subl.sample.tables import NEUTRAL, Http

if TYPE_CHECKING:
    from openai import APIStatusError, Omit

Read = TypeVar("Read")

_NO_MODEL = re.compile(
    r"model_not_found|\b(?:unknown|invalid|no such|not a valid) model\b"
    r"|\bmodel\W*[\w./:-]*\W*(?:does not exist|(?:is |was )?(?:not found|invalid|unknown))",
    re.IGNORECASE,
)
"""How servers say that they do not know a model where their status does not."""

_LONGEST_WAIT_SECONDS = 60.0
_QUOTED = 300
"""Characters of what a server says that an error repeats."""


class Server:
    """Answers of the model that `table` names. The same seeds make the same answers only if the
    server sees to it."""

    same_answers = False

    def __init__(self, table: Http, sampling: Sampling) -> None:
        self._table = table
        self._sampling = sampling
        self._reached = False
        self._connection: Connection | None = None

    def begin(self, requests: Requests, notes: Path, report: Report = silent) -> None:
        """See `Backend.begin`; nothing is sent yet.

        Raises:
            ConfigError: the key is not in the environment, or cannot be one.
        """
        libraries = ("openai", *(() if self._sampling.grammar is None else ("llguidance",)))
        require("api", *libraries, what='backend.kind = "http"')
        self._key()

    def answers(self, requests: Sequence[Request]) -> Generator[tuple[int, Answer], None, None]:
        """See `Backend.answers`."""
        grammar = self._sampling.grammar
        followed = None if grammar is None else of_grammar(grammar)

        def read(choice: Choice) -> tuple[str, EndedBy]:
            text, ended = choice.answer()
            if followed is None or ended != "turn":
                return text, ended
            if not followed(text):  # servers pass over what they do not know
                raise FailedError(f"the server did not follow the grammar: {text!r}"[:_QUOTED])
            return text, "grammar"

        async def ask(to: Connection, request: Request) -> Answer:
            body = self._body(request, self._sampling.max_new_tokens, self._grammar())
            said, usage = await self._ask(to, body, read)
            if isinstance(said, str):
                return Answer(said, "failed", usage)
            return Answer(*said, usage)

        return self._each(requests, ask)

    def first_tokens(
        self, requests: Sequence[Request], top: int
    ) -> Generator[tuple[int, FirstTokens], None, None]:
        """See `Backend.first_tokens`. Servers give only so many: OpenAI's and vLLM's 20."""

        async def ask(to: Connection, request: Request) -> FirstTokens:
            body = self._body(request, 1, {"logprobs": True, "top_logprobs": top})
            log_p, usage = await self._ask(to, body, Choice.first_tokens)
            if isinstance(log_p, str):
                return FirstTokens({}, log_p, usage)
            return FirstTokens(log_p, None, usage)

        return self._each(requests, ask)

    def close(self) -> None:
        """See `Backend.close`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def facts(self) -> dict[str, Any]:
        """See `Backend.facts`."""
        return {
            "server": self._table.base_url,
            "server_model": self._table.name,
            "promise": "none" if "seed" in self._table.leave_out else "same seeds",
            "distribution": self._distribution(),
        }

    def _distribution(self) -> str:
        """Whether the server may have made another of the model's, without saying so."""
        said = self._table.neutral and not {"temperature", "top_p"} & set(self._table.leave_out)
        return "as asked for" if said else "the server's"

    def _key(self) -> str | None:
        """Read when it is needed: an object that holds it could be shown.

        What no header can hold is refused here: libraries say it, in ways of their own.
        """
        name = self._table.key_env
        if name is None:
            return None
        key = os.environ.get(name, "")
        if not key:
            raise ConfigError(
                f"backend.key_env: the environment has no {name}", hint=f"export {name}=…"
            )
        if not re.fullmatch("[!-~]+", key):
            raise ConfigError(
                f"backend.key_env: {name} holds white space, or another character that no key has",
                hint="a newline at the end, of a file that it was read from?",
            )
        return key

    def _body(self, request: Request, max_tokens: int, more: dict[str, Any]) -> dict[str, Any]:
        left_out = self._table.leave_out
        limit = "max_tokens" if "max_completion_tokens" in left_out else "max_completion_tokens"
        body = {
            "model": self._table.model,
            "messages": [turn._asdict() for turn in request.turns],
            "temperature": self._sampling.temperature,
            "top_p": 1.0,
            limit: max_tokens,
            "seed": request_seed(self._sampling.seed, request.number),
            **(NEUTRAL if self._table.neutral else {}),
            **more,
        }
        for name in left_out:
            body.pop(name, None)
        return {**body, **self._table.extra_body}

    def _headers(self) -> dict[str, str | Omit]:
        """Nothing that the client would take from the environment: who wants a key sent says so."""
        from openai import Omit

        custom = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
        unasked = [each.partition(":")[0].strip() for each in custom]
        key = self._key()
        return {
            **dict.fromkeys([*unasked, "OpenAI-Organization", "OpenAI-Project"], Omit()),
            "Authorization": Omit() if key is None else f"Bearer {key}",
            "Content-Type": "application/json",
        }

    def _grammar(self) -> dict[str, Any]:
        grammar = self._sampling.grammar
        if grammar is None:
            return {}
        if self._table.grammars == "response_format":
            named = {"name": "completion", "schema": grammar.json_schema, "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": named}}
        wanted = {"regex": grammar.regex, "json": grammar.json_schema}
        return {"structured_outputs": {k: each for k, each in wanted.items() if each is not None}}

    def _each(
        self, requests: Sequence[Request], ask: Callable[[Connection, Request], Awaitable[Read]]
    ) -> Generator[tuple[int, Read], None, None]:
        if self._connection is None:
            self._connection = Connection(self._table)
        yield from self._connection.each(requests, ask)

    async def _ask(
        self, to: Connection, body: dict[str, Any], read: Callable[[Choice], Read]
    ) -> tuple[Read | str, dict[str, int]]:
        """What `read` finds in the reply, or why it failed; and the tokens of all attempts."""
        usage: Counter[str] = Counter()
        clock = asyncio.get_running_loop().time
        end, attempt, wait = clock() + self._table.give_up_seconds, 0, 0.0
        while True:
            attempt += 1
            try:
                async with to.pace.turn() as turn:
                    try:
                        found = read(await self._post(to, body, usage))
                    except TransientError as error:
                        wait = self._wait(attempt, error.wait)
                        if error.crowded:
                            # Who has to give up on it keeps no others waiting.
                            turn.slower(wait if error.wait and clock() + wait < end else 0.0)
                        raise
                    turn.faster()
                    return found, dict(usage)
            except FailedError as error:
                return self._said(error), dict(usage)
            except TransientError as error:
                if attempt < self._table.attempts and clock() + wait < end:
                    await asyncio.sleep(wait)
                    continue
                if error.unreachable:
                    raise StageError(
                        f"{self._table.base_url} is gone: {error}",
                        hint="the same command goes on when it is back",
                    ) from None
                return f"{error} (attempt {attempt})", dict(usage)

    def _wait(self, attempt: int, asked: float | None) -> float:
        """Seconds before the next attempt, no fewer than the server asks for: some ask for none.

        The randomness keeps requests from coming together.
        """
        own = min(self._table.retry_seconds * 2.0 ** (attempt - 1), _LONGEST_WAIT_SECONDS)
        return max(own, asked or 0.0) * random.uniform(1.0, 1.5)

    async def _post(self, to: Connection, body: dict[str, Any], usage: Counter[str]) -> Choice:
        """One attempt, whose tokens are added to `usage`.

        Raises:
            SublError: no attempt at any request will do.
            TransientError, FailedError: this one did not.
        """
        import httpx2
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        try:
            async with asyncio.timeout(self._table.timeout_seconds):
                got = await to.client.post(
                    "/chat/completions",
                    body=body,
                    cast_to=httpx2.Response,
                    options={"headers": self._headers()},
                )
        except (TimeoutError, APITimeoutError):
            raise TransientError(f"no reply in {self._table.timeout_seconds:g} s") from None
        except APIStatusError as error:
            self._reached = True
            raise self._refused(error) from None
        except APIConnectionError as error:
            cause = error.__cause__ or error
            unreachable = isinstance(cause, httpx2.ConnectError)
            if unreachable and not self._reached:
                raise InputError(
                    f"cannot reach {self._table.base_url}: {self._said(cause)}",
                    hint="is the server there? backend.base_url says where it is looked for",
                ) from None
            reason = f"the connection broke ({self._said(cause)})"
            raise TransientError(reason, unreachable=unreachable) from None
        self._reached = True
        reply = Reply.of(got.content)
        usage.update(reply.tokens)
        if refusal := reply.refusal:
            said = self._said(refusal.message)
            raise self._meaning(refusal.status, refusal.code, said, got.headers)
        asked = self._table.name
        if reply.model != asked:
            raise InputError(
                f"{self._table.base_url} answers with the model {reply.model!r}, and {asked!r} was "
                "asked for",
                hint=f"if it is the right one: backend.served_as = {reply.model!r}"
                if reply.model
                else None,
            )
        return reply.choice()

    def _refused(self, error: APIStatusError) -> Exception:
        """What a status that is no success means."""
        said = self._said(error)
        if " - " not in said:  # it quotes only what is where OpenAI says it
            said = self._said(f"{said} - {error.response.text.strip()}")
        return self._meaning(error.status_code, error.code, said, error.response.headers)

    def _meaning(self, status: int, code: Any, said: str, headers: Mapping[str, str]) -> Exception:
        """What an error means, which says `said` to a person."""
        where, name = self._table.base_url, self._table.key_env
        if status in (401, 403):
            what = "asks for a key" if name is None else f"does not take the key in {name}"
            return ConfigError(f"{where} {what}: {said}", hint="backend.key_env names its variable")
        if status == 404 or (status in (400, 422) and _NO_MODEL.search(f"{code} {said}")):
            return ConfigError(
                f"{where} has no model {self._table.model!r}, or is no such server: {said}",
                hint="check backend.model and backend.base_url",
            )
        if status == 402 or code == "insufficient_quota":
            return StageError(
                f"{where} wants to be paid: {said}",
                hint="the same command goes on when it is",
            )
        if status in TRANSIENT:
            wait = seconds_to_wait(headers)
            return TransientError(said, wait=wait, crowded=status in CROWDED)
        return FailedError(said)

    def _said(self, error: BaseException | str) -> str:
        """What an error says: servers repeat keys, and may send anything."""
        import httpx2

        text = str(error) or type(error).__name__
        if isinstance(error, httpx2.LocalProtocolError):  # it repeats what was to be sent
            text = type(error).__name__
        if key := self._key():
            text = text.replace(key, "…")
        return "".join(each if each.isprintable() else " " for each in text)[:_QUOTED]
