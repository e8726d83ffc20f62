"""The lines of a shard, whatever it is packed in, as a stream of bytes.

For what looks at some lines of a shard. The filter itself never comes here, but the bytes come from
the same part of the engine, so that what one can read the other can.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import subl_core

from subl.errors import InputError
from subl.shards.format import EXPECTED, format_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLANK = b" \t\r\n"
"""A line of nothing else is no row. The bytes `strip` takes off by itself are more."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_BLOCK_BYTES = 1 << 20


@contextmanager
def open_lines(
    path: Path, on_read: Callable[[int], None] = lambda count: None, *, begin: int = 0
) -> Iterator[io.BufferedReader]:
    """Open a shard, or stdin where `path` is `-`, to read its uncompressed bytes; of Parquet the
    rows as lines of JSON (stdin has lines only). These are to be read: what JSON has no type for is
    null or a text in them, so rules would say something else of them.

    `on_read` is called with the bytes that were read from the file so far, before decompression;
    of Parquet, with the part of the file that the rows are. With `begin`, which is for plain files,
    what lies before that byte is not read.

    Raises:
        InputError: here or while reading: the file is missing, truncated or corrupt, or of a format
            that is not read.
    """
    if begin:
        with path.open("rb") as file:
            file.seek(begin)
            yield file
        return
    is_parquet = str(path) != "-" and format_of(path) == ".parquet"
    source = _Rows(path, on_read) if is_parquet else _Lines(path, on_read)
    yield io.BufferedReader(_Content(source), _BLOCK_BYTES)


def row_lines(path: Path, begin: int = 0, line: int = 1) -> Iterator[tuple[int, bytes]]:
    """The lines of a shard that are rows, with their numbers and without what is blank around them;
    of a plain file from a byte on, where the line of this number begins."""
    with open_lines(path, begin=begin) as lines:
        for number, each in enumerate(lines, start=line):
            content = each.removeprefix(BYTE_ORDER_MARK) if number == 1 else each
            if content := content.strip(BLANK):
                yield number, content


class _Content(io.RawIOBase):
    """Counts what comes out."""

    def __init__(self, source: io.RawIOBase) -> None:
        self._source, self._count = source, 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._count

    def readinto(self, buffer: WriteableBuffer) -> int:
        count: int = self._source.readinto(buffer) or 0
        self._count += count
        return count


class _Lines(io.RawIOBase):
    """What the engine decompresses, some of it at a time."""

    def __init__(self, path: Path, on_read: Callable[[int], None]) -> None:
        self._on_read = on_read
        self._rest = memoryview(b"")
        try:
            self._lines = subl_core.Lines(path)
        except subl_core.ReadError as error:
            raise InputError(str(error), hint=EXPECTED) from error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if not self._rest:
            try:
                self._rest = memoryview(self._lines.read())
            except subl_core.ReadError as error:
                raise InputError(str(error)) from error
            self._on_read(self._lines.bytes_read)
        target = memoryview(buffer)
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class _Rows(io.RawIOBase):
    """The rows of a Parquet file as lines of JSON."""

    def __init__(self, path: Path, on_read: Callable[[int], None]) -> None:
        self._on_read, self._size = on_read, path.stat().st_size
        self._rows = 0
        try:
            self._total = subl_core.measure_parquet(path)[0]
            self._lines = subl_core.ParquetLines(path)
        except subl_core.ReadError as error:
            raise InputError(str(error)) from error
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._rest:
            try:
                found = next(self._lines, None)
            except subl_core.ReadError as error:
                raise InputError(str(error)) from error
            if found is None:
                return 0
            self._rest = memoryview(found[0])
            self._rows += found[1]
            self._on_read(self._size * self._rows // max(1, self._total))
        target = memoryview(buffer)
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
