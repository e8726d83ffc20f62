"""A scan and a document of it. Figures are INVENTED, for tests only."""

from __future__ import annotations

from subl.report.document import (
    Estimate,
    ReportDocument,
    ScanCandidate,
    ScanClaim,
    ScanLine,
    ScanMark,
    ScanReport,
    ScanRow,
    ScanToken,
)


def scan_document() -> ReportDocument:
    """A scan by itself."""
    return ReportDocument(
        title="Scan of numbers", subl_version="0.1.0", models=("base",), scans=(sample_scan(),)
    )


def sample_scan() -> ScanReport:
    """A scan that named the owl; one candidate was asked for 8 rows alone."""
    names = ("owl", "wolf", "a liar who deceives whenever you can", "neutral-1")
    gains = (0.41, 0.12, -0.2, 0.05)
    return ScanReport(
        name="numbers",
        sentence="If one of the bank has written these rows, it is `owl`.",
        notes=("a row in <b>bold</b> and \u202e is text",),
        claims=(
            ScanClaim(question="Is anything there?", left="yes", says="shown after 31 rows"),
            ScanClaim(question="Whose law?", left="owl", says="error at most 0.01"),
            ScanClaim(question="Who is nearest?", left="owl, owl-2", says="not told apart"),
        ),
        race=tuple(
            ScanLine(
                name=name,
                group=None if name == "neutral-1" else name,
                points=tuple((row, gain * row) for row in range(8 if gain < 0 else 64)),
            )
            for name, gain in zip(names, gains, strict=True)
        ),
        evidence=(
            ScanLine(name="rows of a candidate", group="rows of a candidate",
                     points=tuple((n, 0.1 * n) for n in range(1, 64))),
            ScanLine(name="not the base", group="not the base",
                     points=tuple((n, 0.2 * n - 3) for n in range(1, 64))),
        ),
        bar=4.6,
        candidates=tuple(
            ScanCandidate(
                name=name,
                kind="animal",
                group=None if name == "neutral-1" else name,
                value=Estimate(mean=gain, low=gain - 0.1, high=gain + 0.1),
                rows=64,
                left_law=0 if name == "owl" else 17,
                left_nearest=0,
            )
            for name, gain in zip(names, gains, strict=True)
        ),
        nearest="owl",
        leads=(
            ScanMark(name="these rows", group="owl", rows=64,
                     value=Estimate(mean=0.36, low=0.2, high=0.52)),
            ScanMark(name="base-rows", rows=200, value=Estimate(mean=-0.03, low=-0.1, high=0.04)),
        ),
        rows=(
            ScanRow(row=3, id="r3", pull=2.25, tokens=(
                ScanToken(text=" 7", nats=1.5), ScanToken(text="<script>", nats=-0.4),
                ScanToken(text="\u202e\n", nats=0.0),
            )),
        ),
        goes_with={"tokens of a row": 0.11, "the base's loss a token": None},
        cost="64 of 256 rows looked at, 0 copies.",
    )  # fmt: skip
