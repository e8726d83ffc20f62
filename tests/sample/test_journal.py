"""Answers that cost something are kept whatever happens, and asked for once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from subl.errors import BusyError, StageError
from subl.model.chat import asking
from subl.progress import Report, silent
from subl.sample import Answer, Failures, FirstTokens, Request, Requests, answered
from subl.sample.journal import usage_of

REQUESTS = [Request(f"prompt {each}", asking(f"row {each}"), each + 100) for each in range(8)]
NEVER = Failures(1, 8)


class Backwards:
    """Answers from the last request on, `fails` at those numbers; counts what it is asked."""

    same_answers = False

    def __init__(self, fails: Sequence[int] = ()) -> None:
        self.fails, self.asked = fails, []  # type: tuple[Sequence[int], list[int]]

    def begin(self, requests: Requests, notes: Path, report: Report = silent) -> None:
        pass

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        for place, request in reversed(list(enumerate(requests))):
            self.asked.append(request.number)
            if request.number in self.fails:
                yield place, Answer("no", "failed", {"prompt_tokens": 3})
            else:
                yield place, Answer(f"{request.number} — ok", "turn", {"prompt_tokens": 3})

    def first_tokens(
        self, requests: Sequence[Request], top: int
    ) -> Iterator[tuple[int, FirstTokens]]:
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


def places(came: dict[int, Answer]) -> list[str]:
    return [came[place].text for place in sorted(came)]


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    journal, first = tmp_path / "journal", Backwards()
    asking = answered(first, REQUESTS, journal, NEVER)
    begun = dict(next(asking) for _ in range(3))
    asking.close()
    assert first.asked == [107, 106, 105]
    with journal.open("ab") as file:
        file.write(b'{"number": 104, "te')  # killed while it wrote
    second = Backwards()
    came = dict(answered(second, REQUESTS, journal, NEVER))
    assert sorted(second.asked) == [100, 101, 102, 103, 104]
    assert places(came) == [f"{number} — ok" for number in range(100, 108)]
    assert begun.items() <= came.items()
    third = Backwards()
    assert dict(answered(third, REQUESTS, journal, NEVER)) == came
    assert third.asked == []
    assert usage_of(journal) == {"prompt_tokens": 24}


def test_what_failed_is_asked_again_and_both_are_paid_for(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    came = dict(answered(Backwards([102, 103]), REQUESTS, journal, NEVER))
    assert [place for place in came if came[place].failed] == [3, 2]
    again = Backwards()
    assert not any(each.failed for _, each in answered(again, REQUESTS, journal, NEVER))
    assert sorted(again.asked) == [102, 103]
    assert usage_of(journal) == {"prompt_tokens": 30}


def test_too_many_failures_stop_the_run_with_examples(tmp_path: Path) -> None:
    failures, journal = Failures(0.3, 8), tmp_path / "journal"
    fails = range(100, 108, 2)
    with pytest.raises(StageError) as caught:
        list(answered(Backwards(fails), REQUESTS, journal, failures))
    assert caught.value.message.splitlines() == [
        "3 of 6 requests have failed, and backend.failed_share is 0.3:",
        "  prompt 6: no", "  prompt 4: no", "  prompt 2: no",
    ]  # fmt: skip
    assert "asks for the rest again" in str(caught.value.hint)
    again = Backwards()
    assert len(dict(answered(again, REQUESTS, journal, Failures(0.3, 8)))) == 8
    assert sorted(again.asked) == [100, 101, 102, 104, 106]


def test_a_share_is_taken_of_the_requests_so_far() -> None:
    failures = Failures(0.02, 100_000)
    for number in range(1000):
        failures.add(REQUESTS[0].name, "no" if number % 100 == 0 else None)
    early = Failures(0.02, 100_000)
    for _ in range(2):
        early.add(REQUESTS[0], "no")
    with pytest.raises(StageError, match="3 of 3 requests have failed") as caught:
        early.add(REQUESTS[0], "no")
    assert "asks for the rest" not in str(caught.value.hint)
    assert "leave_out, extra_body" in str(caught.value.hint)


def test_what_can_be_made_again_is_not_written(tmp_path: Path) -> None:
    same = Backwards()
    same.same_answers = True
    assert len(list(answered(same, REQUESTS, tmp_path / "journal", NEVER))) == 8
    assert not (tmp_path / "journal").exists()


def test_a_journal_is_of_one_process_at_a_time(tmp_path: Path) -> None:
    """Who came second cut off what the first wrote, after it had read what was there."""
    journal, second = tmp_path / "journal", Backwards()
    first = answered(Backwards(), REQUESTS, journal, NEVER)
    next(first)
    with pytest.raises(BusyError, match="journal"):
        next(answered(second, REQUESTS, journal, NEVER))
    assert second.asked == [] and usage_of(journal) == {"prompt_tokens": 3}
    first.close()
    assert len(dict(answered(second, REQUESTS, journal, NEVER))) == 8
    assert second.asked == [106, 105, 104, 103, 102, 101, 100]
