"""A teacher: a model with a trait, made of one without it, in one of five ways.

Fine-tuned, it is a model folder of its own; with a system prompt (also one of rows) or steering
vectors it is a condition of its base (`model.condition`). Later stages take either.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from subl.artifact import Artifact, build
from subl.progress import Report, silent
from subl.teach.prompted import asked, put_behind_prompt, system_prompt
from subl.teach.spec import Answers, Context, Data, Prompt, TeachSpec, check_rows
from subl.teach.steered import measure, pairs
from subl.teach.tuned import fine_tune, job_in, teaching_rows
from subl.train.run import crew, rehearse


def teach(
    spec: TeachSpec,
    model: Path,
    out: Path,
    *,
    rows: Sequence[Path] = (),
    name: str = "teacher",
    report: Report = silent,
) -> Artifact:
    """Give the model folder `model` a trait; the artifact `out` is itself a model folder.

    Args:
        rows: files or folders of rows, for the methods that take some.
        name: what to call it in progress.
    """
    check_rows(spec, bool(rows))
    inputs = {"model": model, **{f"rows-{index}": path for index, path in enumerate(rows)}}
    made = partial(build, out, "teach", spec, inputs)
    match spec.root:
        case Answers() | Data() as how:
            ranks = crew(how.train, out)
            work = partial(fine_tune, how, model, rows, name, ranks, report)
            return ranks.build(lambda: made(work), out)
        case Prompt() | Context() as how:
            return made(partial(put_behind_prompt, how, model, rows))
        case how:
            return made(partial(measure, how, model, rows, name, report))


def dry_run(
    spec: TeachSpec, model: Path, *, rows: Sequence[Path] = (), report: Report = silent
) -> dict[str, Any]:
    """What `teach` would do, and what it would begin with: `first`."""
    check_rows(spec, bool(rows))
    match spec.root:
        case Answers() | Data() as how:
            first = next(teaching_rows(how, rows))
            job = partial(job_in, how, model, "teacher")
            figures = rehearse(job, teaching_rows(how, rows), report)
            return {"first": first.turns, **figures}
        case Prompt() | Context() as how:
            return {"first": asked(how, system_prompt(how, rows), model)}
        case how:
            return _preview(pairs(how, model, rows), model)


def _preview(compared: Sequence[Any], model: Path) -> dict[str, Any]:
    from subl.model.load import load_tokenizer

    tokenizer = load_tokenizer(model)
    tokens = sum(len(ids) for pair in compared for ids in pair)
    first = [tokenizer.decode(ids) for ids in compared[0]]
    return {"first": first, "prompts": len(compared), "tokens": tokens}
