"""Make the artifact of one stage: in this process, or, where its files can be made apart, by ranks
of this machine, by tasks of srun, or a slice of it.

`python -m subl.experiment.make JOB.json` is what a rank of this machine runs.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from subl.artifact import WHOLE, Artifact, PartsSpec, Slice, StageSpec, compares
from subl.artifact.partial import locked
from subl.artifact.seen import rereading, rereads
from subl.cluster.launch import launch, stopped_by_signals
from subl.cluster.placement import placement
from subl.cluster.rank import run_as_rank
from subl.errors import UnfinishedError
from subl.progress import Progress, Report, silent
from subl.stage import Given, Stage


def make(
    stage: Stage,
    spec: StageSpec,
    given: Given,
    out: Path,
    name: str,
    report: Report = silent,
    *,
    mine: Slice = WHOLE,
    **how: Any,
) -> Artifact:
    """See `Stage.make`.

    Args:
        mine: which of its files this process makes, or tasks of srun share.

    Raises:
        InputError: an input is not there, or holds something else.
        UnfinishedError: the slice of this process is made; others make the rest.
    """
    from subl.experiment.kinds import check_inputs

    check_inputs(stage, given)
    if not isinstance(spec, PartsSpec):
        return stage.make(spec, given, out, name, report, **how)
    where = placement(os.environ, out.absolute().parent)
    if not where.alone:
        os.environ["LOCAL_RANK"] = str(where.local_rank)  # which device is this process's
        mine = mine.share(where.rank, where.ranks)
    elif spec.ranks > 1 and mine == WHOLE and _is_to_be_made(out):
        _by_ranks(stage, spec, given, out, name, report)
        return replace(stage.make(spec, given, out, name, report, **how), reused=False)
    return stage.make(spec, given, out, name, report, mine=mine, **how)


def _is_to_be_made(out: Path) -> bool:
    return not compares(out) and not (out / "statement.json").is_file()


def _by_ranks(
    stage: Stage, spec: PartsSpec, given: Given, out: Path, name: str, report: Report
) -> None:
    job, log = (out.with_name(f".{out.name}.ranks.{kind}") for kind in ("json", "log"))
    told = {
        "kind": stage.kind,
        "spec": spec.model_dump(mode="json"),
        "given": {each: [str(path) for path in paths] for each, paths in given.items()},
        "out": str(out),
        "name": name,
        "rereads": rereads(),
    }
    # One process at a time starts ranks: they share these files.
    with locked(out.with_name(f"{out.name}.partial"), ".lock-ranks", what=str(out)):
        job.write_text(json.dumps(told), encoding="utf-8")
        report(Progress(f"{stage.kind} {name}", 0, spec.ranks, "ranks", "starting"))
        launch("subl.experiment.make", str(job), spec.ranks, log, report)
        for file in (job, log):
            file.unlink(missing_ok=True)


def _work(report: Report) -> dict[str, Any]:
    from subl.stages import STAGES

    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    stage = STAGES[job["kind"]]
    given = {name: [Path(path) for path in paths] for name, paths in job["given"].items()}
    spec = stage.spec.model_validate(job["spec"])
    again = rereading() if job["rereads"] else nullcontext()
    with again, stopped_by_signals(), suppress(UnfinishedError):
        make(stage, spec, given, Path(job["out"]), job["name"], report)
    return {}


if __name__ == "__main__":
    sys.exit(run_as_rank(_work))
