"""What a cluster has, and what may go wrong on it, before anything is submitted.

`python -m subl.slurm.doctor FOLDER` is what a node is asked, by srun.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import subl
from subl.cores import cores
from subl.errors import SublError
from subl.slurm.client import Client
from subl.slurm.spec import SlurmSpec

PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol", "srun", "sinfo")
CLOCK_SECONDS = 5.0
"""A difference of clocks that may mislead what compares times of files."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it is, and what to do where it is not well."""

    what: str
    state: Literal["ok", "warning", "error"]
    said: str
    hint: str = ""


def doctor(
    spec: SlurmSpec, folder: Path, *, nodes: int = 0, client: Client | None = None
) -> list[Finding]:
    """Look at programs, controller, partitions and settings; and, with `nodes`, at so many nodes by
    a short job, as `spec` asks for it, to which `folder` must be visible."""
    client = client or Client(seconds=10.0, tries=2)
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        hint = "go to a login node, or load the site's module for Slurm"
        return [Finding("programs", "error", f"not on the PATH: {', '.join(missing)}", hint)]
    found = [Finding("programs", "ok", client.ask("sbatch", "--version").strip())]
    looks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _controller(client),
        lambda: _partitions(client, spec),
        lambda: _settings(client, spec),
    ]
    if nodes:
        looks.append(lambda: _nodes(spec, folder, nodes))
    for look in looks:
        try:
            found += look()
        except SublError as error:
            found.append(Finding("answers", "error", error.message, error.hint or ""))
    return found


def _controller(client: Client) -> Iterator[Finding]:
    before = time.monotonic()
    is_there = client.queue() is not None
    seconds = time.monotonic() - before
    if not is_there:
        yield Finding("queue", "error", "squeue does not answer", "try later, or ask the site")
    elif seconds > 5:
        hint = "the controller is busy: ask for arrays, and seldom for the status"
        yield Finding("queue", "warning", f"squeue takes {seconds:.1f} s", hint)
    else:
        yield Finding("queue", "ok", f"squeue takes {seconds:.1f} s")


def _partitions(client: Client, spec: SlurmSpec) -> Iterator[Finding]:
    said = client.ask("sinfo", "--noheader", "--format=%R|%a|%l|%D|%c|%m|%G")
    names = set()
    for line in said.splitlines():
        name, up, limit, count, cpus, memory, gres = line.split("|", 6)
        names.add(name)
        gpus = "" if gres == "(null)" else f", {gres}"
        facts = f"{up}, {count} nodes of {cpus} cores and {memory} MB{gpus}, limit {limit}"
        yield Finding(f"partition {name}", "ok" if up == "up" else "warning", facts)
    if spec.partition is not None and not {*spec.partition.split(",")} <= names:
        hint = f"partitions: {', '.join(sorted(names))}"
        yield Finding("your partition", "error", f"there is no {spec.partition}", hint)


def _settings(client: Client, spec: SlurmSpec) -> Iterator[Finding]:
    config = {}
    for line in client.ask("scontrol", "show", "config").splitlines():
        key, _, value = line.partition("=")
        config[key.strip()] = value.strip()
    size = config.get("MaxArraySize", "")
    if size.isdecimal():
        state: Literal["ok", "warning"] = "warning" if (spec.array or 0) > int(size) else "ok"
        yield Finding("arrays", state, f"{size} tasks at most", "ask for a smaller array")
    if config.get("AccountingStorageType", "").endswith("none"):
        yield Finding("accounting", "ok", "none: subl's own records say how jobs ended")
    else:
        yield Finding("accounting", "ok", "sacct is asked for what jobs used")
    if spec.requeue and config.get("JobRequeue") == "0":
        hint = "requeue = false; submit again when subl slurm status says resumable"
        yield Finding("requeue", "warning", "jobs are not requeued here, unless asked to", hint)
    wait = config.get("KillWait", "").split(" ")[0]
    if wait.isdecimal() and spec.signal_seconds is None:
        hint = "set signal_seconds to what a checkpoint takes"
        text = f"a job has {wait} s between SIGTERM and its end, and is not told before"
        yield Finding("signals", "warning", text, hint)
    elif spec.signal_seconds is not None:
        text = f"a job is told {spec.signal_seconds} s before its time is up"
        yield Finding("signals", "ok", f"{text}, and has {wait} s when it is cancelled")
    if "rl_enable" in config.get("SlurmctldParameters", ""):
        hint = "submit arrays; each sbatch, squeue and srun is a request"
        yield Finding("rate limit", "warning", config["SlurmctldParameters"], hint)


def _nodes(spec: SlurmSpec, folder: Path, nodes: int) -> Iterator[Finding]:
    """What nodes see of a file that was written here just now."""
    folder = folder.absolute()
    mark = folder / f".subl-doctor-{os.getpid()}"
    mark.touch()
    wishes = {
        "partition": spec.partition,
        "account": spec.account,
        "qos": spec.qos,
        "constraint": spec.constraint,
        "gpus-per-node": spec.gpus_per_node,
    }
    asked = [f"--{key}={value}" for key, value in wishes.items() if value is not None]
    command = ["srun", "--quiet", f"--nodes={nodes}", "--ntasks-per-node=1", "--time=5", *asked]
    try:
        done = subprocess.run(
            [*command, sys.executable, "-m", "subl.slurm.doctor", str(mark)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=600,
        )
    except subprocess.TimeoutExpired:
        yield Finding(
            "nodes", "warning", "no node was free for 10 min", "try later, or another one"
        )
        return
    finally:
        mark.unlink(missing_ok=True)
    here = asdict(_Facts.here(None))
    for line in done.stdout.splitlines():
        try:
            facts = _Facts(**json.loads(line))
        except (ValueError, TypeError):
            continue
        yield from _compared(facts, here, folder)
    if done.returncode:
        words = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        yield Finding("nodes", "error", f"srun failed: {words}", "is the environment on all nodes?")


def _compared(facts: _Facts, here: dict[str, Any], folder: Path) -> Iterator[Finding]:
    node = f"node {facts.host}"
    if facts.late_seconds is None:
        hint = "work in a folder that all machines share"
        yield Finding(node, "error", f"does not see {folder}", hint)
    elif abs(facts.late_seconds) > CLOCK_SECONDS:
        hint = "ask the site to set the clocks"
        yield Finding(node, "warning", f"its clock is {facts.late_seconds:.0f} s off", hint)
    for name in ("subl", "python", "torch"):
        if (theirs := getattr(facts, name)) != here[name]:
            text = f"has {name} {theirs}, this machine {here[name]}"
            yield Finding(node, "warning", text, "activate the same environment in setup")
    gpus = f", {facts.gpus} GPUs" if facts.gpus else ""
    yield Finding(node, "ok", f"subl {facts.subl}, python {facts.python}, {facts.cpus} cores{gpus}")


@dataclass(frozen=True)
class _Facts:
    """What a machine says of itself. `late_seconds`: its clock against that of the files in the
    folder; None where it does not see the mark that was left there."""

    host: str
    subl: str
    python: str
    torch: str | None
    cpus: int
    gpus: int
    late_seconds: float | None

    @staticmethod
    def here(mark: Path | None) -> _Facts:
        from importlib.metadata import PackageNotFoundError, version

        try:
            torch = version("torch")
        except PackageNotFoundError:
            torch = None
        late = None
        if mark is not None and mark.is_file():
            own = mark.with_name(f"{mark.name}-{platform.node()}-{os.getpid()}")
            own.touch()
            late = time.time() - own.stat().st_mtime
            own.unlink()
        return _Facts(
            os.environ.get("SLURMD_NODENAME", platform.node()),
            subl.__version__,
            platform.python_version(),
            torch,
            cores(),
            sum(1 for _ in Path("/proc/driver/nvidia/gpus").glob("*")),
            late,
        )


if __name__ == "__main__":
    print(json.dumps(asdict(_Facts.here(Path(sys.argv[1])))), flush=True)
