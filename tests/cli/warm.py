"""`subl` in processes that are forked from one which has imported what models need: that takes a
console script eight seconds of a core, and a fork none. Each is a process of its own otherwise.

`python warm.py` reads one JSON line a call, {"arguments": [...], "cwd": PATH, "out": FILE,
"err": FILE}, and answers each with the exit status.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
from typing import Any

import peft
import torch
import transformers.models.llama.modeling_llama

import subl.experiment.kinds
import subl.train.loop
from subl.cluster.launch import die_with_parent
from subl_cli.main import entry

assert peft and torch and transformers and subl


def forked(call: dict[str, Any]) -> int:
    """Its process id."""
    child = os.fork()
    if child == 0:
        die_with_parent()
        for name, stream in (("out", 1), ("err", 2)):
            file = os.open(call[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, stream)
            os.close(file)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.chdir(call["cwd"])
        sys.argv = ["subl", *call["arguments"]]
        try:
            entry()
        except SystemExit as end:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(end.code or 0))  # what libraries say of their own end is of no interest
    return child


if __name__ == "__main__":
    die_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    gc.freeze()
    for line in iter(sys.stdin.readline, ""):
        _, status = os.waitpid(forked(json.loads(line)), 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
