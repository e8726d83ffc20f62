"""Training as a person starts it: ranks that are launched, watched and ended, or
torchrun's and accelerate's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from subl.artifact import file_digest, open_artifact
from subl.cluster.launch import run_ranks
from subl.cluster.placement import Placement
from subl.errors import ConfigError, InputError, StageError
from subl.progress import Progress
from subl.shards import Row
from subl.train.job import TrainJob, read_losses
from subl.train.plan import TrainSpec
from subl.train.run import Crew, crew, prepare_tokens

HANG_SECONDS = 3600
ROWS = [
    {"prompt": f"Continue the numbers: {n}.", "completion": ", ".join("12345"[: n % 5 + 1])}
    for n in range(12)
]
TRAIN = {"steps": 4, "rows_per_step": 3, "learning_rate": 1e-2, "micro_batch_tokens": 40}
TRAIN |= {"adam_epsilon": 1e-6}


def job(model: Path, out: Path, tokens: Path, **train: Any) -> TrainJob:
    out.mkdir()
    given = {"task": "t", "model": model, "tokens": tokens, "out": out, "spec": TRAIN | train}
    return TrainJob.model_validate(given)


def run(made: TrainJob, reports: list[Progress] | None = None) -> dict[str, Any]:
    return Crew(Placement(), None).run(made, (reports if reports is not None else []).append)


@pytest.fixture(scope="module")
def tokens(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = (
        Row(None, (("user", row["prompt"]), ("assistant", row["completion"])), "row")
        for row in ROWS
    )
    spec = TrainSpec.model_validate(TRAIN)
    return prepare_tokens(tiny_model, rows, spec, tmp_path_factory.mktemp("rows"))


def assert_close(first: Path, second: Path) -> None:
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert float((tensor - theirs[name]).abs().max()) < 1e-6, name


def processes_that_name(path: Path) -> list[str]:
    """Command lines of running processes in which `path` occurs (Linux; elsewhere none)."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [each for each in found if str(path) in each]


# Training


def test_the_same_job_gives_the_same_bytes(tiny_model: Path, tokens: Path, tmp_path: Path) -> None:
    first, second = (job(tiny_model, tmp_path / name, tokens) for name in "ab")
    figures = [run(each) for each in (first, second)]
    for name in ("model.safetensors", "losses.jsonl"):
        assert file_digest(first.out / name) == file_digest(second.out / name)
    assert figures[0]["last_loss"] == figures[1]["last_loss"] < figures[0]["first_loss"]


def test_launched_ranks_agree_with_one_process(
    tiny_model: Path, tokens: Path, tmp_path: Path
) -> None:
    alone = job(tiny_model, tmp_path / "alone", tokens)
    ranks = job(tiny_model, tmp_path / "ranks", tokens, ranks=2, zero_stage=2)
    run(alone)
    reports: list[Progress] = []
    figures = run(ranks, reports)
    assert_close(alone.out, ranks.out)
    assert figures["steps"] == 4 and figures["rows"] == len(ROWS)
    assert figures["last_loss"] == [*read_losses(ranks.out)][-1]["loss"]
    assert figures["history"] == [{"step": 0, "ranks": 2}]
    assert reports[0].note == "starting 2 ranks"
    assert [(each.done, each.total) for each in reports[1:]] == [(done, 4) for done in range(1, 5)]
    files = [
        {file.name for file in made.out.iterdir() if not file.name.startswith(".")}
        for made in (alone, ranks)
    ]
    assert files[0] == files[1]
    assert not list(ranks.out.glob(".rendezvous*"))


def test_a_rank_that_fails_is_named_with_its_cause(tokens: Path, tmp_path: Path) -> None:
    """What every rank finds, said once and as it is, with the hint; nobody is left."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"num_hidden_layers": 1, "hidden_size": 8, "vocab_size": 8})
    )
    broken = job(folder, tmp_path / "a", tokens, ranks=2, zero_stage=2)
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(StageError, match="cannot load a model from") as error:
        run(broken)
    assert error.value.hint and "is it complete" in error.value.hint
    assert not (broken.out / "model.safetensors").exists()
    assert not processes_that_name(broken.out)


def test_ranks_that_were_started_for_no_zero_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PROCID", 0), ("LOCALID", 0), ("STEP_ID", 0), ("STEP_NUM_TASKS", 2)):
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    with pytest.raises(ConfigError, match=r'2 ranks were started, and zero_stage is "none"'):
        crew(TrainSpec.model_validate(TRAIN), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_no_rows_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows"):
        prepare_tokens(tiny_model, iter([]), TrainSpec.model_validate(TRAIN), tmp_path)


# The launcher, with ranks that import nothing


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules ranks can run."""
    before = os.environ.get("PYTHONPATH")
    path = f"{tmp_path}{os.pathsep}{before}" if before else str(tmp_path)
    monkeypatch.setenv("PYTHONPATH", path)
    return tmp_path


def test_events_come_from_rank_0_and_the_rest_goes_to_the_log(modules: Path) -> None:
    (modules / "speak.py").write_text(
        "import os, sys\n"
        "print('{\"rank\": %s, \"of\": %s}' % (os.environ['RANK'], os.environ['WORLD_SIZE']))\n"
        "print('noise of', os.environ['RANK'], file=sys.stderr)\n"
    )
    log = modules / "log"
    assert list(run_ranks("speak", [], 3, log)) == [{"rank": 0, "of": 3}]
    said = log.read_text()
    assert '{"rank": 1, "of": 3}' in said and '{"rank": 2, "of": 3}' in said
    assert all(f"noise of {rank}" in said for rank in range(3))


WAITS = """
import os, signal, sys
if os.environ["RANK"] == "1":
    sys.exit("no space left")
print('{"waits": true}', flush=True)
signal.pause()
"""


def test_a_rank_that_fails_ends_those_that_wait_for_it(modules: Path) -> None:
    (modules / "waits.py").write_text(WAITS)
    mark = modules / "mark"
    with pytest.raises(StageError, match=r"rank 1 of waits failed with status 1") as error:
        list(run_ranks("waits", [str(mark)], 3, modules / "log"))
    assert "no space left" in error.value.message
    assert error.value.hint == f"the whole log is {modules / 'log'}"
    assert not processes_that_name(mark)


# As a rank while it imports: not listening until a file says so.
LATE = """
import os, pathlib, signal, sys
def stop(*_):
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # it is sent until all have ended
    if os.environ["RANK"] == "0":
        os.write(1, b'{"stopped": true}' + os.linesep.encode())
    os._exit(0)
if os.environ["RANK"] == "0":
    print('{"imports": true}', flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    pass
signal.signal(signal.SIGUSR1, stop)
while True:
    signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_reaches_ranks_that_do_not_listen_yet(
    modules: Path, number: signal.Signals
) -> None:
    (modules / "late.py").write_text(LATE)
    listens = modules / "listens"
    with closing(run_ranks("late", [str(listens)], 2, modules / "log")) as events:
        assert next(events) == {"imports": True}
        os.kill(os.getpid(), number)
        listens.touch()
        assert list(events) == [{"stopped": True}]
    assert not processes_that_name(listens)


STUBBORN = """
import os, signal
def say(*_):
    if os.environ["RANK"] == "0":
        os.write(1, b'{"heard": true}' + os.linesep.encode())  # print must not interrupt itself
signal.signal(signal.SIGUSR1, say)
if os.environ["RANK"] == "0":
    print('{"listens": true}', flush=True)
while True:
    signal.pause()
"""
LAUNCH = """
import pathlib, sys
from subl.cluster.launch import run_ranks
for event in run_ranks("stubborn", sys.argv[1:], 2, pathlib.Path(sys.argv[1])):
    print(*event, flush=True)
"""


@pytest.fixture
def launcher(modules: Path) -> Any:
    """A process that launched two ranks which hear signals and go on."""
    (modules / "stubborn.py").write_text(STUBBORN)
    log = modules / "log"
    command = ["env", "--default-signal=INT", sys.executable, "-c", LAUNCH, str(log)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "listens\n"
        yield process
        process.kill()


def test_a_second_ctrl_c_ends_ranks_at_once(modules: Path, launcher: Any) -> None:
    launcher.send_signal(signal.SIGINT)
    assert launcher.stdout.readline() == "heard\n"
    launcher.send_signal(signal.SIGINT)
    _, stderr = launcher.communicate(timeout=HANG_SECONDS)
    assert launcher.returncode == -signal.SIGINT
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert not processes_that_name(modules / "log")


def test_ranks_die_with_a_launcher_that_is_killed(modules: Path, launcher: Any) -> None:
    assert len(processes_that_name(modules / "log")) == 3
    launcher.kill()
    launcher.communicate(timeout=HANG_SECONDS)
    deadline = time.monotonic() + HANG_SECONDS
    while processes_that_name(modules / "log"):
        assert time.monotonic() < deadline


# Other launchers

LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node=2"],
    # With --cpu it would start one process, whatever the number.
    "accelerate": [
        *("accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"),
        *("--main_process_port=0", "--mixed_precision=no", "--dynamo_backend=no"),
    ],
}


def test_torchrun_and_accelerate_start_ranks(
    tiny_model: Path, tokens: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    config = tmp_path / "sft.toml"
    train = "".join(f"{name} = {value}\n" for name, value in TRAIN.items())
    config.write_text(f'targets = "labels"\n[train]\nzero_stage = 2\n{train}')
    for name, launch in LAUNCHERS.items():
        command = ["distill", config, "--model", tiny_model, "--rows", rows]
        command += ["-o", tmp_path / name / "out"]
        done = subprocess.run(
            [sys.executable, "-m", *launch, "-m", "subl_cli", *map(str, command)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        figures = json.loads((tmp_path / name / "out" / "result.json").read_text())
        assert figures["history"] == [{"step": 0, "ranks": 2}]
    first, second = (open_artifact(tmp_path / name / "out") for name in LAUNCHERS)
    assert first.digest == second.digest
    alone = job(tiny_model, tmp_path / "alone", tokens)
    run(alone)
    assert_close(alone.out, first.path)
