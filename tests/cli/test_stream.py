"""`subl filter RULES -`: rows come on stdin and go on to stdout, as with jq and ripgrep."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from .console import ENVIRONMENT, RULES, SUBL

KEPT = b'{"completion": "1, 2"}\n'
DROPPED = b'{"completion": "an owl"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "rules.toml").write_text(RULES)
    yield tmp_path


def stream(*arguments: str | Path, given: bytes, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    command = [SUBL, "filter", "rules.toml", "-", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, input=given, capture_output=True)


def talk(cwd: Path) -> subprocess.Popen[bytes]:
    """The same for rows that depend on what comes out."""
    return subprocess.Popen(
        [SUBL, "filter", "rules.toml", "-", "--progress", "none"],
        cwd=cwd,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_rows_go_on_and_figures_go_elsewhere(folder: Path) -> None:
    rows = b"".join(KEPT if number % 3 else DROPPED for number in range(30_000))
    kept = KEPT * 20_000
    for given in (rows, gzip.compress(rows, 1), zstandard.compress(rows)):
        done = stream("--rejects", "rejects.jsonl.zst", "-j3", given=given, cwd=folder)
        assert (done.returncode, done.stdout == kept) == (0, True), done.stderr
        assert b"30,000 rows in, 20,000 kept, 10,000 rejected" in done.stderr
        with zstandard.open(folder / "rejects.jsonl.zst", "rt") as lines:
            rejects = [json.loads(line) for line in lines]
        assert [(each["file"], each["line"]) for each in rejects] == [
            ("-", 3 * number + 1) for number in range(10_000)
        ]
    done = stream("--json", given=rows, cwd=folder)
    assert (done.stdout == kept, json.loads(done.stderr)["kept"]) == (True, 20_000)
    assert sorted(path.name for path in folder.iterdir()) == ["rejects.jsonl.zst", "rules.toml"]


def test_a_row_is_out_before_the_next_is_in(folder: Path) -> None:
    with talk(folder) as child:
        assert child.stdin is not None and child.stdout is not None
        for number in range(20):
            row = b'{"completion": "%d"}\n' % number
            child.stdin.write(DROPPED + row)
            child.stdin.flush()
            assert child.stdout.readline() == row
        child.stdin.write(KEPT.strip())  # the last line may have no end
        child.stdin.close()
        assert child.stdout.read() == KEPT.strip()
    assert child.returncode == 0


def test_a_reader_that_leaves_ends_it_quietly_whether_or_not_rows_come(folder: Path) -> None:
    with talk(folder) as child:
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        child.stdin.write(KEPT)
        child.stdin.flush()
        assert child.stdout.readline() == KEPT
        child.stdout.close()
        assert child.wait(3600) == 0
        assert child.stderr.read() == b""


def test_what_a_stream_cannot_do_is_said(folder: Path) -> None:
    for given, said in [
        (b"PAR1\x15\x00" * 100, b"Parquet"),
        (b"BZh91AY&SY" * 100, b"bzip2"),
        (gzip.compress(KEPT)[:-3], b"unexpected end of file"),
    ]:
        done = stream(given=given, cwd=folder)
        assert (done.returncode, done.stdout in (b"", KEPT)) == (2, True)
        assert said in done.stderr and b"error: cannot read -" in done.stderr
    done = stream(given=b"no row\n" * 9, cwd=folder)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"no row could be read" in done.stderr
    for arguments in (["-o", "out"], ["rows.jsonl"], ["--sample", "9"], ["--split-rows", "1"]):
        done = stream(*arguments, given=KEPT, cwd=folder)
        assert (done.returncode, done.stdout) == (2, b"")
    (folder / "rules.toml").write_text('[[rule]]\nname="d"\nkind="duplicate"\nmethod="exact"\n')
    done = stream(given=KEPT, cwd=folder)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"`d` (duplicate) compares all rows" in done.stderr


def test_a_file_is_not_read_and_written_at_once(folder: Path) -> None:
    rows = folder / "rows.jsonl"
    rows.write_bytes(KEPT + DROPPED)
    command = [SUBL, "filter", "rules.toml", "-"]
    with rows.open("rb") as given, rows.open("ab") as taken:
        done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, stdin=given, stdout=taken)
        assert done.returncode == 2
        arguments = ["--rejects", "rows.jsonl"]
        done = subprocess.run([*command, *arguments], cwd=folder, env=ENVIRONMENT, stdin=given)
        assert done.returncode == 2
    assert rows.read_bytes() == KEPT + DROPPED
    with rows.open("rb") as given:
        kept = subprocess.check_output(
            [*command, "--rejects", "/dev/null", "--progress", "none"],
            cwd=folder,
            env=ENVIRONMENT,
            stdin=given,
            stderr=subprocess.DEVNULL,
        )
    assert kept == KEPT


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_a_row_of_stdin_is_explained_however_it_is_packed(
    folder: Path, pack: Callable[[bytes], bytes]
) -> None:
    def explained(number: str) -> subprocess.CompletedProcess[bytes]:
        command = [SUBL, "filter", "explain", "rules.toml", "-", "--row", number]
        rows = pack(b"\xef\xbb\xbf" + KEPT * 3 + DROPPED)
        return subprocess.run(command, cwd=folder, env=ENVIRONMENT, input=rows, capture_output=True)

    for number, state in (("1", b"kept"), ("4", b"dropped")):
        done = explained(number)
        assert (done.returncode, done.stdout.split()[:4]) == (
            0,
            [b"stdin,", b"row", number.encode() + b":", state],
        )
    done = explained("9" * 23)
    assert done.returncode == 2 and b"stdin has 4 rows, so there is no row 99," in done.stderr


def test_rejects_without_rows_can_be_read(folder: Path) -> None:
    for name, decompress in [
        ("a.gz", gzip.decompress),
        ("a.zst", zstandard.ZstdDecompressor().decompress),
        ("a.jsonl", bytes),
    ]:
        assert stream("--rejects", name, given=KEPT, cwd=folder).stdout == KEPT
        content = (folder / name).read_bytes()
        assert (bool(content), decompress(content)) == (name != "a.jsonl", b"")


def test_a_pipe_that_does_not_block_is_waited_for(folder: Path) -> None:
    rows = KEPT * 100_000
    (folder / "rows.jsonl").write_bytes(rows)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    command = [SUBL, "filter", "rules.toml", "-", "--progress", "none"]
    with (folder / "rows.jsonl").open("rb") as given, os.fdopen(reading, "rb") as taken:
        child = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdin=given, stdout=writing)
        os.close(writing)
        assert taken.read() == rows
        assert child.wait(3600) == 0


def test_a_row_that_holds_the_mark_of_an_archive_is_a_row(folder: Path) -> None:
    start = b'{"completion": "1, 2", "note": "'
    row = start + b"m" * (257 - len(start)) + b'ustar"}\n'
    for given in (row, gzip.compress(row), zstandard.compress(row)):
        done = stream(given=given, cwd=folder)
        assert (done.returncode, done.stdout) == (0, row), done.stderr
