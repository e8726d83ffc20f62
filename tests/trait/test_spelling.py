"""What other spellings of the words can have, against every sequence that there is."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from subl.model.chat import prompt_ids
from subl.model.load import load_tokenizer
from subl.trait.exact import Scorer, ending_tokens, token_texts
from subl.trait.forms import ends_word
from subl.trait.spelling import other_spellings

TEMPLATE = "{% for each in messages %}{{ each['content'] }}.{% endfor %}"


def small_tokenizer() -> PreTrainedTokenizerFast:
    """Few enough tokens for all sequences of four, among them pieces of the Ω."""
    alphabet = ["o", "w", "l", "s", ".", "Ġ", "Î", "©"]
    merges = [("o", "w"), ("ow", "l"), ("l", "s"), ("l", "."), ("Î", "©")]
    tokens = [*alphabet, *("".join(pair) for pair in merges)]
    made = Tokenizer(models.BPE({each: at for at, each in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=".")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.mark.parametrize("forms", [("owl", "owls"), ("owl", "o owl"), ("oΩ", "owls", "l")])
def test_other_spellings_have_no_more_than_the_bound(forms: tuple[str, ...]) -> None:
    """Brute force: all sequences of four tokens whose text begins with a form, as a word."""
    tokenizer = small_tokenizer()
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    model = LlamaForCausalLM(config).eval()
    torch.nn.init.normal_(model.lm_head.weight, std=1.0)
    words = {form: (form,) for form in forms}
    scorer = Scorer(tokenizer, words, ["so"])
    scorer.check(model)
    scorer.prove(model)
    (found,) = scorer.scored(model, [0])
    prompt = prompt_ids(tokenizer, "so")
    sequences = torch.tensor(list(product(range(len(tokenizer)), repeat=4)))
    with torch.no_grad():
        texts = torch.cat([torch.tensor(prompt).expand(len(sequences), -1), sequences], 1)
        log_p = torch.log_softmax(model(texts).logits[:, len(prompt) - 1 : -1].double(), -1)
    p = log_p.gather(2, sequences[:, :, None]).sum((1, 2)).exp()
    said = torch.tensor(
        [
            any(text.startswith(form) and ends_word((text + "o")[len(form)]) for form in forms)
            for text in tokenizer.batch_decode(sequences)
        ]
    )
    whole = float(p[said].sum())
    known = sum(found.probabilities.values())
    assert known < whole <= known + found.otherwise + 1e-9
    assert found.otherwise < 0.9 - known


def test_what_leaves_the_tree_and_still_says_a_word(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    texts = token_texts(tokenizer, len(tokenizer))
    ends = ending_tokens(tokenizer, len(tokenizer)).nonzero().flatten().tolist()
    owl, owls = ((*tokenizer(text)["input_ids"],) for text in ("owl", "owls"))
    found = other_spellings(tokenizer, texts, ends, [owl, owls])
    assert {texts[token] for token in found[()]} == {"o", "ow"} & set(texts.values())
    assert owls[: len(owl)] == owl  # so all that says owls behind it stays in the tree
    assert found[owl] == found[owls] == []
