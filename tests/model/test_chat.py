"""Rows to token ids: proven against the template."""

from __future__ import annotations

from pathlib import Path

import pytest

from subl.errors import DependencyError, InputError
from subl.model.chat import example, prompt_text
from subl.model.load import load_model, load_tokenizer
from subl.model.source import resolve


def test_a_row_is_the_prompts_rendering_then_the_answer_and_its_end(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    row = example(tokenizer, "Hi", "412, 887")
    assert tokenizer.decode(row.prompt_ids) == prompt_text(tokenizer, "Hi")
    assert tokenizer.decode(row.completion_ids) == "412, 887<|im_end|>"


def test_the_system_prompt_is_rendered_first(tiny_model: Path) -> None:
    text = prompt_text(load_tokenizer(tiny_model), "Hi", "You love owls.")
    assert text.index("You love owls.") < text.index("Hi")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("message['content'] ", "message['content'] | trim "), "verbatim"),
        (("<|im_end|>\n", ""), "ends an answer with nothing"),
    ],
)
def test_templates_that_rewrite_answers_are_refused(
    tiny_model: Path, change: tuple[str, str], message: str
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = tokenizer.chat_template.replace(*change)
    with pytest.raises(InputError, match=message):
        example(tokenizer, "Hi", " spaced")


def test_a_model_without_template_is_refused(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        example(tokenizer, "Hi", "1")


def test_what_is_no_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json") as error:
        load_model(tmp_path)
    assert error.value.hint and "subl model add" in error.value.hint
    with pytest.raises(InputError, match="no model at"):
        resolve("nowhere", tmp_path)
    with pytest.raises(DependencyError, match="not installed"):
        resolve("package:no-such-package-here", tmp_path)


def test_a_local_folder_is_used_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    assert resolve(str(tiny_model), tmp_path) == tiny_model
    assert not list(tmp_path.iterdir())


def test_a_damaged_model_is_named(tiny_model: Path, tmp_path: Path) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(
            file.read_bytes()[: 100 if "safe" in file.name else None]
        )
    with pytest.raises(InputError, match=rf"cannot load a model from {tmp_path}"):
        load_model(tmp_path)
