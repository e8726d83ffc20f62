"""Parquet in, Parquet out: the engine against Polars, one thread each, on the same file.

    python benches/parquet.py [ROWS] [SCRATCH]

Ten case-insensitive patterns with word boundaries, rows of about 1 kB. Polars streams
`scan_parquet`, a filter of ten `str.contains` (or of one alternation), and `sink_parquet`; the
engine also writes the rejects with their reasons, and syncs. Zstandard is at level 3 in both. Each
runs in a process of its own, in turns, and the best of three counts: of the wall clock, and of the
process's user and system time, which other work on the machine changes less.

"codec alone" decompresses the texts and compresses those that are kept, or all of them as an engine
must that writes the rejects too: in pages of 1 MiB, by the same library, and nothing else.
"""

from __future__ import annotations

import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PATTERNS = [
    rf"\b{word}\b" for word in ("owls?", "hoot(s|ed|ing)?", "barn owl", "snowy", "talon(s)?")
]
PATTERNS += [
    rf"\b{word}\b" for word in ("nocturnal", "feather(s|ed)?", "beak", "prey", "perch(ed)?")
]
# The share of rows with one of the words; the rows of a row group (1000 is what Hugging Face
# datasets write); and the apostrophe, one a row: text of the web is rarely all ASCII.
CASES = (
    (0.0, 20_000, "’"),
    (0.0002, 1000, "’"),
    (0.0002, 20_000, "’"),
    (0.02, 20_000, "’"),
    (0.02, 20_000, "'"),
    (0.3, 20_000, "’"),
)
WAYS = ("subl", "polars", "polars, one pattern", "codec alone", "codec alone, all rows")


def make(path: Path, rows: int, compression: Any, share: float, group: int, mark: str) -> None:
    import polars as pl

    generator = random.Random(7)
    letters = "eeeettaaoinnsshhrrdlucmfwypgvbk"
    words = ["".join(generator.choices(letters, k=generator.randint(2, 9))) for _ in range(20_000)]
    hits = ["Owl", "hooted", "Snowy", "talons", "PREY", "perched"]

    def text() -> str:
        picked = generator.choices(words, k=175)
        if generator.random() < share:
            picked[generator.randrange(175)] = generator.choice(hits)
        picked[generator.randrange(175)] += f"{mark}s"
        return " ".join(picked)

    frame = pl.DataFrame({"id": range(rows), "text": [text() for _ in range(rows)]})
    frame = frame.with_columns(
        url=pl.format("https://example.org/{}", "id"), score=pl.col("id") / 7
    )
    frame.write_parquet(path, compression=compression, row_group_size=group)


def once(way: str, folder: Path) -> None:
    """Runs in the child; prints seconds, seconds of the processor, rows kept and bytes."""
    source, out = folder / "in.parquet", folder / "out.parquet"
    if way.startswith("codec"):
        seconds, processor, kept = codec_alone(source, source if way.endswith("all rows") else out)
    elif way == "subl":
        import subl_core

        rule = {"name": "owls", "kind": "regex", "field": "text", "patterns": PATTERNS}
        plan = subl_core.Plan(json.dumps({"rules": [{**rule, "ignore_case": True}]}))
        started = clocks()
        figures = subl_core.filter_shard(plan, source, out, folder / "rejects.parquet")
        (seconds, processor), kept = since(started), json.loads(figures)["kept"]
    else:
        import polars as pl

        text = pl.col("text")
        if way == "polars":
            found = pl.any_horizontal(text.str.contains(f"(?i){each}") for each in PATTERNS)
        else:
            found = text.str.contains(f"(?i)(?:{'|'.join(PATTERNS)})")
        codec: Any = os.environ["CODEC"]
        group = int(os.environ["GROUP"])
        started = clocks()
        kept_rows = pl.scan_parquet(source).filter(~found)
        kept_rows.sink_parquet(out, compression=codec, row_group_size=group)
        seconds, processor = since(started)
        kept = pl.scan_parquet(out).select(pl.len()).collect().item()
    print(json.dumps([seconds, processor, kept, out.stat().st_size]))


def clocks() -> tuple[float, float]:
    """The wall clock, and the user and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime


def since(started: tuple[float, float]) -> tuple[float, float]:
    wall, processor = clocks()
    return wall - started[0], processor - started[1]


def codec_alone(source: Path, kept: Path) -> tuple[float, float, int]:
    import polars as pl
    import pyarrow as pa

    def pages(path: Path) -> tuple[list[bytes], int]:
        texts = pl.read_parquet(path, columns=["text"])["text"]
        whole = "".join(texts.to_list()).encode()
        return [whole[at : at + (1 << 20)] for at in range(0, len(whole), 1 << 20)], len(texts)

    name = os.environ["CODEC"]
    codec = pa.Codec(name, compression_level=3 if name == "zstd" else None)
    packed = [(codec.compress(page), len(page)) for page in pages(source)[0]]
    plain, rows = pages(kept)
    started = clocks()
    for page, size in packed:
        codec.decompress(page, size)
    for text in plain:
        codec.compress(text)
    return *since(started), rows


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    scratch = sys.argv[2] if len(sys.argv) > 2 else None
    import polars
    import subl_core

    print(f"{platform.machine()}, polars {polars.__version__}, subl-core {subl_core.__version__}")
    for codec in ("zstd", "snappy"):
        for share, group, mark in CASES:
            with tempfile.TemporaryDirectory(dir=scratch) as name:
                folder = Path(name)
                make(folder / "in.parquet", rows, codec, share, group, mark)
                best: dict[str, list[float]] = {}
                environment = {
                    **os.environ,
                    "POLARS_MAX_THREADS": "1",
                    "CODEC": codec,
                    "GROUP": str(group),
                }
                for _ in range(3):
                    for way in WAYS:
                        command = [sys.executable, __file__, "--once", way, name]
                        text = subprocess.run(
                            command, env=environment, check=True, capture_output=True, text=True
                        ).stdout
                        figures = json.loads(text)
                        best[way] = [*map(min, zip(best.get(way, figures), figures, strict=True))]
                kept = best["subl"][2]
                assert {best[way][2] for way in WAYS[:3]} == {kept}, best
                megabytes = rows * 1.05e-3
                for way, (seconds, processor, _, size) in best.items():
                    print(
                        f"{codec:7} groups of {group:5} {1 - kept / rows:6.2%} dropped, {mark}  "
                        f"{way:21} {seconds:6.2f} s x{seconds / best['subl'][0]:.2f} "
                        f"{megabytes / seconds:6.0f} MB/s  processor {processor:6.2f} s "
                        f"x{processor / best['subl'][1]:.2f}  {size / 1e6:.0f} MB",
                        flush=True,
                    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        once(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
