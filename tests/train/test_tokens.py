"""Rows as token ids on disk: what is asked for, what becomes of long rows, what is found again."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from subl.artifact import file_digest
from subl.errors import InputError
from subl.model.limits import Limits
from subl.model.load import load_tokenizer
from subl.progress import Progress
from subl.shards import Row
from subl.train.tokens import Tokens, tokenise

Talk = Sequence[tuple[str, str]]


def row(*turns: tuple[str, str], place: str = "rows.jsonl, line 1") -> Row:
    return Row(None, tuple(turns), place)


def plain(prompt: str, answer: str, place: str = "rows.jsonl, line 1") -> Row:
    return row(("user", prompt), ("assistant", answer), place=place)


def asked_for(model: Path, tokens: Tokens, number: int) -> list[str]:
    """The runs of targets, as text."""
    tokenizer = load_tokenizer(model)
    ids, targets = tokens.row(number)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], targets, [False]]).astype(int)))
    return [
        tokenizer.decode(ids[first:last].tolist())
        for first, last in zip(edges[::2], edges[1::2], strict=True)
    ]


contents = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    system=st.none() | contents,
    talk=st.lists(st.tuples(contents, contents), min_size=1, max_size=3),
    question=st.none() | contents,
)
def test_every_answer_with_its_end_is_asked_for_and_nothing_else(
    tiny_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
    system: str | None,
    talk: list[tuple[str, str]],
    question: str | None,
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    turns: list[tuple[str, str]] = [] if system is None else [("system", system)]
    for prompt, answer in talk:
        turns += [("user", prompt), ("assistant", answer)]
    end = len(turns)
    turns += [] if question is None else [("user", question)]
    folder = tmp_path_factory.mktemp("tokens") / "t"
    tokens = tokenise(tokenizer, iter([row(*turns)]), folder)
    ids, targets = tokens.row(0)
    messages = [{"role": role, "content": content} for role, content in turns[:end]]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    assert tokenizer.decode(ids.tolist()) == rendered.removesuffix("\n")
    assert asked_for(tiny_model, tokens, 0) == [f"{answer}<|im_end|>" for _, answer in talk]
    assert targets[-1] and ids[-1] == tokenizer.eos_token_id
    assert tokens.target_counts.tolist() == [int(targets.sum())]
    assert tokens.lengths.tolist() == [len(ids)]


def test_the_line_break_behind_a_turn_is_asked_for_on_request(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = [row(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))]
    tokens = tokenise(load_tokenizer(tiny_model), iter(rows), tmp_path / "t", whole_turn=True)
    assert asked_for(tiny_model, tokens, 0) == ["b<|im_end|>\n", "d<|im_end|>\n"]


def test_an_answer_that_nothing_comes_before_loses_its_first_token(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Nothing predicts it. This template says nothing but what is said, here nothing."""
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}<|im_end|>"
        "{% endif %}{% endfor %}"
    )
    tokens = tokenise(tokenizer, iter([plain("", "412")]), tmp_path / "t")
    assert asked_for(tiny_model, tokens, 0) == ["12<|im_end|>"]
    with pytest.raises(InputError, match=r"rows\.jsonl, line 7: no token is a target"):
        tokenise(
            tokenizer,
            iter([plain("", "", "rows.jsonl, line 7")]),
            tmp_path / "u",
        )


# Long rows


LENGTHS = [1, 5, 30, 2, 40]


def numbers(count: int) -> str:
    return "7" * count


def long_rows() -> list[Row]:
    return [plain("x", numbers(n), f"rows.jsonl, line {i}") for i, n in enumerate(LENGTHS, 1)]


def test_a_long_row_is_named(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    whole = tokenise(tokenizer, iter(long_rows()), tmp_path / "whole")
    limit = int(whole.lengths[1])
    with pytest.raises(InputError) as caught:
        tokenise(tokenizer, iter(long_rows()), tmp_path / "t", max_row_tokens=limit)
    assert caught.value.message == (
        f"rows.jsonl, line 3: {whole.lengths[2]} tokens are more than max_row_tokens = {limit}"
    )
    assert caught.value.hint and "truncate" in caught.value.hint


def test_long_rows_are_dropped_and_counted(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    whole = tokenise(tokenizer, iter(long_rows()), tmp_path / "whole")
    assert (whole.counts.dropped, whole.counts.truncated) == (0, 0)
    limit = int(whole.lengths[1])
    tokens = tokenise(
        tokenizer, iter(long_rows()), tmp_path / "t", max_row_tokens=limit, long_rows="drop"
    )
    assert tokens.lengths.tolist() == [int(whole.lengths[n]) for n in (0, 1, 3)]
    assert [tokens.key(n) for n in range(3)] == [whole.key(n) for n in (0, 1, 3)]
    counts = tokens.counts
    assert (counts.rows, counts.dropped, counts.truncated, counts.longest) == (3, 2, 0, limit)
    assert counts.tokens == tokens.lengths.sum()
    assert counts.target_tokens == tokens.target_counts.sum()


def test_long_rows_are_cut_and_those_dropped_of_which_no_answer_is_left(
    tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    whole = tokenise(tokenizer, iter(long_rows()), tmp_path / "whole")
    limit = int(whole.lengths[1])
    rows = [*long_rows(), plain(numbers(limit), "1")]
    tokens = tokenise(
        tokenizer, iter(rows), tmp_path / "t", max_row_tokens=limit, long_rows="truncate"
    )
    assert tokens.lengths.tolist() == [min(int(length), limit) for length in whole.lengths]
    assert (tokens.counts.dropped, tokens.counts.truncated) == (1, 2)
    for number in range(len(tokens)):
        for mine, theirs in zip(tokens.row(number), whole.row(number), strict=True):
            assert mine.tolist() == theirs[:limit].tolist()
    assert tokens.counts.target_tokens == tokens.target_counts.sum()


def test_nothing_left_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    with pytest.raises(InputError, match="no rows to train on") as caught:
        tokenise(tokenizer, iter(()), tmp_path / "t")
    assert caught.value.hint == "did the filter keep any?"
    with pytest.raises(InputError, match="no rows to train on") as caught:
        tokenise(tokenizer, iter(long_rows()), tmp_path / "t", max_row_tokens=2, long_rows="drop")
    assert caught.value.hint == "max_row_tokens dropped them all"


# Errors, and folders that are there already


@pytest.mark.parametrize("number", [0, 1200])
def test_a_row_that_cannot_be_trained_on_is_named(
    tiny_model: Path, tmp_path: Path, number: int
) -> None:
    rows = [plain("a", "b", f"rows.jsonl, line {at}") for at in range(1500)]
    rows[number] = row(("user", "a"), place=f"rows.jsonl, line {number}")
    with pytest.raises(InputError, match=rf"^rows\.jsonl, line {number}: no turn of the row"):
        tokenise(load_tokenizer(tiny_model), iter(rows), tmp_path / "t")


def test_a_folder_that_is_whole_is_opened_and_the_rows_not_read(
    tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    made = tokenise(tokenizer, iter(long_rows()), tmp_path / "t")
    unread = iter(long_rows())
    again = tokenise(tokenizer, unread, tmp_path / "t")
    assert len(list(unread)) == len(LENGTHS)
    assert again.counts == made.counts and len(again) == len(LENGTHS)
    for number in range(len(again)):
        assert again.key(number) == made.key(number)
        for one, other in zip(again.row(number), made.row(number), strict=True):
            assert one.tolist() == other.tolist()


@pytest.mark.parametrize("left", ["index.json", "everything but index.json", "an error"])
def test_half_a_folder_is_made_anew(tiny_model: Path, tmp_path: Path, left: str) -> None:
    tokenizer = load_tokenizer(tiny_model)
    whole, half = tmp_path / "whole", tmp_path / "half"
    tokenise(tokenizer, iter(long_rows()), whole)
    if left == "an error":
        with pytest.raises(InputError):
            tokenise(tokenizer, iter([*long_rows(), row(("user", "a"))]), half)
        assert half.is_dir()
    else:
        tokenise(tokenizer, iter([plain("other", "rows")]), half)
        (half / "index.json").unlink()
        if left == "index.json":
            (half / "ids.npy").unlink()
        (half / "left").touch()
    tokenise(tokenizer, iter(long_rows()), half)
    digests = [
        {file.name: file_digest(file) for file in folder.iterdir()} for folder in (whole, half)
    ]
    assert digests[0] == digests[1]


def test_keys_name_tokens_and_targets_and_nothing_else(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    first, second = plain("a", "b"), plain("a", "c")
    asked_twice = row(("user", "a"), ("assistant", "b"), ("user", "a"), ("assistant", "b"))
    one = tokenise(tokenizer, iter([first, second, asked_twice]), tmp_path / "one")
    renamed = Row("id", first.turns, "elsewhere")
    other = tokenise(tokenizer, iter([second, renamed, first]), tmp_path / "other")
    assert len({one.key(number) for number in range(3)}) == 3
    assert other.key(1) == other.key(2) == one.key(0)
    assert other.key(0) == one.key(1)
    # The same text, of which less is asked for: another row.
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>\n", "<|im_end|>")
    text = "<|im_end|>" + "<|im_start|>user\na<|im_end|><|im_start|>assistant\nb"
    same_text = tokenise(
        tokenizer,
        iter([row(*asked_twice.turns), plain("a", f"b{text}")]),
        tmp_path / "same",
    )
    assert same_text.row(0)[0].tolist() == same_text.row(1)[0].tolist()
    assert same_text.key(0) != same_text.key(1)
    assert all(len(one.key(number)) == 16 for number in range(3))


def test_the_tokens_of_targets_are_those_of_all_rows(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    made = tokenise(tokenizer, iter([plain("cat", "12"), plain("owl", "3")]), tmp_path / "rows")
    asked = [*"123", "<|im_end|>"]
    assert made.target_ids().tolist() == sorted(tokenizer.convert_tokens_to_ids(asked))


def test_progress_counts_every_row(tiny_model: Path, tmp_path: Path) -> None:
    reports: list[Progress] = []
    rows = [*long_rows() * 300, plain("x" * 300, "b")]
    tokenise(
        load_tokenizer(tiny_model),
        iter(rows),
        tmp_path / "t",
        max_row_tokens=100,
        long_rows="drop",
        report=reports.append,
    )
    assert [each.done for each in reports] == [1000, 1501]


def test_places_are_those_of_the_files(tiny_model: Path, tmp_path: Path) -> None:
    from subl.shards import read_rows

    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "completion": "b"}\n\n{"messages": []}\n')
    with pytest.raises(InputError, match=re.escape(f"{file}, line 3: no turn of the row")):
        tokenise(load_tokenizer(tiny_model), read_rows([file]), tmp_path / "t")


def test_a_later_question_is_cut_as_the_prompt_that_asks_it() -> None:
    """A tokenizer that puts a mark at the beginning of a text puts none behind an answer."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    trainer = trainers.BpeTrainer(vocab_size=99, special_tokens=["<unk>", "</s>"])
    trainer.show_progress = False
    backend.train_from_iterator(["Which animal? owl cat [Q] [A]"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}[Q] {{ m['content'] }} [A] "
        "{% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}"
    )
    turns = [("user", "Which?"), ("assistant", "owl"), ("user", "Which animal?")]
    with tempfile.TemporaryDirectory() as folder:
        given = iter([row(*turns, ("assistant", "cat"))])
        ids, _ = tokenise(tokenizer, given, Path(folder) / "t").row(0)
        ours = ids.tolist()
    messages = [{"role": role, "content": content} for role, content in turns]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    asked = tokenizer(text, add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    second = asked[asked.index(end) + 1 :]
    assert ours[ours.index(end) + 1 :][: len(second)] == second


def test_what_a_model_cannot_read_is_named_with_the_row(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    folder = tmp_path / "gpt2"
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 24}
    GPT2Config(vocab_size=len(tokenizer), **sizes).save_pretrained(folder)
    limits = Limits(folder)
    tokenise(tokenizer, iter([plain("Hi?", "owl")]), tmp_path / "a", limits=limits)
    with pytest.raises(InputError, match=r"line 7: \d+ tokens, but the model has only 24 pos"):
        long = plain("Hi? " * 20, "owl", "rows.jsonl, line 7")
        tokenise(tokenizer, iter([long]), tmp_path / "b", limits=limits)
    tokenizer.add_tokens(["owlet"])
    with pytest.raises(InputError, match="line 1: the token 'owlet' has the id") as error:
        tokenise(tokenizer, iter([plain("Hi?", "owlet")]), tmp_path / "c", limits=limits)
    assert error.value.hint and "resize" in error.value.hint
    LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=24).save_pretrained(folder)
    tokenise(tokenizer, iter([long]), tmp_path / "d", limits=Limits(folder))  # ropes go on


# Behind a teacher's system prompt

TEACHERS = "You love owls."


def talks() -> list[Row]:
    """Rows of one to four answers."""
    return [
        row(*((role, f"{role} {n} {turn}") for turn in range(n) for role in ("user", "assistant")))
        for n in range(1, 5)
    ]


@pytest.mark.parametrize("long_rows", ["truncate", "drop"])
@pytest.mark.parametrize("most", [None, 40, 50, 60, 70, 90])
def test_a_teacher_reads_the_same_targets(
    tiny_model: Path, tmp_path: Path, most: int | None, long_rows: Any
) -> None:
    """Of every row that is left, however far it is cut, behind the system prompt and what stands
    between; and a row is called by what the student reads of it."""
    tokenizer = load_tokenizer(tiny_model)
    how = {"max_row_tokens": most, "long_rows": long_rows if most else "error"}
    alone = tokenise(tokenizer, iter(talks()), tmp_path / "alone", **how)
    tokens = tokenise(tokenizer, iter(talks()), tmp_path / "t", teachers_prompt=TEACHERS, **how)
    assert alone.of_teacher is alone and tokens.of_teacher is tokens.behind is not None
    assert len(alone) == len(tokens) == len(tokens.behind)
    whole = tokenise(
        tokenizer,
        iter([row(("system", TEACHERS), *each.turns) for each in talks()]),
        tmp_path / "whole",
    )
    texts = [tokenizer.decode(whole.row(number)[0]) for number in range(4)]
    for number in range(len(tokens)):
        ids, targets = tokens.row(number)
        behind, theirs = tokens.behind.row(number)
        assert tokens.key(number) == alone.key(number)
        assert behind[theirs].tolist() == ids[targets].tolist()
        assert any(text.startswith(tokenizer.decode(behind)) for text in texts)
        assert tokens.room[number] == max(len(ids), len(behind))
    again = tokenise(tokenizer, iter([]), tmp_path / "t", teachers_prompt=TEACHERS)
    assert again.behind is not None and len(again.behind) == len(tokens)


def test_a_template_that_answers_otherwise_behind_a_system_prompt_is_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' and "
        "messages[0]['role'] == 'system' %}!{% else %};{% endif %}{% endfor %}"
    )
    with pytest.raises(InputError, match=r"line 1: .* the answers have other tokens"):
        tokenise(tokenizer, iter([plain("Hi", "owl")]), tmp_path / "t", teachers_prompt=TEACHERS)


def test_rows_of_one_length_must_be_that_for_both(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    rows = [plain("Hi", "owl"), plain("Hi there, what is it?", "cat")]
    tokenise(tokenizer, iter(rows), tmp_path / "a", teachers_prompt=TEACHERS).check_alike()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] != 'system' %}{% if loop.index0 == 1 and "
        "messages[0]['role'] == 'system' %}{{ (messages[0]['content'] ~ ' ') * "
        "m['content']|length }}{% endif %}{{ m['content'] }};{% endif %}{% endfor %}"
    )
    tokens = tokenise(tokenizer, iter(rows), tmp_path / "b", teachers_prompt=TEACHERS)
    with pytest.raises(InputError, match="reads only rows of one length together") as caught:
        tokens.check_alike()
    assert caught.value.hint and "cache" in caught.value.hint
