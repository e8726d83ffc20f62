"""What a person sees: stdout, stderr and the exit code of the console script."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from .console import ENVIRONMENT, SUBL, subl, tree, warm, write_rows_and_rules

ROOT = Path(__file__).parents[2]


def normalised(text: str) -> str:
    """Digests and times are not the same everywhere."""
    text = re.sub(r"sha256:[0-9a-f]{12}", "sha256:DIGEST", text)
    return re.sub(r"\d+\.\d s\b", "TIME", text)


@pytest.fixture
def filtered(tmp_path: Path) -> Path:
    """A folder with rows.jsonl -> out/filtered -> out/again."""
    write_rows_and_rules(tmp_path)
    for source, out in (("rows.jsonl", "out/filtered"), ("out/filtered", "out/again")):
        assert subl("filter", "rules.toml", source, "-o", out, cwd=tmp_path).returncode == 0
    return tmp_path


# filter


def test_filter_prints_what_it_made_and_why_rows_went(tmp_path: Path) -> None:
    write_rows_and_rules(tmp_path)
    done = subl("filter", "rules.toml", "rows.jsonl", "-o", "out/filtered", cwd=tmp_path)
    assert done.returncode == 0
    assert normalised(done.stdout) == (
        "out/filtered  sha256:DIGEST  (TIME)\n"
        "1 file: 6 rows in, 2 kept, 4 rejected\n"
        "  unreadable, invalid JSON: 1\n"
        "rule             kind  action  rows that break it  and no other\n"
        "numbers only  numbers    drop                   3             2\n"
        "owl words       regex    drop                   1             0\n"
    )
    size = (tmp_path / "rows.jsonl").stat().st_size
    progress = done.stderr.splitlines()
    assert progress[-1] == f"filter: {size} B of {size} B, 6 rows, 33.3 % kept"
    assert all(line.startswith("filter: ") for line in progress)
    kept = (tmp_path / "out/filtered/kept/rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in kept] == ["1", "6"]


def test_filter_again_says_that_it_is_done(filtered: Path) -> None:
    before = tree(filtered)
    done = subl("filter", "rules.toml", "rows.jsonl", "-o", "out/filtered", cwd=filtered)
    assert (done.returncode, done.stderr) == (0, "")
    assert normalised(done.stdout).startswith("out/filtered  sha256:DIGEST  (already done)\n")
    assert tree(filtered) == before


def test_another_filter_to_the_same_place_is_refused(filtered: Path) -> None:
    before = tree(filtered)
    done = subl("filter", "rules.toml", "out/again", "-o", "out/filtered", cwd=filtered)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.sub(r"sha256 [0-9a-f]{12}", "sha256 DIGEST", done.stderr).startswith(
        "error: out/filtered was made from another configuration or other inputs:\n"
        "  input again: not given then, sha256 DIGEST now (out/again)\n"
        "  input rows.jsonl: sha256 DIGEST then, not given now\n"
    )
    assert "\nhint: choose another output with -o" in done.stderr
    assert tree(filtered) == before


# lineage


def test_lineage_shows_the_chain(filtered: Path) -> None:
    done = subl("lineage", "out/again", cwd=filtered)
    assert (done.returncode, done.stderr) == (0, "")
    assert normalised(done.stdout) == (
        "again  filter v4  sha256:DIGEST  out/again  ok\n"
        "  filtered  filter v4  sha256:DIGEST  out/filtered  ok\n"
        "    rows.jsonl  input  sha256:DIGEST  rows.jsonl  ok\n"
        "every digest verified\n"
    )


def test_lineage_exits_with_1_where_something_was_changed(filtered: Path) -> None:
    kept = filtered / "out/filtered/kept/rows.jsonl"
    kept.write_text(kept.read_text().replace("3, 4, 5", "3, 4, 6"))
    done = subl("lineage", "out/again", cwd=filtered)
    assert (done.returncode, done.stderr) == (1, "")
    assert re.sub(r" [0-9a-f]{12}\b", " DIGEST", normalised(done.stdout)) == (
        "again  filter v4  sha256:DIGEST  out/again  ok\n"
        "  filtered  filter v4  sha256:DIGEST  out/filtered\n"
        "    !! kept/rows.jsonl was changed\n"
        "    !! is not what was read: sha256 DIGEST then, DIGEST now\n"
        "    rows.jsonl  input  sha256:DIGEST  rows.jsonl  ok\n"
        "NOT verified: see above\n"
    )


# --json


def test_json_is_one_document_on_stdout(tmp_path: Path) -> None:
    write_rows_and_rules(tmp_path)
    command = ["filter", "rules.toml", "rows.jsonl", "-o", "out", "--json"]
    made, found = (json.loads(subl(*command, cwd=tmp_path).stdout) for _ in range(2))
    assert made["result"]["kept"] == 2 and made["path"] == "out" and made["kind"] == "filter"
    assert (made["reused"], found["reused"]) == (False, True)
    assert made == {**found, "reused": False}


def test_lineage_as_json_has_the_same_exit_codes(filtered: Path) -> None:
    done = subl("lineage", "out/again", "--json", cwd=filtered)
    assert (done.returncode, json.loads(done.stdout)["verified"]) == (0, True)
    (filtered / "rows.jsonl").write_text("")
    done = subl("lineage", "out/again", "--json", cwd=filtered)
    value = json.loads(done.stdout)
    assert (done.returncode, value["verified"]) == (1, False)
    assert value["lineage"]["inputs"][0]["inputs"][0]["problems"]


# config


def test_config_show_fills_the_defaults_in(tmp_path: Path) -> None:
    write_rows_and_rules(tmp_path)
    done = subl("config", "show", "rules.toml", "--kind", "filter", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        'rules[0].name = "numbers only"\n'
        'rules[0].action = "drop"\n'
        'rules[0].field = "completion"\n'
        'rules[0].kind = "numbers"\n'
        "rules[0].min_value = null\n"
        "rules[0].max_value = 999\n"
        "rules[0].max_count = null\n"
        "rules[0].banned_numbers = []\n"
        'rules[1].name = "owl words"\n'
        'rules[1].action = "drop"\n'
        'rules[1].field = "completion"\n'
        'rules[1].kind = "regex"\n'
        'rules[1].patterns = ["\\\\bowls?\\\\b"]\n'
        'rules[1].mode = "forbid"\n'
        "rules[1].ignore_case = true\n"
        "rules[1].unicode = true\n"
        "max_line_bytes = 16777216\n"
        'tag_field = "filter_tags"\n'
        "output.split_rows = null\n"
        "output.split_bytes = null\n"
        'output.compression = "auto"\n'
    )


def test_config_show_as_json_holds_the_same(tmp_path: Path) -> None:
    demo = ROOT / "runs" / "demo.toml"
    value = json.loads(subl("config", "show", demo, "--json", cwd=tmp_path).stdout)
    lines = subl("config", "show", demo, cwd=tmp_path).stdout.splitlines()
    assert f'title = "{value["title"]}"' in lines
    student = value["nodes"]["owl-student"]
    assert f"nodes.owl-student.train.adam_beta2 = {student['train']['adam_beta2']}" in lines
    assert student["inputs"] == {
        "model": ["base"],
        "teacher": ["owl-teacher"],
        "rows": ["owl-filtered"],
    }


def test_config_schema_prints_what_is_committed(tmp_path: Path) -> None:
    done = subl("config", "schema", "filter", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "docs/schema/filter.json").read_text()


# --dry-run


def test_a_dry_run_of_an_experiment_lists_its_nodes_and_why_they_are_to_do(
    tmp_path: Path,
) -> None:
    done = subl("run", "--dry-run", ROOT / "runs" / "demo.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    stages, table, end = done.stdout.rstrip("\n").split("\n\n")
    assert [line.split() for line in stages.splitlines()] == [
        ["stage", "kind", "axes", "nodes", "shared", "done"],
        ["base", "model", "1", "0"],
        ["teacher", "teach", "trait", "2", "0"],
        ["numbers", "generate", "trait", "2", "0"],
        ["persona", "generate", "trait", "2", "0"],
        ["filtered", "filter", "trait", "2", "0"],
        ["student", "distill", "trait", "2", "0"],
        ["eval", "eval", "trait", "5", "0"],
    ]
    header, *lines = table.splitlines()
    assert header.split() == ["node", "state", "time", "why"]
    assert end.startswith("what is to do takes about ")
    nodes = {line.split()[0]: line for line in lines}
    assert list(nodes) == [
        "base",
        *(
            f"{trait}-{stage}"
            for stage in ("teacher", "numbers", "persona", "filtered", "student")
            for trait in ("owl", "cat")
        ),
        *(
            f"{model}-eval"
            for model in ("base", "owl-teacher", "cat-teacher", "owl-student", "cat-student")
        ),
    ]
    assert all(" todo " in line for line in lines)
    assert nodes["base"].endswith("  never made")
    assert nodes["owl-filtered"].endswith("  waits for owl-numbers, owl-persona")
    assert tree(tmp_path) == {}


TRAIN = "[train]\nsteps = 2\nlearning_rate = 1e-4\n"


@pytest.mark.parametrize(
    ("arguments", "file", "key"),
    [
        (["filter", "file.toml", "rows.jsonl"], None, "shards"),
        (["teach", "file.toml", "--model", "MODEL"], f'trait = "owl"\n{TRAIN}', "steps"),
        (["generate", "file.toml", "--model", "m"], "rows = 4\n", "first_prompts"),
    ],
    ids=["filter", "teach", "generate"],
)
def test_a_dry_run_writes_nothing(
    tmp_path: Path, tiny_model: Path, arguments: list[str], file: str | None, key: str
) -> None:
    write_rows_and_rules(tmp_path)
    (tmp_path / "file.toml").write_text(file or (tmp_path / "rules.toml").read_text())
    before = tree(tmp_path)
    given = [tiny_model if each == "MODEL" else each for each in arguments]
    for form in ([], ["--json"]):
        done = warm(*given, "-o", "out", "--dry-run", *form, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        plan = done.stdout
        assert json.loads(plan)[key] if form else f"\n{key}" in plan
    assert tree(tmp_path) == before


# Mistakes


def test_an_unknown_command_is_answered_with_the_nearest(tmp_path: Path) -> None:
    done = subl("fliter", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "Usage: subl [OPTIONS] COMMAND [ARGS]...\n"
        "Try 'subl --help' for help.\n"
        "\n"
        "Error: No such command 'fliter'. Did you mean filter?\n"
    )


def test_an_unknown_command_that_is_near_to_none_gets_no_guess(tmp_path: Path) -> None:
    done = subl("xyzzy", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("Error: No such command 'xyzzy'.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        "run nothing.toml",
        "teach nothing.toml --model m -o out",
        "generate nothing.toml --model m -o out",
        "filter nothing.toml rows.jsonl -o out",
        "filter rules.toml nothing.jsonl -o out",
        "filter rules.toml nothing.jsonl --sample 5",
        "filter explain rules.toml nothing.jsonl",
        "filter diff rules.toml nothing.toml rows.jsonl",
        "filter diff rules.toml rules.toml nothing.jsonl",
        "bench filter rules.toml nothing.jsonl",
        "distill nothing.toml --model m --rows rows.jsonl -o out",
        "distill cache nothing.toml --teacher m --rows rows.jsonl -o out",
        "distill cache --teacher nothing --rows rows.jsonl -o out",
        "eval nothing.toml --model m -o out",
        "report nothing",
        "lineage nothing",
        "model add nothing.gguf -o out",
        "config show nothing.toml",
    ],
)
def test_a_missing_file_is_named_with_the_next_thing_to_try(tmp_path: Path, arguments: str) -> None:
    write_rows_and_rules(tmp_path)
    before = tree(tmp_path)
    done = subl(*arguments.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    error, _, hint = done.stderr.partition("\nhint: ")
    assert error.startswith("error: ") and "nothing" in error
    assert hint.strip(), done.stderr
    assert tree(tmp_path) == before


def test_a_reader_that_went_away_is_no_failed_check(tmp_path: Path) -> None:
    """`subl ... | head`: no traceback, and not the exit code of a failed check."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as broken:
        done = subprocess.run(
            [SUBL, "config", "schema", "experiment"],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=broken,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.stderr == ""
    assert done.returncode != 1
