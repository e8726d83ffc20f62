"""What lies in a folder that no digest covers, or that is something else than it looks like.

Digests leave hidden files out and folders that a link leads to, and take a link to a file for the
file. An index may have a model's weights elsewhere. What no digest binds must not be in a folder
that somebody vouches for, nor be what is loaded from it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from subl.artifact.index import led_out

OWN = frozenset({".seen.json"})
"""Hidden files of subl's own in an artifact. They hold sizes, times and digests of files for who
made it; who verifies believes none of them."""


LINK = "is a symbolic link: nothing binds what it leads to"


def uncovered(
    folder: Path, known: Collection[str] = (), *, links_to_files: bool = False
) -> list[str]:
    """A sentence for each thing below `folder` that no digest binds, by its relative name.

    Args:
        known: names at the top of it that may be there, as regular files.
        links_to_files: whether a link may be the file that it leads to.
    """
    found = _strange(folder, "", known, links_to_files)
    return [f"{name} {what}" for name, what in sorted(found)]


def _strange(
    folder: Path | str, prefix: str, known: Collection[str], links_to_files: bool
) -> Iterator[tuple[str, str]]:
    for name, what in led_out(Path(folder)):
        yield f"{prefix}{name}", what
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if entry.is_symlink() and not (links_to_files and entry.is_file()):
                yield name, LINK
            elif entry.is_dir():
                if entry.name.startswith("."):
                    yield f"{name}/", "is hidden: no digest covers what is in it"
                else:
                    yield from _strange(entry.path, f"{name}/", known, links_to_files)
            elif not entry.is_file():
                yield name, "is no regular file"
            elif entry.name.startswith(".") and name not in known:
                yield name, "is hidden: no digest covers it"
