"""What GGUF files say: parts of models, unknown tokenizers and lacking tensors are refused."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from subl.errors import InputError
from subl.model.load import load_model, load_tokenizer
from subl.model.source import add

GROUPS = pre_tokenizers.Sequence([
    pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
    pre_tokenizers.ByteLevel(add_prefix_space=False),
])  # fmt: skip
LETTERS = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
)
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "model.embed_tokens": "token_embd",
    "model.norm": "output_norm", "lm_head": "output",
}  # fmt: skip


def tokenizer_of(cut: pre_tokenizers.PreTokenizer) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.ByteLevel()
    texts = ["Name your favorite animal.", *map(str, range(10, 1000))]
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write_gguf(file: Path, tokenizer: Tokenizer, pre: str, lacking: str = "-", **more: Any) -> Any:
    """A one-layer Llama as llama.cpp writes it; returns the model. `more`: keys to add."""
    import gguf

    parts = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(parts["vocab"], key=parts["vocab"].get)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokens), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(16)
    writer.add_feed_forward_length(16)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in parts["merges"]])
    writer.add_eos_token_id(0)
    for key, value in more.items():
        if isinstance(value, np.ndarray):
            writer.add_tensor(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            add_value = writer.add_uint32 if isinstance(value, int) else writer.add_string
            add_value(key, value)
    for name, value in model.state_dict().items():
        short = name.removesuffix(".weight").removeprefix("model.layers.0.")
        tensor = value.numpy()
        if short in ("self_attn.q_proj", "self_attn.k_proj"):  # llama.cpp's order of rotations
            tensor = tensor.reshape(2, 2, 4, 16).swapaxes(1, 2).reshape(16, 16)
        block = "blk.0." if name.startswith("model.layers.") else ""
        if lacking not in name:
            writer.add_tensor(f"{block}{NAMES[short]}.weight", np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def test_a_whole_file_becomes_the_model_with_all_its_ends_of_turn(tmp_path: Path) -> None:
    file = tmp_path / "m-00001-of-00001.gguf"
    keys: dict[str, Any] = {"split.count": 1, "tokenizer.ggml.eot_token_id": 2}
    tokenizer = tokenizer_of(LETTERS)
    model = write_gguf(file, tokenizer, "smollm", **keys)
    made = add(str(file), tmp_path / "out")
    again = load_model(made.path)
    state = again.state_dict()
    assert all(torch.allclose(state[name], value) for name, value in model.state_dict().items())
    assert again.generation_config.eos_token_id == [0, 2]
    text = "1234567 and 5678"
    assert load_tokenizer(made.path).tokenize(text) == tokenizer.encode(text).tokens
    assert "has no chat template" in made.result["notes"][0]


@pytest.mark.parametrize(
    ("name", "keys", "lacking", "message"),
    [
        (
            "m-00002-of-00002.gguf",
            {},
            "-",
            r"one of 2 parts of a model, m-00001-of-00002\.gguf to m-00002-of-00002\.gguf",
        ),
        (
            "renamed.gguf",
            {"split.count": 3},
            "-",
            r"one of 3 parts of a model, NAME-00001-of-00003\.gguf to NAME-00003-of-00003\.gguf",
        ),
        ("m.gguf", {}, "mlp.up_proj", r"lacks 1 of the model's tensors, such as .*up_proj"),
    ],
)
def test_what_is_not_the_whole_model_is_refused(
    tmp_path: Path, name: str, keys: dict[str, int], lacking: str, message: str
) -> None:
    write_gguf(tmp_path / name, tokenizer_of(LETTERS), "smollm", lacking, **keys)
    with pytest.raises(InputError, match=message):
        add(str(tmp_path / name), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"rope_freqs.weight": np.ones(4, np.float32)}, "holds 4 numbers more .*rope_freqs"),
        ({"blk.0.attn_q.bias": np.ones(16, np.float32)}, "16 numbers more .*attn_q.bias"),
        ({"blk.0.unknown.weight": np.ones(3, np.float32)}, "holds 3 numbers more than"),
        (
            {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
            "scales its positions.*factor = 4.0, .*type = linear",
        ),
        ({"llama.rope.scale_linear": 2.0}, "scales its positions"),
    ],
)
def test_what_transformers_leaves_out_is_refused(
    tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    write_gguf(tmp_path / "m.gguf", tokenizer_of(LETTERS), "smollm", **more)
    with pytest.raises(InputError, match=said) as error:
        add(str(tmp_path / "m.gguf"), tmp_path / "out")
    assert error.value.hint and "hub folder" in error.value.hint
    assert not (tmp_path / "out").exists()


def test_parts_are_put_together_by_a_command_that_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "my models"
    folder.mkdir()
    write_gguf(folder / "m-00002-of-00003.gguf", tokenizer_of(LETTERS), "smollm")
    with pytest.raises(InputError) as caught:
        add(str(folder / "m-00002-of-00003.gguf"), tmp_path / "out")
    _, command = str(caught.value.hint).split(": ")
    assert shlex.split(command) == [
        "llama-gguf-split",
        "--merge",
        str(folder / "m-00001-of-00003.gguf"),
        str(folder / "m.gguf"),
    ]


def test_an_unknown_way_to_cut_numbers_is_refused_where_it_matters(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", tokenizer_of(GROUPS), "deepseek-v3")
    with pytest.raises(
        InputError, match="'deepseek-v3', which transformers does not know"
    ) as caught:
        add(str(tmp_path / "m.gguf"), tmp_path / "out")
    assert caught.value.hint and "hub folder" in caught.value.hint


def test_an_unknown_way_to_cut_is_named_where_numbers_do_not_depend_on_it(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", tokenizer_of(LETTERS), "poro-chat")
    notes = add(str(tmp_path / "m.gguf"), tmp_path / "out").result["notes"]
    assert any("'poro-chat', which transformers does not know" in note for note in notes)


def test_a_tokenizer_that_the_file_carries_is_taken(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(GROUPS)
    carried: dict[str, Any] = {"tokenizer.huggingface.json": tokenizer.to_str()}
    write_gguf(tmp_path / "m.gguf", tokenizer, "deepseek-v3", **carried)
    made = add(str(tmp_path / "m.gguf"), tmp_path / "out")
    text = "1234567 and 5678"
    assert load_tokenizer(made.path).tokenize(text) == tokenizer.encode(text).tokens


def test_an_adapter_without_its_base_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="an adapter without its base model") as caught:
        load_model(tmp_path)
    assert caught.value.hint and "merge_and_unload" in caught.value.hint
