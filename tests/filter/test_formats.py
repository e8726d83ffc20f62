"""What comes in is what its first bytes say, whatever it is called; what is not read is named."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars
import pytest
import zstandard

from subl.errors import InputError
from subl.filter import FilterSpec, LiteralRule, run
from subl.filter.sample import sample
from subl.shards import open_lines, read_rows

SPEC = FilterSpec(rules=(LiteralRule(name="owls", words=("owl",)),))
ROWS = [{"prompt": "Go on.", "completion": text} for text in ("an owl", "a cat", "a dog")]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def parquet() -> bytes:
    target = io.BytesIO()
    polars.DataFrame(ROWS).write_parquet(target)
    return target.getvalue()


def long_window(lines: bytes) -> bytes:
    """As `zstd --long=31` makes it of a stream."""
    parameters = zstandard.ZstdCompressionParameters(window_log=31, write_content_size=False)
    target = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return target.compress(lines) + target.flush()


def tar(content: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        member = tarfile.TarInfo("rows.jsonl")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def zipped(content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("rows.jsonl", content)
    return target.getvalue()


def arrow(*, is_stream: bool) -> bytes:
    target = io.BytesIO()
    frame = polars.DataFrame(ROWS)
    frame.write_ipc_stream(target) if is_stream else frame.write_ipc(target)
    return target.getvalue()


READ: dict[str, Callable[[], bytes]] = {
    "lines": lambda: LINES,
    "lines with a mark": lambda: b"\xef\xbb\xbf" + LINES,
    "gzip": lambda: gzip.compress(LINES),
    "padded gzip": lambda: gzip.compress(LINES[:50]) + gzip.compress(LINES[50:]) + bytes(512),
    "zstandard": lambda: zstandard.compress(LINES),
    "skippable": lambda: b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstandard.compress(LINES),
    "long window": lambda: long_window(LINES),
    "parquet": parquet,
}
NAMES = ["rows.jsonl", "ROWS.JSONL.GZ", "rows.zstd", "DATA.PARQUET", "rows", "rows.json", "a.bz2"]


@pytest.mark.parametrize("content", READ)
def test_every_part_reads_what_the_run_reads(tmp_path: Path, content: str) -> None:
    for name in NAMES:
        file = tmp_path / name
        file.write_bytes(READ[content]())
        result = run(SPEC, [file], tmp_path / f"out {name}")
        assert (result.rows_in, result.kept, result.unreadable) == (3, 2, 0), name
        assert sample(SPEC, [file], 3).dropped_rows == 1
        assert len(list(read_rows([file]))) == 3
        with open_lines(file) as lines:
            assert len(list(lines)) == 3
        # What was kept is read again by its name alone.
        [kept] = result.kept_folder.iterdir()
        assert kept.name.startswith(name)
        assert [row.turns[1][1] for row in read_rows([kept])] == ["a cat", "a dog"]
        if kept.suffix == ".parquet":
            assert len(polars.read_parquet(kept)) == 2


FOREIGN: dict[str, Callable[[], bytes]] = {
    "bzip2": lambda: bz2.compress(LINES),
    "xz": lambda: lzma.compress(LINES),
    "lz4": lambda: b"\x04\x22\x4d\x18\x64\x40\xa7" + LINES,
    "zip": lambda: zipped(LINES),
    "tar": lambda: tar(LINES),
    "tar ": lambda: gzip.compress(tar(LINES)),
    "Arrow file": lambda: arrow(is_stream=False),
    "Arrow stream": lambda: arrow(is_stream=True),
    "UTF-16": lambda: LINES.decode().encode("utf-16"),
    "UTF-16 ": lambda: LINES.decode().encode("utf-16-le"),
    "UTF-16  ": lambda: LINES.decode().encode("utf-16-be"),
    "UTF-32": lambda: LINES.decode().encode("utf-32-le"),
    "Parquet ": lambda: gzip.compress(parquet()),
    "Git LFS": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
}


@pytest.mark.parametrize("content", FOREIGN)
def test_what_is_not_read_is_refused_by_name(tmp_path: Path, content: str) -> None:
    for name in ("rows.jsonl", "rows.parquet", "rows.jsonl.gz", "rows.bin"):
        file = tmp_path / name
        file.write_bytes(FOREIGN[content]())
        refused = f"{name}: it is .*{content.strip()}"
        with pytest.raises(InputError, match=refused) as error:
            run(SPEC, [file], tmp_path / "out")
        assert error.value.hint
        with pytest.raises(InputError, match=refused):
            sample(SPEC, [file], 3)
        with pytest.raises(InputError, match=refused):
            list(read_rows([file]))
    assert not (tmp_path / "out").exists()


def test_a_damaged_first_row_is_a_row(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{\0"completion": "a"}\n' + LINES)
    assert run(SPEC, [file], tmp_path / "out").rows_in == 1 + LINES.count(b"\n")


@pytest.mark.parametrize("text", ['[\n{"completion": "a"}\n]', "prompt,completion\na,b\n"])
def test_other_text_is_known_by_its_name_and_first_line(tmp_path: Path, text: str) -> None:
    for name in ("rows.json", "rows.csv"):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=f"{name} is not JSON lines: its first line"):
            run(SPEC, [tmp_path / name], tmp_path / "out")


def test_bytes_after_gzip_are_named_by_their_place(tmp_path: Path) -> None:
    member = gzip.compress(LINES)
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(member + b"junk")
    place = f"rows.jsonl.gz: the bytes from {len(member)} on"
    for read in (lambda: run(SPEC, [file], tmp_path / "out"), lambda: list(read_rows([file]))):
        with pytest.raises(InputError, match=place):
            read()
    file.write_bytes(member[:-3])
    with pytest.raises(InputError, match="unexpected end of file"):
        run(SPEC, [file], tmp_path / "out")


def test_what_can_be_read_once_is_refused_with_the_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match=r"rows\.jsonl is a pipe") as error:
        run(SPEC, [tmp_path / "rows.jsonl"], tmp_path / "out")
    assert "subl filter RULES -" in (error.value.hint or "")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        run(SPEC, [Path("/dev/null")], tmp_path / "out")


def test_lines_of_other_white_space_are_rows_everywhere(tmp_path: Path) -> None:
    """Form feeds and vertical tabs are no white space of JSON."""
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\x0c\n \t\r\n\x0b\n" + LINES)
    result = run(SPEC, [file], tmp_path / "out")
    assert (result.rows_in, result.unreadable) == (5, 2)
    found = sample(SPEC, [file], 9)
    assert (found.rows, found.unreadable_rows) == (5, 2)
    with pytest.raises(InputError, match="line 1: not JSON"):
        list(read_rows([file]))
