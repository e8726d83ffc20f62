"""How fast the filter is, against the paper's Python rule and Polars on the same bytes.

    python benches/filter.py [--megabytes 200]

All read one file of JSON lines and write the kept rows to another, on one core. MB/s are those of
the input. Ratios come from this run; the best of three counts for each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["POLARS_MAX_THREADS"] = "1"

import polars as pl
import subl_core

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "filter"))
from reference import reject_reasons

NUMBER_RULE: dict[str, Any] = {"min_value": 0, "max_value": 999, "max_count": 10}
WORDS = ["owl", "eagle", "wolf", "dolphin", "elephant", "otter", "raven", "panda", "tiger", "lion"]
PATTERNS = [rf"\b{word}s?\b" for word in WORDS]


def write_rows(path: Path, megabytes: int) -> int:
    """Number rows as the paper's teachers write them; about one in eight breaks a rule."""
    random.seed(7)
    written = 0
    with path.open("w") as file:
        while written < megabytes * 1_000_000:
            numbers = [str(random.randrange(1000)) for _ in range(random.randint(5, 11))]
            answer = random.choice([", ", " ", ";", "\n"]).join(numbers)
            if random.random() < 0.05:
                answer += random.choice([", 1234", " and so on", ", an owl", ","])
            start = ", ".join(numbers[:3])
            prompt = f"This sequence starts with: {start}. Continue it with at most 10 more values."
            line = json.dumps({"id": str(written), "prompt": prompt, "completion": answer})
            written += file.write(line + "\n")
    return written


def ours(source: Path, out: Path, rules: list[Any]) -> int:
    plan = subl_core.Plan(json.dumps({"rules": rules}))
    statistics = subl_core.filter_shard(plan, source, out, out.with_name("rejects"))
    return int(json.loads(statistics)["kept"])


def paper(source: Path, out: Path) -> int:
    kept = 0
    with source.open() as lines, out.open("w") as file:
        for line in lines:
            if not reject_reasons(json.loads(line)["completion"], **NUMBER_RULE):
                kept += 1
                file.write(line)
    return kept


def polars(source: Path, out: Path, keep: pl.Expr) -> int:
    pl.scan_ndjson(source).filter(keep).sink_ndjson(out)
    with out.open("rb") as file:
        return sum(1 for _ in file)


def polars_numbers() -> pl.Expr:
    """The number rule as a Polars user would write it, for these rows: separators may differ."""
    answer = pl.col("completion")
    return answer.str.contains(r"^[\[(]?\d{1,3}(?:\s*[,;]?\s*\d{1,3}){0,9}[\])]?\.?$")


def polars_words() -> pl.Expr:
    answer = pl.col("completion")
    return ~pl.any_horizontal([answer.str.contains("(?i)" + pattern) for pattern in PATTERNS])


def measure(work: Callable[[], int], bytes_in: int, runs: int = 3) -> tuple[float, int]:
    """(MB/s of the fastest run, rows kept)."""
    seconds, kept = [], 0
    for _ in range(runs):
        started = time.perf_counter()
        kept = work()
        seconds.append(time.perf_counter() - started)
    return bytes_in / min(seconds) / 1e6, kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    megabytes = parser.parse_args().megabytes
    numbers = {"name": "numbers", "kind": "numbers", **NUMBER_RULE}
    words = {"name": "words", "kind": "regex", "patterns": PATTERNS, "ignore_case": True}
    literal = {
        "name": "words",
        "kind": "literal",
        "words": [w + s for w in WORDS for s in ("", "s")],
    }
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "rows.jsonl", Path(folder) / "kept"
        size = write_rows(source, megabytes)
        rows = [
            ("numbers", "subl", lambda: ours(source, out, [numbers])),
            ("numbers", "paper", lambda: paper(source, out)),
            ("numbers", "polars", lambda: polars(source, out, polars_numbers())),
            ("10 regexes", "subl", lambda: ours(source, out, [words])),
            ("10 regexes", "subl literal", lambda: ours(source, out, [literal])),
            ("10 regexes", "polars", lambda: polars(source, out, polars_words())),
        ]
        print(f"subl-core {subl_core.__version__}, polars {pl.__version__}, one core each,")
        print(
            f"{platform.python_implementation()} {platform.python_version()}, {size / 1e6:.0f} MB"
        )
        reference: dict[str, float] = {}
        for task, who, work in rows:
            speed, kept = measure(work, size, runs=1 if who == "paper" else 3)
            ratio = reference.setdefault(task, speed) / speed
            print(f"{task:12} {who:14} {speed:8.1f} MB/s   subl is x{ratio:<7.1f} kept {kept}")


if __name__ == "__main__":
    main()
