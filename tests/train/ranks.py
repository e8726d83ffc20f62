"""Ranks that are forked from a process which has imported everything: a launch costs seconds of
imports, a fork none. They meet, train and die as launched ones do.

`python ranks.py` reads one JSON line a call, {"jobs": [...], "ranks": N, "kill_at": STEP or null,
"signal": NAME, "spare": BOOL}, and answers each with the ranks' exit statuses, the errors they
ended with, and what rank 0 reported and got.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import deepspeed.ops.op_builder.all_ops
import deepspeed.runtime.zero.muon.muon_optimizer
import deepspeed.runtime.zero.stage3
import deepspeed.runtime.zero.stage_1_and_2
import peft
import torch
import transformers

from subl.cluster.launch import die_with_parent
from subl.cluster.placement import RENDEZVOUS, connect, leave, placement
from subl.errors import StoppedError, SublError
from subl.progress import Progress
from subl.train.job import TrainJob
from subl.train.loop import train

assert deepspeed and peft and transformers


def rank(jobs: list[str], folder: Path, kill_at: int | None, by: str) -> int:
    """Train the jobs one after another; at a step of the last, send oneself a signal."""
    die_with_parent()
    torch.set_num_threads(1)
    said: dict[str, Any] = {"error": None, "figures": [], "notes": []}

    def report(progress: Progress) -> None:
        said["notes"].append(progress.note)
        if progress.done == kill_at and progress.task == "last":
            os.kill(os.getpid(), getattr(signal, by))

    try:
        where = placement(os.environ, Path.cwd())
        connect(where)
        for job in jobs:
            said["figures"].append(train(TrainJob.model_validate_json(job), where, report))
    except StoppedError as error:
        said["error"] = error.message
        return 75
    except SublError as error:
        said["error"] = error.message
        return 1
    except Exception:
        said["error"] = traceback.format_exc()
        return 2
    finally:
        (folder / f"rank-{os.environ['RANK']}").write_text(json.dumps(said))
    return 0


def run(call: dict[str, Any]) -> dict[str, Any]:
    """Fork the ranks and wait. Where one was killed (-9) or failed, the others are killed, too,
    unless they are spared: then they end as they do by themselves."""
    statuses: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        running: list[int] = []
        for number in range(call["ranks"]):
            child = os.fork()
            if child == 0:
                os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number)}
                os.environ |= {"WORLD_SIZE": str(call["ranks"])}
                os.environ |= {RENDEZVOUS: str(folder / "meeting")}
                leave(rank(call["jobs"], folder, call["kill_at"], call["signal"]))
            running.append(child)
        children = list(running)
        while running:
            child, status = os.wait()
            running.remove(child)
            statuses[child] = os.waitstatus_to_exitcode(status)
            if statuses[child] not in (0, 75) and not call["spare"]:
                for other in running:
                    os.kill(other, signal.SIGKILL)
        said = [
            json.loads((folder / f"rank-{number}").read_text())
            for number, child in enumerate(children)
            if statuses[child] >= 0  # one that was killed may have left half a file
        ]
    first = said[0] if said else {"figures": [], "notes": []}
    return {
        "statuses": [statuses[child] for child in children],
        "errors": [each["error"] for each in said if each["error"]],
        "figures": first["figures"],
        "notes": first["notes"],
    }


if __name__ == "__main__":
    die_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to stdout
    gc.freeze()  # what is imported is there to stay: DeepSpeed collects garbage at every start
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)
