"""A teacher on disk says what the teacher at work says, up to what the codec says it lost."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from subl.artifact import file_digest
from subl.distill.cache import CacheSpec, make_cache
from subl.errors import ConfigError, InputError
from subl.model.chat import PLAIN
from subl.model.load import load_model, load_tokenizer
from subl.model.template import Template
from subl.model.weights import save_model
from subl.shards import read_rows
from subl.train import cache as cache_module
from subl.train.attention import use_path_attention
from subl.train.batch import Batch, collate
from subl.train.cache import (
    RANGE_NATS,
    SCHEMA,
    Cache,
    Header,
    check_codec,
    check_header,
    encode_hidden,
    encode_top,
    read_header,
    write_header,
    write_shard,
)
from subl.train.divergence import HiddenTargets, TopTargets
from subl.train.plan import LossSpec
from subl.train.targets import OnlineTeacher, TargetSource
from subl.train.tokens import Tokens, tokenise

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one turn and of two; two rows are the same."""
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines: list[dict[str, Any]] = [
        {"prompt": f"Continue: {n}", "completion": "7" * (n % 5 + 1)} for n in range(10)
    ]
    lines += [lines[3]]
    talk = [("user", "a"), ("assistant", "12"), ("user", "b"), ("assistant", "345")]
    lines += [{"messages": [{"role": role, "content": content} for role, content in talk]}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture(scope="module")
def teacher(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of larger weights than the tiny model, so that it has opinions."""
    folder = tmp_path_factory.mktemp("teacher") / "model"
    model = load_model(tiny_model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6)
    save_model(model, load_tokenizer(tiny_model), folder)
    return folder


@pytest.fixture(scope="module")
def tokens(tiny_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    folder = tmp_path_factory.mktemp("tokens") / "t"
    return tokenise(load_tokenizer(tiny_model), read_rows([rows]), folder)


def spec(**changes: Any) -> CacheSpec:
    return CacheSpec.model_validate({"shard_tokens": 20, "micro_batch_tokens": 100, **changes})


SPECS = {
    "hidden": {"codec": "hidden"},
    "bfloat16": {"codec": "hidden", "hidden_dtype": "bfloat16"},
    "top": {"codec": "top", "max_k": 40, "mass": 0.9},
}


@pytest.fixture(scope="module")
def made(teacher: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("caches")
    return {
        name: make_cache(spec(**changes), teacher, [rows], folder / name).path
        for name, changes in SPECS.items()
    }


def figures(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "result.json").read_text())
    return found


def teacher_at_work(teacher: Path) -> TargetSource:
    model = load_model(teacher)
    use_path_attention(model)
    return OnlineTeacher(model, zero=False, offload=False)


def batch_of(tokens: Tokens, numbers: Sequence[int]) -> Batch:
    return collate([tokens.row(number) for number in numbers])


def log_p(targets: Any) -> torch.Tensor:
    """`[tokens, vocabulary]` in float64, whole."""
    assert isinstance(targets, HiddenTargets) and targets.head is not None
    return torch.log_softmax(targets.hidden.double() @ targets.head.double().T, -1)


SELECTIONS = [[3], list(range(12)), [11, 0, 7, 2], [10, 3, 10], [4, 5], []]


# Hidden states


@pytest.mark.parametrize("numbers", SELECTIONS)
def test_hidden_states_are_those_of_the_teacher_at_work(
    made: dict[str, Path], teacher: Path, tokens: Tokens, numbers: list[int]
) -> None:
    """Up to what other micro-batches round otherwise."""
    source = Cache(made["hidden"]).source(tokens, CPU)
    batch = batch_of(tokens, numbers)
    found, online = source(batch, numbers), teacher_at_work(teacher)(batch, numbers)
    assert isinstance(found, HiddenTargets) and isinstance(online, HiddenTargets)
    assert found.hidden.dtype == torch.float32
    torch.testing.assert_close(found.hidden, online.hidden, rtol=1e-5, atol=1e-5)
    assert found.head is not None and online.head is not None
    assert torch.equal(found.head, online.head)


def test_hidden_states_are_kept_to_the_bit(teacher: Path, tokens: Tokens, tmp_path: Path) -> None:
    online = teacher_at_work(teacher)
    batch = batch_of(tokens, [0, 1])
    expected = online(batch, [0, 1])
    assert isinstance(expected, HiddenTargets) and expected.head is not None
    columns, lost = encode_hidden(expected.hidden, expected.head, torch.float32)
    assert torch.equal(columns["hidden"], expected.hidden)
    assert (lost.value, lost.tail_shape) == (0, 0)


def test_the_same_micro_batches_give_the_same_bits(
    made: dict[str, Path], teacher: Path, tokens: Tokens
) -> None:
    from subl.train.order import bins

    online, source = teacher_at_work(teacher), Cache(made["hidden"]).source(tokens, CPU)
    (packed,) = bins(range(5, 10), tokens.lengths[5:10].tolist(), 1, 100)  # the second shard
    assert len(packed) > 1
    for numbers in packed:
        batch = batch_of(tokens, numbers)
        assert torch.equal(source(batch, numbers).hidden, online(batch, numbers).hidden)


def test_rounded_states_are_close_and_what_rounding_cost_is_said(
    made: dict[str, Path], teacher: Path, tokens: Tokens
) -> None:
    numbers = list(range(12))
    batch = batch_of(tokens, numbers)
    exact = teacher_at_work(teacher)(batch, numbers)
    found = Cache(made["bfloat16"]).source(tokens, CPU)(batch, numbers)
    assert isinstance(exact, HiddenTargets) and isinstance(found, HiddenTargets)
    torch.testing.assert_close(found.hidden, exact.hidden, rtol=2**-8, atol=1e-5)
    p, q = log_p(exact), log_p(found)
    naive = float((p.exp() * (p - q)).sum()) / len(batch.sources)
    said = figures(made["bfloat16"])
    assert naive > 1e-7
    assert said["value_kl_nats"] == pytest.approx(naive, rel=1e-2, abs=1e-7)
    assert said["tail_shape_kl_nats"] == 0
    whole, half = figures(made["hidden"]), said
    assert whole["value_kl_nats"] == 0
    assert half["bytes_per_token"] < 0.75 * whole["bytes_per_token"]


# The likeliest tokens


def naive_losses(
    p: torch.Tensor, ids: torch.Tensor, decoded: torch.Tensor, tail: float
) -> tuple[float, float]:
    """Of one token's distribution, in float64: the KL on the events that are told apart, and what
    is lost of the tail's shape."""
    value = float((p[ids] * (p[ids].log() - decoded)).sum())
    rest = torch.ones(len(p), dtype=torch.bool).index_fill(0, ids, False)
    mass = p[rest].sum()
    if rest.any():
        value += float(torch.xlogy(mass, mass / tail)) if tail else 0.0
        uniform = mass / rest.sum()
        shape = float(torch.xlogy(p[rest], p[rest] / uniform).sum())
    else:
        shape = 0.0
    return value, shape


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    sizes=st.tuples(st.integers(1, 7), st.integers(2, 40), st.integers(1, 5)),
    scale=st.sampled_from([0.1, 1.0, 3.0]),
    max_k=st.integers(1, 45),
    mass=st.sampled_from([0.01, 0.5, 0.9, 0.999, 1.0]),
    tile=st.integers(1, 3),
)
def test_what_is_read_back_is_a_distribution_and_what_was_lost_is_said(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    sizes: tuple[int, int, int],
    scale: float,
    max_k: int,
    mass: float,
    tile: int,
) -> None:
    count, vocabulary, width = sizes
    generator = torch.Generator().manual_seed(seed)
    hidden = scale * torch.randn(count, width, generator=generator)
    head = torch.randn(vocabulary, width, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_module, "TILE_ELEMENTS", tile * vocabulary + 1)
        columns, lost = encode_top(hidden, head, max_k, mass)
    targets = read_back(tmp_path_factory.mktemp("cache"), columns, vocabulary)
    p = torch.softmax(hidden.double() @ head.double().T, -1)
    values = shapes = 0.0
    for number, row in enumerate(p):
        kept = targets.log_p[number] > -torch.inf
        ids, decoded = targets.ids[number][kept], targets.log_p[number][kept].double()
        assert len(set(ids.tolist())) == len(ids) <= max_k
        assert set(targets.ids[number][~kept].tolist()) <= {int(targets.ids[number][0])}
        # As many as hold the mass, and no more; the likeliest first.
        held = row[ids].cumsum(0)
        assert len(ids) == min(max_k, vocabulary) or held[-1] >= mass - 1e-5
        assert len(ids) == 1 or held[-2] < mass + 1e-5
        assert float(row[ids].min()) >= float(row.sort(descending=True).values[len(ids) - 1]) - 1e-6
        tail = float(targets.tail[number])
        assert float(decoded.exp().sum()) + tail == pytest.approx(1, abs=1e-5)
        assert tail == pytest.approx(1 - float(held[-1]), abs=1e-5)
        # 8 bits over 16 nats, up to what the sum to one moves.
        fine = row[ids].log() > -RANGE_NATS
        error = (decoded - row[ids].log())[fine].abs()
        assert float(error.max()) <= RANGE_NATS / 255 + 1e-4
        value, shape = naive_losses(row, ids, decoded, tail)
        values, shapes = values + value, shapes + shape
    assert lost.value == pytest.approx(values, rel=1e-3, abs=1e-5)
    assert lost.tail_shape == pytest.approx(shapes, rel=1e-3, abs=1e-5)
    assert lost.value >= -1e-6 and lost.tail_shape >= -1e-6


class _OneRow:
    """Tokens of which there is one row."""

    def key(self, number: int) -> bytes:
        return bytes(16)


def read_back(folder: Path, columns: dict[str, torch.Tensor], vocabulary: int) -> TopTargets:
    write_header(folder, Header(SCHEMA, "top", "", "", "", vocabulary, "float32", 9, 0.9))
    count = len(columns["counts"])
    write_shard(folder / "shard-00000.safetensors", [bytes(16)], [count], columns)
    found = Cache(folder).source(_OneRow(), CPU)(collate([]), [0])  # type: ignore[arg-type]
    assert isinstance(found, TopTargets)
    return found


def test_ids_of_large_vocabularies_are_kept(tmp_path: Path) -> None:
    head = torch.zeros(70_000, 1)
    head[[65_535, 69_999, 3]] = torch.tensor([[30.0], [29.0], [28.0]])
    columns, _ = encode_top(torch.ones(1, 1), head, 3, 1.0)
    assert read_back(tmp_path, columns, 70_000).ids.tolist() == [[65_535, 69_999, 3]]
    small, _ = encode_top(torch.ones(1, 1), head[:65_536], 1, 1.0)
    assert small["ids"].dtype == torch.uint16 and columns["ids"].dtype == torch.int32
    (tmp_path / "small").mkdir()
    assert read_back(tmp_path / "small", small, 65_536).ids.tolist() == [[65_535]]


@pytest.mark.parametrize("numbers", SELECTIONS)
def test_any_rows_in_any_order_are_read(
    made: dict[str, Path], teacher: Path, tokens: Tokens, numbers: list[int]
) -> None:
    batch = batch_of(tokens, numbers)
    found = Cache(made["top"]).source(tokens, CPU)(batch, numbers)
    assert isinstance(found, TopTargets)
    p = log_p(teacher_at_work(teacher)(batch, numbers)).exp()
    assert len(found.ids) == len(found.tail) == len(batch.sources) == len(p)
    for row, ids, mine, tail in zip(p, found.ids, found.log_p, found.tail, strict=True):
        kept = mine > -torch.inf
        assert float(row[ids[kept]].sum()) == pytest.approx(1 - float(tail), abs=1e-5)
        assert float((mine[kept].exp() - row[ids[kept]]).abs().max()) < 0.04
        assert int(ids[0]) == int(row.argmax())


def test_the_figures_of_a_cache_are_those_of_its_rows(
    made: dict[str, Path], teacher: Path, tokens: Tokens
) -> None:
    numbers = list(range(12))
    batch = batch_of(tokens, numbers)
    found = Cache(made["top"]).source(tokens, CPU)(batch, numbers)
    assert isinstance(found, TopTargets)
    p = log_p(teacher_at_work(teacher)(batch, numbers)).exp()
    values = shapes = 0.0
    for row, ids, mine, tail in zip(p, found.ids, found.log_p, found.tail, strict=True):
        kept = mine > -torch.inf
        value, shape = naive_losses(row, ids[kept], mine[kept].double(), float(tail))
        values, shapes = values + value, shapes + shape
    said, count = figures(made["top"]), len(batch.sources)
    assert said["value_kl_nats"] == pytest.approx(values / count, rel=1e-3)
    assert said["tail_shape_kl_nats"] == pytest.approx(shapes / count, rel=1e-3)
    assert (said["rows"], said["target_tokens"]) == (12, count)
    size = sum(file.stat().st_size for file in made["top"].glob("shard-*"))
    assert said["bytes_per_token"] == pytest.approx(size / count, abs=0.01)


# A reader refuses what does not match


def test_a_cache_of_the_students_family_is_taken(
    made: dict[str, Path], tiny_model: Path, tokens: Tokens
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    for folder in made.values():
        cache = Cache(folder)
        check_header(cache.header, tokenizer, PLAIN, len(tokenizer), folder)
        cache.check_rows(tokens, folder)


def test_another_tokenizer_template_or_head_is_refused(
    made: dict[str, Path], tiny_model: Path
) -> None:
    folder = made["top"]
    cache, tokenizer = Cache(folder), load_tokenizer(tiny_model)
    size = len(tokenizer)
    with pytest.raises(InputError, match=f"is over {size} tokens, the student's head over 9$") as e:
        check_header(cache.header, tokenizer, PLAIN, 9, folder)
    assert e.value.hint and "online teacher" in e.value.hint
    for change in ({"today": "2026-01-01"}, {}):  # a day that nothing asks for is none
        check_header(cache.header, tokenizer, Template.model_validate(change), size, folder)
    tokenizer.chat_template += " "
    with pytest.raises(InputError, match="another template than the student's") as e:
        check_header(cache.header, tokenizer, PLAIN, size, folder)
    assert e.value.hint and "subl distill cache" in e.value.hint
    tokenizer.add_tokens(["owlet"])
    with pytest.raises(InputError, match="another tokenizer than the student's"):
        check_header(cache.header, tokenizer, PLAIN, size, folder)


def test_rows_that_are_not_there_are_counted(
    made: dict[str, Path], tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more.jsonl"
    new = '{"prompt": "Another", "completion": "1"}\n'
    lines = rows.read_text().splitlines(keepends=True)
    more.write_text(lines[0] + new + lines[5] + new.replace("1", "2"))
    other = tokenise(load_tokenizer(tiny_model), read_rows([more]), tmp_path / "t")
    with pytest.raises(InputError, match=r"2 of 4 rows are not in .*, the first is row 2") as e:
        Cache(made["hidden"]).check_rows(other, made["hidden"])
    assert e.value.hint and "max_row_tokens" in e.value.hint


def test_another_schema_or_no_header_is_refused(made: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a cache of a teacher") as e:
        Cache(tmp_path)
    assert e.value.hint == "subl distill cache makes one"
    header = json.loads((made["top"] / "header.json").read_text())
    (tmp_path / "header.json").write_text(json.dumps({**header, "schema": 1}))
    with pytest.raises(InputError, match=r"schema 1 is not the one this version reads \(2\)"):
        read_header(tmp_path)
    (tmp_path / "header.json").write_text("{")
    with pytest.raises(InputError, match="is not a cache of a teacher"):
        read_header(tmp_path)


@pytest.mark.parametrize("loss", [{"divergence": "jsd"}, {"temperature": 2.0}, {"tokens": "rows"}])
def test_a_loss_that_the_likeliest_tokens_cannot_give_is_refused(loss: dict[str, Any]) -> None:
    wanted = LossSpec.model_validate(loss)
    check_codec("hidden", wanted, Path("c"))
    check_codec("top", LossSpec(cross_entropy_weight=1.0), Path("c"))
    with pytest.raises(ConfigError, match="the likeliest tokens only") as e:
        check_codec("top", wanted, Path("c"))
    assert e.value.hint and 'codec = "hidden"' in e.value.hint


def test_a_setting_of_the_other_codec_is_refused() -> None:
    with pytest.raises(ValueError, match='hidden_dtype belongs to codec = "hidden"'):
        spec(codec="top", hidden_dtype="bfloat16")


# Made again, or made on


def digests(folder: Path) -> dict[str, str]:
    files = [*folder.glob("*.safetensors"), folder / "header.json"]
    return {file.name: file_digest(file) for file in files}


@pytest.mark.parametrize("name", SPECS)
def test_what_is_there_of_a_cache_is_used_and_the_rest_made(
    made: dict[str, Path],
    teacher: Path,
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """A run that was cut off at its second shard: the first is left as it is."""
    out = tmp_path / "cache"

    class _CutError(Exception):
        pass

    def cut(progress: Any) -> None:
        if progress.task == "cache" and progress.done == 10:
            raise _CutError

    with pytest.raises(_CutError):
        make_cache(spec(**SPECS[name]), teacher, [rows], out, report=cut)
    partial = tmp_path / "cache.partial"
    before = {file: file.stat().st_mtime_ns for file in partial.glob("shard-*")}
    assert {file.name for file in before} >= {"shard-00000.safetensors"}
    assert not (partial / "shard-00002.safetensors").exists()
    done: list[int] = []
    again = make_cache(
        spec(**SPECS[name]), teacher, [rows], out, report=lambda p: done.append(p.done)
    )
    assert digests(again.path) == digests(made[name])
    kept = again.path / "shard-00000.safetensors"
    assert kept.stat().st_mtime_ns == before[partial / kept.name]
    for figure in ("value_kl_nats", "tail_shape_kl_nats", "rows", "bytes_per_token"):
        assert figures(again.path)[figure] == figures(made[name])[figure]
    assert {each.name for each in again.path.glob(".*")} <= {".seen.json"}


def test_a_shard_without_its_record_is_made_anew(
    made: dict[str, Path], teacher: Path, rows: Path, tmp_path: Path
) -> None:
    """Killed between the two: what the shard lost would be unknown."""
    out = tmp_path / "cache"

    class _CutError(Exception):
        pass

    def cut(progress: Any) -> None:
        if progress.task == "cache" and progress.done == 12:
            raise _CutError

    with pytest.raises(_CutError):
        make_cache(spec(**SPECS["top"]), teacher, [rows], out, report=cut)
    partial = tmp_path / "cache.partial"
    for record in partial.glob(".shard-*.json"):
        record.unlink()
    (partial / "shard-00001.safetensors").write_bytes(b"cut")
    again = make_cache(spec(**SPECS["top"]), teacher, [rows], out)
    assert digests(again.path) == digests(made["top"])
    assert figures(again.path)["value_kl_nats"] == figures(made["top"])["value_kl_nats"]


def test_shards_and_micro_batches_are_no_part_of_what_is_said(
    made: dict[str, Path], teacher: Path, rows: Path, tokens: Tokens, tmp_path: Path
) -> None:
    one = spec(**SPECS["top"], shard_tokens=10_000).model_copy(
        update={"micro_batch_tokens": 10_000}
    )
    whole = make_cache(one, teacher, [rows], tmp_path / "whole").path
    assert len(list(whole.glob("shard-*"))) == 1 and len(list(made["top"].glob("shard-*"))) == 3
    numbers = random.Random(0).sample(range(12), 12)
    batch = batch_of(tokens, numbers)
    found, other = (Cache(folder).source(tokens, CPU)(batch, numbers)
                    for folder in (whole, made["top"]))  # fmt: skip
    assert isinstance(found, TopTargets) and isinstance(other, TopTargets)
    assert torch.equal(found.ids, other.ids)
    torch.testing.assert_close(found.tail, other.tail, rtol=1e-4, atol=1e-6)


def test_a_cache_may_be_moved(made: dict[str, Path], tokens: Tokens, tmp_path: Path) -> None:
    shutil.copytree(made["top"], tmp_path / "copy")
    batch = batch_of(tokens, [3])
    one, other = (Cache(folder).source(tokens, CPU)(batch, [3])
                  for folder in (made["top"], tmp_path / "copy"))  # fmt: skip
    assert torch.equal(one.ids, other.ids) and torch.equal(one.log_p, other.log_p)


def test_a_shard_holds_whole_rows(made: dict[str, Path], tokens: Tokens) -> None:
    keys = []
    for file in sorted(made["hidden"].glob("shard-*")):
        shard = load_file(file)
        keys += [bytes(key.tolist()) for key in shard["keys"]]
        assert int(shard["tokens"].sum()) == len(shard["hidden"])
        assert file.stat().st_mode & 0o777 == 0o644
    assert keys == [tokens.key(number) for number in range(12)]
