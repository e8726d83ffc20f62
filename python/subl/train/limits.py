"""Rows that a model cannot read, refused by file and line before anything is computed.

A configuration alone says which rows may be too long or hold tokens that are too many; what decides
(`model.limits`) is the model, without its weights where it is not loaded yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.errors import InputError
from subl.model.limits import check_readable
from subl.model.load import base_folder, unreadable_models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from subl.train.tokens import Tokens


def text_config(folder: Path) -> Any:
    """The configuration of a model's language part, whose attributes have transformers' names
    whatever the file calls them (GPT-2's `n_layer` is `num_hidden_layers`)."""
    return _config(folder).get_text_config()


def bare_model(folder: Path) -> PreTrainedModel:
    """The model as its configuration describes it, with shapes and without weights."""
    import torch
    from transformers import AutoModelForCausalLM

    config = _config(folder)
    with unreadable_models(folder), torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return model


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    folder = base_folder(folder)
    with unreadable_models(folder):
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


@dataclass(frozen=True)
class Limits:
    """Of the model in `folder`."""

    folder: Path

    @cached_property
    def _stated(self) -> tuple[float, float]:
        """Tokens of the vocabulary and positions of the longest row, as the configuration says."""
        config = text_config(self.folder)
        sizes = (getattr(config, name, None) for name in ("vocab_size", "max_position_embeddings"))
        vocabulary, positions = (each if isinstance(each, int) else float("inf") for each in sizes)
        return vocabulary, positions

    @cached_property
    def _model(self) -> PreTrainedModel:
        return bare_model(self.folder)

    def check(self, place: str, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse a row that the model cannot read.

        Raises:
            InputError: names it.
        """
        vocabulary, positions = self._stated
        if max(ids) >= vocabulary or len(ids) > positions:
            check_readable(self._model, tokenizer, [(place, ids)])


def check_tokens(
    tokens: Tokens, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """The same of all rows and a model that is loaded; and its head must know every token.

    Raises:
        InputError: names a row.
    """
    largest, longest = tokens.largest_id(), int(tokens.lengths.argmax())
    heads = model.get_output_embeddings().weight.shape[0]
    tables = min(heads, model.get_input_embeddings().weight.shape[0])
    suspects = [longest]
    if largest >= tables:
        suspects += [n for n in range(len(tokens)) if largest in tokens.row(n)[0]][:1]
    for number in suspects:
        ids = tokens.row(number)[0].tolist()
        check_readable(model, tokenizer, [(f"row {number + 1}", ids)])
    if largest >= heads:
        raise InputError(
            f"row {suspects[-1] + 1}: the token {tokenizer.convert_ids_to_tokens(largest)!r} has "
            f"the id {largest}, but the model's head has {heads} rows",
            hint="resize the head with the embedding",
        )
