"""An artifact is absent or complete, is made once, and never replaces anything."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from subl.artifact import (
    StageSpec,
    build,
    input_digest,
    lineage,
    open_artifact,
    read_statement,
    write_atomically,
)
from subl.errors import InputError, OutputError

from .notes import LaterNotesSpec, NotesSpec, half_made_elsewhere, make_notes

OTHER = NotesSpec(text="something else")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source.bin"
    file.write_bytes(bytes(range(256)))
    return file


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def interrupt() -> None:
    raise KeyboardInterrupt


def never_called() -> None:
    raise AssertionError("the work was done again")


# Made once


def test_what_fails_before_it_made_anything_leaves_nothing(tmp_path: Path, source: Path) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        (folder / ".journal").touch()
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        build(tmp_path / "out", "notes", NotesSpec(), {"source": source}, fail)
    assert list(tmp_path.iterdir()) == [source]
    with pytest.raises(AssertionError, match="again"):
        make_notes(tmp_path / "out", source, halfway=never_called)
    assert (tmp_path / "out.partial" / "copy" / "data.bin").exists()  # to go on with


def test_the_same_key_is_found_and_not_made_again(tmp_path: Path, source: Path) -> None:
    first = make_notes(tmp_path / "out", source)
    before = tree(tmp_path / "out")
    again = make_notes(tmp_path / "out", source, halfway=never_called)
    assert (first.reused, again.reused) == (False, True)
    assert (again.key, again.digest, again.result, again.kind) == (
        first.key,
        first.digest,
        {"files": 2},
        "notes",
    )
    assert tree(tmp_path / "out") == before
    assert not (tmp_path / "out.partial").exists()


def test_another_configuration_is_refused(tmp_path: Path, source: Path) -> None:
    make_notes(tmp_path / "out", source)
    before = tree(tmp_path / "out")
    with pytest.raises(OutputError) as caught:
        make_notes(tmp_path / "out", source, OTHER, halfway=never_called)
    assert str(tmp_path / "out") in caught.value.message
    assert caught.value.message.endswith('\n  text: "hello" then, "something else" now')
    assert caught.value.hint and "-o" in caught.value.hint
    assert tree(tmp_path / "out") == before


def test_other_input_bytes_are_refused(tmp_path: Path, source: Path) -> None:
    make_notes(tmp_path / "out", source)
    before = tree(tmp_path / "out")
    then = coreutils_sha256(source)[:12]
    source.write_bytes(bytes(256))  # the same name, the same size
    now = coreutils_sha256(source)[:12]
    with pytest.raises(OutputError) as caught:
        make_notes(tmp_path / "out", source, halfway=never_called)
    assert str(tmp_path / "out") in caught.value.message and caught.value.hint
    assert caught.value.message.endswith(
        f"\n  input source: sha256 {then} then, sha256 {now} now ({source})"
    )
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("finished", [True, False])
def test_what_an_older_version_of_the_stage_made_does_not_count(
    tmp_path: Path, source: Path, finished: bool
) -> None:
    out = tmp_path / "out"
    if finished:
        make_notes(out, source)
    else:
        with half_made_elsewhere(out, source) as child:
            child.kill()
    with pytest.raises(OutputError, match="format version of notes: 1 then, 2 now"):
        make_notes(out, source, LaterNotesSpec(), halfway=never_called)
    later = make_notes(tmp_path / "later", source, LaterNotesSpec())
    assert lineage(later.path).format_version == 2
    assert json.loads((later.path / "spec.json").read_text())["format_version"] == 2
    assert lineage(later.path).verified()


def test_what_is_no_part_of_the_key_is_no_difference(tmp_path: Path, source: Path) -> None:
    make_notes(tmp_path / "out", source, NotesSpec(threads=1))
    assert make_notes(tmp_path / "out", source, NotesSpec(threads=2)).reused
    with pytest.raises(OutputError) as caught:
        make_notes(tmp_path / "out", source, NotesSpec(threads=2, text="other"))
    assert "text" in caught.value.message and "threads" not in caught.value.message


def test_a_stage_must_say_its_format_version() -> None:
    with pytest.raises(TypeError, match="Unversioned does not say its format_version"):

        class Unversioned(StageSpec):
            pass


def test_keys_differ_by_kind_spec_input_name_and_input(tmp_path: Path, source: Path) -> None:
    other = tmp_path / "other.bin"
    other.write_bytes(b"other")
    variants: list[tuple[str, NotesSpec, dict[str, Path]]] = [
        ("notes", NotesSpec(), {"source": source}),
        ("letters", NotesSpec(), {"source": source}),
        ("notes", OTHER, {"source": source}),
        ("notes", LaterNotesSpec(), {"source": source}),
        ("notes", NotesSpec(), {"origin": source}),
        ("notes", NotesSpec(), {"source": other}),
        ("notes", NotesSpec(), {}),
    ]
    keys = {
        build(tmp_path / str(number), kind, spec, inputs, lambda folder: {}).key
        for number, (kind, spec, inputs) in enumerate(variants)
    }
    assert len(keys) == len(variants)


def test_every_file_of_a_plain_folder_counts(tmp_path: Path) -> None:
    """Even one that is named like a record: in somebody's folder it is data."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("rows.jsonl", "result.json", "spec.json"):
        (folder / name).write_text("1")
        before = input_digest(folder)
        (folder / name).write_text("2")
        assert input_digest(folder) != before, name


# Nothing is replaced


@pytest.mark.parametrize("what", ["a folder with files", "an empty folder", "a file"])
def test_what_is_no_artifact_is_refused(tmp_path: Path, source: Path, what: str) -> None:
    out = tmp_path / "out"
    if what == "a file":
        out.write_text("mine")
    else:
        out.mkdir()
    if what == "a folder with files":
        (out / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not an artifact") as caught:
        make_notes(out, source, halfway=never_called)
    assert str(out) in caught.value.message and caught.value.hint
    if what == "a folder with files":
        assert tree(out) == {"mine.txt": b"mine"}
    assert not (tmp_path / "out.partial").exists()


def test_a_damaged_statement_is_named(tmp_path: Path, source: Path) -> None:
    make_notes(tmp_path / "out", source)
    file = tmp_path / "out" / "statement.json"
    record = json.loads(file.read_text())
    subject = {"name": "a", "digest": {"sha256": "0"}}
    damaged = [
        "{",
        json.dumps({key: value for key, value in record.items() if key != "subject"}),
        *(
            json.dumps({**record, "subject": value})
            for value in (None, 1, ["a"], [{"name": "a"}], [{**subject, "annotations": 7}])
        ),
    ]
    for text in damaged:
        file.write_text(text)
        with pytest.raises(InputError, match=r"out/statement\.json is damaged") as caught:
            make_notes(tmp_path / "out", source)
        assert caught.value.hint and "remove" not in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "7",
        '{"balance": 12}',
        '{"_type": "https://in-toto.io/Statement/v1", "subject": []}',
        '{"_type": "https://in-toto.io/Statement/v1", "predicate": {"buildDefinition":'
        ' {"buildType": "https://other.example/build"}}}',
    ],
)
def test_a_statement_of_another_program_makes_no_artifact(
    tmp_path: Path, source: Path, text: str
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"prompt": "p", "completion": "c"}\n')
    before = input_digest(folder)
    (folder / "statement.json").write_text(text)
    assert read_statement(folder) is None
    assert input_digest(folder) != before
    with pytest.raises(OutputError, match="is not an artifact"):
        make_notes(folder, source, halfway=never_called)
    with pytest.raises(InputError, match="no artifact"):
        lineage(tmp_path)


def test_a_folder_of_somebody_elses_that_ends_in_partial_is_not_emptied(
    tmp_path: Path, source: Path
) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"out\.partial"):
        make_notes(tmp_path / "out", source)
    assert tree(tmp_path / "out.partial")["thesis.tex"] == b"years of work"


# Interrupted


def test_a_killed_build_leaves_nothing_and_the_rerun_continues_it(
    tmp_path: Path, source: Path
) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    with half_made_elsewhere(out, source) as child:
        child.kill()
        assert child.wait() == -signal.SIGKILL
    assert not out.exists()
    inodes = [path.stat().st_ino for path in (partial, partial / "copy" / "data.bin")]

    made = make_notes(out, source)
    assert [path.stat().st_ino for path in (out, out / "copy" / "data.bin")] == inodes
    assert not partial.exists()
    assert made.digest == make_notes(tmp_path / "uninterrupted", source).digest
    assert tree(out).keys() == tree(tmp_path / "uninterrupted").keys()


def test_unfinished_work_of_another_key_is_not_touched(tmp_path: Path, source: Path) -> None:
    with half_made_elsewhere(tmp_path / "out", source, text="older") as child:
        child.kill()
    left = tree(tmp_path / "out.partial")
    with pytest.raises(OutputError, match="unfinished work of another configuration") as caught:
        make_notes(tmp_path / "out", source)
    assert '\n  text: "older" then, "hello" now' in caught.value.message
    assert "remove that folder" in (caught.value.hint or "")
    assert tree(tmp_path / "out.partial") == left
    shutil.rmtree(tmp_path / "out.partial")
    assert not make_notes(tmp_path / "out", source).reused


@pytest.mark.parametrize(
    "name", [".cells/part-00000.parquet", ".answers-00000.jsonl", ".answer.said", ".tokens/1"]
)
def test_unfinished_work_that_is_hidden_is_work(tmp_path: Path, source: Path, name: str) -> None:
    partial = tmp_path / "out.partial"

    def interrupted() -> None:
        shutil.rmtree(partial / "copy")
        (partial / name).parent.mkdir(exist_ok=True)
        (partial / name).write_text("hello")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_notes(tmp_path / "out", source, halfway=interrupted)
    with pytest.raises(OutputError, match='text: "hello" then, "something else" now'):
        make_notes(tmp_path / "out", source, OTHER)
    (partial / "spec.json").unlink()
    with pytest.raises(OutputError, match="subl did not make it"):
        make_notes(tmp_path / "out", source)
    assert (partial / name).read_text() == "hello"


def test_where_nothing_was_made_another_configuration_may_begin(
    tmp_path: Path, source: Path
) -> None:
    partial = tmp_path / "out.partial"

    def interrupted() -> None:
        shutil.rmtree(partial / "copy")
        for name in (".lock-0-of-2", ".seen.json", ".0123456789abcdef.tmp"):
            (partial / name).touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_notes(tmp_path / "out", source, halfway=interrupted)
    assert make_notes(tmp_path / "out", source, OTHER).result == {"files": 2}


def test_work_that_fails_leaves_no_artifact(tmp_path: Path, source: Path) -> None:
    def fail() -> None:
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        make_notes(tmp_path / "out", source, halfway=fail)
    assert not (tmp_path / "out").exists()
    assert not make_notes(tmp_path / "out", source).reused


KILLED_IN_A_WRITE = """
import resource, signal, sys
from pathlib import Path
from subl.artifact import build, write_atomically
from tests.artifact.notes import NotesSpec

def work(folder):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    write_atomically(folder / "rows.jsonl", bytes(1_000_000))

build(Path(sys.argv[1]), "notes", NotesSpec(), {}, work)
"""


def test_what_a_kill_in_the_middle_of_a_write_has_left_is_not_published(tmp_path: Path) -> None:
    """The kernel kills the writer as its file passes 100 kB."""
    out = tmp_path / "out"
    child = subprocess.run(
        [sys.executable, "-c", KILLED_IN_A_WRITE, str(out)], cwd=Path(__file__).parents[2]
    )
    assert child.returncode == -signal.SIGXFSZ
    assert any(size == 100_000 for size in map(len, tree(tmp_path / "out.partial").values()))
    (tmp_path / "out.partial" / ".cache" / "deep").mkdir(parents=True)
    (tmp_path / "out.partial" / ".cache" / "deep" / ".file").touch()

    def work(folder: Path) -> dict[str, Any]:
        write_atomically(folder / "rows.jsonl", bytes(1_000_000))
        return {}

    build(out, "notes", NotesSpec(), {}, work)
    assert sorted(tree(out)) == ["result.json", "rows.jsonl", "spec.json", "statement.json"]


# One at a time


def test_a_second_process_is_refused_and_the_first_one_finishes(
    tmp_path: Path, source: Path
) -> None:
    out = tmp_path / "out"
    with half_made_elsewhere(out, source) as child:
        for spec in (None, OTHER):
            with pytest.raises(OutputError, match="another process is writing") as caught:
                make_notes(out, source, spec, halfway=never_called)
            assert str(out) in caught.value.message and caught.value.hint
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait() == 0
    assert make_notes(out, source, halfway=never_called).reused
    assert make_notes(tmp_path / "alone", source).digest == open_artifact(out).digest


def test_a_killed_process_holds_nobody_up(tmp_path: Path, source: Path) -> None:
    with half_made_elsewhere(tmp_path / "out", source) as child:
        with pytest.raises(OutputError, match="another process"):
            make_notes(tmp_path / "out", source)
        child.kill()
        child.wait()
        assert not make_notes(tmp_path / "out", source).reused


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs the command mount")
    if mounted.returncode:
        pytest.skip(f"may not mount a file system: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_no_artifact_and_with_room_the_rerun_finishes(
    tmp_path: Path, small_disk: Path
) -> None:
    def work(folder: Path) -> dict[str, Any]:
        write_atomically(folder / "a.bin", bytes(30_000))
        write_atomically(folder / "b.bin", bytes(60_000))
        return {}

    out = small_disk / "out"
    with pytest.raises(OutputError, match=r"cannot write .*b\.bin: No space left on device"):
        build(out, "notes", NotesSpec(), {}, work)
    assert not out.exists()
    assert sorted(tree(small_disk / "out.partial")) == [".lock", "a.bin", "spec.json"]

    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    made = build(out, "notes", NotesSpec(), {}, work)
    assert made.digest == build(tmp_path / "roomy", "notes", NotesSpec(), {}, work).digest


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write to .*file/out: .*file is no folder"):
        make_notes(tmp_path / "file" / "out", source, halfway=never_called)


# What it says about itself


def test_the_statement_is_in_toto_v1_with_slsa_provenance_v1(tmp_path: Path, source: Path) -> None:
    (tmp_path / "run").mkdir()
    made = make_notes(tmp_path / "run" / "out", source, OTHER)
    record = json.loads((made.path / "statement.json").read_text())
    assert record.keys() == {"_type", "subject", "predicateType", "predicate"}
    assert record["_type"] == "https://in-toto.io/Statement/v1"
    assert record["predicateType"] == "https://slsa.dev/provenance/v1"
    definition, details = (
        record["predicate"]["buildDefinition"],
        record["predicate"]["runDetails"],
    )
    assert definition["buildType"] == "urn:subl:notes:v1"
    assert definition["externalParameters"] == {"text": "something else", "threads": 1}
    assert definition["internalParameters"] == {"key": made.key, "digest": made.digest}
    assert definition["resolvedDependencies"] == [
        {
            "name": "source",
            "uri": "../source.bin",
            "digest": {"sha256": coreutils_sha256(source)},
        }
    ]
    assert details["builder"]["id"] and details["builder"]["version"]["subl"]
    assert details["metadata"]["startedOn"] <= details["metadata"]["finishedOn"]


def test_a_pause_between_interrupted_runs_is_no_time_of_work(tmp_path: Path, source: Path) -> None:
    """An hour of work ends an hour before somebody goes on."""
    with pytest.raises(KeyboardInterrupt):
        make_notes(tmp_path / "out", source, halfway=interrupt)
    partial = tmp_path / "out.partial"
    spec = json.loads((partial / "spec.json").read_text())
    begun = datetime.fromisoformat(spec["started"]) - timedelta(hours=2)
    (partial / "spec.json").write_text(json.dumps({**spec, "started": begun.isoformat()}))
    for file in partial.rglob("*"):
        then = file.stat().st_mtime - 3600
        os.utime(file, (then, then))
    made = make_notes(tmp_path / "out", source)
    assert made.seconds == pytest.approx(3600, abs=300)
    record = read_statement(made.path)
    assert record is not None
    times = record["predicate"]["runDetails"]["metadata"]
    assert times["startedOn"] == begun.isoformat()
    assert times["subl_pausedSeconds"] == pytest.approx(3600, abs=300)


def test_a_clock_that_was_put_back_makes_no_time_negative(tmp_path: Path, source: Path) -> None:
    made = make_notes(tmp_path / "out", source)
    file = made.path / "statement.json"
    record = json.loads(file.read_text())
    times = record["predicate"]["runDetails"]["metadata"]
    before = datetime.fromisoformat(times["startedOn"]) - timedelta(hours=1)
    times["finishedOn"] = before.isoformat()
    file.write_text(json.dumps(record))
    assert open_artifact(made.path).seconds == 0


def test_the_subjects_are_all_files_by_their_sha256(tmp_path: Path, source: Path) -> None:
    out = make_notes(tmp_path / "out", source).path
    record = json.loads((out / "statement.json").read_text())
    assert record["subject"] == [
        {"name": name, "digest": {"sha256": coreutils_sha256(out / name)}}
        for name in sorted(tree(out))
        if name != "statement.json"
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("a.txt", "b.txt"),
        ("b/c.txt", "b.txt", "a/z.txt", "B.txt"),
        ("with space.txt", "ünïcödé 🦉.txt"),
        (r"back\slash.txt",),
        ("new\nline.txt",),
    ],
    ids=["flat", "folders", "unicode", "backslash", "newline"],
)
def test_the_digest_is_what_coreutils_computes(tmp_path: Path, names: tuple[str, ...]) -> None:
    def work(folder: Path) -> dict[str, Any]:
        for name in names:
            write_atomically(folder / name, f"content of {name}")
        return {}

    made = build(tmp_path / "out", "notes", NotesSpec(), {}, work)
    command = (
        "find . -type f ! -name spec.json ! -name result.json ! -name statement.json"
        r" -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    )
    done = subprocess.run(
        ["bash", "-c", command], cwd=made.path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == made.digest


def test_the_records_are_no_part_of_the_digest(tmp_path: Path) -> None:
    """Times, and figures such as seconds, differ from run to run; the data does not."""

    def make(name: str, text: str, seconds: float) -> str:
        def work(folder: Path) -> dict[str, Any]:
            (folder / "data.txt").write_text("data")
            return {"seconds": seconds}

        return build(tmp_path / name, "notes", NotesSpec(text=text), {}, work).digest

    assert make("one", "first", 1.0) == make("two", "second", 2.0)
    statements = [(tmp_path / name / "statement.json").read_text() for name in ("one", "two")]
    assert statements[0] != statements[1]


def coreutils_sha256(path: Path) -> str:
    done = subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True)
    return done.stdout.split()[0]


def test_records_of_a_build_killed_before_its_rename_are_made_anew(
    tmp_path: Path, source: Path
) -> None:
    done = make_notes(tmp_path / "out", source)
    done.path.rename(tmp_path / "out.partial")
    again = make_notes(tmp_path / "out", source)
    assert again.digest == done.digest
    assert lineage(again.path).verified(), lineage(again.path).to_json()


def test_a_full_disk_names_what_could_not_be_made(tmp_path: Path, source: Path) -> None:
    """The system's error names no file where the file was open already."""

    def fill_the_disk() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot make .*out: No space left"):
        make_notes(tmp_path / "out", source, halfway=fill_the_disk)
