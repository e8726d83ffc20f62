"""Rows of a server, by `subl generate`: whole shards, what failed beside them, nothing twice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from subl.errors import ConfigError, OutputError, StageError
from subl.generate import GenerateSpec, generate
from subl.progress import Progress
from subl_cli.main import subl

from .serving import MODEL, Reply, Serving, error, said

SECRET = "sk-nobody-must-see-this"


def spec(serving: Serving, sampling: dict[str, Any] | None = None, **table: Any) -> GenerateSpec:
    base = {"rows": 12, "prompts": "numbers-short", "batch_rows": 2, "shard_rows": 6}
    return GenerateSpec.model_validate(
        {**base, **(sampling or {}), "backend": serving.table(**table)}
    )


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("part-*.jsonl")) for row in lines(file)]


def fails(body: dict[str, Any]) -> bool:
    """Of a quarter of the prompts, about."""
    return int(re.findall(r"\d+", body["messages"][-1]["content"])[-1]) % 4 == 0


def test_rows_of_a_server(serving: Serving, tmp_path: Path) -> None:
    made = generate(
        spec(serving, prices={"prompt": 2.0, "completion": 10.0}), None, tmp_path / "rows"
    )
    found = rows(made.path)
    assert len(found) == 12 == len({row["id"] for row in found})
    assert all(row["completion"] == f"said: {row['prompt']}" for row in found)
    assert {row["model"] for row in found} == {MODEL}
    assert made.result == {
        "rows": 12,
        "shards": ["part-00000.jsonl", "part-00001.jsonl"],
        "ended_by": {"turn": 12},
        "backend": "http",
        "failed": 0,
        "usage": {"prompt_tokens": 60, "completion_tokens": 24},
        "cost": pytest.approx(0.00036),
        "server": serving.url,
        "server_model": MODEL,
        "promise": "same seeds",
        "distribution": "the server's",
    }
    assert not (made.path / "failed.jsonl").exists()


def test_what_failed_is_listed_beside_the_rows(serving: Serving, tmp_path: Path) -> None:
    serving.reply = lambda body, time: error(400, "no") if fails(body) else said(body)
    made = generate(spec(serving, failed_share=0.9), None, tmp_path / "rows").path
    failed = lines(made / "failed.jsonl")
    assert 0 < len(failed) < 12 and len(rows(made)) + len(failed) == 12
    assert set(failed[0]) == {"id", "prompt", "reason"}
    assert all("400 - no" in row["reason"] for row in failed)
    ids = [row["id"] for row in rows(made)] + [row["id"] for row in failed]
    assert len(set(ids)) == 12
    result = json.loads((made / "result.json").read_text())
    assert (result["rows"], result["failed"]) == (len(rows(made)), len(failed))
    hidden = {file.name for file in made.iterdir() if file.name.startswith(".part")}
    assert not {name for name in hidden if name.endswith(".answers")}


def test_too_many_failures_stop_the_run_and_the_same_command_goes_on(
    serving: Serving, tmp_path: Path
) -> None:
    serving.reply = lambda body, time: error(400, "no") if fails(body) else said(body)
    with pytest.raises(StageError, match=r"prompt \d+: .*400 - no"):
        generate(spec(serving, concurrency=1), None, tmp_path / "rows")
    answered = {body["messages"][-1]["content"] for body in serving.bodies if not fails(body)}
    serving.forget()
    serving.reply = lambda body, time: said(body)
    # How rows are got may change in between.
    made = generate(spec(serving, concurrency=3, attempts=1), None, tmp_path / "rows")
    assert len(rows(made.path)) == 12
    again = {body["messages"][-1]["content"] for body in serving.bodies}
    assert len(again) == len(serving.bodies) == 12 - len(answered)
    assert not again & answered


def test_an_interrupted_run_asks_for_nothing_twice(serving: Serving, tmp_path: Path) -> None:
    def until_eight(progress: Progress) -> None:
        if progress.done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(spec(serving, concurrency=1), None, tmp_path / "rows", report=until_eight)
    partial = tmp_path / "rows.partial"
    assert (partial / "part-00000.jsonl").exists()
    assert len(lines(partial / ".part-00001.jsonl.answers")) == 2
    serving.forget()
    made = generate(spec(serving, concurrency=1), None, tmp_path / "rows")
    whole = generate(spec(serving), None, tmp_path / "whole")
    assert rows(made.path) == rows(whole.path)
    assert made.result["usage"] == whole.result["usage"]
    asked = [body["messages"][-1]["content"] for body in serving.bodies[:-12]]
    assert len(asked) in (3, 4)  # one may have been under way


def test_a_key_is_in_nothing_that_a_run_writes(
    serving: Serving,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Whatever the server says of it."""
    monkeypatch.setenv("OWL_KEY", SECRET)
    caplog.set_level("DEBUG")
    repeats = f"key {SECRET}"
    serving.reply = lambda body, time: error(400, repeats) if fails(body) else said(body)
    one = spec(serving, key_env="OWL_KEY", failed_share=0.9)
    made = generate(one, None, tmp_path / "rows")
    assert made.result["failed"] > 0
    with pytest.raises(StageError) as caught:
        generate(spec(serving, key_env="OWL_KEY"), None, tmp_path / "stopped")
    assert serving.keys == {f"Bearer {SECRET}"}
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"failed.jsonl", "statement.json", ".part-00000.jsonl.answers"} <= {
        file.name for file in files
    }
    for file in files:
        assert SECRET.encode() not in file.read_bytes(), file
    out, err = capfd.readouterr()
    for told in (out, err, caplog.text, repr(caught.value), str(caught.value), repr(made)):
        assert SECRET not in told


def test_another_server_or_model_is_another_run(serving: Serving, tmp_path: Path) -> None:
    generate(spec(serving), None, tmp_path / "rows")
    assert generate(spec(serving, concurrency=1), None, tmp_path / "rows").reused
    with pytest.raises(OutputError, match=r"backend\.model"):
        generate(spec(serving, model="owl-2"), None, tmp_path / "rows")


def test_a_model_goes_with_no_server_and_a_server_with_no_model(
    serving: Serving, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="model: the answers are those of owl-1 at http"):
        generate(spec(serving), tiny_model, tmp_path / "rows")
    with pytest.raises(ConfigError, match="missing `model`"):
        generate(GenerateSpec(rows=1), None, tmp_path / "rows")


def test_the_command_says_what_to_expect_and_takes_no_model(
    serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "served.toml"
    config.write_text(
        f"""
        rows = 3
        prompts = "numbers-short"
        max_new_tokens = 10
        [backend]
        kind = "http"
        base_url = "{serving.url}"
        model = "{MODEL}"
        key_env = "NOT_THERE"
        prices = {{ prompt = 1.0, completion = 2.0 }}
        """
    )
    run = CliRunner()
    given = ["generate", str(config), "-o", str(tmp_path / "rows")]
    dry = run.invoke(subl, [*given, "--dry-run", "--json"])
    assert json.loads(dry.stdout)["expected"] == {
        "prompt_tokens": 150, "completion_tokens": 30, "cost": 0.00021
    }  # fmt: skip
    assert serving.bodies == []
    assert dry.stderr == "warning: the environment has no NOT_THERE (backend.key_env)\n"
    monkeypatch.setenv("NOT_THERE", "key")
    made = run.invoke(subl, ["generate", str(config), "-o", str(tmp_path / "rows"), "--json"])
    assert json.loads(made.stdout)["result"]["cost"] == 0.000027
    with pytest.raises(ConfigError, match="model: the answers are those of owl-1"):
        run.invoke(
            subl,
            ["generate", str(config), "--model", "nowhere", "-o", str(tmp_path / "other")],
            catch_exceptions=False,
        )


def test_an_experiment_can_have_rows_of_a_server(serving: Serving) -> None:
    from subl.experiment.graph import Graph
    from subl.experiment.spec import ExperimentSpec

    table = {"kind": "generate", "rows": 3, "backend": serving.table()}
    whole = {"name": "small", "title": "Small", "stages": {"rows": table}}
    (node,) = Graph(ExperimentSpec.model_validate(whole)).nodes
    assert node.inputs == {} and node.spec == GenerateSpec.model_validate(
        {"rows": 3, "backend": serving.table()}
    )
    whole["stages"] = {"rows": {"kind": "generate", "rows": 3}}
    with pytest.raises(ConfigError, match=r"stages\.rows: missing `model`"):
        Graph(ExperimentSpec.model_validate(whole))


def test_a_shard_whose_rows_all_failed_is_empty(serving: Serving, tmp_path: Path) -> None:
    serving.reply = lambda body, time: Reply("{}", 400)
    made = generate(spec(serving, failed_share=1.0), None, tmp_path / "rows")
    assert made.result["rows"] == 0 and made.result["failed"] == 12
    assert rows(made.path) == []
