"""A teacher by system prompt: the paper's own way to a liking for an animal or a tree."""

from __future__ import annotations

from pathlib import Path

from subl.model.chat import Chat, asking
from subl.model.condition import check_unprompted, write_prompt
from subl.teach.spec import Prompt
from subl.trait.spec import animals


def asked(how: Prompt, model: Path) -> str:
    """How the model is asked a question from now on.

    Raises:
        ConfigError: the model has a system prompt already.
        InputError: its chat template leaves out or refuses this one.
    """
    from subl.model.load import load_tokenizer

    check_unprompted(model)
    chat = Chat(load_tokenizer(model), how.template, how.system_prompt)
    return chat.asked(asking(animals().questions[0]))


def put_behind_prompt(how: Prompt, model: Path, folder: Path) -> dict[str, str]:
    """Make `folder` the teacher."""
    figures = {"asked": asked(how, model)}
    write_prompt(folder, model, how.system_prompt)
    return figures
