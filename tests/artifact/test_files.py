"""`write_atomically`: the old content or the new, never a part, nothing left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from subl.artifact import write_atomically
from subl.errors import OutputError


def test_text_and_bytes_arrive_and_folders_are_made(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "file"
    write_atomically(file, "größer")
    assert file.read_bytes() == "größer".encode()
    write_atomically(file, b"\0\xff")
    assert file.read_bytes() == b"\0\xff"
    assert [path.name for path in file.parent.iterdir()] == ["file"]


LIMITED = """
import resource, signal, sys
from pathlib import Path
from subl.artifact import write_atomically
from subl.errors import OutputError

file, action = Path(sys.argv[1]), getattr(signal, sys.argv[2])
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
signal.signal(signal.SIGXFSZ, action)
try:
    write_atomically(file, bytes(1_000_000))
except OutputError as error:
    print(error.message)
"""


def write_a_megabyte_where_100_kb_fit(file: Path, action: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(file), action], capture_output=True, text=True
    )


def test_a_killed_write_leaves_the_old_content(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    child = write_a_megabyte_where_100_kb_fit(file, "SIG_DFL")
    assert child.returncode == -signal.SIGXFSZ, child.stderr
    assert file.read_text() == "old"
    assert max(path.stat().st_size for path in tmp_path.iterdir()) == 100_000  # it had begun


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    child = write_a_megabyte_where_100_kb_fit(file, "SIG_IGN")
    assert child.returncode == 0, child.stderr
    assert child.stdout == f"cannot write {file}: File too large\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_text() == "old"


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*taken"):
        write_atomically(tmp_path / "taken", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*taken/file"):
        write_atomically(tmp_path / "taken" / "file", "x")


def test_text_that_is_no_unicode_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises((OutputError, UnicodeEncodeError)):
        write_atomically(tmp_path / "file", "lone surrogate \ud800")
    assert list(tmp_path.iterdir()) == []
