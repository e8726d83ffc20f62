"""The bytes of a shard are the same however it is compressed; what is cut off is said."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from subl.errors import InputError
from subl.shards import open_lines


def compressed(name: str, parts: list[bytes]) -> bytes:
    """As one file of several frames or members."""
    if name.endswith(".gz"):
        return b"".join(gzip.compress(part, 1) for part in parts)
    if name.endswith(".zst"):
        return b"".join(zstandard.compress(part) for part in parts)
    return b"".join(parts)


NAMES = ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"]


@pytest.mark.parametrize("name", NAMES)
@given(
    parts=st.lists(st.binary(max_size=40), min_size=1, max_size=4), repeat=st.integers(1, 20_000)
)
def test_the_content_in_lines(
    tmp_path_factory: pytest.TempPathFactory, name: str, parts: list[bytes], repeat: int
) -> None:
    file = tmp_path_factory.mktemp("lines") / name
    parts = [b'{"', *(part * repeat for part in parts)]  # the first bytes may say another format
    file.write_bytes(compressed(name, parts))
    read = 0

    def on_read(count: int) -> None:
        nonlocal read
        read = count

    with open_lines(file, on_read) as lines:
        found = list(lines)
        assert lines.tell() == sum(map(len, parts))
    assert b"".join(found) == b"".join(parts)
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in found[:-1])
    assert read == file.stat().st_size


@pytest.mark.parametrize("name", NAMES[1:])
@pytest.mark.parametrize("harm", ["truncated", "changed"])
def test_a_broken_file_is_named(tmp_path: Path, name: str, harm: str) -> None:
    data = compressed(name, [b"one\n" * 1000, bytes(range(256)) * 1000])
    middle = len(data) - 300
    broken = data[:middle] if harm == "truncated" else b"nonsense" + data
    (tmp_path / name).write_bytes(broken)
    with pytest.raises(InputError, match=f"cannot read .*{name}"), open_lines(tmp_path / name) as f:
        f.read()


def test_a_missing_file(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"no\.jsonl: No such file"),
        open_lines(tmp_path / "no.jsonl"),
    ):
        pass
