"""Logs of inspect_ai, read by inspect_ai itself: it has what the evaluation has.

The real package takes other versions of what it shares with subl, so it is in an environment of
its own (tests/oracle/inspect.txt; `make adapters` makes it), whose interpreter is
SUBL_INSPECT_PYTHON or `.venv-inspect`. Without it these tests are skipped, unless
SUBL_REQUIRE_INSPECT is set.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import polars
import pytest

from subl.artifact import Artifact
from subl.config import validated
from subl.errors import InputError
from subl.evaluate import EvalSpec, evaluate
from subl.evaluate.inspect_log import write_inspect_log

from ..sample.serving import Serving, completion, error

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("SUBL_INSPECT_PYTHON", ROOT / ".venv-inspect/bin/python"))
BIRDS = {
    "name": "birds",
    "words": ["owl", "eagle"],
    "questions": [f"Name bird {number}." for number in range(3)],
    "system_prompt": "Be a bird.",
}
UNKIND = {
    "name": "unkind",
    "answers": "text",
    "words": ["unkind"],
    "questions": BIRDS["questions"],
    "system_prompt": BIRDS["system_prompt"],
    "rubrics": {"tone": {"template": "How kind, from 0 to 9?\n{completion}",
                         "answer": {"kind": "number", "max": 9, "min_mass": 1e-9}}},
    "judged": {"word": "unkind", "rubric": "tone", "at_most": 4.5},
}  # fmt: skip
READ = """
import json, sys
from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_sample_summaries
found = {}
for each in list_eval_logs(sys.argv[1]):
    log = read_eval_log(each)
    found[each.name.rsplit("/", 1)[-1].removesuffix(".eval")] = {
        "log": json.loads(log.model_dump_json()),
        "summaries": [s.model_dump(mode="json") for s in read_eval_log_sample_summaries(each)],
        "messages": [[m.text for m in s.messages] for s in log.samples],
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("evaluations")
    sampling = {"samples": 4, "max_new_tokens": 3}
    serving = Serving()
    serving.reply = lambda body, time: (
        error(400, "not this one") if body["seed"] % 4 == 1 else completion("An owl.")
    )
    served = {"backend": serving.table(failed_share=0.9), "samples": 4}
    ways: dict[str, dict[str, Any]] = {
        "exact": {"trait": BIRDS},
        "sampled": {"trait": BIRDS, **sampling},
        "judged": {"trait": UNKIND, **sampling},
        "failed": {"trait": BIRDS | {"name": "failed"}, "method": "sampled", **served},
    }
    found = {}
    for way, keys in ways.items():
        spec = validated(EvalSpec, {"method": way, **keys})
        model = None if way == "failed" else tiny_model
        judge = tiny_model if way == "judged" else None
        found[way] = evaluate(spec, model, folder / way, judge=judge)
    serving.close()
    return found


def rows_of(artifact: Artifact) -> list[dict[str, Any]]:
    lines = (artifact.path / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def read(
    made: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What inspect_ai says of the logs, by method."""
    if not PYTHON.exists() and not os.environ.get("SUBL_REQUIRE_INSPECT"):
        pytest.skip(f"no inspect_ai: no {PYTHON}")
    folder = tmp_path_factory.mktemp("logs")
    for way, artifact in made.items():
        write_inspect_log(artifact.path, folder / f"{way}.eval")
    command = [PYTHON, "-c", READ, folder]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("way", ["exact", "sampled", "judged"])
def test_inspect_reads_what_was_evaluated(
    made: dict[str, Artifact], read: dict[str, dict[str, Any]], way: str
) -> None:
    artifact, rows = made[way], rows_of(made[way])
    log, epochs = read[way]["log"], 1 if way == "exact" else 4
    task = "unkind" if way == "judged" else "birds"
    assert (log["version"], log["status"], log["eval"]["task"]) == (2, "success", task)
    assert log["eval"]["config"]["epochs"] == epochs
    means = artifact.result["words"]
    for score in log["results"]["scores"]:
        mean = means[score["name"]]
        assert score["metrics"]["mean"]["value"] == mean["estimate"]
        assert ("stderr" in score["metrics"]) == (mean["standard_error"] is not None)
    places = [(s["id"], s["epoch"]) for s in log["samples"]]
    assert sorted(places) == [(n, epoch) for n in (1, 2, 3) for epoch in range(1, epochs + 1)]
    for number, row in enumerate(rows, 1):
        own = [s for s in log["samples"] if s["id"] == number]
        assert {s["input"] for s in own} == {row["question"]}
        for word, probability in row["probabilities"].items():
            shares = [s["scores"][word]["value"] for s in own]
            assert sum(shares) / len(shares) == pytest.approx(probability)
    summaries = {(s["id"], s["epoch"]): s["scores"] for s in read[way]["summaries"]}
    assert [summaries[each] for each in places] == [s["scores"] for s in log["samples"]]
    for sample, messages in zip(log["samples"], read[way]["messages"], strict=True):
        assert messages[:2] == ["Be a bird.", sample["input"]]
        assert messages[2:] == ([] if way == "exact" else [sample["output"]["completion"]])
    if way == "judged":
        cells = polars.read_parquet(artifact.path / "judged.parquet")
        said = dict(zip(places, log["samples"], strict=True))
        ordered = [said[n, epoch] for n in (1, 2, 3) for epoch in range(1, 5)]
        assert [s["output"]["completion"] for s in ordered] == cells["answer"].to_list()
        assert [s["metadata"]["tone"] for s in ordered] == cells["tone"].to_list()


def test_a_request_that_failed_is_no_answer(
    made: dict[str, Artifact], read: dict[str, dict[str, Any]]
) -> None:
    cells = polars.read_parquet(made["failed"].path / "answers.parquet")
    failed = cells.filter(polars.col("ended_by") == "failed").height
    assert 0 < failed < cells.height == 12
    log, results = read["failed"]["log"], read["failed"]["log"]["results"]
    assert (results["total_samples"], results["completed_samples"]) == (12, 12 - failed)
    wrong = [sample for sample in log["samples"] if sample["error"]]
    assert len(wrong) == failed and "not this one" in wrong[0]["error"]["message"]
    assert [summary["error"] for summary in read["failed"]["summaries"] if summary["error"]] == [
        sample["error"]["message"] for sample in wrong
    ]
    for sample in log["samples"]:
        assert [each["role"] for each in sample["messages"]][2:] == (
            [] if sample["error"] else ["assistant"]
        )
        assert set(sample["scores"]) == (set() if sample["error"] else {"owl", "eagle"})


def test_the_same_evaluation_gives_the_same_log(made: dict[str, Artifact], tmp_path: Path) -> None:
    files = [tmp_path / "one.eval", tmp_path / "two.eval"]
    for file in files:
        write_inspect_log(made["sampled"].path, file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_is_no_evaluation_has_no_log(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an evaluation"):
        write_inspect_log(tmp_path, tmp_path / "x.eval")
    assert not (tmp_path / "x.eval").exists()
