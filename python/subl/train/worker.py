"""What one rank of our own launcher runs: `python -m subl.train.worker JOB.json`.

Rank 0 writes a JSON line a step to stdout for the process that launched it, and the figures last.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from subl.cluster.launch import die_with_parent
from subl.cluster.placement import connect, leave, placement
from subl.errors import StoppedError, SublError
from subl.progress import Progress
from subl.train.job import TrainJob


def _emit(event: dict[str, object]) -> None:
    if os.environ["RANK"] == "0":
        print(json.dumps(event), file=_EVENTS, flush=True)


def _report(progress: Progress) -> None:
    _emit({"progress": asdict(progress)})


def main() -> int:
    die_with_parent()
    job = TrainJob.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        where = placement(os.environ, job.out)
        connect(where)
        from subl.train.loop import train

        figures = train(job, where, _report)
    except StoppedError as error:
        _emit({"stopped": {"message": error.message, "hint": error.hint}})
        return 0
    except SublError as error:
        _emit({"error": {"message": error.message, "hint": error.hint}})
        print(f"rank {os.environ['RANK']}: {error.message}", file=sys.stderr)
        return 1
    _emit({"figures": figures})
    return 0


if __name__ == "__main__":
    # Libraries print to stdout; keep the descriptor for ourselves and send theirs to stderr.
    _EVENTS = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    leave(main())
