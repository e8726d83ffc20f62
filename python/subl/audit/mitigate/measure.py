"""What taking a trait out of data came to: how much of the effect it removed, and what it cost.

Three contrasts of an experiment say it, by which models they compare: students of the rows as they
were against a control's (the effect), students of other rows against them (what is removed), and
the losses of held-out rows under both (what is kept). Students are pairs by seed.

The claim is about this base, these rows and this training: a share of a measured effect, never
that data is clean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from subl.artifact import check_there, open_artifact, read_statement
from subl.errors import ConfigError, InputError
from subl.evaluate.run import Scores, read_scores
from subl.experiment import Graph, Node, plan
from subl.experiment.contrasts import Planned, planned
from subl.statistics import clustered_mean, detectable, ratio


@dataclass(frozen=True)
class Removed:
    """What one way of taking a trait out came to; intervals are of 95 %, over seeds.

    Args:
        effect: of the rows as they were, in nats of the contrast's log-odds; `left`: after.
        share: of the effect that is removed; bounds are None where the effect may be none, all of
            it where that is exactly none.
        detectable: the least share that so many seeds would have told from none in 80 of 100 cases.
        loss: by how much worse held-out rows are predicted, nats a token; None: nobody asked.
        tokens, rows: shares of them that were taken out.
        of_seeds: effect and what is left of it, of each seed: arms may be compared seed by seed.
    """

    what: str
    word: str
    seeds: int
    effect: Mapping[str, float | None]
    left: Mapping[str, float | None]
    share: Mapping[str, float | None]
    detectable: float | None
    loss: Mapping[str, float | None] | None
    tokens: float | None
    rows: float | None
    of_seeds: Sequence[Mapping[str, float]]

    def to_json(self) -> dict[str, Any]:
        """For result files."""
        return asdict(self)


def measured(graph: Graph, folder: Path) -> list[Removed]:
    """What came of a run, as far as it is finished: seeds whose models are all there.

    Raises:
        InputError: no seed is finished.
        ConfigError: no two contrasts are of the same students, one with a control and one with
            other students.
    """
    check_there(folder, "subl run EXPERIMENT -o FOLDER makes it")
    done = {state.node: state.path for state in plan(graph, folder) if state.state == "done"}
    plans = planned(graph)
    found = []
    for after in plans:
        for before in plans:
            same = set(after.control) & set(before.treated)
            if same and after is not before and after.measure.label == before.measure.label:
                found.append(_removed(graph, after, before, done))
    if not found:
        raise ConfigError(
            "no contrast says what was removed of an effect",
            hint="one has students of the rows as treated, another has them as control",
        )
    finished = [each for each in found if each is not None]
    if not finished:
        raise InputError(
            f"of no seed all models are finished in {folder}", hint="subl run makes them"
        )
    return finished


def _removed(
    graph: Graph, after: Planned, before: Planned, done: Mapping[Node, Path | None]
) -> Removed | None:
    controls = dict(zip(before.treated, before.control, strict=True))
    triples = [
        (student, untouched, controls[untouched])
        for student, untouched in zip(after.treated, after.control, strict=True)
        if untouched in controls
        and all(done.get(each) for each in (student, untouched, controls[untouched]))
    ]
    if not triples:
        return None
    values = [[_value(after, done[each]) for each in triple] for triple in triples]
    effects = [untouched - control for _, untouched, control in values]
    gone = [untouched - student for student, untouched, _ in values]
    left = [student - control for student, _, control in values]
    share = _share(gone, effects)
    error = clustered_mean(gone).standard_error
    least = None
    if error and fmean(effects):
        least = detectable(error, len(gone)) / abs(fmean(effects))
    losses = _losses(graph, triples, done)
    result = _taken(triples[0][0], done)
    return Removed(
        what=after.names[0],
        word=after.word,
        seeds=len(triples),
        effect=_interval(effects),
        left=_interval(left),
        share=share,
        detectable=least,
        loss=None if losses is None else _interval(losses),
        tokens=result.get("share_of_tokens"),
        rows=result.get("share_of_rows"),
        of_seeds=[
            {"effect": effect, "left": rest} for effect, rest in zip(effects, left, strict=True)
        ],
    )


def _share(gone: Sequence[float], effects: Sequence[float]) -> dict[str, float | None]:
    if not fmean(effects):
        return dict.fromkeys(("estimate", "low", "high"))
    found = ratio(gone, effects)
    return {"estimate": found.estimate, "low": found.low, "high": found.high}


def _value(asked: Planned, path: Path | None) -> float:
    assert path is not None
    scores: Scores = read_scores(path)
    return fmean(asked.measure.of(row) for row in scores.values())


def _interval(values: Sequence[float]) -> dict[str, float | None]:
    found = clustered_mean(values)
    return {"estimate": found.estimate, "low": found.low, "high": found.high}


def _losses(
    graph: Graph, triples: Sequence[tuple[Node, Node, Node]], done: Mapping[Node, Path | None]
) -> list[float] | None:
    """By how much each student predicts held-out rows worse than the untouched one."""
    of_model = {
        node.sources[0]: path
        for node in graph.nodes
        if node.how.kind == "heldout" and (path := done.get(node)) is not None
    }

    def nats(evaluation: Node) -> float | None:
        path = of_model.get(evaluation.sources[0])
        return None if path is None else float(open_artifact(path).result["nats_a_token"])

    pairs = [(nats(student), nats(untouched)) for student, untouched, _ in triples]
    known = [a - b for a, b in pairs if a is not None and b is not None]
    return known or None


def _taken(evaluation: Node, done: Mapping[Node, Path | None]) -> dict[str, Any]:
    """What was taken out of the rows of an evaluated student."""
    (student,) = (each for each in evaluation.sources if each.how.kind == "distill")
    for each in student.inputs["rows"]:
        path = done.get(each) if isinstance(each, Node) else each
        if path is not None and read_statement(path) and open_artifact(path).kind == "mitigate":
            return open_artifact(path).result
    return {}
