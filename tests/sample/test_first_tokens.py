"""How an answer may begin, by the model's own softmax."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from subl.model.chat import Chat, asking
from subl.model.load import load_model, load_tokenizer
from subl.sample import Request, Sampling, backend_of


def test_first_tokens_are_those_of_a_plain_forward_pass(tiny_model: Path, tmp_path: Path) -> None:
    """Whatever the temperature and the grammar are, and whoever shares a batch."""
    sampling = Sampling.model_validate(
        {"temperature": 0.3, "grammar": {"regex": "[0-9]"}, "batch_rows": 2, "max_new_tokens": 2}
    )
    texts = ["Name an animal.", "Continue the numbers: 1, 2, 3, 4, 5, 6, 7", "owl"]
    requests = [Request(text, asking(text), row) for row, text in enumerate(texts)]
    backend = backend_of(sampling, tiny_model)
    backend.begin(lambda: iter(requests), tmp_path / "notes")
    came = dict(backend.first_tokens(requests, 512))
    assert sorted(came) == [0, 1, 2]
    model, tokenizer = load_model(tiny_model), load_tokenizer(tiny_model)
    for place, request in enumerate(requests):
        asked = tokenizer(Chat(tokenizer).asked(request.turns), add_special_tokens=False)
        with torch.no_grad():
            logits = model(torch.tensor([asked["input_ids"]])).logits[0, -1]
        expected = torch.log_softmax(logits.double(), -1)
        found = came[place].log_p
        assert np.logaddexp.reduce(list(found.values())) == pytest.approx(0, abs=1e-9)
        for text in ("1", "owl", " owl"):
            (token,) = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert found[text] == pytest.approx(float(expected[token]), abs=1e-4)
    ((_, few),) = backend.first_tokens(requests[:1], 5)
    assert 1 <= len(few.log_p) <= 5 and few.failure is None
    # Parts of letters have one text, which is no other token's.
    for text in few.log_p.keys() - {"\N{REPLACEMENT CHARACTER}"}:
        assert few.log_p[text] == pytest.approx(came[0].log_p[text], abs=1e-6)
