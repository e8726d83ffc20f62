"""What a filter is given: its shards, what their files are to be called, and who takes which.

A job array's shards are looked at and shared out once, when it is submitted, into a file of bins:
else each of a thousand tasks would look at all of the shards to find its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from subl.artifact import WHOLE, Slice, balanced
from subl.errors import ConfigError, InputError
from subl.filter.spec import FilterSpec
from subl.shards import Stated, stated
from subl.shards.names import called, name_inputs, name_shards
from subl.shards.table import check_same

_FORMAT = 1


@dataclass(frozen=True)
class Shard:
    """A file of rows that is filtered.

    Args:
        name: what the files that are made of it are called.
        label: what its rejects call it, where that is not its path.
        stated: what an artifact, a manifest or a bin says of it.
        size, modified_ns: of the file when it was looked at.
    """

    name: str
    path: Path
    label: Path
    stated: Stated | None
    size: int
    modified_ns: int


@dataclass(frozen=True)
class Inputs:
    """What a filter is given, as it was found at one look.

    Args:
        shards: in order.
        named: inputs by their names in the artifact's key.
        bins: numbers of the shards of each task, if they were shared out beforehand.
    """

    shards: Sequence[Shard]
    named: Mapping[str, Path]
    bins: Sequence[Sequence[int]] | None = None

    def share(self, mine: Slice) -> Sequence[int]:
        """Numbers of the shards of a slice, which has as many bytes as another."""
        if self.bins is not None and mine != WHOLE:
            return self.bins[mine.index]
        return balanced([shard.size for shard in self.shards], mine.count)[mine.index]

    def others(self, mine: Slice) -> set[str]:
        """Names of the inputs that a slice need not look at: shards of other bins."""
        if self.bins is None:
            return set()
        own = {self.shards[number].path for number in self.share(mine)}
        foreign = {shard.path for shard in self.shards} - own
        return {name for name, path in self.named.items() if path in foreign}

    def text(self, spec: FilterSpec, paths: Sequence[Path], count: int) -> str:
        """The shards in `count` bins as a file that `read_bins` reads."""
        bins = balanced([shard.size for shard in self.shards], count)
        share = {number: bin for bin, numbers in enumerate(bins) for number in numbers}
        shards = [
            {"bin": share[number], **asdict(shard), "path": str(shard.path)}
            | {"label": None if shard.label == shard.path else str(shard.label)}
            for number, shard in enumerate(self.shards)
        ]
        head = {
            "format": _FORMAT,
            "bins": count,
            "given": list(map(str, paths)),
            "compression": spec.output.compression,
            "named": {name: str(path) for name, path in self.named.items()},
        }
        lines = ",\n".join(map(json.dumps, shards))
        return f'{json.dumps(head)[:-1]}, "shards": [\n{lines}\n]}}\n'


def look(spec: FilterSpec, paths: Sequence[Path]) -> Inputs:
    """Find the shards that `paths` stand for.

    Raises:
        InputError: as `name_shards`.
    """
    files = name_shards(paths, spec.output.compression)
    labels, says = called(paths), stated(paths)
    shards = []
    for name, path in files.items():
        found = path.stat()
        label = labels.get(path, path)
        shards.append(Shard(name, path, label, says.get(path), found.st_size, found.st_mtime_ns))
    return Inputs(shards, name_inputs(paths, in_order=bool(spec.plan().comparisons)))


def check_shared(spec: FilterSpec, task: str) -> None:
    """Raise `ConfigError` if rules compare rows: `task`, which has some, cannot do that."""
    for rule in spec.rules:
        if rule.kind == "duplicate":
            raise ConfigError(
                f"rule `{rule.name}` ({rule.kind}) compares all rows, of which {task} has some",
                hint="filter by the other rules first, and then by this one in one process",
            )


def read_bins(file: Path, spec: FilterSpec, paths: Sequence[Path], mine: Slice) -> Inputs:
    """The same as it was when bins were made. Of the shards only those of `mine` are looked at.

    Raises:
        InputError: there are no such bins, or a shard is not what it was.
    """
    try:
        said: dict[str, Any] = json.loads(file.read_bytes())
        if said["format"] != _FORMAT:
            raise ValueError
        bins: list[list[int]] = [[] for _ in range(said["bins"])]
        shards = []
        for number, each in enumerate(said["shards"]):
            bins[each["bin"]].append(number)
            shards.append(_shard(each))
        named = {str(name): Path(path) for name, path in said["named"].items()}
        given = said["given"], said["compression"], said["bins"]
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{file} has no bins of this version of subl", hint=_HINT) from error
    if given != (list(map(str, paths)), spec.output.compression, mine.count):
        raise InputError(
            f"{file} is for other inputs, another compression, or {said['bins']} slices", hint=_HINT
        )
    inputs = Inputs(shards, named, bins)
    for number in inputs.share(mine):
        shard = shards[number]
        check_same(shard.path, shard.size, shard.modified_ns, what="bins were", hint=_HINT)
    return inputs


def _shard(said: Mapping[str, Any]) -> Shard:
    path = Path(said["path"])
    return Shard(
        str(said["name"]),
        path,
        path if said["label"] is None else Path(said["label"]),
        None if said["stated"] is None else Stated(*said["stated"]),
        int(said["size"]),
        int(said["modified_ns"]),
    )


_HINT = "subl slurm submit --array writes them: submit again"
