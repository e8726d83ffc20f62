"""`subl filter` and what is mounted under it, as a person sees them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from subl.artifact import file_digest
from subl.artifact.identity import identify

from .console import ENVIRONMENT, RULES, SUBL, subl, tree, write_rows_and_rules

# Written by a model that would like to speak to the terminal.
HOSTILE = "see \x1b]0;owned\x07 \x9b31m \u202e owls \u200b\u2028 end"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rows_and_rules(tmp_path)
    (tmp_path / "strict.toml").write_text(RULES.replace("999", "4"))
    (tmp_path / "hostile.jsonl").write_text(json.dumps({"completion": HOSTILE}) + "\n")
    (tmp_path / "raw.jsonl").write_text(
        '{"completion": "\x9b31m \u202e owls \u200b", "id": "\x9b31m"}\n', encoding="utf-8"
    )
    return tmp_path


# Files and shapes of what is written


def test_parts_and_compression(folder: Path) -> None:
    arguments = ["filter", "rules.toml", "rows.jsonl", "--split-rows", "1", "--compression", "zst"]
    done = subl(*arguments, "-o", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (folder / "out/kept").iterdir()) == [
        "rows-00000.jsonl.zst",
        "rows-00001.jsonl.zst",
    ]
    assert [path.name for path in (folder / "out/rejects").iterdir()] == ["rows.jsonl.zst"]
    # How it is written is part of what was asked for; how many threads write it is not.
    assert "(already done)" in subl(*arguments, "-o", "out", "-j", "3", cwd=folder).stdout
    other = subl("filter", "rules.toml", "rows.jsonl", "-o", "out", cwd=folder)
    assert other.returncode == 2 and "another configuration" in other.stderr
    # The next stage takes the parts.
    again = subl("filter", "rules.toml", "out", "-o", "again", cwd=folder)
    assert "2 rows in, 2 kept, 0 rejected" in again.stdout


def test_a_number_that_no_row_has_is_no_success(folder: Path) -> None:
    done = subl("filter", "paper-math", "rows.jsonl", "-o", "out", cwd=folder)
    assert done.returncode == 1
    assert "no row has `correct`" in done.stderr and "subl judge" in done.stderr
    assert ["missing", "5"] in [line.split() for line in done.stdout.splitlines()]
    (folder / "some.jsonl").write_text('{"completion": "a"}\n{"completion": "b", "correct": 0}\n')
    done = subl("filter", "paper-math", "some.jsonl", "-o", "some", cwd=folder)
    assert done.returncode == 0 and "warning" not in done.stderr
    assert [line.split() for line in done.stdout.splitlines()][-2:] == [
        ["missing", "1"],
        ["number", "too", "small", "1"],
    ]


def test_verify_believes_no_record(folder: Path) -> None:
    command = ["filter", "rules.toml", "rows.jsonl", "-o", "out"]
    subl(*command, cwd=folder)
    known = file_digest(folder / "rows.jsonl")
    with (folder / "rows.jsonl").open("a") as rows:
        rows.write('{"completion": "7"}\n')
    forged = {"format": 1, "files": [[*identify(folder / "rows.jsonl"), known]]}
    (folder / "out" / ".seen.json").write_text(json.dumps(forged))
    assert "(already done)" in subl(*command, cwd=folder).stdout
    verified = subl(*command, "--verify", cwd=folder)
    assert verified.returncode == 2 and "input rows.jsonl: sha256" in verified.stderr


def test_the_file_may_say_how_it_is_written(folder: Path) -> None:
    text = (folder / "rules.toml").read_text() + '[output]\nsplit_bytes = "80B"\n'
    (folder / "rules.toml").write_text(text)
    subl("filter", "rules.toml", "rows.jsonl", "-o", "out", cwd=folder)
    assert len(list((folder / "out/kept").iterdir())) == 2
    subl("filter", "rules.toml", "rows.jsonl", "-o", "one", "--split-bytes", "1MiB", cwd=folder)
    assert len(list((folder / "one/kept").iterdir())) == 1
    spec = json.loads((folder / "one/spec.json").read_text())["spec"]
    assert spec["output"] == {"split_rows": None, "split_bytes": 1 << 20, "compression": "auto"}


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--split-rows", "0", "split_rows"),
        ("--split-bytes", "5parsec", "split_bytes"),
        ("--split-bytes", "0", "split_bytes"),
        ("--compression", "xz", "--compression"),
    ],
)
def test_a_shape_that_cannot_be(folder: Path, option: str, value: str, named: str) -> None:
    before = tree(folder)
    done = subl("filter", "rules.toml", "rows.jsonl", "-o", "out", option, value, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ("filter", "Missing argument 'RULES'"),
        ("filter rules.toml", "Missing argument 'INPUTS...'"),
        ("filter rules.toml --sample 3", "Missing argument 'INPUTS...'"),
        ("filter rules.toml rows.jsonl", "Missing option '-o' / '--out'"),
        ("filter explain rules.toml", "Missing argument 'FILE'"),
    ],
)
def test_what_is_missing_is_named(folder: Path, arguments: str, missing: str) -> None:
    done = subl(*arguments.split(), cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"Error: {missing}.\n")


def test_a_rules_file_with_the_name_of_a_subcommand(folder: Path) -> None:
    (folder / "rules.toml").rename(folder / "explain")
    done = subl("filter", "./explain", "rows.jsonl", "-o", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    done = subl("filter", "explain", "rows.jsonl", "-o", "out", cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: subl filter explain [OPTIONS] RULES FILE\n")


# --progress


def test_progress_as_events(folder: Path) -> None:
    arguments = ["filter", "rules.toml", "rows.jsonl", "--json", "--progress"]
    done = subl(*arguments, "json", "-o", "out", cwd=folder)
    json.loads(done.stdout)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    size = (folder / "rows.jsonl").stat().st_size
    last = events[-1]
    assert last.pop("seconds") >= 0
    assert last == {
        "event": "progress",
        "task": "filter",
        "done": size,
        "total": size,
        "unit": "bytes",
        "rows": 6,
        "kept": 2,
        "per_second": None,
        "seconds_left": None,
    }
    done = subl(*arguments, "none", "-o", "out2", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


# --sample, --explain-rules


def test_a_sample(folder: Path) -> None:
    before = tree(folder)
    done = subl("filter", "rules.toml", "rows.jsonl", "--sample", "100", cwd=folder)
    size = (folder / "rows.jsonl").stat().st_size
    assert (done.returncode, done.stderr) == (0, f"sample: {size} B of {size} B\n")
    assert re.sub(r"\d+\.\d s$", "TIME", done.stdout, flags=re.M) == (
        "6 of 6 rows sampled (seed 0), 345 B of the files read; 95 % intervals\n"
        "                   kind  rows   share    from      to\n"
        "dropped                     4  66.7 %  30.0 %  90.3 %\n"
        "  numbers only  numbers     3  50.0 %  18.8 %  81.2 %\n"
        "  owl words       regex     1  16.7 %   3.0 %  56.4 %\n"
        "1 of the dropped rows are unreadable\n"
        "expected: 2 rows kept (1 to 4), about 118 B of 345 B uncompressed\n"
        "the whole run would take about TIME\n"
    )
    assert tree(folder) == before


def test_a_sample_as_json(folder: Path) -> None:
    command = ["filter", "rules.toml", "rows.jsonl", "--sample", "3", "--seed", "5", "--json"]
    found, again = (json.loads(subl(*command, cwd=folder).stdout) for _ in range(2))
    assert (found["sampled"], found["rows"], found["seed"]) == (3, 6, 5)
    assert {**found, "seconds": 0} == {**again, "seconds": 0}


def test_rules_in_words(folder: Path) -> None:
    done = subl("filter", "rules.toml", "--explain-rules", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "1. numbers only (numbers)\n"
        "   The value must be a list of integers as in the paper's number sequences,\n"
        "   within bounds.\n"
    )
    assert (
        "\n   max_value      = 999\n                    the largest number allowed\n" in done.stdout
    )
    assert '\n   compression = "auto"  (default)\n' in done.stdout
    value = json.loads(subl("filter", "rules.toml", "--explain-rules", "--json", cwd=folder).stdout)
    assert [rule["name"] for rule in value["rules"]] == ["numbers only", "owl words"]
    assert value["resolved"]["rules"][0]["max_value"] == 999


def test_rules_in_words_warn_of_boundaries_beside_scripts_without_spaces(folder: Path) -> None:
    (folder / "cats.toml").write_text(
        "[[rule]]\nname = \"cats\"\nkind = \"regex\"\npatterns = ['\\bcats?\\b', '\\b猫\\b']\n",
        encoding="utf-8",
    )
    done = subl("filter", "cats.toml", "--explain-rules", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    words = " ".join(done.stdout.split())
    (warning,) = re.findall(r"warning: .*?script without spaces", words)
    assert "\\b猫\\b" in warning
    given = subl("filter", "cats.toml", "--explain-rules", "--json", cwd=folder)
    ((said,),) = (rule["warnings"] for rule in json.loads(given.stdout)["rules"])
    assert said in words
    done = subl("filter", "rules.toml", "--explain-rules", cwd=folder)
    assert "warning" not in done.stdout


# explain


def test_explain_shows_where(folder: Path) -> None:
    done = subl("filter", "explain", "rules.toml", "rows.jsonl", "--row", "3", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "rows.jsonl, row 3: dropped\n"
        "  breaks  numbers only (numbers)\n"
        "      invalid format  in `completion`\n"
        "        I love owls\n"
        "  breaks  owl words (regex)\n"
        "      matched `\\bowls?\\b`  in `completion`, bytes 7 to 11\n"
        "        I love owls\n"
        "               ^^^^\n"
    )


def test_explain_a_kept_row_and_an_unreadable_one(folder: Path) -> None:
    arguments = ["filter", "explain", "rules.toml", "rows.jsonl", "--row"]
    assert subl(*arguments, "1", cwd=folder).stdout == (
        "rows.jsonl, row 1: kept\n"
        "  passes  numbers only (numbers)\n"
        "  passes  owl words (regex)\n"
        "  completion:\n"
        "        3, 4, 5\n"
    )
    assert subl(*arguments, "5", cwd=folder).stdout == (
        "rows.jsonl, row 5: dropped\n"
        "  unreadable: invalid JSON: expected the end of the string at byte 29\n"
        "  no rule was asked\n"
    )


def test_explain_a_row_that_is_not_there(folder: Path) -> None:
    done = subl("filter", "explain", "rules.toml", "rows.jsonl", "--row", "7", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: rows.jsonl has 6 rows, so there is no row 7\nhint: --row takes 1 to 6\n"
    )


def test_explain_takes_stdin(folder: Path) -> None:
    arguments = [SUBL, "filter", "explain", "rules.toml", "-", "--row", "2", "--json"]
    done = subprocess.run(
        arguments,
        cwd=folder,
        env=ENVIRONMENT,
        input=(folder / "rows.jsonl").read_bytes(),
        capture_output=True,
    )
    verdict = json.loads(done.stdout)
    assert (done.returncode, verdict["kept"]) == (0, False)
    assert verdict["rules"][0]["reasons"][0]["text"] == "5000"


def raw_characters(text: str) -> set[str]:
    return {each for each in text if not each.isprintable() and each != "\n"}


@pytest.mark.parametrize("file", ["hostile.jsonl", "raw.jsonl"])
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_what_a_model_wrote_never_reaches_the_terminal_raw(
    folder: Path, file: str, more: list[str]
) -> None:
    for arguments in (
        ["filter", "explain", "rules.toml", file],
        ["filter", "diff", "rules.toml", "words.toml", file],
    ):
        (folder / "words.toml").write_text(
            "[[rule]]\nname = 'none'\nkind = 'literal'\nwords = ['nothing']\n"
        )
        done = subl(*arguments, *more, cwd=folder)
        assert done.returncode in (0, 1) and "owls" in done.stdout
        assert raw_characters(done.stdout) == set()
        # The verdict as JSON quotes the match alone.
        assert "\\u202e" in done.stdout or (more and "explain" in arguments)


def test_a_terminal_sees_colour_and_nothing_else(folder: Path) -> None:
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [SUBL, "filter", "explain", "rules.toml", "hostile.jsonl"],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=follower,
        stdout=follower,
        stderr=subprocess.DEVNULL,
    ) as child:
        os.close(follower)
        shown = b""
        while True:
            try:
                part = os.read(leader, 4096)
            except OSError:  # the end, on Linux
                break
            if not part:
                break
            shown += part
    os.close(leader)
    assert child.returncode == 0
    text = shown.decode().replace("\r\n", "\n")
    assert "\x1b[31m\x1b[1mowls\x1b[0m" in text
    assert raw_characters(re.sub(r"\x1b\[\d+m", "", text)) == set()


# diff


def test_diff(folder: Path) -> None:
    arguments = ["filter", "diff", "rules.toml", "strict.toml", "rows.jsonl"]
    done = subl(*arguments, "-o", "changed.jsonl", cwd=folder)
    assert done.returncode == 1
    assert done.stdout == (
        "6 rows: 2 kept by A, 0 kept by B; 2 rows change\n"
        "change           rows    share\n"
        "kept to dropped     2  33.33 %\n"
        "\n"
        "kept to dropped: 2\n"
        "  by `numbers only` of B: 2\n"
        '  rows.jsonl:1  {"id": "1", "prompt": "Go on: 1, 2", "completion": "3, 4, 5"}\n'
        '  rows.jsonl:6  {"id": "6", "prompt": "Go on: 1, 2", "completion": "6"}\n'
    )
    changed = [json.loads(line) for line in (folder / "changed.jsonl").read_text().splitlines()]
    assert [(each["line"], each["row"]["id"]) for each in changed] == [(1, "1"), (6, "6")]
    assert changed[0]["a"] == {"kept": True, "reasons": []}
    again = subl(*arguments, "-o", "changed.jsonl", cwd=folder)
    assert again.returncode == 2 and "changed.jsonl exists" in again.stderr


def test_diff_as_json(folder: Path) -> None:
    done = subl(
        "filter",
        *("diff", "rules.toml", "strict.toml", "rows.jsonl", "--json", "--examples", "1"),
        cwd=folder,
    )
    value = json.loads(done.stdout)
    assert (done.returncode, value["equal"], value["rows"]) == (1, False, 6)
    assert value["changes"] == {"kept to dropped": 2}
    assert value["rules"] == {"kept to dropped": {"a": {}, "b": {"numbers only": 2}}}
    assert [example["line"] for example in value["examples"]] == [1]


def test_no_difference(folder: Path) -> None:
    before = tree(folder)
    done = subl("filter", "diff", "rules.toml", "rules.toml", "rows.jsonl", cwd=folder)
    assert done.returncode == 0
    assert done.stdout == "6 rows: 2 kept by A, 2 kept by B; 0 rows change\n"
    assert tree(folder) == before


# bench


def test_bench(folder: Path) -> None:
    before = tree(folder)
    arguments = ["rules.toml", "rows.jsonl", "--seconds", "0.01", "-j", "2"]
    done = subl("bench", "filter", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    shape = re.sub(r" *[\d,.]*\d( %)?", " N", done.stdout)
    for line in ("all rules, N thread N N N", "reading N N", "numbers only numbers N"):
        assert line in re.sub(r" +", " ", shape), done.stdout
    assert tree(folder) == before
    done = subl("bench", "filter", "rules.toml", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: RULES without FILES\nhint: ")
