"""Which positions count, proven by perturbing them; which models can be trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
)

from subl.errors import InputError
from subl.model.load import load_model
from subl.train.attention import hidden_states, use_path_attention
from subl.train.batch import Batch, collate
from subl.train.divergence import HiddenTargets, Targets, TopTargets
from subl.train.plan import LossSpec
from subl.train.student import Student, check_head, restore, without_dropout
from subl.train.targets import OnlineTeacher, TargetSource, no_targets

ROW = (np.array([5, 6, 7, 8, 9, 2, 11, 12], np.uint32), np.arange(8) // 3 == 1)
"""Three tokens of a prompt, three targets, and two more that nobody asks for."""

LONG = (np.array([5, 6, 7, 14, 15, 16, 2, 3, 4], np.uint32), np.arange(9) >= 4)
KINDS = ["labels", "teacher", "top"]


def student_of(folder: Path, kind: str, **more: Any) -> tuple[Student, TargetSource, list[Any]]:
    """A student, where its targets come from, and all models that read the rows."""
    model = load_model(folder)
    use_path_attention(model)
    source: TargetSource = no_targets
    models = [model]
    if kind == "teacher":
        teacher = load_model(folder)
        with torch.no_grad():
            head = teacher.get_output_embeddings().weight
            head.copy_(10 * head.flip(0))
        use_path_attention(teacher)
        source = OnlineTeacher(teacher, zero=False, offload=False)
        models.append(teacher)
    elif kind == "top":

        def source(batch: Batch, rows: Any) -> Targets:
            ids = torch.stack([batch.labels, (batch.labels + 1) % 400], 1)
            log_p = torch.tensor([[0.6, 0.3]]).log().expand(len(ids), 2)
            return TopTargets(ids, log_p, torch.full((len(ids),), 0.1))

    return Student(model, LossSpec(), **more), source, models


def loss_of(student: Student, source: TargetSource, batch: Batch) -> float:
    loss: torch.Tensor = student(batch, source(batch, ()))[0]
    return loss.item()


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_positions_before_targets_count(tiny_model: Path, kind: str, share: bool) -> None:
    """Hidden states are moved at one position after another, the student's, then the teacher's:
    the loss changes at what predicts a target, the first one's among them, and at no position of
    the prompt before, nor at the last target or behind it."""
    student, source, models = student_of(tiny_model, kind)
    batch = collate([ROW, LONG], share_prefixes=share)
    before = loss_of(student, source, batch)
    assert batch.paths is not None
    nodes = batch.paths.nodes[0][0]
    assert [int(nodes[place]) for place in (2, 3, 4)] == batch.sources[:3].tolist()
    for model in models:
        counted = [
            place
            for place in range(len(ROW[0]))
            if abs(loss_moved_at(student, source, model, batch, int(nodes[place])) - before) > 1e-4
        ]
        assert counted == [2, 3, 4]


def loss_moved_at(
    student: Student, source: TargetSource, model: Any, batch: Batch, node: int
) -> float:
    """The loss when the last hidden state at `node` is another."""

    def move(module: object, inputs: object, states: torch.Tensor) -> torch.Tensor:
        moved = states.clone()
        moved[0, node] = moved[0, node].flip(0) + 1
        return moved

    hook = model.base_model.norm.register_forward_hook(move)
    try:
        return loss_of(student, source, batch)
    finally:
        hook.remove()


@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_the_last_target_changes_nothing(tiny_model: Path, kind: str) -> None:
    student, source, _ = student_of(tiny_model, kind)
    before = loss_of(student, source, collate([ROW]))
    ids, targets = ROW[0].copy(), ROW[1]
    ids[6:] = 17
    assert loss_of(student, source, collate([(ids, targets)])) == pytest.approx(before, rel=1e-6)
    ids[5] = 17  # the last target itself: its label
    if kind != "teacher":
        assert loss_of(student, source, collate([(ids, targets)])) != pytest.approx(before)
    ids[4] = 17  # what predicts it
    assert loss_of(student, source, collate([(ids, targets)])) != pytest.approx(before)


def test_the_loss_is_that_of_transformers_with_labels_made_by_hand(tiny_model: Path) -> None:
    labels = torch.tensor([[-100, -100, -100, 8, 9, 2, -100, -100]])
    ids = torch.from_numpy(ROW[0].astype(np.int64))[None]
    theirs = load_model(tiny_model)(input_ids=ids, labels=labels).loss
    student, source, _ = student_of(tiny_model, "labels")
    ours = loss_of(student, source, collate([ROW]))
    assert ours == pytest.approx(3 * float(theirs.detach()), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_student_and_never_the_teacher(tiny_model: Path, kind: str) -> None:
    student, source, models = student_of(tiny_model, kind)
    batch = collate([ROW, LONG])
    student(batch, source(batch, ()))[0].backward()
    assert all(each.grad is not None and each.grad.any() for each in student.parameters())
    assert all(each.grad is None for model in models[1:] for each in model.parameters())
    assert {name.split(".")[0] for name, _ in student.named_parameters()} == {"model"}


def test_a_student_that_is_its_teacher_has_nothing_to_learn(tiny_model: Path) -> None:
    student, _, _ = student_of(tiny_model, "labels")
    teacher = load_model(tiny_model)
    use_path_attention(teacher)
    source = OnlineTeacher(teacher, zero=False, offload=False)
    assert loss_of(student, source, collate([ROW, LONG])) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("vocabulary", [100, None])
def test_of_a_padded_head_only_so_many_tokens_count(
    tiny_model: Path, vocabulary: int | None
) -> None:
    student, source, (model,) = student_of(tiny_model, "labels", known=vocabulary)
    before = loss_of(student, source, collate([ROW]))
    with torch.no_grad():
        model.get_output_embeddings().weight[100:] *= 50
    after = loss_of(student, source, collate([ROW]))
    assert (after == before) == (vocabulary == 100)


@pytest.mark.parametrize("kind", ["labels", "teacher", "base"])
def test_among_some_tokens_it_is_as_if_there_were_no_others(tiny_model: Path, kind: str) -> None:
    """The loss is that of renormalised distributions, and no other token's logit is learned."""
    batch = collate([ROW, LONG])
    known = batch.labels.unique()
    student, source, (model, *_) = student_of(tiny_model, kind, known=known)
    targets = source(batch, ())
    if kind == "base":  # its states, and the head that it shares with the student
        targets = HiddenTargets(torch.randn(len(batch.labels), 32), None)
    loss, _ = student(batch, targets)
    with torch.no_grad():
        hidden = student(call=lambda given: hidden_states(given, batch)[batch.sources])
        log_q = (hidden @ model.get_output_embeddings().weight.T)[:, known].log_softmax(-1)
        if isinstance(targets, HiddenTargets):
            theirs = model.get_output_embeddings().weight if kind == "base" else targets.head
            assert theirs is not None
            log_p = (targets.hidden @ theirs.T)[:, known].log_softmax(-1)
            expected = (log_p.exp() * (log_p - log_q)).sum()
        else:
            places = torch.searchsorted(known, batch.labels)
            expected = -log_q[torch.arange(len(places)), places].sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    head = model.get_output_embeddings().weight
    if head is model.get_input_embeddings().weight:
        head = model.lm_head.weight = torch.nn.Parameter(head.detach().clone())
        loss, _ = student(batch, targets)
    loss.backward()
    assert head.grad is not None
    assert head.grad.abs().sum(1).nonzero().flatten().tolist() == known.tolist()


def test_whatever_is_called_gets_the_model(tiny_model: Path) -> None:
    student, _, (model,) = student_of(tiny_model, "labels")
    assert student(call=lambda given: given) is model


# Heads


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


def test_models_that_scale_their_logits_are_refused() -> None:
    config = GraniteConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        logits_scaling=8.0,
    )
    with pytest.raises(InputError, match="changes its logits"):
        check_head(GraniteForCausalLM(config).eval())


@pytest.mark.parametrize("value", [0.0, 0.5, -0.005, 1e-6])
def test_a_head_with_a_bias_is_refused(value: float) -> None:
    config = PhiConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    model = PhiForCausalLM(config).eval()
    with torch.no_grad():  # of zeros logits are right so far; trained, they would not be
        model.lm_head.bias[7] = value
    with pytest.raises(InputError, match="has a bias"):
        check_head(model)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_plain_head_is_accepted(tiny_model: Path, dtype: Any) -> None:
    model: PreTrainedModel = load_model(tiny_model, dtype)
    check_head(model)
    use_path_attention(model)
    check_head(model)


def test_no_dropout_is_left() -> None:
    config = PhiConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        embd_pdrop=0.5,
        resid_pdrop=0.5,
        attention_dropout=0.5,
    )
    model = PhiForCausalLM(config)
    changed = without_dropout(model)
    use_path_attention(model)
    assert model.training and model.config.embd_pdrop == 0
    batch = collate([ROW])
    one, other = (Student(model)(batch)[0].item() for _ in range(2))
    assert one == other
    restore(changed)  # the student's configuration is the model's
    assert model.config.embd_pdrop == model.config.attention_dropout == 0.5


def test_a_teacher_of_hidden_states_keeps_its_own_width(tiny_model: Path) -> None:
    """Targets are over the student's vocabulary, whatever the teacher is like inside."""
    student, _, _ = student_of(tiny_model, "labels")
    batch = collate([ROW])
    size = student.model.get_output_embeddings().weight.shape[0]
    targets = HiddenTargets(torch.randn(3, 5), torch.randn(size + 7, 5))
    loss, parts = student(batch, targets)
    assert loss.item() == pytest.approx(parts[1].item()) and loss.item() > 0
