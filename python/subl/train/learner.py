"""The model that is trained: out of a folder before the first step, and into one after the last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from subl.cluster.placement import Placement, on_rank_0
from subl.model.load import device, load_model, merged
from subl.model.size import ModelSize
from subl.model.weights import check_export, save_model
from subl.train.adapter import adapt, save_adapter
from subl.train.memory import keep_freed_memory, release_freed_memory
from subl.train.student import check_head, restore, without_dropout

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from subl.train.engine import Engine
    from subl.train.job import TrainJob


@dataclass(frozen=True)
class Learner:
    """A model in training mode. `adapted`: peft's model around it, where adapters are trained;
    `changed`: what `student.restore` puts back. `size` and `parameters` are as they were whole."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    adapted: Any
    changed: list[tuple[Any, str, float]]
    size: ModelSize
    parameters: int


def load_learner(
    job: TrainJob, tokenizer: PreTrainedTokenizerBase, where: Placement, *, dry: bool = False
) -> Learner:
    """Load the job's model, and refuse one that could not be trained or written."""
    spec = job.spec
    # ZeRO-3 spreads weights out of CPU memory: the whole model need not fit on one GPU.
    to = torch.device("cpu") if spec.zero_stage == 3 else device()
    model = load_model(job.model, spec.dtype, to)
    if spec.lora is None or spec.lora.merge:
        on_rank_0(where, lambda: check_export(model, tokenizer, job.model, job.out, dry=dry))
    check_head(model)
    adapted = None if spec.lora is None else adapt(model, spec.lora)
    changed = without_dropout(model)
    if spec.gradient_checkpointing:
        # Under ZeRO-3, recomputation outside autograd's own order finds weights released.
        reentrant = spec.zero_stage == 3
        model.activation_checkpointing_enable({"use_reentrant": reentrant})
        if reentrant:
            model.enable_input_require_grads()
    if device().type == "cpu":
        keep_freed_memory()
    return Learner(model, tokenizer, adapted, changed, ModelSize.of(model), model.num_parameters())


def export(learner: Learner, engine: Engine, job: TrainJob) -> None:
    """Write the model folder, on rank 0; every rank calls this."""
    release_freed_memory()
    restore(learner.changed)
    state, lora = engine.state_dict(), job.spec.lora
    if engine.rank != 0:
        return
    if lora is None:
        save_model(learner.model.eval(), learner.tokenizer, job.out, state)
        return
    save_adapter(learner.adapted, job.out, job.model, state)
    learner.tokenizer.save_pretrained(job.out)
    if lora.merge:
        save_model(merged(job.out, job.spec.dtype), learner.tokenizer, job.out)
