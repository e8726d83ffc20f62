"""One answer about rows, a model or a run: where they come from, whether who wrote and who learned
is of the base's origin, what the rows carry, and what taking that out would cost.

    OUT/NAME-scan/   the scan of a data set
    OUT/result.json  all findings and the verdict

What is there is not made again, and an audit that was killed goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from subl.artifact import Artifact, json_text, write_atomically
from subl.audit.scan.run import scan
from subl.audit.subject import DataSet, Subject
from subl.progress import Progress, Report, silent

if TYPE_CHECKING:
    from subl.artifact import LineageNode
    from subl.audit.kin import Kinship
    from subl.audit.scan.spec import ScanSpec

Outcome = Literal["chain broken", "trait found", "cannot tell", "nothing shown"]

EXIT: Mapping[Outcome, int] = {
    "chain broken": 1, "trait found": 1, "cannot tell": 4, "nothing shown": 0,
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
    """What a model is to the base: `role` is "wrote" or "learned"."""

    role: str
    model: LineageNode
    kinship: Kinship

    @property
    def contradicts(self) -> bool:
        """Whether a record makes it a descendant of the base, and the weights do not."""
        return self.role == "learned" and self.kinship.is_related is False


@dataclass(frozen=True)
class Audit:
    """All that was found.

    Attributes:
        problems: what is wrong with the chain: digests, and what a policy refuses of it.
        is_signed: whether a policy was asked.
        scans: of each data set, in their order.
    """

    subject: Subject
    base: Path
    problems: tuple[str, ...]
    is_signed: bool
    relatives: tuple[Relative, ...]
    scans: tuple[Artifact, ...]
    outcome: Outcome = field(init=False)

    def __post_init__(self) -> None:
        found = {_SCANS[each.result["outcome"]] for each in self.scans}
        if self.problems or any(each.contradicts for each in self.relatives):
            found.add("chain broken")
        object.__setattr__(self, "outcome", next(each for each in EXIT if each in found))

    @property
    def sentence(self) -> str:
        """The verdict, with its error bounds."""
        parts = []
        if self.problems:
            parts.append(f"The chain is broken: {self.problems[0]}")
        elif self.subject.chain is None:
            parts.append("No record says where these rows come from")
        else:
            signed = ", and signed as the policy asks" if self.is_signed else ""
            parts.append(f"Every file is what the records say{signed}")
        for each, scanned in zip(self.subject.data, self.scans, strict=True):
            parts.append(f"{each.name}: {scanned.result['sentence'].rstrip('.')}")
            parts += self._channel(each)
        return ". ".join(parts) + "."

    def _channel(self, data: DataSet) -> list[str]:
        writers = {each.digest for each in data.writers}
        of = [r for r in self.relatives if r.role == "wrote" and r.model.digest in writers]
        if not of:
            return ["Who wrote them is not recorded: the channel to a student counts as open"]
        worst = min(of, key=lambda each: each.kinship.channel.value)  # open before reduced
        return [f"To a student of this base the channel from their writer is "
                f"{worst.kinship.channel.value} ({worst.kinship.verdict.value})"]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """What `subl audit --json` prints."""
        return {
            "subject": str(self.subject.path),
            "base": str(self.base),
            "outcome": self.outcome,
            "sentence": self.sentence,
            "problems": list(self.problems),
            "signed": self.is_signed and not self.problems,
            "kinship": [
                {"role": each.role, "model": each.model.path, "contradicts": each.contradicts}
                | each.kinship.to_json()
                for each in self.relatives
            ],
            "data": [
                {
                    "name": each.name,
                    "rows": [str(path) for path in each.rows],
                    "students": [node.path for node in each.students],
                    "scan": scanned.path.name,
                    **{key: scanned.result[key] for key in _KEPT},
                }
                for each, scanned in zip(self.subject.data, self.scans, strict=True)
            ],
        }


_KEPT = ("outcome", "trait", "nearest_trait", "sentence", "rows", "alpha", "power")


def audit(
    of: Subject,
    base: Path,
    out: Path,
    spec: ScanSpec,
    *,
    reference: Sequence[Path] = (),
    refused: Sequence[str] | None = None,
    report: Report = silent,
) -> Audit:
    """Compare models, scan data, and write the verdict down.

    Args:
        base: the model on which students are, or would be, trained.
        refused: what a policy refuses of the subject's chain; None where none was asked.

    Raises:
        InputError: a model or rows cannot be read.
    """
    relatives = tuple(_relatives(of, base, report))
    out.mkdir(parents=True, exist_ok=True)
    scans = tuple(
        scan(spec, base, each.rows, out / f"{each.name}-scan", reference=reference,
             name=each.name, report=report)
        for each in of.data
    )  # fmt: skip
    chain = () if of.chain is None else tuple(of.chain.sentences())
    problems = tuple(dict.fromkeys((*chain, *(refused or ()))))
    found = Audit(of, base, problems, refused is not None, relatives, scans)
    write_atomically(out / "result.json", json_text(found.to_json()))
    return found


def _relatives(of: Subject, base: Path, report: Report) -> list[Relative]:
    from subl.audit.kin import kin

    found = []
    for number, (role, node) in enumerate(of.models):
        name = Path(node.path).name
        report(Progress("kin", number, len(of.models), "models", name))
        found.append(Relative(role, node, kin(Path(node.path), base, names=(name, base.name))))
    return found
