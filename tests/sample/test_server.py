"""A model behind a server that does wrong what servers do: each request is answered once, in its
place, or has failed for a reason."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Condition, Event
from threading import enumerate as enumerate_threads
from time import monotonic
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subl.errors import ConfigError, InputError, StageError, SublError
from subl.model.chat import asking
from subl.sample import (
    Answer,
    Failures,
    FirstTokens,
    Request,
    Sampling,
    answered,
    backend_of,
)
from subl.sample.backend import request_seed
from subl.sample.journal import journaled
from subl.sample.server import Server

from .serving import MODEL, Reply, Serving, completion, error, said

SECRET = "sk-nobody-must-see-this"


def requests(count: int, system_prompt: str | None = None) -> list[Request]:
    return [
        Request(f"prompt {number + 1}", asking(f"row {number}", system_prompt), number)
        for number in range(count)
    ]


def server_of(serving: Serving, sampling: dict[str, Any] | None = None, **table: Any) -> Server:
    spec = {"backend": serving.table(**table), **(sampling or {})}
    backend = backend_of(Sampling.model_validate(spec), None)
    assert isinstance(backend, Server)
    serving.clients.callback(backend.close)
    return backend


def answers(backend: Server, asked: Sequence[Request]) -> list[Answer]:
    """In their places, which must each come once."""
    came = list(backend.answers(asked))
    assert sorted(place for place, _ in came) == list(range(len(asked)))
    return [answer for _, answer in sorted(came, key=lambda each: each[0])]


def asked_in(body: dict[str, Any]) -> int:
    return int(body["messages"][-1]["content"].removeprefix("row "))


def test_a_request_says_what_the_configuration_says(serving: Serving) -> None:
    backend = server_of(
        serving,
        {"temperature": 0.5, "max_new_tokens": 9, "seed": 3},
        leave_out=["top_p"],
        extra_body={"min_p": 0.1},
    )
    (answer,) = answers(backend, requests(1, "You love owls."))
    assert answer == Answer("said: row 0", "turn", {"prompt_tokens": 5, "completion_tokens": 2})
    assert serving.bodies == [
        {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "You love owls."},
                {"role": "user", "content": "row 0"},
            ],
            "temperature": 0.5,
            "max_completion_tokens": 9,
            "seed": request_seed(3, 0),
            "min_p": 0.1,
        }
    ]
    assert backend.facts()["promise"] == "same seeds"


def test_seeds_belong_to_requests() -> None:
    seeds = {request_seed(seed, number) for seed in range(10) for number in range(100)}
    assert len(seeds) == 1000 and all(0 <= each < 2**31 for each in seeds)
    assert request_seed(42, 7) == 1725894682


TRANSIENT: dict[str, Reply] = {
    "crowded": error(429, Retry_After="0"),
    "crowded, without a time": error(503),
    "broken": error(500),
    "no gateway": Reply("<html>502</html>", 502),
    "in disguise": Reply('{"error": {"code": 429, "message": "Rate limit exceeded"}}'),
    "behind a gateway": completion(
        "", choice={"finish_reason": "error", "error": {"code": 502, "message": "provider down"}}
    ),
    "cut off": completion("owl", choice={"finish_reason": "stop"}),
    "half a body": Reply(completion("owl").body[:40]),
    "no JSON": Reply("owl"),
    "no choices": completion("owl", choices=[]),
    "no content": completion(None),
    "no end": completion("owl", choice={"finish_reason": None}),
}
TRANSIENT["cut off"] = Reply(TRANSIENT["cut off"].body, missing_bytes=20)
FINAL: dict[str, tuple[Reply, str]] = {
    "bad request": (error(400, "too long"), "too long"),
    "in another form": (Reply('{"detail": "too large"}', 422), '422 - {"detail": "too large'),
    "filtered": (completion("", choice={"finish_reason": "content_filter"}), "content filter"),
    "refused": (completion(None, message={"refusal": "I won't"}), "refusal: I won't"),
    "tool": (completion(None, choice={"finish_reason": "tool_calls"}), "called a tool"),
    "new end": (completion("owl", choice={"finish_reason": "error"}), "finish_reason 'error'"),
    "another JSON": (Reply('["owl"]'), "no chat completion"),
    "no list": (completion("owl", choices=None), "no chat completion (choices: "),
    "no text": (completion(None, message={"content": 3}), "(choices.0.message.content"),
    "an error of no status": (Reply('{"error": {"message": "too long"}}'), "too long"),
    "an error in a word": (Reply('{"error": "busy"}'), "busy"),
}
ATTEMPTS = 3


@given(st.lists(st.lists(st.sampled_from([*TRANSIENT, *FINAL]), max_size=ATTEMPTS), max_size=12))
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_each_request_is_answered_once_or_has_failed_for_a_reason(
    serving: Serving, faults: list[list[str]]
) -> None:
    def reply(body: dict[str, Any], time: int) -> Reply:
        mine = faults[asked_in(body)]
        if time >= len(mine):
            return said(body)
        return TRANSIENT[mine[time]] if mine[time] in TRANSIENT else FINAL[mine[time]][0]

    serving.forget()
    serving.reply = reply
    came = answers(server_of(serving, attempts=ATTEMPTS, concurrency=4), requests(len(faults)))
    for row, (answer, mine) in enumerate(zip(came, faults, strict=True)):
        final = next((each for each in mine if each in FINAL), None)
        if final is not None:
            assert answer.ended_by == "failed" and FINAL[final][1] in answer.text
        elif len(mine) == ATTEMPTS:
            assert answer.ended_by == "failed" and f"(attempt {ATTEMPTS})" in answer.text
        else:
            assert (answer.text, answer.ended_by) == (f"said: row {row}", "turn")
    tries = [
        next((at for at, each in enumerate(mine) if each in FINAL), len(mine)) for mine in faults
    ]
    assert len(serving.bodies) == sum(min(each + 1, ATTEMPTS) for each in tries)


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_reason_says_what_was_wrong(serving: Serving, fault: str) -> None:
    serving.reply = lambda body, time: TRANSIENT[fault]
    (answer,) = answers(server_of(serving, attempts=2), requests(1))
    expected = {
        "crowded": "429",
        "crowded, without a time": "503",
        "broken": "500",
        "no gateway": "502",
        "in disguise": "429 - Rate limit exceeded (attempt 2)",
        "behind a gateway": "502 - provider down (attempt 2)",
        "cut off": "the connection broke",
        "half a body": "the reply is no JSON (",
        "no JSON": "the reply is no JSON (",
        "no choices": "no chat completion (choices: ",
        "no content": "no content (finish_reason stop)",
        "no end": "no finish_reason",
    }
    assert answer.failed and expected[fault] in answer.text


@given(st.permutations(range(6)))
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_rows_land_in_their_places_whatever_order_answers_come_in(
    serving: Serving, order: list[int]
) -> None:
    """The server answers in this order, and no other."""
    turn, left = Condition(), list(order)

    def reply(body: dict[str, Any], time: int) -> Reply:
        with turn:
            turn.wait_for(lambda: left[0] == asked_in(body))
            left.pop(0)
            turn.notify_all()
        return said(body)

    serving.reply = reply
    came = answers(server_of(serving, concurrency=len(order)), requests(len(order)))
    assert [answer.text for answer in came] == [f"said: row {row}" for row in range(len(order))]


def test_no_more_requests_are_under_way_than_the_server_keeps_up_with(serving: Serving) -> None:
    answers(server_of(serving, concurrency=3), requests(30))
    assert 1 <= serving.most_at_once <= 3


def test_what_a_server_keeps_up_with_is_remembered_between_parts(serving: Serving) -> None:
    """Of eight at a time one is too many: from then on they are four, then five."""
    serving.reply = lambda body, time: said(body) if time else error(429)
    backend = server_of(serving, concurrency=8)
    answers(backend, requests(1))
    eight = Barrier(8)

    def reply(body: dict[str, Any], time: int) -> Reply:
        with suppress(BrokenBarrierError):  # they never come
            eight.wait(timeout=0.3)
        return said(body)

    serving.reply = reply
    answers(backend, requests(8))
    assert serving.most_at_once <= 5


def test_parts_are_asked_for_over_one_connection_until_it_is_closed(serving: Serving) -> None:
    backend = server_of(serving, concurrency=1)
    for _ in range(2):
        answers(backend, requests(2))
    assert len(serving.connections) == 1
    backend.close()
    assert "subl-requests" not in {thread.name for thread in enumerate_threads()}


def test_a_slow_answer_is_not_waited_for(serving: Serving) -> None:
    serving.reply = lambda body, time: None if asked_in(body) == 1 and not time else said(body)
    backend = server_of(serving, timeout_seconds=0.3)
    assert [each.text for each in answers(backend, requests(3))] == [
        "said: row 0", "said: row 1", "said: row 2"
    ]  # fmt: skip
    serving.reply = lambda body, time: None
    (answer,) = answers(server_of(serving, timeout_seconds=0.1, attempts=2), requests(1))
    assert answer == Answer("no reply in 0.1 s (attempt 2)", "failed")


def test_who_is_told_to_wait_too_long_gives_up(serving: Serving) -> None:
    serving.reply = lambda body, time: error(429, "come back tomorrow", Retry_After="86400")
    came = answers(server_of(serving, concurrency=1), requests(3))
    for answer in came:
        assert answer.failed and "come back tomorrow" in answer.text
        assert "(attempt 1)" in answer.text


def test_tokens_of_replies_without_an_answer_count(serving: Serving) -> None:
    serving.reply = lambda body, time: said(body) if time else completion(None)
    (answer,) = answers(server_of(serving), requests(1))
    assert answer.usage == {"prompt_tokens": 10, "completion_tokens": 4}


@pytest.mark.parametrize("attempts", [1, 2])
def test_tokens_of_replies_of_another_shape_count(serving: Serving, attempts: int) -> None:
    wrong = completion("owl", choice={"message": "owl"}), completion("owl", choices=[])
    serving.reply = lambda body, time: wrong[attempts - 1]
    (answer,) = answers(server_of(serving, attempts=attempts), requests(1))
    assert answer.failed
    assert answer.usage == {"prompt_tokens": 5 * attempts, "completion_tokens": 2 * attempts}


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (completion("owl", usage={"prompt_tokens": 5, "completion_tokens": None}), "owl"),
        (completion("owl", usage={"prompt_tokens": 5.0, "completion_tokens": "two"}), "owl"),
        (completion("owl", usage="5"), "owl"),
        (completion("owl", message={"refusal": ""}), "owl"),
        (completion("owl", error=None, choice={"error": {}}), "owl"),
        (completion("owl", choice={"logprobs": {"content": [{"token": None}]}}), "owl"),
        (completion("owl", choice={"logprobs": [float("nan")]}), "owl"),
        (completion("", choice={"finish_reason": "length"}), ""),
        (completion("half an \ud83e"), "half an \ufffd"),
        (completion("an \ud83e\udd89"), "an 🦉"),
        (
            completion(
                None,
                message={
                    "content": [
                        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                        {"type": "text", "text": "an "},
                        {"type": "text", "text": "owl"},
                    ]
                },
            ),
            "an owl",
        ),
    ],
)
def test_no_answer_is_thrown_away_for_what_is_beside_it(
    serving: Serving, reply: Reply, text: str
) -> None:
    serving.reply = lambda body, time: reply
    (answer,) = answers(server_of(serving), requests(1))
    assert (answer.text, answer.failed) == (text, False)
    assert answer.usage.get("prompt_tokens", 5) == 5
    assert answer.usage.get("completion_tokens", 0) in (0, 2)
    assert len(serving.bodies) == 1


def test_an_error_in_the_body_slows_requests_down(serving: Serving) -> None:
    """As the same one in a status does: half as many, and nothing for as long as it says."""
    crowded = Reply('{"error": {"code": 429, "message": "no"}}', headers={"Retry_After": "0.2"})
    times = []

    def reply(body: dict[str, Any], time: int) -> Reply:
        times.append(monotonic())
        return said(body) if len(times) > 1 else crowded

    serving.reply = reply
    came = answers(server_of(serving, concurrency=1), requests(3))
    assert [each.text for each in came] == ["said: row 0", "said: row 1", "said: row 2"]
    assert times[1] - times[0] >= 0.2


@pytest.mark.parametrize("asked", ["0", "-1", "Thu, 26 Nov 2020 10:00:00 GMT"])
def test_a_server_that_asks_for_no_wait_is_not_hurried(serving: Serving, asked: str) -> None:
    times = []

    def reply(body: dict[str, Any], time: int) -> Reply:
        times.append(monotonic())
        return said(body) if time == 3 else error(429, Retry_After=asked)

    serving.reply = reply
    answers(server_of(serving, retry_seconds=0.02), requests(1))
    waits = [after - before for before, after in pairwise(times)]
    assert waits[0] >= 0.02 and waits[1] >= 0.04 and waits[2] >= 0.08


def test_an_end_at_the_limit_and_one_of_a_grammar_are_told(serving: Serving) -> None:
    serving.reply = lambda body, time: completion(
        "12", choice={"finish_reason": "length" if asked_in(body) else "stop"}
    )
    sampling = {"grammar": {"regex": "[0-9]+"}}
    backend = server_of(serving, sampling, grammars="structured_outputs")
    assert [each.ended_by for each in answers(backend, requests(2))] == [
        "grammar", "max_new_tokens"
    ]  # fmt: skip
    assert serving.bodies[0]["structured_outputs"] == {"regex": "[0-9]+"}


@pytest.mark.parametrize("reason", ["eos_token", "stop_sequence"])
def test_an_end_may_be_called_as_text_generation_inference_does(
    serving: Serving, reason: str
) -> None:
    serving.reply = lambda body, time: completion("owl", choice={"finish_reason": reason})
    (answer,) = answers(server_of(serving), requests(1))
    assert (answer.text, answer.ended_by) == ("owl", "turn")


def test_a_server_that_passes_over_the_grammar_is_found_out(serving: Serving) -> None:
    grammar: dict[str, Any]
    for grammar in ({"regex": "[0-9]+, [0-9]+"}, {"json_schema": {"type": "string"}}):
        backend = server_of(serving, {"grammar": grammar}, grammars="structured_outputs")
        for text, ended_by in (("12, 3", "grammar"), ("12, ", "failed"), ("an owl", "failed")):
            said = text if "regex" in grammar or ended_by == "failed" else f'"{text}"'
            serving.reply = lambda body, time, said=said: completion(said)
            (answer,) = answers(backend, requests(1))
            assert answer.ended_by == ended_by, answer
            if ended_by == "failed":
                assert answer.text == f"the server did not follow the grammar: {text!r}"


def test_a_schema_is_said_in_the_servers_way(serving: Serving) -> None:
    schema = {"enum": ["owl", "cat"]}
    serving.reply = lambda body, time: completion('"owl"')
    for way in ("structured_outputs", "response_format"):
        answers(server_of(serving, {"grammar": {"json_schema": schema}}, grammars=way), requests(1))
    assert serving.bodies[0]["structured_outputs"] == {"json": schema}
    assert serving.bodies[1]["response_format"]["json_schema"]["schema"] == schema


@pytest.mark.parametrize(
    ("grammars", "grammar", "kind"),
    [
        (None, {"regex": "[0-9]"}, "regex"),
        ("response_format", {"regex": "[0-9]"}, "regex"),
        ("structured_outputs", {"lark": 'start: "owl"'}, "lark"),
    ],
)
def test_a_grammar_that_the_server_does_not_take_is_refused(
    serving: Serving, grammars: str | None, grammar: dict[str, Any], kind: str
) -> None:
    with pytest.raises(ValueError, match=f"takes a {kind} is not said"):
        server_of(serving, {"grammar": grammar}, grammars=grammars)


def test_first_tokens_have_probabilities(serving: Serving) -> None:
    top = [("78", -0.5), ("80", -1.5), ("80", -1.5)]
    first = {"token": "78", "logprob": -0.5}
    first["top_logprobs"] = [{"token": text, "logprob": log_p} for text, log_p in top]
    serving.reply = lambda body, time: completion(
        "78", choice={"finish_reason": "length", "logprobs": {"content": [first]}}
    )
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    ((_, found),) = server_of(serving).first_tokens(requests(1), 3)
    assert found == FirstTokens({"78": -0.5, "80": pytest.approx(-0.8068528)}, None, usage)
    assert serving.bodies[0]["max_completion_tokens"] == 1
    assert serving.bodies[0]["top_logprobs"] == 3 and serving.bodies[0]["logprobs"] is True
    serving.reply = lambda body, time: said(body)
    ((_, found),) = server_of(serving).first_tokens(requests(1), 3)
    assert found == FirstTokens({}, "the server gave no log-probabilities", usage)


@pytest.mark.parametrize("log_p", [None, float("nan"), float("-inf"), float("inf")])
def test_a_first_token_without_a_probability_is_none(serving: Serving, log_p: float | None) -> None:
    top = [{"token": "8", "logprob": -0.1}, {"token": "9", "logprob": log_p}]
    serving.reply = lambda body, time: completion(
        "8", choice={"logprobs": {"content": [{**top[0], "top_logprobs": top[time:]}]}}
    )
    server = server_of(serving)
    ((_, found),) = server.first_tokens(requests(1), 2)
    assert found.log_p == {"8": -0.1}
    ((_, found),) = server.first_tokens(requests(1), 2)
    assert found.log_p == {} and found.failure == "the server gave no log-probabilities"


@pytest.mark.parametrize(
    "given",
    [
        {"content": [{"token": "8", "logprob": -0.1, "top_logprobs": None}]},
        {"content": []},
        {"tokens": ["8"], "token_logprobs": [-0.1], "top_logprobs": [{"8": -0.1}]},
        {"content": [{"top_logprobs": [{"logprob": -0.1}]}]},
    ],
)
def test_probabilities_that_are_none_are_asked_for_once(
    serving: Serving, given: dict[str, Any]
) -> None:
    serving.reply = lambda body, time: completion("8", choice={"logprobs": given})
    ((_, found),) = server_of(serving).first_tokens(requests(1), 2)
    assert found.log_p == {} and found.failure
    assert len(serving.bodies) == 1


# What no attempt will change ends the run at once.


@pytest.mark.parametrize(
    ("reply", "kind", "message", "hint"),
    [
        (error(401, "who?"), ConfigError, "asks for a key: .*who", "backend.key_env"),
        (error(403, "no"), ConfigError, "asks for a key", "backend.key_env"),
        (
            error(404, "no such model"),
            ConfigError,
            "has no model 'owl-1'.*no such",
            "backend.model",
        ),
        (error(400, "The model `owl-1` does not exist"), ConfigError, "has no model", "backend.mo"),
        (error(422, "owl-1 is not a valid model ID"), ConfigError, "has no model", "backend.model"),
        (error(402, "empty"), StageError, "wants to be paid: .*empty", "goes on"),
        (
            Reply('{"error": {"code": "402", "message": "no credits"}}'),
            StageError,
            "wants to be paid: 402 - no credits",
            "goes on",
        ),
        (completion("owl", model="cat-2"), InputError, "'cat-2', and 'owl-1' was", "served_as"),
        (completion("owl", model=None), InputError, "the model None", None),
        (
            Reply('{"error": {"message": "", "code": "insufficient_quota"}}', 429),
            StageError,
            "wants to be paid",
            "goes on",
        ),
    ],
)
def test_what_no_attempt_will_change_is_said_at_once(
    serving: Serving, reply: Reply, kind: type[SublError], message: str, hint: str | None
) -> None:
    serving.reply = lambda body, time: reply
    with pytest.raises(kind, match=message) as caught:
        list(server_of(serving, concurrency=1).answers(requests(5)))
    assert serving.url in caught.value.message
    assert hint is None or hint in str(caught.value.hint)
    assert len(serving.bodies) == 1


def test_another_name_of_the_model_can_be_the_right_one(serving: Serving) -> None:
    serving.reply = lambda body, time: completion("owl", model="owl-1-2026-07-18")
    backend = server_of(serving, served_as="owl-1-2026-07-18")
    assert answers(backend, requests(1))[0].text == "owl"
    assert serving.bodies[0]["model"] == MODEL
    assert backend.facts()["server_model"] == "owl-1-2026-07-18"


@pytest.mark.parametrize("host", ["127.0.0.1:9", "nobody.invalid"])
def test_a_server_that_is_not_there_is_named(serving: Serving, host: str) -> None:
    backend = server_of(serving, base_url=f"http://{host}/v1")
    with pytest.raises(InputError, match=f"cannot reach http://{host}/v1: ") as caught:
        list(backend.answers(requests(3)))
    assert "backend.base_url" in str(caught.value.hint)


def test_a_server_that_goes_away_ends_the_run_and_no_row(serving: Serving) -> None:
    serving.reply = lambda body, time: replace(said(body), headers={"connection": "close"})
    backend = server_of(serving, attempts=2)
    assert len(answers(backend, requests(2))) == 2
    serving.close()
    with pytest.raises(StageError, match="is gone") as caught:
        list(backend.answers(requests(2)))
    assert "goes on" in str(caught.value.hint)


# The key.


def test_a_key_comes_from_the_environment_and_is_never_said(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = server_of(serving, key_env="OWL_KEY")
    with pytest.raises(ConfigError, match=r"backend\.key_env: the environment has no OWL_KEY"):
        backend.begin(lambda: iter(requests(1)), notes=None)  # type: ignore[arg-type]
    monkeypatch.setenv("OWL_KEY", SECRET)
    answers(backend, requests(1))
    assert serving.keys == {f"Bearer {SECRET}"}
    serving.reply = lambda body, time: error(400, f"your key {SECRET} is \x1b[31mfine")
    (answer,) = answers(backend, requests(1))
    assert "your key … is  [31mfine" in answer.text
    serving.reply = lambda body, time: error(401, f"wrong key: {SECRET}")
    with pytest.raises(ConfigError, match="does not take the key in OWL_KEY") as caught:
        list(backend.answers(requests(1)))
    for told in (caught.value, caught.value.__cause__, backend, vars(backend), backend.facts()):
        assert SECRET not in repr(told) + str(told)


def test_what_a_library_says_of_what_was_to_be_sent_is_not_repeated(serving: Serving) -> None:
    from httpx2 import LocalProtocolError

    wrong = LocalProtocolError(f"Illegal header value b'Bearer {SECRET}\\n'")
    assert server_of(serving)._said(wrong) == "LocalProtocolError"


def test_no_key_is_sent_that_was_not_asked_for(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", SECRET)
    monkeypatch.setenv("OPENAI_ORG_ID", SECRET)
    monkeypatch.setenv("OPENAI_PROJECT_ID", SECRET)
    monkeypatch.setenv(
        "OPENAI_CUSTOM_HEADERS",
        f"X-Owl: {SECRET}\nauthorization: {SECRET}\nContent-Type: {SECRET}\nX",
    )
    answers(server_of(serving), requests(1))
    assert serving.keys == {None}
    monkeypatch.setenv("OWL_KEY", "sk-owl")
    answers(server_of(serving, key_env="OWL_KEY"), requests(1))
    assert serving.keys == {None, "Bearer sk-owl"}
    assert not [each for each in serving.headers if SECRET in each]
    assert "content-type: application/json" in {each.lower() for each in serving.headers}


@pytest.mark.parametrize(
    "key",
    [f"{SECRET}\n", f"{SECRET}\r\n", f" {SECRET}", f"{SECRET}\x1b", f"{SECRET}é", f"“{SECRET}"],
)
def test_a_key_that_no_header_holds_is_refused_and_not_repeated(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OWL_KEY", key)
    backend = server_of(serving, key_env="OWL_KEY")
    for begin in (
        lambda: backend.begin(lambda: iter(requests(1)), notes=None),  # type: ignore[arg-type]
        lambda: list(backend.answers(requests(1))),
    ):
        with pytest.raises(ConfigError, match=r"backend\.key_env: OWL_KEY holds") as caught:
            begin()
        assert SECRET not in f"{caught.value!r} {caught.value} {caught.value.hint}"
    assert serving.bodies == []


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"base_url": f"https://me:{SECRET}@owl.invalid/v1"}, "must hold no user"),
        ({"base_url": f"https://owl.invalid/v1?key={SECRET}"}, "must hold no user"),
        ({"base_url": f"owl.invalid/{SECRET}"}, "base_url must be http"),
        ({"key_env": SECRET}, "the name of an environment variable"),
        ({"api_key": SECRET}, "unknown key `backend.api_key`"),
        ({"extra_body": {"seed": 7, "key": SECRET}}, "extra_body must not say seed"),
    ],
)
def test_a_key_in_the_configuration_is_refused_and_not_repeated(
    serving: Serving, table: dict[str, str], message: str
) -> None:
    from subl.config import validated

    with pytest.raises(ConfigError, match=message) as caught:
        validated(Sampling, {"backend": serving.table(**table)})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("key", ["seed", "messages", "max_tokens", "n", "top_logprobs", "top_k"])
def test_what_requests_say_is_not_said_twice(serving: Serving, key: str) -> None:
    with pytest.raises(ValueError, match=f"extra_body must not say {key}:"):
        server_of(serving, extra_body={key: 1, "min_q": 1}, neutral=True)


def test_a_grammar_is_not_said_twice(serving: Serving) -> None:
    with pytest.raises(ValueError, match="extra_body must not say response_format:"):
        server_of(serving, extra_body={"response_format": {}}, grammars="response_format")


def test_an_answer_has_a_limit_by_whatever_name(serving: Serving) -> None:
    answers(server_of(serving, leave_out=["max_completion_tokens"]), requests(1))
    assert serving.bodies[0]["max_tokens"] == 64
    assert "max_completion_tokens" not in serving.bodies[0]


def test_whether_the_distribution_is_the_models_is_told(serving: Serving) -> None:
    backend = server_of(serving, neutral=True)
    answers(backend, requests(1))
    said = {name: serving.bodies[0][name] for name in ("top_k", "min_p", "repetition_penalty")}
    assert said == {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    assert backend.facts()["distribution"] == "as asked for"
    for table in ({}, {"neutral": True, "leave_out": ["seed", "top_p"]}):
        assert server_of(serving, **table).facts()["distribution"] == "the server's"


# Ctrl-C.


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Workers of pytest-xdist ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_what_was_answered_before_a_signal_is_handed_on(serving: Serving) -> None:
    """The server answers three, and sends the signal before the others."""
    three = Event()

    def reply(body: dict[str, Any], time: int) -> Reply | None:
        if asked_in(body) < 3:
            return said(body)
        three.wait()
        os.kill(os.getpid(), signal.SIGINT)
        return None

    serving.reply = reply
    came = []
    with pytest.raises(KeyboardInterrupt):
        for place, _ in server_of(serving, concurrency=4).answers(requests(4)):
            came.append(place)
            if len(came) == 3:
                three.set()
    assert sorted(came) == [0, 1, 2]


@pytest.mark.parametrize("how", [KeyboardInterrupt, StageError, None])
def test_what_came_while_nobody_looked_is_kept(
    serving: Serving, tmp_path: Path, how: type[BaseException] | None
) -> None:
    """Six are answered before who got the first is interrupted, fails, or takes no more."""
    six = Event()

    def reply(body: dict[str, Any], time: int) -> Reply | None:
        if asked_in(body) < 6:
            return said(body)
        six.set()  # one at a time: all others were read
        return None

    serving.reply = reply
    backend, journal = server_of(serving, concurrency=1), tmp_path / "journal"
    came = answered(backend, requests(7), journal, Failures(1, 7))
    assert next(came)[0] == 0
    six.wait()
    if how is None:
        came.close()
    else:
        with pytest.raises(how):
            came.throw(how("no more"))
    assert [number for number, _ in journaled(journal)] == list(range(6))
