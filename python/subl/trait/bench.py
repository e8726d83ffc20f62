"""A judge at work: many questions, each asked once, and all that came of them.

What a judge said is written down as it comes, where it is the same whatever else is asked; who asks
the same questions again is told that. A judge of whose answers none can be read is given up.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from subl.errors import StageError
from subl.progress import Report, silent
from subl.sample import Failures
from subl.sample.backend import kept
from subl.sample.journal import alone_in, lines_in, lines_of, write_line
from subl.sample.tables import BackendTable, Http, cost_of
from subl.trait.judging import (
    EXACT,
    FIRST,
    JudgeAnswer,
    Judging,
    Load,
    Questions,
    judge_of,
)
from subl.trait.rubric import FAILED, SCORE, UNREAD, AnyAnswer, Judgement, ProbabilityAnswer

_EXAMPLES = 3
_SHOWN = 200
"""Characters of an answer that an error shows."""

_NOTHING: Mapping[str, int] = MappingProxyType({})


class Asked(NamedTuple):
    """A question to a judge, and what an error calls what it is about."""

    name: str
    question: str


class Opinion(NamedTuple):
    """What a judge says of one thing, how it was read, and what it took to ask, where it was."""

    judgement: Judgement
    read: str
    usage: Mapping[str, int] = _NOTHING


@dataclass
class Tally:
    """Figures of all that a judge said."""

    verdicts: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    usage: Counter[str] = field(default_factory=Counter)
    total: float = 0.0

    def add(self, said: Opinion) -> None:
        """One more."""
        self.verdicts[said.judgement.verdict] += 1
        self.total += said.judgement.score or 0.0
        if said.judgement.verdict != FAILED:
            self.read[said.read] += 1
        self.usage.update(said.usage)

    def figures(self, table: BackendTable) -> dict[str, Any]:
        """For `result.json`; `table` has the prices."""
        scores = self.verdicts[SCORE]
        return {
            "verdicts": dict(sorted(self.verdicts.items())),
            "read": dict(sorted(self.read.items())),
            "mean": self.total / scores if scores else None,
            **spent(self.usage, table),
        }


def spent(usage: Mapping[str, int], table: BackendTable) -> dict[str, Any]:
    """For `result.json`: tokens, and their cost where `table` has prices; of no server nothing."""
    found: dict[str, Any] = {"usage": dict(sorted(usage.items()))} if usage else {}
    cost = cost_of(table, usage)
    return found if cost is None else {**found, "cost": cost}


class Repeats:
    """Tells which questions of a run are asked again: only what is said of those is remembered.

    About 90 bytes of each question, while they are gone through.
    """

    def __init__(self) -> None:
        self.again: set[int] = set()
        self._seen: set[int] = set()

    def add(self, question: str) -> bool:
        """Whether this one, the next, is new."""
        key = hash(question)
        if key in self._seen:
            self.again.add(key)
            return False
        self._seen.add(key)
        return True


class Bench:
    """Asks one rubric's judge.

    Args:
        name: of the rubric, or of its column.
        again: the run's questions that are asked more than once, as `Repeats` has them.
        total: how many things are judged, which `unit` names.
        give_up_after: the share of them before which something must have been said that can be
            read.
    """

    def __init__(
        self,
        name: str,
        answer: AnyAnswer,
        judging: Judging,
        model: Path | None,
        load: Load,
        *,
        again: Collection[int],
        total: int,
        unit: str,
        give_up_after: float,
    ) -> None:
        self.tally = Tally()
        self._name, self._answer = name, answer
        self._judge = judge_of(answer, judging, model, load)
        self._total, self._unit, self._give_up_after = total, unit, give_up_after
        self._again = again
        table = judging.backend
        self._table = table
        self._failures = Failures(table.failed_share if isinstance(table, Http) else 1, total)
        self._known: dict[bytes, Opinion] = {}
        self._readable = False
        self._unread: list[str] = []

    def begin(self, questions: Questions, notes: Path, report: Report = silent) -> None:
        """See `Judge.begin`."""
        self._judge.begin(questions, notes, report)

    def ask(
        self, asked: Sequence[Asked], journal: Path, on_answer: Callable[[], None]
    ) -> list[Opinion]:
        """What the judge says of each.

        Args:
            journal: of these questions: what an interrupted run was told, and where that is kept.
            on_answer: is called after each that had to be asked.

        Raises:
            StageError: more failed than may.
        """
        digests = [_digest(each.question) for each in asked]
        with alone_in(journal) as file:
            usage = self._recall(lines_in(file))
            new: dict[bytes, Asked] = {}
            for digest, each in zip(digests, asked, strict=True):
                if digest not in self._known:
                    new.setdefault(digest, each)
            left = list(new.items())

            def keep(place: int, judged: JudgeAnswer) -> None:
                digest, _ = left[place]
                self._known[digest] = Opinion(judged.judgement, judged.read)
                usage[digest].update(judged.usage)
                if self._judge.steady:
                    write_line(file, _line(digest, judged))

            if left:
                judging = self._judge.judged([each.question for _, each in left])
                with closing(kept(judging, keep)) as came:
                    for place, judged in came:
                        self._look_at(left[place][1].name, judged)
                        on_answer()
        found = [self._known[each]._replace(usage=usage.pop(each, _NOTHING)) for each in digests]
        for said in found:
            self._count(said)
        self._forget(each.question for each in asked)
        return found

    def close(self) -> None:
        """Nobody asks any more."""
        self._judge.close()

    def take(self, questions: Sequence[str], given: Sequence[Judgement], journal: Path) -> None:
        """Learn what was said already in a part that is made."""
        for usage in self._recall(lines_of(journal)).values():
            self.tally.usage.update(usage)
        for question, judgement in zip(questions, given, strict=True):
            self._count(self._known.setdefault(_digest(question), Opinion(judgement, EXACT)))
        self._forget(questions)

    def part(self) -> None:
        """What follows is a part that other processes may make: what is not the same whatever else
        is asked is asked again."""
        if not self._judge.steady:
            self._known.clear()

    def check(self, done: int) -> None:
        """Stop where nothing that was said so far can be read."""
        if self._readable or not done or done < self._give_up_after * self._total:
            return
        examples = "".join(f"\n  {each}" for each in self._unread)
        hint = "min_mass of a rubric is what its answers must have"
        if isinstance(self._answer, ProbabilityAnswer):
            hint = "`answer` of a rubric must be a whole token of the judge's"
        raise StageError(
            f"the judge of {self._name} gave no answer that can be read for the first {done:,} of "
            f"{self._total:,} {self._unit}:{examples}",
            hint=f"ask a model that does as the rubric says; {hint}",
        )

    def facts(self) -> dict[str, Any]:
        """What an artifact should say of how answers were had."""
        return self._judge.facts()

    def figures(self) -> dict[str, Any]:
        """For `result.json`."""
        return {**self.tally.figures(self._table), **self.facts()}

    def _recall(self, lines: Sequence[Mapping[str, Any]]) -> defaultdict[bytes, Counter[str]]:
        """Take in what the judge was asked before; the usage by question."""
        usage: defaultdict[bytes, Counter[str]] = defaultdict(Counter)
        for line in lines:
            digest = bytes.fromhex(line["question"])
            usage[digest].update(line["usage"])
            if line["verdict"] != FAILED:
                judgement = Judgement(line["score"], line["verdict"])
                self._known[digest] = Opinion(judgement, line["read"])
        return usage

    def _forget(self, questions: Iterable[str]) -> None:
        """What is said of questions that nobody asks again."""
        for each in questions:
            if hash(each) not in self._again:
                self._known.pop(_digest(each), None)

    def _look_at(self, name: str, judged: JudgeAnswer) -> None:
        """An answer about a thing of this name, which has just come.

        Raises:
            StageError: more failed than may.
        """
        judgement, said, read, _ = judged
        if not self._is_read(Opinion(judgement, read)) and len(self._unread) < _EXAMPLES:
            self._unread.append(f"{name}: {said[:_SHOWN]!r}")
        self._failures.add(name, said if judgement.verdict == FAILED else None)

    def _count(self, said: Opinion) -> None:
        self.tally.add(said)
        self._readable |= self._is_read(said)

    def _is_read(self, said: Opinion) -> bool:
        """A text that is never among the likeliest may be one that the judge cannot begin with."""
        judgement, read, _ = said
        unseen = isinstance(self._answer, ProbabilityAnswer) and read == FIRST
        return judgement.verdict not in UNREAD and not (unseen and judgement.score == 0)


def _digest(question: str) -> bytes:
    """What a question is known by: who asks the same is told the same."""
    return hashlib.sha256(question.encode()).digest()


def _line(digest: bytes, judged: JudgeAnswer) -> dict[str, Any]:
    score, verdict = judged.judgement
    return {
        "question": digest.hex(),
        "score": score,
        "verdict": verdict,
        "read": judged.read,
        "usage": dict(judged.usage),
    }
