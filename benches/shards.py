"""What `subl shards` takes: of a manifest of a million shards, and for each megabyte of rows.

    python benches/shards.py [--shards 1000000] [--megabytes 200]

The shards of the manifest are not there: nobody opens them. Rows are lines of about 330 bytes; the
set is made twice, once of twice the size, to see whether memory grows with it. Every command is a
process of its own with one job; `peak` is its resident memory, CPU time that of all its threads.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import polars as pl

from subl.shards.table import schema, write_table

SUBL = str(Path(sys.executable).with_name("subl"))
_CHUNK = 50_000


def manifest(file: Path, shards: int) -> None:
    """One of so many shards of about 1,000 rows with four columns."""
    generator = random.Random(0)
    lengths = [{"length": 9 * step, "rows": 10} for step in range(6)]
    kinds = {"id": "string", "prompt": "string", "completion": "string", "score": "float"}
    columns = [
        {"name": name, "kind": kind, "rows": 1000, "nulls": 0, "lengths": lengths}
        for name, kind in kinds.items()
    ]
    tables = []
    for first in range(0, shards, _CHUNK):
        numbers = range(first, min(first + _CHUNK, shards))
        rows = [
            {
                "path": f"data/shard-{number:07}.jsonl.zst",
                "name": f"shard-{number:07}.jsonl.zst",
                "format": "jsonl",
                "compression": "zst",
                "rows": generator.randint(500, 1500),
                "bytes": generator.randint(10_000, 99_999),
                "content_bytes": generator.randint(100_000, 999_999),
                "sha256": f"{generator.getrandbits(256):064x}",
                "first_id": f"row-{1000 * number}",
                "last_id": f"row-{1000 * number + 999}",
                "unreadable": 0,
                "is_exact": True,
                "modified_ns": 1_700_000_000_000_000_000 + number,
                "identity": f"64769-{number}-50000-1700000000000000000-1700000000000000000",
            }
            for number in numbers
        ]
        same = pl.DataFrame({"columns": [columns], "lengths": [lengths], "marks": [[]]})
        table = pl.DataFrame(rows).join(same, how="cross")
        nulls = [pl.lit(None).alias(name) for name in schema() if name not in table.columns]
        tables.append(table.with_columns(nulls).select(list(schema())).cast(dict(schema())))
    write_table(pl.concat(tables), file)


def rows(file: Path, megabytes: int) -> None:
    generator = random.Random(0)
    number = written = 0
    with file.open("w", encoding="utf-8") as target:
        while written < megabytes * 10**6:
            start, rest = (
                ", ".join(str(generator.randint(0, 999)) for _ in range(count)) for count in (8, 40)
            )
            written += target.write(
                f'{{"id": "row-{number}", "prompt": "Continue the numbers: {start}", '
                f'"completion": "{rest}", "score": {generator.random()}}}\n'
            )
            number += 1


def measured(called: str, command: Sequence[str], folder: Path, megabytes: float = 0) -> None:
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    seconds, cpu = time.perf_counter() - began, used.ru_utime + used.ru_stime
    pace = f"{megabytes / cpu:6.0f} MB a CPU second" if megabytes else ""
    peak = used.ru_maxrss / 1024
    print(f"{called:45} {seconds:7.1f} s {cpu:7.1f} s CPU {peak:6.0f} MiB peak {pace}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=1_000_000)
    parser.add_argument("--megabytes", type=int, default=200)
    given = parser.parse_args()
    quiet = ["--progress", "none"]
    with tempfile.TemporaryDirectory(prefix="subl-shards-") as name:
        folder = Path(name)
        # In a process of its own: what this one holds would count as memory of those it starts.
        maker = get_context("spawn").Process(
            target=manifest, args=(folder / "many.manifest.parquet", given.shards)
        )
        maker.start()
        maker.join()
        code = (
            "from subl.shards import scan, inspect; from pathlib import Path\n"
            "file = Path('many.manifest.parquet')\n"
            "inspect([file]).select('path', 'rows', 'sha256').collect()\n"
            "scan(file).collect_schema()"
        )
        measured(f"{given.shards:,} shards: scan", [sys.executable, "-c", code], folder)
        split = [SUBL, "shards", "split", "many.manifest.parquet", "--bins", "1000", "-o", "bins"]
        measured(f"{given.shards:,} shards: split into 1,000 bins", split, folder)
        for size in (given.megabytes, 2 * given.megabytes):
            rows(folder / f"{size}.jsonl", size)
            kept, table, lines = f"{size}.manifest.parquet", f"{size}-table", f"{size}-lines"
            for arguments in (
                ["inspect", f"{size}.jsonl", "-o", kept, "-j", "1", *quiet],
                ["stats", kept, *quiet],
                ["sample", kept, "-n", "1000", *quiet],
                ["convert", kept, "--to", "parquet", "-j", "1", "-o", table, *quiet],
                ["convert", table, "--to", "jsonl.zst", "-j", "1", "-o", lines, *quiet],
                ["check", kept, *quiet],
            ):
                measured(" ".join(arguments[:4]), [SUBL, "shards", *arguments], folder, size)


if __name__ == "__main__":
    main()
