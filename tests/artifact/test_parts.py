"""An artifact of several processes: of one configuration, each part by one of them, finished once.

Locks hold between open files, so that a process that comes meanwhile can be this one.
"""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from subl.artifact import Artifact, Parts, Slice, build_parts, read_statement
from subl.artifact.partial import locked
from subl.errors import BusyError, OutputError, UnfinishedError

from .notes import NotesSpec

COUNT = 4


def nothing() -> None:
    pass


def make_parts(
    out: Path,
    mine: Slice,
    text: str = "hello",
    making: Callable[[], object] = nothing,
    finishing: Callable[[], object] = nothing,
    looking: Callable[[], object] = nothing,
) -> Artifact:
    """Four hidden parts, which end in one file."""
    names = [f".parts/{number}" for number in range(COUNT)]

    def make(folder: Path, numbers: Sequence[int]) -> None:
        (folder / ".parts").mkdir(exist_ok=True)
        making()
        for number in numbers:
            (folder / names[number]).write_text(f"{text} {number}\n")

    def finish(folder: Path) -> dict[str, Any]:
        finishing()
        (folder / "all.txt").write_text("".join((folder / name).read_text() for name in names))
        return {"parts": COUNT}

    def parts(folder: Path) -> Parts:
        looking()
        return Parts(names, make, finish)

    return build_parts(out, "notes", NotesSpec(text=text), {}, parts, mine)


def partial(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


def test_one_configuration_at_a_time_even_before_anything_is_made(tmp_path: Path) -> None:
    def another() -> None:
        with pytest.raises(OutputError, match='text: "hello" then, "other" now'):
            make_parts(tmp_path / "out", Slice(1, 2), "other")

    with pytest.raises(UnfinishedError):
        make_parts(tmp_path / "out", Slice(0, 2), making=another)
    made = make_parts(tmp_path / "out", Slice(1, 2))
    assert (made.path / "all.txt").read_text() == "".join(f"hello {each}\n" for each in range(4))


def test_who_comes_while_it_is_finished_is_done(tmp_path: Path) -> None:
    came = []

    def late() -> None:
        for mine in (Slice(0, 2), Slice(7, 8)):  # the second has no parts
            with pytest.raises(UnfinishedError, match=f"{mine} .* another process finishes it"):
                make_parts(tmp_path / "out", mine)
            came.append(mine)

    with pytest.raises(UnfinishedError, match="2 of its 4 files"):
        make_parts(tmp_path / "out", Slice(0, 2))
    assert not make_parts(tmp_path / "out", Slice(1, 2), finishing=late).reused
    assert len(came) == 2


def test_who_comes_while_it_is_published_is_done(tmp_path: Path) -> None:
    """By then the statement is written, and hidden parts go."""
    out = tmp_path / "out"
    with pytest.raises(UnfinishedError):
        make_parts(out, Slice(0, 2))
    with locked(partial(out)):
        with pytest.raises(BusyError):
            make_parts(out, Slice(1, 2))
        (partial(out) / "statement.json").write_text("{}")
        with pytest.raises(UnfinishedError):
            make_parts(out, Slice(1, 2))


def test_who_comes_while_one_process_makes_all_is_told_so(tmp_path: Path) -> None:
    def late() -> None:
        with pytest.raises(BusyError, match="another process is writing"):
            make_parts(tmp_path / "out", Slice(0, 2))

    assert make_parts(tmp_path / "out", Slice(), making=late).result == {"parts": COUNT}


def test_a_slice_is_made_by_one_process(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def meanwhile() -> None:
        with pytest.raises(BusyError, match="is writing slice 1/2 of"):
            make_parts(out, Slice(1, 2))
        with pytest.raises(UnfinishedError, match=r"slice 0/2 .* 2 of its 4 files"):
            make_parts(out, Slice(0, 2))

    made = make_parts(out, Slice(1, 2), making=meanwhile)
    assert [each.name for each in made.path.iterdir() if each.name.startswith(".lock")] == []


def test_who_makes_the_last_slice_and_finishes_looks_at_the_inputs_once(tmp_path: Path) -> None:
    looks: list[None] = []
    with pytest.raises(UnfinishedError):
        make_parts(tmp_path / "out", Slice(0, 2))
    make_parts(tmp_path / "out", Slice(1, 2), looking=lambda: looks.append(None))
    assert len(looks) == 1


def test_slices_are_cut_further() -> None:
    shared = [Slice(index, 3).share(rank, 2) for index in range(3) for rank in range(2)]
    assert {each.count for each in shared} == {6}
    assert sorted(each.index for each in shared) == list(range(6))
    assert [Slice(1, 3).share(rank, 2).index for rank in range(2)] == [1, 4]


def test_those_who_find_it_made_clean_up_at_once(tmp_path: Path) -> None:
    failed: list[Exception] = []

    def come_late() -> None:
        try:
            for _ in range(100):
                with locked(tmp_path / "out.partial", how=fcntl.LOCK_SH):
                    pass
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=come_late) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failed
    with locked(tmp_path / "out.partial"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_it_was_started_when_the_first_slice_was(tmp_path: Path) -> None:
    with pytest.raises(UnfinishedError):
        make_parts(tmp_path / "out", Slice(0, 2))
    between = datetime.now(UTC)
    record = read_statement(make_parts(tmp_path / "out", Slice(1, 2)).path)
    assert record is not None
    times = record["predicate"]["runDetails"]["metadata"]
    started, finished = (
        datetime.fromisoformat(times[each]) for each in ("startedOn", "finishedOn")
    )
    assert started < between < finished
    assert "started" not in json.loads((tmp_path / "out" / "spec.json").read_text())
