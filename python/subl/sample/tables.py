"""Where answers come from, as a configuration says: a table `backend`, told apart by its `kind`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from subl.model.template import Template


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Transformers(_Table):
    """The model folder, in this process."""

    kind: Literal["transformers"] = Field("transformers", description="the model, in this process")


class Prices(_Table):
    """What a server charges, in any currency."""

    prompt: float = Field(ge=0, description="of a million tokens that it reads")
    completion: float = Field(ge=0, description="of a million tokens that it writes")

    def cost(self, usage: Mapping[str, int]) -> float:
        """Of so many `prompt_tokens` and `completion_tokens`."""
        read, written = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        return (read * self.prompt + written * self.completion) / 1_000_000


class Http(_Table):
    """A model behind a server that speaks OpenAI's protocol (`/chat/completions`)."""

    kind: Literal["http"] = Field(description="a server that speaks OpenAI's protocol")
    base_url: str = Field(description="up to `/chat/completions`: `http://127.0.0.1:8000/v1`")
    model: str = Field(min_length=1, description="the name by which the server knows the model")
    served_as: str | None = Field(
        None, description="the name that its answers give the model, where it is another"
    )
    key_env: str | None = Field(
        None,
        description="name of the environment variable that holds the key, such as OPENAI_API_KEY; "
        "default: none is sent",
    )
    grammars: Literal["structured_outputs", "response_format"] | None = Field(
        None,
        description="how the server takes a grammar: vLLM's `structured_outputs` (regex, "
        "json_schema), or OpenAI's `response_format` (json_schema); default: not at all",
    )
    neutral: bool = Field(
        False,
        description="whether a request also says top_k = -1, min_p = 0 and repetition_penalty = 1: "
        "a server that takes them (vLLM's, SGLang's) then does nothing else with the model's "
        "distribution, whatever its generation_config.json says",
    )
    extra_body: dict[str, Any] = Field(
        {}, description="more that each request says, of nothing that it says anyway; recorded"
    )
    leave_out: tuple[Literal["seed", "temperature", "top_p", "max_completion_tokens"], ...] = Field(
        (),
        description="what a request does not say because this server does not take it; without "
        "max_completion_tokens it says max_tokens",
    )
    concurrency: int = Field(
        16,
        gt=0,
        le=1024,
        description="requests under way at a time, at most: fewer after the server says that it "
        "is too many, then slowly more",
    )
    timeout_seconds: float = Field(120, gt=0, description="for the answer to one request")
    attempts: int = Field(8, gt=0, description="times that a request is made, at most")
    retry_seconds: float = Field(
        0.5, ge=0, description="before a second attempt, about; doubles with each further one"
    )
    give_up_seconds: float = Field(
        600, gt=0, description="for all attempts at a request, and what is waited between them"
    )
    prices: Prices | None = Field(None, description="default: tokens are counted, not their cost")
    failed_share: float = Field(
        0.02, ge=0, le=1, description="of requests that may fail; a run with more of them stops"
    )

    @property
    def name(self) -> str:
        """What its answers call the model."""
        return self.served_as or self.model

    @model_validator(mode="after")
    def _no_secret(self) -> Self:
        """Here, not at its key: what is wrong with a key is said with its value."""
        try:
            url = urlsplit(self.base_url)
            known = url.scheme in ("http", "https") and url.hostname and (url.port or True)
        except ValueError:
            known = False
        if not known:
            raise ValueError("base_url must be http://HOST… or https://HOST…")
        if "@" in url.netloc or url.query or url.fragment:
            raise ValueError(
                "base_url must hold no user, password, query or fragment: it is recorded; a key "
                "is taken from the environment (key_env)"
            )
        if self.key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.key_env):
            raise ValueError("key_env must be the name of an environment variable, not a key")
        return self

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        said = {*_SAID, self.grammars, *(NEUTRAL if self.neutral else ())}
        if twice := said & self.extra_body.keys():
            raise ValueError(
                f"extra_body must not say {min(twice)}: a request says it as the configuration "
                "does, or answers would be others than it records"
            )
        return self


class Vllm(_Table):
    """The model folder, in vLLM's engine."""

    kind: Literal["vllm"] = Field(description="the model, in vLLM's engine (on its GPUs)")
    engine: dict[str, Any] = Field(
        {}, description="its arguments: `{ tensor_parallel_size = 2, max_model_len = 4096 }`"
    )

    @model_validator(mode="after")
    def _free_arguments(self) -> Self:
        if taken := _TAKEN & self.engine.keys():
            raise ValueError(f"engine: {min(taken)} is not a configuration's to choose")
        return self


_TAKEN = frozenset(
    {"model", "tokenizer", "seed", "trust_remote_code", "load_format", "hf_overrides"}
)

_SAID = frozenset(
    {"model", "messages", "seed", "temperature", "top_p", "max_completion_tokens", "max_tokens"}
    | {"n", "stream", "logprobs", "top_logprobs"}
)
"""What requests say, or what would make another kind of answer of theirs."""

NEUTRAL: dict[str, float] = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""What leaves a model's distribution as it is."""

BackendTable = Annotated[Transformers | Http | Vllm, Field(discriminator="kind")]

UNKEYED = frozenset(
    {
        "concurrency",
        "timeout_seconds",
        "attempts",
        "retry_seconds",
        "give_up_seconds",
        "prices",
        "key_env",
        "failed_share",
    }
)
"""Of a table: what says how answers are got, not which."""


def cost_of(table: BackendTable, usage: Mapping[str, int]) -> float | None:
    """Of these tokens, in the currency of a server's prices; None where there are none."""
    if not isinstance(table, Http) or table.prices is None:
        return None
    return round(table.prices.cost(usage), 6)


def check_template(table: BackendTable, template: Template) -> None:
    """Refuse a chat template's variables beside a server, which renders with its own.

    Raises:
        ValueError: says where they go instead.
    """
    if isinstance(table, Http) and template != Template():
        raise ValueError(
            "template: a server has its own (vLLM and transformers serve take "
            "backend.extra_body = { chat_template_kwargs = { … } })"
        )
