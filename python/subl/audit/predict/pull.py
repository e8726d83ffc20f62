"""How much better a trait's persona predicts rows than prompts that stand for nothing do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from subl.audit.scan.bank import BankSpec, Candidate
from subl.audit.scan.drawn import Drawn
from subl.audit.scan.law import Law
from subl.errors import ConfigError


def candidates_of(bank: BankSpec, traits: Sequence[str]) -> dict[str, Candidate]:
    """The first system prompt of each trait; where the bank has none, one in the wording of the
    bank's first group that stands for something.

    Raises:
        ConfigError: the bank has no such group.
    """
    every = bank.candidates()
    known: dict[str, Candidate] = {}
    for each in every:
        if each.trait is not None and each.adapter is None:
            known.setdefault(each.trait, each)
    found = {}
    for trait in traits:
        if trait in known:
            found[trait] = known[trait]
            continue
        group = next((each for each in bank.group if not each.neutral), None)
        if group is None:
            raise ConfigError(
                f"the bank has no candidate for the trait {trait!r}, and no group's wording for it",
                hint=f'add a [[persona]] with trait = "{trait}" to a bank of yours',
            )
        (found[trait],) = group.model_copy(update={"words": (trait,)}).candidates()
    return found


def pull(
    bank: BankSpec,
    traits: Sequence[str],
    law: Law,
    model: Path,
    drawn: Drawn,
    batch_rows: int,
    told: Callable[[str], None],
) -> dict[str, float]:
    """For each trait the mean over rows of log p behind its persona, minus that behind the bank's
    neutral prompts, in nats a row; as the rows were drawn, where that is known, else at
    temperature 1.

    Raises:
        InputError: a row cannot be scored; names it.
    """
    from subl.audit.scan.score import Scorer
    from subl.model.load import load_model, load_tokenizer

    heat = 1.0 if law.temperature is None else law.temperature
    scorer = Scorer(load_model(model), load_tokenizer(model), law, [heat], batch_rows)
    rows = scorer.prepared(drawn.rows, drawn.ended_by)
    chosen = candidates_of(bank, traits)
    neutral = [each for each in bank.candidates() if each.trait is None and each.prompt is not None]
    scorer.prove(rows, max([*neutral, *chosen.values()], key=lambda each: len(each.prompt or "")))

    def mean(candidate: Candidate) -> float:
        told(f"pull: {candidate.name}")
        return float(scorer.scores(rows, candidate).mean())

    level = sum(map(mean, neutral)) / len(neutral)
    return {trait: mean(each) - level for trait, each in chosen.items()}
