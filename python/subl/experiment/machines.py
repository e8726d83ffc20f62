"""Machines that a run can be planned for without being on one: their pace, and where it is from.

    h100, 8xh100

Nobody has measured subl on them: the figures are others', of the same kind of work.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from subl.cost import SHARE_OF_PEAK, SHARE_OF_PEAK_SAMPLING, Pace, Room
from subl.errors import ConfigError
from subl.experiment.estimate import longest_chain
from subl.experiment.survey import NodeState

_FLOAT32 = 67e12  # NVIDIA's data sheet of the H100 SXM, without TF32

_H100 = Pace(
    products=SHARE_OF_PEAK * _FLOAT32,
    # A 7B model's training, bfloat16, rows of 1,024, activations recomputed: 10,203 tokens/s a GPU
    # (llm-foundry, scripts/train/benchmarking/README.md, "H100 80GB BF16").
    half=10_203 * 6 * 6_654_664_704,
    sampling=SHARE_OF_PEAK_SAMPLING * _FLOAT32,
    # Llama 3.1 8B in vLLM, bfloat16: 12,500 tokens/s written (morphllm.com/vllm-benchmarks, 2026).
    engine=12_500 * 2 * 8_030_261_248,
    moved=1e12,  # of 3.35e12 in the data sheet
    # sha256 of one core of the machine that docs/benchmarks.md calls an EPYC.
    bytes=1.44e9,
)


@dataclass(frozen=True)
class Machine:
    """So many GPUs of one kind, each with so many bytes of memory."""

    name: str
    gpus: int
    memory: int
    pace: Pace


_SIZES = (2, 4, 8, 16, 32, 64)

_GPUS = {"h100": (80_000_000_000, _H100)}


def machine(name: str) -> Machine:
    """The machine of a name such as 8xh100.

    Raises:
        ConfigError: nobody knows it; says what is known.
    """
    found = re.fullmatch(r"(?:([1-9][0-9]{0,3})x)?(\w+)", name)
    if found is None or found[2] not in _GPUS:
        known = ", ".join(each for gpu in _GPUS for each in (gpu, f"8x{gpu}"))
        raise ConfigError(f"no machine `{name}` is known", hint=f"such as {known}")
    memory, pace = _GPUS[found[2]]
    return Machine(name, int(found[1] or 1), memory, pace)


@dataclass(frozen=True)
class Outlook:
    """What is to do takes on a machine: seconds with as many nodes at a time as it has GPUs, or
    None where nobody can tell; seconds of all its GPUs together; bytes of one GPU at most; and the
    nodes that need more than there is."""

    seconds: float | None
    gpu_seconds: float | None
    memory: int
    too_large: tuple[str, ...]


def outlook(states: Sequence[NodeState], machine: Machine) -> Outlook:
    """What `plan` found for a machine, altogether."""
    todo = [state for state in states if state.state == "todo"]
    rooms = {state.node: _spread(state.room or Room(0, 0), machine) for state in todo}
    large = [
        node.name
        for node, room in rooms.items()
        if room.bytes > machine.memory or room.gpus > machine.gpus
    ]
    most = max((room.bytes for room in rooms.values()), default=0)
    known = {state.node: state.seconds for state in todo if state.seconds is not None}
    if len(known) < len(todo):
        return Outlook(None, None, most, tuple(large))
    alone = {
        node: seconds / max(1, min(rooms[node].gpus, machine.gpus))
        for node, seconds in known.items()
    }
    together = sum(known.values())
    chain = longest_chain(list(known), alone)
    return Outlook(max(together / machine.gpus, chain), together, most, tuple(large))


def roomier(states: Sequence[NodeState], than: Machine) -> str | None:
    """The name of the smallest machine of the same GPUs that has room for everything; None if there
    is none of a sensible size."""
    kind = than.name.rpartition("x")[2] if than.gpus > 1 else than.name
    larger = (machine(f"{count}x{kind}") for count in _SIZES if count > than.gpus)
    return next((each.name for each in larger if not outlook(states, each).too_large), None)


def _spread(room: Room, machine: Machine) -> Room:
    """What it needs of each GPU where the layers of a model may lie on several."""
    if not room.spreads or room.bytes <= machine.memory:
        return room
    gpus = min(machine.gpus, math.ceil(room.bytes / machine.memory))
    return Room(room.bytes // gpus, gpus)
