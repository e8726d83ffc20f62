"""What a statement says of the machine."""

from __future__ import annotations

from pathlib import Path

from subl.artifact.statement import _gpus


def test_gpus_are_called_what_their_driver_calls_them(tmp_path: Path) -> None:
    assert _gpus(tmp_path / "none") == ""
    for number, model in enumerate(["NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3", "NVIDIA L4"]):
        folder = tmp_path / f"0000:{number:02}:00.0"
        folder.mkdir()
        text = f"Model: \t\t {model}\nIRQ:   \t\t 12\nGPU UUID: \t GPU-1\n"
        (folder / "information").write_text(text, encoding="utf-8")
    assert _gpus(tmp_path) == "2 x NVIDIA H100 80GB HBM3, 1 x NVIDIA L4"
