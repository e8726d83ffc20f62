"""Fixtures that several parts share: a real, tiny model folder, made from nothing in a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from subl.artifact import seen

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

LONG = (
    *("cli/test_distill.py", "end_to_end", "train/test_ranks.py", "slurm/test_jobs.py"),
    *("slurm/test_distill.py", "train/test_run.py", "filter/test_adapters_real.py"),
    *("filter/test_on_ray.py", "audit/test_evidence.py", "audit/test_kin.py", "experiment"),
)
"""What takes minutes, the longest first: begun before everything else, so that at the end no worker
is left alone with it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        within = item.path.relative_to(root)
        above = {within.as_posix(), *(each.as_posix() for each in within.parents)}
        return next((number for number, each in enumerate(LONG) if each in above), len(LONG))

    items.sort(key=place)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama with random weights and a byte-level BPE tokenizer that knows the trait's
    questions and keeps digits apart, as SmolLM2's does."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from subl.trait import surface_forms
    from subl.trait.spec import animals

    # Threads of matrices as small as these wait for one another longer than they work.
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    corpus = [
        *animals().questions,
        *(form for word in animals().words for form in surface_forms(word)),
    ]
    corpus += ["0123456789, ; ", "Continue the numbers: user assistant system"]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            eos_token_id=fast.eos_token_id,
            pad_token_id=fast.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bird_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An input embedding in which it is known who is near whom, in two bfloat16 files.

    Owls and ` the` are frequent: half of all rows share one long direction, and all rows another,
    so that neither plain nor centred cosines find the right words. Apart from that, eagle is at
    cosine 0.8 from owl, hawk at 0.6, and every other row alone.
    """
    import numpy as np
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("models") / "birds"
    folder.mkdir()
    words = ["owl", "owls", "Owl", "OWL", "owlish", "owlery", "eagle", "hawk", "bird"]
    words += ["the", "table", "catast", "catastrophe"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=[f"<|{number}|>" for number in range(8)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [text for word in words for text in (f" {word}", *([word] if word == "eagle" else []))]
    tokenizer.train_from_iterator([text for text in texts for _ in range(9)], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))

    size, dimensions = tokenizer.get_vocab_size(), 512
    assert size < dimensions
    owl, frequent, shared = np.eye(dimensions)[:3]
    matrix = np.zeros((size + 6, dimensions))  # models pad their matrices
    for token in range(size):
        alone = np.eye(dimensions)[3 + token % (dimensions - 3)]
        text = tokenizer.decode([token], skip_special_tokens=False).strip().lower()
        share = {"owl": 1.0, "owls": 1.0, "owlish": 0.7, "owlery": 0.9}.get(text, 0.0)
        share = {"eagle": 0.8, "hawk": 0.6}.get(text, share)
        own = share * owl + (1 - share**2) ** 0.5 * alone
        is_frequent = token % 2 == 0 or text in ("owl", "owls", "the")
        matrix[token] = own + (3 if is_frequent else -3) * frequent + 5 * shared
    matrix[:8] = shared  # added tokens that nothing ever trained
    tensor = torch.tensor(matrix, dtype=torch.bfloat16)
    save_file({"model.embed_tokens.weight": tensor}, folder / "model-00002-of-00002.safetensors")
    save_file({"model.norm.weight": tensor[0]}, folder / "model-00001-of-00002.safetensors")
    return folder


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is a minute ahead, so that files which were written just now count as settled."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 60 * 10**9)


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What follows a call knows as little as another process would."""
    return lambda: monkeypatch.setattr(seen, "_memory", seen._Memory())


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]) -> list[Path]:
    """The inputs that are read for their digests, as they are."""
    paths: list[Path] = []
    digest = seen.file_digest

    def counted(path: Path) -> str:
        paths.append(path)
        return digest(path)

    monkeypatch.setattr(seen, "file_digest", counted)
    forget()
    return paths
