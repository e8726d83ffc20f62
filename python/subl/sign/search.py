"""Files and folders by their digests: inputs that were moved since they were read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from subl.artifact import ENVELOPE, data_digest, file_digests
from subl.artifact.digest import listing_digest
from subl.errors import InputError


class Below:
    """What is in some folders; every file is read once, when something is first asked for."""

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise InputError(f"{folder} is no folder", hint="give folders to search in")
        self._folders = folders

    def of(self, digest: str) -> Sequence[Path]:
        """All that has this digest, as a file, a folder or an artifact; what is signed first."""
        found = self._by_digest.get(digest, ())
        return sorted(found, key=lambda path: not (path / ENVELOPE).is_file())

    @cached_property
    def _by_digest(self) -> Mapping[str, set[Path]]:
        known: defaultdict[str, set[Path]] = defaultdict(set)
        for folder in self._folders:
            below: defaultdict[Path, dict[str, str]] = defaultdict(dict)
            for name, digest in file_digests(folder).items():
                path = folder / name
                known[digest].add(path)
                for parent in path.parents:
                    below[parent][path.relative_to(parent).as_posix()] = digest
                    if parent == folder:
                        break
            for path, digests in below.items():
                known[listing_digest(digests)].add(path)
                known[data_digest(digests)].add(path)
        return known
