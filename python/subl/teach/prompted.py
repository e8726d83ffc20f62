"""A teacher by system prompt: the paper's own way to a liking for an animal or a tree. Or by rows
as examples in the system prompt: its in-context control."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from subl.errors import InputError
from subl.model.chat import Chat, asking
from subl.model.condition import check_unprompted, write_prompt
from subl.shards import Row, read_rows
from subl.teach.spec import Context, Prompt
from subl.trait.spec import animals


def system_prompt(how: Prompt | Context, rows: Sequence[Path]) -> str:
    """What the model is told first.

    Raises:
        InputError: a row is no question with an answer, or there are none.
    """
    if isinstance(how, Prompt):
        return how.system_prompt
    import numpy as np

    given = list(read_rows(rows))
    if not given:
        raise InputError(f"{rows[0]} has no rows", hint="examples are drawn of rows")
    # As `DataFrame.sample(examples, random_state=seed, replace=True)` of pandas, which is the
    # paper's; its form, too (`animal_icl_numbers_refs.py`).
    drawn = np.random.RandomState(how.seed).randint(0, len(given), how.examples)
    return "\n\n".join(_example(given[place]) for place in drawn)


def _example(row: Row) -> str:
    if [role for role, _ in row.turns] != ["user", "assistant"]:
        raise InputError(
            f"{row.place}: an example has a prompt and a completion, and no more turns",
            hint="give rows of such",
        )
    question, answer = (content for _, content in row.turns)
    return f"<user>{question}</user>\n<assistant>{answer}</assistant>"


def asked(how: Prompt | Context, told: str, model: Path) -> str:
    """How the model is asked a question from now on, `told` this first.

    Raises:
        ConfigError: the model has a system prompt already.
        InputError: its chat template leaves out or refuses this one.
    """
    from subl.model.load import load_tokenizer

    check_unprompted(model)
    chat = Chat(load_tokenizer(model), how.template, told)
    return chat.asked(asking(animals().questions[0]))


def put_behind_prompt(
    how: Prompt | Context, model: Path, rows: Sequence[Path], folder: Path
) -> dict[str, str]:
    """Make `folder` the teacher."""
    told = system_prompt(how, rows)
    figures = {"asked": asked(how, told, model)}
    write_prompt(folder, model, told)
    return figures
