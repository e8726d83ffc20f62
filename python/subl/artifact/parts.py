"""Make one artifact by several processes that need not know of one another.

Where the files of an artifact can be made one by one, each process makes those of its slice into
the same partial directory. They hold its lock together, so that nobody finishes what another works
on; who finds all files there finishes it, as `build` does. So ranks of one machine, tasks of srun
and of a job array, and one process that goes on with what they left are one and the same. Each
slice has a lock of its own, for one process at a time.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from subl.artifact.build import Artifact, Made, beginning, build
from subl.artifact.digest import file_digest
from subl.artifact.files import write_atomically
from subl.artifact.partial import locked
from subl.artifact.spec import StageSpec
from subl.errors import BusyError, UnfinishedError


@dataclass(frozen=True)
class Slice:
    """One of `count` shares of an artifact's parts, which together are all of them."""

    index: int = 0
    count: int = 1

    @property
    def lock(self) -> str:
        """Of who makes it."""
        return f".lock-{self.index}-of-{self.count}"

    def marker(self, out: Path) -> Path:
        """The file that says, while others are unfinished, that this share is made; in it are the
        digests of the files. What it lies in belongs to one configuration and its inputs."""
        return out.with_name(f"{out.name}.partial") / f".slice-{self.index}-of-{self.count}.json"

    def share(self, index: int, count: int) -> Slice:
        """The `index`-th of `count` slices of this slice."""
        return Slice(self.index + self.count * index, self.count * count)

    def __str__(self) -> str:
        return f"slice {self.index}/{self.count}"


WHOLE = Slice()


@dataclass(frozen=True)
class Parts:
    """How an artifact is made of files that do not depend on one another.

    Attributes:
        names: of the files, in order.
        make: makes those of them, by their numbers, in the partial directory, whole or not at all.
        finish: what is left to do when all are there; the figures for `result.json`.
        share: numbers of those of a slice, where parts differ in size; else every so many-th.
        noted: {name: digest} of those that are made, where a name is not that of a file.
    """

    names: Sequence[str]
    make: Callable[[Path, Sequence[int]], None]
    finish: Callable[[Path], dict[str, Any] | Made]
    share: Callable[[Slice], Sequence[int]] | None = None
    noted: Callable[[Path], Mapping[str, str]] | None = None

    def of(self, mine: Slice) -> Sequence[int]:
        """Numbers of the parts of a slice."""
        if self.share is None:
            return range(mine.index, len(self.names), mine.count)
        return self.share(mine)

    def missing(self, folder: Path, mine: Slice = WHOLE) -> list[int]:
        """Numbers of the parts of a slice that are not there."""
        if self.noted is not None:
            made = self.noted(folder)
            return [number for number in self.of(mine) if self.names[number] not in made]
        return [n for n in self.of(mine) if not (folder / self.names[n]).exists()]

    def digests(self, folder: Path, mine: Slice) -> dict[str, str]:
        """{name: digest} of a slice's parts, which are there."""
        names = [self.names[number] for number in self.of(mine)]
        if self.noted is not None:
            made = self.noted(folder)
            return {name: made[name] for name in names}
        return {name: file_digest(folder / name) for name in names}


def balanced(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Numbers of things of these sizes in `count` bins: the largest first, each to the bin that has
    the least. No bin has more than 4/3 of what is possible (Graham, 1969, LPT)."""
    bins: list[list[int]] = [[] for _ in range(count)]
    loads = [(0, 0, bin) for bin in range(count)]
    for number in sorted(range(len(sizes)), key=lambda number: (-sizes[number], number)):
        load, things, bin = loads[0]
        bins[bin].append(number)
        heapq.heapreplace(loads, (load + sizes[number], things + 1, bin))
    return [sorted(each) for each in bins]


def build_parts(
    out: Path,
    kind: str,
    spec: StageSpec,
    inputs: Mapping[str, Path],
    parts: Callable[[Path], Parts],
    mine: Slice = WHOLE,
    *,
    learned: Callable[[Path], Mapping[str, str]] | None = None,
    unseen: Collection[str] = (),
) -> Artifact:
    """As `build`, of parts; of these only those of `mine`, and what is left when all are there.

    Args:
        parts: given the partial directory, what it is to hold.
        learned: as of `build`.
        unseen: names of inputs that a slice does not look at.

    Raises:
        UnfinishedError: the slice is made, and others are not yet.
        BusyError: another process makes the slice, or all of it.
    """

    parts = cache(parts)  # what inputs hold is counted once

    def work(folder: Path) -> dict[str, Any] | Made:
        all_parts = parts(folder)
        if missing := all_parts.missing(folder):
            all_parts.make(folder, missing)
        return all_parts.finish(folder)

    if mine.count == 1:
        return build(out, kind, spec, inputs, work, learned=learned)
    partial = out.with_name(f"{out.name}.partial")
    with ExitStack() as held:
        try:
            begun = beginning(out, kind, spec, inputs, closed=learned is None, unseen=unseen)
            is_there = held.enter_context(begun) is None
        except BusyError:  # one process makes or finishes it
            all_parts = parts(partial)
            if _missing(all_parts, out, partial, mine):
                raise
        else:
            if is_there:
                return build(out, kind, spec, inputs, work, learned=learned)
            all_parts = parts(partial)
            if all_parts.missing(partial, mine):
                held.enter_context(locked(partial, mine.lock, what=f"{mine} of {out}"))
            if missing := all_parts.missing(partial, mine):
                all_parts.make(partial, missing)
            write_atomically(
                mine.marker(out), json.dumps(all_parts.digests(partial, mine), indent=1)
            )
    # Looked at when nothing is held here any more: the last of several to look sees all parts.
    left = len(_missing(all_parts, out, partial))
    try:
        if not left:
            return build(out, kind, spec, inputs, work, learned=learned)
    except BusyError:  # others are at it, and one of them finishes it
        pass
    rest = f"{left} of its {len(all_parts.names)} files are still to come"
    raise UnfinishedError(
        f"{mine} of {out} is made; {rest if left else 'another process finishes it'}",
        hint="who makes the last of them finishes it, and one process can go on with what is left",
    )


def _missing(parts: Parts, out: Path, partial: Path, mine: Slice = WHOLE) -> list[int]:
    """Numbers of the parts of a slice that are still to come, seen from outside.

    Who finishes all writes the statement before it removes hidden parts and renames the directory.
    """
    missing = parts.missing(partial, mine)
    is_stated = any((folder / "statement.json").is_file() for folder in (partial, out))
    return [] if is_stated else missing
