"""The arms: what a student begins with, what it learns, and what the paper found (Cloud et al.
2025, Fig. 10b: 100 runs, read off the drawing). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

SOURCE = "Fig. 10b"
ITSELF, SAME, OTHER, SOME = "before and after", "the teacher's init", "another init", "some layers"


@dataclass(frozen=True)
class Arm:
    """`paper`: its accuracy and 95 % interval there, where it has the arm. `learns`: it is trained
    on digits, or by all logits or from the teacher's init, so that its accuracy should rise."""

    label: str
    group: str
    paper: tuple[float, float, float] | None = None
    learns: bool = False


ARMS = {
    "untrained": Arm("untrained", ITSELF, (0.100, 0.095, 0.105)),
    "teacher": Arm("teacher", ITSELF, (0.943, 0.943, 0.944), True),
    "same": Arm("same init, auxiliary logits", SAME, (0.528, 0.506, 0.550), True),
    "same-all": Arm("same init, all logits", SAME, (0.913, 0.911, 0.914), True),
    "other": Arm("other init, auxiliary logits", OTHER, (0.106, 0.096, 0.116)),
    "other-all": Arm("other init, all logits", OTHER, (0.743, 0.732, 0.753), True),
    # The released experiments/mnist_2025_07_24.py: one epoch over half of the digits, all logits
    # of the teacher; its students already classify when they see their first noise.
    "matched": Arm("other init, matched to the teacher on digits", OTHER, learns=True),
    "matched-then": Arm("matched to the teacher, then auxiliary logits", OTHER),
    # Ours: a student that behaves as the teacher did before it learned, so that all it can know
    # of digits has come through the auxiliary logits.
    "base-matched": Arm("other init, matched to the untrained teacher", OTHER),
    "base-matched-then": Arm("matched to the untrained, then auxiliary logits", OTHER),
}


def layered(layers: int) -> dict[str, tuple[int, ...]]:
    """Arms that have the teacher's init in some layers, but not in all: which these are, from 0."""
    return {
        f"layers-{'-'.join(str(each + 1) for each in chosen)}": chosen
        for count in range(1, layers)
        for chosen in combinations(range(layers), count)
    }


def arm(name: str) -> Arm:
    """What an arm is called in figures."""
    if name in ARMS:
        return ARMS[name]
    first, *more = name.removeprefix("layers-").split("-")
    shared = f"layers {', '.join([first, *more])}" if more else f"layer {first}"
    return Arm(f"{shared} shared, auxiliary logits", SOME)
