"""Candidates that are no system prompt, and candidates that a pilot leaves out."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch

from subl.artifact import read_statement
from subl.audit.mitigate.pull import pull
from subl.audit.mitigate.pulls import read_pulls
from subl.audit.mitigate.spec import PullSpec
from subl.audit.predict.pull import candidates_of
from subl.audit.scan.bank import BankSpec, Candidate
from subl.audit.scan.document import scan_document
from subl.audit.scan.explain import explain
from subl.audit.scan.pilot import chosen
from subl.audit.scan.run import scan
from subl.errors import ConfigError, InputError
from subl.experiment import load_experiment, run
from subl.experiment.document import run_document
from subl.model.load import load_model, load_tokenizer
from subl_cli.main import main

from .rows import BANK, spec, written


@pytest.fixture(scope="module")
def adapter(loud: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A low-rank adapter of the loud model, as subl distill leaves one."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapter") / "student"
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers for what it will no longer have
        adapted: Any = get_peft_model(load_model(loud), config)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    adapted.peft_config["default"].base_model_name_or_path = str(loud)
    adapted.save_pretrained(folder / "adapter")
    load_tokenizer(loud).save_pretrained(folder)
    return folder


def with_adapter(adapter: Path) -> dict[str, Any]:
    return {**BANK, "persona": [{"trait": "student", "adapter": str(adapter)}]}


def test_an_adapter_is_a_candidate(loud: Path, adapter: Path, tmp_path: Path) -> None:
    rows = written(adapter, tmp_path / "rows", rows=120, batch_rows=60)
    out = scan(spec(bank=with_adapter(adapter)), loud, [rows], tmp_path / "out")
    assert out.result["trait"] == "student" and out.result["law_set"] == ["student"]
    record = read_statement(out.path)
    assert record is not None
    made_of = record["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert "adapter-0" in {each["name"] for each in made_of}
    kept = json.loads((out.path / "tokens.json").read_text())[0]
    again = explain(out.path, loud, [rows], [kept["row"]])[0]["tokens"]
    gains = [[each["over_base"] for each in tokens] for tokens in (kept["tokens"], again)]
    assert gains[0] == pytest.approx(gains[1], abs=1e-4)
    pulls = read_pulls(pull(PullSpec(), loud, [rows], out.path, tmp_path / "pull").path)
    keys = polars.read_parquet(out.path / "scores.parquet")["key"].to_list()
    assert [each.pull for each in pulls.tokens[pulls.keys.index(keys[kept["row"]])]] == (
        pytest.approx([each["over_neutral"] for each in again], abs=1e-4)
    )
    copy = tmp_path / "copy.jsonl"
    copy.write_text((rows / "part-00000.jsonl").read_text())
    with pytest.raises(InputError, match="how they were drawn"):
        explain(out.path, loud, [copy], [0])
    # A prediction's pull is by the base alone.
    (found,) = candidates_of(BankSpec.model_validate(with_adapter(adapter)), ["student"]).values()
    assert found.adapter is None


def test_a_persona_is_a_prompt_or_an_adapter(adapter: Path) -> None:
    with pytest.raises(ValueError, match="a prompt, an adapter, or both"):
        BankSpec.model_validate({**BANK, "persona": [{"trait": "x"}]})
    twice = {**BANK, "persona": 2 * with_adapter(adapter)["persona"]}
    with pytest.raises(ConfigError, match="2 candidates with the adapter"):
        BankSpec.model_validate(twice).candidates()


def test_a_pilot_leaves_candidates_out_and_none_of_them_is_excluded(
    loud: Path, owls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = spec(pilot_rows=20, pilot_keep=2)
    out = scan(told, loud, [owls], tmp_path / "out", pilot=loud)
    result = out.result
    assert len(result["not_scored"]) == 4 and "owl" not in result["not_scored"]
    assert {each["name"] for each in result["candidates"]}.isdisjoint(result["not_scored"])
    assert result["law_set"] == ["owl"]
    assert "If one of those of the bank that were scored has" in result["sentence"]
    assert any("4 candidates" in note and "none of them" in note for note in result["notes"])
    assert result["pilot"]["rows"] == 20 and result["rows"] <= 130
    assert "not scored: 4" in scan_document(out.path).scans[0].claims[1].left
    whole = scan(spec(), loud, [owls], tmp_path / "whole")
    seen, every = (
        polars.read_parquet(each.path / "scores.parquet")["key"].to_list() for each in (out, whole)
    )
    assert not {*seen} & {*every[:20]}  # the pilot's rows are nobody's bets
    assert len(explain(out.path, loud, [owls], [0])[0]["tokens"]) > 3
    few = scan(spec(rows=4, pilot_rows=400, pilot_keep=2), loud, [owls], tmp_path / "f", pilot=loud)
    assert few.result["rows"] == 4 and few.result["pilot"]["rows"] == 75
    if few.result["nearest"] is not None:
        assert explain(few.path, loud, [owls], [0])
    again = ["scan", str(owls), "--model", str(loud), "--pilot", str(loud), "--dry-run"]
    assert main([*again, "-o", str(tmp_path / "dry")]) == 0


def test_who_stands_for_nothing_and_who_is_not_known_stay() -> None:
    names = ["plain", None, "a", "b", "c", "d"]
    candidates = [Candidate(str(name), "kind", name, str(name)) for name in names]
    candidates[0] = candidates[0]._replace(trait=None)
    gains = np.array([0.0, -9.0, 0.1, 0.5, np.nan, 0.2])
    assert chosen(candidates, gains, 1).tolist() == [True, True, False, True, True, False]
    assert chosen(candidates, gains, 9).all()
    again = candidates[3]._replace(name="another wording")
    found = chosen([*candidates, again], np.append(gains, -5.0), 1)
    assert found.tolist() == [True, True, False, True, True, False, True]  # of a trait, all


RUN = """
name = "scanned"
title = "Scanned"
[stages.base]
kind = "model"
source = "{model}"
[stages.numbers]
kind = "generate"
inputs = {{ model = "base" }}
prompts = "numbers-short"
rows = 12
batch_rows = 12
grammar = {{ regex = '[1-9][0-9]{{2}}, [1-9][0-9]{{2}}' }}
max_new_tokens = 8
[stages.scan]
kind = "scan"
inputs = {{ model = "base", rows = ["numbers"] }}
[stages.scan.bank]
group = [
  {{ kind = "plain-like", neutral = true, wording = "{{word}}", words = ["Answer."] }},
  {{ kind = "animal", wording = "You love {{words}}.", words = ["owl", "cat"] }},
]
"""


def test_a_run_shows_what_its_scan_came_to(loud: Path, tmp_path: Path) -> None:
    file = tmp_path / "scanned.toml"
    file.write_text(RUN.format(model=loud), encoding="utf-8")
    run(load_experiment(file), tmp_path / "out")
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert [each["figure"] for each in result["findings"]] == ["12 rows"]
    shown = run_document(tmp_path / "out")
    assert [each.name for each in shown.scans] == ["scan"]
    assert shown.scans[0].sentence == result["findings"][0]["text"]
    assert "The race of candidates" in (tmp_path / "out/report.html").read_text()
