"""What lies in a folder that no digest covers, or that is something else than it looks like.

Digests leave hidden files out, and go by what a link points to. Who verifies wants neither: a file
that nobody signed must not be in a folder that somebody did.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from subl.artifact import compare

OWN = frozenset({".seen.json"})
"""Hidden files of subl's own in an artifact. They hold sizes, times and digests of files for who
made it; who verifies believes none of them."""


LINK = "is a symbolic link: nothing binds what it leads to"


def uncovered(folder: Path, known: Collection[str] = ()) -> list[str]:
    """A sentence for each thing below `folder` that no digest binds, by its relative name.

    `known` are names at the top of it that may be there, as regular files.
    """
    return [f"{name} {what}" for name, what in sorted(_strange(folder, "", known))]


def _strange(folder: Path | str, prefix: str, known: Collection[str]) -> Iterator[tuple[str, str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if entry.is_symlink():
                yield name, LINK
            elif entry.is_dir():
                if entry.name.startswith("."):
                    yield f"{name}/", "is hidden: no digest covers what is in it"
                else:
                    yield from _strange(entry.path, f"{name}/", known)
            elif not entry.is_file():
                yield name, "is no regular file"
            elif entry.name.startswith(".") and name not in known:
                yield name, "is hidden: no digest covers it"


def read_contents(artifact: Path, record: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The digest of an artifact's data as it is now, and in what it is not what its statement says:
    a sentence each. Every file is read, unless there are some that must not be."""
    problems = uncovered(artifact, OWN)
    names = [subject["name"] for subject in record["subject"]]
    problems += [f"{name} leads out of the artifact" for name in names if not is_inside(name)]
    return ("", problems) if problems else compare(artifact, record)


def is_inside(name: str) -> bool:
    """Whether the name of a file in a record leads to one below its folder, as it is written."""
    return not {"", ".", ".."} & set(name.split("/")) and "\0" not in name
