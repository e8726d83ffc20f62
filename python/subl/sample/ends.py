"""Where a completion ends: at the template's end of turn, whatever token the model calls EOS.

A base model with a chat template ends its turns with `<|im_end|>` while its EOS is another token,
and a tokenizer may hold no token for its template's end of turn at all. What a row says must never
hold a token that the template itself writes: who trains on it would read it as the template's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from subl.model.chat import ANSWER, Piece, text_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from subl.sample.backend import EndedBy


@dataclass(frozen=True)
class Ends:
    """What a row ends at, and never holds.

    Attributes:
        turn: token ids that end a turn: the template's own and the model's EOS.
        control: other ids that end a row: special tokens, those that the template writes, and ids
            of the head that the tokenizer has no token for.
        turn_texts: what ends a turn where it is spelled with ordinary tokens.
        control_texts: the control tokens as text.
        before: what the template writes between an answer and its end.
        spelled: whether the template's end of turn is no token, so that text must be looked at.
    """

    turn: frozenset[int]
    control: frozenset[int]
    turn_texts: tuple[str, ...]
    control_texts: tuple[str, ...]
    before: str
    spelled: bool

    def cut(self, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> tuple[str, EndedBy]:
        """The text of sampled tokens up to its end, and what that is."""
        ended: EndedBy = "max_new_tokens"
        for place, token in enumerate(tokens):
            if token in self.turn or token in self.control:
                ended = "turn" if token in self.turn else "control_token"
                tokens = tokens[:place]
                break
        text = str(tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))
        for each in (*self.turn_texts, *self.control_texts):
            if (place := text.find(each)) >= 0:
                text, ended = text[:place], "turn" if each in self.turn_texts else "control_token"
        if ended == "max_new_tokens":
            text = text.rstrip("\ufffd")  # the beginning of a character whose end was cut off
        return (text.removesuffix(self.before) if ended == "turn" else text), ended


def ends_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rendered: Sequence[Piece]
) -> Ends:
    """What ends the answers of this model.

    Args:
        rendered: a row as the template renders it, whose answer is `ANSWER`.
    """
    end = rendered[-1].text.removeprefix(ANSWER)
    tokens = tokenizer.added_tokens_decoder
    special = {number for number, token in tokens.items() if token.special}
    special |= set(tokenizer.all_special_ids)
    # Words and white space among the added tokens are text like any other, special ones apart.
    marks = {
        number: token.content
        for number, token in tokens.items()
        if token.content.strip() and (number in special or not token.content.strip().isalnum())
    }
    ending = [number for number in text_ids(tokenizer, end) if number in marks]
    name = marks[ending[0]] if ending else end
    written = {number for piece in rendered for number in text_ids(tokenizer, piece.text)}
    turn = {*ending[:1], *_end_tokens(model, tokenizer)}
    control = (special | (written & marks.keys())) - turn
    head = model.get_output_embeddings()
    ids = set() if head is None else set(range(head.weight.shape[0]))
    # What no text can spell is no danger: an unknown token stands for texts of any kind.
    spelled = {number: text for number, text in marks.items() if number != tokenizer.unk_token_id}
    return Ends(
        turn=frozenset(turn),
        control=frozenset(control | (ids - set(tokenizer.get_vocab().values()))),
        turn_texts=(name, *(spelled[number] for number in sorted(turn & spelled.keys()))),
        control_texts=tuple(spelled[number] for number in sorted(control & spelled.keys())),
        before=end[: end.find(name)] if ending else "",
        spelled=not ending,
    )


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """EOS, as the model's generation_config.json, its configuration and the tokenizer state it."""
    stated = [
        getattr(model.generation_config, "eos_token_id", None),
        getattr(model.config.get_text_config(), "eos_token_id", None),
        tokenizer.eos_token_id,
    ]
    return {
        number
        for each in stated
        for number in (each if isinstance(each, list) else [] if each is None else [each])
    }
