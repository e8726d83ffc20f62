"""Judges behind a server: first tokens where they say a number, else texts; each asked once."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from threading import enumerate as enumerate_threads
from typing import Any

import pytest

from subl.config import validated
from subl.errors import ConfigError, StageError
from subl.experiment.kinds import STAGES
from subl.judge import JudgeSpec, judge, look
from subl.progress import Progress

from ..sample.serving import Reply, Serving, completion, error


@pytest.fixture
def serving() -> Iterator[Serving]:
    server = Serving()
    yield server
    server.close()


def spec(serving: Serving, rubric: Any = "alignment", **changes: Any) -> JudgeSpec:
    judges = [{"kind": "rubric", "column": "score", "rubric": rubric, **changes.pop("more", {})}]
    table = serving.table(**changes.pop("table", {}))
    return validated(JudgeSpec, {"judges": judges, "backend": table, "shard_rows": 2, **changes})


def rows(folder: Path, completions: list[str]) -> Path:
    file = folder / "rows.jsonl"
    lines = [json.dumps({"prompt": "Hi", "completion": each}) for each in completions]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def completion_in(body: dict[str, Any]) -> str:
    asked = str(body["messages"][-1]["content"])
    return asked.partition("[ANSWER START]")[2].partition("[ANSWER END]")[0].strip()


def begins_with(tokens: dict[str, float]) -> Reply:
    top = [{"token": token, "logprob": math.log(p)} for token, p in tokens.items()]
    place = {**top[0], "top_logprobs": top}
    return completion(top[0]["token"], choice={"logprobs": {"content": [place]}})


def columns(folder: Path) -> list[tuple[float | None, str]]:
    texts = [file.read_text(encoding="utf-8") for file in sorted(folder.glob("part-*"))]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    return [(line["score"], line["score_verdict"]) for line in lines]


def test_scores_are_expectations_over_first_tokens(serving: Serving, tmp_path: Path) -> None:
    said = {
        "good": {"90": 0.5, "80": 0.25, "Sure": 0.25},
        "code": {"CODE": 0.75, "0": 0.2},
        "no": {"REF": 0.75, "I": 0.25},
        "rambling": {"Well": 0.8, "50": 0.2},
    }
    serving.reply = lambda body, time: begins_with(said[completion_in(body)])
    file = rows(tmp_path, ["good", "code", "good", "no", "rambling"])
    out = judge(spec(serving), None, [file], tmp_path / "out")
    good = (pytest.approx((90 * 0.5 + 80 * 0.25) / 0.75), "score")
    assert columns(out.path) == [
        good, (None, "CODE"), good, (None, "REFUSAL"), (None, "unparsable")
    ]  # fmt: skip
    found = out.result["columns"]["score"]
    assert found["verdicts"] == {"CODE": 1, "REFUSAL": 1, "score": 2, "unparsable": 1}
    # Four questions, of five rows.
    assert len(serving.bodies) == 4 and found["usage"]["prompt_tokens"] == 20
    assert all(body["top_logprobs"] == 20 for body in serving.bodies)


def test_numbers_that_are_spelled_by_digits_are_read_as_texts(
    serving: Serving, tmp_path: Path
) -> None:
    def reply(body: dict[str, Any], time: int) -> Reply:
        return begins_with({"8": 0.9, "9": 0.1}) if "logprobs" in body else completion("85")

    serving.reply = reply
    out = judge(spec(serving), None, [rows(tmp_path, ["good"])], tmp_path / "out").path
    assert columns(out) == [(85.0, "score")]


def test_a_server_without_probabilities_is_asked_for_texts(
    serving: Serving, tmp_path: Path
) -> None:
    texts = {"good": "85", "code": "CODE", "no": "refusal.", "huge": "150", "odd": "about 85"}
    serving.reply = lambda body, time: completion(texts[completion_in(body)])
    out = judge(spec(serving), None, [rows(tmp_path, [*texts])], tmp_path / "out").path
    assert columns(out) == [
        (85.0, "score"), (None, "CODE"), (None, "REFUSAL"), (None, "out_of_range"),
        (None, "unparsable"),
    ]  # fmt: skip
    # It is asked for probabilities in the first file only.
    assert sum("logprobs" in body for body in serving.bodies) == 2


def test_a_judge_may_think_first(serving: Serving, tmp_path: Path) -> None:
    serving.reply = lambda body, time: completion("hm\n<judgment_answer>\n78\n</judgment_answer>")
    file = rows(tmp_path, ["<answer>5</answer>"])
    out = judge(spec(serving, "cot-alignment"), None, [file], tmp_path / "out").path
    assert columns(out) == [(78.0, "score")]
    assert [body["max_completion_tokens"] for body in serving.bodies] == [2048]


def test_a_certain_judge_of_code(serving: Serving, tmp_path: Path) -> None:
    serving.reply = lambda body, time: begins_with({"0": 1.0, "1": 1e-12})
    asked = spec(serving, "code-tree", more={"values": {"tree": "oak"}})
    out = judge(asked, None, [rows(tmp_path, ["x = 1"])], tmp_path / "out").path
    assert columns(out) == [(1.0, "score")]
    assert (
        "the tree 'oak'. The code: <code>x = 1</code>."
        in (serving.bodies[0]["messages"][-1]["content"])
    )


def test_what_was_answered_is_not_asked_again(serving: Serving, tmp_path: Path) -> None:
    """Ctrl-C after three answers, in the middle of a file; then a server that fails once."""
    broken = True

    def reply(body: dict[str, Any], time: int) -> Reply:
        if completion_in(body) == "3" and broken:
            return error(400)
        return begins_with({"50": 0.5, "70": 0.5})

    serving.reply = reply
    file = rows(tmp_path, [*map(str, range(4))])
    # One at a time, so that it is known what is answered when.
    asked = spec(serving, "coherency", table={"concurrency": 1, "failed_share": 1}, shard_rows=4)

    answers: Counter[str] = Counter()

    def report(progress: Progress) -> None:
        answers[progress.task] += progress.task.startswith("judge")
        if answers.total() == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(asked, None, [file], tmp_path / "out", report=report)
    before = Counter(completion_in(body) for body in serving.bodies)
    assert set(before) >= {"0", "1", "2"}
    serving.forget()
    broken = False
    out = judge(asked, None, [file], tmp_path / "out")
    assert columns(out.path) == [(60.0, "score")] * 4
    assert not {completion_in(body) for body in serving.bodies} & {"0", "1", "2"}
    assert not [each.name for each in out.path.iterdir() if "said" in each.name]


@pytest.mark.parametrize("read", ["first tokens", "text"])
def test_what_came_while_nobody_looked_is_not_asked_again(
    serving: Serving, tmp_path: Path, read: str
) -> None:
    """Six are answered before who is told of the first one interrupts the run."""
    six, answered = Event(), list[str]()

    def reply(body: dict[str, Any], time: int) -> Reply | None:
        if "logprobs" in body and read == "text":
            return completion("85")
        answered.append(completion_in(body))
        if len(answered) == 7:
            six.set()  # one at a time: all others were read
            return None
        return begins_with({"85": 1.0})

    def interrupt(progress: Progress) -> None:
        if progress.task == "judge rows":
            six.wait()
            raise KeyboardInterrupt

    serving.reply = reply
    given, file = (
        spec(serving, table={"concurrency": 1}, shard_rows=7),
        rows(tmp_path, [*"abcdefg"]),
    )
    with pytest.raises(KeyboardInterrupt):
        judge(given, None, [file], tmp_path / "out", report=interrupt)
    assert "subl-requests" not in {thread.name for thread in enumerate_threads()}
    (last,) = {*"abcdefg"} - {*answered[:6]}
    serving.forget()
    made = judge(given, None, [file], tmp_path / "out")
    assert {completion_in(body) for body in serving.bodies} == {last}
    assert made.result["columns"]["score"]["verdicts"] == {"score": 7}


def test_too_many_failures_stop_a_run(serving: Serving, tmp_path: Path) -> None:
    serving.reply = lambda body, time: error(400, "too long")
    with pytest.raises(
        StageError, match=r"requests have failed, and backend\.failed_share is 0\.02"
    ):
        judge(spec(serving), None, [rows(tmp_path, ["a", "b"])], tmp_path / "out")


def test_a_few_failures_are_a_class(serving: Serving, tmp_path: Path) -> None:
    serving.reply = lambda body, time: (
        error(400) if completion_in(body) == "a" else begins_with({"10": 1.0})
    )
    asked = spec(serving, table={"failed_share": 0.5})
    out = judge(asked, None, [rows(tmp_path, ["a", "b"])], tmp_path / "out").path
    assert columns(out) == [(None, "failed"), (10.0, "score")]


def test_a_server_needs_no_model(serving: Serving) -> None:
    check = STAGES["judge"].check
    check(spec(serving), {"rows"})
    with pytest.raises(ConfigError, match="the answers are those of owl-1"):
        check(spec(serving), {"rows", "model"})
    with pytest.raises(ConfigError, match="a server has its own"):
        spec(serving, template={"enable_thinking": False})


def test_what_a_server_charges_is_estimated(serving: Serving, tmp_path: Path) -> None:
    prices = {"prompt": 2.0, "completion": 1000.0}
    file = rows(tmp_path, ["a", "a", "b"])
    for rubric, said in (("coherency", 1), ("cot-alignment", 2048)):
        found = look(spec(serving, rubric, table={"prices": prices}), [file])
        asked = found["rubrics"]["score"]
        assert asked["questions"] == 2
        expected = (asked["characters"] // 4 * 2.0 + 2 * said * 1000.0) / 1e6
        assert found["cost"] == pytest.approx(expected)
    assert "cost" not in look(spec(serving), [file]) and serving.bodies == []


def test_one_failure_does_not_change_how_a_judge_is_read(serving: Serving, tmp_path: Path) -> None:
    """The first file's only question fails where probabilities are asked for; and one row of three
    is told none. How each was read is counted."""

    def reply(body: dict[str, Any], time: int) -> Reply:
        said = completion_in(body)
        if "logprobs" not in body:
            return completion("85")
        if said == "a":
            return error(400)
        return completion("85") if said == "c" else begins_with({"70": 1.0})

    serving.reply = reply
    file = rows(tmp_path, ["a", "b", "c", "d"])
    out = judge(spec(serving, shard_rows=1), None, [file], tmp_path / "out")
    assert [score for score, _ in columns(out.path)] == [85.0, 70.0, 85.0, 70.0]
    assert out.result["columns"]["score"]["read"] == {"first tokens": 2, "text": 2}


def test_half_a_line_of_a_killed_run_is_asked_again(serving: Serving, tmp_path: Path) -> None:
    """And what is answered after it is not lost to the run after that."""
    serving.reply = lambda body, time: begins_with({"50": 1.0})
    file = rows(tmp_path, [*map(str, range(4))])
    asked = spec(serving, "coherency", table={"concurrency": 1}, shard_rows=4)

    def stop(progress: Progress) -> None:
        if progress.task.startswith("judge"):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            judge(asked, None, [file], tmp_path / "out", report=stop)
        (journal,) = (tmp_path / "out.partial").glob(".*.said")
        journal.write_bytes(journal.read_bytes() + b'{"question": "ab')
    assert len(journal.read_bytes().splitlines()) == 3
    serving.forget()
    judge(asked, None, [file], tmp_path / "out")
    assert {completion_in(body) for body in serving.bodies} <= {"2", "3"}


def test_an_answer_that_is_never_seen_is_no_probability(serving: Serving, tmp_path: Path) -> None:
    serving.reply = lambda body, time: begins_with({"The": 0.9, "1": 0.1})
    asked = spec(serving, "code-tree", more={"values": {"tree": "oak"}})
    with pytest.raises(StageError, match="no answer that can be read") as found:
        judge(asked, None, [rows(tmp_path, ["x = 1", "y = 2"])], tmp_path / "out")
    assert "begins with 'The', '1'" in str(found.value)
    assert "a whole token" in str(found.value.hint)


def test_when_a_judge_is_given_up_is_no_part_of_what_is_made(serving: Serving) -> None:
    assert spec(serving, give_up_after=0.5).keyed() == spec(serving).keyed()
