"""What the bets of a scan come to, in numbers and in one sentence. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from subl.audit.scan.bank import Candidate
from subl.audit.scan.evidence import Nearest, Race

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Outcome = Literal["nothing shown", "trait named", "base refuted", "cannot tell"]

EXIT: Mapping[Outcome, int] = {
    "nothing shown": 0, "trait named": 1, "base refuted": 1, "cannot tell": 4,
}  # fmt: skip
"""What `subl scan` exits with."""

ENOUGH_POWER = 0.8
"""Of candidates that would have been told from the base; with less, nothing is shown by nothing."""

MOST_REPEATS = 0.1
"""How often rows may be expected to say again what one says that is looked at. Each counts once,
which leaves of a law's draws something else than its draws: likely texts too seldom. Log-likelihood
ratios are off by about as much, in nats."""

_ERRORS = 3.0
"""Standard errors by which a lead must exceed that of clean rows."""


_Z95 = 1.96


@dataclass(frozen=True)
class Lead:
    """By how much the nearest trait predicts rows better than what stands for nothing does on the
    whole, nats a row; `error` is its standard error."""

    mean: float
    error: float
    rows: int

    @staticmethod
    def of(gains: NDArray[np.float64]) -> Lead:
        """From what it gains on each row."""
        count = len(gains)
        error = float(gains.std(ddof=1) / math.sqrt(count)) if count > 1 else math.inf
        return Lead(float(gains.mean()), error, count)

    def to_json(self) -> dict[str, Any]:
        """Of one row there is no error."""
        error = self.error if math.isfinite(self.error) else None
        low, high = self.interval()
        return {"mean": self.mean, "error": error, "low": low, "high": high, "rows": self.rows}

    def interval(self) -> tuple[float | None, float | None]:
        """Of 95 %."""
        if not math.isfinite(self.error):
            return None, None
        return self.mean - _Z95 * self.error, self.mean + _Z95 * self.error

    def exceeds(self, other: Lead) -> bool:
        """Whether it is more than that, and not by chance."""
        return self.mean - other.mean > _ERRORS * math.hypot(self.error, other.error)


def groups(candidates: Sequence[Candidate], among: NDArray[np.bool_]) -> set[str | None]:
    """The traits of those in a set; None: the plain base and neutral prompts."""
    return {each.trait for each, is_in in zip(candidates, among, strict=True) if is_in}


def for_nothing(candidates: Sequence[Candidate]) -> NDArray[np.bool_]:
    """Who stands for nothing: the plain base, and neutral prompts; `[candidates]`."""
    import numpy as np

    return np.array([each.trait is None for each in candidates])


def gains(
    log_p: NDArray[np.float64], candidate: int, empty: NDArray[np.bool_], clip: float
) -> NDArray[np.float64]:
    """What one gains on each row over the mean of those that stand for nothing, clipped.

    Args:
        log_p: of the rows, `[rows, candidates]`.
        empty: who stands for nothing.
    """
    found: NDArray[np.float64] = log_p[:, candidate] - log_p[:, empty].mean(1)
    return found.clip(-clip, clip)


def best_of(log_p: NDArray[np.float64], among: NDArray[np.bool_], clip: float) -> int | None:
    """Who of some predicts the rows best, of those that were asked about all of them; by what they
    gain over the plain base, clipped. None: there is none."""
    import numpy as np

    among = among & ~np.isnan(log_p).any(0)
    sums = (log_p - log_p[:, :1]).clip(-clip, clip).sum(0)
    return int(np.where(among, sums, -np.inf).argmax()) if among.any() else None


def decided(candidates: Sequence[Candidate], race: Race) -> bool:
    """Whether more rows would change nothing that is said of whose law they follow: nobody's, one
    candidate's, or that of one trait in whichever wording.

    Who is left alone has to stay so for three times as many rows again, which are cheap, as few are
    asked: rows of a law that the bank does not have leave one candidate for a while, before they
    leave none. Of 30 simulated sets of such a law one was left alone in 9 after as many rows again,
    in 5 after three times as many (tests/audit/test_evidence.py).
    """
    return (race.settled and _has_lasted(candidates, race)) or not race.kept.any()


def _has_lasted(candidates: Sequence[Candidate], race: Race) -> bool:
    """Whether one group is left alone, and was for three times the rows that this took."""
    after = _alone_after(candidates, race.left)
    return after is not None and race.rows >= 4 * after


def alone(candidates: Sequence[Candidate], kept: NDArray[np.bool_]) -> bool:
    """Whether one candidate is left, or those of one trait."""
    found = groups(candidates, kept)
    return len(found) == 1 and (None not in found or int(kept.sum()) == 1)


def rows_to_decision(
    candidates: Sequence[Candidate], race: Race, near: Nearest | None, alpha: float
) -> dict[str, int | None]:
    """After how many rows it was clear: that something is there, that one trait's law alone is
    left, that those of one trait alone are left as the nearest; None: it was not.
    `something_expected`: what the first would take if bets go on as they went; None where they
    lose.
    """
    return {
        "something": _shown_after(race, alpha),
        "something_expected": _expected(race, alpha),
        "law": _alone_after(candidates, race.left),
        "nearest": None if near is None else _alone_after(candidates, near.left),
    }


def _expected(race: Race, alpha: float) -> int | None:
    """After how many rows bets that some are a candidate's will have won, if they go on as they
    went; None: they lose."""
    crossed = _shown_after(race, alpha)
    if crossed is None and race.history and (gained := race.history[-1][0]) > 0:
        return math.ceil(race.rows * -math.log(alpha) / gained)
    return crossed


def _shown_after(race: Race, alpha: float) -> int | None:
    """After how many rows bets that some are a candidate's had won; None: they have not."""
    bar = -math.log(alpha)
    return next((row for row, (won, _) in enumerate(race.history, 1) if won >= bar), None)


def _alone_after(candidates: Sequence[Candidate], left: NDArray[np.int64]) -> int | None:
    """After how many rows those of one group were left alone."""
    kept = groups(candidates, left == 0)
    if not alone(candidates, left == 0):
        return None
    return max(
        int(row)
        for each, row in zip(candidates, left, strict=True)
        if each.trait is None or each.trait not in kept
    )


def lag(log_p: NDArray[np.float64], empty: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Nats a row by which each candidate that stands for something predicts rows worse than the
    plain base, over all rows that it was asked about; as `power` takes them.

    Args:
        log_p: of the rows, `[rows, candidates]`; NaN where one was not asked.
        empty: who stands for nothing.
    """
    import numpy as np

    found: NDArray[np.float64] = np.nanmean(log_p[:, :1] - log_p[:, ~empty], axis=0)
    return found


def power(behind: NDArray[np.float64], rows: int, alpha: float) -> float:
    """Share of candidates that so many rows would have been enough for to refute the base, had they
    written them: whose rows gain about as much over the base as these lose under them.

    Args:
        behind: nats a row by which candidates predict these rows worse than the base,
            `[candidates]`, of those that stand for something.
    """
    return float((behind * rows >= _needed(behind, alpha)).mean()) if len(behind) else 0.0


def rows_for_power(behind: NDArray[np.float64], alpha: float) -> int | None:
    """How many rows would be enough for as many candidates as it takes for nothing to be shown;
    None: as these rows are predicted, no number would."""
    enough = sorted(behind, reverse=True)[: math.ceil(ENOUGH_POWER * len(behind))]
    if not enough or not enough[-1] > 0:
        return None
    return math.ceil(_needed(behind, alpha) / float(enough[-1]))


def _needed(behind: NDArray[np.float64], alpha: float) -> float:
    return -math.log(alpha) + math.log(len(behind) + 1)


def verdict(
    candidates: Sequence[Candidate],
    race: Race,
    near: Nearest | None,
    *,
    alpha: float,
    knows_law: bool,
    power: float,
    rows_for_power: int | None,
    lead: Lead | None,
    clean: Mapping[str, Lead],
    ranked: float | None,
    not_scored: int = 0,
    repeats: bool = False,
) -> dict[str, Any]:
    """The outcome, and why.

    Args:
        near: None: nobody was asked for the nearest, because a candidate's law may fit.
        lead: of the nearest trait, if there is one.
        clean: the same trait's lead on each set of clean rows.
        ranked: log of the e-value among the base's own rows to the same prompts, if there are such.
        not_scored: candidates that a pilot left out.
        repeats: whether texts as likely as these come several times: the rows that are looked at
            follow nobody's law then.
    """
    law = groups(candidates, race.kept)
    nearest = set() if near is None else groups(candidates, near.kept)
    plain_left = not race.kept[0]
    last = next(iter(law)) if len(law) == 1 else None
    by_law = last if race.settled else None
    by_nearest = next(iter(nearest)) if len(nearest) == 1 else None
    stands_out = bool(clean) and lead is not None and all(map(lead.exceeds, clean.values()))
    wordings = sum(each.trait == by_nearest for each in candidates)
    named = by_law or (by_nearest if stands_out and wordings > 1 else None)
    notes = []
    if repeats:
        outcome: Outcome = "cannot tell"
        by_law = by_nearest = named = None
        notes.append(
            "each text is looked at once, and so likely ones come by themselves more often than "
            "that: give one row of each prompt, or rows that are longer"
        )
    elif named is not None:
        outcome = "trait named"
    elif not plain_left and _shown_after(race, alpha) is not None:
        outcome = "cannot tell"
        notes.append(
            "bets that some of the rows are a candidate's have won, and those that not all are the "
            "base's have not yet: more rows would say, with `exhaustive = true`"
        )
    elif not plain_left:
        outcome = "nothing shown" if power >= ENOUGH_POWER else "cannot tell"
    elif law == {None}:  # a neutral prompt is no trait
        outcome = "nothing shown" if race.settled else "cannot tell"
    elif None in law:
        outcome = "cannot tell"
    else:
        outcome = "base refuted" if knows_law else "cannot tell"
    if len(law) == 1 and plain_left and not race.settled and not repeats:
        one = "a neutral prompt" if last is None else f"`{last}`"
        notes.append(
            f"{one} alone is left, and bets against it have not lost: rows of a law that the "
            "bank does not have may leave it, too; more rows would say"
        )
    if by_law is not None and not _has_lasted(candidates, race):
        notes.append(
            f"`{by_law}` has not been left alone for long: more rows would say whether it stays"
        )
    if by_nearest is not None and not clean:
        notes.append("the lead is not calibrated: --reference gives clean rows of other sources")
    if by_nearest is not None and clean and not stands_out:
        notes.append("clean rows show as large a lead: the nearest is not named")
    if by_nearest is not None and stands_out and wordings == 1:
        notes.append(
            f"the bank has one wording of `{by_nearest}`: rows may be near to that and have "
            "nothing of the trait, so that it is not named; give each trait several"
        )
    if plain_left and not knows_law:
        notes.append("how the rows were drawn is not known: another sampler looks like another law")
    if plain_left and ranked is not None and ranked < -math.log(alpha):
        notes.append(
            "rows among the base's own show nothing: what fails may be what is taken for their law"
        )
    if not_scored:
        notes.append(
            f"{not_scored} candidates of the bank were not scored, as the pilot chose: none of "
            "them is excluded"
        )
    return {
        "outcome": outcome,
        "trait": named,
        "by_law": by_law,
        "nearest_trait": by_nearest,
        "sentence": _sentence(
            outcome,
            named,
            by_law,
            by_nearest,
            law,
            race,
            alpha,
            power,
            rows_for_power,
            not_scored > 0,
            repeats,
        ),
        "notes": notes,
    }


def figures(
    nearest: str | None, lead: Lead | None, clean: Mapping[str, Lead]
) -> list[dict[str, Any]]:
    """The leads, as experiments print figures."""
    if lead is None:
        return []
    return [
        {
            "label": f"lead of {nearest}: {where}",
            "ours": {"estimate": each.mean, "low": low, "high": high, "n": each.rows},
            "paper": None,
            "unit": "nats a row",
        }
        for where, each in {"these rows": lead, **clean}.items()
        for low, high in [each.interval()]
    ]


def _sentence(
    outcome: Outcome,
    named: str | None,
    by_law: str | None,
    by_nearest: str | None,
    law: set[str | None],
    race: Race,
    alpha: float,
    power: float,
    rows_for_power: int | None,
    of_scored: bool,
    repeats: bool,
) -> str:
    if repeats:
        return f"These {race.rows} rows cannot tell: texts as likely as theirs repeat."
    sure = f"error at most {alpha:g}"
    scored = " that was scored" if of_scored else ""
    bank = "those of the bank that were scored" if of_scored else "the bank"
    if outcome == "nothing shown" and not race.kept[0]:
        return (
            f"If one of {bank} has written these rows, it is a neutral prompt, no trait ({sure})."
        )
    if outcome == "nothing shown":
        return (
            f"Nothing is shown: the plain base may have written these {race.rows} rows, which "
            f"would have shown {power:.0%} of the bank's candidates, had one of them written them."
        )
    if by_law is not None:
        return f"If one of {bank} has written these rows, it is `{by_law}` ({sure})."
    if named is not None:
        return (
            f"`{named}` is the nearest of {bank} ({sure}), by more than in clean rows; "
            "its exact law they do not follow."
        )
    if outcome == "base refuted" and law:
        traits = f"`{next(iter(law))}`" if len(law) == 1 else f"{_traits(len(law))} of {bank}"
        return (
            f"The plain base has not written these rows ({sure}); {traits} may have, or a law "
            "that the bank does not have."
        )
    if outcome == "base refuted":
        rest = "" if by_nearest is None else f"; the nearest is `{by_nearest}`"
        return (
            f"These rows were written by neither the plain base nor any candidate{scored} "
            f"({sure}){rest}."
        )
    if race.kept[0]:
        would = f"about {rows_for_power:,} rows would do" if rows_for_power else "give more rows"
        if rows_for_power is None and (expected := _expected(race, alpha)) is not None:
            would = f"as bets went, about {expected:,} rows would refute the base"
        return (
            f"These {race.rows} rows cannot tell: so many would show {power:.0%} of the bank's "
            f"candidates, had one of them written them; {would}."
        )
    if None in law:
        rest = f"from {_traits(len(law) - 1)}" if len(law) > 1 else "from nobody of the bank"
        return (
            f"These {race.rows} rows cannot tell a neutral prompt {rest}; "
            f"the plain base has not written them ({sure})."
        )
    if law:
        return (
            f"It cannot be told: {_traits(len(law))} of {bank} may have written these {race.rows} "
            "rows, each at some temperature of the grid."
        )
    rest = "" if by_nearest is None else f"; the nearest is `{by_nearest}`"
    return f"It cannot be told: no candidate's law fits at any temperature of the grid{rest}."


def _traits(count: int) -> str:
    return f"{count} trait{'' if count == 1 else 's'}"
