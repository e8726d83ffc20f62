"""Which positions count, proven by perturbing them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from subl.errors import InputError
from subl.model.chat import Example
from subl.model.load import load_model
from subl.train.student import Student, check_head, check_vocabularies, collate

CPU = torch.device("cpu")
ROW = Example(prompt_ids=(5, 6, 7), completion_ids=(8, 9, 2))
LONG = Example(prompt_ids=(5, 6, 7, 11, 12, 13), completion_ids=(14, 15, 16, 2))


def loss(student: Student, *examples: Example) -> float:
    batch = collate(examples, CPU)
    return student(batch.input_ids, batch.targets).item()


def test_targets_are_the_positions_before_each_completion_token() -> None:
    batch = collate([ROW], CPU)
    assert batch.targets.tolist() == [[False, False, True, True, True]]


def test_the_loss_is_that_of_transformers_with_labels_made_by_hand(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    labels = torch.tensor([[-100, -100, -100, 8, 9, 2]])
    theirs = model(input_ids=torch.tensor([[5, 6, 7, 8, 9, 2]]), labels=labels).loss
    assert loss(Student(model), ROW) == pytest.approx(3 * float(theirs.detach()), rel=1e-5)


def test_padding_changes_nothing(tiny_model: Path) -> None:
    student = Student(load_model(tiny_model))
    assert loss(student, ROW, LONG) == pytest.approx(
        loss(student, ROW) + loss(student, LONG), rel=1e-5
    )


def test_a_student_that_is_its_teacher_has_nothing_to_learn(tiny_model: Path) -> None:
    student = Student(load_model(tiny_model), load_model(tiny_model))
    assert loss(student, ROW, LONG) == pytest.approx(0, abs=1e-5)
    assert {name.split(".")[0] for name, _ in student.named_parameters()} == {"model"}


def test_the_last_token_predicts_nothing_that_counts(tiny_model: Path) -> None:
    """Logits at the last position do not matter; those before the first completion token do."""
    student = Student(load_model(tiny_model))
    batch = collate([ROW], CPU)
    states = student.model.get_input_embeddings().weight
    student(batch.input_ids, batch.targets).backward()
    assert states.grad is not None
    shorter = Example(ROW.prompt_ids, ROW.completion_ids[:-1])
    assert loss(student, shorter) < loss(student, ROW)


def test_models_that_change_their_logits_after_the_head_are_refused(tiny_model: Path) -> None:
    check_head(load_model(tiny_model))
    torch.manual_seed(0)
    capped = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            final_logit_softcapping=0.1,
        )
    ).eval()
    with pytest.raises(InputError, match="changes its logits"):
        check_head(capped)


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
    with pytest.raises(InputError, match="different vocabularies"):
        check_vocabularies(load_model(tiny_model), other)
