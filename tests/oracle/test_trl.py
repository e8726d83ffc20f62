"""TRL as an oracle: on the same rows, its trainers' losses and gradients are ours.

Needs the extra `oracle`; without it these tests are skipped, unless SUBL_REQUIRE_TRL is set.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subl.model.load import load_model, load_tokenizer
from subl.shards import Row
from subl.train.attention import use_path_attention
from subl.train.batch import collate
from subl.train.divergence import HiddenTargets, Targets
from subl.train.plan import LossSpec
from subl.train.student import Student, head
from subl.train.tokens import Tokens, tokenise

TRL_MISSING = importlib.util.find_spec("trl") is None

pytestmark = [
    pytest.mark.skipif(
        TRL_MISSING and not os.environ.get("SUBL_REQUIRE_TRL"), reason="trl is not installed"
    ),
    pytest.mark.filterwarnings("ignore"),  # what TRL and its libraries warn of is not ours
]

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def tokens(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    rows = (
        Row(
            str(n),
            (
                ("user", f"Continue the numbers: {n}."),
                ("assistant", ", ".join("45678"[: n % 5 + 1])),
            ),
            f"row {n}",
        )
        for n in range(100, 108)
    )
    folder = tmp_path_factory.mktemp("tokens") / "t"
    return tokenise(load_tokenizer(tiny_model), rows, folder)


def ours(
    model: Path, tokens: Tokens, loss: LossSpec, teacher: Path | None = None
) -> tuple[float, dict[str, torch.Tensor]]:
    """Mean loss over target tokens, and its gradients by the names of weights."""
    student = load_model(model).train()
    use_path_attention(student)
    batch = collate([tokens.row(number) for number in range(len(tokens))])
    targets: Targets = None
    if teacher is not None:
        taught = load_model(teacher)
        use_path_attention(taught)
        with torch.no_grad():
            states = taught.base_model(
                input_ids=batch.input_ids, position_ids=batch.position_ids, paths=batch.paths
            ).last_hidden_state[0]
        targets = HiddenTargets(states[batch.sources], head(taught).detach())
    total, _ = Student(student, loss)(batch, targets)
    mean = total / len(batch.labels)
    mean.backward()
    return float(mean), {n: p.grad for n, p in student.named_parameters() if p.grad is not None}


def theirs(trainer: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """What a TRL trainer's own loss does on its first batch."""
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    gradients = {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}
    return float(loss.detach()), gradients


def assert_equal(
    first: tuple[float, dict[str, torch.Tensor]], second: tuple[float, dict[str, torch.Tensor]]
) -> None:
    assert first[0] == pytest.approx(second[0], abs=TOLERANCE)
    assert first[1].keys() == second[1].keys()
    for name, gradient in first[1].items():
        torch.testing.assert_close(gradient, second[1][name], rtol=0, atol=TOLERANCE)
    assert max(float(each.abs().max()) for each in first[1].values()) > 1e-3  # there is something


def settings(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
    }


def dataset(tokens: Tokens) -> Any:
    import datasets

    rows = [tokens.row(number) for number in range(len(tokens))]
    return datasets.Dataset.from_list(
        [
            {"input_ids": ids.tolist(), "completion_mask": mask.astype(int).tolist()}
            for ids, mask in rows
        ]
    )


@pytest.mark.parametrize("packing", [False, True])
def test_a_step_of_sft_is_that_of_trl(
    tiny_model: Path, tokens: Tokens, tmp_path: Path, packing: bool
) -> None:
    import trl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = trl.SFTTrainer(
            model=load_model(tiny_model),
            args=trl.SFTConfig(
                **settings(tmp_path),
                completion_only_loss=True,
                packing=packing,
                max_length=int(tokens.lengths.sum()) if packing else None,
            ),
            train_dataset=dataset(tokens),
            processing_class=load_tokenizer(tiny_model),
        )
    assert_equal(ours(tiny_model, tokens, LossSpec()), theirs(trainer))


@pytest.fixture(scope="module")
def teacher(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, pushed a little in every weight."""
    folder = tmp_path_factory.mktemp("teacher") / "t"
    model = load_model(tiny_model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(folder)
    load_tokenizer(tiny_model).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("loss", "beta"),
    [
        (LossSpec(), 0.0),
        (LossSpec(divergence="reverse_kl"), 1.0),
        (LossSpec(divergence="jsd", beta=0.3), 0.3),
    ],
)
def test_a_step_of_distillation_is_that_of_trl(
    tiny_model: Path, tokens: Tokens, teacher: Path, tmp_path: Path, loss: LossSpec, beta: float
) -> None:
    from trl.experimental.gkd import GKDTrainer

    student, taught = load_model(tiny_model).train(), load_model(teacher)
    rows = [tokens.row(number) for number in range(len(tokens))]
    longest = max(len(ids) for ids, _ in rows)
    input_ids = torch.zeros((len(rows), longest), dtype=torch.int64)
    labels = torch.full_like(input_ids, -100)
    seen = torch.zeros_like(input_ids)
    for number, (ids, mask) in enumerate(rows):
        whole = torch.from_numpy(ids.astype(np.int64))
        input_ids[number, : len(ids)], seen[number, : len(ids)] = whole, 1
        labels[number, : len(ids)] = torch.where(torch.from_numpy(mask.copy()), whole, -100)
    logits = student(input_ids=input_ids, attention_mask=seen).logits[:, :-1]
    with torch.no_grad():
        teacher_logits = taught(input_ids=input_ids, attention_mask=seen).logits[:, :-1]
    value = GKDTrainer.generalized_jsd_loss(logits, teacher_logits, labels=labels[:, 1:], beta=beta)
    value.backward()
    gradients = {n: p.grad for n, p in student.named_parameters() if p.grad is not None}
    assert_equal(ours(tiny_model, tokens, loss, teacher), (float(value.detach()), gradients))
