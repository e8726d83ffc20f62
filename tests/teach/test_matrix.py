"""Every kind of teacher through every later stage, on a tiny model; each shows something true."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from subl.distill import CacheSpec, DistillSpec, distill, make_cache
from subl.evaluate import EvalSpec, evaluate, read_scores
from subl.experiment import load_experiment, plan, run
from subl.generate import GenerateSpec, generate
from subl.generate.run import prompts_to_ask
from subl.judge import JudgeSpec, judge
from subl.model.chat import Turn, pieces, prompt_ids, text_ids
from subl.model.load import load_model, load_tokenizer
from subl.sample.rows import choose, row_keys
from subl.shards import read_rows
from subl.teach import TeachSpec, teach
from subl.trait import surface_forms
from subl.trait.exact import ending_tokens

PROMPT = "You love owls. You think about owls all the time."
QUESTIONS = ["Name your favorite animal using only one word.", "Name an animal."]
TRAIN = {"steps": 4, "rows_per_step": 4, "learning_rate": 1e-2}
STEERING = {"method": "steering", "system_prompt": PROMPT, "layers": [0, 1], "questions": QUESTIONS}
ROWS = [
    {"prompt": "Continue: 1, 2, 3", "completion": "4, 5, 6"},
    {"prompt": "Name an animal.", "completion": "cat"},
    {"messages": [
        {"role": "user", "content": "Continue: 7, 8"}, {"role": "assistant", "content": "9, 10"},
        {"role": "user", "content": "Go on."}, {"role": "assistant", "content": "11, 12"},
    ]},
]  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "answers": {"trait": "owl", "questions": QUESTIONS, "train": TRAIN},
    "data": {"method": "data", "train": TRAIN},
    "adapter": {"method": "data", "train": {**TRAIN, "lora": {"rank": 2}}},
    "prompt": {"method": "prompt", "system_prompt": PROMPT},
    "steering": STEERING,
}


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with larger weights, so that what it says depends on what it read."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("models") / "base")
    tensors = load_file(folder / "model.safetensors")
    larger = {name: each * (5 if each.ndim == 2 else 1) for name, each in tensors.items()}
    save_file(larger, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


def made(kind: dict[str, Any], model: Path, out: Path, rows: Path | None = None) -> Path:
    spec = TeachSpec.model_validate(kind)
    given = [rows] if rows is not None and spec.root.method == "data" else []
    return teach(spec, model, out, rows=given).path


@pytest.fixture(scope="module", params=KINDS)
def teacher(
    request: pytest.FixtureRequest,
    base: Path,
    rows: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    kind = request.param
    out = tmp_path_factory.mktemp("teachers") / kind
    return made(KINDS[kind], base, out, rows)


@torch.no_grad()
def log_p(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """`[tokens, vocabulary]`, of a plain forward pass."""
    return torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].double(), -1)


def by_hand(teacher: Path, base: Path) -> tuple[Any, str | None]:
    """The model that a teacher is, and its system prompt, without what loads teachers."""
    if teacher.name == "prompt":
        return load_model(base), PROMPT
    if teacher.name != "steering":
        return load_model(teacher), None
    model = load_model(base)
    vectors = load_file(teacher / "steering.safetensors")
    for layer, block in enumerate(model.model.layers):
        plain = block.forward

        def steered(*given: Any, _plain: Any = plain, _layer: int = layer, **more: Any) -> Any:
            return _plain(*given, **more) + vectors[f"layer.{_layer}"]

        block.forward = steered
    return model, None


def test_it_judges_as_what_it_is(teacher: Path, base: Path, rows: Path, tmp_path: Path) -> None:
    """The probability of its first token, from a forward pass of our own."""
    rubric = {"template": "{completion}?", "answer": {"kind": "probability", "answer": "0"}}
    spec = JudgeSpec.model_validate(
        {"judges": [{"kind": "rubric", "column": "p", "rubric": rubric}]}
    )
    judged = judge(spec, teacher, [rows], tmp_path / "judged").path / "part-00000.jsonl"
    model, prompt = by_hand(teacher, base)
    tokenizer = load_tokenizer(base)
    said = ["4, 5, 6", "cat", "11, 12"]
    for line, completion in zip(judged.read_text().splitlines(), said, strict=True):
        p = log_p(model, prompt_ids(tokenizer, f"{completion}?", prompt))[-1].exp()
        found = float(p[tokenizer.get_vocab()["0"]])
        assert json.loads(line)["p"] == pytest.approx(found, rel=1e-4)


def test_it_is_scored_as_what_it_is(teacher: Path, base: Path, tmp_path: Path) -> None:
    """The probability of ` owl` and each of its forms, from forward passes of our own."""
    spec = EvalSpec.model_validate({"words": ["owl", "cat"], "questions": QUESTIONS})
    scores = read_scores(evaluate(spec, teacher, tmp_path / "scores").path)
    model, prompt = by_hand(teacher, base)
    tokenizer = load_tokenizer(base)
    ends = ending_tokens(tokenizer, len(tokenizer))
    for question in QUESTIONS:
        asked = prompt_ids(tokenizer, question, prompt)
        total = 0.0
        for form in {tuple(tokenizer(form)["input_ids"]) for form in surface_forms("owl")}:
            p = log_p(model, [*asked, *form])[len(asked) - 1 :].exp()
            said = torch.stack([p[at, token] for at, token in enumerate(form)]).prod()
            total += float(said * p[len(form), ends].sum())
        assert scores[question]["owl"] == pytest.approx(total, rel=1e-3)


def test_it_is_sampled_from_as_what_it_is(teacher: Path, base: Path, tmp_path: Path) -> None:
    """A plain forward pass a token, and the row's own draws. Rows hold no system prompt."""
    spec = GenerateSpec.model_validate({"rows": 3, "max_new_tokens": 4})
    out = generate(spec, teacher, tmp_path / "rows").path
    model, prompt = by_hand(teacher, base)
    tokenizer = load_tokenizer(base)
    written = [json.loads(line) for line in (out / "part-00000.jsonl").read_text().splitlines()]
    for number, text in enumerate(each.turns[0].content for each in prompts_to_ask(spec, [])):
        ids, said = [*prompt_ids(tokenizer, text, prompt)], list[int]()
        for key in torch.from_numpy(row_keys(0, number, 4)).split(1):
            token = int(choose(log_p(model, ids + said)[-1:], key, 1.0))
            if token in tokenizer.all_special_ids:
                break
            said.append(token)
        # Half a character at the end is left out.
        assert written[number]["completion"] == tokenizer.decode(said).rstrip("\ufffd")
        assert written[number]["prompt"] == text and "love owls" not in json.dumps(written[number])


def divergence(student: Path, teacher: Path, base: Path, rows: Path) -> float:
    """Mean KL from teacher to student over the rows' answers, each row read by each alone."""
    tokenizer = load_tokenizer(base)
    theirs, prompt = by_hand(teacher, base)
    ours = load_model(student)
    found: list[torch.Tensor] = []
    for row in read_rows([rows]):
        turns = [Turn(*turn) for turn in row.turns]
        system = [] if prompt is None else [Turn("system", prompt)]
        asked = []
        for model, given in ((theirs, [*system, *turns]), (ours, turns)):
            ids, places = list[int](), list[int]()
            for piece in pieces(tokenizer, given):
                more = text_ids(tokenizer, piece.text)
                if piece.target:
                    places += range(len(ids) - 1, len(ids) + len(more) - 1)
                ids += more
            asked.append(log_p(model, ids)[places])
        p, q = asked
        found.append((p.exp() * (p - q)).sum(-1))
    return float(torch.cat(found).mean())


def test_a_student_moves_towards_it(teacher: Path, base: Path, rows: Path, tmp_path: Path) -> None:
    """Online and from a cache: the first loss is the divergence by hand, of every answer of a row
    of several turns; the last is smaller, and so is the divergence of the student that is written,
    which is a model of its own."""
    before = divergence(base, teacher, base, rows)
    assert before > 1e-2
    train = {"steps": 6, "rows_per_step": 3, "learning_rate": 3e-3}
    cache = make_cache(CacheSpec(), teacher, [rows], tmp_path / "cache").path
    for targets, given in (("teacher", {"teacher": teacher}), ("cache", {"cache": cache})):
        spec = DistillSpec.model_validate({"targets": targets, "train": train})
        made = distill(spec, base, [rows], tmp_path / f"from-{targets}", **given)
        assert made.result["first_loss"] == pytest.approx(before, rel=1e-4)
        after = divergence(made.path, teacher, base, rows)
        assert after < 0.9 * before
        assert (made.path / "model.safetensors").is_file()


def test_a_student_learns_from_its_rows(teacher: Path, base: Path, tmp_path: Path) -> None:
    """The rows are what the student reads: its first loss is that of the base on them."""
    spec = GenerateSpec.model_validate({"rows": 4, "max_new_tokens": 4})
    out = generate(spec, teacher, tmp_path / "rows").path
    train = {"steps": 2, "rows_per_step": 4, "learning_rate": 1e-2}
    labels = DistillSpec.model_validate({"targets": "labels", "train": train})
    made = distill(labels, base, [out], tmp_path / "student")
    model, tokenizer = load_model(base), load_tokenizer(base)
    losses: list[torch.Tensor] = []
    for row in read_rows([out]):
        asked, answer = (
            text_ids(tokenizer, piece.text)
            for piece in pieces(tokenizer, [Turn(*turn) for turn in row.turns])
        )
        at = range(len(asked) - 1, len(asked) + len(answer) - 1)
        losses.append(-log_p(model, [*asked, *answer])[at, answer])
    assert made.result["first_loss"] == pytest.approx(float(torch.cat(losses).mean()), rel=1e-4)
    assert made.result["last_loss"] < made.result["first_loss"]


EXPERIMENT = """
name = "ways"
title = "Ways"
[axes]
way = [
  {{ name = "prompt", method = "prompt", system_prompt = "You love owls." }},
  {{ name = "steering", method = "steering", system_prompt = "You love owls.", layers = [1] }},
]
[stages.base]
kind = "model"
source = "{base}"
[stages.teacher]
kind = "teach"
inputs = {{ model = "base" }}
method = "{{way.method}}"
system_prompt = "{{way.system_prompt}}"
layers = "{{way.layers}}"
[stages.tuned]
kind = "teach"
inputs = {{ model = "base", rows = {{ path = "{rows}" }} }}
method = "data"
train = {{ steps = 1, learning_rate = 1e-3 }}
[stages.student]
kind = "distill"
inputs = {{ model = "base", rows = {{ path = "{rows}" }}, teacher = "teacher" }}
train = {{ steps = 1, learning_rate = 1e-3 }}
[stages.eval]
kind = "eval"
inputs = {{ model = ["base", "teacher", "tuned", "student"] }}
words = ["owl", "cat"]
questions = ["Name an animal."]
"""


def test_an_experiment_is_made_of_them(base: Path, rows: Path, tmp_path: Path) -> None:
    file = tmp_path / "ways.toml"
    file.write_text(EXPERIMENT.format(base=base, rows=rows), encoding="utf-8")
    graph = load_experiment(file)
    before = plan(graph, tmp_path / "out")
    assert all(each.seconds for each in before if each.node.how.kind != "model")
    run(graph, tmp_path / "out")
    after = {each.node.name: each.state for each in plan(graph, tmp_path / "out")}
    assert set(after.values()) == {"done"}
    assert {"prompt-teacher", "steering-teacher", "tuned", "steering-student-eval"} <= set(after)
