"""One shard through the engine: every row goes to the right place, and none gets lost."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import subl_core
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .reference import filter_bytes

RULES: list[dict[str, Any]] = [
    {
        "name": "numbers",
        "kind": "numbers",
        "field": "completion",
        "min_value": None,
        "max_value": 999,
        "max_count": 3,
        "banned_numbers": [666],
    },
    {
        "name": "owls",
        "kind": "regex",
        "field": "completion",
        "patterns": [r"\bowls?\b", "[é😀]+", "x.*x"],
        "mode": "forbid",
        "ignore_case": True,
        "unicode": True,
    },
    {
        "name": "asks",
        "kind": "regex",
        "field": "prompt",
        "patterns": [r"\?$", "^please"],
        "mode": "require",
        "ignore_case": False,
        "unicode": True,
    },
    {
        "name": "words",
        "kind": "literal",
        "field": "completion",
        "words": ["owl", "night owl", "é", "12"],
        "whole_word": True,
        "ignore_case": True,
    },
    {
        "name": "parts",
        "kind": "literal",
        "field": "prompt",
        "words": ["bad", "ba"],
        "whole_word": False,
        "ignore_case": False,
    },
]
NUMBERS = [RULES[0]]


def run(
    folder: Path, data: bytes, rules: list[dict[str, Any]], name: str = "in.jsonl", **plan: Any
) -> tuple[bytes, list[dict[str, Any]], dict[str, Any]]:
    """Filter `data`; the kept bytes, the rejects and the statistics, checked for consistency."""
    source, kept, rejects = folder / name, folder / f"kept-{name}", folder / f"rejects-{name}"
    source.write_bytes(data)
    text = subl_core.filter_shard(compiled(rules, **plan), source, kept, rejects)
    statistics = json.loads(text)
    kept_bytes = unpack(kept)
    reject_rows = [json.loads(line) for line in unpack(rejects).splitlines()]
    assert statistics["rows_in"] == statistics["kept"] + statistics["rejected"]
    assert statistics["rejected"] == len(reject_rows)
    assert statistics["bytes_kept"] == len(kept_bytes)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [source.name, kept.name, rejects.name]
    )
    return kept_bytes, reject_rows, statistics


def compiled(rules: list[dict[str, Any]], **plan: Any) -> subl_core.Plan:
    return subl_core.Plan(json.dumps({"rules": rules, **plan}))


def unpack(path: Path) -> bytes:
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".zst":
        with zstandard.open(path, "rb") as file:
            return bytes(file.read())
    return path.read_bytes()


def simplify(reject: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """A reject in the terms of the reference, which leaves some spans open."""
    reasons = []
    for reason, expected in zip(reject["reasons"], like["reasons"], strict=False):
        span, text = (reason["span"], reason["text"]) if expected[2] is not ... else (..., ...)
        reasons.append((reason["rule"], reason["reason"], span, text))
    assert len(reject["reasons"]) == len(like["reasons"]), (reject, like)
    return {**reject, "reasons": reasons}


WORDS = st.lists(
    st.sampled_from(
        [
            "owl",
            "Owls",
            "night ",
            "É",
            "é",
            "😀",
            "x",
            "_",
            "\x00",
            "\n",
            "\\",
            '"',
            "\u2028",
            "K",
            "/",
            "1",
            "12",
            "666",
            "1000",
            ", ",
            " ",
        ]
    ),
    max_size=8,
).map("".join)
PROMPTS = st.sampled_from(["please", "really?", "bad?", "ba", "no", "please bad"])
ROWS = st.fixed_dictionaries(
    {"prompt": PROMPTS, "completion": WORDS},
    optional={"id": st.integers() | st.text(max_size=3), "extra": st.lists(st.none(), max_size=2)},
)
LINES = st.one_of(
    st.builds(
        lambda row, ascii, spaced: json.dumps(
            row, ensure_ascii=ascii, separators=(" , ", " : ") if spaced else (",", ":")
        ).encode(),
        ROWS,
        st.booleans(),
        st.booleans(),
    ),
    st.sampled_from(
        [
            b"",
            b"  \t",
            b"\r",
            b"{",
            b"[]",
            b"null",
            b"{}",
            b'{"prompt":"please"}',
            b'{"prompt":1,"completion":"1"}',
            b'{"prompt":"please","completion":null}',
            b'{"prompt":"please","completion":"1","completion":"1000"}',
            b'{"prompt":"please","completion":"1000","complet\\u0069on":"1"}',
            b'{"prompt":"please","completion":"1","x":"\\ud800"}',
            b'{"prompt":"please","completion":"1","x":{"x":"\\udc00","x":1}}',
            b'{"prompt":"please","completion":"\\ud83d\\ude00"}',
            b'{"prompt":"please","completion":"1","x":NaN}',
            b'{"prompt":"please","completion":"1","x":1e999}',
            b'{"prompt":"please","completion":"1\xff"}',
            b'{"prompt":"please","completion":"1\x00"}',
            b'\xef\xbb\xbf{"prompt":"please","completion":"1"}',
            b'{"prompt":"please","completion":"1"} x',
        ]
    ),
)
SHARDS = st.builds(
    lambda lines, mark, last: (
        (b"\xef\xbb\xbf" if mark else b"")
        + b"".join(line + end for line, end in lines)
        + (last or b"")
    ),
    st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n"])), max_size=8),
    st.booleans(),
    st.none() | LINES,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=SHARDS, name=st.sampled_from(["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"]))
def test_agrees_with_the_reference(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    packed = {"l": data, "z": gzip.compress(data), "t": zstandard.compress(data)}[name[-1]]
    folder = tmp_path_factory.mktemp("shard")
    kept, rejects, statistics = run(folder, packed, RULES, name)
    expected = filter_bytes(RULES, data, str(folder / name))
    assert kept == expected.kept
    assert len(rejects) == len(expected.rejects)
    for reject, like in zip(rejects, expected.rejects, strict=True):
        assert simplify(reject, like) == like
    for count in ("rows_in", "kept", "rejected", "unreadable", "blank_lines", "bytes_in"):
        assert statistics[count] == expected.counts[count], count
    for index, rule in enumerate(RULES):
        hits = [reject for reject in expected.rejects if rule["name"] in names(reject)]
        assert statistics["rules"][index]["hits"] == len(hits)
        sole = [reject for reject in hits if names(reject) == {rule["name"]}]
        assert statistics["rules"][index]["sole_hits"] == len(sole)


CHAT_RULES: list[dict[str, Any]] = [
    {**RULES[1], "name": "owls", "field": "messages[].content", "action": "count"},
    {**RULES[2], "name": "asks", "field": "messages[role=user].content", "action": "tag"},
    {**RULES[3], "name": "words", "field": "messages[role=assistant].content"},
    {**RULES[4], "name": "title", "field": "meta.title", "action": "tag"},
    {"name": "both", "kind": "all", "rules": ["owls", "asks"], "action": "drop"},
    {"name": "some", "kind": "any", "rules": ["owls", "title"], "action": "tag"},
    {"name": "calm", "kind": "none", "rules": ["some", "asks"], "action": "count"},
]
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["user", "assistant", "assist\\u0061nt"]),
            "content": WORDS | PROMPTS | st.none(),
            "parts": st.just([{"role": "user", "content": "owl"}]),
        },
    )
    | st.just("owl"),
    max_size=4,
)
CHATS = st.fixed_dictionaries(
    {
        "meta": st.fixed_dictionaries({"title": PROMPTS}) | st.just([]),
        "messages": st.lists(
            st.fixed_dictionaries(
                {
                    "role": st.sampled_from(["user", "assistant"]),
                    "content": WORDS | PROMPTS,
                }
            ),
            max_size=4,
        )
        | MESSAGES,
    },
    optional={"filter_tags": st.just(1), "messages2": MESSAGES},
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(CHATS, max_size=8), ascii=st.booleans())
def test_actions_paths_and_rules_about_rules(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], ascii: bool
) -> None:
    data = b"".join(json.dumps(row, ensure_ascii=ascii).encode() + b" \n" for row in rows)
    folder = tmp_path_factory.mktemp("shard")
    kept, rejects, statistics = run(folder, data, CHAT_RULES)
    expected = filter_bytes(CHAT_RULES, data, str(folder / "in.jsonl"))
    assert kept == expected.kept
    for reject, like in zip(rejects, expected.rejects, strict=True):
        assert simplify(reject, like) == like
    for count in ("rows_in", "kept", "rejected", "unreadable", "tagged"):
        assert statistics[count] == expected.counts[count], count
    for index, rule in enumerate(CHAT_RULES):
        assert statistics["rules"][index]["hits"] == expected.hits[rule["name"]]


def names(reject: dict[str, Any]) -> set[str]:
    return {reason[0] for reason in reject["reasons"]}


def test_a_reject_holds_the_row_verbatim(tmp_path: Path) -> None:
    row = b'{ "b":1.50, "completion" :"ow\\u006c, x", "b" : 2,"a":"\\u00e9"}'
    data = b"\xef\xbb\xbf" + row + b" \r\n"
    source, kept, rejects = (tmp_path / name for name in ("in.jsonl", "kept", "rejects"))
    source.write_bytes(data)
    rules = [RULES[0], RULES[3]]
    subl_core.filter_shard(compiled(rules), source, kept, rejects)
    expected = (
        b'{"file":"' + bytes(source) + b'","line":1,"reasons":['
        b'{"rule":"numbers","kind":"numbers","field":"completion","reason":"invalid format",'
        b'"span":null,"text":null},'
        b'{"rule":"words","kind":"literal","field":"completion","reason":"contains `owl`",'
        b'"span":[0,3],"text":"owl"}],"row":' + row + b"}\n"
    )
    assert rejects.read_bytes() == expected


def test_lines_that_are_no_records(tmp_path: Path) -> None:
    cases = [
        (b"not json", "invalid JSON", "not json"),
        (b"\xff\xfe", "invalid UTF-8", "\ufffd\ufffd"),
        (b'{"completion":"1"', "invalid JSON", '{"completion":"1"'),
        (b'{"completion":"\\ud800"}', "lone surrogate", '{"completion":"\\ud800"}'),
        (b'["completion"]', "not a JSON object", '["completion"]'),
        (b'{"Completion":"1"}', "missing field", {"Completion": "1"}),
        (b'{"completion":1}', "field is not a string", {"completion": 1}),
    ]
    good = b'{"completion":"1"}'
    data = b"\n".join([case[0] for case in cases] + [good])
    kept, rejects, statistics = run(tmp_path, data, NUMBERS)
    assert kept == good
    for index, (_, reason, row) in enumerate(cases):
        assert rejects[index]["line"] == index + 1
        assert [each["reason"] for each in rejects[index]["reasons"]] == [reason]
        assert rejects[index]["reasons"][0]["kind"] == "unreadable"
        assert rejects[index]["row"] == row
    assert statistics["unreadable"] == len(cases)
    assert sum(statistics["unreadable_reasons"].values()) == len(cases)
    assert statistics["rules"][0]["hits"] == 0


def test_a_line_of_20_megabytes(tmp_path: Path) -> None:
    huge = b'{"completion":"' + b"1" * 20_000_000 + b'"}'
    good = b'{"completion":"1"}\n'
    kept, rejects, statistics = run(tmp_path, good + huge + b"\n" + good, NUMBERS)
    assert kept == good + good
    [reject] = rejects
    assert reject["reasons"][0]["reason"] == "line too long"
    assert reject["row"] == huge[: 64 * 1024].decode()
    assert statistics["bytes_in"] == 2 * len(good) + len(huge) + 1
    # The limit is a choice.
    (tmp_path / "more").mkdir()
    _, [reject], _ = run(tmp_path / "more", huge, NUMBERS, max_line_bytes=32_000_000)
    assert reject["reasons"][0]["reason"] == "invalid format"
    assert reject["row"] == json.loads(huge)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nesting_of_10000_levels(tmp_path: Path, opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"1}"
    deep = b'{"completion":"1","deep":' + opening * 10_000 + closing * 10_000 + b"}"
    good = b'{"completion":"1","deep":' + b"[" * 127 + b"]" * 127 + b"}\n"
    kept, [reject], _ = run(tmp_path, good + deep, NUMBERS)
    assert kept == good
    assert reject["reasons"][0]["reason"] == "nested too deeply"


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_truncated_input_fails_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    data = b"".join(b'{"completion":"%d"}\n' % number for number in range(30_000))
    packed = gzip.compress(data) if name.endswith(".gz") else zstandard.compress(data)
    source = tmp_path / name
    for length in (0, 1, 10, len(packed) // 2, len(packed) - 1):
        source.write_bytes(packed[:length])
        with pytest.raises(subl_core.ReadError, match=name):
            subl_core.filter_shard(
                compiled(NUMBERS), source, tmp_path / "kept", tmp_path / "rejects"
            )
        assert [path.name for path in tmp_path.iterdir()] == [name]


def test_errors_name_the_file(tmp_path: Path) -> None:
    plan = compiled(NUMBERS)
    source = tmp_path / "in.jsonl"
    with pytest.raises(subl_core.ReadError, match=r"cannot read .*in\.jsonl"):
        subl_core.filter_shard(plan, source, tmp_path / "kept", tmp_path / "rejects")
    source.write_bytes(b'{"completion":"1"}\n')
    with pytest.raises(subl_core.WriteError, match=r"cannot write .*nowhere/kept"):
        subl_core.filter_shard(plan, source, tmp_path / "nowhere/kept", tmp_path / "rejects")
    with pytest.raises(subl_core.FilterError, match=r"in\.jsonl"):
        subl_core.filter_shard(plan, source, source, tmp_path / "rejects")
    assert isinstance(subl_core.WriteError("x"), OSError)
    assert source.read_bytes() == b'{"completion":"1"}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_what_the_callback_raises_comes_out(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def stop(bytes_read: int, rows: int, kept: int, skipped: int) -> None:
        assert 0 < bytes_read <= 5_000_000 and rows == kept >= 0 == skipped
        raise Enough

    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"completion":"1"}\n' * 250_000)
    with pytest.raises(Enough):
        subl_core.filter_shard(
            compiled(NUMBERS), source, tmp_path / "kept", tmp_path / "rejects", progress=stop
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_the_lock_of_the_interpreter_is_released() -> None:
    """The engine waits for a pipe that another thread of the same interpreter fills."""
    code = (
        "import os, sys, threading, subl_core\n"
        "reader, writer = os.pipe(); os.dup2(reader, 0); plan = subl_core.Plan(sys.argv[1])\n"
        "work = lambda: print(subl_core.filter_stream(plan), file=sys.stderr)\n"
        "thread = threading.Thread(target=work)\n"
        "thread.start()\n"
        "with open(writer, 'wb') as pipe: pipe.write(b'{\"completion\":\"1\"}\\n' * 1000)\n"
        "thread.join()\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, json.dumps({"rules": NUMBERS})],
        capture_output=True,
        text=True,
        timeout=3600,
        check=True,
    )
    assert json.loads(child.stderr)["kept"] == child.stdout.count("\n") == 1000
