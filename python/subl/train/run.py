"""Run a training job: in this process, or as ranks of their own."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from subl.errors import StageError
from subl.progress import Progress, Report, silent
from subl.train.loop import TrainJob, train


def run_job(job: TrainJob, report: Report = silent) -> dict[str, Any]:
    """Train, write the model folder's files to `job.out`, return the figures."""
    if job.spec.zero_stage == "none":
        return train(job, report)
    from subl.cluster.launch import run_ranks
    from subl.model.load import require_torch

    require_torch()
    job_file, log = job.out / ".job.json", job.out / ".ranks.log"
    job_file.write_text(job.model_dump_json())
    figures: dict[str, Any] | None = None
    report(Progress(job.task, 0, job.spec.steps, "steps", f"starting {job.spec.ranks} ranks"))
    with closing(run_ranks("subl.train.worker", [str(job_file)], job.spec.ranks, log)) as events:
        for event in events:
            if "progress" in event:
                report(Progress(**event["progress"]))
            elif "error" in event:
                raise StageError(event["error"]["message"], event["error"]["hint"])
            elif "figures" in event:
                figures = event["figures"]
    if figures is None:
        raise StageError("the ranks ended without a result", hint=f"the log is {log}")
    job_file.unlink()
    log.unlink()
    return figures
