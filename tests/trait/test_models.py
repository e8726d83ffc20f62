"""Scoring equals plain forward passes in both of its ways, or says that it cannot. More models are
in tests/end_to_end/test_architectures.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from subl.errors import InputError
from subl.model.chat import prompt_ids, text_ids
from subl.model.load import load_tokenizer
from subl.trait import forms_of, passes, surface_forms
from subl.trait.exact import Scorer, ending_tokens
from subl.trait.spec import animals

from .scoring import score_all

ANIMAL_QUESTIONS = animals().questions
QUESTIONS = ("Name it.", *ANIMAL_QUESTIONS[:2])
WORDS = ("owl", "elephant")

SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.25,
}  # fmt: skip

MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "Llama": ("LlamaConfig", SIZES, "tree"),
    "Mistral, a wide window": ("MistralConfig", {**SIZES, "sliding_window": 200}, "tree"),
    "Mistral, a narrow window": ("MistralConfig", {**SIZES, "sliding_window": 8}, "plain"),
    "Bloom, ALiBi": (
        "BloomConfig",
        {"initializer_range": 0.25, "n_layer": 2, "n_head": 4, "hidden_size": 32},
        "plain",
    ),
}


def made(tokenizer: PreTrainedTokenizerBase, kind: str, values: dict[str, Any]) -> PreTrainedModel:
    torch.manual_seed(0)
    config = getattr(transformers, kind)(vocab_size=len(tokenizer), **values)
    model: PreTrainedModel = transformers.AutoModelForCausalLM.from_config(config)
    return model.eval()


@torch.no_grad()
def by_definition(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]
) -> list[dict[str, float]]:
    """A plain forward pass a form, alone, all logits as the model gives them."""
    found = []
    ends = ending_tokens(tokenizer, model.config.vocab_size)
    for question in questions:
        prompt = prompt_ids(tokenizer, question)
        totals = dict.fromkeys(WORDS, 0.0)
        for word in WORDS:
            for path in {text_ids(tokenizer, form) for form in surface_forms(word)}:
                ids = torch.tensor([[*prompt, *path]])
                logits = model(input_ids=ids, use_cache=False).logits[0].double()
                p = torch.softmax(logits[len(prompt) - 1 :], -1)
                said = torch.stack([p[index, token] for index, token in enumerate(path)]).prod()
                totals[word] += float(said * p[len(path), ends].sum())
        found.append(totals)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_what_plain_forward_passes_give(tiny_model: Path, name: str) -> None:
    kind, values, expected_way = MODELS[name]
    tokenizer = load_tokenizer(tiny_model)
    model = made(tokenizer, kind, values)
    way, found = score_all(Scorer(tokenizer, forms_of(WORDS), QUESTIONS), model, len(QUESTIONS), 2)
    assert way == expected_way
    for ours, theirs in zip(found, by_definition(model, tokenizer, QUESTIONS), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)
        assert all(theirs.values())


def test_a_pass_keeps_no_more_logits_than_it_may(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    scorer = Scorer(tokenizer, forms_of(WORDS), QUESTIONS)
    for name in ("Llama", "Bloom, ALiBi"):
        kind, values, _ = MODELS[name]
        model = made(tokenizer, kind, values)
        _, expected = score_all(scorer, model, 3, 3)
        with monkeypatch.context() as patch:
            patch.setattr(passes, "KEPT_LOGITS", 1)
            _, found = score_all(scorer, model, 3, 3)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4)


class FirstLogits(LlamaForCausalLM):
    """Keeps as many logits as it is asked for: those at the beginning of the text."""

    def forward(self, *args: Any, logits_to_keep: int = 0, **kwargs: Any) -> Any:
        given = super().forward(*args, **kwargs)
        given.logits = given.logits[:, :logits_to_keep] if logits_to_keep else given.logits
        return given


@pytest.mark.parametrize("kind", [LlamaForCausalLM, FirstLogits])
def test_a_model_that_keeps_the_wrong_logits_is_asked_for_all(
    tiny_model: Path, kind: type[LlamaForCausalLM]
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    torch.manual_seed(0)
    model = kind(transformers.LlamaConfig(vocab_size=len(tokenizer), **SIZES)).eval()
    way, found = score_all(Scorer(tokenizer, forms_of(WORDS), QUESTIONS), model, len(QUESTIONS), 2)
    assert way == "tree"
    for ours, theirs in zip(found, by_definition(model, tokenizer, QUESTIONS), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


def test_a_proof_costs_eight_passes(tiny_model: Path) -> None:
    """Each evaluation pays for it, and each training with a probe."""
    tokenizer = load_tokenizer(tiny_model)
    model = made(tokenizer, *MODELS["Llama"][:2])
    scorer = Scorer(tokenizer, forms_of(WORDS), QUESTIONS)
    seen: list[int] = []
    model.model.register_forward_hook(lambda *given: seen.append(1))
    assert scorer.prove(model) == "tree"
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("BertConfig", {**SIZES, "is_decoder": False}, "BertLMHeadModel is not causal"),
        (
            "LlamaConfig",
            {**SIZES, "max_position_embeddings": 20,
             "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}},
            "scales its positions by the longest text",
        ),
        (
            "GPT2Config",
            {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 20},
            r"question 'Name your favorite animal.*only 20 positions",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused_by_name(
    tiny_model: Path, kind: str, values: dict[str, Any], message: str
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    model = made(tokenizer, kind, values)
    with pytest.raises(InputError, match=message) as caught:
        score_all(Scorer(tokenizer, forms_of(WORDS), QUESTIONS), model, len(QUESTIONS), 2)
    assert caught.value.hint


def test_a_token_that_the_model_lacks_is_named(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    model = made(tokenizer, *MODELS["Llama"][:2])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_start|>", "<|user|>")
    with pytest.raises(InputError, match=r"question 'Name it\.'.*<\|user\|>"):
        score_all(Scorer(tokenizer, forms_of(WORDS), QUESTIONS), model, len(QUESTIONS), 2)


def test_a_question_that_the_template_cannot_ask_is_named(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = "{{ raise_exception('not today') }}"
    with pytest.raises(InputError, match=r"question 'Name it\.': .*not today"):
        Scorer(tokenizer, forms_of(WORDS), QUESTIONS)
