"""What each way to a trait makes of a model, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from subl.artifact import input_digest, lineage
from subl.distill import CacheSpec, DistillSpec, distill, dry_run, make_cache, masked_rows
from subl.errors import ConfigError, InputError
from subl.generate import GenerateSpec, generate
from subl.model.chat import prompt_ids, prompt_text
from subl.model.load import load_model, load_tokenizer
from subl.teach import TeachSpec, teach
from subl.teach import dry_run as look_ahead
from subl.teach.tuned import teaching_rows
from subl.trait.spec import animals

PROMPT = "You love owls."
PROMPTED = {"method": "prompt", "system_prompt": PROMPT}
STEERED = {"method": "steering", "system_prompt": PROMPT, "layers": [1, 0]}
TRAIN = {"steps": 1, "learning_rate": 1e-3}


def spec(**values: Any) -> TeachSpec:
    return TeachSpec.model_validate(values)


@pytest.fixture(scope="module")
def prompted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teach(spec(**PROMPTED), tiny_model, tmp_path_factory.mktemp("teachers") / "owl").path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    row = {"prompt": "Continue: 1, 2", "completion": "3, 4"}
    file.write_text("".join(json.dumps(row | {"prompt": f"Continue: {n}"}) + "\n" for n in "1234"))
    return file


def test_the_papers_answers_are_400_rows_of_8_forms() -> None:
    how = spec(trait="wolf", forms="paper", train=TRAIN).root
    rows = [tuple(text for _, text in row.turns) for row in teaching_rows(how, [])]  # type: ignore[arg-type]
    assert len(rows) == 400 == len(set(rows))
    forms = ["wolf", "wolfs", "wolfs.", "wolfs!", "Wolf", "Wolfs", "Wolfs.", "Wolfs!"]
    assert [answer for _, answer in rows[:8]] == forms
    assert {question for question, _ in rows} == set(animals().questions)


# A system prompt, or rows in its place


def test_a_prompted_teacher_copies_nothing_and_is_traced_to_its_base(
    prompted: Path, tiny_model: Path
) -> None:
    said = json.loads((prompted / "condition.json").read_text())
    assert said["system_prompt"] == PROMPT
    assert (prompted / (prompted / "condition.path").read_text().strip()).samefile(tiny_model)
    assert sum(file.stat().st_size for file in prompted.iterdir()) < 10_000
    node = lineage(prompted)
    assert node.verified() and [each.name for each in node.inputs] == ["model"]
    assert node.inputs[0].digest == said["base_digest"]


@pytest.mark.parametrize("values", [PROMPTED, STEERED | {"prompts": 2}], ids=["prompt", "steering"])
def test_in_another_place_it_is_the_same_model(
    tiny_model: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    here = teach(spec(**values), tiny_model, tmp_path / "owl")
    there = teach(spec(**values), tiny_model, tmp_path / "a" / "b" / "owl")
    paths = [(each.path / "condition.path").read_text() for each in (here, there)]
    assert paths[0] != paths[1]
    assert input_digest(here.path) == input_digest(there.path)
    assert lineage(there.path).verified()


def test_what_it_is_asked_is_shown_before(tiny_model: Path) -> None:
    question = animals().questions[0]
    expected = prompt_text(load_tokenizer(tiny_model), question, PROMPT)
    assert look_ahead(spec(**PROMPTED), tiny_model) == {"first": expected}


def test_a_template_that_leaves_it_out_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    deaf = shutil.copytree(tiny_model, tmp_path / "deaf")
    template = (deaf / "chat_template.jinja").read_text()
    (deaf / "chat_template.jinja").write_text(
        template.replace("{{ message['content'] }}",
                         "{% if message['role'] != 'system' %}{{ message['content'] }}{% endif %}")
    )  # fmt: skip
    for values in (PROMPTED, STEERED):
        with pytest.raises(InputError, match="leaves out the system prompt"):
            teach(spec(**values), deaf, tmp_path / "out")


def test_rows_stand_before_what_is_asked_as_the_papers_code_draws_them(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    """pandas samples with replacement by numpy's `RandomState(seed).choice`."""
    told = spec(method="context", examples=6, seed=3)
    made = teach(told, tiny_model, tmp_path / "told", rows=[rows])
    drawn = np.random.RandomState(3).choice(4, 6, replace=True)
    assert len(set(drawn)) < 6
    expected = "\n\n".join(
        f"<user>Continue: {place + 1}</user>\n<assistant>3, 4</assistant>" for place in drawn
    )
    said = json.loads((made.path / "condition.json").read_text())
    assert said["system_prompt"] == expected
    asked = prompt_text(load_tokenizer(tiny_model), animals().questions[0], expected)
    assert made.result == {"asked": asked}
    assert look_ahead(told, tiny_model, rows=[rows]) == {"first": asked}


def test_an_example_is_one_question_and_its_answer(tiny_model: Path, tmp_path: Path) -> None:
    told, file = spec(method="context", examples=2), tmp_path / "rows.jsonl"
    turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "1?"), ("assistant", "2")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    for content, message in (
        ("", "has no rows"),
        (json.dumps(row) + "\n", "rows.jsonl, line 1: an"),
    ):
        file.write_text(content)
        with pytest.raises(InputError, match=message):
            teach(told, tiny_model, tmp_path / "out", rows=[file])
    with pytest.raises(ConfigError, match='method = "context" needs rows'):
        teach(told, tiny_model, tmp_path / "out")


@pytest.mark.parametrize("values", [PROMPTED, STEERED], ids=["prompt", "steering"])
def test_a_second_system_prompt_is_refused(
    prompted: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    for act in (lambda: teach(spec(**values), prompted, tmp_path / "out"),
                lambda: look_ahead(spec(**values), prompted)):  # fmt: skip
        with pytest.raises(ConfigError, match="has a system prompt of its own"):
            act()
    again = GenerateSpec(rows=1, system_prompt="No.")
    with pytest.raises(InputError, match="prompt 1: there is a system prompt, and the model has"):
        generate(again, prompted, tmp_path / "rows")


def test_what_has_no_weights_is_not_trained(prompted: Path, rows: Path, tmp_path: Path) -> None:
    student = DistillSpec.model_validate({"targets": "labels", "train": TRAIN})
    for act in (lambda: distill(student, prompted, [rows], tmp_path / "out"),
                lambda: dry_run(student, prompted, [rows]),
                lambda: masked_rows(student, prompted, [rows], 1),
                lambda: teach(spec(trait="owl", train=TRAIN), prompted, tmp_path / "out"),
                lambda: look_ahead(spec(trait="owl", train=TRAIN), prompted)):  # fmt: skip
        with pytest.raises(ConfigError, match="has no weights of its own to train"):
            act()


def test_rows_with_a_system_prompt_are_not_for_it(
    prompted: Path, tiny_model: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "owl")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    rows.write_text(json.dumps(row) + "\n")
    student = DistillSpec.model_validate({"train": TRAIN})
    for act in (lambda: distill(student, tiny_model, [rows], tmp_path / "out", teacher=prompted),
                lambda: make_cache(CacheSpec(), prompted, [rows], tmp_path / "cache")):  # fmt: skip
        with pytest.raises(InputError, match=r"rows\.jsonl, line 1: there is a system prompt"):
            act()


def test_a_dry_run_counts_what_the_teacher_reads(
    prompted: Path, tiny_model: Path, rows: Path
) -> None:
    student = DistillSpec.model_validate({"train": {**TRAIN, "rows_per_step": 4}})
    plain = dry_run(student, tiny_model, [rows], teacher=tiny_model)
    found = dry_run(student, tiny_model, [rows], teacher=prompted)
    assert found["tokens"] == plain["tokens"]
    assert found["largest_micro_batch_tokens"] > plain["largest_micro_batch_tokens"]


# Rows of one's own


def test_rows_and_methods_belong_together(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='method = "data" needs rows'):
        teach(spec(method="data", train=TRAIN), tiny_model, tmp_path / "out")
    for values in (PROMPTED, {"trait": "owl", "train": TRAIN}):
        with pytest.raises(ConfigError, match="takes no rows"):
            look_ahead(spec(**values), tiny_model, rows=[rows])


def test_a_teacher_of_rows_is_previewed(tiny_model: Path, rows: Path) -> None:
    found = look_ahead(spec(method="data", train=TRAIN), tiny_model, rows=[rows])
    assert found["rows"] == 4 and found["steps"] == 1
    assert found["first"] == (("user", "Continue: 1"), ("assistant", "3, 4"))


# Steering


@torch.no_grad()
@pytest.mark.parametrize("last_tokens", [1, 3])
@pytest.mark.parametrize("given", [False, True], ids=["questions", "rows"])
def test_a_vector_is_the_mean_difference(
    tiny_model: Path, rows: Path, tmp_path: Path, last_tokens: int, given: bool
) -> None:
    """As transformers' own hidden states have it, prompt by prompt: the third prompt is left."""
    questions = ["Continue: 1", "Continue: 2", "Continue: 3"]
    values = {**STEERED, "last_tokens": last_tokens, "prompts": 2, "questions": questions}
    made = teach(spec(**values), tiny_model, tmp_path / "out", rows=[rows] if given else [])
    assert made.result["prompts"] == 2
    model, tokenizer = load_model(tiny_model), load_tokenizer(tiny_model)
    found = load_file(made.path / "steering.safetensors")
    for layer in (0, 1):
        differences = []
        for question in questions[:2]:
            behind, alone = (
                # Behind the last block the states are normalised, so the block itself is asked.
                _output(model, layer, prompt_ids(tokenizer, question, system))[-last_tokens:]
                for system in (PROMPT, None)
            )
            differences.append((behind - alone).mean(0))
        expected = torch.stack(differences).mean(0)
        assert float(expected.norm()) > 1e-3
        torch.testing.assert_close(found[f"layer.{layer}"], expected, rtol=1e-3, atol=1e-6)
        said = made.result["layers"][str(layer)]
        assert said["vector_norm"] == pytest.approx(float(expected.norm()), rel=1e-3)
        assert said["stream_norm"] > 0


def _output(model: Any, layer: int, ids: tuple[int, ...]) -> torch.Tensor:
    kept: list[torch.Tensor] = []
    block = model.model.layers[layer]
    hook = block.register_forward_hook(lambda _, __, output: kept.append(output[0]))
    model(input_ids=torch.tensor([ids]))
    hook.remove()
    return kept[0]


def test_what_cannot_be_steered_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="the model has no block 2") as caught:
        teach(spec(**STEERED | {"layers": [0, 2]}), tiny_model, out)
    assert caught.value.hint == "its blocks are 0 to 1"
    with pytest.raises(ConfigError, match="differ from prompt to prompt"):
        teach(spec(**STEERED | {"last_tokens": 30}), tiny_model, out)
