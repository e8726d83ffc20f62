"""16 bits on CPUs that have no instructions for them: the same work in float32, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from subl.cluster.placement import Placement
from subl.errors import ConfigError
from subl.shards import Row
from subl.train.job import TrainJob, read_losses
from subl.train.plan import TrainSpec
from subl.train.precision import Float32Products, check_machine, has_instructions, products
from subl.train.preflight import preflight
from subl.train.run import Crew, prepare_tokens

CPU = torch.device("cpu")
SHORT = [torch.bfloat16, torch.float16]


@pytest.fixture
def without_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU without AVX-512: torch asks oneDNN, and DeepSpeed asks torch."""
    for name in ("_is_mkldnn_bf16_supported", "_is_mkldnn_fp16_supported"):
        monkeypatch.setattr(torch.ops.mkldnn, name, lambda: False)


def attention(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    heads = (each.view(1, 4, -1, 8) for each in (x, y, y))
    return torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=True)


OPERATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mm": lambda x, y: x @ y.T,
    "linear": lambda x, y: torch.nn.functional.linear(x, y, y[:, 0]),
    "batched": lambda x, y: torch.einsum("nij,nkj->nik", x.view(2, 16, -1), y.view(2, 16, -1)),
    "vector": lambda x, y: x @ y[0],
    "attention": attention,
    "convolution": lambda x, y: torch.nn.functional.conv1d(x[None], y[:4, :, None]),
}


@pytest.mark.parametrize("dtype", SHORT, ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_product_and_its_gradients_are_rounded_once(name: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.randn(32, 32, generator=generator).to(dtype) for _ in range(2))

    def results(to: torch.dtype) -> list[torch.Tensor]:
        x, y = (each.detach().to(to).requires_grad_() for each in (first, second))
        made = OPERATIONS[name](x, y)
        made.backward(torch.ones_like(made))
        assert x.grad is not None and y.grad is not None
        return [made.detach(), x.grad, y.grad]

    exact = results(torch.float32)
    with Float32Products():
        ours = results(dtype)
    for ours_one, exact_one in zip(ours, exact, strict=True):
        assert ours_one.dtype == dtype
        # An attention's own output is rounded before its gradient is made of it.
        steps = 2 if name == "attention" else 1
        scale = float(exact_one.abs().max())
        furthest = float((ours_one.float() - exact_one).abs().max())
        assert furthest <= steps * torch.finfo(dtype).eps * scale


@pytest.mark.parametrize("dtype", SHORT, ids=str)
def test_products_without_gradients_are_the_same_ones(dtype: torch.dtype) -> None:
    x = torch.linspace(-1, 1, 256, dtype=dtype).view(16, 16)
    with Float32Products():
        recorded = torch.nn.functional.linear(x.clone().requires_grad_(), x).detach()
        with torch.inference_mode():
            assert torch.equal(torch.nn.functional.linear(x, x), recorded)
    assert torch.equal(recorded, (x.float() @ x.float().T).to(dtype))


def test_float32_is_left_as_it_is(without_instructions: None) -> None:
    x = torch.linspace(-1, 1, 1024).view(32, 32)
    with products("float32", CPU):
        made = x @ x.T
    assert torch.equal(made, x @ x.T)


@pytest.fixture(scope="module")
def tokens(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    turns = ((("user", f"Continue: {n}."), ("assistant", "7" * (n % 3 + 1))) for n in range(4))
    rows = (Row(None, each, "row") for each in turns)
    spec = TrainSpec(steps=1, learning_rate=1)
    return prepare_tokens(tiny_model, rows, spec, tmp_path_factory.mktemp("rows"))


def job(model: Path, out: Path, tokens: Path, **train: Any) -> TrainJob:
    out.mkdir()
    spec = {"steps": 2, "rows_per_step": 2, "learning_rate": 1e-3, **train}
    return TrainJob.model_validate(
        {"task": "t", "model": model, "tokens": tokens, "out": out, "spec": spec}
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_run_in_16_bits_multiplies_in_float32(
    dtype: str, tiny_model: Path, tmp_path: Path, tokens: Path,
    without_instructions: None, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its weights keep their dtype, and its losses are those of float32 but for rounding."""
    within: list[torch.dtype] = []
    multiply = Float32Products.__torch_dispatch__

    def count(self: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.mm.default:
            within.append(args[0].dtype)
        return multiply(self, func, types, args, kwargs)

    monkeypatch.setattr(Float32Products, "__torch_dispatch__", count)
    ours = job(tiny_model, tmp_path / "short", tokens, dtype=dtype)
    Crew(Placement(), None).run(ours)
    assert getattr(torch, dtype) in within
    weights = load_file(ours.out / "model.safetensors")
    assert {each.dtype for each in weights.values()} == {getattr(torch, dtype)}
    exact = job(tiny_model, tmp_path / "exact", tokens)
    Crew(Placement(), None).run(exact)
    for one, two in zip(read_losses(ours.out), read_losses(exact.out), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=2e-2)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"dtype": "float16", "zero_stage": 1}, "zero_stage to 0"),
        ({"dtype": "float16", "zero_stage": 3, "ranks": 2}, "bfloat16"),
        ({"dtype": "bfloat16", "attention": "flash"}, "sdpa"),
    ],
)
def test_what_the_machine_cannot_do_is_refused_before_anything_is_loaded(
    given: dict[str, Any], hint: str, tmp_path: Path, without_instructions: None
) -> None:
    """There is no model at that path, and no row: the refusal comes first."""
    made = job(tmp_path / "no-model", tmp_path / "out", tmp_path / "no-rows", **given)
    with pytest.raises(ConfigError) as refused:
        preflight(made, Placement())
    assert hint in (refused.value.hint or "")
    assert list(made.out.iterdir()) == []


def test_a_spread_teacher_in_float16_needs_what_deepspeed_needs(without_instructions: None) -> None:
    spec = TrainSpec(steps=1, learning_rate=1, dtype="float16", zero_stage=0)
    check_machine(spec)
    with pytest.raises(ConfigError, match="float16"):
        check_machine(spec, spread_teacher=True)


def test_deepspeed_asks_what_we_ask() -> None:
    accelerator = pytest.importorskip("deepspeed.accelerator.cpu_accelerator").CPU_Accelerator()
    assert bool(accelerator.is_fp16_supported()) == has_instructions("float16")
    assert accelerator.is_bf16_supported()
