"""Ask a judge a rubric's questions, and read its answers.

A model folder's probabilities are exact: those of all numbers and classes that the rubric knows, by
`exact`. Another backend's are those of its likeliest first tokens, where the judge's tokens are
whole numbers. What cannot be read so, or has to be thought about first, is sampled and read as a
text; its randomness is the question's, so that one question has one answer.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from subl import cost
from subl.errors import InputError
from subl.model.chat import asking
from subl.model.template import Template
from subl.progress import Report, silent
from subl.sample import Answer, Backend, FirstTokens, Request, Sampling, backend_of
from subl.sample.backend import NO_LOG_P, handed_on
from subl.sample.tables import BackendTable, Transformers, check_template
from subl.trait.rubric import (
    FAILED,
    AnyAnswer,
    Judgement,
    NumberAnswer,
    ProbabilityAnswer,
    RubricSpec,
    TagAnswer,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from subl.model.size import Architecture, ModelSize
    from subl.trait.exact import Scorer

FIRST_TOKENS = 20
"""As many as servers give."""

EXACT, FIRST, TEXT = "exact probabilities", "first tokens", "text"
"""How an answer was read."""

_LOOKED_AT_ONCE = 256

_THOUGHT_TOKENS = 400
"""Of an answer whose number stands behind thoughts."""

_SPELLED = 1.5
"""Tokens of a form of a number, those that it shares with others apart."""

Questions = Callable[[], Iterator[str]]
"""All questions of a run, from the first; made anew at each call, and the same ones."""


class Judging(BaseModel):
    """How a judge's answers are had."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: BackendTable = Field(
        Transformers(), description="what the model runs in; default: this process"
    )
    template: Template = Template()
    temperature: float = Field(
        1.0, gt=0, description="of answers that have to be read as texts; the paper's is 1"
    )
    seed: int = Field(0, ge=0, lt=2**64, description="of such answers")
    batch_rows: int = Field(16, gt=0, description="questions of one forward pass")

    @model_validator(mode="after")
    def _goes_with_the_backend(self) -> Self:
        check_template(self.backend, self.template)
        return self

    def work(
        self, rubrics: Collection[RubricSpec], size: ModelSize, texts: int, tokens: float
    ) -> cost.Work:
        """Of asking a model of this size each rubric about so many texts of so many tokens each."""
        work = cost.Work()
        for each in rubrics:
            asked = _asked_tokens(each, tokens)
            if isinstance(each.answer, TagAnswer) or self.backend.kind != "transformers":
                said = _said_tokens(each.answer)
                work += cost.sampling(size, texts, asked, said, self.batch_rows, self.backend)
            else:
                nodes = _SPELLED * len(each.answer.words)
                work += cost.scoring(size, texts, asked, nodes, self.batch_rows)
                work += cost.loading(size)
        return work

    def room(
        self, rubrics: Collection[RubricSpec], model: Architecture, tokens: float
    ) -> cost.Room:
        """What a model needs to be asked each rubric about texts of so many tokens."""
        if not rubrics:
            return cost.Room(0, 0)
        most = max(_asked_tokens(each, tokens) + _said_tokens(each.answer) for each in rubrics)
        return cost.room_to_answer(model, most, self.batch_rows, self.backend)

    def sampling(self, answer: AnyAnswer) -> Sampling:
        """How answers are drawn that are read as texts."""
        return Sampling(
            backend=self.backend,
            template=self.template,
            temperature=self.temperature,
            max_new_tokens=1 if isinstance(answer, ProbabilityAnswer) else answer.max_new_tokens,
            seed=self.seed,
            batch_rows=self.batch_rows,
        )


def _asked_tokens(rubric: RubricSpec, tokens: float) -> float:
    """Of a question about a text of so many."""
    return len(rubric.template) / cost.CHARACTERS_A_TOKEN + cost.TEMPLATE_TOKENS + tokens


def _said_tokens(answer: AnyAnswer) -> int:
    """Of an answer."""
    return min(answer.max_new_tokens, _THOUGHT_TOKENS) if isinstance(answer, TagAnswer) else 1


Load = Callable[[], "PreTrainedModel"]


def loader(model: Path | None) -> Load:
    """Loads a model folder once, however many rubrics it is asked."""

    @cache
    def load() -> PreTrainedModel:
        from subl.model.load import load_model

        assert model is not None
        return load_model(model)

    return load


def judge_of(
    answer: AnyAnswer, judging: Judging, model: Path | None, load: Load | None = None
) -> Judge:
    """Who answers a rubric: the model folder, or the server that `judging` names.

    Args:
        load: the `loader` of the model, if judges share it.
    """
    here = isinstance(judging.backend, Transformers)
    if here and model is not None and not isinstance(answer, TagAnswer):
        load = load or loader(model)
        return ExactJudge(model, answer, judging.template, judging.batch_rows, load)
    backend = backend_of(judging.sampling(answer), model)
    return BackendJudge(backend, answer, probabilities=not here)


class JudgeAnswer(NamedTuple):
    """What a judge's answer came to; what it was, for a person to see; how it was read; and counts
    that add up over answers, such as tokens that a server charges for."""

    judgement: Judgement
    said: str
    read: str
    usage: Mapping[str, int] = MappingProxyType({})


class Judge(Protocol):
    """Answers the questions of one rubric."""

    steady: bool
    """Whether an answer is the same to the last bit whatever else is asked with it."""

    def begin(self, questions: Questions, notes: Path, report: Report = silent) -> None:
        """Refuse what cannot be asked, before the first answer; as `Backend.begin`."""

    def judged(self, questions: Sequence[str]) -> Generator[tuple[int, JudgeAnswer], None, None]:
        """What the answer to each comes to, with its place, in the order in which they come.

        To be closed, and left with `rest_of`, as `Backend.answers` is.
        """

    def facts(self) -> dict[str, Any]:
        """What an artifact should say of how answers were had."""

    def close(self) -> None:
        """See `Backend.close`."""


class ExactJudge:
    """The probabilities of a model folder's answers: nothing is sampled.

    Args:
        load: loads the model of `folder`, or has it already.
    """

    steady = False

    def __init__(
        self,
        folder: Path,
        answer: NumberAnswer | ProbabilityAnswer,
        template: Template,
        batch_questions: int,
        load: Load,
    ) -> None:
        from subl.model.load import load_tokenizer

        self._answer, self._template = answer, template
        self._batch, self._load = batch_questions, load
        self._tokenizer = load_tokenizer(folder)

    def begin(self, questions: Questions, notes: Path, report: Report = silent) -> None:
        """See `Judge.begin`."""
        self._model = self._load()
        left = questions()
        while some := list(islice(left, _LOOKED_AT_ONCE)):
            self._scorer(some).check(self._model)

    def judged(self, questions: Sequence[str]) -> Generator[tuple[int, JudgeAnswer], None, None]:
        """See `Judge.judged`; some at a time."""
        scorer = self._scorer(questions)
        scorer.prove(self._model)
        for start in range(0, len(questions), self._batch):
            places = range(start, min(start + self._batch, len(questions)))
            for place, found in zip(places, scorer.score(self._model, places), strict=True):
                mass = sum(found.values())
                if not math.isfinite(mass):
                    raise InputError(
                        "the judge's probabilities are no numbers: nothing can be read from them",
                        hint="its weights may be damaged; does another program get text out of it?",
                    )
                said = f"all answers that the rubric knows have {mass:.3g} of the probability"
                yield place, JudgeAnswer(self._answer.expected(found), said, EXACT)

    def facts(self) -> dict[str, Any]:
        """See `Judge.facts`."""
        return {}

    def close(self) -> None:
        """See `Judge.close`; there is nothing to end."""

    def _scorer(self, questions: Sequence[str]) -> Scorer:
        from subl.trait.exact import Scorer

        whole = isinstance(self._answer, NumberAnswer)
        forms = {word: (word, f" {word}") if whole else (word,) for word in self._answer.words}
        return Scorer(self._tokenizer, forms, questions, self._template, whole=whole)


class BackendJudge:
    """What any other backend says.

    Args:
        backend: whose answers have room for `answer`.
        probabilities: whether it may be asked for those of first tokens.
    """

    steady = True

    def __init__(self, backend: Backend, answer: AnyAnswer, *, probabilities: bool) -> None:
        self._backend, self._answer = backend, answer
        self._probabilities = probabilities
        self._gave_some = False

    def begin(self, questions: Questions, notes: Path, report: Report = silent) -> None:
        """See `Judge.begin`."""
        self._backend.begin(lambda: map(_request, questions()), notes, report)

    def judged(self, questions: Sequence[str]) -> Generator[tuple[int, JudgeAnswer], None, None]:
        """See `Judge.judged`."""
        kind, requests = self._answer, [_request(question) for question in questions]
        texts = list(range(len(requests)))
        used: dict[int, Mapping[str, int]] = {}
        if self._probabilities and not isinstance(kind, TagAnswer):
            texts, failures = [], set[str | None]()

            def of_tokens(place: int, found: FirstTokens) -> Iterator[tuple[int, JudgeAnswer]]:
                failures.add(found.failure)
                judged = _of_first_tokens(kind, found)
                if judged is None:
                    texts.append(place)
                    used[place] = found.usage
                else:
                    yield place, judged

            yield from handed_on(self._backend.first_tokens(requests, FIRST_TOKENS), of_tokens)
            self._gave_some |= None in failures
            # Who has none is not asked again; what failed for another reason says nothing of that.
            self._probabilities = self._gave_some or NO_LOG_P not in failures
        if isinstance(kind, ProbabilityAnswer):
            self._probabilities = True  # nothing else answers it
            return

        def of_text(number: int, answer: Answer) -> Iterator[tuple[int, JudgeAnswer]]:
            place = texts[number]
            judgement = Judgement(None, FAILED) if answer.failed else kind.parsed(answer.text)
            usage = Counter(used.get(place, {})) + Counter(answer.usage)
            yield place, JudgeAnswer(judgement, answer.text, TEXT, usage)

        yield from handed_on(self._backend.answers([requests[place] for place in texts]), of_text)

    def facts(self) -> dict[str, Any]:
        """See `Judge.facts`."""
        return self._backend.facts()

    def close(self) -> None:
        """See `Judge.close`."""
        self._backend.close()


def _of_first_tokens(
    answer: NumberAnswer | ProbabilityAnswer, found: FirstTokens
) -> JudgeAnswer | None:
    """None where they do not say, and a text may."""
    if found.failure is not None:
        if isinstance(answer, NumberAnswer):
            return None
        return JudgeAnswer(Judgement(None, FAILED), found.failure, FIRST, found.usage)
    judgement = answer.of_first_token({t: math.exp(p) for t, p in found.log_p.items()})
    if judgement is None:
        return None
    likeliest = sorted(found.log_p, key=found.log_p.__getitem__, reverse=True)[:3]
    said = f"begins with {', '.join(map(repr, likeliest))}, or less likely tokens"
    return JudgeAnswer(judgement, said, FIRST, found.usage)


def _request(question: str) -> Request:
    digest = hashlib.sha256(question.encode()).digest()
    name = f"the question of a judge that begins {question[:40]!r}"
    return Request(name, asking(question), int.from_bytes(digest[:8], "big"))
