"""Requests to the tokens that ask for their answers, by a model's own template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from subl.errors import InputError
from subl.model.chat import ANSWER, Chat, Piece, Turn, pieces
from subl.model.template import Template
from subl.sample.backend import Request


class Prompts:
    """What the model in `folder` is given."""

    def __init__(self, folder: Path, template: Template) -> None:
        from subl.model.load import load_tokenizer

        self.tokenizer = load_tokenizer(folder)
        self._template = template
        self._chat = Chat(self.tokenizer, template)

    def ids(self, requests: Sequence[Request]) -> list[list[int]]:
        """The tokens that ask for each answer; those of equal turns are made once.

        Raises:
            InputError: names the request.
        """
        rendered: dict[tuple[Turn, ...], str] = {}
        for request in requests:
            if request.turns not in rendered:
                try:
                    rendered[request.turns] = self._chat.asked(request.turns)
                except InputError as error:
                    raise InputError(f"{request.name}: {error.message}", error.hint) from error
        texts = list(rendered.values())
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else ()
        of_turns: dict[tuple[Turn, ...], list[int]] = dict(zip(rendered, ids, strict=True))
        return [of_turns[request.turns] for request in requests]

    def answered(self, request: Request) -> list[Piece]:
        """The request with an answer, `ANSWER`, as the template renders it."""
        turns = [*request.turns, Turn("assistant", ANSWER)]
        return pieces(self.tokenizer, turns, template=self._template)
