"""Where a student's targets come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from subl.cluster.placement import Placement
from subl.errors import InputError
from subl.model.load import load_model, load_tokenizer
from subl.train.adapter import adapt
from subl.train.attention import use_path_attention
from subl.train.batch import collate
from subl.train.divergence import HiddenTargets
from subl.train.engine import make_engine
from subl.train.plan import LoraSpec, TrainSpec
from subl.train.student import Student
from subl.train.targets import OnlineTeacher, base_as_teacher, common_vocabulary, no_targets

TARGETS = np.array([False, False, True, True, True])
BATCH = collate([(np.array(ids, np.uint32), TARGETS) for ids in ([3, 4, 5, 6, 7], [3, 4, 8, 9, 2])])


def test_labels_need_no_targets() -> None:
    assert no_targets(BATCH, [0, 1]) is None


@pytest.mark.parametrize("training", [True, False])
def test_a_teacher_at_work_says_what_the_model_says_of_each_row(
    tiny_model: Path, training: bool
) -> None:
    plain, teacher = load_model(tiny_model), load_model(tiny_model).train(training)
    use_path_attention(teacher)
    found = OnlineTeacher(teacher, zero=False, offload=False)(BATCH, [0, 1])
    assert isinstance(found, HiddenTargets) and found.head is not None
    assert not teacher.training and not any(each.requires_grad for each in teacher.parameters())
    assert not found.hidden.requires_grad
    with torch.no_grad():
        logits = torch.cat([
            plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0, 1:4]
            for ids in ([3, 4, 5, 6, 7], [3, 4, 8, 9, 2])
        ])  # fmt: skip
    torch.testing.assert_close(found.hidden @ found.head.T, logits, rtol=1e-4, atol=1e-5)


def test_the_base_teaches_what_its_adapter_is_to_learn(tiny_model: Path) -> None:
    """Its own states without the adapter, whatever the adapter is by now, and the shared head."""
    model = load_model(tiny_model)
    use_path_attention(model)
    adapted = adapt(model, LoraSpec(rank=2))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.3)
    spec = TrainSpec(steps=1, learning_rate=1e-3)
    student = Student(model)
    source = base_as_teacher(adapted, make_engine(spec, student, Placement()))
    found = source(BATCH, [0, 1])
    assert isinstance(found, HiddenTargets) and found.head is None
    assert not found.hidden.requires_grad
    plain = load_model(tiny_model)
    use_path_attention(plain)
    base: Any = OnlineTeacher(plain, zero=False, offload=False)(BATCH, [0, 1])
    torch.testing.assert_close(found.hidden, base.hidden, rtol=0, atol=0)
    loss, (_, divergence) = student(BATCH, found)
    assert divergence > 1e-3  # the adapter works again
    loss.backward()
    grown = {name for name, each in model.named_parameters() if each.grad is not None}
    assert grown and all("lora" in name for name in grown)


# Vocabularies


def test_the_same_tokenizer_knows_the_same_tokens(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    size = len(tokenizer)
    assert common_vocabulary(tokenizer, load_tokenizer(tiny_model), (size, size)) is None
    padded = common_vocabulary(tokenizer, load_tokenizer(tiny_model), (size + 3, size + 128))
    assert padded == size
    assert common_vocabulary(tokenizer, load_tokenizer(tiny_model), (size - 2, size)) == size - 2


@pytest.mark.parametrize("swap", [False, True])
def test_another_tokenizer_is_refused_with_a_token_that_differs(
    tiny_model: Path, swap: bool
) -> None:
    ours, theirs = load_tokenizer(tiny_model), load_tokenizer(tiny_model)
    size = len(ours)
    theirs.add_tokens(["owlet", "zebra"])
    pair = (theirs, ours) if swap else (ours, theirs)
    with pytest.raises(InputError, match="2 tokens differ, such as 'owlet'") as caught:
        common_vocabulary(*pair, (size, size))
    ids = f"({size} and none)" if swap else f"(none and {size})"
    assert ids in caught.value.message
    assert caught.value.hint and 'targets = "labels"' in caught.value.hint


def test_a_vocabulary_with_gaps_reaches_to_its_last_token(tiny_model: Path) -> None:
    """Not as far as it has tokens: those behind the gap would never be learned."""
    tokenizer = load_tokenizer(tiny_model)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    state["model"]["vocab"] = {text: n + 40 * (n >= 300) for text, n in vocabulary.items()}
    gaps = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    top = max(gaps.get_vocab().values()) + 1
    assert top == len(gaps) + 40
    assert common_vocabulary(gaps, gaps, (top, top + 64)) == top
