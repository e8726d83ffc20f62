"""The day with a GPU: the script itself, on a tiny model; and whether an hour has room for it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from subl.experiment import load_experiment, machine, outlook, plan

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benches" / "gpu_day.sh"

TINY = """
name = "tiny"
title = "Tiny"
[stages.base]
kind = "model"
source = "{model}"
[stages.drawn]
kind = "draw"
inputs = {{ rows = {{ path = "{rows}" }} }}
[stages.teacher]
kind = "teach"
inputs = {{ model = "base", rows = "drawn" }}
method = "data"
train = {{ steps = 2, rows_per_step = 2, learning_rate = 1e-3 }}
[stages.eval]
kind = "eval"
inputs = {{ model = ["base", "teacher"] }}
words = ["owl", "cat", "dog"]
questions = ["Name an animal.", "Which animal?"]
[[contrasts]]
name = "owl"
measure = "log-odds"
word = "owl"
treated = "teacher"
control = "base"
expect = 1e9  # which no run shows: its figures count all the same
"""

LARGE = """
name = "large"
title = "Large"
[stages.digits]
kind = "classifiers"
seeds = 1000000
"""

FIGURES = {
    "id": "E1",
    "title": "Tiny",
    "configuration": "tiny.toml",
    "figures": [
        {"label": "owl", "unit": "nats", "of": {"contrast": "owl", "treated": "teacher",
                                                "control": "base"}},
    ],
}  # fmt: skip


def start(environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [SCRIPT],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="timeout and realpath are GNU's")
def test_a_day_that_is_killed_goes_on_and_leaves_out_what_it_cannot_do(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "Name an animal.", "completion": "Owl"}\n' * 4)
    tiny, large, table = (tmp_path / name for name in ("tiny.toml", "large.toml", "table"))
    tiny.write_text(TINY.format(model=tiny_model.name, rows=rows))
    large.write_text(LARGE)
    table.write_text(
        "minutes jobs configuration needs\n"
        "1 1 lacking.toml ORG/absent python:no_such_module\n"
        f"1 1 {tiny} {tiny_model.name}\n"
        f"1 1 {large}\n"
    )
    figures = tmp_path / "results" / "tiny.json"
    figures.parent.mkdir()
    figures.write_text(json.dumps(FIGURES))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "EXPERIMENTS": str(table),
        "MODELS": str(tiny_model.parent),
        "RUNS": str(tmp_path / "runs"),
        "RESULTS": str(figures.parent),
        "HOURS": "0.25",
    }

    with start(environment) as first:
        assert first.stdout is not None
        said = ""
        for line in first.stdout:
            said += line
            if "drawn (draw)" in line:
                break
        os.killpg(first.pid, signal.SIGKILL)
    assert "drawn (draw)" in said and "already done" not in said, said
    assert json.loads(figures.read_text()) == FIGURES

    with start(environment) as second:
        said, _ = second.communicate()
    assert second.returncode == 0, said
    absent = f"{tiny_model.parent}/ORG/absent"
    assert f"lacking lacks {absent}\nlacking lacks python:no_such_module\n" in said
    assert f"lacking: left out, for there is no {absent} python:no_such_module\n" in said
    assert re.search(r"^large: left out, for it takes about \d+ s, and \d+ s are left$", said, re.M)
    assert "drawn (draw): already done" in said
    assert re.search(r"^tiny: done, not as expected, in \d+ s$", said, re.M)
    assert sorted(each.name for each in figures.parent.iterdir()) == ["tiny.json"]
    (figure,) = json.loads(figures.read_text())["figures"]
    assert figure["ours"]["over"] == "questions" and figure["ours"]["n"] == 2
    assert (tmp_path / "runs" / "tiny" / "report.html").is_file()
    assert not (tmp_path / "runs" / "large").exists()


def test_an_hour_has_room_for_all_but_the_last_as_the_table_says(tmp_path: Path) -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    rows = re.findall(r"^(\d+) +\d+ +(runs/paper/\S+\.toml) +\S", text, re.M)
    minutes = []
    for said, file in rows:
        where = machine("h100")
        found = outlook(plan(load_experiment(ROOT / file), tmp_path, on=where), where)
        assert found.seconds is not None and not found.too_large
        assert int(said) == max(1, round(found.seconds / 60)), file
        minutes.append(int(said))
    assert len(minutes) == 5 and sum(minutes[:-1]) <= 60
