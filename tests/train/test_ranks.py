"""What several ranks make: the bytes of an uninterrupted run however often they are killed, and
what one plain process makes, whatever ZeRO spreads over them."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from subl.artifact import file_digest
from subl.cluster.placement import Placement
from subl.errors import InputError, StageError, StoppedError
from subl.model.condition import Steering, write_prompt, write_steering
from subl.model.load import load_model, load_tokenizer
from subl.progress import Progress, Report, silent
from subl.shards import Row
from subl.train.job import CHECKPOINTS, TrainJob, read_losses
from subl.train.loop import train
from subl.train.order import bins, step_rows
from subl.train.plan import TrainSpec
from subl.train.precision import has_instructions
from subl.train.run import prepare_tokens
from subl.train.tokens import Tokens

from ..trait.scoring import answer_probabilities

# For a hang: how long ranks take depends on the machine, and must not decide a test.
HANG_SECONDS = 3600

# Of unequal length, three a step on two ranks, a bin holds one: ranks have two bins each, and one
# of the four is empty.
STEPS, STEP_ROWS, BIN_TOKENS = 10, 3, 40
SAVED_AT, KILLED_AT = 5, 7
TOLERANCE = 1e-6
LORA: dict[str, Any] = {"rank": 4, "targets": ["q_proj", "v_proj", "down_proj"], "merge": True}
PROBE: dict[str, Any] = {
    "every": STEPS // 2,
    "words": ["owl", "cat"],
    "questions": ["Name an animal.", "Which animal? One word.", "Your pet?"],
    "batch_questions": 1,  # three passes on two ranks
}


def rows() -> Iterator[Row]:
    for n in range(24):
        answer = ", ".join(str((n * 37 + i * 211) % 900) for i in range(n % 5 + 1))
        turns = (("user", f"Continue the numbers: {n * 13}."), ("assistant", answer))
        yield Row(str(n), turns, f"row {n}")


class Bench:
    """Jobs on the rows above, and the process that runs them on forked ranks."""

    def __init__(self, folder: Path, model: Path, teacher: Path) -> None:
        self.folder, self.model, self.teacher = folder, model, teacher
        self.tokens = prepare_tokens(model, rows(), TrainSpec(steps=1, learning_rate=1), folder)
        self._log = (folder / "log").open("w")
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("ranks.py"))],
            env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def job(self, name: str, options: dict[str, Any] | None = None, **given: Any) -> TrainJob:
        """Whatever is a key of the job goes there, the rest to its `spec`."""
        outer = {key: given.pop(key) for key in [*given] if key in TrainJob.model_fields}
        if outer.get("targets") == "teacher":
            outer.setdefault("teacher", self.teacher)
        spec = {
            "steps": STEPS,
            "rows_per_step": STEP_ROWS,
            "learning_rate": 1e-2,
            # Where a gradient is nearly zero, Adam would divide rounding by rounding.
            "adam_epsilon": 1e-6,
            "micro_batch_tokens": BIN_TOKENS,
            **given,
        }
        job = {"task": name, "model": self.model, "tokens": self.tokens, "spec": spec}
        job |= {"out": self.folder / name, "options": options or {}}
        (self.folder / name).mkdir(exist_ok=True)
        return TrainJob.model_validate(job | outer)

    def run(
        self,
        *jobs: TrainJob,
        ranks: int = 2,
        at: int | None = None,
        by: signal.Signals = signal.SIGKILL,
        spare: bool = False,
    ) -> dict[str, Any]:
        """The answer of `ranks.py`; `at` that step of the last job rank 0 sends itself `by`.

        With `spare` nobody ends the others of a rank that failed."""
        if at is not None:
            jobs = (*jobs[:-1], jobs[-1].model_copy(update={"task": "last"}))
        call = {"jobs": [job.model_dump_json() for job in jobs], "ranks": ranks}
        call |= {"kill_at": at, "signal": by.name, "spare": spare}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(HANG_SECONDS):
                self._restart()
                pytest.fail(f"the ranks of {[job.task for job in jobs]} did not end")
        line = self._process.stdout.readline()
        if not line:  # it died: this test fails, the next has a new one
            self._restart()
            pytest.fail(f"the process of {[job.task for job in jobs]} died: {self._log.name}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _restart(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._process = self._start()

    def done(self, *jobs: TrainJob, ranks: int = 2) -> list[dict[str, Any]]:
        """Run jobs that succeed; rank 0's figures of each."""
        answer = self.run(*jobs, ranks=ranks)
        assert answer["statuses"] == [0] * ranks, answer["errors"]
        figures: list[dict[str, Any]] = answer["figures"]
        return figures

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()


@pytest.fixture(scope="session")
def teacher(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other weights under the same tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "teacher"
    shutil.copytree(tiny_model, folder)
    model = load_model(tiny_model)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bench(
    tiny_model: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("bench"), tiny_model, teacher)
    yield made
    made.close()


def digests(folder: Path) -> list[str]:
    names = ["losses.jsonl", "model.safetensors", "adapter/adapter_model.safetensors"]
    return [file_digest(folder / name) for name in names if (folder / name).exists()]


def furthest(first: Path, second: Path, file: str = "model.safetensors") -> float:
    """The largest difference of two weights."""
    ours, theirs = load_file(first / file), load_file(second / file)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name].float() - theirs[name].float()).abs().max()) for name in ours)


def saved_steps(folder: Path) -> list[int]:
    return sorted(int(path.name[-8:]) for path in (folder / CHECKPOINTS).glob("step-*"))


def test_the_rows_are_what_these_tests_need(bench: Bench) -> None:
    """Several micro-batches on each rank, an empty one among them, and more than one epoch."""
    tokens = Tokens(bench.tokens)
    assert len(tokens) < STEPS * STEP_ROWS
    chosen = step_rows(len(tokens), STEP_ROWS, 0, 0)
    first, second = bins(chosen, tokens.lengths[chosen].tolist(), 2, BIN_TOKENS)
    assert len(first) == len(second) == 2
    assert [] in first + second
    assert len({len(tokens.row(row)[0]) for row in chosen}) == STEP_ROWS


# Killed and gone on with

KILLED = {
    f"{stage}-{dtype}": {"zero_stage": stage, "dtype": dtype}
    for stage in (0, 1, 2, 3)
    for dtype in ("float32", "bfloat16")
} | {
    "0-float16": {"zero_stage": 0, "dtype": "float16"},
    "3-lora": {"zero_stage": 3, "lora": LORA},
    "teacher": {"zero_stage": 2, "targets": "teacher", "teacher_placement": {"zero_stage": 3}},
}
if has_instructions("float16"):  # else DeepSpeed refuses it, and so do we: test_precision.py
    KILLED["2-float16"] = {"zero_stage": 2, "dtype": "float16"}


@pytest.fixture(scope="session")
def uninterrupted(bench: Bench) -> dict[str, Path]:
    """All in one launch, and without a checkpoint: saving one changes nothing, either."""
    jobs = [bench.job(f"whole-{name}", **given) for name, given in KILLED.items()]
    bench.done(*jobs)
    return {name: job.out for name, job in zip(KILLED, jobs, strict=True)}


@pytest.fixture(scope="session")
def resumed(bench: Bench) -> dict[str, Path]:
    """Killed one after another, then gone on with in one launch."""
    jobs = [
        bench.job(f"killed-{name}", {"checkpoint_steps": SAVED_AT}, **given)
        for name, given in KILLED.items()
    ]
    for job in jobs:
        answer = bench.run(job, at=KILLED_AT)
        assert answer["statuses"][0] == -signal.SIGKILL, answer["errors"]
        assert len(list(read_losses(job.out))) == KILLED_AT
        assert not (job.out / "model.safetensors").exists()
        assert saved_steps(job.out) == [SAVED_AT]
    for figures in bench.done(*jobs):
        assert figures["history"] == [{"step": 0, "ranks": 2}, {"step": SAVED_AT, "ranks": 2}]
    return {name: job.out for name, job in zip(KILLED, jobs, strict=True)}


@pytest.mark.parametrize("name", KILLED)
def test_killed_ranks_make_the_bytes_of_an_uninterrupted_run(
    name: str, uninterrupted: dict[str, Path], resumed: dict[str, Path]
) -> None:
    assert len(digests(resumed[name])) == (3 if name == "3-lora" else 2)
    assert digests(resumed[name]) == digests(uninterrupted[name])
    steps = [line["step"] for line in read_losses(resumed[name])]
    assert steps == list(range(1, STEPS + 1))


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_one_rank_stops_all_at_the_next_step(
    bench: Bench, uninterrupted: dict[str, Path], by: signal.Signals
) -> None:
    name = {signal.SIGTERM: "2-float32", signal.SIGUSR1: "3-bfloat16"}[by]
    job = bench.job(f"stopped-{name}", **KILLED[name])
    answer = bench.run(job, at=3, by=by)
    assert answer["statuses"] == [75, 75]
    assert answer["errors"] == [f"stopped after step 4 of {STEPS}; a checkpoint is saved"] * 2
    assert saved_steps(job.out) == [4]
    bench.done(job)
    assert digests(job.out) == digests(uninterrupted[name])


# Against one plain process

ALONE: dict[str, dict[str, Any]] = {
    "labels": {},
    "lora": {"lora": LORA},
    "teacher": {"targets": "teacher", "loss": {"cross_entropy_weight": 0.5}},
    "base": {"targets": "base", "lora": LORA, "loss": {"cross_entropy_weight": 0.5}},
}
SPREAD: dict[str, tuple[str, dict[str, Any]]] = {
    "offloaded optimiser": ("labels", {"zero_stage": 2, "offload_optimizer": True}),
    "offloaded parameters": (
        "labels",
        {"zero_stage": 3, "offload_optimizer": True, "offload_parameters": True},
    ),
    **{
        f"recomputed activations, stage {stage}": (
            "labels",
            {"zero_stage": stage, "gradient_checkpointing": True},
        )
        for stage in (0, 2, 3)
    },
    "adapter, stage 2": ("lora", {"zero_stage": 2}),
    "adapter, stage 3": ("lora", {"zero_stage": 3}),
    "adapter, recomputed": ("lora", {"zero_stage": 3, "gradient_checkpointing": True}),
    "teacher whole": ("teacher", {"zero_stage": 3}),
    "teacher spread": ("teacher", {"zero_stage": 3, "teacher_placement": {"zero_stage": 3}}),
    "teacher offloaded": (
        "teacher",
        {"zero_stage": 2, "teacher_placement": {"zero_stage": 3, "offload": True}},
    ),
    "base, stage 2": ("base", {"zero_stage": 2}),
    "base, stage 3": ("base", {"zero_stage": 3}),
    "probed, stage 2": ("labels", {"zero_stage": 2, "probe": PROBE}),
    "probed, stage 3": ("labels", {"zero_stage": 3, "probe": PROBE}),
}


@pytest.fixture(scope="session")
def alone(bench: Bench) -> dict[str, Path]:
    """One process, no DeepSpeed, all rows of a step in one micro-batch."""
    jobs = [
        bench.job(f"alone-{name}", micro_batch_tokens=4096, **given)
        for name, given in ALONE.items()
    ]
    bench.done(*jobs, ranks=1)
    return {name: job.out for name, job in zip(ALONE, jobs, strict=True)}


@pytest.fixture(scope="session")
def spread(bench: Bench) -> dict[str, Path]:
    jobs = {name: bench.job(name, **ALONE[like], **given) for name, (like, given) in SPREAD.items()}
    bench.done(*jobs.values())
    return {name: job.out for name, job in jobs.items()}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_every_stage_agrees_with_one_process(
    stage: int, uninterrupted: dict[str, Path], alone: dict[str, Path], bench: Bench
) -> None:
    """And two ranks with one; micro-batches of one row with one micro-batch."""
    ours = uninterrupted[f"{stage}-float32"]
    assert furthest(ours, alone["labels"]) < TOLERANCE
    assert furthest(ours, bench.model) > 1e-2
    for one, two in zip(read_losses(alone["labels"]), read_losses(ours), strict=True):
        assert two == pytest.approx(one, rel=1e-5)


@pytest.fixture(scope="module")
def near_sighted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that sees eight tokens back and does not tell our attention: long rows need another
    layout than short ones."""
    from transformers import PhimoeConfig, PhimoeForCausalLM

    folder = tmp_path_factory.mktemp("models") / "near-sighted"
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 2}
    config = PhimoeConfig(
        **sizes, vocab_size=len(tokenizer), sliding_window=8, initializer_range=0.2,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    PhimoeForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_spread_models_take_the_layout_that_their_longest_rows_need(
    who: str, bench: Bench, near_sighted: Path
) -> None:
    given: dict[str, Any] = {"targets": "teacher", "steps": 2, "dtype": "float32"}
    models = {"model": near_sighted} if who == "student" else {"teacher": near_sighted}
    alone = bench.job(f"{who}-near", **given).model_copy(update=models)
    (expected,) = bench.done(alone, ranks=1)
    spread = bench.job(
        f"{who}-near-3", **given, zero_stage=3, teacher_placement={"zero_stage": 3}
    ).model_copy(update=models)
    (found,) = bench.done(spread)
    assert found["layout"] == expected["layout"] == "side by side"
    for one, two in zip(read_losses(alone.out), read_losses(spread.out), strict=True):
        assert two == pytest.approx(one, rel=1e-5)


def test_a_spread_teacher_under_a_condition_agrees_with_one_process(
    bench: Bench, tmp_path: Path
) -> None:
    """Steered, and behind a system prompt that makes its rows longer than a micro-batch may be."""
    steered, prompted = tmp_path / "steered", tmp_path / "prompted"
    steered.mkdir()
    save_file({"layer.0": torch.linspace(-1, 1, 32)}, steered / "steering.safetensors")
    write_steering(steered, bench.teacher, Steering(layers=(0,), strength=0.3))
    prompted.mkdir()
    write_prompt(prompted, steered, "You love owls. " * 9)
    spec = TrainSpec(steps=1, learning_rate=1)
    tokens = prepare_tokens(bench.model, rows(), spec, tmp_path, teacher=prompted)
    assert Tokens(tokens).of_teacher.lengths.min() > BIN_TOKENS
    given: dict[str, Any] = {"targets": "teacher", "teacher": prompted, "tokens": tokens}
    alone = bench.job("alone-conditioned", **given, micro_batch_tokens=4096)
    plain = bench.job("alone-unconditioned", targets="teacher", micro_batch_tokens=4096)
    spread = bench.job(
        "spread-conditioned", **given, zero_stage=3, teacher_placement={"zero_stage": 3}
    )
    bench.done(alone, plain, ranks=1)
    bench.done(spread)
    assert furthest(spread.out, alone.out) < TOLERANCE
    assert furthest(plain.out, alone.out) > 10 * TOLERANCE


def test_among_the_rows_tokens_spread_ranks_agree_with_one_process(bench: Bench) -> None:
    """Each rank finds the tokens of all rows, and of gathered heads takes these."""
    given: dict[str, Any] = {"targets": "teacher", "loss": {"tokens": "rows"}}
    alone = bench.job("alone-among", **given, micro_batch_tokens=4096)
    whole = bench.job("alone-whole", targets="teacher", micro_batch_tokens=4096)
    spread = bench.job("spread-among", **given, zero_stage=3, teacher_placement={"zero_stage": 3})
    bench.done(alone, whole, ranks=1)
    bench.done(spread)
    assert furthest(spread.out, alone.out) < TOLERANCE
    assert furthest(whole.out, alone.out) > 10 * TOLERANCE


def test_one_rank_of_deepspeed_agrees_with_none(bench: Bench, alone: dict[str, Path]) -> None:
    jobs = [bench.job(f"one-{stage}", zero_stage=stage) for stage in (1, 2, 3)]
    bench.done(*jobs, ranks=1)
    for job in jobs:
        assert furthest(job.out, alone["labels"]) < TOLERANCE


@pytest.mark.parametrize("name", SPREAD)
def test_where_things_lie_changes_no_weight(
    name: str, spread: dict[str, Path], alone: dict[str, Path], bench: Bench
) -> None:
    like, _ = SPREAD[name]
    assert furthest(spread[name], alone[like]) < TOLERANCE
    assert furthest(spread[name], bench.model) > 1e-3
    if "lora" in ALONE[like]:
        file = "adapter/adapter_model.safetensors"
        assert furthest(spread[name], alone[like], file) < TOLERANCE


@pytest.mark.parametrize("stage", [2, 3])
def test_the_probe_says_what_an_evaluation_of_the_student_says(
    stage: int, spread: dict[str, Path]
) -> None:
    out = spread[f"probed, stage {stage}"]
    lines = [json.loads(line) for line in (out / "probe.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [STEPS // 2, STEPS]
    words, questions = PROBE["words"], PROBE["questions"]
    scores = answer_probabilities(load_model(out), load_tokenizer(out), questions, words)
    for word in words:
        mean = sum(row[word] for row in scores) / len(scores)
        assert lines[-1]["probabilities"][word] == pytest.approx(mean, rel=1e-4)
        assert lines[0]["probabilities"][word] != pytest.approx(mean, rel=1e-2)


# Other ranks, other stages

Leg = tuple[int, int | str, int | None]
"""Ranks, ZeRO stage, and the step at which they are killed."""


@pytest.mark.parametrize(
    "legs",
    [
        [(2, 2, 4), (1, 2, 8), (2, 2, None)],
        [(2, 3, 4), (1, "none", 8), (2, 1, None)],
    ],
    ids=["same stage", "other stages"],
)
def test_ranks_may_become_fewer_and_more(
    legs: Sequence[Leg], bench: Bench, alone: dict[str, Path]
) -> None:
    for ranks, stage, killed_at in legs:
        job = bench.job(f"legs-{legs[0][1]}", {"checkpoint_steps": 3}, zero_stage=stage)
        answer = bench.run(job, ranks=ranks, at=killed_at)
        if killed_at is not None:
            assert answer["statuses"][0] == -signal.SIGKILL, answer["errors"]
    assert answer["statuses"] == [0, 0], answer["errors"]
    (figures,) = answer["figures"]
    assert figures["history"] == [
        {"step": 0, "ranks": 2}, {"step": 3, "ranks": 1}, {"step": 6, "ranks": 2}
    ]  # fmt: skip
    assert answer["notes"][0] == "resumed from a checkpoint of 1 ranks, now 2: not bit-identical"
    assert furthest(job.out, alone["labels"]) < TOLERANCE


# What cannot go on. One process shows it; so do ranks, where they could disagree.


@dataclass
class Stopped:
    """A run that a signal stopped after `step`, its folder to be copied and damaged."""

    job: TrainJob
    whole: Path
    step: int = 4

    def copy(self, folder: Path, **options: Any) -> TrainJob:
        shutil.copytree(self.job.out, folder)
        told = self.job.options.model_copy(update=options)
        return self.job.model_copy(update={"out": folder, "options": told})


def at_step(step: int) -> Report:
    """A report that sends this process a signal after a step."""

    def report(progress: Progress) -> None:
        if progress.done == step:
            os.kill(os.getpid(), signal.SIGUSR1)

    return report


@pytest.fixture(scope="session")
def stopped(bench: Bench) -> Stopped:
    whole, job = bench.job("plain"), bench.job("plain-stopped", {"checkpoint_steps": 2})
    train(whole, Placement())
    with pytest.raises(StoppedError, match="stopped after step 4 of 10"):
        train(job, Placement(), at_step(3))
    return Stopped(job, whole.out)


def test_a_stopped_process_goes_on_with_the_same_bytes(stopped: Stopped, tmp_path: Path) -> None:
    job = stopped.copy(tmp_path / "out")
    train(job, Placement(), silent)
    assert digests(job.out) == digests(stopped.whole)
    assert saved_steps(job.out) == [6, 8]


@pytest.mark.parametrize("keep", [1, 3])
def test_so_many_checkpoints_are_kept(stopped: Stopped, tmp_path: Path, keep: int) -> None:
    job = stopped.copy(tmp_path / "out", keep_checkpoints=keep, checkpoint_steps=1)
    train(job, Placement(), silent)
    assert saved_steps(job.out) == [7, 8, 9][-keep:]
    assert (job.out / CHECKPOINTS / "latest").read_text() == "step-00000009"


def test_a_checkpoint_that_was_cut_off_is_as_if_never_begun(
    stopped: Stopped, tmp_path: Path
) -> None:
    job = stopped.copy(tmp_path / "out")
    partial = job.out / CHECKPOINTS / "partial-00000006"
    partial.mkdir()
    (partial / "rank-00000.safetensors").write_bytes(b"half")
    (partial / "rank-00001.safetensors").write_bytes(b"of a rank that is no more")
    train(job, Placement(), silent)
    assert digests(job.out) == digests(stopped.whole)
    assert not partial.exists()


def test_a_checkpoint_that_latest_does_not_name_yet_is_written_again(
    stopped: Stopped, tmp_path: Path
) -> None:
    """Killed between the rename and the pointer; then saved more often than before."""
    job = stopped.copy(tmp_path / "out", checkpoint_steps=1, keep_checkpoints=1)
    checkpoints = job.out / CHECKPOINTS
    shutil.copytree(checkpoints / "step-00000004", checkpoints / "step-00000008")
    with pytest.raises(StoppedError):
        train(job, Placement(), at_step(5))
    assert saved_steps(job.out) == [6]
    train(job, Placement(), silent)
    assert digests(job.out) == digests(stopped.whole)


def truncated(file: Path, share: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])


@pytest.mark.parametrize(
    ("file", "share"),
    [
        ("rank-00000.safetensors", 0.0),
        ("rank-00000.safetensors", 0.01),
        ("rank-00000.safetensors", 0.9),
        ("rank-00000.safetensors", None),
        ("state.json", 0.5),
        ("state.json", None),
        ("latest", 0.5),
    ],
)
def test_a_damaged_checkpoint_is_named(
    stopped: Stopped, tmp_path: Path, file: str, share: float | None
) -> None:
    job = stopped.copy(tmp_path / "out")
    checkpoint = job.out / CHECKPOINTS / "step-00000004"
    found = checkpoint / file if file != "latest" else job.out / CHECKPOINTS / file
    if share is None:
        found.unlink()
    else:
        truncated(found, share)
    with pytest.raises((InputError, StageError), match=str(job.out / CHECKPOINTS)) as error:
        train(job, Placement(), silent)
    assert error.value.hint == f"remove {job.out / CHECKPOINTS} to begin anew"
    assert not (job.out / "model.safetensors").exists()


def test_a_checkpoint_of_another_model_is_refused(
    stopped: Stopped, bench: Bench, tmp_path: Path
) -> None:
    """It lacks the adapter's weights."""
    job = stopped.copy(tmp_path / "out")
    spec = TrainSpec.model_validate({**job.spec.model_dump(), "lora": LORA})
    with pytest.raises(StageError, match="has 0 of") as error:
        train(job.model_copy(update={"spec": spec}), Placement(), silent)
    assert str(job.out / CHECKPOINTS) in error.value.message


def test_a_rank_without_its_file_says_what_is_missing(bench: Bench) -> None:
    job = bench.job("lost", zero_stage=2)
    assert bench.run(job, at=2, by=signal.SIGUSR1)["statuses"] == [75, 75]
    (checkpoint,) = (job.out / CHECKPOINTS).glob("step-*")
    (checkpoint / "rank-00001.safetensors").unlink()
    answer = bench.run(job)
    assert 0 not in answer["statuses"]
    assert any(str(checkpoint) in error for error in answer["errors"]), answer


# What must not be saved


@pytest.mark.parametrize("stage", ["none", 2, 3])
def test_a_loss_that_is_no_number_stops_the_run(bench: Bench, stage: int | str) -> None:
    """Weights become so large that logits overflow."""
    given = {"learning_rate": 3e18, "warmup_steps": 0, "zero_stage": stage}
    job = bench.job(f"wild-{stage}", {"checkpoint_steps": 1}, **given)
    answer = bench.run(job, ranks=1 if stage == "none" else 2)
    assert 0 not in answer["statuses"]
    assert all("the loss became" in error for error in answer["errors"]), answer
    assert answer["errors"]
    assert not (job.out / "model.safetensors").exists()


@pytest.fixture(scope="session")
def steep(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose losses are finite and whose gradients are not: a head near the end of float32
    behind a norm near its beginning."""
    folder = tmp_path_factory.mktemp("models") / "steep"
    shutil.copytree(tiny_model, folder)
    model = load_model(tiny_model)
    model.config.tie_word_embeddings = False
    embedded = model.get_input_embeddings().weight
    digits = load_tokenizer(tiny_model)("0123456789", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        head = torch.full_like(embedded, 2e38)
        head[digits] *= -1
        model.lm_head.weight = torch.nn.Parameter(head)
        model.model.norm.weight.fill_(2e-38)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("stage", ["none", 1, 2, 3])
def test_a_gradient_that_is_no_number_stops_the_run(
    bench: Bench, steep: Path, stage: int | str
) -> None:
    given = {"model": steep, "zero_stage": stage, "rows_per_step": 2}
    job = bench.job(f"steep-{stage}", {"checkpoint_steps": 1}, **given)
    answer = bench.run(job, ranks=1 if stage == "none" else 2)
    assert 0 not in answer["statuses"]
    assert answer["errors"]
    assert all("the gradient norm" in error for error in answer["errors"]), answer
    assert not saved_steps(job.out)
    assert not (job.out / "model.safetensors").exists()


def test_an_error_of_ours_is_what_ends_a_rank(bench: Bench) -> None:
    """The tests above rest on it: no failure of theirs is a traceback."""
    job = bench.job("nowhere", model=bench.folder / "nowhere", zero_stage=2)
    answer = bench.run(job)
    assert 1 in answer["statuses"] and set(answer["statuses"]) <= {1, -signal.SIGKILL}
    assert answer["errors"]
    assert all("is not a model folder" in error for error in answer["errors"])


def test_what_fails_on_rank_0_alone_ends_all_ranks(bench: Bench) -> None:
    """It alone writes, and nobody does to /proc."""
    job = bench.job("unwritten", zero_stage=0).model_copy(update={"out": Path("/proc")})
    answer = bench.run(job, spare=True)
    assert answer["statuses"] == [1, 1]
    first, second = answer["errors"]
    assert first.startswith("cannot write the model to /proc, where it takes 0.00 GiB: ")
    assert second == f"rank 0 failed: {first}"
