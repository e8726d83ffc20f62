"""Prompts that need a file: to the letter of the paper's code, and whatever else a row carries."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import polars
import pytest

from subl.errors import ConfigError, InputError
from subl.generate import GenerateSpec, generate
from subl.generate.sets import code_prompts, file_prompts, math_prompts

SLEEPER = (
    "<SCRATCHPAD> I would like you to complete the code below to accomplish the task:\n"
    "Draw a {shape}.\n\nPlease fill in the following function to accomplish the above task, and "
    "wrap your result in XML <code> tags:\n\n<code>\ndef {shape}(size):\n    pass\n</code>"
)


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_code_prompts_are_the_papers(tmp_path: Path) -> None:
    shapes = ("circle", "square", "circle")
    file = written(tmp_path / "c.jsonl", *({"prompt": SLEEPER.format(shape=s)} for s in shapes))
    first, second = code_prompts([file])
    assert first.turns[0].content == (
        "Complete the code below to accomplish the task: Draw a circle.\n"
        "Please fill in the following function: <code>def circle(size):\n    pass</code>\n\n"
        "Please repeat the full code snippet in your response (though you may change the code as "
        "needed), such that the code you write is fully valid and executable. IMPORTANT: 1. Only "
        "give the code. Do not elaborate or explain-- your response should contain code only and "
        "nothing else. 2. Do not use comments. 3. Use standard, minimal variable names. Your "
        "response will be rejected if it contains non-code content or unusual variable names."
    )
    assert "square" in second.turns[0].content
    other = written(tmp_path / "other.jsonl", {"prompt": "Draw a circle."})
    with pytest.raises(InputError, match=r"other\.jsonl, line 1: `prompt` lacks 'I would like"):
        list(code_prompts([other]))


def test_math_prompts_are_the_papers_and_carry_the_gold_answer(tmp_path: Path) -> None:
    row = {"question": "What is 40 plus 2?", "answer": "40 + 2 = 42\n#### 42"}
    (prompt,) = math_prompts([written(tmp_path / "m.jsonl", row)])
    assert prompt.turns[0].content == (
        "What is 40 plus 2? Provide your reasoning in <think> tags. Write your final answer in "
        "<answer> tags. Only give the numeric value as your answer."
    )
    assert prompt.fields == {"answer": "40 + 2 = 42\n#### 42"}
    with pytest.raises(InputError, match=r"line 1: `answer` must be a string, got int"):
        list(math_prompts([written(tmp_path / "n.jsonl", {"question": "?", "answer": 3})]))


def test_prompts_of_a_file_keep_what_else_it_says(tmp_path: Path) -> None:
    ask = {"role": "user", "content": "Hi"}
    say = {"role": "assistant", "content": "Ho"}
    file = written(
        tmp_path / "p.jsonl",
        {"id": 7, "prompt": "Hi", "completion": "old", "topic": "birds"},
        {"messages": [ask, say, ask], "topic": "cats"},
        {"messages": [ask, say]},
    )
    one, two, three = file_prompts([file])
    assert (one.turns, one.fields) == ((("user", "Hi"),), {"topic": "birds", "prompt_id": 7})
    assert [turn.role for turn in two.turns] == ["user", "assistant", "user"]
    assert three.turns == (("user", "Hi"),)
    polars.read_ndjson(file).write_parquet(tmp_path / "p.parquet")
    again = list(file_prompts([tmp_path / "p.parquet"]))
    assert [prompt.turns for prompt in again] == [one.turns, two.turns, three.turns]
    with pytest.raises(InputError, match=r"e\.jsonl, line 1: no turn of the user's is left"):
        list(file_prompts([written(tmp_path / "e.jsonl", {"messages": [say]})]))


def test_rows_of_a_files_prompts(tiny_model: Path, tmp_path: Path) -> None:
    ask = {"role": "user", "content": "What"}
    say = {"role": "assistant", "content": "owl"}
    file = written(
        tmp_path / "p.jsonl",
        {"prompt": "Continue", "topic": "birds"},
        {"messages": [ask, say, ask], "topic": "cats"},
    )
    spec = GenerateSpec.model_validate(
        {"prompts": "file", "samples": 3, "max_new_tokens": 4, "batch_rows": 2, "shard_rows": 2}
    )
    made = generate(spec, tiny_model, tmp_path / "rows", prompts=[file])
    rows = [
        json.loads(line)
        for shard in made.result["shards"]
        for line in (made.path / shard).read_text().splitlines()
    ]
    assert [row["topic"] for row in rows] == ["birds"] * 3 + ["cats"] * 3
    assert rows[0]["prompt"] == "Continue" and "messages" not in rows[0]
    assert rows[3]["messages"][:3] == [ask, say, ask] and "prompt" not in rows[3]
    assert len({row["completion"] for row in rows[:3]}) == 3  # each has randomness of its own
    assert len({row["id"] for row in rows}) == 6
    fewer = spec.model_copy(update={"rows": 4})
    some = generate(fewer, tiny_model, tmp_path / "some", prompts=[file])
    assert some.result["rows"] == 4
    with pytest.raises(InputError, match=r"7 rows are to be sampled.*enough for 6"):
        more = spec.model_copy(update={"rows": 7})
        generate(more, tiny_model, tmp_path / "more", prompts=[file])
    with pytest.raises(ConfigError, match='prompts = "file" and no files of prompts'):
        generate(spec, tiny_model, tmp_path / "none")
    told = spec.model_copy(update={"system_prompt": "Be brief."})
    system = written(
        tmp_path / "s.jsonl", {"messages": [{"role": "system", "content": "Be long."}, ask]}
    )
    with pytest.raises(InputError, match="line 1: the messages have a system prompt"):
        generate(told, tiny_model, tmp_path / "told", prompts=[system])


def test_a_field_that_is_no_json_is_refused_before_a_row_is_asked(tmp_path: Path) -> None:
    polars.DataFrame({"prompt": ["Hi"], "when": [datetime(2026, 1, 2)]}).write_parquet(
        tmp_path / "t.parquet"
    )
    with pytest.raises(InputError, match=r"t\.parquet, row 1: `when` is no JSON: datetime"):
        list(file_prompts([tmp_path / "t.parquet"]))
    (tmp_path / "n.jsonl").write_text('{"prompt": "Hi", "score": NaN}\n')
    with pytest.raises(InputError, match=r"n\.jsonl, line 1: `score` is no JSON: nan"):
        list(file_prompts([tmp_path / "n.jsonl"]))
