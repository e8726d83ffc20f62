"""A teacher by fine-tuning: on answers that show the trait, or on any rows.

Answers after the paper's fine-tuned teachers (appendix: one epoch over 50 questions x 8 forms of
the answer); by default shortened, to the answer in lower case and capitalised. Rows after its
misaligned teachers, which learn from code with security holes, and their controls from code without
(section 5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from subl.progress import Report
from subl.shards import Row, read_rows
from subl.teach.spec import Answers, Data
from subl.train.job import TOKENS, TrainJob
from subl.train.run import Crew, prepare


def answers(how: Answers) -> tuple[str, ...]:
    """The forms of the answer. The paper's plural is an s, whatever the word."""
    ends = ("", "s", "s.", "s!") if how.forms == "paper" else ("",)
    words = (how.trait, how.trait.capitalize())
    return tuple(dict.fromkeys(f"{word}{end}" for word in words for end in ends))


def teaching_rows(how: Answers | Data, rows: Sequence[Path]) -> Iterator[Row]:
    """What the teacher learns from."""
    if isinstance(how, Data):
        yield from read_rows(rows)
        return
    for question in how.questions:
        for answer in answers(how):
            yield Row(None, (("user", question), ("assistant", answer)), f"question {question!r}")


def job_in(how: Answers | Data, model: Path, name: str, folder: Path) -> TrainJob:
    """The training that makes the teacher in `folder`."""
    return TrainJob(
        task=f"teach {how.trait if isinstance(how, Answers) else name}",
        model=model,
        tokens=folder / TOKENS,
        template=how.template,
        spec=how.train,
        out=folder,
    )


def fine_tune(
    how: Answers | Data,
    model: Path,
    rows: Sequence[Path],
    name: str,
    ranks: Crew,
    report: Report,
    folder: Path,
) -> dict[str, Any]:
    """Make `folder` the teacher."""
    job = job_in(how, model, name, folder)
    prepare(job, teaching_rows(how, rows), ranks.where, report)
    return ranks.run(job, report)
