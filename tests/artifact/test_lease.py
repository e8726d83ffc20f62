"""Leases: one holder at a time, however holders end."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from subl.artifact.lease import OVER_SECONDS, HeldError, holder, leased

HOLD = """
import sys
from pathlib import Path
from subl.artifact.lease import leased
with leased(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lease_has_one_holder_and_leaves_nothing(tmp_path: Path) -> None:
    lease = tmp_path / "leases" / "a"
    with leased(lease):
        held = holder(lease)
        assert held is not None and held.process == os.getpid()
        with pytest.raises(HeldError), leased(lease):
            pytest.fail("two held it")
        with leased(tmp_path / "leases" / "b"):
            pass
    assert holder(lease) is None
    assert list(lease.parent.iterdir()) == []


def test_what_a_killed_process_held_can_be_had_at_once(tmp_path: Path) -> None:
    lease = tmp_path / "a"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, lease], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(HeldError, match=f"process {process.pid} on"), leased(lease):
        pytest.fail("two held it")
    process.kill()
    process.wait()
    process.stdout.close()
    process.stdin.close()
    with leased(lease):
        assert holder(lease) is not None
    assert list(tmp_path.iterdir()) == []


def test_another_machine_holds_what_it_touched_not_long_ago(tmp_path: Path) -> None:
    lease, file = tmp_path / "a", tmp_path / "a.0"
    file.write_text(json.dumps({"machine": "elsewhere", "process": 7}), encoding="utf-8")
    assert str(holder(lease)) == "process 7 on elsewhere"
    now = file.stat().st_mtime
    for seconds in (-OVER_SECONDS - 60, 1e9):  # long ago, or by a clock that is wrong
        os.utime(file, (now + seconds, now + seconds))
        assert holder(lease) is None
    with leased(lease):
        assert {path.name for path in tmp_path.iterdir() if path.name[0] != "."} == {"a.0", "a.1"}
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*names: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with leased(tmp_path / "a"):
        assert holder(tmp_path / "a") is not None
        with pytest.raises(HeldError), leased(tmp_path / "a"):
            pytest.fail("two held it")
    assert list(tmp_path.iterdir()) == []


def test_of_many_who_take_over_one_gets_it(tmp_path: Path) -> None:
    lease = tmp_path / "a"
    dead = tmp_path / "a.0"
    dead.write_text(json.dumps({"machine": "elsewhere", "process": 7}), encoding="utf-8")
    os.utime(dead, (0, 0))
    together, tried = threading.Barrier(8), threading.Barrier(8)

    def try_it(came: list[str]) -> None:
        together.wait()
        try:
            with leased(lease):
                came.append("held")
                tried.wait()
        except HeldError:
            came.append("refused")
            tried.wait()

    came: list[str] = []
    threads = [threading.Thread(target=try_it, args=(came,)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(came) == ["held", *["refused"] * 7]
