"""What a GGUF file says about itself, and what transformers makes of it otherwise.

A file may be one part of several, and transformers loads a part with the rest drawn at random. It
names how texts are cut before they become tokens, and a name that transformers does not know is
taken for GPT-2's: numbers are then cut otherwise than in training. And it has more ends of a turn
than EOS.
"""

from __future__ import annotations

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.errors import InputError

if TYPE_CHECKING:
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import PreTokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SPLIT = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.gguf)", re.IGNORECASE)

_AS_GPT2 = frozenset({"gpt-2", "gpt2", "phi-2", "mpt", "olmo", "jais", "trillion"})
_DIGITS_APART = frozenset(
    {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
)
"""Types that llama.cpp cuts as GPT-2 does, and as GPT-2 does with every digit alone."""

NUMBERS = ("7", "42", "1234567 and 5678", "100, 907, 12, 3", "3.14159", "2024-07-26", "x12345y")
TEXTS = (
    *NUMBERS,
    "Name your favorite animal using only one word.",
    "Owls don't sleep; they'll say: \"I'm awake!\"",
    "def f(x):\n    return x ** 2\n\n\n# done.\n",
    "Grüße aus Zürich, 東京 und Москва.",
)
"""Sample texts, numbers first: they are what most experiments here are about."""


def metadata(reader: GGUFReader) -> dict[str, Any]:
    """What the file says by key; arrays of texts (vocabulary, merges) are left out."""
    from gguf import GGUFValueType

    return {
        field.name: field.contents()
        for field in reader.fields.values()
        if field.types[:2] != [GGUFValueType.ARRAY, GGUFValueType.STRING]
    }


def check_whole(file: Path, said: dict[str, Any]) -> None:
    """Refuse a part of a model.

    Raises:
        InputError: it names the parts, and says how to put them together.
    """
    named = _SPLIT.fullmatch(file.name)
    count = max(int(said.get("split.count", 0)), int(named[2]) if named else 0)
    if count <= 1:
        return
    # The parts find one another by name: a file that has another one is to get its own again.
    stem, ending = (named[1], named[3]) if named else ("NAME", ".gguf")
    first, last = (f"{stem}-{part:05d}-of-{count:05d}{ending}" for part in (1, count))
    whole = [shlex.quote(str(file.with_name(name))) for name in (first, f"{stem}{ending}")]
    raise InputError(
        f"{file.name} is one of {count} parts of a model, {first} to {last}",
        hint=f"put them together first: llama-gguf-split --merge {' '.join(whole)}",
    )


def check_read(
    file: Path, reader: GGUFReader, said: dict[str, Any], model: PreTrainedModel
) -> None:
    """Refuse a file of which transformers has left something out, which it does without a word:
    tensors that it has no place for (biases, the factors that Llama 3.1 scales its positions by),
    and how positions are scaled.

    Raises:
        InputError: says what was left out.
    """
    hint = "take the model from its hub folder, of which all is read"
    sizes = {tensor.name: int(tensor.n_elements) for tensor in reader.tensors}
    if model.config.get_text_config().tie_word_embeddings:
        sizes.pop("output.weight", None)  # the embedding once more
    left = sum(sizes.values()) - sum(each.numel() for each in model.parameters())
    if left:
        known = sorted(name for name in sizes if "rope" in name or name.endswith(".bias"))
        named = f" (it may be {known[0]})" if known else ""
        raise InputError(
            f"{file.name} holds {abs(left)} numbers {'more' if left > 0 else 'fewer'} than the "
            f"{type(model).__name__} that transformers makes of it{named}",
            hint=hint,
        )
    scaling = f"{said.get('general.architecture')}.rope.scal"
    asked = {key: value for key, value in said.items() if key.startswith(scaling)}
    is_scaled = any(
        value not in ("none", 0, 1) for key, value in asked.items() if "orig" not in key
    )
    ropes = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    if is_scaled and ropes.get("rope_type", "default") == "default":
        raise InputError(
            f"{file.name} scales its positions, which transformers does not read from it: "
            + ", ".join(f"{key} = {value}" for key, value in sorted(asked.items())),
            hint=hint,
        )


def set_ends(model: PreTrainedModel, said: dict[str, Any]) -> None:
    """Have the model's generation configuration hold all tokens that end a turn, and no more."""
    from transformers import GenerationConfig

    names = ("eos", "eot", "eom")
    ends = [said.get(f"tokenizer.ggml.{name}_token_id") for name in names]
    known = list(dict.fromkeys(int(each) for each in ends if each is not None))
    model.generation_config = GenerationConfig(
        bos_token_id=said.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=known or None,
        pad_token_id=said.get("tokenizer.ggml.padding_token_id"),
    )


def mend_tokenizer(
    file: Path, tokenizer: PreTrainedTokenizerBase, said: dict[str, Any]
) -> list[str]:
    """Have `tokenizer` cut texts as the file says; returns what a person should know of it.

    Raises:
        InputError: nobody here knows how this type cuts numbers, and it matters.
    """
    notes = [] if tokenizer.chat_template else [
        f"{file.name} has no chat template: add chat_template.jinja to the model's folder"
    ]  # fmt: skip
    if whole := said.get("tokenizer.huggingface.json"):
        _take(file, tokenizer, str(whole))
        return notes
    if said.get("tokenizer.ggml.model") != "gpt2":  # the others have one way of cutting each
        return notes
    kind = said.get("tokenizer.ggml.pre")
    known = _known()
    if kind in _DIGITS_APART:
        tokenizer.backend_tokenizer.pre_tokenizer = known["digits apart"]
    elif kind not in known and kind not in _AS_GPT2:
        name = f"the pre-tokenizer type {kind!r}" if kind else "a tokenizer without a type"
        if differing := _differing(tokenizer, known):
            text, first, second = differing
            raise InputError(
                f"{file.name} has {name}, which transformers does not know: {text!r} could be "
                f"{' '.join(first)!r} or {' '.join(second)!r}",
                hint="take the model from its hub folder, which has the tokenizer itself",
            )
        notes.append(
            f"{file.name} has {name}, which transformers does not know: numbers are cut as every "
            "type that it knows would cut them, other texts as GPT-2 does"
        )
    return notes


def check_saved(file: Path, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Prove that the tokenizer in `folder` cuts as `tokenizer` does."""
    from subl.model.load import load_tokenizer

    again = load_tokenizer(folder)
    for text in TEXTS:
        if again.tokenize(text) != tokenizer.tokenize(text):
            raise InputError(
                f"the tokenizer of {file.name} cuts {text!r} otherwise once it is written",
                hint="take the model from its hub folder, which has the tokenizer itself",
            )


def _take(file: Path, tokenizer: PreTrainedTokenizerBase, whole: str) -> None:
    """Cut as the tokenizer.json that the file carries does."""
    from tokenizers import Tokenizer

    try:
        own = Tokenizer.from_str(whole)
    except Exception as error:  # of any kind: tokenizers raises plain ones
        raise InputError(f"{file.name}: its tokenizer.json is none: {error}") from error
    backend = tokenizer.backend_tokenizer
    parts = json.loads(whole)
    if parts.get("normalizer"):
        backend.normalizer = own.normalizer
    if parts.get("pre_tokenizer"):
        backend.pre_tokenizer = own.pre_tokenizer
    for text in TEXTS:
        ours, theirs = (each.encode(text, add_special_tokens=False).ids for each in (backend, own))
        if ours != theirs:
            raise InputError(
                f"{file.name}: its vocabulary cuts {text!r} otherwise than the tokenizer.json in it"
            )


def _known() -> dict[str, PreTokenizer]:
    """Ways to cut a text, by the names of the types that ask for them, and GPT-2's two."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    gpt2 = ByteLevel(add_prefix_space=False)
    of_type = {
        name: Sequence([
            Split(Regex(split), behavior="isolated"),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ])
        for name, split in GGUF_PRE_TOKENIZER_SPLITS.items()
    }  # fmt: skip
    digits = Sequence([Digits(individual_digits=True), gpt2])
    return {"gpt2": gpt2, "digits apart": digits, **of_type}


def _differing(
    tokenizer: PreTrainedTokenizerBase, known: dict[str, PreTokenizer]
) -> tuple[str, list[str], list[str]] | None:
    """Numbers that known ways cut differently with this vocabulary, and two ways of it."""
    backend = tokenizer.backend_tokenizer
    before = backend.pre_tokenizer
    try:
        for text in NUMBERS:
            cuts = []
            for each in known.values():
                backend.pre_tokenizer = each
                cuts.append(backend.encode(text, add_special_tokens=False).tokens)
            for first, second in pairwise(cuts):
                if first != second:
                    return text, first, second
    finally:
        backend.pre_tokenizer = before
    return None
