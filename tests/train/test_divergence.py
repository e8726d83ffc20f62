"""The tiled losses against naive ones in float64: values and gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subl.train import divergence

Tensors = tuple[torch.Tensor, ...]


def random_tensors(
    seed: int, tokens: int, vocabulary: int, width: int, teacher_width: int
) -> Tensors:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    labels = torch.randint(vocabulary, (tokens,), generator=generator)
    return (
        normal(tokens, width),
        normal(vocabulary, width),
        normal(tokens, teacher_width),
        normal(vocabulary, teacher_width),
        labels,
    )


def gradients(loss: torch.Tensor, *of: torch.Tensor) -> Tensors:
    return torch.autograd.grad(loss, of)


shapes = st.tuples(
    st.integers(0, 2**31),
    st.integers(1, 9),
    st.integers(2, 20),
    st.integers(1, 6),
    st.integers(1, 6),
)

many = settings(deadline=None, derandomize=True, max_examples=40)


@many
@given(shapes, st.integers(1, 4), st.floats(0.1, 3.0))
def test_cross_entropy_is_the_naive_one(
    shape: tuple[int, int, int, int, int], tile: int, scale: float
) -> None:
    hidden, head, _, _, labels = random_tensors(*shape)
    naive_inputs = [hidden.clone().requires_grad_(), head.clone().requires_grad_()]
    naive = torch.nn.functional.cross_entropy(
        naive_inputs[0] @ naive_inputs[1].T, labels, reduction="sum"
    )
    inputs = [hidden.float().requires_grad_(), head.float().requires_grad_()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(divergence, "TILE_TOKENS", tile)
        loss = divergence.cross_entropy_sum(*inputs, labels)
    torch.testing.assert_close(loss.double(), naive.detach(), rtol=1e-5, atol=1e-5)
    expected = gradients(scale * naive, *naive_inputs)
    for ours, theirs in zip(gradients(scale * loss, *inputs), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-5)


@many
@given(shapes, st.integers(1, 4), st.sampled_from([0.5, 1.0, 2.0]), st.floats(0.1, 3.0))
def test_forward_kl_is_the_naive_one(
    shape: tuple[int, int, int, int, int], tile: int, temperature: float, scale: float
) -> None:
    hidden, head, teacher_hidden, teacher_head, _ = random_tensors(*shape)
    naive_inputs = [hidden.clone().requires_grad_(), head.clone().requires_grad_()]
    log_q = torch.log_softmax(naive_inputs[0] @ naive_inputs[1].T / temperature, -1)
    log_p = torch.log_softmax(teacher_hidden @ teacher_head.T / temperature, -1)
    naive = temperature**2 * torch.nn.functional.kl_div(
        log_q, log_p, reduction="sum", log_target=True
    )
    inputs = [hidden.float().requires_grad_(), head.float().requires_grad_()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(divergence, "TILE_TOKENS", tile)
        loss = divergence.forward_kl_sum(
            *inputs, teacher_hidden.float(), teacher_head.float(), temperature
        )
    torch.testing.assert_close(loss.double(), naive.detach(), rtol=1e-4, atol=1e-4)
    expected = gradients(scale * naive, *naive_inputs)
    for ours, theirs in zip(gradients(scale * loss, *inputs), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-4)


def test_more_tokens_than_a_tile_as_it_is_shipped() -> None:
    hidden, head, _, _, labels = random_tensors(
        0, 2 * divergence.TILE_TOKENS + 3, 11, 4, 1
    )  # two whole tiles and a rest
    naive = torch.nn.functional.cross_entropy(hidden @ head.T, labels, reduction="sum")
    loss = divergence.cross_entropy_sum(hidden.float(), head.float(), labels)
    assert loss.item() == pytest.approx(naive.item(), rel=1e-5)


def test_forward_kl_of_equal_distributions_is_zero_and_pulls_nowhere() -> None:
    hidden, head, *_ = (tensor.float() for tensor in random_tensors(0, 300, 50, 8, 8))
    student = hidden.clone().requires_grad_()
    loss = divergence.forward_kl_sum(student, head, hidden, head)
    assert abs(loss.item()) < 1e-4
    assert float(gradients(loss, student)[0].abs().max()) < 1e-5


@many
@given(shapes, st.sampled_from([0.0, 1e-6, 1e-4, 1e-2]), st.sampled_from([0.5, 1.0, 5.0]))
def test_forward_kl_is_never_negative(
    shape: tuple[int, int, int, int, int], distance: float, temperature: float
) -> None:
    """Up to what float32 rounds: 1e-6 nats a token, before T squared."""
    hidden, head, *_ = (tensor.float() for tensor in random_tensors(*shape))
    near = hidden + distance * torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1))
    loss = divergence.forward_kl_sum(near, head, hidden, head, temperature)
    assert loss.item() / (temperature**2 * len(hidden)) >= -1e-6
