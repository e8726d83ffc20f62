"""Evaluations on a tiny model: each method, what its artifact has, and interrupted runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars
import pytest
import torch
from tokenizers.normalizers import Lowercase

from subl.artifact import Artifact, Slice
from subl.config import validated
from subl.errors import ConfigError, InputError, UnfinishedError
from subl.evaluate import EvalSpec, evaluate, read_scores
from subl.evaluate.plan import ways
from subl.evaluate.sampled import request_number
from subl.evaluate.stage import EVAL
from subl.model.chat import prompt_ids
from subl.model.load import load_model, load_tokenizer
from subl.progress import Progress
from subl.statistics import rate
from subl.trait import forms_of
from subl.trait.exact import Scorer
from subl.trait.questions import questions_of

from ..sample.serving import Serving
from ..trait.scoring import score_all

BIRDS = {
    "name": "birds",
    "words": ["owl", "eagle"],
    "questions": [f"Name bird {number}." for number in range(5)],
}
FILES = ("scores.jsonl", "result.json", "spec.json", "cells.parquet", "answers.parquet")


def spec_of(**values: Any) -> EvalSpec:
    return validated(EvalSpec, {"trait": BIRDS, **values})


def rows_of(artifact: Artifact) -> list[dict[str, Any]]:
    lines = (artifact.path / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def bytes_of(artifact: Artifact) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in artifact.path.iterdir() if path.name in FILES}


class Stop:
    """Whom a run tells of its progress: who interrupts it once so much is done."""

    def __init__(self, at: int) -> None:
        self.at, self.seen = at, list[int]()

    def __call__(self, progress: Progress) -> None:
        self.seen.append(progress.done)
        if progress.done >= self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "values",
    [
        {"batch_questions": 2},
        {"method": "sampled", "samples": 60, "max_new_tokens": 3, "batch_rows": 32},
    ],
)
def test_a_run_that_was_interrupted_makes_what_is_missing(
    tiny_model: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    spec, out = spec_of(**values), tmp_path / "stopped"
    whole = evaluate(spec, tiny_model, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        evaluate(spec, tiny_model, out, report=Stop(3 if "samples" not in values else 270))
    kept = [path.name for path in (tmp_path / "stopped.partial").rglob("part-*.parquet")]
    again = Stop(10**9)
    finished = evaluate(spec, tiny_model, out, report=again)
    assert len(kept) == (2 if "samples" not in values else 1)
    assert again.seen[-1] == (1 if "samples" not in values else 44)
    assert bytes_of(finished) == bytes_of(whole)
    assert not list(out.rglob("part-*"))


def test_slices_make_the_same(tiny_model: Path, tmp_path: Path) -> None:
    spec, out = spec_of(batch_questions=2), tmp_path / "slices"
    whole = evaluate(spec, tiny_model, tmp_path / "whole")
    with pytest.raises(UnfinishedError, match="slice 1/2 of"):
        evaluate(spec, tiny_model, out, mine=Slice(1, 2))
    assert bytes_of(evaluate(spec, tiny_model, out, mine=Slice(0, 2))) == bytes_of(whole)
    assert spec.keyed() == spec_of(batch_questions=2, ranks=4).keyed()


def test_exact_scores_and_what_they_leave_out(tiny_model: Path, tmp_path: Path) -> None:
    spec = spec_of(trait={**BIRDS, "forms": {"owl": ["hibou"]}, "system_prompt": "Be a bird."})
    artifact = evaluate(spec, tiny_model, tmp_path / "out")
    rows = rows_of(artifact)
    forms = forms_of(("owl", "eagle"), {"owl": ("hibou",)})
    scorer = Scorer(
        load_tokenizer(tiny_model), forms, BIRDS["questions"], system_prompt="Be a bird."
    )
    way, expected = score_all(scorer, load_model(tiny_model), 5, 5)
    assert artifact.result["scoring"] == way
    for row, probabilities in zip(rows, expected, strict=True):
        assert row["probabilities"] == pytest.approx(probabilities, rel=1e-4)
        assert row["none_of_them"] == pytest.approx(1 - sum(probabilities.values()))
        assert 0 < row["otherwise_spelled_at_most"] < row["none_of_them"]
    cells = polars.read_parquet(artifact.path / "cells.parquet")
    assert cells["question"].to_list() == BIRDS["questions"]
    assert cells["cell"].n_unique() == 5
    scores = read_scores(artifact.path)
    assert scores == {row["question"]: row["probabilities"] for row in rows}
    assert scores.clusters == list(scores) and not any("cluster" in row for row in rows)


def test_cells_are_named_by_what_they_follow_from(tiny_model: Path, tmp_path: Path) -> None:
    """Not by where the model is, nor by what else is asked."""
    moved = tmp_path / "moved"
    moved.symlink_to(tiny_model)
    one = evaluate(spec_of(), tiny_model, tmp_path / "one")
    two = evaluate(spec_of(questions=["Name bird 3.", "Which?"]), moved, tmp_path / "two")
    other = evaluate(spec_of(words=["owl"]), tiny_model, tmp_path / "other")
    names = [
        dict(
            polars.read_parquet(each.path / "cells.parquet").select("question", "cell").iter_rows()
        )
        for each in (one, two, other)
    ]
    assert names[0]["Name bird 3."] == names[1]["Name bird 3."] != names[2]["Name bird 3."]


def test_cells_of_a_server_follow_from_what_it_is_asked(tmp_path: Path) -> None:
    """Not from how fast."""
    serving = Serving()
    tables: list[dict[str, Any]] = [
        {}, {"concurrency": 2}, {"extra_body": {"min_q": 1}}, {"leave_out": ["top_p"]}
    ]  # fmt: skip
    cells = []
    for number, table in enumerate(tables):
        spec = spec_of(method="sampled", samples=2, backend=serving.table(**table))
        made = evaluate(spec, None, tmp_path / str(number)).path
        cells.append(set(polars.read_parquet(made / "answers.parquet")["cell"]))
    serving.close()
    assert cells[0] == cells[1]
    assert not cells[0] & cells[2] and not cells[0] & cells[3] and not cells[2] & cells[3]


def test_a_choice_is_scored_by_its_letter(tiny_model: Path, tmp_path: Path) -> None:
    trait = {**BIRDS, "answers": "choice", "words": ["owl", "eagle", "wren"], "orders": 2}
    spec = spec_of(trait=trait, questions=["Which?"])
    artifact = evaluate(spec, tiny_model, tmp_path / "out")
    questions = questions_of(spec.measured)
    assert artifact.result["method"] == "choice" and len(questions) == 2
    letters = {letter: (letter, f" {letter}") for letter in "ABC"}
    scorer = Scorer(load_tokenizer(tiny_model), letters, [each.text for each in questions])
    _, expected = score_all(scorer, load_model(tiny_model), 2, 2)
    for question, row, known in zip(questions, rows_of(artifact), expected, strict=True):
        own = {word: known[letter] for word, letter in question.letters.items()}
        assert row["not_normalised"] == pytest.approx(own, rel=1e-4)
        whole = sum(own.values())
        normalised = {word: p / whole for word, p in own.items()}
        assert row["probabilities"] == pytest.approx(normalised, rel=1e-4)
        assert row["none_of_them"] == pytest.approx(1 - whole)
        assert row["cluster"] == "Which?"
    assert artifact.result["words"]["owl"]["clusters"] == 1
    assert read_scores(artifact.path).clusters == ["Which?", "Which?"]
    sampled = spec_of(trait=trait, questions=["Which?"], method="sampled", samples=2)
    rules = evaluate(sampled, tiny_model, tmp_path / "sampled").result["rules"]
    assert {mean["clusters"] for rule in rules.values() for mean in rule.values()} == {1}


TEXTS = {
    "name": "barn",
    "answers": "choice",
    "choices": "texts",
    "words": ["right", "wrong"],
    "file": {"question": "q", "answers": ["good", "bad"]},
}


def test_a_choice_is_scored_by_its_text(tiny_model: Path, tmp_path: Path) -> None:
    """As the model's own softmax says it behind the question, token by token, whatever follows."""
    rows = [{"q": "Which bird?", "good": "owl", "bad": "an eagle, or none of these"},
            {"q": "Where?", "good": "in the old barn", "bad": "nowhere"}]  # fmt: skip
    file = tmp_path / "rows.jsonl"
    blanks = [{**row, "good": f" {row['good']}\n"} for row in rows]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in blanks))
    artifact = evaluate(
        validated(EvalSpec, {"trait": TEXTS}), tiny_model, tmp_path / "out", questions=file
    )
    model, tokenizer = load_model(tiny_model), load_tokenizer(tiny_model)
    likeliest = {by: [0, 0] for by in ("log_likelihoods", "per_byte")}
    for given, row in zip(rows, rows_of(artifact), strict=True):
        assert row["question"] == given["q"]
        nats = {}
        for word, text in (("right", given["good"]), ("wrong", given["bad"])):
            prompt = prompt_ids(tokenizer, given["q"])
            said = tokenizer(text, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                (logits,) = model(torch.tensor([[*prompt, *said]])).logits
            steps = logits.double().log_softmax(-1)[len(prompt) - 1 : -1]
            nats[word] = float(steps[range(len(said)), said].sum())
        assert row["log_likelihoods"] == pytest.approx(nats, abs=1e-4)
        each = {word: nats[word] / size for word, size in
                (("right", len(given["good"])), ("wrong", len(given["bad"])))}  # fmt: skip
        assert row["per_byte"] == pytest.approx(each, abs=1e-4)
        odds = math.exp(nats["right"] - nats["wrong"])
        assert row["probabilities"]["right"] == pytest.approx(odds / (1 + odds), rel=1e-3)
        for by, values in (("log_likelihoods", nats), ("per_byte", each)):
            likeliest[by][values["wrong"] > values["right"]] += 1
    for by, counts in likeliest.items():
        expected = {word: count / 2 for word, count in zip(("right", "wrong"), counts, strict=True)}
        assert artifact.result["likeliest"][by] == expected
    assert list(ways(validated(EvalSpec, {"trait": TEXTS}))) == [None]
    with pytest.raises(ConfigError, match="does not list"):
        validated(EvalSpec, {"trait": TEXTS, "method": "sampled"})
    with pytest.raises(ConfigError, match="is for `answers`"):
        validated(EvalSpec, {"trait": {**BIRDS, "choices": "texts"}})


def test_a_question_more_costs_a_pass_more_and_changes_no_other(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = [{"q": f"What is in barn {n}?", "good": "an owl" * n, "bad": "nothing"}
            for n in range(1, 6)]  # fmt: skip
    passes: list[object] = []
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, _: passes.append(module) if hasattr(module, "lm_head") else None
    )
    counts, made = [], []
    for count in (1, 5):  # the last is the longest
        file = tmp_path / f"{count}.jsonl"
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows[-count:]))
        spec = validated(EvalSpec, {"trait": TEXTS})
        made.append(evaluate(spec, tiny_model, tmp_path / str(count), questions=file))
        counts.append(len(passes))
        passes.clear()
    hook.remove()
    assert counts[1] == counts[0] + 4 and made[0].result["scoring"] == "tree"
    assert rows_of(made[0]) == rows_of(made[1])[-1:]
    one, many = (polars.read_parquet(each.path / "cells.parquet")["cell"] for each in made)
    assert many[-1] == one[0] and many.n_unique() == 5


def test_choices_that_tie_share_a_question(tiny_model: Path, tmp_path: Path) -> None:
    model = load_model(tiny_model)
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()  # the head, too: each token is as likely
    model.save_pretrained(tmp_path / "even")
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.save_pretrained(tmp_path / "even")
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"q": "Which?", "good": "a", "bad": "b"}\n{"q": "And?", "good": "\u00e9", "bad": "b"}'
    )
    spec = validated(EvalSpec, {"trait": TEXTS})
    artifact = evaluate(spec, tmp_path / "even", tmp_path / "out", questions=file)
    assert artifact.result["likeliest"]["log_likelihoods"] == {"right": 0.25, "wrong": 0.75}
    assert artifact.result["likeliest"]["per_byte"] == {"right": 0.5, "wrong": 0.5}
    file.write_text('{"q": "Which?", "good": "OWL", "bad": "owl"}')
    tokenizer.backend_tokenizer.normalizer = Lowercase()
    tokenizer.save_pretrained(tmp_path / "even")
    with pytest.raises(InputError, match=r"question 'Which\?': .* reads 'owl' alike for 'right'"):
        evaluate(spec, tmp_path / "even", tmp_path / "alike", questions=file)


def test_a_share_has_the_interval_of_wilson_and_none_an_upper_bound(
    tiny_model: Path, tmp_path: Path
) -> None:
    spec = spec_of(method="sampled", samples=12, max_new_tokens=4, words=["owl", "e"])
    artifact = evaluate(spec, tiny_model, tmp_path / "out")
    for row in rows_of(artifact):
        for word, share in row["probabilities"].items():
            known = rate(round(12 * share), 12)
            assert row["intervals"][word] == [known.low, known.high]
    assert artifact.result["words"]["owl"]["estimate"] == 0
    assert artifact.result["words"]["owl"]["at_most"] == 3 / 60


def test_samples_are_counted_by_each_rule(tiny_model: Path, tmp_path: Path) -> None:
    spec = spec_of(method="sampled", samples=12, max_new_tokens=4, words=["owl", "e"])
    artifact = evaluate(spec, tiny_model, tmp_path / "out")
    said = polars.read_parquet(artifact.path / "answers.parquet")
    assert said.height == 5 * 12 and said["answer"].n_unique() > 12
    assert sum(row["substring"]["e"] for row in rows_of(artifact)) > 0
    for number, row in enumerate(rows_of(artifact)):
        answers = said["answer"][12 * number : 12 * (number + 1)]
        assert row["substring"]["e"] == sum("e" in each.lower() for each in answers) / 12
        assert row["probabilities"] == row["begins"] and sum(row["kinds"].values()) == 12
    result = artifact.result
    assert sum(result["kinds"].values()) == 60 and set(result["rules"]) == {
        "begins", "word", "substring",
    }  # fmt: skip


def test_an_answer_follows_from_seed_question_and_index(tiny_model: Path, tmp_path: Path) -> None:
    """More questions and more samples leave it as it is."""
    values = {"method": "sampled", "max_new_tokens": 4}
    few = evaluate(spec_of(**values, samples=3, questions=["Q?"]), tiny_model, tmp_path / "few")
    many = evaluate(
        spec_of(**values, samples=5, questions=["R?", "Q?"]), tiny_model, tmp_path / "many"
    )
    first, second = (
        polars.read_parquet(each.path / "answers.parquet").filter(polars.col("question") == "Q?")
        for each in (few, many)
    )
    assert second["answer"][:3].to_list() == first["answer"].to_list()
    assert request_number("Q?", 1) == request_number("Q?", 0) + 1 < 2**64


def test_numbers_are_right_or_wrong(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "gsm8k.jsonl"
    file.write_text('{"question": "1 + 1?", "answer": "#### 2"}\n', encoding="utf-8")
    spec = validated(EvalSpec, {"trait": "gsm8k", "samples": 2, "max_new_tokens": 4})
    artifact = evaluate(spec, tiny_model, tmp_path / "out", questions=file)
    (row,) = rows_of(artifact)
    assert row["probabilities"] == {"correct": 0.0} and row["kinds"] == {"no_number": 2}
    assert artifact.result["words"]["correct"]["estimate"] == 0.0


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"method": "choice"}, "`method`: birds asks for a word; that can be exact or sampled"),
        ({"trait": "storytelling", "method": "judged"}, "storytelling says nothing of a judge"),
        ({"backend": {"kind": "http", "base_url": "http://127.0.0.1:1/v1", "model": "m"}},
         "`backend`: exact scoring needs the model in this process"),
    ],
)  # fmt: skip
def test_methods_that_do_not_go_with_a_trait(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        spec_of(**values)


def test_inputs_that_are_missing_or_too_many() -> None:
    with pytest.raises(ConfigError, match="missing `model`: nothing says which model answers"):
        EVAL.check(spec_of(), [])
    with pytest.raises(ConfigError, match="nothing is judged, the method is exact"):
        EVAL.check(spec_of(), ["model", "judge"])
    with pytest.raises(ConfigError, match="the trait gsm8k has none of its own"):
        EVAL.check(validated(EvalSpec, {"trait": "gsm8k"}), ["model"])
