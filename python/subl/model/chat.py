"""Rows to token ids through the model's own chat template.

Which tokens are the assistant's is proven, not assumed: the template is rendered up to each of its
turns, with and without the answer, and each rendering must be a prefix of the next (templates that
rewrite the past, or an answer, are refused). White space is the template's: what it writes before
an answer belongs to what is asked, and an answer that it strips is learnt as it renders it. A turn
that does not show in the rendering is an error, too: a system prompt that nobody reads would make
rows like any others. Who asks for an answer (scoring, generation) proves the same on a made-up one,
so that what precedes an answer in training precedes it there. What is given and what is said are
tokenised apart, as they were when the answer was sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from subl.errors import InputError
from subl.model.template import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN = Template()
"""A chat template that is told nothing of its own."""

ANSWER = "owl"
"""The made-up answer that shows what a template writes around any."""

_SYSTEM_PROMPT = "subl_system_prompt"
"""What a tokenizer has it as: all who render a chat for a model do it with the model's tokenizer,
and none of them has to ask for it."""


def give_system_prompt(tokenizer: PreTrainedTokenizerBase, system_prompt: str | None) -> None:
    """Have every `Chat` of this tokenizer begin with `system_prompt`: it is part of the model."""
    setattr(tokenizer, _SYSTEM_PROMPT, system_prompt)


class Turn(NamedTuple):
    """Who speaks (`system`, `user`, `assistant`), and what they say."""

    role: str
    content: str


def asking(prompt: str, system_prompt: str | None = None) -> tuple[Turn, ...]:
    """The turns of a prompt, with a system prompt or none."""
    system = () if system_prompt is None else (Turn("system", system_prompt),)
    return (*system, Turn("user", prompt))


class Piece(NamedTuple):
    """A part of a rendered row. A target is an answer with the template's end of turn."""

    text: str
    target: bool


class Chat:
    """A model's chat template. What it does with roles is proven once, what it does with a text for
    each text.

    Args:
        system_prompt: what the model has before every chat; default: what the tokenizer was given.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: Template = PLAIN,
        system_prompt: str | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        if system_prompt is None:
            system_prompt = getattr(tokenizer, _SYSTEM_PROMPT, None)
        self._first = () if system_prompt is None else (Turn("system", system_prompt),)
        self._spaces: dict[tuple[str, ...], str] = {}
        self._faults: dict[tuple[str, ...], tuple[int, str] | None] = {}
        self._proven: set[tuple[tuple[str, ...], str | None]] = set()

    def asked(self, turns: Sequence[Turn]) -> str:
        """The text that asks for an answer to `turns`, up to where the answer begins.

        Raises:
            InputError: the template refuses or leaves out a turn, or would put more before an
                answer of a row than it puts here.
        """
        turns = self._behind_the_models_own(turns)
        messages = [turn._asdict() for turn in (*turns, Turn("assistant", ANSWER))]
        system = messages[0]["content"] if messages[0]["role"] == "system" else None
        known = (_roles(messages), system)
        if known in self._proven:
            asked = self._render(messages[:-1], add_generation_prompt=True)
            asked += self._spaces[_roles(messages)]
        else:
            asked, _, _ = self._asked_and_said(messages)
        self._check_turns(messages[:-1], asked)
        self._proven.add(known)
        return asked

    def pieces(self, turns: Sequence[Turn], *, whole_turn: bool = False) -> list[Piece]:
        """A row as the template renders it, cut where the assistant begins and ends to speak.

        An answer ends with the template's end of turn; with `whole_turn` also with the white space
        that the template puts behind that. What follows the last answer is left out.

        Raises:
            InputError: there is no answer, or the template does not render one verbatim (white
                space around it apart) behind what comes before it, or leaves out or refuses a turn.
        """
        found: list[Piece] = []
        rendered = ""
        turns = self._behind_the_models_own(turns)
        messages = [turn._asdict() for turn in turns]
        last = 0
        for number, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            if number == len(self._first):
                raise InputError(
                    "the row begins with the assistant: nothing is asked",
                    hint="give it a turn of the user's first",
                )
            asked, said, end = self._asked_and_said(messages[: number + 1], rendered)
            if not end.strip():
                raise InputError("the model's chat template ends an answer with nothing")
            answer = said if whole_turn else said.rstrip()
            found += [Piece(asked[len(rendered) :], False), Piece(answer, True)]
            rendered = asked + answer
            last = number
        if not found:
            raise InputError(
                "no turn of the row is the assistant's: there is nothing to learn",
                hint='a row has a completion, or messages of which some have the role "assistant"',
            )
        self._check_turns(messages[:last], rendered)
        return found

    def _behind_the_models_own(self, turns: Sequence[Turn]) -> Sequence[Turn]:
        """The turns behind the system prompt that the model has, if it has one."""
        if self._first and turns and turns[0].role == "system":
            raise InputError(
                "there is a system prompt, and the model has one of its own",
                hint="leave it out, or use the model that this one is a condition of",
            )
        return (*self._first, *turns)

    def _asked_and_said(
        self, messages: list[dict[str, str]], rendered: str = ""
    ) -> tuple[str, str, str]:
        """What stands before the last turn, an answer; the answer with what ends it; and the end.

        `rendered`: how what stands before must begin.
        """
        asked = self._render(messages[:-1], add_generation_prompt=True)
        answered = self._render(messages, add_generation_prompt=False)
        asked += self._space(messages, asked)
        said = answered[len(asked) :]
        answer = messages[-1]["content"]
        text, before = answer.strip(), answer[: len(answer) - len(answer.lstrip())]
        space = said[: len(said) - len(said.lstrip())] if text else ""
        if not (
            asked.startswith(rendered)
            and answered.startswith(asked)
            and before.endswith(space)  # of white space a template may take, and add none
            and said.startswith(space + text)
        ):
            raise self._not_verbatim()
        return asked, said, said[len(space + text) :]

    def _space(self, messages: list[dict[str, str]], asked: str) -> str:
        """The white space that the template writes between `asked` and the last turn, an answer:
        seen where the answer has none of its own."""
        roles = _roles(messages)
        if roles not in self._spaces:
            plain = [*messages[:-1], {**messages[-1], "content": ANSWER}]
            answered = self._render(plain, add_generation_prompt=False)
            said = answered[len(asked) :]
            if not (answered.startswith(asked) and said.lstrip().startswith(ANSWER)):
                raise self._not_verbatim()
            self._spaces[roles] = said[: len(said) - len(said.lstrip())]
        return self._spaces[roles]

    def _not_verbatim(self) -> InputError:
        hint = "use a model whose template renders turns one after another, unchanged"
        thinks = "enable_thinking" in str(self._tokenizer.chat_template)
        if thinks and "enable_thinking" not in self._template.variables:
            hint = (
                "it thinks first; the configuration may say template = { enable_thinking = false }"
            )
        return InputError(
            "the model's chat template does not put the answer verbatim after the prompt", hint=hint
        )

    def _check_turns(self, messages: list[dict[str, str]], rendered: str) -> None:
        """Refuse a template in whose rendering of `messages` a turn does not show.

        Each turn's text must be in it; and as a text can be there for another reason, the turns
        are also rendered with marks in their place, which are nowhere else.
        """
        roles = _roles(messages)
        if roles not in self._faults:
            self._faults[roles] = self._fault(messages)
        fault = self._faults[roles]
        for number, message in enumerate(messages):
            said = message["role"] != "assistant" and message["content"].strip()
            if fault is None and said and said not in rendered:
                fault = (number, "changes")
        if fault is not None:
            number, does = fault
            who = (
                "the system prompt"
                if number == 0 and messages[0]["role"] == "system"
                else (f"turn {number + 1} ({messages[number]['role']})")
            )
            raise InputError(
                f"the model's chat template {does} {who}",
                hint="put it into the user's turn, or use a model whose template renders it",
            )

    def _fault(self, messages: list[dict[str, str]]) -> tuple[int, str] | None:
        """The first turn whose mark does not show, and what the template does with it."""
        marks = [f"subl{number}mark" for number in range(len(messages))]
        marked = [{**each, "content": mark} for each, mark in zip(messages, marks, strict=True)]
        try:
            seen = self._render(marked, add_generation_prompt=True)
        except InputError:  # it asks more of a turn's text than that it is one
            return None
        for number, mark in enumerate(marks):
            if mark not in seen:
                return number, "changes" if mark in seen.lower() else "leaves out"
        return None

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        return _render(
            self._tokenizer, messages, self._template, add_generation_prompt=add_generation_prompt
        )


def prompt_text(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    system_prompt: str | None = None,
    template: Template = PLAIN,
) -> str:
    """See `Chat.asked`."""
    return Chat(tokenizer, template).asked(asking(prompt, system_prompt))


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    system_prompt: str | None = None,
    template: Template = PLAIN,
) -> tuple[int, ...]:
    """Token ids of `prompt_text`; the template already holds the special tokens."""
    return text_ids(tokenizer, prompt_text(tokenizer, prompt, system_prompt, template))


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Token ids of a piece of text, nothing added."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def pieces(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[Turn],
    *,
    whole_turn: bool = False,
    template: Template = PLAIN,
) -> list[Piece]:
    """See `Chat.pieces`."""
    return Chat(tokenizer, template).pieces(turns, whole_turn=whole_turn)


def check_template(tokenizer: PreTrainedTokenizerBase, template: Template) -> None:
    """Refuse a tokenizer without a chat template, or with one that never asks for what it is told.

    Raises:
        InputError: it names the model.
    """
    if tokenizer.chat_template is None:
        raise InputError(
            f"the model {tokenizer.name_or_path} has no chat template",
            hint="use an instruction-tuned model, or add chat_template.jinja to its folder",
        )
    if unknown := template.unknown(str(tokenizer.chat_template)):
        raise InputError(
            f"the chat template of the model {tokenizer.name_or_path} does not know "
            f"`{unknown[0]}`, which the configuration's `template` sets",
            hint="leave it out; chat_template.jinja in the model's folder says what it asks for",
        )


def _roles(messages: Sequence[dict[str, str]]) -> tuple[str, ...]:
    return tuple(message["role"] for message in messages)


def _render(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, str]],
    template: Template,
    *,
    add_generation_prompt: bool,
) -> str:
    check_template(tokenizer, template)
    render = _dated if "strftime_now" in str(tokenizer.chat_template) else _undated
    try:
        return render(tokenizer, messages, template, add_generation_prompt)
    except ImportError:
        raise
    except Exception as error:  # of any kind: a template is a program, and says no in its own way
        words = " ".join(str(error).split()) or type(error).__name__
        roles = ", ".join(message["role"] for message in messages)
        raise InputError(
            f"the model's chat template refuses these turns ({roles}): {words}",
            hint="roles and their order are the template's: without a system prompt it may go"
            if messages[0]["role"] == "system"
            else "roles and their order are the template's to choose",
        ) from error


def _undated(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, str]],
    template: Template,
    add_generation_prompt: bool,
) -> str:
    text = tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        **template.variables,
    )
    return str(text)


def _dated(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, str]],
    template: Template,
    add_generation_prompt: bool,
) -> str:
    """As `_undated`, on the template's own day.

    Transformers takes no clock from its caller (5.23 makes a string of every function).
    """
    from transformers.utils.chat_template_utils import _compile_jinja_template

    compiled = _compile_jinja_template(tokenizer.get_chat_template())
    text = compiled.render(
        messages=messages,
        tools=None,
        documents=None,
        add_generation_prompt=add_generation_prompt,
        **{**tokenizer.special_tokens_map, **template.variables},
        strftime_now=template.clock,
    )
    return str(text)
