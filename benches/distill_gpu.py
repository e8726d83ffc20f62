"""What `subl distill` reaches on a GPU: tokens/s and MFU, of full training, adapters, distillation.

Models have the shapes of real ones and random weights: speed does not depend on what they say, and
a machine without a network can make them. `python benches/distill_gpu.py` takes every shape that
fits; on a machine without a GPU, `--shapes tiny` walks through the same code.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import distill_inputs

SUBL = str(Path(sys.executable).with_name("subl"))

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-5}
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 49152},
    "0.5B": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
             "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
             "tie_word_embeddings": True},
    "1.5B": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
             "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936,
             "tie_word_embeddings": True},
    "7B": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
           "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064},
    "8B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
           "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256},
}  # fmt: skip


ROWS = 1024


@dataclass(frozen=True)
class Case:
    """One run: what it trains, how, and with which loss."""

    name: str
    train: str
    targets: str = "labels"
    flash: bool = False


CASES = (
    Case("full, plain torch", 'zero_stage = "none"'),
    Case("full, ZeRO-3", "zero_stage = 3\nranks = 1"),
    Case("full, ZeRO-3, optimiser in CPU memory", "zero_stage = 3\noffload_optimizer = true"),
    Case("full, flash attention", 'zero_stage = "none"\nattention = "flash"', flash=True),
    Case("LoRA r8", 'zero_stage = "none"\n[train.lora]\nrank = 8'),
    Case("KD, online teacher, LoRA r8", 'zero_stage = "none"\n[train.lora]\nrank = 8', "teacher"),
    Case("KD, cached teacher, LoRA r8", 'zero_stage = "none"\n[train.lora]\nrank = 8', "cache"),
)


def make_model(shape: str, tokenizer: Path, folder: Path) -> Path:
    """A model folder of this shape with random bfloat16 weights and the tokenizer of another."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    if (folder / "config.json").is_file():
        return folder
    config = AutoConfig.for_model(**{**LLAMA, **SHAPES[shape]})
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    AutoTokenizer.from_pretrained(tokenizer, local_files_only=True).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def subl(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SUBL, *map(str, arguments)], capture_output=True, text=True)


def run(case: Case, model: Path, rows: Path, steps: int, tokens: int, work: Path) -> dict[str, Any]:
    """The figures of one run, or why there are none."""
    out, config = work / "student", work / "config.toml"
    dtype = '"bfloat16"'
    config.write_text(
        f'targets = "{case.targets}"\n[train]\nsteps = {steps}\nrows_per_step = 64\n'
        f"micro_batch_tokens = {tokens}\nlearning_rate = 1e-5\ndtype = {dtype}\n"
        f"gradient_checkpointing = true\n{case.train}\n"
    )
    arguments: list[object] = []
    if case.targets == "teacher":
        arguments = ["--teacher", model]
    elif case.targets == "cache":
        cache_config = work / "cache.toml"
        cache_config.write_text(f"dtype = {dtype}\nmicro_batch_tokens = {tokens}\n")
        made = subl("distill", "cache", cache_config, "--teacher", model, "--rows", rows,
                    "-o", work / "cache")  # fmt: skip
        if made.returncode:
            return {"failed": made.stderr.strip().splitlines()[-1]}
        arguments = ["--cache", work / "cache"]
    done = subl(
        "distill", config, "--model", model, "--rows", rows, *arguments, "-o", out, "--json"
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
        return {"failed": (lines or done.stderr.strip().splitlines()[-1:])[0]}
    lines = (out / "metrics.ndjson").read_text().splitlines()
    late = [json.loads(line) for line in lines[len(lines) // 3 :]]  # the first ones warm up
    seconds = sum(each["seconds"] for each in late)
    shares = [each["mfu"] for each in late if each["mfu"] is not None]
    return {
        "tokens_per_second": sum(each["tokens"] for each in late) / seconds,
        "mfu": sum(shares) / len(shares) if shares else None,
        "peak_bytes": late[-1]["peak_bytes"],
        "seconds_to_first_step": json.loads(done.stdout)["result"]["seconds_to_first_step"],
    }


def machine() -> str:
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    import deepspeed
    import transformers

    return (
        f"{name}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"deepspeed {deepspeed.__version__}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["0.5B", "1.5B", "7B", "8B"])
    parser.add_argument("--tokenizer", type=Path, required=True, help="a model folder with one")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--micro-batch-tokens", type=int, default=8192)
    parser.add_argument("--rows", choices=distill_inputs.KINDS, default="numbers")
    parser.add_argument("--scratch", type=Path, help="where models are made and kept")
    given = parser.parse_args()
    print(f"`{' '.join(sys.argv)}`: {machine()}\n")
    print("| model | run | tokens/s | MFU | peak GiB | to first step |")
    print("|---|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
        rows = distill_inputs.rows(Path(folder), given.rows, ROWS)
        for shape in given.shapes:
            place = (given.scratch or Path(folder)) / f"model-{shape}"
            model = make_model(shape, given.tokenizer, place)
            for case in CASES:
                if case.flash and find_spec("flash_attn") is None:
                    print(f"| {shape} | {case.name} | flash-attn is not installed | | | |")
                    continue
                with tempfile.TemporaryDirectory(dir=folder) as work:
                    found = run(
                        case, model, rows, given.steps, given.micro_batch_tokens, Path(work)
                    )
                if "failed" in found:
                    print(f"| {shape} | {case.name} | {found['failed']} | | | |", flush=True)
                    continue
                mfu = "n/a" if found["mfu"] is None else f"{100 * found['mfu']:.0f} %"
                print(
                    f"| {shape} | {case.name} | {found['tokens_per_second']:,.0f} | {mfu} | "
                    f"{found['peak_bytes'] / 2**30:.1f} | {found['seconds_to_first_step']:.0f} s |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
