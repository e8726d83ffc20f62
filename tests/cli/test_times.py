"""How times are said to a person."""

from __future__ import annotations

import pytest

from subl.progress import Progress
from subl_cli.output import about, progress


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "a few seconds"),
        (2.4, "a few seconds"),
        (33, "about 35 s"),
        (59.9, "about 60 s"),
        (61, "about 1 min"),
        (508, "about 8 min 30 s"),
        (599, "about 10 min"),
        (1000, "about 17 min"),
        (3600, "about 1 h"),
        (9000, "about 2 h 30 min"),
    ],
)
def test_an_estimate_is_no_finer_than_it_is_known(seconds: float, text: str) -> None:
    assert about(seconds) == text


def test_lines_say_what_is_left_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as report:
        report(Progress("run", 0, 2, "steps", run_seconds_left=508.0))
        report(Progress("teach owl", 1, 25, "steps", "loss 1.0", run_seconds_left=480.0))
        report(Progress("run", 2, 2, "steps", run_seconds_left=0.0))
    assert capsys.readouterr().err.splitlines() == [
        "run: 0/2 steps, about 8 min 30 s left",
        "teach owl: 1/25 steps, loss 1.0; run: about 8 min left",
        "run: 2/2 steps",
    ]
