"""Against a real server of OpenAI's protocol, that of transformers: it has a seed for all requests,
so one at a time is what makes the same answers again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from subl.errors import ConfigError, InputError
from subl.model.chat import asking
from subl.sample import Answer, Request, Sampling, backend_of

pytest.importorskip("fastapi")
REQUESTS = [Request(f"prompt {row + 1}", asking(f"Name {row} animals."), row) for row in range(6)]


@pytest.fixture(scope="module")
def address(tiny_model: Path) -> Iterator[str]:
    """`transformers serve tiny_model`, in a thread of this process."""
    from transformers.cli.serve import Serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = Serve(
        force_model=str(tiny_model),
        host="127.0.0.1",
        port=port,
        device="cpu",
        log_level="error",
        non_blocking=True,
    )
    while not serve.server.started:
        assert serve._thread.is_alive()
        serve._thread.join(0.01)
    yield f"http://127.0.0.1:{port}/v1"
    serve.kill_server()


def answers(address: str, folder: Path, **changes: Any) -> list[Answer]:
    table = {
        "kind": "http",
        "base_url": address,
        "model": str(folder),
        "served_as": f"{folder}@main",
        "concurrency": 1,
        # What the model's own configuration says of sampling is nothing: the likeliest token.
        "extra_body": {"generation_config": '{"do_sample": true, "top_k": 0, "eos_token_id": 2}'},
    }
    sampling = {"max_new_tokens": 5, **changes.pop("sampling", {}), "backend": table | changes}
    with closing(backend_of(Sampling.model_validate(sampling), None)) as backend:
        found = dict(backend.answers(REQUESTS))
    return [found[place] for place in range(len(REQUESTS))]


def test_a_real_server_answers_each_request_in_its_place(address: str, tiny_model: Path) -> None:
    first = answers(address, tiny_model)
    assert (
        answers(address, tiny_model) == first != answers(address, tiny_model, sampling={"seed": 1})
    )
    assert len({each.text for each in first}) == len(REQUESTS)
    assert {each.ended_by for each in first} <= {"turn", "max_new_tokens"}
    for each in first:
        assert each.usage["prompt_tokens"] > 10 and 1 <= each.usage["completion_tokens"] <= 5
    together = answers(address, tiny_model, concurrency=3)
    assert all(not each.failed for each in together)


def test_a_real_servers_refusals_are_told(address: str, tiny_model: Path) -> None:
    with pytest.raises(InputError, match=r"@main', and .* was asked for"):
        answers(address, tiny_model, served_as=None)
    with pytest.raises(ConfigError, match=r"has no model .* or is no such server"):
        answers(address.replace("/v1", "/v2"), tiny_model)
    refused = answers(address, tiny_model, model="another", attempts=1)
    assert all(each.failed and "pinned to" in each.text for each in refused)
    unknown = answers(address, tiny_model, extra_body={"min_q": 1})
    assert all(each.failed and "min_q" in each.text for each in unknown)
