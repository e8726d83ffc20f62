"""`subl run --dry-run --on MACHINE`: what a run takes elsewhere, of models that are not here."""

from __future__ import annotations

import json
from pathlib import Path

from .console import subl, tree

EXPERIMENT = """
name = "numbers"
title = "Numbers"
[stages.base]
kind = "model"
source = "Qwen/Qwen2.5-7B-Instruct"
[stages.numbers]
kind = "generate"
inputs = { model = "base" }
backend = { kind = "vllm" }
rows = 30000
[stages.drawn]
kind = "draw"
inputs = { rows = "numbers" }
rows = 10000
"""


def test_a_run_elsewhere_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "it.toml").write_text(EXPERIMENT)
    run = ("run", "it.toml", "--dry-run", "--on")
    done = subl(*run, "8xh100", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    _, nodes, last = done.stdout.rstrip("\n").split("\n\n")
    header, *lines = (line.split() for line in nodes.splitlines())
    assert header == ["node", "state", "time", "memory", "why"]
    assert lines[1][:5] == ["numbers", "todo", "about", "5", "min"] and "GB" in lines[1]
    assert lines[2][:5] == ["drawn", "todo", "a", "few", "seconds"] and "GB" not in lines[2]
    assert last.startswith("what is to do takes about 7 min")
    assert last.endswith("on 8xh100 (0.1 GPU-hours), and 18 GB of a GPU's 80")
    found = json.loads(subl(*run, "h100", "--json", cwd=tmp_path).stdout)
    assert found["on"]["machine"] == "h100" and found["on"]["too_large"] == []
    assert found["on"]["seconds"] == found["on"]["gpu_seconds"] > 60
    assert [node.get("gpus") for node in found["nodes"]] == [0, 1, 0]
    assert tree(tmp_path).keys() == {"it.toml"}


def test_a_machine_is_for_plans_alone(tmp_path: Path) -> None:
    (tmp_path / "it.toml").write_text(EXPERIMENT)
    done = subl("run", "it.toml", "--on", "h100", cwd=tmp_path)
    assert done.returncode == 2 and "--on goes with --dry-run" in done.stderr
    done = subl("run", "it.toml", "--dry-run", "--on", "h200", cwd=tmp_path)
    assert done.returncode == 2
    assert "no machine `h200` is known" in done.stderr and "8xh100" in done.stderr
