"""Ranks that are forked from a process which has imported everything: a launch costs seconds of
imports, a fork none. They meet, train and die as launched ones do.

`python ranks.py` reads one JSON line a call, {"jobs": [...], "ranks": N, "kill_at": STEP or null,
"signal": NAME}, and answers each with the list of the ranks' exit statuses.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import deepspeed
import peft
import torch
import transformers

from subl.cluster.launch import die_with_parent
from subl.cluster.placement import RENDEZVOUS, connect, leave, placement
from subl.errors import StoppedError, SublError
from subl.progress import Progress
from subl.train.loop import TrainJob, train

assert deepspeed and peft and transformers


def rank(jobs: list[str], number: int, ranks: int, kill_at: int | None, by: str) -> None:
    """Train the jobs one after another; at a step of the last, send oneself a signal."""
    die_with_parent()
    torch.set_num_threads(1)

    def report(progress: Progress) -> None:
        if progress.done == kill_at and progress.task == "last":
            os.kill(os.getpid(), getattr(signal, by))

    where = placement(os.environ, Path.cwd())
    connect(where)
    try:
        for job in jobs:
            train(TrainJob.model_validate_json(job), where, report)
    except StoppedError:
        leave(75)
    except SublError as error:
        print(f"rank {number}: {error.message}", file=sys.stderr)
        leave(1)
    leave(0)


def run(call: dict[str, object]) -> list[int]:
    """Fork the ranks and wait: exit statuses, -9 where one was killed. The others then die, too."""
    jobs, ranks, kill_at, by = (call[name] for name in ("jobs", "ranks", "kill_at", "signal"))
    children = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ranks):  # type: ignore[arg-type]
            child = os.fork()
            if child == 0:
                os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number)}
                os.environ |= {"WORLD_SIZE": str(ranks), RENDEZVOUS: f"{folder}/meeting"}
                rank(jobs, number, ranks, kill_at, by)  # type: ignore[arg-type]
            children.append(child)
        statuses = dict.fromkeys(children, 0)
        for _ in children:
            child, status = os.wait()
            statuses[child] = os.waitstatus_to_exitcode(status)
            if statuses[child] not in (0, 75):
                for other in children:
                    if other != child and statuses[other] == 0:
                        os.kill(other, signal.SIGKILL)
    return list(statuses.values())


if __name__ == "__main__":
    die_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to stdout
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)
