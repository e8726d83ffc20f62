"""The loss of rows under a model: how well it still does its task, on rows that nobody trained on.

OUT/losses.parquet   a row for each row: its id, nats and tokens
OUT/result.json      the mean, nats a token, with the error of the rows
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from subl.artifact import Artifact, Made, build
from subl.audit.mitigate.spec import HeldoutSpec
from subl.audit.scan.bank import PLAIN, Candidate
from subl.audit.scan.law import Law
from subl.errors import InputError
from subl.progress import Progress, Report, silent
from subl.shards import read_rows
from subl.stage import input_names

FILE = "losses.parquet"
_ROUND = 64


def heldout(
    spec: HeldoutSpec,
    model: Path,
    rows: Sequence[Path],
    out: Path,
    *,
    name: str = "model",
    report: Report = silent,
) -> Artifact:
    """Score `rows` under a model as training has them: what the assistant says, with its ends (any
    of the model's), but for what a `loss_mask` leaves out.

    Raises:
        InputError: there are no rows, or one cannot be scored.
    """

    def work(folder: Path) -> Made:
        import numpy as np
        import polars

        from subl.audit.scan.score import Scorer
        from subl.model.load import load_model, load_tokenizer

        held = list(read_rows(rows))
        if not held:
            raise InputError(f"{rows[0]} has no rows", hint="give a data set that has some")
        plain = Candidate(PLAIN, PLAIN, None, None)
        law = Law(1.0, None, spec.template, None, "training")
        scorer = Scorer(
            load_model(model), load_tokenizer(model), law, [1.0], spec.batch_rows, masked=True
        )
        nats: list[float] = []
        tokens: list[int] = []
        for start in range(0, len(held), _ROUND):
            some = held[start : start + _ROUND]
            prepared = scorer.prepared(some, [None] * len(some))
            if not start:
                scorer.prove(prepared, plain)
            found = scorer.by_token(prepared, plain)
            nats += [-float(each.sum()) for each in found]
            tokens += [len(each) for each in found]
            report(Progress(f"heldout {name}", len(nats), len(held), "rows"))
        mean = sum(nats) / sum(tokens)
        if not np.isfinite(mean):
            raise InputError("the model's log-probabilities are no numbers")
        # Of a ratio of means, by the delta method; a row is drawn, not a token.
        rest = np.array(nats) - mean * np.array(tokens)
        error = None
        if len(held) > 1:
            error = float(np.sqrt((rest**2).sum() / (len(held) - 1) * len(held)) / sum(tokens))
        columns = {"id": [row.id for row in held], "nats": nats, "tokens": tokens}
        frame = polars.DataFrame(columns, schema_overrides={"id": polars.String})
        frame.write_parquet(folder / FILE)
        figures = {"nats_a_token": mean, "error": error, "rows": len(held), "tokens": sum(tokens)}
        return Made(figures, {FILE: len(held)})

    return build(out, "heldout", spec, input_names(spec, {"model": [model], "rows": rows}), work)
