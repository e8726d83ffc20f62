"""Whether work is done is asked without reading, and is never answered wrongly for that."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from subl.artifact import (
    Artifact,
    Made,
    Reading,
    build,
    file_digest,
    input_digest,
    lineage,
    rereading,
)
from subl.artifact import digest as hashing
from subl.artifact.identity import SETTLED_NS, Identity, identify
from subl.errors import InputError, OutputError

from .notes import NotesSpec, make_notes

RECORD = ".seen.json"
making = sys.modules["subl.artifact.build"]  # the package has a function of that name


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source.bin"
    file.write_bytes(bytes(range(256)))
    return file


def tick(file: Path) -> None:
    """Wait for the file system's clock to move on: until another file shows another time."""
    probe = file.with_name("probe")
    while True:
        probe.write_bytes(b"")
        if probe.stat().st_ctime_ns > file.stat().st_ctime_ns:
            return


# Read once


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs another file system")
def test_a_file_of_another_file_system_is_another_one(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if Path(other).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("temporary files are in memory, too")
        (here := tmp_path / "rows").write_bytes(b"{}\n")
        (there := Path(other) / "rows").write_bytes(b"{}\n")
        assert identify(here).filesystem != identify(there).filesystem


@pytest.mark.usefixtures("later")
def test_what_is_done_is_asked_without_reading(
    tmp_path: Path, source: Path, read: list[Path], forget: Callable[[], None]
) -> None:
    first = make_notes(tmp_path / "out", source)
    assert read == [source]
    forget()
    before = {path: path.stat() for path in (tmp_path / "out").iterdir()}
    assert make_notes(tmp_path / "out", source).key == first.key
    assert read == [source]
    assert {path: path.stat() for path in (tmp_path / "out").iterdir()} == before
    assert lineage(tmp_path / "out").verified()


@pytest.mark.usefixtures("later")
def test_a_process_reads_a_folder_once(tmp_path: Path, read: list[Path]) -> None:
    model = tmp_path / "model"
    (model / "deep").mkdir(parents=True)
    for name in ("a.bin", "deep/b.bin"):
        (model / name).write_text(name)
    digests = {input_digest(model) for _ in range(3)}
    assert len(digests) == 1 and len(read) == 2
    (model / "deep" / "b.bin").rename(model / "c.bin")
    assert input_digest(model) not in digests
    assert model / "a.bin" not in read[2:]


@pytest.mark.usefixtures("later")
def test_unfinished_work_goes_on_without_reading(
    tmp_path: Path, source: Path, read: list[Path], forget: Callable[[], None]
) -> None:
    def fail() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        make_notes(tmp_path / "out", source, halfway=fail)
    forget()
    make_notes(tmp_path / "out", source)
    assert read == [source]


def test_what_was_written_just_now_is_read_until_it_has_settled(
    tmp_path: Path,
    source: Path,
    read: list[Path],
    forget: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second write within a tick of the clock would leave no trace."""
    make_notes(tmp_path / "out", source)
    assert read == [source], "nor is it read again to see that it has not changed meanwhile"
    now = time.time_ns
    for ahead, times in [(0, 2), (SETTLED_NS, 3), (SETTLED_NS, 3), (-SETTLED_NS, 3)]:
        monkeypatch.setattr(time, "time_ns", lambda ahead=ahead: now() + ahead)
        forget()
        assert make_notes(tmp_path / "out", source).reused
        assert len(read) == times


@pytest.mark.parametrize(
    ("identity", "settled"),
    [
        (Identity(7, 1, 2, 0, 10), True),
        (Identity(7, 1, 2, 10, 10), True),
        (Identity(7, 1, 2, 11, 10), False),  # a time of writing in the future, too
        (Identity(7, 1, 2, 0, 11), False),
        (Identity(7, 1, 2, 0, 0), False),  # no time of change is kept
    ],
)
def test_which_identities_tell_a_file_by(identity: Identity, settled: bool) -> None:
    assert identity.settled(SETTLED_NS + 10) is settled


def test_an_image_keeps_no_time_of_change(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two squashfs images may have two files with the same inode, size and times."""
    second = 1_700_000_000 * 10**9
    found = SimpleNamespace(st_ino=2, st_size=256, st_mtime_ns=second, st_ctime_ns=second)
    monkeypatch.setattr(os, "fstat", lambda descriptor: found)
    assert identify(source)[1:] == (2, 256, second, second)
    image = SimpleNamespace(f_flag=os.ST_RDONLY | os.ST_NOSUID, f_fsid=7)
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: image)
    assert identify(source) == (7, 2, 256, second, 0)


# Never wrong


def in_place(file: Path, data: bytes) -> None:
    file.write_bytes(data)


def replaced(file: Path, data: bytes) -> None:
    other = file.with_name("other")
    other.write_bytes(data)
    other.rename(file)


def restored(file: Path, data: bytes) -> None:
    """From a backup that says when it was written."""
    other = file.with_name("backup")
    other.write_bytes(data)
    shutil.copystat(file, other)
    file.unlink()
    shutil.copy2(other, file)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", [in_place, replaced, restored])
@pytest.mark.parametrize("remembers", [True, False])
def test_other_bytes_of_the_same_size_and_time_are_other_bytes(
    tmp_path: Path,
    source: Path,
    forget: Callable[[], None],
    change: Callable[[Path, bytes], None],
    remembers: bool,
) -> None:
    make_notes(tmp_path / "out", source)
    before = source.stat()
    tick(source)
    change(source, bytes(256))
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    if not remembers:
        forget()
    with pytest.raises(OutputError, match="input source: sha256"):
        make_notes(tmp_path / "out", source)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("what", ["touched", "copied", "all of it copied"])
def test_the_same_bytes_are_the_same_whatever_they_look_like(
    tmp_path: Path,
    source: Path,
    read: list[Path],
    forget: Callable[[], None],
    what: str,
) -> None:
    out = make_notes(tmp_path / "out", source).path
    forget()
    tick(source)
    match what:
        case "touched":
            os.utime(source)
        case "copied":
            replaced(source, source.read_bytes())
        case _:
            (tmp_path / "there").mkdir()
            out = Path(shutil.copytree(out, tmp_path / "there" / "out"))
            source = Path(shutil.copy2(source, tmp_path / "there"))
    for _ in range(2):  # the first of these notes what it looks like now
        assert make_notes(out, source).reused
        assert len(read) == 2
        forget()
    assert lineage(out).verified()


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: None,
        lambda text: "",
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: text.replace('"format": 1', '"format": 0'),
        lambda text: text.replace('"files"', '"rows"'),
        lambda text: json.dumps({"format": 1, "files": [[1, 2]]}),
        lambda text: json.dumps({"format": 1, "files": [7]}),
        lambda text: json.dumps({"format": 1, "files": [[1, 2, 3, 4, "abc"]]}),
        lambda text: "[" * 100_000,
    ],
)
def test_a_record_that_is_none_costs_a_reading(
    tmp_path: Path,
    source: Path,
    read: list[Path],
    forget: Callable[[], None],
    damage: Callable[[str], str | None],
) -> None:
    record = make_notes(tmp_path / "out", source).path / RECORD
    whole = record.read_text()
    damaged = damage(whole)
    record.unlink()
    if damaged is not None:
        record.write_text(damaged)
    forget()
    assert make_notes(tmp_path / "out", source).reused
    assert len(read) == 2 and record.read_text() == whole


@pytest.mark.usefixtures("later")
def test_a_record_that_cannot_be_written_is_none(
    tmp_path: Path, source: Path, forget: Callable[[], None]
) -> None:
    out = make_notes(tmp_path / "out", source).path
    (out / RECORD).unlink()
    (out / RECORD).mkdir()
    forget()
    assert make_notes(out, source).reused


def forge(out: Path, source: Path) -> None:
    """Other bytes, and a record that has always known them by the old ones' digest."""
    known = file_digest(source)
    source.write_bytes(bytes(256))
    (out / RECORD).write_text(
        json.dumps({"format": 1, "files": [[*identify(source), known]]}), encoding="utf-8"
    )


@pytest.mark.usefixtures("later")
def test_who_rereads_believes_no_record(
    tmp_path: Path, source: Path, forget: Callable[[], None]
) -> None:
    out = make_notes(tmp_path / "out", source).path
    forget()
    forge(out, source)
    with rereading(), pytest.raises(OutputError, match="input source: sha256"):
        make_notes(out, source)
    assert not lineage(out).verified()
    assert make_notes(out, source).reused, "the record was forged for nothing"


@pytest.mark.usefixtures("later")
def test_who_rereads_reads_artifacts_too(tmp_path: Path, source: Path) -> None:
    first = make_notes(tmp_path / "first", source).path
    make_notes(tmp_path / "second", first)
    (first / "copy" / "data.bin").write_bytes(b"")
    assert make_notes(tmp_path / "second", first).reused
    with rereading(), pytest.raises(InputError, match="first is not what its statement says"):
        make_notes(tmp_path / "second", first)


# While it is read


def test_a_file_that_changes_while_it_is_read_is_an_error(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Writing:
        """Writes to the file that is hashed."""

        def update(self, block: bytes) -> None:
            if source.stat().st_size < 300:
                source.write_bytes(bytes(300))

    monkeypatch.setattr(hashing.hashlib, "sha256", Writing)
    for ask in (file_digest, input_digest):
        source.write_bytes(bytes(256))
        with pytest.raises(InputError, match=r"source\.bin changed while it was read") as caught:
            ask(source)
        assert caught.value.hint


def test_what_somebody_else_has_read_is_known_if_the_file_is_still_the_same(
    source: Path, later: None, read: list[Path]
) -> None:
    reading = Reading(source)
    assert reading.came_to(file_digest(source)) == identify(source)
    assert input_digest(source) == file_digest(source) and read == []
    reading = Reading(source)
    tick(source)
    os.utime(source)
    assert reading.came_to(file_digest(source)) is None, "another file, of the same bytes"
    reading = Reading(source)
    digest = file_digest(source)
    source.write_bytes(b"other")
    with pytest.raises(InputError, match="changed while it was read"):
        reading.came_to(digest)


@pytest.mark.parametrize("content", ["the same", "other", "none"])
def test_inputs_stay_what_they_are_while_work_is_done(
    tmp_path: Path, source: Path, content: str
) -> None:
    data = source.read_bytes()

    def change() -> None:
        source.unlink()
        if content != "none":
            source.write_bytes(data if content == "the same" else bytes(256))

    if content == "the same":
        assert lineage(make_notes(tmp_path / "out", source, halfway=change).path).verified()
        return
    with pytest.raises(InputError, match=r"source\.bin (changed|does not exist)"):
        make_notes(tmp_path / "out", source, halfway=change)
    assert not (tmp_path / "out").exists()


# Digests that are learned by the work itself


class Killed(Exception):
    pass


def copy_parts(
    out: Path,
    sources: Mapping[str, Path],
    spec: NotesSpec | None = None,
    stop_before: int | None = None,
    first_hash: bool = False,
) -> Artifact:
    """A stage that copies its inputs one by one, hashes what it reads, and notes what it has."""

    def noted(folder: Path) -> dict[str, str]:
        notes = folder / ".notes.json"
        found: dict[str, str] = json.loads(notes.read_text()) if notes.exists() else {}
        return found

    def work(folder: Path) -> Made:
        digests = noted(folder)
        for name in sorted(sources.keys() - digests.keys()):
            if len(digests) == stop_before:
                raise Killed
            reading = Reading(sources[name])
            (folder / name).write_bytes(sources[name].read_bytes())
            digests[name] = hashlib.sha256(sources[name].read_bytes()).hexdigest()
            reading.came_to(digests[name])
            (folder / ".notes.json").write_text(json.dumps(digests))
        return Made({"files": len(digests)}, outputs=digests, inputs=digests)

    learned = None if first_hash else noted
    return build(out, "parts", spec or NotesSpec(), sources, work, learned=learned)


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / f"{name}.bin" for name in ("a", "b")}
    for name, path in found.items():
        path.write_text(name)
    return found


def half(out: Path, parts: Mapping[str, Path]) -> Path:
    """Copy the first of two parts."""
    with pytest.raises(Killed):
        copy_parts(out, parts, stop_before=1)
    return out.with_name(f"{out.name}.partial")


def test_what_work_learns_nobody_reads_again(
    tmp_path: Path, parts: dict[str, Path], read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = copy_parts(tmp_path / "first", parts, first_hash=True)
    assert set(read) == set(parts.values())
    monkeypatch.setattr(making, "file_digest", lambda path: read.append(path) or file_digest(path))
    read.clear()
    made = copy_parts(tmp_path / "made", parts)
    assert {path.name for path in read} == {"spec.json", "result.json"}
    assert (made.key, made.digest) == (first.key, first.digest)
    for name in ("spec.json", "result.json"):
        assert (made.path / name).read_text() == (first.path / name).read_text()
    assert lineage(made.path).verified()


def test_half_done_work_does_not_mind_what_inputs_look_like(
    tmp_path: Path, parts: dict[str, Path]
) -> None:
    partial = half(tmp_path / "out", parts)
    inode = (partial / "a").stat().st_ino
    for path in parts.values():
        tick(path)
        replaced(path, path.read_bytes())
    made = copy_parts(tmp_path / "out", parts)
    assert (made.path / "a").stat().st_ino == inode
    assert made.key == copy_parts(tmp_path / "clean", parts, first_hash=True).key


def test_half_done_work_on_another_input_is_refused(
    tmp_path: Path, parts: dict[str, Path], read: list[Path]
) -> None:
    partial = half(tmp_path / "out", parts)
    then, now = (hashlib.sha256(each).hexdigest()[:12] for each in (b"a", b"A"))
    with pytest.raises(OutputError, match='text: "hello" then, "other" now'):
        copy_parts(tmp_path / "out", parts, NotesSpec(text="other"))
    assert read == [], "that can be told without reading"
    parts["a"].write_bytes(b"A")
    with pytest.raises(OutputError, match="other inputs") as caught:
        copy_parts(tmp_path / "out", parts)
    assert caught.value.message.endswith(
        f":\n  input a: sha256 {then} then, sha256 {now} now ({parts['a']})"
    )
    assert "remove that folder" in (caught.value.hint or "")
    assert (partial / "a").read_bytes() == b"a"


def test_an_input_that_no_work_was_done_on_may_change(
    tmp_path: Path, parts: dict[str, Path]
) -> None:
    half(tmp_path / "out", parts)
    parts["b"].write_bytes(b"B")
    made = copy_parts(tmp_path / "out", parts)
    assert (made.path / "b").read_bytes() == b"B"
    assert made.key == copy_parts(tmp_path / "clean", parts, first_hash=True).key


def test_what_was_killed_while_it_was_published_is_published(
    tmp_path: Path, parts: dict[str, Path]
) -> None:
    made = copy_parts(tmp_path / "out", parts)
    made.path.rename(tmp_path / "out.partial")
    again = copy_parts(tmp_path / "out", parts, stop_before=0)
    assert again.reused and again.key == made.key
    parts["a"].write_bytes(b"A")
    made.path.rename(tmp_path / "out.partial")
    with pytest.raises(OutputError, match="other inputs:\n  input a: sha256"):
        copy_parts(tmp_path / "out", parts)


@pytest.mark.usefixtures("later")
def test_finished_work_that_learned_is_asked_without_reading(
    tmp_path: Path, parts: dict[str, Path], read: list[Path], forget: Callable[[], None]
) -> None:
    made = copy_parts(tmp_path / "out", parts)
    forget()
    assert copy_parts(tmp_path / "out", parts).reused and read == []
    tick(parts["b"])
    parts["b"].write_bytes(b"B")
    with pytest.raises(OutputError, match="input b: sha256"):
        copy_parts(made.path, parts)
    assert read == [parts["b"]]
