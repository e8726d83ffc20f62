"""A model folder that transformers loads, sampled from as the model's plain forward pass says."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import write_atomically
from subl.artifact.partial import locked
from subl.progress import Progress, Report, silent
from subl.sample.backend import Answer, FirstTokens, Request, Requests, Sampling
from subl.sample.prompts import Prompts

if TYPE_CHECKING:
    from subl.sample.ends import Ends
    from subl.sample.guide import Guide
    from subl.sample.rows import Watch
    from subl.sample.sampling import Way


_LOOKED_AT_ONCE = 1024


class Local:
    """Answers of the model in `folder`: the same for a request whatever shares a batch with it.

    (Another batch may round logits another way: a token changes only where two sums of a logit and
    its random number are as near to one another as that.)
    """

    same_answers = True

    def __init__(self, folder: Path, sampling: Sampling) -> None:
        self._folder = folder
        self._sampling = sampling
        self._prompts = Prompts(folder, sampling.template)
        self._guide: Guide | None = None
        self._ends: Ends | None = None
        self._way: Way | None = None

    def begin(self, requests: Requests, notes: Path, report: Report = silent) -> None:
        """See `Backend.begin`; finds out how the model is decoded."""
        from subl.model.load import load_model
        from subl.sample.ends import ends_of
        from subl.sample.proof import right_way

        # Before the model is loaded. What a template does with turns shows on the first request: it
        # may refuse or leave out the system prompt.
        first = next(requests())
        self._prompts.ids([first])
        if self._sampling.grammar is not None:
            from subl.sample.guide import Guide

            self._guide = Guide(self._sampling.grammar, self._prompts.tokenizer)
        self._model = load_model(self._folder)
        rendered = self._prompts.answered(first)
        self._ends = ends_of(self._model, self._prompts.tokenizer, rendered)
        # Of ranks that begin together one looks, and the others wait for what it finds.
        with locked(notes.parent, f".lock-{notes.name}", wait=True):
            if not notes.exists():
                write_atomically(notes, json.dumps(self._look_at(requests(), report)))
        telling = json.loads(notes.read_bytes())
        self._way = right_way(self._model, telling, self._sampling.max_new_tokens, self._sample)

    def answers(self, requests: Sequence[Request]) -> Generator[tuple[int, Answer], None, None]:
        """See `Backend.answers`."""
        assert self._way is not None and self._ends is not None, "begin comes first"
        asked = self._prompts.ids(requests)
        numbers = [request.number for request in requests]
        for place, tokens in self._sample(asked, numbers, self._way, None, self._guide, self._ends):
            if self._guide is None:
                yield place, Answer(*self._ends.cut(self._prompts.tokenizer, tokens))
            else:
                yield place, Answer(*self._guide.cut(tokens, self._ends))

    def first_tokens(
        self, requests: Sequence[Request], top: int
    ) -> Generator[tuple[int, FirstTokens], None, None]:
        """See `Backend.first_tokens`."""
        from subl.sample.sampling import first_log_p

        assert self._way is not None, "begin comes first"
        for place, log_p in first_log_p(
            self._model,
            self._prompts.tokenizer,
            self._prompts.ids(requests),
            top,
            batch_rows=self._sampling.batch_rows,
            way=self._way,
        ):
            yield place, FirstTokens(log_p)

    def facts(self) -> dict[str, Any]:
        """See `Backend.facts`."""
        assert self._way is not None, "begin comes first"
        return {"promise": "same rows", "decoding": self._way.name}

    def close(self) -> None:
        """See `Backend.close`; there is nothing to end."""

    def _look_at(self, requests: Iterator[Request], report: Report) -> list[Sequence[int]]:
        """Refuse prompts that the model cannot read; those that tell how it is to be decoded.

        A pass over all of them, before the first answer is made, which keeps only these.
        """
        from subl.model.limits import check_readable
        from subl.sample.proof import Telling

        telling, seen = Telling(self._model, self._sampling.max_new_tokens), 0
        while batch := list(islice(requests, _LOOKED_AT_ONCE)):
            asked = self._prompts.ids(batch)
            named = ((each.name, ids) for each, ids in zip(batch, asked, strict=True))
            check_readable(
                self._model, self._prompts.tokenizer, named, self._sampling.max_new_tokens
            )
            for ids in asked:
                telling.add(seen, ids)
                seen += 1
            if seen > _LOOKED_AT_ONCE or len(batch) == _LOOKED_AT_ONCE:
                report(Progress("prompts", seen, None, "rows"))
        return telling.prompts()

    def _sample(
        self,
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[int],
        way: Way,
        watch: Watch | None,
        guide: Guide | None = None,
        ends: Ends | None = None,
    ) -> Iterator[tuple[int, list[int]]]:
        from subl.sample.sampling import sample

        return sample(
            self._model,
            self._prompts.tokenizer,
            prompts,
            numbers,
            seed=self._sampling.seed,
            temperature=self._sampling.temperature,
            max_new_tokens=self._sampling.max_new_tokens,
            batch_rows=self._sampling.batch_rows,
            guide=guide,
            ends=ends,
            way=way,
            watch=watch,
        )
