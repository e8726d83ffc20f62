"""What only a GPU can show: `make test-gpu`. Skipped where there is none."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from subl.artifact import file_digest

SUBL = str(Path(sys.executable).with_name("subl"))

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [
        {"prompt": f"Continue the numbers: {n}.", "completion": ", ".join("12345"[: n % 5 + 1])}
        for n in range(100, 132)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def student(model: Path, rows: Path, out: Path, settings: str, *arguments: str) -> Path:
    config = out.with_suffix(".toml")
    config.write_text(
        'targets = "labels"\n[train]\nsteps = 10\nrows_per_step = 8\nlearning_rate = 1e-2\n'
        + settings
    )
    command = [SUBL, "distill", config, "--model", model, "--rows", rows, "-o", out, *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "losses.jsonl").read_text().splitlines()]


def test_a_gpu_learns_what_a_cpu_learns(
    tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpu = student(tiny_model, rows, tmp_path / "gpu", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    on_cpu = student(tiny_model, rows, tmp_path / "cpu", "")
    assert losses(on_gpu) == pytest.approx(losses(on_cpu), rel=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        "zero_stage = 2",
        "zero_stage = 3",
        "zero_stage = 2\noffload_optimizer = true",
        "zero_stage = 3\noffload_optimizer = true\noffload_parameters = true",
        "gradient_checkpointing = true",
    ],
)
def test_every_engine_agrees_in_float32(
    tiny_model: Path, rows: Path, tmp_path: Path, settings: str
) -> None:
    plain = student(tiny_model, rows, tmp_path / "plain", "")
    other = student(tiny_model, rows, tmp_path / "other", settings)
    for name, tensor in load_file(plain / "model.safetensors").items():
        same = load_file(other / "model.safetensors")[name]
        torch.testing.assert_close(tensor, same, rtol=0, atol=1e-4)


@pytest.mark.skipif(find_spec("flash_attn") is None, reason="flash-attn is not installed")
def test_flash_attention_learns_what_sdpa_learns(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    """The start of each run proves that rows do not see one another."""
    sdpa = student(tiny_model, rows, tmp_path / "sdpa", 'dtype = "bfloat16"')
    flash = student(tiny_model, rows, tmp_path / "f", 'dtype = "bfloat16"\nattention = "flash"')
    assert losses(flash) == pytest.approx(losses(sdpa), rel=2e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_killed_and_resumed_it_gives_the_same_bytes(
    tiny_model: Path, rows: Path, tmp_path: Path, dtype: str
) -> None:
    settings = f'dtype = "{dtype}"\ndeterministic = true'
    whole = student(tiny_model, rows, tmp_path / "whole", settings)
    config, out = tmp_path / "whole.toml", tmp_path / "killed"
    command = [SUBL, "distill", config, "--model", tiny_model, "--rows", rows, "-o", out]
    command += ["--checkpoint-steps", "3", "--progress", "json"]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for _ in process.stderr:
        if (out.with_name("killed.partial") / ".checkpoints" / "latest").is_file():
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stderr.close()
    resumed = student(tiny_model, rows, tmp_path / "killed", settings)
    for name in ("model.safetensors", "losses.jsonl"):
        assert file_digest(resumed / name) == file_digest(whole / name)
