"""What one rank of our own launcher runs: `python -m subl.train.worker JOB.json`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from subl.cluster.placement import connect, leave, placement
from subl.cluster.rank import run_as_rank
from subl.progress import Report
from subl.train.job import TrainJob


def _work(report: Report) -> dict[str, Any]:
    job = TrainJob.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    where = placement(os.environ, job.out)
    connect(where)
    from subl.train.loop import train

    return train(job, where, report)


if __name__ == "__main__":
    leave(run_as_rank(_work))
