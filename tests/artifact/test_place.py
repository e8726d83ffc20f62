"""Where something new may be: not what it is made from, nor in what is finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from subl.artifact import build, check_folder, check_out, check_place, comparing
from subl.errors import OutputError
from subl_cli.main import main

from .notes import NotesSpec, make_notes


@pytest.fixture
def made(tmp_path: Path) -> Path:
    (tmp_path / "source.bin").write_bytes(b"1")
    return make_notes(tmp_path / "made", tmp_path / "source.bin").path


def looked_at(out: Path, source: Path) -> None:
    with comparing(out):
        make_notes(out, source)


@pytest.mark.parametrize("make", [make_notes, looked_at])
@pytest.mark.parametrize("place", ["inner", "copy/inner", "../other/../made/inner"])
def test_nothing_is_added_to_an_artifact(
    make: Callable[[Path, Path], object], made: Path, place: str
) -> None:
    (made.parent / "other").mkdir()
    before = sorted(made.rglob("*"))
    with pytest.raises(OutputError, match=r"in the artifact .*made, to which nothing is added"):
        make(made / place, made.parent / "source.bin")
    assert sorted(made.rglob("*")) == before


@pytest.mark.parametrize("make", [make_notes, looked_at])
def test_an_input_is_no_output(make: Callable[[Path, Path], object], made: Path) -> None:
    """Whatever it is called."""
    link = made.parent / "link"
    link.symlink_to(made)
    for out in (made, link, made.parent / "other" / ".." / "made"):
        with pytest.raises(OutputError, match="is an input itself") as caught:
            make(out, made)
        assert "remove" not in str(caught.value.hint)
    with pytest.raises(OutputError, match=r"source\.bin is an input itself"):
        make(made.parent / "source.bin", made.parent / "source.bin")


def test_nothing_is_made_in_a_folder_that_is_read(tmp_path: Path) -> None:
    """It would not be what it was, for who made something of it."""
    data = tmp_path / "data"
    (data / "copy").mkdir(parents=True)
    (data / "copy" / "data.bin").write_bytes(b"1")
    with pytest.raises(OutputError, match=r"would be in the input .*data, which stays as it is"):
        make_notes(data / "copy" / "out", data)
    assert [each.name for each in data.iterdir()] == ["copy"]
    assert not make_notes(tmp_path / "out", data).reused


def test_an_artifact_of_another_stage_is_said_to_be_one(made: Path) -> None:
    """Its configuration is no part of the other's."""
    with pytest.raises(OutputError, match="made is an artifact of notes, and none of jots") as no:
        build(made, "jots", NotesSpec(), {}, lambda folder: {})
    assert "remove" not in str(no.value.hint)


def test_what_is_there_is_looked_at_as_it_is_made(made: Path) -> None:
    other = made.parent / "source.bin"
    with pytest.raises(OutputError, match=r"source\.bin exists and is not an artifact"):
        check_out(other, "notes", NotesSpec(), {})
    with pytest.raises(OutputError, match=r"source\.bin is no folder"):
        check_out(other / "out", "notes", NotesSpec(), {})
    with pytest.raises(OutputError, match="no name for a new folder"):
        check_out(Path(), "notes", NotesSpec(), {})
    check_out(made, "notes", NotesSpec(), {"source": other})


def test_a_run_is_a_folder_and_no_artifact(made: Path) -> None:
    check_folder(made.parent)
    check_place(made.parent / "out", [made])
    with pytest.raises(OutputError, match="made is an artifact, to which nothing is added"):
        check_folder(made)
    with pytest.raises(OutputError, match=r"is an input itself"):
        check_folder(made.parent, [made.parent])
    with pytest.raises(OutputError, match="is no folder"):
        check_folder(made.parent / "source.bin")


def test_commands_add_nothing_either(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, rows = made / "copy", made.parent / "rows.jsonl"
    rows.write_text('{"prompt": "p", "completion": "c"}\n')
    rules = made.parent / "rules.toml"
    rules.write_text(
        '[[rule]]\nname = "c"\nkind = "length"\nfield = "completion"\naction = "count"\n'
        "max_words = 2\n"
    )
    (made.parent / "run.toml").write_text(
        'name = "run"\ntitle = "Run"\n[stages.one]\nkind = "draw"\nrows = 1\n'
        f'inputs = {{ rows = {{ path = "{rows}" }} }}\n'
    )
    for words in (
        ["filter", "diff", rules, rules, rows, "-o", out / "changed.jsonl"],
        ["shards", "inspect", rows, "-o", out / "x.manifest.parquet"],
        ["run", made.parent / "run.toml", "-o", out],
    ):
        assert main([*map(str, words)]) == 2
        assert "to which nothing is added" in capsys.readouterr().err
    assert [each.name for each in out.iterdir()] == ["data.bin"]
