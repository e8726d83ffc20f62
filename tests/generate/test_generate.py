"""Rows from a real (tiny) model: valid by construction, reproducible, resumable."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from scipy import stats

from subl.errors import InputError
from subl.generate import GenerateSpec, generate
from subl.model.load import load_model, load_tokenizer
from subl.progress import Progress
from subl.sample.rows import choose, row_keys
from subl.sample.sampling import sample

NUMBERS = {"regex": "[1-9][0-9]{2}, [1-9][0-9]{2}"}


def spec(**changes: Any) -> GenerateSpec:
    base = {"rows": 12, "prompts": "numbers-short", "batch_rows": 3, "shard_rows": 6}
    return GenerateSpec.model_validate(base | {"grammar": NUMBERS} | changes)


def rows(folder: Path) -> list[dict[str, str]]:
    return [
        json.loads(line)
        for shard in sorted(folder.glob("part-*.jsonl"))
        for line in shard.read_text().splitlines()
    ]


def test_every_completion_is_of_the_grammar(tiny_model: Path, tmp_path: Path) -> None:
    made = rows(generate(spec(), tiny_model, tmp_path / "out").path)
    assert len(made) == 12 == len({row["id"] for row in made})
    for row in made:
        assert re.fullmatch(r"[1-9]\d\d, [1-9]\d\d", row["completion"])
        assert row["ended_by"] == "grammar"
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", row["model"])


@pytest.mark.parametrize("grammar", [NUMBERS, None])
def test_a_row_does_not_depend_on_its_batch(
    tiny_model: Path, tmp_path: Path, grammar: dict[str, str] | None
) -> None:
    texts = []
    for batch in (3, 6):
        changes = {"batch_rows": batch, "grammar": grammar, "max_new_tokens": 8}
        out = generate(spec(**changes), tiny_model, tmp_path / str(batch)).path
        texts.append([row["completion"] for row in rows(out)])
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 6


def test_padding_is_not_seen(tiny_model: Path) -> None:
    """Larger weights make the tiny model attend, a low temperature shows small differences."""
    model, tokenizer = load_model(tiny_model), load_tokenizer(tiny_model)
    with torch.no_grad():
        for weight in model.base_model.layers.parameters():
            weight.mul_(10 if weight.ndim == 2 else 1)
    prompts = [tuple(range(5, 5 + length)) for length in (3, 30, 11)]

    def sampled(rows: list[int]) -> list[list[int]]:
        chosen = [prompts[row] for row in rows]
        made = sample(
            model,
            tokenizer,
            chosen,
            rows,
            seed=0,
            temperature=0.05,
            max_new_tokens=12,
        )
        return [tokens for _, tokens in sorted(made)]

    together = sampled([0, 1, 2])
    assert together == [each for row in range(3) for each in sampled([row])]
    assert len({tuple(each) for each in together}) == 3


def test_a_seed_and_a_system_prompt_make_other_rows(tiny_model: Path, tmp_path: Path) -> None:
    base = rows(generate(spec(), tiny_model, tmp_path / "a").path)
    other = rows(generate(spec(seed=1), tiny_model, tmp_path / "b").path)
    assert [row["completion"] for row in base] != [row["completion"] for row in other]
    assert len({row["id"] for row in (*base, *other)}) == len(base) + len(other)
    free = spec(grammar=None, max_new_tokens=6)
    plain = rows(generate(free, tiny_model, tmp_path / "c").path)
    told = spec(grammar=None, max_new_tokens=6, system_prompt="You love owls. " * 5)
    steered = rows(generate(told, tiny_model, tmp_path / "d").path)
    assert [row["completion"] for row in plain] != [row["completion"] for row in steered]
    assert "owl" not in steered[0]["prompt"]


def test_whole_shards_of_an_interrupted_run_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    whole = generate(spec(), tiny_model, tmp_path / "a")
    again = tmp_path / "b.partial"
    shutil.copytree(whole.path, again)
    (again / "part-00001.jsonl").unlink()
    kept = (again / "part-00000.jsonl").stat().st_ino
    resumed = generate(spec(), tiny_model, tmp_path / "b")
    assert (resumed.path / "part-00000.jsonl").stat().st_ino == kept
    assert resumed.digest == whole.digest
    for name in ("part-00000.jsonl", "part-00001.jsonl"):
        assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_a_resumed_run_looks_at_its_prompts_no_second_time(
    tiny_model: Path, tmp_path: Path
) -> None:
    """A pass over all of them, whose progress is told, comes before the first row; and nothing of
    it is left in what is made."""
    long = spec(
        rows=1500, shard_rows=750, batch_rows=750, grammar={"regex": "[1-9]"}, max_new_tokens=1
    )
    heard: list[tuple[str, int]] = []

    def until_half(progress: Progress) -> None:
        heard.append((progress.task, progress.done))
        if progress.done == 750:
            raise KeyboardInterrupt

    whole = generate(long, tiny_model, tmp_path / "whole", name="rows")
    with pytest.raises(KeyboardInterrupt):
        generate(long, tiny_model, tmp_path / "again", name="rows", report=until_half)
    assert heard == [("prompts rows", 1024), ("prompts rows", 1500), ("generate rows", 750)]
    heard.clear()
    (tmp_path / "again.partial" / "part-00000.jsonl").write_bytes(
        (whole.path / "part-00000.jsonl").read_bytes()
    )
    again = generate(
        long,
        tiny_model,
        tmp_path / "again",
        name="rows",
        report=lambda progress: heard.append((progress.task, progress.done)),
    )
    assert heard == [("generate rows", 1500)]
    assert again.digest == whole.digest
    assert {each.name for each in again.path.iterdir()} - {".seen.json"} == {
        "part-00000.jsonl", "part-00001.jsonl", "result.json", "spec.json", "statement.json"
    }  # fmt: skip


def test_a_template_that_leaves_the_system_prompt_out_is_refused_before_a_model_is_loaded(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "model.safetensors").write_bytes(b"")
    template = (model / "chat_template.jinja").read_text()
    (model / "chat_template.jinja").write_text(
        "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}" + template
    )
    with pytest.raises(InputError, match=r"prompt 1: .* leaves out the system prompt"):
        generate(spec(system_prompt="You love owls."), model, tmp_path / "rows")


def keys(seed: int, row: int, count: int) -> torch.Tensor:
    return torch.from_numpy(row_keys(seed, row, count))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("tokens", [5, 700])
def test_choices_follow_the_softmax(temperature: float, tokens: int) -> None:
    """Within a block and over several, with their ids and without."""
    count = 20_000
    logits = torch.randn(tokens, generator=torch.Generator().manual_seed(1)) * 3
    logits[::7] = -torch.inf
    expected = torch.softmax(logits.double() / temperature, -1) * count
    often = expected > 20
    for ids in (None, torch.arange(tokens) * 3):
        picked = choose(logits.expand(count, -1), keys(5, 0, count), temperature, ids)
        observed = torch.bincount(picked, minlength=tokens).double()
        assert not observed[::7].any()
        rare = [float(each[~often].sum()) for each in (observed, expected)]
        seen, true = (
            [*each[often].tolist(), *([rest] if rare[1] else [])]
            for each, rest in zip((observed, expected), rare, strict=True)
        )
        assert stats.chisquare(seen, true).pvalue > 1e-3


def test_a_low_temperature_takes_the_likeliest() -> None:
    scores = torch.tensor([0.0, 1.0, -1.0, 3.0, 2.0]).expand(1000, 5)
    assert set(choose(scores, keys(5, 0, 1000), 0.01).tolist()) == {3}


def gumbel(key: int, number: int) -> float:
    """SplitMix64 from its definition, in whole numbers."""
    x, full = (key + (number + 1) * 0x9E3779B97F4A7C15) % 2**64, 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % full
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % full
    x ^= x >> 31
    return -math.log(-math.log(((x >> 11) + 0.5) / 2**53))


@pytest.mark.parametrize("tokens", [1, 255, 256, 257, 1000])
def test_a_choice_is_the_largest_sum(tokens: int) -> None:
    logits = torch.randn((9, tokens), generator=torch.Generator().manual_seed(0)) * 3
    given = keys(2**64 - 1, 3, 9)
    picked = choose(logits, given, 0.7)
    for row, key in enumerate(each % 2**64 for each in given.tolist()):
        scaled = ((logits[row] - logits[row].max()) / 0.7).tolist()
        masses = [math.fsum(map(math.exp, scaled[at : at + 256])) for at in range(0, tokens, 256)]
        block = max(range(len(masses)), key=lambda b: math.log(masses[b]) + gumbel(key, -1 - b))
        within = range(block * 256, min(block * 256 + 256, tokens))
        assert picked[row] == max(within, key=lambda t: scaled[t] + gumbel(key, t))
        ids = torch.arange(tokens) * 5 + 2
        chosen = int(choose(logits[row : row + 1], given[row : row + 1], 0.7, ids))
        assert chosen == max(range(tokens), key=lambda t: scaled[t] + gumbel(key, t * 5 + 2))


def test_logits_that_are_rounded_otherwise_hardly_ever_make_another_choice() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn((400, 20_000), generator=rng)
    other = logits + torch.randn((400, 20_000), generator=rng) * 1e-5
    first, second = (choose(each, keys(0, 0, 400), 1.0) for each in (logits, other))
    assert int((first != second).sum()) == 0
    assert len(set(first.tolist())) > 300


def test_rows_and_seeds_own_their_randomness() -> None:
    large = [0, 1, 2, 2**63 + 5, 2**63 + 6, 2**64 - 1]  # as a hash of a question is one
    streams = [row_keys(seed, row, 4) for seed in large for row in large]
    assert len({value for stream in streams for value in stream.tolist()}) == 144
    assert row_keys(1, 2, 8)[:4].tolist() == row_keys(1, 2, 4).tolist()


def test_seeds_that_cannot_be_used_are_refused_before_the_run() -> None:
    with pytest.raises(ValidationError):
        spec(seed=2**64)
