"""What a run will need, said before it starts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BloomConfig,
    Gemma3Config,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    PreTrainedConfig,
)

from subl.cluster.placement import Placement
from subl.errors import StageError
from subl.model.load import load_model, load_tokenizer, text_config
from subl.shards import Row
from subl.train import memory
from subl.train.adapter import adapt, save_adapter
from subl.train.footprint import check_memory, needed_memory, tensor_shapes
from subl.train.job import TrainJob
from subl.train.layout import choose_layout, lay_out
from subl.train.memory import Shape, check, needed
from subl.train.plan import LoraSpec, TrainSpec
from subl.train.preview import preview
from subl.train.student import Student, without_dropout
from subl.train.tokens import Tokens, tokenise

many = settings(deadline=None, derandomize=True)
SHAPE = Shape(weights=7 * 10**9, trained=7 * 10**9, layers=28, width=3584, inner=18944,
              vocabulary=152064)  # fmt: skip


def spec(**changes: Any) -> TrainSpec:
    return TrainSpec.model_validate({"steps": 5, "learning_rate": 1e-3, **changes})


def total(train: TrainSpec, ranks: int = 1, bin_tokens: int = 2048, **more: Any) -> int:
    return sum(needed(train, SHAPE, ranks=ranks, bin_tokens=bin_tokens, **more).values())


dtypes = st.sampled_from(["float32", "bfloat16", "float16"])


@many
@given(dtypes, st.sampled_from([1, 2, 3]), st.integers(1, 64))
def test_more_ranks_need_less_each(dtype: str, stage: int, ranks: int) -> None:
    train = spec(dtype=dtype, zero_stage=stage)
    assert total(train, ranks + 1) < total(train, ranks)
    plain = spec(dtype=dtype, zero_stage=0)
    assert total(plain, ranks + 1) == total(plain, ranks)


@many
@given(dtypes, st.integers(2, 64), st.integers(1, 10**5))
def test_what_saves_memory_is_said_to_save_it(dtype: str, ranks: int, tokens: int) -> None:
    by_stage = [total(spec(dtype=dtype, zero_stage=stage), ranks) for stage in (1, 2, 3)]
    assert by_stage == sorted(by_stage, reverse=True) and len(set(by_stage)) == 3
    third = spec(dtype=dtype, zero_stage=3)
    for saving in ({"offload_optimizer": True}, {"offload_parameters": True},
                   {"gradient_checkpointing": True}):  # fmt: skip
        assert total(third.model_copy(update=saving), ranks) < total(third, ranks)
    assert total(third, ranks, tokens) < total(third, ranks, tokens + 1)
    teacher = {"teacher_weights": 10**9}
    assert (
        total(third, ranks)
        < total(third, ranks, **teacher, teacher_spread=True)
        < total(third, ranks, **teacher)
    )


def test_the_bytes_of_each_weight_are_those_of_the_zero_paper() -> None:
    """Rajbhandari et al. 2020: 2 of the weight, 12 of Adam's state, 2 of the gradient; here 4 more,
    for gradients are summed in float32."""
    found = needed(spec(dtype="bfloat16"), SHAPE, ranks=1, bin_tokens=0)
    assert (found["weights"], found["optimizer"], found["gradients"]) == (
        2 * SHAPE.weights,
        12 * SHAPE.weights,
        6 * SHAPE.weights,
    )
    assert found["activations"] == found["teacher"] == 0


PARTS = ["weights", "gradients", "optimizer", "activations", "logits", "teacher", "runtime"]


@pytest.mark.parametrize("largest", PARTS)
def test_what_cannot_fit_is_refused_with_what_would_help(largest: str) -> None:
    parts = dict.fromkeys(PARTS, 2**30) | {largest: 3 * 2**30}
    check(parts, 9 * 2**30, spec())
    with pytest.raises(StageError, match=r"about 9\.0 GiB a rank and 8\.0 are free") as caught:
        check(parts, 8 * 2**30, spec())
    assert f"{largest} 3.0" in caught.value.message
    assert caught.value.hint and caught.value.hint.startswith(f"most of it are {largest}: try ")


def test_ranks_of_a_machine_share_its_memory() -> None:
    cpu = torch.device("cpu")
    one, four = memory.available(cpu, 1), memory.available(cpu, 4)
    assert 0 < four < one
    assert four == pytest.approx(one / 4, rel=0.2)


# Of a job


@pytest.fixture(scope="module")
def tokens(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    rows = (
        Row(None, (("user", f"Continue: {n}."), ("assistant", "7" * (n % 5 + 1))), f"row {n}")
        for n in range(20)
    )
    return tokenise(load_tokenizer(tiny_model), rows, tmp_path_factory.mktemp("tokens") / "t")


@pytest.fixture
def job(tiny_model: Path, tokens: Tokens, tmp_path: Path) -> TrainJob:
    train = {"epochs": 2, "rows_per_step": 8, "learning_rate": 1e-3, "micro_batch_tokens": 100}
    return TrainJob.model_validate(
        {
            "task": "t",
            "model": tiny_model,
            "tokens": tokens.folder,
            "spec": train,
            "out": tmp_path / "out",
        }
    )


def changed(job: TrainJob, **changes: Any) -> TrainJob:
    return job.model_copy(update={"spec": job.spec.model_copy(update=changes)})


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_preview_says_what_a_run_would_be(job: TrainJob, tokens: Tokens, ranks: int) -> None:
    found = preview(job, ranks)
    assert found["rows"] == 20 and found["ranks"] == ranks
    assert found["tokens"] == int(tokens.lengths.sum())
    assert found["target_tokens"] == int(tokens.target_counts.sum())
    assert found["longest"] == int(tokens.lengths.max())
    assert found["steps"] == 5 and found["epochs"] == 2.0
    assert 0 < found["largest_micro_batch_tokens"] <= 100
    step_tokens = 8 * tokens.lengths.mean()
    least = step_tokens / 100 / ranks
    assert least * 0.8 <= found["micro_batches_per_step"] <= least * 2 + 1
    needs = found["memory"]
    assert needs["total"] == sum(needs["needed"].values()) and needs["fits"]
    assert found["seconds_per_step"] > 0 and found["not_timed_because"] is None
    assert found["seconds"] == pytest.approx(5 * found["seconds_per_step"], abs=0.06)  # rounded
    assert not job.out.exists()  # nothing is written


def test_a_preview_of_steps_that_are_longer_than_an_epoch(job: TrainJob, tokens: Tokens) -> None:
    """A row that comes twice in a micro-batch counts twice."""
    found = preview(changed(job, rows_per_step=40, micro_batch_tokens=10**6), 1)
    assert found["largest_micro_batch_tokens"] == 2 * tokens.counts.tokens
    assert found["micro_batches_per_step"] == 1


def test_a_model_without_weights_is_weighed_but_not_timed(
    job: TrainJob, tiny_model: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare)
    (bare / "model.safetensors").unlink()
    found = preview(job.model_copy(update={"model": bare}), 1)
    assert found["seconds"] is None and "has no weights" in found["not_timed_because"]
    assert found["memory"]["needed"] == preview(job, 1)["memory"]["needed"]


@pytest.mark.parametrize("tied", [True, False])
def test_shapes_are_the_same_from_files_and_from_a_configuration(
    tiny_model: Path, tmp_path: Path, tied: bool
) -> None:
    config = LlamaConfig.from_pretrained(tiny_model)
    config.tie_word_embeddings = tied
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path)
    from_files = tensor_shapes(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert tensor_shapes(tmp_path) == from_files
    count = sum(torch.Size(shape).numel() for shape in from_files.values())
    assert count == model.num_parameters()


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "down_proj")])
def test_an_adapter_trains_as_many_weights_as_were_counted(
    job: TrainJob, tokens: Tokens, tiny_model: Path, targets: tuple[str, ...]
) -> None:
    lora = LoraSpec(rank=4, targets=targets)
    adapted = adapt(load_model(tiny_model), lora)
    trained = sum(each.numel() for each in adapted.parameters() if each.requires_grad)
    found = needed_memory(changed(job, lora=lora), 1, tokens)
    assert found is not None
    assert found["gradients"] == 4 * trained and found["optimizer"] == 8 * trained


def test_a_teacher_weighs_what_its_weights_do(
    job: TrainJob, tokens: Tokens, tiny_model: Path
) -> None:
    parameters = load_model(tiny_model).num_parameters()
    alone = needed_memory(job, 1, tokens)
    assert alone is not None and alone["teacher"] == 0
    taught = job.model_copy(update={"targets": "teacher", "teacher": tiny_model})
    both = needed_memory(taught, 1, tokens)
    assert both is not None and both["teacher"] == 4 * parameters


def test_a_teacher_or_student_may_be_but_an_adapter(
    job: TrainJob, tokens: Tokens, tiny_model: Path, tmp_path: Path
) -> None:
    """It weighs what its base does."""
    folder = tmp_path / "adapted"
    folder.mkdir()
    save_adapter(adapt(load_model(tiny_model), LoraSpec()), folder, tiny_model, None)
    load_tokenizer(tiny_model).save_pretrained(folder)
    plain = job.model_copy(update={"targets": "teacher", "teacher": tiny_model})
    ours = plain.model_copy(update={"teacher": folder, "model": folder})
    assert needed_memory(ours, 1, tokens) == needed_memory(plain, 1, tokens)
    assert preview(ours, 1)["seconds"] > 0


def test_a_job_that_cannot_fit_is_refused(
    job: TrainJob, tokens: Tokens, tiny_model: Path, tmp_path: Path
) -> None:
    check_memory(job, Placement(), tokens)
    huge = tmp_path / "huge"
    config = LlamaConfig.from_pretrained(tiny_model)
    config.update({"hidden_size": 8192, "intermediate_size": 65536, "num_hidden_layers": 200})
    config.save_pretrained(huge)
    with pytest.raises(StageError, match="are free") as caught:
        check_memory(job.model_copy(update={"model": huge}), Placement(), tokens)
    assert caught.value.hint and "most of it are optimizer" in caught.value.hint


def test_weights_that_lie_there_twice_count_once(
    job: TrainJob, tokens: Tokens, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "twice"
    shutil.copytree(tiny_model, folder)
    shutil.copyfile(folder / "model.safetensors", folder / "consolidated.safetensors")
    again = job.model_copy(update={"model": folder})
    assert needed_memory(again, 1, tokens) == needed_memory(job, 1, tokens)
    load_model(tiny_model).save_pretrained(folder, max_shard_size="40KB")
    (folder / "model.safetensors").unlink()
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert needed_memory(again, 1, tokens) == needed_memory(job, 1, tokens)


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(vocab_size=16, n_embd=8, n_layer=3, n_head=2),
        BloomConfig(vocab_size=16, hidden_size=8, n_layer=3, n_head=2),
        OPTConfig(vocab_size=16, hidden_size=8, ffn_dim=32, num_hidden_layers=3),
        Gemma3Config(text_config={"vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 3,
                                  "intermediate_size": 32}),
    ],
    ids=lambda config: config.model_type,
)  # fmt: skip
def test_sizes_are_read_whatever_a_configuration_calls_them(
    config: PreTrainedConfig, tmp_path: Path
) -> None:
    config.save_pretrained(tmp_path)
    windows = {"window": 4096, "windowed": 3} if config.model_type == "gemma3" else {}
    assert Shape.of(text_config(tmp_path), 1, 1) == Shape(1, 1, 3, 8, 32, 16, **windows)


def test_sizes_that_nobody_knows_give_no_estimate() -> None:
    assert Shape.of(PreTrainedConfig(), 1, 1) is None


def test_padding_of_attention_is_paid_for() -> None:
    plain = needed(spec(), SHAPE, ranks=1, bin_tokens=100)
    padded = needed(spec(), SHAPE, ranks=1, bin_tokens=100, padding=50)
    assert padded["activations"] - plain["activations"] == 50 * 28 * 4 * 4 * SHAPE.width


NEO = {"num_layers": 4, "num_heads": 4, "attention_types": [[["global"], 4]]}
NEO |= {"max_position_embeddings": 256}  # it keeps a mask of so many
WINDOWED = {"num_hidden_layers": 4, "sliding_window": 16, "num_key_value_heads": 4}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("bloom", {"n_layer": 4, "n_head": 4}),
        ("gpt_neo", NEO),
        ("mistral", {**WINDOWED, "num_attention_heads": 4, "head_dim": 4}),
        ("llama", {"num_hidden_layers": 4, "num_attention_heads": 4}),
    ],
)
def test_scores_and_masks_that_are_kept_are_counted(
    kind: str, sizes: dict[str, Any], dtype: Any, tmp_path: Path
) -> None:
    """Against what a pass keeps for its gradients, of all that grows with a row's square."""
    length = 256
    given = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, **sizes}
    config = AutoConfig.for_model(kind, **given, bos_token_id=0, eos_token_id=0, pad_token_id=0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "m")
    model = load_model(tmp_path / "m", dtype)
    without_dropout(model)
    ids = np.arange(length, dtype=np.uint32) % 60 + 2
    layout = choose_layout(model, [], longest=length)
    batch = lay_out(layout, [(ids, np.ones(length, np.bool_))])
    kept: dict[int, tuple[int, Any]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes(), tensor  # which keeps its place taken
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        Student(model)(batch)
    measured = sum(size for size, _ in kept.values() if size >= length**2)
    eager = model.config._attn_implementation == "eager"
    shape = memory.Shape.of(config, 1, 1, eager=eager)
    assert shape is not None
    needs = needed(
        spec(dtype=dtype), shape, ranks=1, bin_tokens=length, longest=length, scores=length**2
    )
    if kind == "llama":
        assert needs["attention"] == 0
    else:
        assert 0.7 * measured < needs["attention"] < 3 * measured
