"""What a run will need of memory, said before it starts; and what it keeps of it between steps.

Bytes for each weight follow from the optimiser (Adam: two float32 moments, and float32 masters of
16-bit weights) and from what ZeRO spreads over the ranks (Rajbhandari et al. 2020, table 1).
Activations are an estimate: what a transformer block keeps for its backward pass, a token.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.errors import StageError
from subl.train.plan import TrainSpec

if TYPE_CHECKING:
    import torch

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of a weight."""

_SCORE_BYTES = {4: 6, 2: 8}
"""Of a score that eager attention keeps, in float32 and in 16 bits: softmax in float32, what
products need, masks. Measured 4.5 and 6 (Bloom, MPT), 8 and 8 (Gemma 2), 8 and 10 (GPT-Neo)."""

TILE_ELEMENTS = 1 << 24
"""Logits that a loss computes at a time: 64 MB in float32, several times over. A step on long rows
took 8.7, 8.2 and 7.8 s of CPU time with 2^21, 2^23 and 2^25: larger products are faster ones."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h."""

RUNTIME_BYTES = 900 << 20
"""torch, transformers and their libraries in a process, and freed memory that is kept."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that memory depends on. `weights`, `trained`: numbers of parameters."""

    weights: int
    trained: int
    layers: int
    width: int
    inner: int
    vocabulary: int
    eager_heads: int = 0
    """Attention heads, where all their scores are kept: of models that know no other attention."""
    window: int = 0
    """How far back a token sees in `windowed` layers; there, longer rows need a mask."""
    windowed: int = 0

    @staticmethod
    def of(config: Any, weights: int, trained: int, *, eager: bool = False) -> Shape | None:
        """Read off the configuration of a model's language part; None where it has no such sizes.

        Of experts so many count as work on a token.

        Args:
            eager: whether the model's attention is one that writes all scores down.
        """
        named = (
            getattr(config, n, None) for n in ("num_hidden_layers", "hidden_size", "vocab_size")
        )
        known = [each for each in named if isinstance(each, int)]
        if len(known) < 3:
            return None
        layers, width, vocabulary = known
        names = ("moe_intermediate_size", "intermediate_size", "ffn_dim", "n_inner")
        given = (getattr(config, name, None) for name in (*names, "ffn_hidden_size"))
        inner = next((each for each in given if each), 4 * width)
        inner = max(inner) if isinstance(inner, list | tuple) else inner
        experts = getattr(config, "num_experts_per_tok", None) or 1
        heads = (getattr(config, "num_attention_heads", None) or 0) if eager else 0
        window = getattr(config, "sliding_window", None) or 0
        kinds = getattr(config, "layer_types", None) or layers * ["sliding_attention"]
        windowed = kinds.count("sliding_attention") if window else 0
        sizes = (layers, width, inner * experts, vocabulary)
        return Shape(weights, trained, *sizes, heads, window, windowed)


def needed(
    spec: TrainSpec,
    shape: Shape,
    *,
    ranks: int,
    bin_tokens: int,
    longest: int = 0,
    scores: int = 0,
    padding: int = 0,
    teacher_weights: int = 0,
    teacher_spread: bool = False,
) -> dict[str, int]:
    """Bytes on one rank's device, by what they are for.

    Args:
        bin_tokens: of the largest micro-batch.
        longest: tokens of the longest row.
        scores: of a micro-batch whose rows lie side by side, at most: rows times the square of the
            longest.
        padding: places more that attention computes where rows are not equally long.
    """
    each = BYTES[spec.dtype]
    stage = 0 if spec.zero_stage == "none" else spec.zero_stage
    spread_optimizer = ranks if stage >= 1 else 1
    spread_gradients = ranks if stage >= 2 else 1
    spread_weights = ranks if stage == 3 else 1
    masters = 4 if each == 2 or stage >= 1 else 0
    on_device = 0 if spec.offload_optimizer else 1
    teacher = each * teacher_weights // (ranks if teacher_spread else 1)
    # Measured on SmolLM2: 11 tensors of the width and 5 of the inner width a block and token.
    block = each * (11 * shape.width + 5 * shape.inner)
    kept = 2 * each * shape.width if spec.gradient_checkpointing else block
    layers_kept = 1 if spec.gradient_checkpointing else shape.layers
    attention = scores * shape.eager_heads * (_SCORE_BYTES[each] * layers_kept + 8)
    if not shape.eager_heads and longest > shape.window > 0:
        windowed = min(shape.windowed, layers_kept)
        # Kept as numbers by each layer; and once while it is made.
        attention = longest**2 * (each * windowed + 9) if windowed else 0
    # Queries, keys, values and what comes out of them.
    padded = padding * each * 4 * shape.width
    head_trains = shape.trained == shape.weights
    return {
        "weights": 0 if spec.offload_parameters else each * shape.weights // spread_weights,
        "gradients": (4 * shape.trained // spread_gradients)
        + (each * shape.trained if each == 2 or stage in (1, 2) else 0),
        "optimizer": on_device * (masters + 8) * shape.trained // spread_optimizer,
        "activations": bin_tokens * (shape.layers * kept + block) + padded * layers_kept,
        "attention": attention,
        "logits": 4 * 4 * TILE_ELEMENTS
        + ((4 + (each if each == 2 else 0)) * shape.vocabulary * shape.width if head_trains else 0),
        "teacher": teacher,
        "runtime": RUNTIME_BYTES,
    }


def available(device: torch.device, ranks_here: int) -> int:
    """Bytes that a rank may use: free memory of its GPU, or its share of the machine's."""
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    return _machine_memory() // ranks_here


def _machine_memory() -> int:
    """What is available of this machine's memory, within the process's control group."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            machine = int(line.split()[1]) * 1024
    for folder, limit, used in (
        ("", "memory.max", "memory.current"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        group = Path("/sys/fs/cgroup") / folder
        found = [_lines(group / name) for name in (limit, used)]
        if all(found) and found[0][0].isdigit():
            # Files read once count as used, and are given up as soon as memory is asked for.
            files = [
                int(line.split()[1])
                for line in _lines(group / "memory.stat")
                if line.startswith(("inactive_file ", "total_inactive_file "))
            ]
            machine = min(machine, int(found[0][0]) - int(found[1][0]) + max(files, default=0))
    return machine


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def keep_freed_memory() -> None:
    """Have the C library (glibc) keep what a step frees for the next step.

    Otherwise most tensors get pages anew that the kernel zeroes first. SmolLM2, float32, two cores,
    long rows: 222 and 234 tokens/s became 294 and the kernel's share of the time halved, for 0.2 to
    0.3 GB. To keep even the largest tensors was no faster (288 and 279) and took as much again.
    Nothing happens where there is no glibc.
    """
    _call_libc("mallopt", _M_MMAP_THRESHOLD, 32 << 20)  # the highest that an older glibc takes
    _call_libc("mallopt", _M_TRIM_THRESHOLD, -1)


def release_freed_memory() -> None:
    """Give back what was kept: what comes next needs memory of other sizes."""
    _call_libc("malloc_trim", 0)


def _call_libc(name: str, *arguments: int) -> None:
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return
    function(*arguments)


def check(parts: dict[str, int], free: int, spec: TrainSpec) -> None:
    """Refuse a run that cannot fit, and say what would help.

    Raises:
        StageError: it needs more than there is.
    """
    total = sum(parts.values())
    if total <= free:
        return
    largest = max(parts, key=lambda name: parts[name])
    advice = {
        "weights": 'zero_stage = 3, or dtype = "bfloat16"',
        "gradients": "zero_stage = 2 on more ranks, or [train.lora]",
        "optimizer": "zero_stage = 1 on more ranks, offload_optimizer, or [train.lora]",
        "activations": "a smaller micro_batch_tokens, or gradient_checkpointing",
        "attention": "max_row_tokens, a smaller micro_batch_tokens, or gradient_checkpointing",
        "logits": "a smaller model, or a machine with more memory",
        "teacher": "[teacher] zero_stage = 3, or a cache (subl distill cache)",
        "runtime": "fewer ranks on this machine",
    }[largest]
    said = ", ".join(f"{name} {parts[name] / 2**30:.1f}" for name in parts if parts[name])
    raise StageError(
        f"this needs about {total / 2**30:.1f} GiB a rank and {free / 2**30:.1f} are free ({said})",
        hint=f"most of it are {largest}: try {advice}",
    )
