"""What a model cannot read: tokens beyond its embedding, rows beyond its positions.

Torch reads beyond a table with an IndexError, and on a GPU with an assertion that ends the process;
here the row and the token are named, before anything is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.errors import InputError
from subl.model.load import base_folder, unreadable_models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from subl.train.tokens import Tokens


def text_config(folder: Path) -> Any:
    """The configuration of a model's language part, whose attributes have transformers' names
    whatever the file calls them (GPT-2's `n_layer` is `num_hidden_layers`)."""
    from transformers import AutoConfig

    folder = base_folder(folder)
    with unreadable_models(folder):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return config.get_text_config()


@dataclass(frozen=True)
class Limits:
    """Of the model in `folder`, as its configuration says; weights are not needed."""

    folder: Path

    @cached_property
    def _config(self) -> Any:
        return text_config(self.folder)

    @cached_property
    def vocabulary(self) -> int | None:
        """How many tokens the embedding has."""
        size = getattr(self._config, "vocab_size", None)
        return size if isinstance(size, int) else None

    @cached_property
    def positions(self) -> int | None:
        """How long a row may be where positions are learned, one vector each; else None."""
        longest = getattr(self._config, "max_position_embeddings", None)
        if not isinstance(longest, int):
            return None
        import torch
        from transformers import AutoModelForCausalLM

        with unreadable_models(self.folder), torch.device("meta"):
            model = AutoModelForCausalLM.from_config(self._config, trust_remote_code=False)
        words = model.get_input_embeddings()
        tables = [
            each.num_embeddings
            for each in model.modules()
            if isinstance(each, torch.nn.Embedding) and each is not words
        ]
        # OPT's table, for one, has two more rows than there are positions.
        return longest if any(longest <= rows <= longest + 8 for rows in tables) else None

    def check(self, place: str, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse a row that the model cannot read.

        Raises:
            InputError: names it.
        """
        if self.vocabulary is not None and max(ids) >= self.vocabulary:
            raise unknown_token(place, max(ids), self.vocabulary, tokenizer)
        longest = getattr(self._config, "max_position_embeddings", None)
        if isinstance(longest, int) and len(ids) > longest and self.positions is not None:
            raise InputError(
                f"{place}: {len(ids)} tokens are more than the {longest} positions that the model "
                "has learned",
                hint='set max_row_tokens, and long_rows = "truncate" or "drop"',
            )


def check_tokens(
    tokens: Tokens, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse tokens that `model` has no row for, in its embedding or in its head.

    Raises:
        InputError: names the token and the first row that has it.
    """
    tables = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    size = min(table.shape[0] for table in tables)
    if (largest := tokens.largest_id()) >= size:
        for number in range(len(tokens)):
            if largest in tokens.row(number)[0]:
                raise unknown_token(f"row {number + 1}", largest, size, tokenizer)


def unknown_token(
    place: str, token: int, size: int, tokenizer: PreTrainedTokenizerBase
) -> InputError:
    """What is said of a token that is in the tokenizer and not in the model."""
    text = tokenizer.convert_ids_to_tokens(token)
    return InputError(
        f"{place}: the token {text!r} has the number {token}, and the model's embedding has "
        f"{size} rows",
        hint="the tokenizer was extended and the model was not: resize its embeddings, or use the "
        "tokenizer that it came with",
    )
