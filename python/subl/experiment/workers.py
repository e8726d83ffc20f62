"""Who makes the nodes of a run: this process, one after another, or several processes.

A worker process is given the experiment once and then nodes by their names; it works out their
inputs for itself, as a command would. It dies with the run, however that ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from subl import errors
from subl.artifact.seen import rereading, rereads
from subl.cluster.launch import die_with_parent
from subl.cores import cores
from subl.errors import StageError, SublError
from subl.experiment.graph import Graph, Node
from subl.experiment.make import make
from subl.experiment.spec import ExperimentSpec
from subl.experiment.survey import Folder
from subl.progress import Progress, Report

_LAST_LINES = 15


def make_node(folder: Folder, node: Node, place: Path, report: Report) -> None:
    """Make the artifact `place` of a node whose inputs are made."""
    given = folder.given(node)
    assert given is not None, "a node's inputs come before it"
    called = node.name if node.of is None else node.sources[0].name
    make(node.how, node.spec, given, place, called, report)


class Here:
    """Makes nodes in this process, each when it is submitted."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """Do the work at once."""
        future: Future[None] = Future()
        try:
            work()
            future.set_result(None)
        except Exception as error:
            future.set_exception(error)
        return future

    def make(self, node: Node, place: Path, report: Report) -> None:
        """Make one node."""
        make_node(self._folder, node, place, report)

    def close(self) -> None:
        """Nothing is left behind."""


class Workers:
    """Makes `jobs` nodes at a time, each in a process that shares the cores and GPUs."""

    def __init__(self, graph: Graph, out: Path, jobs: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._threads = ThreadPoolExecutor(jobs)
        self._all = [_Worker(graph.spec, out, number, jobs) for number in range(jobs)]
        self._free: SimpleQueue[_Worker] = SimpleQueue()
        for each in self._all:
            self._free.put(each)

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """Have the work done in a thread, which waits for a process.

        Processes are started here: they die with the thread that started them.
        """
        for each in self._all:
            each.start()
        return self._threads.submit(work)

    def make(self, node: Node, place: Path, report: Report) -> None:
        """Make one node, in a process that has nothing else to do."""
        worker = self._free.get()
        try:
            worker.make(node.name, place, report)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """End the processes: trainings save what they have first; who is interrupted here again
        does not wait for that."""
        try:
            for each in self._all:
                each.stop()
            self._threads.shutdown(wait=True, cancel_futures=True)
        finally:
            for each in self._all:
                each.kill()


class _Worker:
    """A process that makes nodes, started when there is one to be made."""

    def __init__(self, spec: ExperimentSpec, out: Path, number: int, jobs: int) -> None:
        first = {"spec": spec.model_dump(mode="json"), "out": str(out), "rereads": rereads()}
        self._first = json.dumps(first)
        self._log = out / f".worker-{os.getpid()}-{number}.log"
        self._died = False
        self._environment = {**os.environ, **_share(number, jobs)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, if it does not run."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            self.kill()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "subl.experiment.workers"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for the run, which tells us
            )
        assert self._process.stdin is not None
        self._process.stdin.write(self._first.encode() + b"\n")

    def make(self, node: str, place: Path, report: Report) -> None:
        process = self._process
        assert process is not None, "it is started where work is submitted"
        assert process.stdin is not None and process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps({"make": node, "place": str(place)}).encode() + b"\n")
            process.stdin.flush()
        for line in process.stdout:
            event = json.loads(line)
            if "progress" in event:
                report(Progress(**event["progress"]))
            elif "error" in event:
                said = event["error"]
                raise getattr(errors, said["kind"])(said["message"], said["hint"])
            else:
                return
        status = process.wait()
        self._died = True
        tail = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        raise StageError(
            f"the process that made {node} ended with status {status}:\n  " + "\n  ".join(tail),
            hint=f"its log is {self._log}",
        )

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):  # what it was told and never read
                    pipe.close()
        if not self._died:  # else its log is where the error says
            self._log.unlink(missing_ok=True)


def _share(number: int, jobs: int) -> dict[str, str]:
    """The threads of one of several processes, and the GPU where there are several."""
    share = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores() // jobs)))}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        gpus = [str(n) for n, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]
    else:
        gpus = visible.split(",")
    if len(gpus) > 1:
        mine = gpus[number::jobs] or [gpus[number % len(gpus)]]
        share["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    return share


def _make_what_is_asked_for(graph: Graph, out: Path, say: Callable[[dict[str, Any]], None]) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        wanted = message["make"]
        folder = Folder(graph, out)
        (node,) = (each for each in graph.nodes if each.name == wanted)
        place = Path(message["place"])
        try:
            folder.find_sources(node)
            if folder.place(node) != place:
                raise StageError(f"an input of {node.name} changed", hint="run again")
            make_node(folder, node, place, lambda progress: say({"progress": asdict(progress)}))
        except SublError as error:
            kind = type(error).__name__
            say({"error": {"kind": kind, "message": error.message, "hint": error.hint}})
        else:
            say({"made": wanted})


def main() -> None:
    """Make the nodes that are asked for on stdin; say on stdout how it goes."""
    die_with_parent()
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no event

    def say(event: dict[str, Any]) -> None:
        print(json.dumps(event), file=events, flush=True)

    first = json.loads(sys.stdin.readline())
    graph = Graph(ExperimentSpec.model_validate(first["spec"]))
    with rereading(first["rereads"]):
        _make_what_is_asked_for(graph, Path(first["out"]), say)


if __name__ == "__main__":
    main()
