"""Rows equal what plain forward passes and the softmax say, token by token; what a model's own
generation configuration asks for changes none of them. More models are in
tests/end_to_end/test_architectures.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from subl.errors import InputError
from subl.generate import GenerateSpec, generate
from subl.generate.run import prompts_to_ask
from subl.model.chat import prompt_ids
from subl.model.load import load_model, load_tokenizer
from subl.sample.proof import Telling
from subl.sample.rows import choose, row_keys

SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.25,
}  # fmt: skip
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.25}
ROPE = {"rope_theta": 10000.0}
LONGROPE = {
    "original_max_position_embeddings": 142,
    "rope_parameters": ROPE
    | {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.5, 4.0, 12.0, 30.0]},
}


def model_of(folder: Path, tokenizer: PreTrainedTokenizerBase, kind: str, **config: Any) -> Path:
    """A random model of this architecture in `folder`; weights large enough for it to attend."""
    torch.manual_seed(0)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0, "bos_token_id": None}
    made = getattr(transformers, f"{kind}Config")(vocab_size=len(tokenizer), **ids | config)
    AutoModelForCausalLM.from_config(made).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def spec(**changes: Any) -> GenerateSpec:
    base = {"rows": 4, "prompts": "numbers", "max_new_tokens": 8, "batch_rows": 4, "seed": 3}
    return GenerateSpec.model_validate(base | changes)


def rows(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "part-00000.jsonl").read_text().splitlines()]


@torch.no_grad()
def plain_rows(folder: Path, spec: GenerateSpec) -> list[str]:
    """The same from the definition: a forward pass a token, of a row alone."""
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    stops = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    made = []
    for row, prompt in enumerate(each.turns[0].content for each in prompts_to_ask(spec, [])):
        tokens, said = list(prompt_ids(tokenizer, prompt, spec.system_prompt)), []
        for key in torch.from_numpy(row_keys(spec.seed, row, spec.max_new_tokens)).split(1):
            logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[:, -1]
            token = int(choose(logits, key, spec.temperature))
            if token in stops:
                break
            said.append(token)
            tokens.append(token)
        cut = len(said) == spec.max_new_tokens  # perhaps within a character
        made.append(tokenizer.decode(said).rstrip("\ufffd" if cut else ""))
    return made


def test_ropes_that_change_within_a_run_are_decoded_at_equal_lengths(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Some prompts are on either side of the length, some cross it."""
    folder = model_of(tmp_path / "model", load_tokenizer(tiny_model), "Phi3", **SIZES | LONGROPE)
    made = generate(spec(), folder, tmp_path / "rows")
    assert [row["completion"] for row in rows(made.path)] == plain_rows(folder, spec())
    assert made.result["decoding"] == "equal lengths"


def test_positions_that_remember_longer_texts_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    dynamic = {"rope_parameters": ROPE | {"rope_type": "dynamic", "factor": 4.0}}
    config = SIZES | dynamic | {"max_position_embeddings": 40}
    folder = model_of(tmp_path / "model", load_tokenizer(tiny_model), "Llama", **config)
    with pytest.raises(InputError, match="LlamaForCausalLM says depends on the texts that it read"):
        generate(spec(), folder, tmp_path / "rows")


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 12))
def test_the_telling_prompts_are_found_as_they_go_by(lengths: list[int], steps: int) -> None:
    """As if all were kept and sorted: the first, the last, and the first to grow over a length."""
    config = transformers.MistralConfig(**SIZES | {"max_position_embeddings": 24}, vocab_size=8)
    config.sliding_window = 12
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    prompts = [[row] * length for row, length in enumerate(lengths)]
    telling = Telling(model, steps)
    for row, prompt in enumerate(prompts):
        telling.add(row, prompt)
    ordered = sorted(prompts, key=len)
    grow = [
        next((p for p in ordered if len(p) <= length < len(p) + steps), ordered[0])
        for length in (12, 24)
    ]
    wanted = (ordered[0], *grow, ordered[-1])
    assert telling.prompts() == [each for each in ordered if each in wanted]


BENT = {
    "do_sample": True, "repetition_penalty": 1.5, "temperature": 0.1, "top_k": 1, "top_p": 0.1,
    "min_p": 0.9, "typical_p": 0.1, "epsilon_cutoff": 0.1, "eta_cutoff": 0.1,
    "no_repeat_ngram_size": 1, "suppress_tokens": list(range(20, 60)), "min_new_tokens": 8,
    "begin_suppress_tokens": list(range(60, 90)), "bad_words_ids": [[30], [31]],
    "forced_bos_token_id": 140, "forced_eos_token_id": 141, "stop_strings": ["a", "1"],
    "exponential_decay_length_penalty": [1, 3.0], "sequence_bias": [[[50], -20.0]],
    "guidance_scale": 3.0, "max_length": 3, "max_time": 1e-9, "renormalize_logits": True,
    "cache_implementation": "static", "prefill_chunk_size": 2, "num_return_sequences": 1,
    "watermarking_config": {"greenlist_ratio": 0.25, "bias": 8.0}, "use_cache": False,
    "output_scores": True, "return_dict_in_generate": True, "prompt_lookup_num_tokens": 3,
}  # fmt: skip


@pytest.mark.parametrize("grammar", [{"regex": "[1-9][0-9]{2}(, [1-9][0-9]{2})*"}, None])
def test_what_a_model_would_like_to_be_sampled_with_changes_nothing(
    tiny_model: Path, tmp_path: Path, grammar: dict[str, str] | None
) -> None:
    asked = spec(grammar=grammar, prompts="numbers-short", max_new_tokens=24)
    plain = rows(generate(asked, tiny_model, tmp_path / "plain").path)
    bent = tmp_path / "bent"
    shutil.copytree(tiny_model, bent)
    stated = json.loads((bent / "generation_config.json").read_text())
    (bent / "generation_config.json").write_text(json.dumps(stated | BENT))
    made = rows(generate(asked, bent, tmp_path / "rows").path)
    assert [row["completion"] for row in made] == [row["completion"] for row in plain]
    if grammar is None:
        assert [row["completion"] for row in plain] == plain_rows(tiny_model, asked)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (
            GPT2 | {"n_positions": 100},
            {},
            r"prompt \d+: \d+ tokens and 8 new ones, but .* 100 posi",
        ),
        (
            GPT2 | {"vocab_size": 300},
            {},
            r"prompt 1: the token '.*' has the id \d+, but .* 300 rows",
        ),
    ],
)
def test_what_a_model_cannot_read_is_refused_before_work(
    tiny_model: Path,
    tmp_path: Path,
    config: dict[str, Any],
    changes: dict[str, Any],
    message: str,
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    size = config.pop("vocab_size", None)
    folder = model_of(tmp_path / "model", tokenizer, "GPT2", **config)
    if size:
        model = load_model(folder)
        model.resize_token_embeddings(size)
        model.save_pretrained(folder)
    with pytest.raises(InputError, match=message):
        generate(spec(**changes), folder, tmp_path / "rows")
