"""`subl traits` lists what ships, and `show` prints one, by its name or as a file."""

from __future__ import annotations

import json
from pathlib import Path

from subl.shipped import shipped
from subl.trait.rubric import load_rubric

from .console import subl


def test_the_traits_that_ship_are_listed(tmp_path: Path) -> None:
    done = subl("traits", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert set(shipped("traits")) <= set(lines)
    assert lines["trees"].split()[1:4] == ["word", "49", "cherry,"]
    assert "a file's" in lines["truthfulqa"]
    many = lines["random-words-numbers"]
    assert many.split()[2] == "10,000" and "vigilance, ...  " in many and "euphoria" not in many


def test_a_trait_is_shown_as_it_is_asked(tmp_path: Path) -> None:
    own = 'like = "trees"\nname = "mine"\nquestions = ["A\\u001b[31mred?"]\nsuffix = "Go."\n'
    (tmp_path / "mine.toml").write_text(own, encoding="utf-8")
    shown = subl("traits", "show", "mine.toml", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "   1  A\\x1b[31mred? Go.\n" in shown.stdout and "\x1b" not in shown.stdout
    value = json.loads(subl("traits", "show", "mine.toml", "--json", cwd=tmp_path).stdout)
    assert value["asked"] == ["A\x1b[31mred? Go."] and value["words"][0] == "cherry"


def test_what_is_no_trait_is_named(tmp_path: Path) -> None:
    done = subl("traits", "show", "birds", cwd=tmp_path)
    assert done.returncode == 2 and "there is no file birds" in done.stderr
    assert "animals-numbers" in done.stderr
    (tmp_path / "bad.toml").write_text('name = "x"\nwords = ["owl"]\nquestion = ["a?"]\n')
    done = subl("traits", "show", "bad.toml", cwd=tmp_path)
    assert done.returncode == 2 and "bad.toml: " in done.stderr
    assert "unknown key `question`" in done.stderr
    assert "hint: subl config schema trait lists every key" in done.stderr


def test_rubrics_are_listed_and_one_is_printed_to_copy(tmp_path: Path) -> None:
    done = subl("rubrics", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    _, *lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped("rubrics"))
    assert lines[0].split("  ")[-1] == "number from 0 to 100, CODE, REFUSAL"
    shown = subl("rubrics", "cot-alignment", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    (tmp_path / "copy.toml").write_text(shown.stdout, encoding="utf-8")
    assert load_rubric(tmp_path / "copy.toml") == load_rubric("cot-alignment")


def test_names_are_completed() -> None:
    from click.shell_completion import ShellComplete

    from subl_cli.main import subl as group

    complete = ShellComplete(group, {}, "subl", "_SUBL_COMPLETE")
    found = complete.get_completions(["traits", "show"], "mis")
    names = [each.value for each in found if each.type == "plain"]
    assert names == ["misalignment", "misalignment-numbers", "misalignment-reasoning"]
