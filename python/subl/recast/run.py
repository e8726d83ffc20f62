"""Make another base of a model's architecture, and say how far it is from the model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import Artifact, build
from subl.errors import StageError
from subl.model.condition import check_own_weights
from subl.progress import Progress, Report, silent
from subl.recast.spec import RecastSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_ALIKE = 1e-5
"""Nats a token that rounding may set a permuted model apart from its original (1e-9 in float32)."""


def recast(
    spec: RecastSpec,
    model: Path,
    out: Path,
    *,
    name: str = "base",
    report: Report = silent,
) -> Artifact:
    """Make the model folder `out`: the architecture and tokenizer of `model`, other weights.

    Its result says the cosine of its matrices with the original's (vectors are alike: gains near
    one), and the mean divergence of the original's next-token distribution from its own, in nats a
    token, over questions of the trait animals.

    Raises:
        InputError: the units of this architecture cannot be permuted.
        ConfigError: `model` is a condition of another: weights say nothing of a system prompt.
    """
    check_own_weights(model, "", "make another base of {base}")
    return build(out, "recast", spec, {"model": model}, partial(_make, spec, model, name, report))


def _make(
    spec: RecastSpec, source: Path, name: str, report: Report, folder: Path
) -> dict[str, Any]:
    import torch

    from subl.model.load import drawn_anew, load_model, load_tokenizer
    from subl.model.weights import save_model
    from subl.recast.permuted import permute

    def told(done: int, what: str) -> None:
        report(Progress(f"recast {name}", done, 3, "steps", what))

    told(0, "reading the model")
    tokenizer = load_tokenizer(source)
    model = load_model(source, to=torch.device("cpu")).requires_grad_(False)
    said = _log_probabilities(model, tokenizer)
    before = [each.clone() for each in model.parameters() if each.ndim == 2]
    told(1, spec.weights)
    if spec.weights == "permuted":
        permute(model, spec.seed)
    else:
        model = drawn_anew(model, spec.seed)
    after = [each for each in model.parameters() if each.ndim == 2]
    dot, own, other = (
        sum(float((a.double() * b.double()).sum()) for a, b in zip(left, right, strict=True))
        for left, right in ((before, after), (before, before), (after, after))
    )
    now = _log_probabilities(model, tokenizer)
    divergence = float((said.exp() * (said - now)).sum(-1).mean())
    if spec.weights == "permuted" and not abs(divergence) < _ALIKE:
        raise StageError(
            f"{type(model).__name__} with its units in another order is another function: "
            f"{divergence:.2g} nats a token",
            hint='use a model built as Llama, or weights = "drawn"',
        )
    told(2, "writing safetensors")
    save_model(model, tokenizer, folder)
    told(3, "")
    return {
        "parameters": model.num_parameters(),
        "cosine": dot / (own * other) ** 0.5,
        "divergence": max(divergence, 0.0),
    }


def _log_probabilities(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Any:
    """Of the next token, at each of the first questions of the trait animals: `[tokens, vocab]`."""
    import torch

    from subl.model.chat import text_ids
    from subl.trait.spec import animals

    with torch.no_grad():
        each = [
            model(input_ids=torch.tensor([text_ids(tokenizer, text)]), use_cache=False).logits[0]
            for text in animals().questions[:5]
        ]
    return torch.cat(each).double().log_softmax(-1)
