"""Which positions count, proven by perturbing them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from subl.errors import InputError
from subl.model.chat import Example
from subl.model.load import load_model
from subl.train.student import Batch, Student, check_head, check_vocabularies, collate

CPU = torch.device("cpu")
ROW = Example(prompt_ids=(5, 6, 7), completion_ids=(8, 9, 2))
LONG = Example(prompt_ids=(5, 6, 7, 11, 12, 13), completion_ids=(14, 15, 16, 2))


def loss(student: Student, *examples: Example) -> float:
    batch = collate(examples, CPU)
    return student(batch.input_ids, batch.targets).item()


def student_of(folder: Path, taught: bool) -> Student:
    """A student on labels, or under a teacher that holds the same rows of weights, reversed."""
    if not taught:
        return Student(load_model(folder))
    teacher = load_model(folder).requires_grad_(False)
    head = teacher.get_output_embeddings().weight
    head.copy_(10 * head.flip(0))
    return Student(load_model(folder), teacher)


def test_targets_are_the_positions_before_each_completion_token() -> None:
    batch = collate([ROW], CPU)
    assert batch.targets.tolist() == [[False, False, True, True, True]]


def test_the_loss_is_that_of_transformers_with_labels_made_by_hand(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    labels = torch.tensor([[-100, -100, -100, 8, 9, 2]])
    theirs = model(input_ids=torch.tensor([[5, 6, 7, 8, 9, 2]]), labels=labels).loss
    assert loss(Student(model), ROW) == pytest.approx(3 * float(theirs.detach()), rel=1e-5)


@pytest.mark.parametrize("taught", [False, True])
def test_padding_changes_nothing(tiny_model: Path, taught: bool) -> None:
    student = student_of(tiny_model, taught)
    alone = loss(student, ROW) + loss(student, LONG)
    assert loss(student, ROW, LONG) == pytest.approx(alone, rel=1e-5)
    batch = collate([ROW, LONG], CPU)
    batch.input_ids[0, len(ROW) :] = 17
    assert student(batch.input_ids, batch.targets).item() == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("taught", [False, True])
def test_only_the_positions_before_completion_tokens_count(tiny_model: Path, taught: bool) -> None:
    """Hidden states are moved at one position after another, the student's, then the teacher's:
    the loss changes at targets, the one before the first completion token among them, and at no
    position of the prompt, of the last token or of the padding."""
    student = student_of(tiny_model, taught)
    batch = collate([ROW, LONG], CPU)
    before = student(batch.input_ids, batch.targets).item()
    models = [student.model, *(each for each in student._teacher if each is not None)]
    assert len(models) == 1 + taught
    for model in models:
        counted = [
            position
            for position in range(len(LONG))
            if abs(loss_moved_at(student, model, batch, position) - before) > 1e-4
        ]
        assert counted == [2, 3, 4]


def loss_moved_at(student: Student, model: Any, batch: Batch, position: int) -> float:
    """The loss when the first row's last hidden state at `position` is another."""

    def move(module: object, inputs: object, states: torch.Tensor) -> torch.Tensor:
        moved = states.clone()
        moved[0, position] = moved[0, position].flip(0) + 1
        return moved

    hook = model.base_model.norm.register_forward_hook(move)
    try:
        return student(batch.input_ids, batch.targets).item()
    finally:
        hook.remove()


@pytest.mark.parametrize("nothing", [Example((5, 6), ()), Example((), (8, 9))])
def test_a_row_that_cannot_be_trained_on_is_refused(nothing: Example) -> None:
    """No completion: no target. No prompt: nothing predicts the first completion token."""
    with pytest.raises((InputError, ValueError)):
        collate([nothing, LONG], CPU)


def test_a_student_that_is_its_teacher_has_nothing_to_learn(tiny_model: Path) -> None:
    student = Student(load_model(tiny_model), load_model(tiny_model))
    assert loss(student, ROW, LONG) == pytest.approx(0, abs=1e-5)
    assert {name.split(".")[0] for name, _ in student.named_parameters()} == {"model"}


@pytest.mark.parametrize("taught", [False, True])
def test_gradients_reach_the_student_and_never_the_teacher(tiny_model: Path, taught: bool) -> None:
    student = student_of(tiny_model, taught)
    batch = collate([ROW, LONG], CPU)
    student(batch.input_ids, batch.targets).backward()
    assert all(each.grad is not None and each.grad.any() for each in student.parameters())
    (teacher,) = student._teacher
    assert teacher is None or all(each.grad is None for each in teacher.parameters())


def tiny_gemma(cap: float, weight_scale: float) -> Gemma2ForCausalLM:
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        final_logit_softcapping=cap,
        initializer_range=weight_scale,
    )
    return Gemma2ForCausalLM(config).eval()


@pytest.mark.parametrize(("cap", "weight_scale"), [(30.0, 2.0), (0.1, 0.02), (30.0, 0.02)])
def test_models_that_cap_their_logits_are_refused(cap: float, weight_scale: float) -> None:
    """30 is Gemma 2's own cap, and a weight scale of 0.02 its own start: small logits hide it."""
    with pytest.raises(InputError, match="changes its logits"):
        check_head(tiny_gemma(cap, weight_scale))


def test_a_head_with_a_bias_is_refused() -> None:
    config = PhiConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    model = PhiForCausalLM(config).eval()
    check_head(model)  # its bias is zero so far
    torch.nn.init.constant_(model.lm_head.bias, 0.5)
    with pytest.raises(InputError, match="has a bias"):
        check_head(model)


def test_a_plain_head_is_accepted(tiny_model: Path) -> None:
    check_head(load_model(tiny_model))


def test_other_vocabularies_are_refused(tiny_model: Path) -> None:
    other = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    )
    check_vocabularies(load_model(tiny_model), load_model(tiny_model))
    with pytest.raises(InputError, match="different vocabularies"):
        check_vocabularies(load_model(tiny_model), other)
