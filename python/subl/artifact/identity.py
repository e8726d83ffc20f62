"""Which file a file is, without reading it: what no change of its bytes leaves as it was.

The one idea, which git's index and ninja have, too: a file with the inode, size and times that it
had when it was read has the same bytes. No path is part of it, so a record of identities can be
published, and moves with a run. The file system is, by the number that it gives itself: files of
two that were made in one moment have the same inodes and times.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from subl.errors import InputError

SETTLED_NS = 10 * 10**9
"""How old times must be to tell files apart. File systems keep them as coarsely as to 2 s: what is
written twice within that looks the same. The rest is for the clock of a file server."""


class Identity(NamedTuple):
    """A file as the file system knows it. `changed_ns` is 0 where that keeps no such time."""

    filesystem: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, descriptor: int) -> Identity:
        """That of an open file."""
        found, system = os.fstat(descriptor), os.fstatvfs(descriptor)
        changed = found.st_ctime_ns
        is_read_only = bool(system.f_flag & os.ST_RDONLY)
        if changed == found.st_mtime_ns and changed % 10**9 == 0 and is_read_only:
            # An image, such as squashfs: its files have the times that its maker gave them, and in
            # one that is mounted in its place they may be the same ones for other bytes.
            changed = 0
        return cls(system.f_fsid, found.st_ino, found.st_size, found.st_mtime_ns, changed)

    def settled(self, moment_ns: int) -> bool:
        """Whether a change after this moment would have given the file another identity."""
        newest = max(self.modified_ns, self.changed_ns)
        return self.changed_ns > 0 and newest + SETTLED_NS <= moment_ns


def identify(path: Path) -> Identity:
    """The identity of the file at `path` now.

    It is opened, not only asked for: a network file system shows current times to whoever opens.

    Raises:
        InputError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return Identity.of(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
