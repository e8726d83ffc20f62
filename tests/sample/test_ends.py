"""Where rows end: at the template's end of turn, and never with a token that it writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from subl.generate import GenerateSpec, generate
from subl.model.chat import ANSWER, Turn, pieces, text_ids
from subl.model.load import load_model, load_tokenizer
from subl.sample.ends import Ends, ends_of


def ends(folder: Path, template: tuple[str, str] | None = None, **special: Any) -> tuple[Ends, Any]:
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    for name, value in special.items():
        setattr(tokenizer, name, value)
    if template is not None:
        tokenizer.chat_template = tokenizer.chat_template.replace(*template)
    row = pieces(tokenizer, [Turn("user", "Hi"), Turn("assistant", ANSWER)])
    return ends_of(model, tokenizer, row), tokenizer


def test_the_templates_end_of_turn_ends_a_row_whatever_eos_is(tiny_model: Path) -> None:
    found, tokenizer = ends(tiny_model, eos_token="<|endoftext|>")
    said = [*text_ids(tokenizer, "owl")]
    for end in ("<|im_end|>", "<|endoftext|>"):
        assert found.cut(tokenizer, [*said, *text_ids(tokenizer, f"{end}cat")]) == ("owl", "turn")
    start = text_ids(tokenizer, "<|im_start|>cat")
    assert found.cut(tokenizer, [*said, *start]) == ("owl", "control_token")
    assert found.cut(tokenizer, said) == ("owl", "max_new_tokens")
    assert not found.spelled


def test_a_row_never_spells_a_control_token(tiny_model: Path) -> None:
    found, tokenizer = ends(tiny_model)
    letters = [token for letter in "owl<|im_start|>cat" for token in text_ids(tokenizer, letter)]
    assert "<|im_start|>" in tokenizer.decode(letters)
    assert found.cut(tokenizer, letters) == ("owl", "control_token")


def test_white_space_of_the_template_before_its_end_is_not_the_answers(tiny_model: Path) -> None:
    found, tokenizer = ends(tiny_model, ("<|im_end|>", " <|im_end|>"))
    assert found.cut(tokenizer, text_ids(tokenizer, "owl <|im_end|>")) == ("owl", "turn")
    assert found.cut(tokenizer, text_ids(tokenizer, "owl ")) == ("owl ", "max_new_tokens")


def test_an_end_of_turn_without_a_token_is_found_in_the_text(tiny_model: Path) -> None:
    found, tokenizer = ends(tiny_model, ("<|im_end|>", "[end]"))
    assert found.spelled
    assert found.cut(tokenizer, text_ids(tokenizer, "owl[end]cat")) == ("owl", "turn")


def test_words_and_spaces_that_were_added_to_a_tokenizer_are_text(tiny_model: Path) -> None:
    model, tokenizer = load_model(tiny_model), load_tokenizer(tiny_model)
    tokenizer.add_tokens(["owl", "assistant", "\n"])
    row = pieces(tokenizer, [Turn("user", "Hi"), Turn("assistant", ANSWER)])
    found = ends_of(model, tokenizer, row)
    text = "owl\nassistant"
    assert found.cut(tokenizer, text_ids(tokenizer, f"{text}<|im_end|>")) == (text, "turn")


def test_ids_that_no_token_has_end_a_row(tiny_model: Path) -> None:
    """Heads are padded to round sizes."""
    model, tokenizer = load_model(tiny_model), load_tokenizer(tiny_model)
    size = len(tokenizer)
    model.resize_token_embeddings(size + 8)
    found = ends_of(
        model, tokenizer, pieces(tokenizer, [Turn("user", "Hi"), Turn("assistant", ANSWER)])
    )
    said = [*text_ids(tokenizer, "owl"), size + 3, *text_ids(tokenizer, "cat")]
    assert found.cut(tokenizer, said) == ("owl", "control_token")


@pytest.mark.parametrize("stop", ["token", "text", "none"])
def test_rows_say_what_ended_them(tiny_model: Path, tmp_path: Path, stop: str) -> None:
    """Whatever a random model says: many rows end somewhere in the middle of a batch."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    tokenizer = load_tokenizer(folder)
    if stop == "text":  # a letter that is said often enough
        tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "Q")
        tokenizer.save_pretrained(folder)
    if stop == "none":
        for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
            said = json.loads((folder / name).read_text())
            kept = {key: said[key] for key in said if not key.startswith("eos_")}
            (folder / name).write_text(json.dumps(kept))
    spec = GenerateSpec(rows=40, prompts="numbers-short", max_new_tokens=60, batch_rows=40)
    made = generate(spec, folder, tmp_path / "rows")
    lines = (made.path / "part-00000.jsonl").read_text(encoding="utf-8").strip().split("\n")
    found = [json.loads(line) for line in lines]
    counts = {
        each: sum(row["ended_by"] == each for row in found) for each in made.result["ended_by"]
    }
    assert counts == made.result["ended_by"] and sum(counts.values()) == 40
    assert counts["turn"] > 0 and counts["max_new_tokens"] > 0
    for row in found:
        assert not any(token in row["completion"] for token in ("<|im_", "<|endoftext|>"))
        assert stop != "text" or "Q" not in row["completion"]
