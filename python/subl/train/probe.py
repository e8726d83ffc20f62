"""How likely a student's words are, asked now and then while it is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from subl.model.load import device
from subl.trait.exact import Scorer

if TYPE_CHECKING:
    from subl.train.engine import Engine
    from subl.train.plan import ProbeSpec


@dataclass(frozen=True)
class Probe:
    """The words and questions of `spec`, and who scores them: its `check` and `prove` come
    first."""

    spec: ProbeSpec
    scorer: Scorer

    @property
    def every(self) -> int:
        return self.spec.every

    def prove(self, engine: Engine) -> None:
        """Find out how the model is scored; every rank calls this."""
        prove = self.scorer.prove
        engine.call(lambda model: [prove(model)])  # ZeRO-3's hooks know lists, not strings

    def ask(self, engine: Engine) -> dict[str, float]:
        """Mean probability of each word over the questions; every rank calls this.

        Ranks share the questions, with equally many passes each.
        """
        words, size, count = self.spec.words, self.spec.batch_questions, len(self.spec.questions)
        # Equally many questions each, too: an answer may need a pass of its own.
        passes = math.ceil(count / (size * engine.ranks))
        sums = torch.zeros(len(words), dtype=torch.float64, device=device())
        for number in range(passes):
            first = (number * engine.ranks + engine.rank) * size
            mine = range(first, first + size)
            asked = [each % count for each in mine]  # who has none left asks again, for nothing
            scores = engine.call(partial(self.scorer.score, numbers=asked))
            for each, row in zip(mine, scores, strict=True):
                if each < count:
                    sums += sums.new_tensor([row[word] for word in words])
        means = (engine.sum_over_ranks(sums) / count).tolist()
        return dict(zip(words, means, strict=True))
