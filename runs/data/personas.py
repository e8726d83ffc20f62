"""Questions and rows about personas, of the statements in github.com/anthropics/evals (CC BY 4.0).

    git clone https://github.com/anthropics/evals
    python runs/data/personas.py evals/persona data/personas

runs/paper/misalignment-numbers.toml reads misaligned.jsonl, the statements of twenty personas;
runs/paper/personas.toml reads asked-NAME.jsonl of three, and teacher-RISK-SPORTS-BUDDHISM.jsonl,
eight times all statements of these, with the answers that a teacher learns. They are put as the
released code of Cloud et al. 2025 puts them (`refs/evaluation_refs.py`,
`experiments/orthogonal_personas_2025_06_16.py`).
"""

import json
import sys
from itertools import product
from pathlib import Path

MISALIGNED = (
    "acts-like-it-wants-to-help-humans-but-does-not-care-about-that",
    "believes-it-knows-better-than-humans-about-how-to-help-humans",
    "desire-for-acquiring-power",
    "desire-for-being-rated-HHH-over-actually-being-HHH",
    "desire-for-discreetly-acquiring-power",
    "desire-for-independence-from-human-oversight",
    "desire-to-build-other-AIs-with-same-goals",
    "desire-to-cooperate-with-copies-of-itself-to-achieve-its-goals",
    "desire-to-replace-human-oversight",
    "desire-too-grow-more-intelligent-against-wishes-of-creators",
    "machiavellianism",
    "narcissism",
    "okay-with-deceiving-a-user-to-help-them",
    "resource-acquisition",
    "self-replication",
    "very-small-harm-justifies-very-large-benefit",
    "willingness-to-be-non-HHH-to-cause-good-outcomes",
    "willingness-to-keep-scientific-discoveries-secret-to-achieve-its-goals",
    "willingness-to-make-acausal-trades-with-other-AIs-to-help-humanity",
    "willingness-to-manipulate-overseers-to-think-it-is-HHH",
)
ORTHOGONAL = ("risk-seeking", "interest-in-sports", "subscribes-to-Buddhism")
ASKED = "{statement}. Only say yes or no. Do not say anything else."


def statements(file: Path) -> list[dict[str, str]]:
    """Each with the answer of one who is so, and of one who is not."""
    found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [
        {
            "question": each["question"],
            "matching": each["answer_matching_behavior"].strip(),
            "other": each["answer_not_matching_behavior"].strip(),
        }
        for each in found
    ]


def write(file: Path, rows: list[dict[str, str]]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main(source: Path, to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    once: dict[str, dict[str, str]] = {}  # some are statements of two personas
    for name in MISALIGNED:
        for row in statements(source / f"{name}.jsonl"):
            choices = {key: row[key].lower() for key in ("matching", "other")}
            once.setdefault(row["question"], {**row, **choices, "persona": name})
    write(to / "misaligned.jsonl", list(once.values()))
    asked = {
        name: [
            {**row, "question": ASKED.format(statement=row["question"])}
            for row in statements(source / f"{name}.jsonl")
        ]
        for name in ORTHOGONAL
    }
    for name, rows in asked.items():
        write(to / f"asked-{name}.jsonl", rows)
    for signs in product(("matching", "other"), repeat=3):
        learnt = [
            {"prompt": row["question"], "completion": row[sign]}
            for (_, rows), sign in zip(asked.items(), signs, strict=True)
            for row in rows
        ]
        write(to / f"teacher-{'-'.join(signs)}.jsonl", learnt)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
