"""Everything that the report shows, as one frozen document.

The page is a pure function of a `ReportDocument`: nothing is read from disk, so the same document
gives the same bytes. Collections are tuples, numbers are finite, and figures that contradict each
other are refused here, before a page can show them. Text may come from a model and is never
trusted: `subl.report.text` makes it harmless and visible.
"""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _storable(text: str) -> str:
    """Lone surrogates become U+FFFD, also 3 bytes long in UTF-8: byte offsets still hold."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


Text = Annotated[str, AfterValidator(_storable)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Record(BaseModel):
    """Base of every part of the document: immutable, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Finding(Record):
    """One sentence of the headline. `figure` is its number as text ("1.5 nats"); `met` is whether
    what the run was expected to show came out, None where nothing was expected."""

    text: Text
    figure: Text
    met: bool | None = None


class ChainNode(Record):
    """One artifact. `kind` is what made it ("teach"), `stage` the name of that stage in the
    experiment ("teacher"), `name` the artifact's own ("owl-teacher"). `digest` is its sha256 in
    hex, `detail` one line such as "256 rows"."""

    id: Text
    kind: Text
    name: Text
    stage: Text = Field(default_factory=lambda data: data["name"])
    group: Text | None = None
    digest: Digest
    seconds: Seconds | None = None
    detail: Text = ""
    reused: bool = False


class ChainEdge(Record):
    """`target` was made from `source`; both are node ids."""

    source: Text
    target: Text


class Chain(Record):
    """How the artifacts came from each other: a directed graph without cycles."""

    nodes: tuple[ChainNode, ...] = ()
    edges: tuple[ChainEdge, ...] = ()

    @model_validator(mode="after")
    def _is_a_graph(self) -> Self:
        ids = {node.id for node in self.nodes}
        if len(ids) != len(self.nodes):
            raise ValueError("chain: two nodes have the same id")
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for edge in self.edges:
            if missing := {edge.source, edge.target} - ids:
                raise ValueError(f"chain: an edge names unknown nodes: {sorted(missing)}")
            sorter.add(edge.target, edge.source)
        try:
            sorter.prepare()
        except CycleError as error:
            raise ValueError(f"chain: the edges form a cycle: {error.args[1]}") from None
        return self


class FilterRule(Record):
    """What one rule did. `hits` counts the rows that it rejects, `sole_hits` those among them that
    no other rule rejects, `reasons` the hits by reason."""

    name: Text
    kind: Text
    hits: Count
    sole_hits: Count
    reasons: dict[Text, Count] = {}

    @model_validator(mode="after")
    def _sole_hits_are_hits(self) -> Self:
        if self.sole_hits > self.hits:
            raise ValueError(f"rule {self.name}: {self.sole_hits} sole hits of {self.hits} hits")
        return self


class Rejection(Record):
    """Why a rule rejects a row. `span` is what broke it: (start, end) as byte offsets into the
    row's text in UTF-8, end exclusive; None where no part of the text is to blame."""

    rule: Text
    reason: Text
    span: tuple[Count, Count] | None = None


class RejectedRow(Record):
    text: Text
    reasons: tuple[Rejection, ...]


class FilterReport(Record):
    """One filtered generation. `rows_rejected` are the rows that at least one rule rejects;
    `rows_unreadable` could not be parsed and are in neither of the other two counts."""

    name: Text
    group: Text | None = None
    rows_in: Count
    rows_kept: Count
    rows_rejected: Count
    rows_unreadable: Count = 0
    rules: tuple[FilterRule, ...] = ()
    rejected_examples: tuple[RejectedRow, ...] = ()
    kept_examples: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _rows_add_up(self) -> Self:
        parts = self.rows_kept + self.rows_rejected + self.rows_unreadable
        if parts != self.rows_in:
            raise ValueError(
                f"filter {self.name}: kept + rejected + unreadable = {parts}, rows in = "
                f"{self.rows_in}"
            )
        if self.rows_rejected_by_several < 0:
            raise ValueError(f"filter {self.name}: more sole hits than rejected rows")
        return self

    @property
    def rows_rejected_by_several(self) -> int:
        """Rejected rows that more than one rule rejects."""
        return self.rows_rejected - sum(rule.sole_hits for rule in self.rules)


class LossCurve(Record):
    """One training run: `points` are (step, loss), the loss in nats per token."""

    name: Text
    group: Text | None = None
    points: tuple[tuple[Count, float], ...] = Field(min_length=1)


class LossPanel(Record):
    """Training runs whose losses are one `quantity`, so that one axis serves them."""

    title: Text
    quantity: Text = "Loss, nats per token"
    curves: tuple[LossCurve, ...] = Field(min_length=1)


class Probability(Record):
    """A mean over questions with its 95% interval; both ends None where none can be given."""

    mean: Share
    low: Share | None = None
    high: Share | None = None

    @model_validator(mode="after")
    def _interval_is_one(self) -> Self:
        _check_interval(self.low, self.high)
        return self


class MatrixRow(Record):
    """One model: the probability of each candidate, in the order of `TraitMatrix.candidates`.
    `role` is the stage that made it ("base", "teacher"): figures give each role its own mark."""

    model: Text
    role: Text
    group: Text | None = None
    cells: tuple[Probability, ...]


class TraitMatrix(Record):
    """One evaluation, `name`: models by candidate answers. `asked` are those that contrasts are
    about; `note` stands below its figure."""

    name: Text = ""
    candidates: tuple[Text, ...] = ()
    asked: tuple[Text, ...] = ()
    rows: tuple[MatrixRow, ...] = ()
    n_questions: Count | None = None
    note: Text = ""

    @model_validator(mode="after")
    def _is_rectangular(self) -> Self:
        for row in self.rows:
            if len(row.cells) != len(self.candidates):
                raise ValueError(
                    f"matrix row {row.model}: {len(row.cells)} cells for "
                    f"{len(self.candidates)} candidates"
                )
        return self


class Effect(Record):
    """One comparison with its 95% interval. `contrast` names what it is one case of; effects of one
    contrast stand together. `unit` is "ratio" (no effect = 1, drawn on a log axis) or any additive
    unit such as "nats" (no effect = 0). `n_seeds` counts the seeds it is paired over, if any.
    `note` says what the interval is over and what `significant` was corrected for."""

    contrast: Text
    label: Text
    group: Text | None = None
    estimate: float
    low: float | None = None
    high: float | None = None
    unit: Text = "nats"
    p_value: Share | None = None
    n_questions: Count
    n_seeds: Count | None = None
    significant: bool
    note: Text = ""

    @model_validator(mode="after")
    def _interval_is_one(self) -> Self:
        _check_interval(self.low, self.high)
        return self


class Estimate(Record):
    """A figure with its 95% interval; both ends None where none can be given."""

    mean: float
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _interval_is_one(self) -> Self:
        _check_interval(self.low, self.high)
        return self


class Bar(Record):
    """One arm of an experiment, a share. `published` is what others found for it."""

    name: Text
    group: Text | None = None
    value: Estimate
    published: Estimate | None = None


class BarPanel(Record):
    """Arms whose shares are one `quantity`. `published` says whose marks these are; `chance` is
    what knowing nothing makes. `note` stands below."""

    title: Text
    quantity: Text
    bars: tuple[Bar, ...] = Field(min_length=1)
    chance: Share | None = None
    published: Text = ""
    note: Text = ""

    @property
    def groups(self) -> tuple[str, ...]:
        """In the order of their colours."""
        return tuple(dict.fromkeys(bar.group for bar in self.bars if bar.group is not None))


class Curve(Record):
    """`points` are (x, y), `slope` that of their logarithms. `control`: drawn dashed."""

    name: Text
    group: Text
    control: bool = False
    points: tuple[tuple[Positive, Estimate], ...]
    slope: Estimate | None = None


class CurvePanel(Record):
    """Curves on logarithmic axes."""

    title: Text
    x: Text
    y: Text
    curves: tuple[Curve, ...] = Field(min_length=1)
    note: Text = ""

    @model_validator(mode="after")
    def _is_positive(self) -> Self:
        for curve in self.curves:
            for _, value in curve.points:
                if value.mean <= 0 or (value.low is not None and value.low <= 0):
                    raise ValueError(f"curve {curve.name}: a logarithmic axis has nothing below 0")
        return self

    @property
    def groups(self) -> tuple[str, ...]:
        """In the order of their colours."""
        return tuple(dict.fromkeys(curve.group for curve in self.curves))


class QuestionArm(Record):
    """One model's probability of the panel's word, a question each; None where it has no score."""

    name: Text
    group: Text | None = None
    means: tuple[Share | None, ...]


class QuestionPanel(Record):
    """What models answer to each question of an evaluation."""

    evaluation: Text
    word: Text
    questions: tuple[Text, ...] = Field(min_length=1)
    arms: tuple[QuestionArm, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for arm in self.arms:
            if len(arm.means) != len(self.questions):
                raise ValueError(f"{arm.name}: a mean for each question is needed")
        return self


class DoseLine(Record):
    """Effects of one comparison along an axis: `points` are (value, effect), by value."""

    name: Text
    group: Text | None = None
    points: tuple[tuple[float, Estimate], ...] = Field(min_length=1)


class DosePanel(Record):
    """A contrast along an axis of numbers. `unit` as in `Effect`."""

    title: Text
    axis: Text
    unit: Text = "nats"
    lines: tuple[DoseLine, ...] = Field(min_length=1)


class ScanLine(Record):
    """What something came to by rows: `points` are (rows, nats)."""

    name: Text
    group: Text | None = None
    points: tuple[tuple[Count, float], ...] = Field(min_length=1)


class ScanMark(Record):
    """Nats a row, with their 95% interval, over `rows`."""

    name: Text
    group: Text | None = None
    value: Estimate
    rows: Count


class ScanCandidate(ScanMark):
    """One of the bank: what it gains over the base. `left_law` and `left_nearest`: after how many
    rows it left the set of those who may have written them, and of the nearest; 0: it has not;
    None: nobody was asked for the nearest."""

    kind: Text
    left_law: Count
    left_nearest: Count | None


class ScanToken(Record):
    """`nats`: what the nearest gains on it over neutral prompts."""

    text: Text
    nats: float


class ScanRow(Record):
    """A row that speaks for the nearest; `pull` in nats."""

    row: Count
    id: Text = ""
    pull: float
    tokens: tuple[ScanToken, ...]


class ScanClaim(Record):
    """What is asked of rows, who is left as an answer, and what that says."""

    question: Text
    left: Text
    says: Text


class ScanReport(Record):
    """One scan. `race`: sums of what candidates gain over the base; `evidence`: logs of e-values,
    which prove something at `bar`; `leads`: of the nearest, here and on clean rows; `goes_with`:
    rank correlations of the pull."""

    name: Text
    group: Text | None = None
    sentence: Text
    notes: tuple[Text, ...] = ()
    claims: tuple[ScanClaim, ...]
    race: tuple[ScanLine, ...]
    evidence: tuple[ScanLine, ...]
    bar: Positive
    candidates: tuple[ScanCandidate, ...] = Field(min_length=1)
    nearest: Text | None = None
    leads: tuple[ScanMark, ...] = ()
    rows: tuple[ScanRow, ...] = ()
    goes_with: dict[Text, float | None] = {}
    cost: Text

    @property
    def groups(self) -> tuple[str, ...]:
        """In the order of their colours."""
        return tuple(dict.fromkeys(line.group for line in self.race if line.group is not None))


class Relative(Record):
    """What a model is to the base. `role`: "wrote" rows, "taught", or "learned"."""

    model: Text
    role: Text
    verdict: Text
    channel: Text
    p: Text
    contradicts: bool = False


class WallTime(Record):
    stage: Text
    seconds: Seconds


class ReportDocument(Record):
    """The whole report. `created` is an ISO 8601 time; without it the page's bytes depend on the
    run alone. `command` is what a reader would type to run it again.

    `groups` are the points of the axis that colours tell apart (`group_name`, such as the traits),
    in the order of their colours; whatever belongs to none of them is grey. `limits` say what the
    run can and cannot show. `seeds` are those of each stage.
    """

    title: Text
    subl_version: Text
    created: Text | None = None
    command: Text | None = None
    models: tuple[Text, ...]
    group_name: Text = "trait"
    groups: tuple[Text, ...] = ()
    headline: tuple[Finding, ...] = ()
    matrices: tuple[TraitMatrix, ...] = ()
    effects: tuple[Effect, ...] = ()
    bars: tuple[BarPanel, ...] = ()
    curves: tuple[CurvePanel, ...] = ()
    doses: tuple[DosePanel, ...] = ()
    questions: tuple[QuestionPanel, ...] = ()
    scans: tuple[ScanReport, ...] = ()
    relatives: tuple[Relative, ...] = ()
    problems: tuple[Text, ...] = ()
    refused: tuple[Text, ...] = ()
    limits: tuple[Text, ...] = ()
    chain: Chain = Chain()
    filters: tuple[FilterReport, ...] = ()
    losses: tuple[LossPanel, ...] = ()
    protocol_differences: tuple[Text, ...] = ()
    wall_times: tuple[WallTime, ...] = ()
    seeds: dict[Text, tuple[int, ...]] = {}
    versions: dict[Text, Text] = {}
    host: dict[Text, Text] = {}


def _check_interval(low: float | None, high: float | None) -> None:
    if (low is None) != (high is None):
        raise ValueError("an interval has two ends or none")
    if low is not None and high is not None and low > high:
        raise ValueError(f"the interval [{low}, {high}] is upside down")
