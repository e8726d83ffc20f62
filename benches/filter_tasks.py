r"""What the filter benchmarks measure: tasks, and the systems that do each of them.

The idea to know: a task's first run is subl's, and the others do the same work on the same bytes.
Tasks of the engine call `subl_core.filter_shard` and the libraries of the peers; each kind of rows
also has the C floor. Tasks of the command are processes, as a person would type them, with the
engine alone between them: what the command takes on top of it is files, digests and starting.

Rules are 10 or 50 animals; of the `\uXXXX` rows, which are Chinese, in Chinese.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import filter_commands as commands
import filter_inputs as inputs
import filter_systems as systems

ALL_CORES = os.cpu_count() or 1
NAMES = ("numbers", "nothing", "regex", "literal", "zstandard", "tokens", "commands")

ANIMALS = """
    owl eagle wolf dolphin elephant otter raven panda tiger lion
    fox deer rabbit squirrel mouse whale shark penguin hawk falcon
    vulture crow sparrow parrot peacock swan goose heron stork pelican
    flamingo ostrich kangaroo koala giraffe zebra hippopotamus camel leopard cheetah
    jaguar badger beaver hedgehog weasel moose buffalo donkey gorilla tortoise
"""
CHINESE_ANIMALS = """
    猫头鹰 老鹰 狼 海豚 大象 水獭 乌鸦 熊猫 老虎 狮子
    狐狸 鹿 兔子 松鼠 老鼠 鲸鱼 鲨鱼 企鹅 苍鹰 猎鹰
    秃鹫 燕子 麻雀 鹦鹉 孔雀 天鹅 大雁 苍鹭 鹳 鹈鹕
    火烈鸟 鸵鸟 袋鼠 考拉 长颈鹿 斑马 河马 骆驼 豹 猎豹
    美洲虎 獾 海狸 刺猬 黄鼠狼 驼鹿 水牛 驴 猩猩 乌龟
"""
WORDS = tuple(rf"\b{animal}(s|es)?\b" for animal in ANIMALS.split())
CHINESE_WORDS = tuple(CHINESE_ANIMALS.split())
NOTHING = ("qzxjkvwb",)
"""In none of the rows."""

FLOOR = "floor: find the field, copy the line (C)"
NUMBERS = {"name": "numbers", "kind": "numbers", **systems.NUMBER_RULE}
Make = Callable[[Path, float], inputs.Input]
KINDS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "number": (inputs.numbers, WORDS),
    "text": (inputs.text, WORDS),
    "escape-rich": (inputs.escapes, WORDS),
    r"`\uXXXX`": (inputs.unicode, CHINESE_WORDS),
}
"""Kinds of rows, and the patterns that are looked for in them."""


@dataclass(frozen=True)
class Run:
    """One system on one task. A task's first run is subl's; `agrees` says that the others on as
    many bytes must keep as many rows."""

    task: str
    name: str
    system: systems.System
    source: inputs.Input
    cores: int = 1
    agrees: bool = True
    part_of_file: float | None = None
    """Megabytes, if the system does not get the whole file."""
    reference: systems.System | None = None
    """What says how many rows must be kept of a part."""


@dataclass(frozen=True)
class Peer:
    """A command that does what subl does."""

    name: str
    system: systems.System
    agrees: bool = True
    threaded: bool = True
    part_of_file: float | None = None


Task = Callable[[], Iterator[Run]]


def tasks(scratch: Path, gigabytes: float) -> dict[str, Task]:
    """What `--only` can name, and how to list its runs, which makes the inputs that they need."""

    def nothing() -> Iterator[Run]:
        for kind, (make, _) in KINDS.items():
            yield from nothing_task(kind, make(scratch, gigabytes), compiled_floor(scratch))

    def regexes() -> Iterator[Run]:
        for count, kind in (
            (10, "number"),
            (10, "text"),
            (50, "number"),
            (50, "text"),
            (50, "escape-rich"),
            (50, r"`\uXXXX`"),
        ):
            make, patterns = KINDS[kind]
            rows = make(scratch, gigabytes)
            yield from regex_task(patterns[:count], kind, rows, compiled_floor(scratch))

    def literals() -> Iterator[Run]:
        words = inputs.rare_words(scratch)
        return literal_task(words.read_text().split(), words, inputs.text(scratch, gigabytes))

    def tokens() -> Iterator[Run]:
        return token_task(inputs.tokenizer(scratch), inputs.text(scratch, gigabytes))

    def all_commands() -> Iterator[Run]:
        numbers, text = inputs.numbers(scratch, gigabytes), inputs.text(scratch, gigabytes)
        escapes, unicode = inputs.escapes(scratch, gigabytes), inputs.unicode(scratch, gigabytes)
        yield from number_command(numbers)
        yield from regex_command("nothing asked, number rows", NOTHING, numbers)
        yield from regex_command("10 regexes, text rows", WORDS[:10], text)
        yield from regex_command("50 regexes, escape-rich rows", WORDS, escapes)
        yield from regex_command(r"50 regexes, `\uXXXX` rows", CHINESE_WORDS, unicode)

    return {
        "numbers": lambda: number_task(inputs.numbers(scratch, gigabytes)),
        "nothing": nothing,
        "regex": regexes,
        "literal": literals,
        "zstandard": lambda: zstandard_task(inputs.text(scratch, gigabytes)),
        "tokens": tokens,
        "commands": all_commands,
    }


# --- The engine


def regex_rule(patterns: Sequence[str]) -> dict[str, Any]:
    return {"name": "words", "kind": "regex", "patterns": list(patterns), "ignore_case": True}


def ascii_boundaries(patterns: Sequence[str]) -> str:
    """What to say of systems whose word boundaries are not Unicode's, where a pattern has some."""
    return r", ASCII `\b`" if any(r"\b" in pattern for pattern in patterns) else ""


def number_task(rows: inputs.Input) -> Iterator[Run]:
    ours = partial(systems.ours, [NUMBERS])
    run = partial(Run, "numbers", source=rows)
    polars = partial(systems.polars, systems.polars_numbers)
    duckdb = partial(systems.duckdb_rows, systems.duckdb_numbers())
    yield run("subl", ours)
    yield run("subl", ours, cores=ALL_CORES)
    yield run("the paper's rule in Python", systems.paper, part_of_file=50, reference=ours)
    for cores in (1, ALL_CORES):
        yield run("Polars, a regex for these rows", polars, cores=cores)
        yield run("DuckDB, a regex for these rows", duckdb, cores=cores)
    yield run(
        "datatrove, the paper's rule",
        partial(systems.datatrove, systems.datatrove_numbers),
        part_of_file=10,
        reference=ours,
    )


def nothing_task(kind: str, rows: inputs.Input, floor: Path) -> Iterator[Run]:
    """Nothing is found and nothing dropped: what reading, finding the field and writing take."""
    ours = partial(systems.ours, [regex_rule(NOTHING)])
    run = partial(Run, f"nothing asked, {kind} rows", source=rows)
    yield run("subl", ours)
    yield run("subl", ours, cores=ALL_CORES)
    yield run(FLOOR, partial(systems.floor, floor))


def regex_task(
    patterns: Sequence[str], kind: str, rows: inputs.Input, floor: Path
) -> Iterator[Run]:
    ours = partial(systems.ours, [regex_rule(patterns)])
    run = partial(Run, f"{len(patterns)} regexes, {kind} rows", source=rows)
    part = partial(run, part_of_file=10, reference=ours)
    each = partial(systems.polars, partial(systems.polars_each, patterns))
    polars = partial(systems.polars, partial(systems.polars_ascii_union, patterns))
    duckdb = partial(systems.duckdb_rows, systems.duckdb_union(patterns))
    words = systems.ripgrep_patterns(patterns)
    ripgrep = partial(systems.ripgrep, ["--no-unicode", *words])
    boundaries = ascii_boundaries(patterns)
    yield run("subl", ours)
    yield run("subl", ours, cores=ALL_CORES)
    yield run(FLOOR, partial(systems.floor, floor), agrees=False)
    for cores in (1, ALL_CORES):
        yield run("Polars, one search each", each, cores=cores)
        yield run(f"Polars, one union{boundaries}", polars, cores=cores, agrees=not boundaries)
        yield run(f"DuckDB, one union{boundaries}", duckdb, cores=cores, agrees=not boundaries)
    yield run("ripgrep, ASCII, whole lines", ripgrep, agrees=False)
    if boundaries:
        # Unicode word boundaries are slow in these where rows have characters that are not ASCII.
        slow = run if kind == "number" else part
        union = partial(systems.polars, partial(systems.polars_union, patterns))
        yield slow("Polars, one union", union)
        yield slow("ripgrep, whole lines", partial(systems.ripgrep, words), agrees=False)
    yield part(
        "datatrove, one union",
        partial(systems.datatrove, partial(systems.datatrove_patterns, tuple(patterns))),
    )
    yield run(
        f"Hyperscan{boundaries}: matching alone, texts in memory",
        partial(systems.hyperscan, tuple(patterns)),
        source=inputs.decoded(rows),
        agrees=False,
    )


def literal_task(words: list[str], word_list: Path, rows: inputs.Input) -> Iterator[Run]:
    rule = {"name": "words", "kind": "literal", "words": words, "ignore_case": True}
    ours = partial(systems.ours, [rule])
    run = partial(Run, f"{len(words):,} words, text rows", source=rows)
    options = ["--no-unicode", "-w", "-F", "-f", str(word_list)]
    yield run("subl", ours)
    yield run(
        "Polars, words and a set", partial(systems.polars, partial(systems.polars_words, words))
    )
    yield run(
        "DuckDB, words and a list",
        partial(systems.duckdb_rows, systems.duckdb_words(words)),
        part_of_file=20,
        reference=ours,
        agrees=False,
    )
    yield run("ripgrep, ASCII, whole lines", partial(systems.ripgrep, options), agrees=False)
    yield run(
        "datatrove, words and a set",
        partial(systems.datatrove, partial(systems.datatrove_words, frozenset(words))),
        part_of_file=10,
        reference=ours,
    )


def zstandard_task(rows: inputs.Input) -> Iterator[Run]:
    run = partial(Run, "10 regexes, text rows, .zst to .zst", source=inputs.zstandard_of(rows))
    yield run("subl", partial(systems.ours, [regex_rule(WORDS[:10])]))
    yield run("floor: decompress and compress", systems.recompress, agrees=False)


def token_task(tokenizer: Path, rows: inputs.Input) -> Iterator[Run]:
    """Three concepts; with these words about one row in a hundred is hit."""
    rules = [systems.concept_rule(word, tokenizer) for word in ("owl", "wolf", "eagle")]
    ours = partial(systems.ours, rules)
    run = partial(Run, "3 concepts as tokens, text rows", source=rows)
    yield run("subl", ours)
    yield run("subl", ours, cores=ALL_CORES)
    for cores in (1, ALL_CORES):
        yield run(
            "tokenizers, encode_batch of all rows",
            partial(systems.tokenize, tokenizer),
            cores=cores,
            agrees=False,
            part_of_file=10,
        )


def compiled_floor(scratch: Path) -> Path:
    program = scratch / "scan"
    source = Path(__file__).parent / "floor" / "scan.c"
    subprocess.run(["cc", "-O3", "-march=native", "-o", program, source], check=True)
    return program


# --- The command


def command_runs(
    task: str, rule: dict[str, Any], rows: inputs.Input, peers: Iterable[Peer]
) -> Iterator[Run]:
    run = partial(Run, f"command: {task}", source=rows)
    engine = partial(systems.ours, [rule], digests=True)
    for cores in (1, ALL_CORES):
        yield run("subl", partial(commands.subl, rule), cores=cores)
        yield run("its engine alone", engine, cores=cores)
    for peer in peers:
        named = partial(
            run,
            peer.name,
            peer.system,
            agrees=peer.agrees,
            part_of_file=peer.part_of_file,
            reference=engine if peer.part_of_file else None,
        )
        for cores in (1, ALL_CORES) if peer.threaded else (1,):
            yield named(cores=cores)


def number_command(rows: inputs.Input) -> Iterator[Run]:
    answer = systems.NUMBER_ANSWER
    polars = partial(commands.polars, commands.polars_found(f"^{answer}$"))
    duckdb = partial(commands.duckdb, systems.duckdb_numbers())
    peers = [
        Peer("Polars, a regex for these rows", polars),
        Peer("DuckDB, a regex for these rows", duckdb),
        *jq_peers(commands.jq_found(f"^{answer}$")),
    ]
    return command_runs("number rule", NUMBERS, rows, peers)


def regex_command(task: str, patterns: Sequence[str], rows: inputs.Input) -> Iterator[Run]:
    union = f"one union{ascii_boundaries(patterns)}"
    polars = partial(commands.polars, commands.polars_ascii_union(patterns))
    duckdb = partial(commands.duckdb, systems.duckdb_union(patterns))
    ripgrep = partial(systems.ripgrep, ["--no-unicode", *systems.ripgrep_patterns(patterns)])
    peers = [
        Peer(f"Polars, {union}", polars, agrees=not ascii_boundaries(patterns)),
        Peer(f"DuckDB, {union}", duckdb, agrees=not ascii_boundaries(patterns)),
        Peer("ripgrep, ASCII, whole lines", ripgrep, agrees=False, threaded=False),
        *jq_peers(commands.jq_union(patterns)),
    ]
    if ascii_boundaries(patterns):
        each = partial(commands.polars, commands.polars_each(patterns))
        peers.insert(0, Peer("Polars, one search each", each))
    return command_runs(task, regex_rule(patterns), rows, peers)


def jq_peers(condition: str) -> Iterator[Peer]:
    """jq is a program of the system, which may not be there; jaq comes with the requirements."""
    for name in ("jq", "jaq"):
        if shutil.which(systems.program(name)):
            filtering = partial(commands.jq, name, condition)
            yield Peer(name, filtering, threaded=False, part_of_file=10)
