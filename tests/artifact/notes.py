"""A stage as small as one can be: it copies its input and writes a second file.

Run as a program it stops in the middle of its work, says so on stdout, and goes on when its stdin
is closed; so that a test can kill it there, or look at what others see meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from subl.artifact import Artifact, StageSpec, build


class NotesSpec(StageSpec):
    format_version: ClassVar = 1
    unkeyed: ClassVar = {"threads"}

    text: str = "hello"
    threads: int = 1


class LaterNotesSpec(NotesSpec):
    """The same after an upgrade that writes other bytes."""

    format_version: ClassVar = 2


def make_notes(
    out: Path,
    source: Path,
    spec: NotesSpec | None = None,
    halfway: Callable[[], object] = lambda: None,
) -> Artifact:
    """The artifact `out` with copy/data.bin (of the file or artifact `source`) and text.txt.

    A data.bin that an interrupted run has left is kept as it is.
    """
    spec = spec or NotesSpec()
    file = source / "copy" / "data.bin" if source.is_dir() else source

    def work(folder: Path) -> dict[str, Any]:
        copy = folder / "copy" / "data.bin"
        if not copy.exists():
            copy.parent.mkdir()
            copy.write_bytes(file.read_bytes())
        halfway()
        (folder / "text.txt").write_text(spec.text)
        return {"files": 2}

    return build(out, "notes", spec, {"source": source}, work)


@contextmanager
def half_made_elsewhere(
    out: Path, source: Path, text: str = "hello"
) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that is in the middle of making `out`; killed at the end if still there."""
    child = subprocess.Popen(
        [sys.executable, __file__, str(out), str(source), text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"halfway\n"
        try:
            yield child
        finally:
            child.kill()


def _tell_and_wait() -> None:
    print("halfway", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    made_path, source_path, given_text = sys.argv[1:]
    make_notes(
        Path(made_path), Path(source_path), NotesSpec(text=given_text), halfway=_tell_and_wait
    )
