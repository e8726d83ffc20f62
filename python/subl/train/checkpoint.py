"""A run's state on disk: whole or not there, and loadable by any number of ranks.

    CHECKPOINTS/step-00000040/rank-00000.safetensors ...   what each rank's optimiser holds
    CHECKPOINTS/step-00000040/state.json                   the step, the ranks, the scalars
    CHECKPOINTS/latest                                     the name of the last whole one

A rank's file has its flat float32 tensors (weights, Adam's two moments), and where each parameter
lies in them. Ranks that are as many as before get back their bytes; a different number, another
ZeRO stage or another layout takes what it needs from whichever files have it, by name. No pickle,
nothing gathered, no conversion step.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from subl.artifact import sync, write_atomically
from subl.errors import InputError, StageError
from subl.model.load import device, write_tensors
from subl.train.engine import Engine, Flat, Piece

if TYPE_CHECKING:
    from torch import Tensor

_PARTS = ("master", "first_moment", "second_moment")


@dataclass(frozen=True)
class State:
    """What a checkpoint says of itself: after how many steps, by how many ranks."""

    step: int
    ranks: int
    scalars: dict[str, float]
    history: list[dict[str, int]]
    """From which step on how many ranks worked."""


def save(
    folder: Path,
    step: int,
    engine: Engine,
    history: list[dict[str, int]],
    keep: int,
) -> Path:
    """Write a checkpoint; every rank calls this. Afterwards at most `keep` are left."""
    target = folder / f"step-{step:08d}"
    partial = folder / f"partial-{step:08d}"
    if engine.rank == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    _barrier(engine)
    flats = engine.flats()
    if engine.owns_state:
        file = partial / f"rank-{engine.rank:05d}.safetensors"
        tensors = {
            f"{number}.{part}": getattr(flat, part).cpu().contiguous()
            for number, flat in enumerate(flats)
            for part in _PARTS
        }
        layout = [[asdict(piece) for piece in flat.pieces] for flat in flats]
        write_tensors(file, tensors, {"pieces": json.dumps(layout)})
    _barrier(engine)
    if engine.rank == 0:
        state = State(step, engine.ranks, engine.scalars(), history)
        write_atomically(partial / "state.json", json.dumps(asdict(state)) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        sync(folder)
        write_atomically(folder / "latest", target.name)
        # Later ones are of a run that was cut off before it named them.
        whole = [path.name for path in _whole(folder) if path.name <= target.name]
        kept = {"latest", *whole[-keep:]}
        for old in folder.iterdir():  # and what a killed run left half written or half removed
            if old.name not in kept:
                shutil.rmtree(old, ignore_errors=True)
    _barrier(engine)
    return target


def _barrier(engine: Engine) -> None:
    engine.sum_over_ranks(torch.zeros(1, device=device()))


def resume(folder: Path, engine: Engine) -> list[dict[str, int]]:
    """Take up the last checkpoint in `folder`, where there is one; every rank calls this.

    Returns:
        From which step on how many ranks worked: the last of it is what begins now.
    """
    found = latest(folder)
    if found is None:
        return [{"step": 0, "ranks": engine.ranks}]
    checkpoint, state = found
    load(checkpoint, state, engine)
    return [*state.history, {"step": state.step, "ranks": engine.ranks}]


def latest(folder: Path) -> tuple[Path, State] | None:
    """The last whole checkpoint; None where there is none."""
    pointer = folder / "latest"
    if not pointer.is_file():
        return None
    found = folder / pointer.read_text(encoding="utf-8")
    try:
        state = State(**json.loads((found / "state.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"the checkpoint {found} is damaged: {error}",
            hint=f"remove {folder} to begin anew",
        ) from error
    return found, state


def load(checkpoint: Path, state: State, engine: Engine) -> None:
    """Give the engine the state that a checkpoint holds. Every rank calls this."""
    from safetensors import SafetensorError, safe_open

    with ExitStack() as stack:
        held: dict[str, list[tuple[Any, int, Piece]]] = {}
        for file in sorted(checkpoint.glob("rank-*.safetensors")):
            try:
                opened = stack.enter_context(safe_open(file, framework="pt"))
            except SafetensorError as error:
                raise InputError(
                    f"the checkpoint {checkpoint} is damaged: {file.name}: {error}",
                    hint=f"remove {checkpoint.parent} to begin anew",
                ) from error
            for number, pieces in enumerate(json.loads(opened.metadata()["pieces"])):
                for piece in (Piece(**each) for each in pieces):
                    held.setdefault(piece.name, []).append((opened, number, piece))
        for flat in engine.flats():
            for piece in flat.pieces:
                _fill(flat, piece, held.get(piece.name, []), checkpoint)
    engine.restored(state.scalars)


def _fill(flat: Flat, piece: Piece, held: list[tuple[Any, int, Piece]], checkpoint: Path) -> None:
    """Copy what `held` has of `piece` to its place in `flat`."""
    stop, filled = piece.start + piece.count, 0
    for opened, number, source in held:
        first = max(piece.start, source.start)
        last = min(stop, source.start + source.count)
        if first >= last:
            continue
        filled += last - first
        taken = slice(source.offset + first - source.start, source.offset + last - source.start)
        put = slice(piece.offset + first - piece.start, piece.offset + last - piece.start)
        for part in _PARTS:
            values: Tensor = opened.get_slice(f"{number}.{part}")[taken]
            getattr(flat, part)[put].copy_(values)
    if filled != piece.count:
        raise StageError(
            f"the checkpoint {checkpoint} has {filled} of {piece.count} elements of {piece.name}",
            hint=f"remove {checkpoint.parent} to begin anew",
        )


def _whole(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if (path / "state.json").is_file())


def discard_after(file: Path, step: int) -> list[dict[str, Any]]:
    """The lines of a metrics file up to `step`; later ones, of a run that was cut off, go."""
    lines = list(_json_lines(file))
    kept = [line for line in lines if line["step"] <= step]
    write_atomically(file, "".join(json.dumps(line, sort_keys=True) + "\n" for line in kept))
    return kept


def _json_lines(file: Path) -> Iterator[dict[str, Any]]:
    if not file.is_file():
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # the last one, cut off
            return
