"""The tiled losses against naive ones in float64: values and gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from subl.train import divergence
from subl.train.divergence import HiddenTargets, Targets, TopTargets, summed_loss
from subl.train.plan import LossSpec

Tensor = torch.Tensor
many = settings(deadline=None, derandomize=True, max_examples=25)
few = settings(deadline=None, derandomize=True, max_examples=15)


@dataclass(frozen=True)
class Case:
    """Float64 tensors of a student and a teacher, whose head may have rows that no token has."""

    hidden: Tensor
    head: Tensor
    labels: Tensor
    teacher_hidden: Tensor
    teacher_head: Tensor

    def log_p(self, temperature: float = 1.0) -> Tensor:
        logits = self.teacher_hidden @ self.teacher_head[: len(self.head)].T
        return torch.log_softmax(logits / temperature, -1)

    def targets(self) -> HiddenTargets:
        return HiddenTargets(self.teacher_hidden.float(), self.teacher_head.float())


@st.composite
def cases(draw: st.DrawFn) -> Case:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    tokens, vocabulary = draw(st.integers(1, 9)), draw(st.integers(2, 20))
    width, teacher_width, more = (draw(st.integers(low, 6)) for low in (1, 1, 0))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Case(
        normal(tokens, width),
        normal(vocabulary, width),
        torch.randint(vocabulary, (tokens,), generator=generator),
        normal(tokens, teacher_width),
        normal(vocabulary + more, teacher_width),
    )


weights = st.sampled_from([0.0, 0.3, 1.0, 2.5])
losses = st.builds(
    lambda divergence, beta, temperature, one, other: LossSpec(
        divergence=divergence,
        beta=beta,
        temperature=temperature,
        divergence_weight=one,
        cross_entropy_weight=other if one else other or 1.0,
    ),
    st.sampled_from(["forward_kl", "reverse_kl", "jsd"]),
    st.floats(0.02, 0.98),
    st.sampled_from([0.5, 1.0, 2.0, 7.0]),
    weights,
    weights,
)
tiles = st.integers(1, 4)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum()


def naive_divergence(loss: LossSpec, log_p: Tensor, log_q: Tensor) -> Tensor:
    """Of two distributions at temperature T."""
    match loss.divergence:
        case "forward_kl":
            value = kl(log_p, log_q)
        case "reverse_kl":
            value = kl(log_q, log_p)
        case "jsd":
            log_m = (loss.beta * log_p.exp() + (1 - loss.beta) * log_q.exp()).log()
            value = loss.beta * kl(log_p, log_m) + (1 - loss.beta) * kl(log_q, log_m)
    return loss.temperature**2 * value


def naive_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return -torch.log_softmax(logits, -1)[range(len(labels)), labels].sum()


def ours(
    case: Case, targets: Targets, loss: LossSpec, tile: int
) -> tuple[float, list[float], list[Tensor]]:
    """The loss, its parts, and the gradients of three times the loss; `tile` tokens at a time."""
    inputs = [case.hidden.float().requires_grad_(), case.head.float().requires_grad_()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(divergence, "TILE_ELEMENTS", tile * len(case.head) + 1)
        total, parts = summed_loss(*inputs, case.labels, targets, loss)
    assert not parts.requires_grad
    return total.item(), parts.tolist(), list(torch.autograd.grad(3 * total, inputs))


def assert_gradients(found: list[Tensor], naive: Tensor, *inputs: Tensor) -> None:
    for mine, theirs in zip(found, torch.autograd.grad(3 * naive, inputs), strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-3, atol=1e-4)


@many
@given(cases(), losses, tiles)
def test_every_loss_is_the_naive_one(case: Case, loss: LossSpec, tile: int) -> None:
    hidden, head = case.hidden.clone().requires_grad_(), case.head.clone().requires_grad_()
    logits = hidden @ head.T
    cross_entropy = naive_cross_entropy(logits, case.labels)
    log_q = torch.log_softmax(logits / loss.temperature, -1)
    other = naive_divergence(loss, case.log_p(loss.temperature), log_q)
    naive = loss.cross_entropy_weight * cross_entropy + loss.divergence_weight * other

    total, parts, gradients = ours(case, case.targets(), loss, tile)
    assert total == pytest.approx(naive.item(), rel=1e-4, abs=1e-4)
    assert parts == pytest.approx(
        [
            cross_entropy.item() if loss.cross_entropy_weight else 0.0,
            other.item() if loss.divergence_weight else 0.0,
        ],
        rel=1e-4,
        abs=1e-4,
    )
    assert_gradients(gradients, naive, hidden, head)


@many
@given(cases(), losses, tiles)
def test_without_a_teacher_the_labels_are_all_there_is(
    case: Case, loss: LossSpec, tile: int
) -> None:
    hidden, head = case.hidden.clone().requires_grad_(), case.head.clone().requires_grad_()
    naive = naive_cross_entropy(hidden @ head.T, case.labels)
    total, parts, gradients = ours(case, None, loss, tile)
    assert [total, 0.0] == pytest.approx(parts)
    assert total == pytest.approx(naive.item(), rel=1e-5, abs=1e-5)
    assert_gradients(gradients, naive, hidden, head)


class _Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple) else (made,):
            if isinstance(each, Tensor):
                self.elements = max(self.elements, each.numel())
        return made


@pytest.mark.parametrize("divergence_", ["forward_kl", "reverse_kl", "jsd", "top"])
def test_no_tensor_is_larger_than_a_tile_or_a_head(
    monkeypatch: pytest.MonkeyPatch, divergence_: Any
) -> None:
    tokens, vocabulary, tile = 100, 300, 7 * 300
    monkeypatch.setattr(divergence, "TILE_ELEMENTS", tile)
    hidden = torch.randn(tokens, 4).requires_grad_()
    head = torch.randn(vocabulary, 4).requires_grad_()
    targets: Targets = HiddenTargets(torch.randn(tokens, 4), torch.randn(vocabulary, 4))
    if divergence_ == "top":
        top, ids = torch.log_softmax(torch.randn(tokens, vocabulary), -1).topk(5)
        targets = TopTargets(ids, top, 1 - top.exp().sum(-1))
    kind = "forward_kl" if divergence_ == "top" else divergence_
    loss = LossSpec(divergence=kind, cross_entropy_weight=1.0)
    with _Largest() as largest:
        total, _ = summed_loss(hidden, head, torch.zeros(tokens, dtype=torch.int64), targets, loss)
        total.backward()
    assert largest.elements <= max(tile, head.numel(), hidden.numel())


# What divergences are


@many
@given(cases(), losses)
def test_a_student_that_is_its_teacher_has_nothing_to_learn(case: Case, loss: LossSpec) -> None:
    loss = loss.model_copy(update={"divergence_weight": 1.0, "cross_entropy_weight": 0.0})
    same = HiddenTargets(case.hidden.float(), case.head.float())
    total, _, gradients = ours(case, same, loss, 2)
    assert abs(total) <= 1e-5 * loss.temperature**2
    assert all(float(each.abs().max()) < 1e-4 * loss.temperature for each in gradients)


@many
@given(cases(), losses, st.sampled_from([0.0, 1e-6, 1e-4, 1e-2]))
def test_no_divergence_is_negative(case: Case, loss: LossSpec, distance: float) -> None:
    """Up to what float32 rounds: 1e-6 nats a token, before T squared."""
    loss = loss.model_copy(update={"divergence_weight": 1.0, "cross_entropy_weight": 0.0})
    near = case.hidden + distance * case.hidden.flip(0)
    total, *_ = ours(case, HiddenTargets(near.float(), case.head.float()), loss, 3)
    assert total / loss.temperature**2 / len(case.hidden) >= -1e-6


@many
@given(cases())
def test_jsd_at_one_half_is_symmetric(case: Case) -> None:
    swapped = Case(
        case.teacher_hidden,
        case.teacher_head[: len(case.head)],
        case.labels,
        case.hidden,
        case.head,
    )
    loss = LossSpec(divergence="jsd", beta=0.5)
    one, _, _ = ours(case, case.targets(), loss, 2)
    other, _, _ = ours(swapped, swapped.targets(), loss, 2)
    assert one == pytest.approx(other, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("beta", "scale", "limit"), [(1e-3, 1e-3, "forward_kl"), (1 - 1e-3, 1e-3, "reverse_kl")]
)
def test_jsd_turns_into_either_kl_at_its_ends(beta: float, scale: float, limit: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, head, teacher = (torch.randn(*shape, generator=generator, dtype=torch.float64) / 2
                             for shape in ((50, 4), (20, 4), (50, 4)))  # fmt: skip
    case = Case(hidden, head, torch.zeros(50, dtype=torch.int64), teacher, head)
    value, _, gradients = ours(case, case.targets(), LossSpec(divergence="jsd", beta=beta), 9)
    expected, _, others = ours(case, case.targets(), LossSpec(divergence=limit), 9)
    assert value / scale == pytest.approx(expected, rel=0.05)
    for one, other in zip(gradients, others, strict=True):
        assert float((one / scale - other).norm() / other.norm()) < 0.05


# A teacher of which only the likeliest tokens are known


def top_of(log_p: Tensor, counts: list[int], padding: int = 0) -> TopTargets:
    """The `counts[t]` likeliest tokens of each token's distribution, and `padding` more places."""
    width = max(counts) + padding
    top, ids = log_p.topk(max(counts), -1)
    kept = torch.arange(width) < torch.tensor(counts)[:, None]
    top, ids = (torch.nn.functional.pad(each, (0, padding)) for each in (top, ids))
    tail = [1 - row[:count].exp().sum() for row, count in zip(top, counts, strict=True)]
    return TopTargets(
        torch.where(kept, ids, ids[:, :1]),
        torch.where(kept, top, -torch.inf).float(),
        torch.stack(tail).clamp_min(0).float(),
    )


def naive_top(log_p: Tensor, log_q: Tensor, counts: list[int]) -> Tensor:
    """The KL over the events "this token", for the likeliest, and "any other"."""
    value = log_q.new_zeros(())
    for p, q, count in zip(log_p.exp(), log_q.exp(), counts, strict=True):
        ids = p.topk(count).indices
        rest = [each for each in range(len(p)) if each not in ids.tolist()]
        coarse_p = torch.cat([p[ids], p[rest].sum()[None]]) if rest else p[ids]
        coarse_q = torch.cat([q[ids], q[rest].sum()[None]]) if rest else q[ids]
        value = value + (coarse_p * (coarse_p / coarse_q).log()).sum()
    return value


@many
@given(cases(), st.data(), tiles)
def test_the_likeliest_tokens_give_the_kl_of_the_coarser_space(
    case: Case, data: st.DataObject, tile: int
) -> None:
    vocabulary = len(case.head)
    counts = data.draw(
        st.lists(st.integers(1, vocabulary), min_size=len(case.hidden), max_size=len(case.hidden))
    )
    ce = data.draw(weights)
    loss = LossSpec(divergence_weight=0.5, cross_entropy_weight=ce)
    hidden, head = case.hidden.clone().requires_grad_(), case.head.clone().requires_grad_()
    logits = hidden @ head.T
    log_p, log_q = case.log_p(), torch.log_softmax(logits, -1)
    coarse = naive_top(log_p, log_q, counts)
    naive = 0.5 * coarse + ce * naive_cross_entropy(logits, case.labels)
    total, parts, gradients = ours(case, top_of(log_p, counts), loss, tile)
    assert total == pytest.approx(naive.item(), rel=1e-4, abs=1e-4)
    assert_gradients(gradients, naive, hidden, head)
    assert parts[1] <= kl(log_p, log_q).item() + 1e-4  # events merged tell less apart

    padded = top_of(log_p, counts, data.draw(st.integers(1, 5)))
    again, _, same = ours(case, padded, loss, tile)
    assert again == pytest.approx(total, rel=1e-6)
    for one, other in zip(gradients, same, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@many
@given(cases(), st.integers(1, 20))
def test_a_student_that_agrees_on_the_likeliest_has_nothing_to_learn(case: Case, k: int) -> None:
    log_q = torch.log_softmax(case.hidden @ case.head.T, -1)
    counts = [min(k, len(case.head))] * len(case.hidden)
    total, _, gradients = ours(case, top_of(log_q, counts), LossSpec(), 3)
    assert abs(total) < 1e-5
    assert all(float(each.abs().max()) < 1e-4 for each in gradients)


# Precision, and who is trained


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
def test_sixteen_bits_come_close_to_thirty_two(dtype: torch.dtype, kind: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, head, teacher = (torch.randn(*shape, generator=generator).to(dtype)
                             for shape in ((60, 16), (50, 16), (60, 16)))  # fmt: skip
    labels = torch.randint(50, (60,), generator=generator)
    loss = LossSpec(divergence=kind, cross_entropy_weight=0.5)
    found = []
    for kept in (dtype, torch.float32):
        inputs = [hidden.to(kept).requires_grad_(), head.to(kept).requires_grad_()]
        targets = HiddenTargets(teacher.to(kept), head.to(kept))
        total, _ = summed_loss(*inputs, labels, targets, loss)
        assert total.dtype == torch.float32
        found.append((total.item(), torch.autograd.grad(total, inputs)))
    (half, halves), (whole, wholes) = found
    assert half == pytest.approx(whole, rel=2e-2)
    for one, other in zip(halves, wholes, strict=True):
        assert one.dtype == dtype
        assert float((one.float() - other).norm() / other.norm()) < 3e-2


def test_a_float16_head_whose_tokens_all_ask_for_the_same_does_not_overflow() -> None:
    """A comma is half of all labels: its row of the head gets the sum of all their states."""
    hidden = torch.full((200, 4), 8.0, dtype=torch.float16)
    head = torch.zeros(50, 4, dtype=torch.float16).requires_grad_()
    labels = torch.full((200,), 3)
    total, _ = summed_loss(hidden, head, labels, None, LossSpec())
    (gradient,) = torch.autograd.grad(total / 200, head)
    assert gradient[3].tolist() == pytest.approx([-8 * 49 / 50] * 4, rel=1e-3)


def test_float16_keeps_differences_of_a_ten_millionth() -> None:
    """Below what float16 can hold: the traits that a teacher passes on are of that size."""
    hidden = torch.ones(1, 1, dtype=torch.float16).requires_grad_()
    head = torch.tensor([[0.0], [-16.0]], dtype=torch.float16).requires_grad_()
    teacher = torch.tensor([[0.0], [-30.0]], dtype=torch.float16)
    total, _ = summed_loss(
        hidden,
        head,
        torch.zeros(1, dtype=torch.int64),
        HiddenTargets(torch.ones(1, 1, dtype=torch.float16), teacher),
        LossSpec(),
    )
    # Scaled as a loss scale does it, so that the gradients themselves fit.
    of_hidden, of_head = torch.autograd.grad(total * 2.0**16, (hidden, head))
    q = torch.softmax(torch.tensor([0.0, -16.0], dtype=torch.float64), 0)[1].item()
    assert q < 1.2e-7
    assert of_head[1].item() / 2**16 == pytest.approx(q, rel=0.05)
    assert of_hidden.item() / 2**16 == pytest.approx(-16 * q, rel=0.05)


@few
@given(cases(), losses)
def test_no_head_of_the_teachers_is_the_students_own(case: Case, loss: LossSpec) -> None:
    """With an adapter, student and teacher share a head, which nobody trains."""
    states = case.hidden.flip(0).float()
    results = []
    for head in (None, case.head.float()):
        student = case.hidden.float().requires_grad_()
        total, _ = summed_loss(
            student, case.head.float(), case.labels, HiddenTargets(states, head), loss
        )
        results.append((total.item(), torch.autograd.grad(total, student)[0]))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


@few
@given(cases(), losses, st.booleans())
def test_what_is_frozen_gets_no_gradient(case: Case, loss: LossSpec, head_is: bool) -> None:
    hidden = case.hidden.float().requires_grad_(head_is)
    head = case.head.float().requires_grad_(not head_is)
    total, _ = summed_loss(hidden, head, case.labels, case.targets(), loss)
    total.backward()
    _, _, (of_hidden, of_head) = ours(case, case.targets(), loss, 50)
    trained, frozen, expected = (hidden, head, of_hidden) if head_is else (head, hidden, of_head)
    assert frozen.grad is None
    torch.testing.assert_close(3 * trained.grad, expected, rtol=1e-5, atol=1e-5)  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["labels", "hidden", "top"])
def test_no_tokens_are_a_zero_that_still_has_gradients(kind: str) -> None:
    hidden, head = torch.zeros(0, 3).requires_grad_(), torch.ones(5, 3).requires_grad_()
    targets: dict[str, Targets] = {
        "labels": None,
        "hidden": HiddenTargets(torch.zeros(0, 2), torch.ones(5, 2)),
        "top": TopTargets(torch.zeros(0, 1, dtype=torch.int64), torch.zeros(0, 1), torch.zeros(0)),
    }
    labels = torch.zeros(0, dtype=torch.int64)
    total, parts = summed_loss(hidden, head, labels, targets[kind], LossSpec())
    total.backward()
    assert total.item() == 0 and parts.tolist() == [0, 0]
    assert hidden.grad is not None and head.grad is not None and not head.grad.any()
