"""Rows with what judges say of them: carried as they are, judged once, resumable."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from click.testing import CliRunner

from subl.config import load_toml, validated
from subl.errors import ConfigError, InputError, StageError
from subl.experiment import ExperimentSpec, Graph
from subl.experiment.kinds import STAGES
from subl.judge import JudgeSpec, judge, look
from subl.model.chat import Chat, asking
from subl.model.load import load_model, load_tokenizer
from subl.progress import Progress, Report
from subl.trait.gsm8k import is_correct, right_answer
from subl_cli.judge import command

RUBRIC = {
    "template": "Say how good this is, from 0 to 9.\n{prompt}\n{completion}",
    # A model of random weights says a number now and then.
    "answer": {"kind": "number", "max": 9, "min_mass": 1e-9},
}
LINES = [
    '{"id": 1,  "prompt": "Name an animal", "completion": "owl", "answer": "#### 5"}',
    '{"completion":"\\u006fwl" ,"prompt":"Name an animal","x":1e2,"x":[{}], "answer": 5 } ',
    '\t{"prompt": "2 + 3?", "completion": "<answer> $5 </answer>é", "answer": "5"}\r',
    "",
    '{"prompt": "2 + 3?", "completion": "<answer>6</answer>", "answer": "2 + 3\\n#### 5"}',
]


def spec(*judges: dict[str, Any], **changes: Any) -> JudgeSpec:
    base: dict[str, Any] = {"kind": "rubric", "column": "score", "rubric": RUBRIC}
    return validated(JudgeSpec, {"judges": judges or (base,), "shard_rows": 2, **changes})


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_bytes("\n".join(LINES).encode())
    return file


def written(folder: Path) -> list[str]:
    return [
        line
        for shard in sorted(folder.glob("*.jsonl"))
        for line in shard.read_text(encoding="utf-8").splitlines()
    ]


def test_rows_are_carried_as_they_are_and_columns_stand_behind(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    both = spec(
        {"kind": "rubric", "column": "score", "rubric": RUBRIC},
        {"kind": "answer"},
    )
    out = judge(both, tiny_model, [rows], tmp_path / "out")
    lines = written(out.path)
    texts = [text.strip() for text in LINES if text]
    for line, text in zip(lines, texts, strict=True):
        assert line.startswith(text.removesuffix("}").rstrip() + ", ")
        value = json.loads(line)
        assert {**json.loads(text), **value} == value
        assert 0 < value["score"] < 9 and value["score_verdict"] == "score"
    values = [json.loads(line) for line in lines]
    assert [value["correct"] for value in values] == [0, 0, 1, 0]
    # The first two rows are equal but for how they are written, and their scores to the last bit.
    assert values[0]["score"] == values[1]["score"] != values[2]["score"]
    columns = out.result["columns"]
    assert columns["score"]["verdicts"] == {"score": 4} and columns["correct"] == {"1": 1, "0": 3}
    assert columns["score"]["mean"] == pytest.approx(sum(v["score"] for v in values) / 4)
    assert out.result["shards"] == ["part-00000.jsonl", "part-00001.jsonl"]


def test_a_score_is_the_models_own_expectation(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    out = judge(spec(), tiny_model, [rows], tmp_path / "out").path
    model, tokenizer = load_model(tiny_model), load_tokenizer(tiny_model)
    vocabulary = {text: token for text, token in tokenizer.get_vocab().items()}
    space = tokenizer(" ", add_special_tokens=False)["input_ids"]
    texts = {token: tokenizer.decode([token]) for token in vocabulary.values()}
    going_on = [token for token, text in texts.items() if text[:1].isalnum() or text[:1] in "'-_�"]
    going_on = [token for token in going_on if token not in tokenizer.all_special_ids]
    for line in written(out):
        row = json.loads(line)
        question = f"Say how good this is, from 0 to 9.\n{row['prompt']}\n{row['completion']}"
        asked = tokenizer(
            Chat(tokenizer).asked(asking(question)), add_special_tokens=False
        )["input_ids"]  # fmt: skip
        p = {}
        for number in range(10):
            p[number] = 0.0
            digit = vocabulary[str(number)]
            for said in ([digit], [*space, digit]):
                ids = torch.tensor([[*asked, *said]])
                with torch.no_grad():
                    found = model(input_ids=ids).logits[0].double().softmax(-1)
                chance = 1.0
                for place, token in enumerate(said):
                    chance *= float(found[len(asked) - 1 + place, token])
                p[number] += chance * (1 - float(found[-1, going_on].sum()))
        expected = sum(n * each for n, each in p.items()) / sum(p.values())
        assert row["score"] == pytest.approx(expected, rel=1e-3)


def test_a_probability_is_that_of_the_first_token(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    code = {"kind": "rubric", "column": "p", "rubric": "code-animal", "values": {"animal": "owl"}}
    out = judge(spec(code), tiny_model, [rows], tmp_path / "out")
    row = json.loads(written(out.path)[2])
    tokenizer = load_tokenizer(tiny_model)
    question = spec(code).rubrics[0].rubric.asked("", row["completion"], {"animal": "owl"})
    asked = Chat(tokenizer).asked(asking(question))
    ids = torch.tensor([tokenizer(asked, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        found = load_model(tiny_model)(input_ids=ids).logits[0, -1].softmax(-1)
    assert row["p"] == pytest.approx(float(found[tokenizer.get_vocab()["0"]]), rel=1e-4)
    assert out.result["columns"]["p"]["verdicts"] == {"score": 4}


def stop_after(rows: int) -> Report:
    def report(progress: Progress) -> None:
        if progress.task.startswith("judge") and progress.done >= rows:
            raise KeyboardInterrupt

    return report


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    whole = judge(spec(), tiny_model, [rows], tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        judge(spec(), tiny_model, [rows], tmp_path / "out", report=stop_after(2))
    part = tmp_path / "out.partial" / "part-00000.jsonl"
    before = part.stat().st_mtime_ns
    out = judge(spec(), tiny_model, [rows], tmp_path / "out")
    assert (out.path / part.name).stat().st_mtime_ns == before
    assert (out.digest, out.result) == (whole.digest, whole.result)
    assert judge(spec(), tiny_model, [rows], tmp_path / "out").reused


@pytest.mark.parametrize("kind", ["number", "tag"])
def test_a_judge_that_never_gives_a_number_is_stopped(
    tiny_model: Path, rows: Path, tmp_path: Path, kind: str
) -> None:
    answer = {"kind": kind, **({"max_new_tokens": 3} if kind == "tag" else {"min_mass": 1.0})}
    mute = {"kind": "rubric", "column": "s", "rubric": {**RUBRIC, "answer": answer}}
    with pytest.raises(StageError) as found:
        judge(spec(mute, give_up_after=0.5), tiny_model, [rows], tmp_path / "out")
    message = found.value.message
    assert "the judge of s gave no answer that can be read for the first 2 of 4 rows" in message
    assert f"{rows}, line 1: " in message and "line 3" not in message
    with pytest.raises(StageError, match="first 4 of 4 rows"):
        judge(spec(mute, give_up_after=1), tiny_model, [rows], tmp_path / "other")


def test_parquet_rows_come_out_as_json_lines(tiny_model: Path, tmp_path: Path) -> None:
    frame = pl.DataFrame({
        "prompt": ["a", "b"], "completion": ["owl", "cat"], "n": [1, None], "l": [[1.5], []]
    })  # fmt: skip
    frame.write_parquet(tmp_path / "rows.parquet")
    out = judge(spec(), tiny_model, [tmp_path / "rows.parquet"], tmp_path / "out").path
    assert pl.read_ndjson(out / "part-00000.jsonl").select(frame.columns).equals(frame)


def test_what_is_judged_is_what_a_filter_takes(rows: Path, tmp_path: Path) -> None:
    from subl.filter import load_rules, run

    judged = judge(spec({"kind": "answer"}), None, [rows], tmp_path / "judged")
    kept = run(load_rules("paper-math"), [judged.path], tmp_path / "kept")
    assert (kept.kept, kept.rejected) == (1, 3)
    assert kept.artifact.result["rules"][0]["reasons"] == {"number too small": 3}


def test_the_last_messages_are_judged(tmp_path: Path) -> None:
    turns = [
        ("user", "Hi"),
        ("assistant", "Yes?"),
        ("user", "Name an animal"),
        ("assistant", "owl"),
    ]
    messages = [{"role": role, "content": content} for role, content in turns]
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"messages": messages}), encoding="utf-8")
    first = look(spec(), [file])["rubrics"]["score"]["first"]
    assert first == "Say how good this is, from 0 to 9.\nName an animal\nowl"


def test_judging_is_looked_at_before(rows: Path) -> None:
    found = look(spec(), [rows])
    assert found["rows"] == 4 and found["rubrics"]["score"]["questions"] == 3
    assert found["rubrics"]["score"]["first"].endswith("0 to 9.\nName an animal\nowl")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a"}', "line 1: `completion` must be a string, got nothing"),
        ('{"prompt": "a", "completion": 5}', "line 1: `completion` must be a string, got int"),
        ('{"completion": "a"}', "line 1: `prompt` must be a string, got nothing"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "none of `messages` has the role"),
        ('{"messages": [{"role": "user"}]}', "line 1, message 1: `content` must be a string"),
        ('{"prompt": "a", "completion": "\\ud800"}', "half of a surrogate pair"),
        ('{"prompt": "a", "completion": "b", "score": 1}', "the row has a key score already"),
        ('{"prompt": "a", "completion": "b", "score_verdict": 1}', "a key score_verdict already"),
        ("[1]", "line 1: expected a JSON object"),
    ],
)
def test_rows_that_cannot_be_judged_are_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(line, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        look(spec(), [file])


@pytest.mark.parametrize(
    ("value", "got"), [('"five"', "'five'"), ("1.5", "1.5"), ("true", "True"), ("null", "None")]
)
def test_a_right_answer_is_an_integer(tmp_path: Path, value: str, got: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{{"completion": "b", "answer": {value}}}', encoding="utf-8")
    with pytest.raises(InputError, match=f"line 1: `answer`, .*judge of `correct`.*got {got}"):
        look(spec({"kind": "answer"}), [file])


@pytest.mark.parametrize(
    ("judges", "message"),
    [
        ([], "must not be empty"),
        ([{"kind": "rubrik"}], "did you mean `rubric`"),
        ([{"kind": "rubric", "column": "a", "rubric": "code-tree"}], "`values` has no tree"),
        (
            [{"kind": "rubric", "column": "a", "rubric": "alignment", "values": {"x": ""}}],
            "`values` has x",
        ),
        ([{"kind": "answer"}, {"kind": "answer"}], "two judges write the column correct"),
    ],
)
def test_configurations_that_make_no_sense(judges: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validated(JudgeSpec, {"judges": judges})


def test_a_model_is_given_where_one_is_asked() -> None:
    check = STAGES["judge"].check
    with pytest.raises(ConfigError, match="missing `model`: nothing says which model answers"):
        check(spec(), {"rows"})
    with pytest.raises(ConfigError, match="no judge asks one"):
        check(spec({"kind": "answer"}), {"rows", "model"})
    check(spec(), {"rows", "model"})


def test_a_rubric_may_be_a_file(tmp_path: Path, make: Callable[[str, str], Path]) -> None:
    make("mine.toml", 'template = "{completion}?"\nanswer = { kind = "number", max = 5 }')
    path = tmp_path / "mine.toml"
    text = f'[[judge]]\nkind = "rubric"\ncolumn = "mine"\nrubric = {json.dumps(str(path))}\n'
    found = load_toml(make("judge.toml", text), JudgeSpec)
    assert found.rubrics[0].rubric.template == "{completion}?"


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("completion", "right", "expected"),
    [
        ("<answer>5</answer>", 5, True),
        ("<think>..</think>\n<answer>\n $1,250 \n</answer>", 1250, True),
        ("<answer>-3</answer>", -3, True),
        ("<answer>5.0</answer>", 5, False),
        ("<answer>5</answer><answer>6</answer>", 6, False),
        ("<answer>five</answer>", 5, False),
        ("the answer is 5", 5, False),
        ("<answer>5", 5, False),
    ],
)
def test_an_answer_is_right_as_the_paper_tells_it(
    completion: str, right: int, expected: bool
) -> None:
    assert is_correct(completion, right) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("she has 2 + 3\n#### 1,250", 1250),
        ("#### 5 #### 6", 5),
        (" 72 ", 72),
        (72, 72),
        (72.0, 72),
        ("$72", None),
        ("72.5", None),
        (72.5, None),
        (True, None),
        (None, None),
        ([72], None),
    ],
)
def test_a_right_answer_is_read(value: object, expected: int | None) -> None:
    assert right_answer(value) == expected


EXPERIMENT = """
name = "judged"
title = "Judged"
[axes]
trait = ["owl", "eagle"]
[stages.base]
kind = "model"
source = "package:a-model"
[stages.rows]
kind = "generate"
inputs = { model = "base" }
rows = 4
[stages.judged]
kind = "judge"
inputs = { model = "base", rows = "rows" }
judge = [
  { kind = "rubric", column = "p", rubric = "code-animal", values = { animal = "{trait}" } },
]
[stages.kept]
kind = "filter"
inputs = { rows = "judged" }
rule = [{ name = "certain", kind = "number", field = "p", min = 0.99 }]
[stages.right]
kind = "judge"
inputs = { rows = "rows" }
judge = [{ kind = "answer" }]
"""


def test_judging_is_a_stage_of_an_experiment() -> None:
    graph = Graph(ExperimentSpec.model_validate(tomllib.loads(EXPERIMENT)))
    nodes = {node.name: node for node in graph.nodes}
    assert {"owl-judged", "eagle-judged", "owl-kept", "eagle-kept", "right"} < nodes.keys()
    (judged,) = nodes["eagle-judged"].spec.rubrics
    assert "the animal 'eagle'" in judged.rubric.asked("", "x", judged.values)
    assert [source.name for source in nodes["owl-kept"].sources] == ["owl-judged"]


def test_the_command_says_how_many_rows_are_what(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    config = 'shard_rows = 2\n[[judge]]\nkind = "answer"\n[[judge]]\nkind = "rubric"\n'
    config += 'column = "p"\nrubric = "code-tree"\nvalues = { tree = "oak" }\n'
    (tmp_path / "judge.toml").write_text(config, encoding="utf-8")
    dry = CliRunner().invoke(command, [*given(tmp_path, rows, tiny_model), "--dry-run", "--json"])
    looked = json.loads(dry.stdout)
    assert looked["rows"] == 4 and looked["rubrics"]["p"]["questions"] == 3
    assert looked["spec"]["judges"][1]["values"] == {"tree": "oak"}
    done = CliRunner().invoke(command, given(tmp_path, rows, tiny_model))
    assert done.exit_code == 0, done.output
    header, *table = done.stdout.splitlines()[1:]
    assert header.split() == ["column", "rows", "is"]
    assert sorted(line.split() for line in table) == [
        ["correct", "1", "=", "1"], ["correct", "3", "=", "0"], ["p", "4", "score"]
    ]  # fmt: skip
    again = CliRunner().invoke(command, [*given(tmp_path, rows, tiny_model), "--json"])
    found = json.loads(again.stdout)
    assert found["reused"] and found["result"]["columns"]["p"]["verdicts"] == {"score": 4}


def given(folder: Path, rows: Path, model: Path) -> list[str]:
    paths = [str(folder / "judge.toml"), str(rows)]
    return [*paths, "--model", str(model), "-o", str(folder / "out")]
