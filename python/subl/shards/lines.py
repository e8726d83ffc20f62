"""The lines of a shard, whatever it is packed in, as a stream of bytes.

For what looks at some lines of a shard. The filter itself never comes here.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import subl_core

from subl.errors import InputError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")

_BLOCK_BYTES = 1 << 20

_FRAME_BLOCK_BYTES = 16 << 10
"""What is decompressed at a time: what comes out is held, and may be much more."""


@contextmanager
def open_lines(
    path: Path, on_read: Callable[[int], None] = lambda count: None
) -> Iterator[io.BufferedReader]:
    """Open a shard (plain, `.gz`, `.zst`) to read its uncompressed bytes; of `.parquet` the rows as
    lines of JSON. These are to be read: what JSON has no type for is null or a text in them, so
    rules would say something else of them.

    `on_read` is called with the bytes that were read from the file so far, before decompression;
    of Parquet, with the part of the file that the rows are.

    Raises:
        InputError: here or while reading: the file is missing, truncated or corrupt.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}",
            hint=f"give a file that ends in {', '.join(SUFFIXES)}",
        ) from error
    with file:
        raw = _Watched(file, on_read)
        source: io.RawIOBase | gzip.GzipFile = raw
        if path.name.endswith(".gz"):
            source = gzip.GzipFile(fileobj=io.BufferedReader(raw, _BLOCK_BYTES))
        elif path.name.endswith(".zst"):
            source = _Frames(raw)
        elif path.name.endswith(".parquet"):
            try:
                source = _Rows(path, on_read)
            except subl_core.FilterError as error:
                raise InputError(str(error)) from error
        yield io.BufferedReader(_Content(path, source), _BLOCK_BYTES)


class _Content(io.RawIOBase):
    """Counts what comes out, and names the file where nothing does."""

    def __init__(self, path: Path, source: io.RawIOBase | gzip.GzipFile) -> None:
        self._path, self._source, self._count = path, source, 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._count

    def readinto(self, buffer: WriteableBuffer) -> int:
        try:
            count = self._source.readinto(buffer) or 0
        except (EOFError, OSError, zlib.error, _CorruptError) as error:
            raise InputError(f"cannot read {self._path}: {error}") from error
        self._count += count
        return count


class _CorruptError(Exception):
    """Says what is wrong with a compressed file."""


class _Watched(io.RawIOBase):
    """Reads from a file and tells how much."""

    def __init__(self, file: IO[bytes], on_read: Callable[[int], None]) -> None:
        self._file, self._on_read, self._count = file, on_read, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        data = self._file.read(len(memoryview(buffer)))
        memoryview(buffer)[: len(data)] = data
        self._count += len(data)
        self._on_read(self._count)
        return len(data)


class _Rows(io.RawIOBase):
    """The rows of a Parquet file as lines of JSON."""

    def __init__(self, path: Path, on_read: Callable[[int], None]) -> None:
        self._on_read, self._size = on_read, path.stat().st_size
        self._total, self._rows = subl_core.measure_parquet(path)[0], 0
        self._lines = subl_core.ParquetLines(path)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._rest:
            found = next(self._lines, None)
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


class _Frames(io.RawIOBase):
    """The content of Zstandard frames, one after another.

    The reader of the zstandard package takes a file that ends in the middle of a frame for one
    that is complete.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        import zstandard

        self._file = file
        self._error = zstandard.ZstdError
        self._new = zstandard.ZstdDecompressor().decompressobj
        self._frame = self._new()
        self._inside = False
        self._rest = b""
        self._content = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._content and self._advance():
            pass
        target = memoryview(buffer)
        count = min(len(target), len(self._content))
        target[:count] = self._content[:count]
        self._content = self._content[count:]
        return count

    def _advance(self) -> bool:
        """Decompress a little more. False at the end of the file."""
        data = self._rest or self._file.read(_FRAME_BLOCK_BYTES) or b""
        self._rest = b""
        if not data:
            if self._inside:
                raise _CorruptError("it is truncated")
            return False
        try:
            self._content = memoryview(self._frame.decompress(data))
        except self._error as error:
            raise _CorruptError(str(error)) from error
        self._inside = not self._frame.eof
        if self._frame.eof:
            self._rest = self._frame.unused_data
            self._frame = self._new()
        return True
