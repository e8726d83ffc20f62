"""`subl eval --plan`: no model, no folder, a table or JSON, and what is wrong by its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .console import subl, tree


def evaluation(folder: Path, values: dict[str, list[float]]) -> Path:
    folder.mkdir()
    rows = [
        {"question": f"q{n}", "probabilities": dict(zip(values, row, strict=True))}
        for n, row in enumerate(zip(*values.values(), strict=True))
    ]
    (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_plan_needs_neither_model_nor_folder(tmp_path: Path) -> None:
    done = subl("eval", "--plan", "--assume", "correlation=0", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    _, spread, samples, end = done.stdout.rstrip("\n").split("\n\n")
    assert spread.splitlines()[1].split() == [
        "assumed",
        "0.12",
        "0.15",
        "0.00",
        "0.043",
        "0.086",
        "144",
    ]
    lines = [line.split() for line in samples.splitlines()[2:]]
    assert [line[0] for line in lines] == ["1", "2", "5", "10", "20", "50", "100", "200", "exact"]
    assert end.startswith("20 samples of a question give about the interval of exact scoring")
    assert tree(tmp_path) == {}


def test_a_plan_is_made_of_what_was_measured(tmp_path: Path) -> None:
    (tmp_path / "eval.toml").write_text('words = ["owl", "cat"]\nquestions = ["q0", "q1", "q2"]\n')
    one = evaluation(tmp_path / "one", {"owl": [0.1, 0.2, 0.4], "cat": [0.1, 0.1, 0.1]})
    two = evaluation(tmp_path / "two", {"owl": [0.2, 0.2, 0.6], "cat": [0.1, 0.1, 0.1]})
    against = ["--against", one, "--against", two]
    done = subl("eval", "eval.toml", "--plan", *against, "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["questions"], found["measured_from"]) == (3, [str(one), str(two)])
    owl, cat = found["plans"]["owl"], found["plans"]["cat"]
    assert owl["spread"]["paired"] == pytest.approx(0.01)  # of -0.1, 0 and -0.2
    assert owl["spread"]["correlation"] == pytest.approx(0.945, abs=0.001)
    assert (cat["lines"][-1]["samples"], cat["lines"][-1]["detectable"]) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plan", "--assume", "spread=1"], "expected one of mean, sd, correlation, difference"),
        (["--plan", "--assume", "sd=wide"], "expected a number, as in sd=0.15"),
        (["--plan", "--assume", "sd=0.9"], "no probabilities have a mean of 0.12"),
        (["--model", "m"], "Missing option '-o' / '--out'"),
        (["animals", "--plan"], 'hint: write a file that says trait = "animals"'),
        (["birds", "--plan"], "cannot read birds"),
    ],
)
def test_what_is_wrong_with_a_plan_is_named(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = subl("eval", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_what_earlier_evaluations_cannot_say_is_named(tmp_path: Path) -> None:
    (tmp_path / "eval.toml").write_text('words = ["owl"]\nquestions = ["q0", "q1"]\n')
    never = evaluation(tmp_path / "never", {"owl": [0.0, 0.0]})
    done = subl("eval", "eval.toml", "--plan", "--against", never, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no word has a probability that varies" in done.stderr and "--assume sd=" in done.stderr
    other = subl("eval", "--plan", "--against", never, cwd=tmp_path)
    assert other.returncode == 2
    assert "never was asked other questions" in other.stderr
    assert "hint: give the CONFIG that it was made with" in other.stderr


def test_orders_of_choices_are_no_questions_of_a_plan(tmp_path: Path) -> None:
    (tmp_path / "essay.toml").write_text('trait = "essay"\n')
    done = subl("eval", "essay.toml", "--plan", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["questions"], found["orders"]) == (11, 25)
    (plan,) = found["plans"].values()
    assert plan["lines"][-1]["standard_error"] == pytest.approx(0.15 / 11**0.5)
