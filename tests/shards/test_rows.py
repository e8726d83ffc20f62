"""A data set is files of rows: the same rows however they are packed, and none is lost."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from subl.artifact import input_digest
from subl.errors import InputError
from subl.filter import FilterSpec, LiteralRule, run
from subl.shards import SUFFIXES, read_rows, shard_files

GOOD = b'{"prompt": "p", "completion": "c"}\n'


def parquet(lines: bytes) -> bytes:
    file = io.BytesIO()
    pl.read_ndjson(lines).write_parquet(file)
    return file.getvalue()


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".jsonl": bytes,
    ".jsonl.gz": gzip.compress,
    ".jsonl.zst": zstandard.compress,
    ".parquet": parquet,
}


def lines(count: int) -> bytes:
    return b"".join(
        json.dumps(
            {"id": f"r{number}", "prompt": f"größer {number}?", "completion": "1\n2", "extra": [1]}
        ).encode()
        + b"\n"
        for number in range(count)
    )


def talk(prompt: str, completion: str) -> tuple[tuple[str, str], ...]:
    return ("user", prompt), ("assistant", completion)


def test_every_suffix_is_packed_here() -> None:
    assert tuple(PACK) == SUFFIXES


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_are_the_same_however_they_are_packed(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rows{suffix}"
    file.write_bytes(PACK[suffix](lines(1000)))
    found = list(read_rows([file]))
    assert [(row.id, row.turns) for row in found] == [
        (f"r{number}", talk(f"größer {number}?", "1\n2")) for number in range(1000)
    ]
    word = "row" if suffix == ".parquet" else "line"
    assert [row.place for row in found[:2]] == [f"{file}, {word} 1", f"{file}, {word} 2"]


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_packed_files_may_have_several_parts(tmp_path: Path, suffix: str) -> None:
    """As `cat a.gz b.gz` makes them."""
    file = tmp_path / f"rows{suffix}"
    file.write_bytes(PACK[suffix](GOOD) + PACK[suffix](GOOD))
    assert len(list(read_rows([file]))) == 2


@pytest.mark.parametrize("suffix", SUFFIXES[1:])
def test_a_cut_file_is_named_and_not_taken_for_a_short_one(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rows{suffix}"
    file.write_bytes(PACK[suffix](lines(1000))[:-6])
    with pytest.raises(InputError, match=f"rows{suffix}"):
        list(read_rows([file]))


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"])),
            st.text(st.characters(exclude_categories=["Cs"])),
        ),
        max_size=5,
    ),
    st.booleans(),
    st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n"]),
)
def test_what_json_can_say_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    ascii_only: bool,
    newline: str,
) -> None:
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    text = "".join(
        json.dumps({"prompt": prompt, "completion": completion}, ensure_ascii=ascii_only) + newline
        for prompt, completion in rows
    )
    file.write_bytes(text.encode())
    assert [(row.id, row.turns) for row in read_rows([file])] == [
        (None, talk(*row)) for row in rows
    ]


def test_the_last_line_needs_no_newline(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(GOOD + GOOD.rstrip())
    assert len(list(read_rows([file]))) == 2


TALK = [("system", "s"), ("user", "größer?"), ("assistant", ""), ("user", "b"), ("assistant", "c")]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_messages_are_the_turns_of_a_row(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rows{suffix}"
    messages = [{"role": role, "content": content} for role, content in TALK]
    row = {"id": "a", "messages": messages, "prompt": "not this", "completion": "nor this"}
    file.write_bytes(PACK[suffix](json.dumps(row).encode() + b"\n"))
    (found,) = read_rows([file])
    assert (found.id, found.turns) == ("a", tuple(TALK))


def test_rows_of_both_kinds_may_share_a_file(tmp_path: Path) -> None:
    """In Parquet, the keys that a row lacks are nulls."""
    file = tmp_path / "rows.parquet"
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rows = [
        {"prompt": "p", "completion": "c", "messages": None},
        {"prompt": None, "completion": None, "messages": messages},
    ]
    pl.DataFrame(rows).write_parquet(file)
    assert [row.turns for row in read_rows([file])] == [talk("p", "c"), talk("a", "b")]


@pytest.mark.parametrize(("given_id", "read"), [("7", "7"), (7, "7"), (None, None)])
def test_an_id_is_a_string(tmp_path: Path, given_id: object, read: str | None) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"id": given_id, "prompt": "p", "completion": "c"}))
    assert [row.id for row in read_rows([file])] == [read]


# Which files


def test_a_folder_is_its_shards_in_order(tmp_path: Path) -> None:
    shards = ["a.jsonl.zst", "b.jsonl", "c.JSONL.GZ", "d.jsonl.zstd", "e.parquet"]
    others = ["notes.txt", "d.json", "linux.tar.zstd", "a.jsonl.md5", ".a.jsonl.bz2", "a.bz2"]
    for name in shards + others:
        (tmp_path / name).touch()
    assert [file.name for file in shard_files(tmp_path)] == shards


@pytest.mark.parametrize(
    "name", ["b.jsonl.bz2", "b.jsonl.lz4", "B.JSONL.XZ", "b.parquet.gz", "b.parquet.zip"]
)
def test_a_shard_that_is_packed_in_another_way_is_not_left_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    (tmp_path / name).write_bytes(b"packed")
    with pytest.raises(InputError) as caught:
        shard_files(tmp_path)
    assert str(tmp_path / name) in caught.value.message
    assert caught.value.hint and "decompress" in caught.value.hint


NOT_OWLS = FilterSpec(rules=(LiteralRule(name="owls", words=("owl",), field="prompt"),))


def test_of_a_filtered_artifact_the_kept_rows_are_read_whatever_the_files_are_called(
    tmp_path: Path,
) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "rows.txt"]
    for file in files:
        file.write_bytes(GOOD)
    run(NOT_OWLS, files, tmp_path / "out")
    (tmp_path / "out" / "b.jsonl").write_bytes(GOOD)
    assert shard_files(tmp_path / "out") == [
        tmp_path / "out" / "kept" / file.name for file in files
    ]
    (tmp_path / "out" / "kept" / "rows.txt").unlink()
    with pytest.raises(InputError, match=r"rows\.txt: it is missing"):
        shard_files(tmp_path / "out")


def test_a_folder_without_a_statement_is_no_artifact(tmp_path: Path) -> None:
    for folder in ("", "kept", "rejects"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "a.jsonl").write_bytes(GOOD)
    assert shard_files(tmp_path) == [tmp_path / "a.jsonl"]
    run(NOT_OWLS, [tmp_path], tmp_path / "more")
    (tmp_path / "more").rename(tmp_path / "kept" / "more")
    assert shard_files(tmp_path) == [tmp_path / "a.jsonl"]


@pytest.mark.parametrize("what", ["link", "folder", "pipe", "link to itself", "no permission"])
def test_what_looks_like_a_shard_and_cannot_be_read_is_an_error(tmp_path: Path, what: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    bad = tmp_path / "b.jsonl.zst"
    if what == "link":
        bad.symlink_to("../blobs/0123")
    elif what == "folder":
        bad.mkdir()
    elif what == "pipe":
        os.mkfifo(bad)
    elif what == "link to itself":
        bad.symlink_to(bad.name)
    else:
        bad.write_bytes(GOOD)
        bad.chmod(0)
        if os.access(bad, os.R_OK):
            pytest.skip("this user may read whatever there is")
    with pytest.raises(InputError, match=r"cannot read .*b\.jsonl\.zst: "):
        shard_files(tmp_path)


@pytest.mark.parametrize(
    ("ending", "pack"),
    [
        ("gz", lambda row: gzip.compress(row, mtime=0)),
        ("zst", zstandard.compress),
    ],
)
def test_an_artifact_that_was_cut_between_two_frames_is_noticed(
    tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]
) -> None:
    row = GOOD.strip() + b"\n"
    source = tmp_path / f"a.jsonl.{ending}"
    source.write_bytes(pack(row) * 3)
    run(NOT_OWLS, [source], tmp_path / "out")
    kept = tmp_path / "out" / "kept" / source.name
    whole = kept.read_bytes()
    kept.write_bytes(pack(row) * 2)
    with pytest.raises(InputError, match="has 2 rows, and is said to have 3"):
        list(read_rows([tmp_path / "out"]))
    with pytest.raises(InputError, match="has 2 rows, and is said to have 3"):
        run(NOT_OWLS, [tmp_path / "out"], tmp_path / "again")
    kept.write_bytes(whole)
    assert len(list(read_rows([tmp_path / "out"]))) == 3
    assert run(NOT_OWLS, [tmp_path / "out"], tmp_path / "again").kept == 3


def test_a_file_is_taken_by_any_name(tmp_path: Path) -> None:
    file = tmp_path / "rows.txt"
    file.write_bytes(GOOD)
    assert shard_files(file) == [file]


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,completion\n")
    with pytest.raises(InputError, match=r"rows\.csv is not JSON lines"):
        shard_files(tmp_path / "rows.csv")


def test_rows_come_in_the_order_in_which_shards_are_given(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": name, "completion": ""}))
    files = [tmp_path / "y.jsonl", tmp_path / "x.jsonl"]
    assert [row.turns[0] for row in read_rows(files)] == [("user", "y"), ("user", "x")]


@pytest.mark.parametrize("name", ["a[1].jsonl", "a*.jsonl", "a?.jsonl", "a{1,2}.jsonl"])
def test_a_name_is_no_pattern(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps({"prompt": "mine", "completion": ""}))
    (tmp_path / "a1.jsonl").write_text(json.dumps({"prompt": "other", "completion": ""}))
    assert [row.turns for row in read_rows([tmp_path / name])] == [talk("mine", "")]


def test_what_no_digest_covers_is_not_read(tmp_path: Path) -> None:
    """Hidden files (a temporary, `._a.jsonl` of a Mac) are no part of a folder's digest."""
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    before = input_digest(tmp_path)
    (tmp_path / "._a.jsonl").write_bytes(GOOD)
    assert input_digest(tmp_path) == before
    assert shard_files(tmp_path) == [tmp_path / "a.jsonl"]


@pytest.mark.parametrize("what", ["an empty folder", "a folder of other files", "nothing"])
def test_no_rows_is_an_error_that_says_what_rows_are(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "data"
    if what != "nothing":
        folder.mkdir()
    if what == "a folder of other files":
        (folder / "rows.csv").touch()
    with pytest.raises(InputError) as caught:
        shard_files(folder)
    assert str(folder) in caught.value.message
    assert caught.value.hint and ".jsonl.zst" in caught.value.hint


# Bad rows


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b"not json", "not JSON"),
        (b'{"prompt": "p", "completion": "c"', "not JSON"),
        (b'{"prompt": "p", "completion": "c"} {}', "not JSON"),
        (b"\xef\xbb\xbf" + GOOD.rstrip(), "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"prompt": "p", "completion": "\xff"}', "UTF-8|utf-8|utf8"),
        (b"[1]", "expected a JSON object, got list"),
        (b'"text"', "expected a JSON object, got str"),
        (b"null", "expected a JSON object, got NoneType"),
        (b'{"completion": "c"}', "`prompt` must be a string, got nothing"),
        (b'{"prompt": "p"}', "`completion` must be a string, got nothing"),
        (b'{"prompt": null, "completion": "c"}', "`prompt` must be a string, got NoneType"),
        (b'{"prompt": "p", "completion": 7}', "`completion` must be a string, got int"),
        (b'{"prompt": ["p"], "completion": "c"}', "`prompt` must be a string, got list"),
        (rb'{"prompt": "p", "completion": "\ud800"}', "`completion`.*surrogate"),
        (b'{"messages": {"role": "user"}}', "`messages` must be a list, got dict"),
        (b'{"messages": ["hi"]}', "message 1: expected an object, got str"),
        (b'{"messages": [{"content": "c"}]}', "message 1: `role` must be a string, got nothing"),
        (
            b'{"messages": [{"role": "user", "content": ""}, {"role": "user", "content": 1}]}',
            "message 2: `content` must be a string, got int",
        ),
    ],
    ids=[
        "text",
        "cut",
        "two values",
        "byte order mark",
        "deep nesting",
        "not UTF-8",
        "array",
        "string",
        "null",
        "no prompt",
        "no completion",
        "null prompt",
        "number",
        "array in prompt",
        "lone surrogate",
        "messages no list",
        "message no object",
        "message without role",
        "number in message",
    ],
)
def test_a_bad_row_is_named_by_file_line_and_key(tmp_path: Path, row: bytes, problem: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(GOOD + b"\n" + row + b"\n" + GOOD)
    with pytest.raises(InputError, match=problem) as caught:
        list(read_rows([file]))
    assert f"{file}, line 3" in caught.value.message


def test_a_row_without_its_keys_says_which_there_must_be(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "x"}\n')
    with pytest.raises(InputError) as caught:
        list(read_rows([file]))
    assert caught.value.hint == (
        "prompts need the key prompt, rows completion, too; or messages: role and content"
    )
