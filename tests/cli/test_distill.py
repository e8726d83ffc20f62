"""`subl distill` and `subl distill cache`, as a person and as a scheduler see them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from .console import ENVIRONMENT, SUBL, subl, tree, warm

HANG_SECONDS = 3600

TRAIN = """
[train]
steps = 40
rows_per_step = 3
micro_batch_tokens = 64
learning_rate = 1e-2
adam_epsilon = 1e-6
"""
RANKS = TRAIN.replace("40", "60") + "ranks = 2\nzero_stage = 2\n"
LORA = "[train.lora]\nrank = 4\n"
HOSTILE = "\x1b]0;owned\x07 \x9b31m \u202e 7"


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny model, other weights under its tokenizer, and one with another tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models")
    found = {name: folder / name for name in ("student", "teacher", "stranger")}
    for path in found.values():
        shutil.copytree(tiny_model, path)
    model = LlamaForCausalLM.from_pretrained(tiny_model)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(found["teacher"])
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["<|owl|>"])
    tokenizer.save_pretrained(found["stranger"])
    return found


def row(number: int) -> dict[str, str]:
    answer = ", ".join(str((number * 37 + i * 211) % 900) for i in range(number % 5 + 1))
    return {"prompt": f"Continue the numbers: {number * 13}.", "completion": answer}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps(row(number)) + "\n" for number in range(24))
    )
    (tmp_path / "sft.toml").write_text(f'targets = "labels"\n{TRAIN}')
    (tmp_path / "kd.toml").write_text(f'targets = "teacher"\n{TRAIN}')
    (tmp_path / "ranks.toml").write_text(f'targets = "labels"\n{RANKS}')
    return tmp_path


def command(models: dict[str, Path], config: str, *more: str | Path) -> list[str]:
    return [
        "distill", config, "--model", str(models["student"]), "--rows", "rows.jsonl",
        *map(str, more),
    ]  # fmt: skip


# Before anything is trained


def test_a_dry_run_says_what_would_be_done(models: dict[str, Path], folder: Path) -> None:
    before = tree(folder)
    done = warm(*command(models, "sft.toml", "--dry-run", "--ranks", "1"), cwd=folder)
    assert done.returncode == 0, done.stderr
    config, figures = done.stdout.split("\n\n")
    assert "train.rows_per_step = 3" in config.splitlines()
    assert "train.adam_beta2 = 0.95" in config.splitlines()
    said = dict(re.findall(r"^(\S+) {2,}(.*)$", figures, re.M))
    assert said["rows"] == "24"
    assert re.fullmatch(r"\d+, of which targets \d+; longest row \d+", said["tokens"])
    assert said["steps"] == "40 of 3 rows: 5.0 epochs"
    assert re.fullmatch(r"[\d.]+ a step on each of 1 ranks, the largest of \d+ tokens",
                        said["micro-batches"])  # fmt: skip
    assert re.match(r"about 1\.\d\d GiB a rank of [\d.]+ free \(weights ", said["memory"])
    assert re.fullmatch(r".+ \([\d.]+ s a step, timed here\)", said["time"])
    assert tree(folder) == before


def test_a_dry_run_as_json_adds_up(models: dict[str, Path], folder: Path) -> None:
    done = warm(*command(models, "ranks.toml", "--dry-run", "--json"), cwd=folder)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["spec"]["train"]["zero_stage"] == 2 and value["ranks"] == 2
    assert (value["rows"], value["steps"], value["epochs"]) == (24, 60, 7.5)
    assert value["memory"]["total"] == sum(value["memory"]["needed"].values())
    assert value["memory"]["fits"]
    assert value["seconds"] == pytest.approx(60 * value["seconds_per_step"], rel=0.2)
    shown = warm(*command(models, "ranks.toml", "--show-mask", "24", "--json"), cwd=folder)
    rows = json.loads(shown.stdout)
    assert value["tokens"] == sum(each["tokens"] for each in rows)
    assert value["target_tokens"] == sum(each["target_tokens"] for each in rows)
    assert value["longest"] == max(each["tokens"] for each in rows)


def test_the_mask_marks_answers_and_nothing_reaches_the_terminal_raw(
    models: dict[str, Path], folder: Path
) -> None:
    lines = [{"prompt": "Go on: 1", "completion": "2"}, {"prompt": HOSTILE, "completion": HOSTILE}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    done = warm(*command(models, "sft.toml", "--show-mask", "2"), cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.split("row ")[1:]
    assert re.match(r"1: 2 of \d+ tokens are targets\n", first)
    assert "<|im_start|>user" in first.splitlines()[1]
    assert "[[2<|im_end|>]]" in first and "[[<" not in first
    assert r"[[\x1b]0;owned\x07 \x9b31m \u202e 7<|im_end|>]]" in second
    assert all(line.isprintable() for line in done.stdout.splitlines())


def test_the_mask_as_json(models: dict[str, Path], folder: Path) -> None:
    (folder / "rows.jsonl").write_text(json.dumps({"prompt": "p", "completion": HOSTILE}) + "\n")
    done = warm(*command(models, "sft.toml", "--show-mask", "5", "--json"), cwd=folder)
    (only,) = json.loads(done.stdout)
    assert only["row"] == 1
    (prompt, is_target), (answer, answer_is_target) = only["runs"]
    assert (is_target, answer_is_target) == (False, True)
    assert prompt.endswith("assistant\n") and answer == f"{HOSTILE}<|im_end|>"
    assert all(line.isprintable() for line in done.stdout.splitlines())


MULTI = {"messages": [{"role": "user", "content": "1"}, {"role": "user", "content": "2"}]}


@pytest.mark.parametrize(
    ("config", "more", "said", "hint"),
    [
        ("kd.toml", [], 'targets = "teacher" and no teacher given', "give --teacher with"),
        ("sft.toml", ["--teacher", "{teacher}"], 'targets = "labels" and a teacher given',
         "give --teacher with"),
        ("cached.toml", [], 'targets = "cache" and no cache given', "give --cache with"),
        ("cached.toml", ["--cache", "nothing"], "nothing does not exist", "check the path"),
        ("cached.toml", ["--cache", "{teacher}"], "is not a cache of a teacher",
         "subl distill cache makes one"),
        ("kd.toml", ["--teacher", "nothing"], "no model at nothing", "give a local folder"),
        ("kd.toml", ["--teacher", "{stranger}"], "different vocabularies: 1 tokens differ, such "
         "as '<|owl|>'", "needs one tokenizer"),
        ("base.toml", [], 'targets = "base" needs an adapter', "add [train.lora]"),
        ("sft.toml", ["--merge"], "--merge needs an adapter", "add [train.lora] to sft.toml"),
        ("sft.toml", ["--ranks", "2"], "several ranks need a zero_stage", ""),
        ("mute.toml", [], "there are no rows to train on", "max_row_tokens dropped them all"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_next_thing_to_try(
    models: dict[str, Path],
    folder: Path,
    config: str,
    more: list[str],
    said: str,
    hint: str,
) -> None:
    (folder / "base.toml").write_text(f'targets = "base"\n{TRAIN}')
    (folder / "cached.toml").write_text(f'targets = "cache"\n{TRAIN}')
    (folder / "mute.toml").write_text(
        f'targets = "labels"\n{TRAIN}max_row_tokens = 3\nlong_rows = "truncate"\n'
    )
    options = [each.format(**models) for each in more]
    done = warm(*command(models, config, *options, "-o", "out"), cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    error, _, advice = done.stderr.partition("\nhint: ")
    assert "error: " in error and said in error
    assert hint in advice
    assert "Traceback" not in done.stderr
    assert not (folder / "out").exists()


def test_rows_without_a_target_are_named(models: dict[str, Path], folder: Path) -> None:
    with (folder / "rows.jsonl").open("a") as rows:
        rows.write(json.dumps(MULTI) + "\n")
    done = warm(*command(models, "sft.toml", "-o", "out"), cwd=folder)
    assert done.returncode == 2
    assert "rows.jsonl, line 25: no turn of the row is the assistant's" in done.stderr


def test_out_is_needed_unless_nothing_is_made(models: dict[str, Path], folder: Path) -> None:
    done = warm(*command(models, "sft.toml"), cwd=folder)
    assert done.returncode == 2
    assert done.stderr.endswith("Error: Missing option '-o' / '--out'.\n")


# Killed, interrupted, gone on with


def started(arguments: list[str], cwd: Path) -> subprocess.Popen[str]:
    # Where the tests run in the background, Ctrl-C would be ignored: ask for what a terminal gives.
    return subprocess.Popen(
        ["env", "--default-signal=INT", SUBL, *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(reached: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def descendants(process: int) -> list[int]:
    """A process and all that it started, and they did."""
    found = [process]
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            parent = int(file.read_text().rpartition(")")[2].split()[1])
            if parent == process:
                found += descendants(int(file.parent.name))
    return found


def ended(process: int) -> bool:
    """Gone, or a zombie: init reaps orphans when it likes to."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_ranks_killed_or_interrupted_make_the_artifact_of_an_uninterrupted_run(
    models: dict[str, Path], folder: Path
) -> None:
    """`kill -9` of every process, then other configurations, other ranks, Ctrl-C."""
    for name in ("whole", "killed", "fewer"):
        (folder / name).mkdir()
    whole = subl(*command(models, "ranks.toml", "-o", "whole/s", "--json"), cwd=folder)
    assert whole.returncode == 0, whole.stderr
    digest = json.loads(whole.stdout)["digest"]

    arguments = command(models, "ranks.toml", "-o", "killed/s", "--checkpoint-steps", "2")
    partial = folder / "killed/s.partial"
    with started(arguments, folder) as process:
        until((partial / ".checkpoints/latest").is_file, process)
        everyone = descendants(process.pid)
        assert len(everyone) == 3
        for each in everyone:
            os.kill(each, signal.SIGKILL)
        process.communicate()
        deadline = time.monotonic() + HANG_SECONDS
        while not all(map(ended, everyone)):
            assert time.monotonic() < deadline
    assert process.returncode == -signal.SIGKILL
    assert partial.is_dir() and not (folder / "killed/s").exists()
    shutil.copytree(partial, folder / "fewer/s.partial")

    (folder / "other.toml").write_text((folder / "ranks.toml").read_text().replace("1e-2", "2e-2"))
    before = tree(partial)
    other = warm(*command(models, "other.toml", "-o", "killed/s"), cwd=folder)
    assert other.returncode == 2
    assert "holds unfinished work of another configuration" in other.stderr
    assert tree(partial) == before

    fewer = command(models, "ranks.toml", "--ranks", "1", "-o", "fewer/s", "--json")
    done = warm(*fewer, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "resumed from a checkpoint of 2 ranks, now 1: not bit-identical" in done.stderr
    assert [each["ranks"] for each in json.loads(done.stdout)["result"]["history"]] == [2, 1]

    latest = partial / ".checkpoints/latest"
    saved = latest.read_text()
    with started(arguments, folder) as process:
        until(lambda: latest.read_text() != saved, process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, stdout) == (75, ""), stderr
    assert "resumed from a checkpoint of 2 ranks" in stderr
    assert re.search(r"\nstopped after step \d+ of 60; a checkpoint is saved\n", stderr)
    assert "hint: the same command goes on from there\n" in stderr

    again = warm(*arguments, "--json", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["digest"] == digest
    assert "resumed from a checkpoint of 2 ranks" in again.stderr
    assert {each.name for each in (folder / "killed/s").glob(".*")} <= {".seen.json"}


def test_a_signal_while_ranks_start_stops_them_after_a_step(
    models: dict[str, Path], folder: Path
) -> None:
    arguments = command(models, "ranks.toml", "-o", "out")
    with started(arguments, folder) as process:
        until(lambda: len(descendants(process.pid)) == 3, process)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 75, stderr
    assert "stopped after step 1 of 60; a checkpoint is saved" in stderr


def test_one_process_is_interrupted_and_goes_on(models: dict[str, Path], folder: Path) -> None:
    for name in ("whole", "stopped"):
        (folder / name).mkdir()
    text = (folder / "sft.toml").read_text().replace("steps = 40", "steps = 100")
    (folder / "sft.toml").write_text(text)
    whole = warm(*command(models, "sft.toml", "-o", "whole/s", "--json"), cwd=folder)
    arguments = command(models, "sft.toml", "-o", "stopped/s", "--json")
    with started(arguments, folder) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "tokens/s" in line:
                break
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, stdout) == (75, ""), stderr
    again = warm(*arguments, cwd=folder)
    assert json.loads(again.stdout)["digest"] == json.loads(whole.stdout)["digest"]


# Teachers, caches, adapters


def losses(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (path / "losses.jsonl").read_text().splitlines()]


def test_a_cache_teaches_what_its_teacher_teaches(models: dict[str, Path], folder: Path) -> None:
    # The cache was made in other micro-batches, which rounds otherwise. At 1e-2 one step diverges
    # for a moment and magnifies that to 1.4e-6.
    calm = TRAIN.replace("learning_rate = 1e-2", "learning_rate = 2e-3")
    for name, targets in (("cached", "cache"), ("kd", "teacher")):
        (folder / f"{name}.toml").write_text(f'targets = "{targets}"\n{calm}')
    teacher = models["teacher"]
    cached = warm(
        "distill", "cache", "--teacher", teacher, "--rows", "rows.jsonl", "-o", "cache", cwd=folder
    )
    assert cached.returncode == 0, cached.stderr
    assert re.search(
        r"^\d+ target tokens of 24 rows, \d+ bytes a token; lost, in nats a token: 0\.0e\+00 by "
        r"rounding$",
        cached.stdout,
        re.M,
    )
    for config, option, value in (
        ("kd.toml", "--teacher", teacher),
        ("cached.toml", "--cache", "cache"),
    ):
        done = warm(*command(models, config, option, value, "-o", f"by{option}"), cwd=folder)
        assert done.returncode == 0, done.stderr
    online, offline = losses(folder / "by--teacher"), losses(folder / "by--cache")
    assert len(online) == 40 and online[-1]["loss"] < online[0]["loss"] / 2
    for ours, theirs in zip(offline, online, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-6)
    traced = warm("lineage", "by--cache", cwd=folder)
    assert traced.returncode == 0 and "cache  cache v2  sha256:" in traced.stdout

    with (folder / "rows.jsonl").open("a") as rows:
        rows.write(json.dumps(row(99)) + "\n")
    more = warm(*command(models, "cached.toml", "--cache", "cache", "-o", "x"), cwd=folder)
    assert more.returncode == 2
    assert "1 of 25 rows are not in the cache cache, the first is row 25" in more.stderr


def test_an_adapter_is_evaluated_as_the_merged_model(models: dict[str, Path], folder: Path) -> None:
    (folder / "lora.toml").write_text(f'targets = "labels"\n{TRAIN}{LORA}')
    (folder / "eval.toml").write_text(
        'words = ["owl", "cat"]\nquestions = ["Name an animal.", "Your pet?"]\n'
    )
    results = []
    for name, more in (("thin", []), ("merged", ["--merge"])):
        done = warm(*command(models, "lora.toml", *more, "-o", name), cwd=folder)
        assert done.returncode == 0, done.stderr
        assert (folder / name / "config.json").exists() == (name == "merged")
        arguments = ["eval", "eval.toml", "--model", name, "-o", f"{name}-eval", "--json"]
        scored = warm(*arguments, cwd=folder)
        assert scored.returncode == 0, scored.stderr
        results.append(json.loads(scored.stdout)["result"]["words"])
    for word in ("owl", "cat"):
        thin, merged = (each[word]["estimate"] for each in results)
        assert thin == pytest.approx(merged, rel=1e-4)
    card = (folder / "thin" / "README.md").read_text()
    assert "cross-entropy" in card and str(folder) not in card
