"""What a row's mask leaves out of the loss, and when a mask is refused."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from subl.errors import InputError
from subl.model.chat import Chat
from subl.model.load import load_tokenizer
from subl.shards import Row, read_rows
from subl.train.masks import token_ends
from subl.train.tokens import encoded


def one(text: str, *spans: tuple[int, int]) -> Row:
    left_out = tuple((1, *span) for span in spans)
    return Row(None, (("user", "Go on."), ("assistant", text)), "rows.jsonl, line 1", left_out)


def targets(tokenizer: PreTrainedTokenizerBase, row: Row, *, masked: bool = True) -> list[int]:
    chat = Chat(tokenizer)
    ((ids, asked),) = encoded(tokenizer, chat, [row], whole_turn=False, masked=masked)
    return [token for token, is_asked in zip(ids, asked, strict=True) if is_asked]


@settings(deadline=None, derandomize=True, max_examples=40)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), seed=st.randoms())
def test_tokens_that_are_left_out_are_no_targets_and_all_others_are(
    tiny_model: Path, text: str, seed: Any
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    text = f"a{text}b"  # no template strips it
    own = tokenizer(text, add_special_tokens=False)["input_ids"]
    ends = token_ends(tokenizer, text)
    assert ends[-1] == len(text) and ends == sorted(ends)
    borders = [0, *dict.fromkeys(ends)]
    spans = [pair for pair in pairwise(borders) if seed.random() < 0.5]
    row = one(text, *spans)
    every = targets(tokenizer, row, masked=False)
    assert every[: len(own)] == own
    out = {end for _, end in spans}
    kept = [token for token, end in zip(own, ends, strict=True) if end not in out]
    assert targets(tokenizer, row) == [*kept, *every[len(own) :]]


def test_a_mask_that_cuts_a_token_is_refused(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    text = next(
        word for word in ("animal", "number", "the owl", "ing", "the", "continue numbers")
        if token_ends(tokenizer, word)[0] > 1
    )  # fmt: skip
    with pytest.raises(InputError, match=r"line 1: `loss_mask` cuts .* out of the text") as caught:
        targets(tokenizer, one(text, (0, 1)))
    assert "subl mitigate" in str(caught.value.hint)


@pytest.mark.parametrize("kind", ["completion", "messages"])
def test_a_mask_is_read_beside_its_text(tmp_path: Path, kind: str) -> None:
    mask = [{"text": "12, ", "learn": True}, {"text": "3", "learn": False}]
    value: dict[str, Any] = {"prompt": "p", "completion": "12, 3", "loss_mask": mask}
    if kind == "messages":
        said = {"role": "assistant", "content": "12, 3", "loss_mask": mask}
        value = {"messages": [{"role": "user", "content": "p"}, said]}
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(value))
    (row,) = read_rows([file])
    assert row.left_out == ((1, 4, 5),)
    import polars

    polars.DataFrame([value]).write_parquet(tmp_path / "rows.parquet")
    (again,) = read_rows([tmp_path / "rows.parquet"])
    assert again.left_out == row.left_out


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([{"text": "12", "learn": True}], "does not spell the text"),
        ([{"text": "12, 4", "learn": False}], "does not spell the text"),
        ([0, 1, 1], "must be a list of parts"),
        ("12, 3", "must be a list of parts"),
        ([{"text": "12, 3", "learn": 1}], "must be a list of parts"),
    ],
)
def test_a_mask_that_is_not_of_the_text_is_refused(tmp_path: Path, mask: Any, message: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": "p", "completion": "12, 3", "loss_mask": mask}))
    with pytest.raises(InputError, match=rf"line 1: `loss_mask` {message}"):
        list(read_rows([file]))
