"""`--engine ray`: real workers of Ray make what threads make, whatever happens to them.

Needs ray (tests/filter/adapters.txt). Without it these tests are skipped, unless
SUBL_REQUIRE_ADAPTERS is set.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from subl.artifact.seen import RECORD
from subl.errors import ConfigError, InputError
from subl.filter import FilterSpec, run
from subl.progress import Progress

if not os.environ.get("SUBL_REQUIRE_ADAPTERS"):
    pytest.importorskip("ray")

from subl.filter.on_ray import RayEngine, _note_of

pytestmark = pytest.mark.filterwarnings("ignore")

SUBL = str(Path(sys.executable).with_name("subl"))
OWLS = {"name": "owls", "kind": "regex", "patterns": [r"\bowls?\b", "[0-9]{3} (a|b)+c"]}
SPEC = FilterSpec.model_validate({"rules": [OWLS], "output": {"split_rows": 500}})


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    with RayEngine(jobs=2) as started:
        yield started


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for shard in range(6):
        rows = [{"completion": "owl" if row % 3 else str(row)} for row in range(400 * shard + 1)]
        (folder / f"{shard}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard that takes a worker some seconds."""
    folder = tmp_path_factory.mktemp("large")
    row = json.dumps({"completion": "123 ababab " * 400})
    (folder / "rows.jsonl").write_text(f"{row}\n" * 100_000)
    return folder


def files(out: Path) -> dict[str, bytes]:
    found = (path for part in ("kept", "rejects") for path in (out / part).iterdir())
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in found}


def workers() -> list[int]:
    """Processes of Ray that filter something now: Ray calls them by their task."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::filter "):
                found.append(int(path.parent.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def begun(partial: Path) -> bool:
    """Whether rows of a shard have been written."""
    return any(path.is_file() and path.stat().st_size for path in (partial / ".work").rglob("*"))


def test_workers_make_what_threads_make(engine: RayEngine, data: Path, tmp_path: Path) -> None:
    assert engine.jobs == 2 and "1 machine with 2 CPUs" in engine.place
    here = run(SPEC, [data], tmp_path / "here", jobs=2)
    there = run(SPEC, [data], tmp_path / "there", jobs=2, engine=engine)
    assert there.artifact.digest == here.artifact.digest
    assert files(tmp_path / "there") == files(tmp_path / "here") != {}
    drop = {"seconds"}
    assert {k: v for k, v in there.artifact.result.items() if k not in drop} == {
        k: v for k, v in here.artifact.result.items() if k not in drop
    }
    # What is remembered of files that were read may be of older files in the second run.
    assert {path.name for path in (tmp_path / "there").iterdir()} - {RECORD} == {
        path.name for path in (tmp_path / "here").iterdir()
    } - {RECORD}


def test_a_worker_that_is_killed_is_replaced(
    engine: RayEngine, large: Path, tmp_path: Path
) -> None:
    killed: list[int] = []

    def report(progress: Progress) -> None:
        if not killed and begun(tmp_path / "there.partial") and (found := workers()):
            os.kill(found[0], signal.SIGKILL)
            killed.append(found[0])

    work: dict[str, Any] = {"engine": engine, "report": report, "journal_seconds": 0.1}
    there = run(SPEC, [large], tmp_path / "there", jobs=1, **work)
    assert killed
    here = run(SPEC, [large], tmp_path / "here", jobs=2)
    assert there.artifact.digest == here.artifact.digest


def test_what_is_wrong_with_a_file_is_said_as_ever(engine: RayEngine, tmp_path: Path) -> None:
    lines = "".join(f'{{"completion": "{number}"}}\n' for number in range(400_000))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(lines.encode(), 1)[:-9])  # a late fault
    (tmp_path / "rows.jsonl").write_text('{"completion": "1"}\n')
    said = []
    for more in ({}, {"engine": engine}):
        with pytest.raises(InputError) as raised:
            run(SPEC, [tmp_path / "rows.jsonl", tmp_path / "cut.jsonl.gz"], tmp_path / "x", **more)
        said.append(str(raised.value))
    assert said[0] == said[1] and "cut.jsonl.gz" in said[0]


def test_rows_are_not_compared_there(engine: RayEngine, data: Path, tmp_path: Path) -> None:
    spec = FilterSpec.model_validate({"rules": [{"name": "twice", "kind": "duplicate"}]})
    with pytest.raises(ConfigError, match="compares all rows, of which a task of Ray has some"):
        run(spec, [data], tmp_path / "out", engine=engine)


def test_a_command_that_is_killed_goes_on(large: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(
        '[[rule]]\nname = "owls"\nkind = "regex"\npatterns = ["owl", "[0-9]{3} (a|b)+c"]\n'
    )
    # A cluster of somebody else, which nobody asked for.
    environment = os.environ | {"RAY_ADDRESS": "127.0.0.1:1"}
    command = [SUBL, "filter", "rules.toml", str(large), "--progress", "json"]
    more = ["--engine", "ray", "-j", "2", "-o", "there"]
    child = subprocess.Popen(
        [*command, *more], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    for _ in child.stderr:
        if begun(tmp_path / "there.partial"):
            break
    child.kill()
    child.wait()
    child.stderr.close()
    assert not (tmp_path / "there").exists()
    again = subprocess.run(
        [*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert "Ray: 1 machine with 2 CPUs on this machine" in again.stderr
    subprocess.run([*command, "-o", "here"], cwd=tmp_path, check=True, capture_output=True)
    assert files(tmp_path / "there") == files(tmp_path / "here") != {}


def test_a_slice_does_not_wait_for_the_workers_of_others(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text('[[rule]]\nname = "n"\nkind = "numbers"\n')
    (tmp_path / "data").mkdir()
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        (tmp_path / "data" / name).write_text('{"completion": "1"}\n')
    partial = tmp_path / "out.partial"

    def made(mine: str) -> set[str]:
        command = [SUBL, "filter", "rules.toml", "data", "-o", "out", "--slice", mine]
        said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert f"{mine} of out is made" in said.stderr
        return {path.name for path in (partial / "kept").iterdir()}

    (others,) = made("0/3")
    lock = _note_of(partial, others).with_suffix(".lock")
    lock.parent.mkdir()
    with lock.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert len(made("1/3")) == 2


def test_a_cluster_that_does_not_answer_is_said_at_once() -> None:
    with socket.socket() as unbound:
        unbound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unbound.getsockname()[1]}"
    with pytest.raises(ConfigError, match=f"nothing answers at {address}"):
        RayEngine(address)._start()
