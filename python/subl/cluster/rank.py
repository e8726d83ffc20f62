"""What one of several ranks tells the process that launched it: a JSON line an event, on stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from subl.cluster.launch import die_with_parent
from subl.errors import StoppedError, SublError
from subl.progress import Report


def run_as_rank(work: Callable[[Report], dict[str, Any]]) -> int:
    """Do this rank's work; rank 0 tells of its progress, and of how it ended. The exit status."""
    die_with_parent()
    # Libraries print to stdout; keep the descriptor for ourselves and send theirs to stderr.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(event: dict[str, object]) -> None:
        if os.environ["RANK"] == "0":
            print(json.dumps(event), file=events, flush=True)

    try:
        figures = work(lambda progress: emit({"progress": asdict(progress)}))
    except StoppedError as error:
        emit({"stopped": {"message": error.message, "hint": error.hint}})
        return 0
    except SublError as error:
        emit({"error": {"message": error.message, "hint": error.hint}})
        print(f"rank {os.environ['RANK']}: {error.message}", file=sys.stderr)
        return 1
    emit({"figures": figures})
    return 0
