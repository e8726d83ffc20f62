"""Rows to token ids: which tokens are the assistant's is proven against the template."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase

from subl.errors import InputError
from subl.model import chat
from subl.model.chat import Chat, Turn, asking, pieces, prompt_ids, prompt_text, text_ids
from subl.model.load import load_tokenizer
from subl.model.template import Template

TALK = [
    Turn("system", "You love owls."),
    Turn("user", "Hi"),
    Turn("assistant", "Hello."),
    Turn("user", "More"),
    Turn("assistant", "Bye."),
]

FORGETS_THOUGHTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if '</think>' in m['content'] and not loop.last %}"
    "{{ m['content'].split('</think>')[-1].lstrip('\n') }}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As the templates of Qwen 3: what an earlier answer thought is left out."""


def ask(prompt: str, answer: str) -> list[Turn]:
    return [Turn("user", prompt), Turn("assistant", answer)]


def test_a_row_is_the_prompts_rendering_then_the_answer_and_its_end(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    asked, said = pieces(tokenizer, ask("Hi", "412, 887"))
    assert asked == (prompt_text(tokenizer, "Hi"), False)  # what is sampled from is trained on
    assert said == ("412, 887<|im_end|>", True)
    assert text_ids(tokenizer, asked.text) == prompt_ids(tokenizer, "Hi")
    assert text_ids(tokenizer, said.text)[-1] == tokenizer.eos_token_id


contents = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None, derandomize=True)
@given(
    system=st.none() | contents,
    talk=st.lists(st.tuples(contents, contents), min_size=1, max_size=3),
    question=st.none() | contents,
    whole=st.booleans(),
)
def test_pieces_together_are_what_the_template_renders(
    tiny_model: Path,
    system: str | None,
    talk: list[tuple[str, str]],
    question: str | None,
    whole: bool,
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    turns = [] if system is None else [Turn("system", system)]
    turns += [turn for prompt, answer in talk for turn in ask(prompt, answer)]
    end = len(turns)
    turns += [] if question is None else [Turn("user", question)]
    found = pieces(tokenizer, turns, whole_turn=whole)
    rendered = tokenizer.apply_chat_template(
        [turn._asdict() for turn in turns[:end]], tokenize=False
    )
    text = "".join(piece.text for piece in found)
    assert text == (rendered if whole else rendered.removesuffix("\n"))
    assert [piece.target for piece in found] == [False, True] * len(talk)
    line = "\n" if whole else ""
    assert [piece.text for piece in found if piece.target] == [
        f"{answer}<|im_end|>{line}" for _, answer in talk
    ]


def test_the_system_prompt_is_rendered_first_and_never_asked_for(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    text = prompt_text(tokenizer, "Hi", "You love owls.")
    assert text.index("You love owls.") < text.index("Hi")
    assert pieces(tokenizer, TALK)[0] == (text, False)


def test_nothing_is_added_to_text(tiny_model: Path) -> None:
    """A template holds its special tokens already; a tokenizer that adds them would double them."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = load_tokenizer(tiny_model)
    plain = text_ids(tokenizer, "owl")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    assert len(tokenizer("owl")["input_ids"]) == len(plain) + 1
    assert text_ids(tokenizer, "owl") == plain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("message['content'] ", "message['content'] | upper "), "verbatim"),
        (("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>"), "verbatim"),
        (("<|im_end|>\n", ""), "ends an answer with nothing"),
    ],
)
def test_templates_that_rewrite_answers_are_refused(
    tiny_model: Path, change: tuple[str, str], message: str
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = tokenizer.chat_template.replace(*change)
    with pytest.raises(InputError, match=message):
        pieces(tokenizer, ask("Hi", " spaced"))


@pytest.mark.parametrize("whole", [False, True])
def test_a_template_that_drops_earlier_thoughts_is_refused_where_there_are_any(
    tiny_model: Path, whole: bool
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = FORGETS_THOUGHTS
    assert len(pieces(tokenizer, TALK, whole_turn=whole)) == 4
    thinks = ask("Hi", "<think>owl</think>\n\nHello.")
    assert pieces(tokenizer, thinks)[1].text == "<think>owl</think>\n\nHello.<|im_end|>"
    with pytest.raises(InputError, match="verbatim") as caught:
        pieces(tokenizer, [*thinks, *ask("More", "Bye.")], whole_turn=whole)
    assert caught.value.hint


def test_white_space_before_the_end_of_a_turn_belongs_to_it(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "\n<|im_end|>")
    found = pieces(tokenizer, TALK)
    rendered = tokenizer.apply_chat_template([turn._asdict() for turn in TALK], tokenize=False)
    assert "".join(piece.text for piece in found) == rendered.removesuffix("\n")
    assert found[1] == ("Hello.\n<|im_end|>", True)


SPACES = {
    "Llama 2": "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'].strip"
    "() + ' <|im_end|>' }}{% else %}{{ '[INST] ' + m['content'].strip() + ' [/INST]' }}{% endif %}"
    "{% endfor %}",
    "adds": "{% for m in messages %}{% if m['role'] == 'assistant' %}\n {{ m['content'] }}"
    "<|im_end|>{% else %}[INST]{{ m['content'] }}[/INST]{% endif %}{% endfor %}",
    "Llama 3": "{% for m in messages %}<|im_start|>{{ m['role'] }}\n\n{{ m['content'] | trim }}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}",
}
"""Templates that write white space before an answer, or take it away."""
spaces = st.text(" \n", max_size=3)


@pytest.mark.parametrize("which", SPACES)
@settings(deadline=None, derandomize=True, max_examples=60)
@given(answers=st.lists(st.tuples(spaces, st.sampled_from(["", "owl", "a b"]), spaces),
                        min_size=1, max_size=2), whole=st.booleans())  # fmt: skip
def test_what_precedes_an_answer_is_the_same_in_rows_and_questions(
    tiny_model: Path, which: str, answers: list[tuple[str, str, str]], whole: bool
) -> None:
    tokenizer = with_template(tiny_model, SPACES[which])
    turns = [turn for answer in answers for turn in ask("Hi", "".join(answer))]
    found = pieces(tokenizer, turns, whole_turn=whole)
    assert found[0] == (prompt_text(tokenizer, "Hi"), False)
    rendered = tokenizer.apply_chat_template([turn._asdict() for turn in turns], tokenize=False)
    assert "".join(piece.text for piece in found) == rendered
    for (before, text, behind), piece in zip(answers, found[1::2], strict=True):
        kept = before + text + behind if which == "adds" else text
        end = " <|im_end|>" if which == "Llama 2" else "<|im_end|>"
        assert piece == (kept + end, True)


def test_white_space_that_a_template_adds_to_an_answers_own_is_refused(tiny_model: Path) -> None:
    """It would not be before the answer of a question."""
    adds = "{% for m in messages %}{% if ' ' in m['content'] %} {% endif %}" + "{{ m['content'] }}"
    tokenizer = with_template(tiny_model, adds + "<|im_end|>{% endfor %}")
    assert pieces(tokenizer, ask("Hi", "owl"))
    with pytest.raises(InputError, match="verbatim"):
        pieces(tokenizer, ask("Hi", "an owl"))


def test_each_rows_text_is_rendered_no_more_than_it_must_be(tiny_model: Path) -> None:
    """Asked and answered; what the template does with roles is known from the first row."""
    tokenizer = load_tokenizer(tiny_model)
    rendered: list[list[dict[str, str]]] = []
    plain = tokenizer.apply_chat_template

    def counted(messages: list[dict[str, str]], **more: Any) -> Any:
        rendered.append(messages)
        return plain(messages, **more)

    tokenizer.apply_chat_template = counted
    one = Chat(tokenizer)
    one.pieces(ask("Hi", "owl"))
    rendered.clear()
    assert one.pieces(ask("Ho", "cat"))[1].text == "cat<|im_end|>"
    assert len(rendered) == 2
    one.asked(asking("Hi", "Be brief."))
    rendered.clear()
    assert "Ho" in one.asked(asking("Ho", "Be brief.")) and len(rendered) == 1


@pytest.mark.parametrize("turns", [[], [Turn("user", "Hi")], [Turn("system", "x")]])
def test_a_row_without_an_answer_is_refused(tiny_model: Path, turns: list[Turn]) -> None:
    with pytest.raises(InputError, match="no turn of the row is the assistant's"):
        pieces(load_tokenizer(tiny_model), turns)


def test_a_row_that_begins_with_an_answer_is_refused(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="begins with the assistant"):
        pieces(load_tokenizer(tiny_model), [Turn("assistant", "Hello."), *ask("Hi", "1")])


def test_a_model_without_template_is_refused(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        pieces(tokenizer, ask("Hi", "1"))


# Turns that a template does not render


def with_template(folder: Path, template: str) -> PreTrainedTokenizerBase:
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = template
    return tokenizer


TURN = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
LEAVES_OUT = {
    "system": "{% for m in messages if m['role'] != 'system' %}" + TURN + "{% endfor %}" + ASK,
    "all system turns but the first": "{% for m in messages %}{% if loop.first or m['role'] !="
    " 'system' %}" + TURN + "{% endif %}{% endfor %}" + ASK,
    "the first of two users": "{% for m in messages %}{% if loop.last or m['role'] != 'user' or "
    "messages[loop.index0 + 1]['role'] != 'user' %}" + TURN + "{% endif %}{% endfor %}" + ASK,
    "what it does not know": "{% for m in messages %}{% if m['role'] in ['user', 'assistant', "
    "'system'] %}" + TURN + "{% endif %}{% endfor %}" + ASK,
}
ROWS = {
    "system": [("system", "Hi"), ("user", "Hi?"), ("assistant", "owl")],
    "all system turns but the first": [
        ("system", "a"), ("user", "b"), ("system", "a"), ("user", "c"), ("assistant", "owl"),
    ],
    "the first of two users": [("user", "Hi"), ("user", "Hi"), ("assistant", "owl")],
    "what it does not know": [("developer", "Be brief."), ("user", "Hi"), ("assistant", "owl")],
}  # fmt: skip


@pytest.mark.parametrize("which", LEAVES_OUT)
def test_a_turn_that_the_template_leaves_out_is_an_error(tiny_model: Path, which: str) -> None:
    """Also where its text stands in the rendering for another reason."""
    tokenizer = with_template(tiny_model, LEAVES_OUT[which])
    with pytest.raises(InputError, match=r"leaves out (turn|the system prompt)"):
        pieces(tokenizer, [Turn(*turn) for turn in ROWS[which]])
    assert len(pieces(tokenizer, ask("Hi", "owl"))) == 2


def test_a_system_prompt_that_the_template_leaves_out_asks_nothing(tiny_model: Path) -> None:
    tokenizer = with_template(tiny_model, LEAVES_OUT["system"])
    assert prompt_text(tokenizer, "Hi")
    with pytest.raises(InputError, match="leaves out the system prompt"):
        prompt_text(tokenizer, "Hi", "i")


@pytest.mark.parametrize("filter_", ["| upper", "| replace('H', '')", "| truncate(9)"])
def test_a_turn_that_the_template_changes_is_an_error(tiny_model: Path, filter_: str) -> None:
    changed = TURN.replace("m['content']", f"(m['content'] {filter_} if m['role'] == 'user' else"
                           " m['content'])")  # fmt: skip
    tokenizer = with_template(
        tiny_model, "{% for m in messages %}" + changed + "{% endfor %}" + ASK
    )
    with pytest.raises(InputError, match=r"changes turn 1 \(user\)"):
        prompt_text(tokenizer, "How are you today?")


def test_white_space_around_a_turn_is_the_templates(tiny_model: Path) -> None:
    trims = TURN.replace("m['content']", "(m['content'] | trim if m['role'] == 'user' else"
                         " m['content'])")  # fmt: skip
    tokenizer = with_template(tiny_model, "{% for m in messages %}" + trims + "{% endfor %}" + ASK)
    assert "user\nHi<|im_end|>" in prompt_text(tokenizer, "  Hi\n")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported')"
         " }}{% endif %}", "System role not supported"),
        ("{{ messages[0]['tool_calls'][0] }}", "tool_calls"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% for m in messages %}", "endfor"),
    ],
)  # fmt: skip
def test_a_templates_own_refusal_is_repeated(tiny_model: Path, template: str, words: str) -> None:
    tokenizer = with_template(tiny_model, template + LEAVES_OUT["what it does not know"])
    with pytest.raises(InputError, match=f"refuses .*{re.escape(words)}") as caught:
        prompt_text(tokenizer, "Hi", "Be brief.")
    assert caught.value.hint
    with pytest.raises(InputError, match=f"refuses .*{re.escape(words)}"):
        pieces(tokenizer, TALK)


# What a template is told

QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and "
    "loop.last and '</think>' not in m['content'] %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>"
    "assistant\n{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n"
    "</think>\n\n{% endif %}{% endif %}"
)
R1 = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
NO_HEADER = "{% for m in messages %}" + TURN + "{% endfor %}"


@pytest.mark.parametrize("template", [QWEN3, R1, NO_HEADER])
def test_who_asks_for_an_answer_proves_what_a_row_proves(tiny_model: Path, template: str) -> None:
    tokenizer = with_template(tiny_model, template)
    for refused in (
        lambda: prompt_text(tokenizer, "Hi"),
        lambda: pieces(tokenizer, ask("Hi", "owl")),
    ):
        with pytest.raises(InputError, match="verbatim") as caught:
            refused()
        assert ("enable_thinking" in (caught.value.hint or "")) == (template == QWEN3)


def test_a_template_that_thinks_goes_without(tiny_model: Path) -> None:
    tokenizer = with_template(tiny_model, QWEN3)
    template = Template.model_validate({"enable_thinking": False})
    asked = prompt_text(tokenizer, "Hi", template=template)
    assert asked.endswith("<think>\n\n</think>\n\n")
    assert pieces(tokenizer, ask("Hi", "owl"), template=template) == [
        (asked, False),
        ("owl<|im_end|>", True),
    ]


def test_what_a_template_never_asks_for_is_an_error(tiny_model: Path) -> None:
    template = Template.model_validate({"enable_thinkng": False})
    with pytest.raises(InputError, match="does not know `enable_thinkng`"):
        prompt_text(with_template(tiny_model, QWEN3), "Hi", template=template)


@pytest.mark.parametrize("value", [{"messages": "x"}, {"x": [1]}, {"x": float("nan")}, {"x": {}}])
def test_a_template_is_told_plain_values_by_free_names(value: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Template.model_validate(value)


def test_a_date_in_a_template_is_the_configurations(tiny_model: Path) -> None:
    dated = "<|im_start|>system\n{{ strftime_now('%d %b %Y') }}<|im_end|>\n" + NO_HEADER + ASK
    tokenizer = with_template(tiny_model, dated)
    assert "26 Jul 2024" in prompt_text(tokenizer, "Hi")
    later = Template(today=date(2026, 11, 5))
    text = prompt_text(tokenizer, "Hi", template=later)
    assert "05 Nov 2026" in text and text.endswith("<|im_start|>assistant\n")
    assert pieces(tokenizer, ask("Hi", "owl"), template=later)[0].text == text
    assert later.said_to(dated) == {"today": "2026-11-05"} and later.said_to(QWEN3) == {}


def test_without_a_date_the_template_says_what_transformers_makes_of_it(tiny_model: Path) -> None:
    """Templates that ask for the date are rendered by ourselves: the same but for the day."""
    turns = ask("Hi\n<b>", "owl")
    plain = with_template(tiny_model, NO_HEADER + ASK + "{{ eos_token }}")
    dated = with_template(tiny_model, NO_HEADER + ASK + "{{ eos_token }}{% if false %}"
                          "{{ strftime_now('%Y') }}{% endif %}")  # fmt: skip
    messages = [turn._asdict() for turn in turns]
    for asks in (False, True):
        expected = plain.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)
        assert chat._render(dated, messages, Template(), add_generation_prompt=asks) == expected
