"""What a run refuses before it reads a row: all that does not depend on rows or weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from subl.cluster.placement import Placement
from subl.distill import CacheSpec, DistillSpec, distill, dry_run, make_cache
from subl.errors import ConfigError, DependencyError, InputError, OutputError, StageError, SublError
from subl.model.load import load_tokenizer
from subl.progress import silent
from subl.shards import Row
from subl.teach import TeachSpec, teach
from subl.teach import dry_run as teach_dry_run
from subl.train.job import TOKENS, TrainJob
from subl.train.preflight import preflight
from subl.train.run import prepare
from subl.train.student import check_bare_head, check_head

TRAIN = {"steps": 1, "learning_rate": 1e-3}


def unread() -> Iterator[Row]:
    """Rows that nobody asks for."""
    pytest.fail("a row was read before everything else was asked")
    yield


def job(model: Path, out: Path, **given: Any) -> TrainJob:
    outer = {key: given.pop(key) for key in [*given] if key in TrainJob.model_fields}
    out.mkdir(exist_ok=True)
    job = {"task": "t", "model": model, "tokens": out / TOKENS, "out": out}
    return TrainJob.model_validate({**job, "spec": TRAIN | given, **outer})


def changed(model: Path, folder: Path, **config: Any) -> Path:
    """The model with another configuration, and weights that are no longer its own."""
    shutil.copytree(model, folder)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, **config}))
    return folder


def stranger(model: Path, folder: Path) -> Path:
    """The model, whose tokenizer knows a word more."""
    shutil.copytree(model, folder)
    tokenizer = load_tokenizer(model)
    tokenizer.add_tokens(["owlet"])
    tokenizer.save_pretrained(folder)
    return folder


def cache(model: Path, folder: Path, **header: Any) -> Path:
    """A cache of that model's, of no rows."""
    from subl.model.chat import PLAIN
    from subl.train.cache import SCHEMA, Header, tokenizer_digests, write_header

    folder.mkdir()
    tokenizer = load_tokenizer(model)
    said: dict[str, Any] = {"schema": SCHEMA, "codec": "top", "teacher": "0", "dtype": "float32"}
    said |= {"vocabulary": len(tokenizer), "max_k": 4, "mass": 0.9}
    write_header(folder, Header(**(said | tokenizer_digests(tokenizer, PLAIN) | header)))
    return folder


PROBE = {"every": 1, "words": ["owl"], "questions": ["Which animal?"]}
FAULTS: dict[str, tuple[type[SublError], str, Callable[[Path, Path], dict[str, Any]]]] = {
    "no model": (InputError, "is not a model folder", lambda m, f: {"model": f / "no"}),
    "logits that are scaled": (
        InputError,
        "changes its logits after the output head",
        lambda m, f: {
            "model": changed(m, f / "m", model_type="granite", architectures=["GraniteForCausalLM"],
                             logits_scaling=8.0)
        },
    ),
    "no weights": (
        InputError,
        "has no weights",
        lambda m, f: (changed(m, f / "m") / "model.safetensors").unlink() or {"model": f / "m"},
    ),
    "an adapter of nothing": (
        ConfigError,
        "no linear layer called owl_proj",
        lambda m, f: {"lora": {"targets": ["owl_proj"]}},
    ),
    "no adapter to leave out": (
        ConfigError, "needs an adapter", lambda m, f: {"targets": "base"}
    ),
    "a teacher without ranks": (
        ConfigError,
        "needs ranks",
        lambda m, f: {"targets": "teacher", "teacher": m, "teacher_placement": {"zero_stage": 3}},
    ),
    "a teacher of another family": (
        InputError,
        "different vocabularies",
        lambda m, f: {"targets": "teacher", "teacher": stranger(m, f / "m")},
    ),
    "a cache of another family": (
        InputError,
        "another tokenizer",
        lambda m, f: {"targets": "cache", "cache": cache(m, f / "c", tokenizer="0")},
    ),
    "a cache over other tokens": (
        InputError,
        "is over 7 tokens",
        lambda m, f: {"targets": "cache", "cache": cache(m, f / "c", vocabulary=7)},
    ),
    "a cache without what the loss asks for": (
        ConfigError,
        "the likeliest tokens only",
        lambda m, f: {
            "targets": "cache", "cache": cache(m, f / "c"), "loss": {"divergence": "jsd"}
        },
    ),
    "a template that is told what it never asks for": (
        InputError, "does not know `mood`", lambda m, f: {"template": {"mood": "sad"}}
    ),
    "a probe longer than the model's positions": (
        InputError,
        "has only 16 positions",
        lambda m, f: {
            "model": changed(m, f / "m", model_type="gpt2", architectures=["GPT2LMHeadModel"],
                             max_position_embeddings=16),
            "probe": {**PROBE, "questions": ["Which animal? " * 9]},
        },
    ),
    "a tracker that is not there": (
        DependencyError, "--wandb needs wandb", lambda m, f: {"options": {"wandb": "p"}}
    ),
    "a model larger than the machine": (
        StageError,
        "are free",
        lambda m, f: {"model": changed(m, f / "m", vocab_size=1 << 22, hidden_size=1 << 16)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_could_not_be_done_is_refused_before_a_row_is_read(
    fault: str, tiny_model: Path, tmp_path: Path
) -> None:
    kind, said, given = FAULTS[fault]
    made = job(**{"model": tiny_model, "out": tmp_path / "out", **given(tiny_model, tmp_path)})
    with pytest.raises(kind, match=said):
        prepare(made, unread(), Placement(), silent)
    assert not list(made.out.iterdir())


@pytest.fixture
def scaled(tiny_model: Path, tmp_path: Path) -> Path:
    """A model that no loss of ours fits."""
    architecture = {"model_type": "granite", "architectures": ["GraniteForCausalLM"]}
    return changed(tiny_model, tmp_path / "scaled", **architecture, logits_scaling=8.0)


@pytest.mark.parametrize("command", ["distill", "distill --dry-run", "cache", "teach", "its own"])
def test_every_command_asks_before_it_makes_tokens(
    command: str, scaled: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("no row\n")
    student = DistillSpec.model_validate({"targets": "labels", "train": TRAIN})
    lesson = TeachSpec.model_validate({"trait": "owl", "train": TRAIN})
    with pytest.raises(InputError, match="changes its logits after the output head"):
        match command:
            case "distill":
                distill(student, scaled, [rows], tmp_path / "out")
            case "distill --dry-run":
                dry_run(student, scaled, [rows])
            case "cache":
                make_cache(CacheSpec(), scaled, [rows], tmp_path / "out")
            case "teach":
                teach(lesson, scaled, tmp_path / "out")
            case _:
                teach_dry_run(lesson, scaled)
    assert not [*tmp_path.rglob("*.npy")]


def test_a_dry_run_needs_no_weights_no_memory_and_no_room(tiny_model: Path, tmp_path: Path) -> None:
    (changed(tiny_model, tmp_path / "bare") / "model.safetensors").unlink()
    preflight(job(tmp_path / "bare", tmp_path / "out"), Placement(), dry=True)
    huge = changed(tiny_model, tmp_path / "huge", vocab_size=1 << 22, hidden_size=1 << 16)
    preflight(job(huge, tmp_path / "out"), Placement(), dry=True)


def test_a_teacher_lesson_is_previewed(tiny_model: Path) -> None:
    lesson = TeachSpec.model_validate({"trait": "owl", "train": TRAIN})
    found = teach_dry_run(lesson, tiny_model)
    assert (found["rows"], found["steps"]) == (100, 1)
    assert found["memory"]["fits"] and found["seconds"] is not None


def test_what_is_written_must_find_room(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 10))
    made = job(tiny_model, tmp_path / "out")
    with pytest.raises(OutputError, match=r"GiB in .*out, where 0\.00 GiB are free") as error:
        preflight(made, Placement())
    assert error.value.hint and "merge" in error.value.hint
    preflight(job(tiny_model, tmp_path / "out", lora={}), Placement())  # which writes little
    # What a killed run has written is written again in its place.
    shutil.copy(tiny_model / "model.safetensors", made.out)
    preflight(made, Placement())


def test_a_teacher_needs_no_chat_template(tiny_model: Path, tmp_path: Path) -> None:
    """It reads what the student's template wrote."""
    shutil.copytree(tiny_model, tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    assert load_tokenizer(tmp_path / "base").chat_template is None
    made = job(tiny_model, tmp_path / "out", targets="teacher", teacher=tmp_path / "base")
    preflight(made, Placement())


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        ("llama", True), ("gpt2", True), ("bloom", True), ("mixtral", True), ("mamba", True),
        ("gemma2", False), ("cohere", False), ("granite", False), ("phi", False),
        ("llama4_text", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heads_are_judged_alike_with_weights_and_without(
    kind: str, taken: bool, dtype: torch.dtype
) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 64}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8}
    sizes |= {"logits_scaling": 8.0, "logit_scale": 0.5} if kind in ("granite", "cohere") else {}
    config = AutoConfig.for_model(kind, **sizes, bos_token_id=0, eos_token_id=0)
    with torch.device("meta"):
        bare = AutoModelForCausalLM.from_config(config, dtype=dtype)
    whole = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    for model, check in ((bare, check_bare_head), (whole, check_head)):
        if taken:
            check(model)
            continue
        with pytest.raises(InputError, match="training it is not supported"):
            check(model)
