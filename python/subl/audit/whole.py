"""One answer about rows, a model or a run: where they come from, whether who wrote and who learned
is of the base's origin, what the rows carry, and what taking that out would cost.

    OUT/NAME-scan/   the scan of a data set
    OUT/NAME-shift/  how far its students are predicted to shift the trait that the scan came to
    OUT/report.html  all of it as a page
    OUT/result.json  all findings and the verdict; last of all

What is there is not made again, and an audit that was killed goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from subl.artifact import (
    Artifact,
    check_folder,
    comparing,
    read_statement,
    spec_record,
)
from subl.artifact.lineage import quoted
from subl.artifact.place import ELSEWHERE
from subl.audit.editing import editing_cost, held_by_a_tenth
from subl.audit.kin import Claim, Finding, Kinship, by_construction, declared, kin
from subl.audit.predict.calibration import load
from subl.audit.scan.run import candidates_of, scan
from subl.audit.subject import DataSet, Subject
from subl.errors import ConfigError, InputError, OutputError
from subl.experiment.kinds import check_input
from subl.model.condition import conditioned
from subl.progress import Progress, Report, silent
from subl.shards import read_objects
from subl.shards.listing import shard_files

if TYPE_CHECKING:
    from subl.artifact import LineageNode
    from subl.audit.scan.spec import ScanSpec
    from subl.distill import DistillSpec

Outcome = Literal["chain broken", "chain refused", "trait found", "cannot tell", "nothing shown"]

EXIT: Mapping[Outcome, int] = {
    "chain broken": 1, "chain refused": 1, "trait found": 1, "cannot tell": 4, "nothing shown": 0,
}  # fmt: skip
"""What `subl audit` exits with: the first of these that holds of anything that was looked at."""

_SCANS: Mapping[str, Outcome] = {
    "trait named": "trait found",
    "base refuted": "trait found",
    "cannot tell": "cannot tell",
    "nothing shown": "nothing shown",
}


@dataclass(frozen=True)
class Relative:
    """What a model is to the base.

    Attributes:
        role: "wrote" rows, "taught" a student by its distributions, or "learned".
        kinship: None where nothing had to be measured, or the weights cannot be read, such as those
            of a model that is gone.
        same: what it is where it has no other weights than the base's, so that nothing had to be
            measured.
        contradicts: whether the records have it begin from a model, and the weights do not.
    """

    role: str
    model: LineageNode
    kinship: Kinship | None
    same: str | None
    contradicts: bool

    @property
    def name(self) -> str:
        """Of its folder."""
        return Path(self.model.path).name

    @property
    def channel(self) -> str:
        """From it to a student of the base: open where nothing shows otherwise."""
        return "open" if self.kinship is None else str(self.kinship.channel)

    @property
    def verdict(self) -> str:
        """What it is to the base."""
        return self.same or ("cannot tell" if self.kinship is None else str(self.kinship.verdict))


@dataclass(frozen=True)
class Carried:
    """What a data set carries.

    Attributes:
        shift: what is predicted of its students; None where nobody asked, or no trait is nearest.
        why_none: of a prediction that was asked for and could not be made.
        editing: see `editing_cost`.
    """

    data: DataSet
    scan: Artifact
    shift: Artifact | None
    why_none: str | None
    editing: dict[str, Any] | None

    @property
    def outcome(self) -> Outcome:
        """Of the scan."""
        return _SCANS[self.scan.result["outcome"]]

    @property
    def sentences(self) -> list[str]:
        """Without their full stops."""
        found = [f"{self.data.name}: {self.scan.result['sentence'].rstrip('.')}"]
        found += [
            f"By their record they were written behind the system prompt {quoted(prompt)}"
            for prompt in self.scan.result["law"]["system_prompts"]
        ]
        if self.shift is not None:
            found.append(f"Of a student, {self.shift.result['sentence']}")
        if self.why_none is not None:
            found.append(f"No shift is predicted: {self.why_none}")
        if self.editing is not None:
            found.append(
                f"A tenth of their tokens holds {held_by_a_tenth(self.editing):.0%} of their pull "
                f"towards {self.editing['towards']}"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """For `result.json`."""
        shift = None if self.shift is None else self.shift.result
        return {
            "name": self.data.name,
            "rows": [str(path) for path in self.data.rows],
            "students": [node.path for node in self.data.students],
            "scan": {"path": self.scan.path.name, **{k: self.scan.result[k] for k in _SCAN}},
            "shift": shift and {key: shift[key] for key in _SHIFT},
            "no_shift": self.why_none,
            "editing": self.editing,
        }


_SCAN = ("outcome", "trait", "nearest_trait", "sentence", "rows", "alpha", "power")
_SHIFT = ("trait", "estimate", "low", "high", "alpha", "guaranteed", "outside", "sentence")


@dataclass(frozen=True)
class Audit:
    """All that was found.

    Attributes:
        problems: what is wrong with the chain: digests, and weights that contradict a record.
        refused: what else a policy refuses of it; None where none was asked.
        carried: by each data set, in their order.
    """

    subject: Subject
    base: Path
    problems: tuple[str, ...]
    refused: tuple[str, ...] | None
    relatives: tuple[Relative, ...]
    carried: tuple[Carried, ...]
    outcome: Outcome = field(init=False)

    def __post_init__(self) -> None:
        found = {each.outcome for each in self.carried}
        if any(each.role == "taught" for each in self.relatives):
            found.add("cannot tell")  # what a teacher hands down is in no row
        if self.problems:
            found.add("chain broken")
        if self.refused:
            found.add("chain refused")
        object.__setattr__(self, "outcome", next(each for each in EXIT if each in found))

    @property
    def sentence(self) -> str:
        """The verdict, with its error bounds."""
        parts = []
        if self.problems:
            parts.append(f"The chain is broken: {self.problems[0]}")
            parts.append(
                "What records say, such as how rows were drawn, may not be so of these files"
            )
        elif self.subject.chain is None:
            parts.append("No record says where these rows come from")
        else:
            signed = ", and signed as the policy asks" if self.refused == () else ""
            parts.append(f"Every file is what the records say{signed}")
        if self.refused:
            parts.append(f"The chain is not what the policy asks: {self.refused[0]}")
        for each in sorted(self.carried, key=lambda one: [*EXIT].index(one.outcome)):
            parts += [*each.sentences, *self._channel(each.data)]
        parts += self._taught()
        return ". ".join(parts) + "."

    def _channel(self, data: DataSet) -> list[str]:
        writers = {each.digest for each in data.writers}
        of = [r for r in self.relatives if r.role == "wrote" and r.model.digest in writers]
        if not of or not data.is_known:
            return [
                "Who wrote all of them is not recorded: the channel to a student counts as open"
            ]
        worst = min(of, key=lambda each: each.channel)  # open before reduced
        return [f"To a student of this base the channel from their writer is "
                f"{worst.channel} ({worst.verdict})"]  # fmt: skip

    def _taught(self) -> list[str]:
        return [
            f"{each.name} taught by its distributions, which hand its traits down over any rows: "
            f"the channel is {each.channel} ({each.verdict}), and no scan of rows sees it"
            for each in self.relatives
            if each.role == "taught"
        ]

    def to_json(self) -> dict[str, Any]:
        """What `subl audit --json` prints."""
        return {
            "subject": str(self.subject.path.resolve()),
            "base": str(self.base),
            "outcome": self.outcome,
            "sentence": self.sentence,
            "problems": list(self.problems),
            "refused": None if self.refused is None else list(self.refused),
            "signed": self.refused == () and not self.problems,
            "kinship": [
                {
                    "role": each.role,
                    "model": each.model.path,
                    "verdict": each.verdict,
                    "channel": each.channel,
                    "contradicts": each.contradicts,
                    "tested": None if each.kinship is None else each.kinship.to_json(),
                }
                for each in self.relatives
            ],
            "data": [each.to_json() for each in self.carried],
        }


def check(
    of: Subject,
    base: Path,
    out: Path,
    spec: ScanSpec,
    *,
    reference: Sequence[Path] = (),
    calibration: Path | None = None,
) -> None:
    """Refuse at once what cannot be audited.

    Raises:
        InputError: rows or a calibration are not there, or are none.
        OutputError: `out` has an audit of something else or scans of another configuration, or
            nothing may be written there.
    """
    rows = [*reference, *(path for each in of.data for path in each.rows)]
    for path in rows:
        check_input(path, "rows")
        shard_files(path)
        if next(read_objects([path]), None) is None:
            raise InputError(f"{path} has no rows", hint="give a data set that has some")
    if calibration is not None:
        load(calibration)
    check_folder(out, [base, *rows, *([] if calibration is None else [calibration])])
    file = out / "result.json"
    if file.exists() and (then := _audited(file)) != of.path.resolve():
        raise OutputError(
            f"{file} is no audit" if then is None else f"{out} is an audit of {then}",
            hint=ELSEWHERE,
        )
    candidates_of(spec)
    for each in of.data:
        place = out / f"{each.name}-scan"
        with comparing(place):
            scan(spec, base, each.rows, place, reference=reference)


def _audited(file: Path) -> Path | None:
    """What the `result.json` of an audit is about; None where it is of something else."""
    try:
        return Path(json.loads(file.read_bytes())["subject"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def audit(
    of: Subject,
    base: Path,
    out: Path,
    spec: ScanSpec,
    *,
    reference: Sequence[Path] = (),
    refused: Sequence[str] | None = None,
    planned: DistillSpec | None = None,
    calibration: Path | None = None,
    report: Report = silent,
) -> Audit:
    """Compare models, and scan data; `write_audit` writes the verdict down.

    Args:
        base: the model on which students are, or would be, trained.
        refused: what a policy refuses of the subject's chain; None where none was asked.
        planned: a training whose shift is to be predicted; default, with a calibration: that of the
            first student.

    Raises:
        InputError: a model or rows cannot be read.
        OutputError: as `check`.
    """
    check(of, base, out, spec, reference=reference, calibration=calibration)
    claims = () if of.chain is None else declared(of.chain, report=report)
    relatives = tuple(_relatives(of, base, claims, report))
    out.mkdir(parents=True, exist_ok=True)
    carried = []
    for each in of.data:
        scanned = scan(
            spec, base, each.rows, out / f"{each.name}-scan", reference=reference, name=each.name,
            report=report,
        )  # fmt: skip
        shift = why = None
        if planned is not None or calibration is not None:
            shift, why = _shift(each, scanned, base, out, planned, calibration, report)
        found = scanned.result["outcome"] in ("trait named", "base refuted")
        cost = editing_cost(scanned, base, each.rows) if found else None
        carried.append(Carried(each, scanned, shift, why, cost))
    chain = () if of.chain is None else tuple(of.chain.sentences())
    against = (
        f"{each.child}, as to {each.parent}: {each.finding}: {each.reason}"
        for each in claims
        if each.finding is Finding.CONTRADICTED
    )
    problems = tuple(dict.fromkeys((*chain, *against)))
    others = None if refused is None else tuple(each for each in refused if each not in problems)
    return Audit(of, base, problems, others, relatives, tuple(carried))


def _relatives(
    of: Subject, base: Path, claims: Sequence[Claim], report: Report
) -> Iterator[Relative]:
    """Each model beside the base, as measured for a claim where it was."""
    measured = {
        Path(each.child).resolve(): each.kinship
        for each in claims
        if Path(each.parent).resolve() == base.resolve()
    }
    against = {Path(e.child).resolve() for e in claims if e.finding is Finding.CONTRADICTED}
    for number, (role, node) in enumerate(of.models):
        path = Path(node.path)
        report(Progress("kin", number, len(of.models), "models", path.name))
        kinship, same = measured.get(path.resolve()), None
        if kinship is None and path.is_dir():
            with suppress(InputError):  # what is damaged is in the chain's problems
                same = _same(path, base)
                kinship = None if same else kin(path, base, names=(path.name, base.name))
        yield Relative(role, node, kinship, same, path.resolve() in against)


def _same(model: Path, base: Path) -> str | None:
    """What a model is that has no other weights than the base's; None where it may have others.

    Raises:
        InputError: what it is a condition of, or an adapter on, is not there.
    """
    if model.resolve() == base.resolve():
        return "the base itself"
    if by_construction(model, base) is None:
        return None
    has_adapter = conditioned(model).folder.resolve() != conditioned(base).folder.resolve()
    return "an adapter on the base" if has_adapter else "the base under a condition"


def _shift(
    data: DataSet,
    scanned: Artifact,
    base: Path,
    out: Path,
    planned: DistillSpec | None,
    calibration: Path | None,
    report: Report,
) -> tuple[Artifact | None, str | None]:
    """What students of this data are predicted to shift, or why that cannot be said."""
    from subl.audit.predict.features import Planned
    from subl.audit.predict.run import predict
    from subl.audit.predict.spec import PredictSpec
    from subl.config import validated
    from subl.distill import DistillSpec

    trait = scanned.result["trait"] or scanned.result["nearest_trait"]
    if trait is None:
        return None, "the scan came to no trait"
    trained = [each for each in data.students if each.kind == "distill"]
    if planned is None and not trained:
        return None, "no training of these rows is recorded, and none is given"
    if planned is None:
        record = read_statement(Path(trained[0].path))
        assert record is not None
        planned = DistillSpec.model_validate(spec_record(record)["spec"])
    try:
        spec = validated(PredictSpec, {"trait": trait, "distill": planned})
        made = predict(
            spec, Planned(base, data.rows), out / f"{data.name}-shift", calibration=calibration,
            name=data.name, report=report,
        )  # fmt: skip
        return made, None
    except (ConfigError, InputError) as error:  # such as a trait that no evaluation knows
        return None, error.message
