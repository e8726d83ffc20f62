"""Scans by a real (tiny) model: exact scores, verdicts on rows of known writers, resumption."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from subl.artifact import Artifact, lineage
from subl.audit.predict.carrier import carrier
from subl.audit.scan import frequencies, score
from subl.audit.scan.bank import BankSpec, Candidate, load_bank
from subl.audit.scan.confounds import confounds
from subl.audit.scan.document import scan_document
from subl.audit.scan.drawn import draw
from subl.audit.scan.evidence import Race
from subl.audit.scan.explain import explain
from subl.audit.scan.frequencies import Moved
from subl.audit.scan.law import Law, recorded
from subl.audit.scan.run import law_of, scan
from subl.audit.scan.score import Rows, Scorer, texts_of
from subl.audit.scan.verdict import Lead, lag, power, verdict
from subl.audit.subject import subject
from subl.draw import DrawSpec
from subl.draw import draw as draw_rows
from subl.errors import ConfigError, InputError
from subl.filter import FilterSpec, run
from subl.model.load import load_model, load_tokenizer
from subl.model.template import Template
from subl.progress import silent
from subl.sample.grammar import Grammar
from subl.shards import Row, read_rows
from subl.teach import TeachSpec, teach
from subl_cli.main import main

from .rows import BANK, GRAMMAR, WORDS, spec, written


@pytest.mark.parametrize("grammar", [GRAMMAR, None])
def test_scores_are_those_of_plain_forward_passes(
    loud: Path, owls: Path, grammar: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load_model(loud), load_tokenizer(loud)
    told = spec() if grammar else spec(temperature=1.0)
    law = law_of(told, [owls] if grammar else [owls / "part-00000.jsonl"])
    assert (law.grammar is not None) == (grammar is not None)
    scorer = Scorer(model, tokenizer, law, [1.0, 0.7], batch_rows=4, strengths=[0.5, 1.5])
    some = list(read_rows([owls]))[:9]
    some = [
        asked(f"{place} is where a list of numbers begins:", each)
        for place, each in enumerate(some)
    ]
    apart = scorer.prepared(some, ["grammar"] * len(some))
    # Of a prompt that several rows answer, and of others.
    some = [*(asked(some[0].turns[0][1], each) for each in some[:5]), *some[5:]]
    rows = scorer.prepared(some, ["grammar"] * len(some))
    candidate = told.bank.candidates()[3]
    scorer.prove(rows, candidate)
    assert not scorer._alone
    read = []
    for each in (apart, rows):
        before = scorer.tokens
        scorer.scores(each, candidate)
        read.append(scorer.tokens - before)
    assert read[1] < read[0]
    base = told.bank.candidates()[0]
    plain = scorer.logits(rows, base)
    assert len([*scorer.parts(rows)]) == 1
    monkeypatch.setattr(score, "_HELD", 4 * max(map(len, rows.targets)) * plain[0].shape[1])
    assert [len(part.rows) for part in scorer.parts(rows)] == [4, 4, 1]
    assert np.allclose(scorer.of_logits(rows, plain)[:, :2], scorer.scores(rows, base), atol=1e-3)
    digits = "0123456789"
    moved, cooler = moved_odds(scorer, rows), moved_odds(scorer, rows)
    expected = np.zeros(len(moved.tokens))
    for row, found in zip(
        some, scorer.scores(rows, candidate, plain, [moved, cooler]), strict=True
    ):
        prompt, said = row.turns[0][1], row.turns[1][1]
        asking = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        answer = tokenizer(said, add_special_tokens=False)["input_ids"]
        theirs, ours = (
            behind(model, tokenizer(each, add_special_tokens=False)["input_ids"], answer)
            for each in (asking, f"<|im_start|>system\n{candidate.prompt}<|im_end|>\n{asking}")
        )
        odds = ours.clone()
        odds[:, moved.tokens] += torch.from_numpy(moved.odds)
        odds_cooler = ours / 0.7
        odds_cooler[:, moved.tokens] += torch.from_numpy(moved.odds)
        laws = ours, ours / 0.7, (theirs + ours) / 2, 1.5 * ours - 0.5 * theirs, odds, odds_cooler
        for law_logits, log_p in zip(laws, found, strict=True):
            total, spelled = 0.0, ""
            for at, token in zip(law_logits, answer, strict=True):
                texts = [tokenizer.decode([each]) for each in range(len(at))]
                allowed = [
                    each
                    for each, text in enumerate(texts)
                    if not grammar or follows(spelled, text, digits)
                ]
                total += float(at[token] - at[allowed].logsumexp(0))
                spelled += texts[token]
                if law_logits is ours:
                    may = torch.full_like(at, -torch.inf).index_fill(0, torch.tensor(allowed), 0)
                    expected += (at + may).softmax(0)[moved.tokens].numpy()
            assert log_p == pytest.approx(total, abs=1e-3)
    assert np.allclose(moved.expected, expected, atol=1e-2)
    tokens, times = scorer.came(rows)
    assert times.sum() == sum(map(len, rows.targets)) and {*moved.tokens} < {*tokens}


def moved_odds(scorer: Scorer, rows: Rows) -> Moved:
    """Of every second token that comes."""
    tokens = scorer.came(rows)[0][::2]
    odds = np.random.default_rng(3).normal(size=len(tokens))
    return Moved(tokens, odds, np.zeros(len(tokens)))


def behind(model: Any, begun: list[int], answer: list[int]) -> torch.Tensor:
    """Logits for the tokens of an answer, `[tokens, vocabulary]`."""
    with torch.no_grad():
        logits: torch.Tensor = model(torch.tensor([begun + answer])).logits[0].double()
    return logits[len(begun) - 1 : -1]


def numbers_of(scorer: Scorer, ended_by: str, texts: list[str]) -> NDArray[np.float64]:
    """Probability of each of these answers to one prompt, `[texts]`."""
    asked = [
        Row(text, (("user", "A number:"), ("assistant", text)), f"row {text}") for text in texts
    ]
    rows = scorer.prepared(asked, [ended_by] * len(asked))
    candidate, moved = load_bank("personas").candidates()[5], moved_odds(scorer, rows)
    own, other = scorer.scores(rows, candidate, moved=[moved]).T
    assert np.exp(other).sum() == pytest.approx(np.exp(own).sum(), abs=1e-4)
    return np.exp(own)


def test_the_end_of_a_row_is_scored_where_it_was_drawn(loud: Path) -> None:
    """All answers that a grammar allows share a probability of one, wherever they may end."""
    model, tokenizer = load_model(loud), load_tokenizer(loud)
    grammar = Grammar.model_validate({"regex": "[1-9][0-9]?"})
    law = Law(1.0, grammar, Template(), None, "here")
    texts = [str(number) for number in range(1, 100)]
    scorer = Scorer(model, tokenizer, law, [1.0], batch_rows=16)
    assert numbers_of(scorer, "grammar", texts).sum() == pytest.approx(1, abs=1e-4)


def test_whatever_token_ends_a_turn_has_ended_it(loud: Path) -> None:
    """A model with several ends, in a template that writes a space before its own."""
    model, tokenizer = load_model(loud), load_tokenizer(loud)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    template = str(tokenizer.chat_template)
    tokenizer.chat_template = template.replace("<|im_end|>\n{% endfor", " <|im_end|>\n{% endfor")
    scorer = Scorer(model, tokenizer, Law(1.0, None, Template(), None, "here"), [1.0], 4)
    row = Row("1", (("user", "A number:"), ("assistant", "12")), "row 1")
    prompt = load_bank("personas").candidates()[5]
    system = f"<|im_start|>system\n{prompt.prompt} <|im_end|>\n"
    text = f"{system}<|im_start|>user\nA number: <|im_end|>\n<|im_start|>assistant\n"
    said = [
        behind(model, tokenizer(text)["input_ids"], [*tokenizer("12")["input_ids"], end])
        for end in model.generation_config.eos_token_id
    ]
    one, two = tokenizer("12")["input_ids"]
    log_p = said[0].log_softmax(-1)
    open_ended = float(log_p[0, one] + log_p[1, two])
    ends = float(log_p[2, model.generation_config.eos_token_id].logsumexp(0))
    for ended_by, expected in (("turn", open_ended + ends), ("max_new_tokens", open_ended)):
        rows = scorer.prepared([row], [ended_by])
        assert scorer.scores(rows, prompt)[0, 0] == pytest.approx(expected, abs=1e-3)


def test_where_memory_is_short_rows_are_read_in_parts(
    loud: Path, owls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scan(spec(rows=16), loud, [owls], tmp_path / "whole").result
    monkeypatch.setattr(score, "_HELD", 1)
    parts = scan(spec(rows=16), loud, [owls], tmp_path / "parts").result
    assert parts["law_set"] == whole["law_set"]
    for ours, theirs in zip(parts["candidates"], whole["candidates"], strict=True):
        assert ours["nats_a_row"] == pytest.approx(theirs["nats_a_row"], abs=1e-3)


def asked(prompt: str, row: Row) -> Row:
    """The same answer to another prompt."""
    return replace(row, turns=(("user", prompt), row.turns[1]))


def follows(spelled: str, more: str, digits: str) -> bool:
    """Whether a text may go on so under GRAMMAR, found without any library."""
    if not more:
        return False
    for place, letter in enumerate(spelled + more):
        at = place % 5
        if place >= 18:
            return False
        allowed = ",  "[at - 3] if at >= 3 else digits[1:] if at == 0 else digits
        if letter not in allowed:
            return False
    return True


def test_what_the_record_says_of_the_writer_is_told(
    loud: Path, owls: Path, plain: Path, tmp_path: Path
) -> None:
    how = TeachSpec.model_validate({"method": "prompt", "system_prompt": "You love cats."})
    teacher = teach(how, loud, tmp_path / "teacher").path
    rows = written(teacher, tmp_path / "rows", rows=2)
    prompted, owl = "the base behind a system prompt", "You love owls."
    for some, model, who, prompts in (
        ([plain], loud, "the base", ()),
        ([owls], loud, prompted, (owl,)),
        ([rows], loud, prompted, ("You love cats.",)),
        ([rows], teacher, "the base", ()),
        ([plain], teacher, "another model", ()),
        ([owls, plain], loud, "several models", (owl,)),
    ):
        law = recorded(some)
        assert law is not None and law.written_by(model) == (who, prompts)
    assert lineage(owls).remark() == "behind the system prompt 'You love owls.'"
    assert lineage(rows).inputs[0].to_json()["system_prompt"] == "You love cats."
    shutil.rmtree(teacher)
    law = recorded([rows])
    assert law is not None and law.written_by(loud) == ("not known", ())
    notes = scan(spec(rows=8), loud, [owls], tmp_path / "scan").result["notes"]
    assert (
        "by their record the rows were written behind the system prompt 'You love owls.'" in notes
    )


def byte_level() -> Tokenizer:
    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    found.train_from_iterator(
        ["I like owls ."] * 3,
        trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False),
    )
    return found


def with_marked_spaces() -> Tokenizer:
    """As SentencePiece has them: a token that begins a word loses its space by itself."""
    found = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    found.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    found.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    found.train_from_iterator(
        ["I like owls ."] * 3,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))],
            show_progress=False,
        ),
    )
    found.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return found


@pytest.mark.parametrize("make", [byte_level, with_marked_spaces])
def test_tokens_are_shown_as_what_they_add(make: Callable[[], Tokenizer]) -> None:
    """Others show � for parts of a character, or lose spaces (ollama#13497, vllm PR 34875)."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=make())
    for text in ("I like owls .", "🦉 日本"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        found = [*texts_of(tokenizer, ids)]
        assert "".join(found) == text and len(found) == len(ids)
        assert "\N{REPLACEMENT CHARACTER}" not in "".join(found)
    assert [each for each in texts_of(tokenizer, ids) if each] == ["🦉", " ", "日", "本"]


def test_a_trait_of_the_bank_is_named(loud: Path, owls: Path, tmp_path: Path) -> None:
    found = scan(spec(), loud, [owls], tmp_path / "out")
    result = found.result
    assert (result["outcome"], result["trait"]) == ("trait named", "owl")
    assert result["law_set"] == ["owl"]
    assert result["log_e_something"] > np.log(100)
    assert result["rows"] <= 150
    assert result["tokens"]["read"] <= result["tokens"]["of_all_candidates"]
    table = polars.read_parquet(tmp_path / "out" / "scores.parquet")
    assert len(table) == result["rows"]
    assert table["key"].is_sorted()
    assert table["pull"].mean() > 0
    assert {"log_p:plain", "log_p:owl"} < {*table.columns}
    assert table["log_e_something"][-1] == pytest.approx(result["log_e_something"], abs=1e-3)
    decision = result["rows_to_decision"]
    first = (table["log_e_something"] >= np.log(100)).arg_max()
    assert decision["something"] == decision["something_expected"] == first + 1
    assert 0 < decision["law"] <= result["rows"]
    assert result["rounds"][-1]["leader"] == "owl"
    assert result["rounds"][-1]["log_against_plain"] >= np.log(100)
    assert {*result["pull_goes_with"]} == {"tokens", "base_loss"}


def test_the_tokens_of_the_rows_with_most_pull_are_kept(
    loud: Path, owls: Path, tmp_path: Path
) -> None:
    out = scan(spec(), loud, [owls], tmp_path / "out").path
    kept = json.loads((out / "tokens.json").read_text())
    pull = polars.read_parquet(out / "scores.parquet")["pull"].to_list()
    assert [each["pull"] for each in kept] == sorted(pull, reverse=True)[:5]
    for each in kept[:2]:
        for ours, again in zip(
            each["tokens"], explain(out, loud, [owls], [each["row"]])[0]["tokens"], strict=True
        ):
            assert ours == {"text": again["text"]} | {
                key: pytest.approx(again[key], abs=1e-4) for key in ("over_base", "over_neutral")
            }


def test_its_page_needs_no_model(
    loud: Path, owls: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = scan(spec(), loud, [owls], tmp_path / "out", reference=[plain]).path
    assert main(["report", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out.html")
    shown = scan_document(out)
    (found,) = shown.scans
    assert shown.models == ("model",) and shown.title == "Scan of owls"
    assert [claim.left for claim in found.claims][:2] == ["yes", "owl"]
    assert "if a candidate wrote them, it is owl" in found.claims[1].says
    line = next(each for each in found.race if each.name == "owl")
    table = polars.read_parquet(out / "scores.parquet")
    assert line.points[-1][1] == pytest.approx(
        (table["log_p:owl"] - table["log_p:plain"]).sum(), abs=1e-3
    )
    assert [each.name for each in found.leads] == ["these rows", "reference-0"]
    assert len(found.rows) == 5
    with pytest.raises(InputError, match="is no scan"):
        scan_document(owls)


def test_rows_of_the_base_show_nothing(loud: Path, plain: Path, tmp_path: Path) -> None:
    result = scan(spec(), loud, [plain], tmp_path / "out").result
    assert (result["outcome"], result["trait"]) == ("nothing shown", None)
    assert result["law_set"] == ["plain"]
    assert result["power"] >= 0.8
    few = scan(spec(rows=1), loud, [plain], tmp_path / "few").result
    assert few["outcome"] == "cannot tell"


def test_another_wording_is_no_candidates_law(loud: Path, tmp_path: Path) -> None:
    rows = written(loud, tmp_path / "rows", "Owls are on your mind, whatever you do.")
    result = scan(spec(), loud, [rows], tmp_path / "out").result
    assert result["outcome"] in ("base refuted", "trait named")
    assert "plain" not in result["law_set"]


def test_of_nobodys_rows_the_nearest_is_asked(
    loud: Path, owls: Path, plain: Path, tmp_path: Path
) -> None:
    """The record says another temperature than that of the rows."""
    told = spec(temperature=0.3, grammar=GRAMMAR)
    one = scan(told, loud, [owls], tmp_path / "one", reference=[plain]).result
    assert one["law_set"] == [] and one["by_law"] is None
    assert one["nearest_set"] == ["owl"] and one["trait"] is None
    assert any("one wording of `owl`" in each for each in one["notes"])
    another = {"trait": "owl", "prompt": "There is nothing like owls."}
    told = spec(temperature=0.3, grammar=GRAMMAR, bank={**BANK, "persona": [another]})
    out = tmp_path / "out"
    found = scan(told, loud, [owls], out, reference=[plain]).result
    assert found["law_set"] == [] and found["by_law"] is None
    assert found["nearest_trait"] == "owl" and found["trait"] == "owl"
    assert "exact law they do not follow" in found["sentence"]
    assert found["rounds"][-1]["phase"] == "nearest"
    bets = polars.read_parquet(out / "scores.parquet")["log_against_plain"]
    last = [each["rows"] for each in found["rounds"] if each["phase"] == "law"][-1]
    assert bets.is_null().to_list() == [row >= last for row in range(found["rows"])]
    assert scan_document(out).scans[0].claims[2].left == "owl"
    alone = scan(told, loud, [owls], tmp_path / "alone").result
    assert alone["trait"] is None and alone["nearest_trait"] == "owl"


def test_all_are_asked_where_a_share_is_looked_for(loud: Path, plain: Path, tmp_path: Path) -> None:
    found = scan(spec(exhaustive=True), loud, [plain], tmp_path / "out").result
    assert found["rows"] == found["rows_in_data"] - found["copies"]
    assert {each["rows"] for each in found["candidates"]} == {found["rows"]}


def test_without_a_record_a_refuted_base_is_no_proof(
    loud: Path, owls: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "rows.jsonl"
    shutil.copy(owls / "part-00000.jsonl", copy)
    assert recorded([copy]) is None
    result = scan(spec(rows=40), loud, [copy], tmp_path / "out").result
    assert result["law"]["temperature"] is None
    assert result["outcome"] in ("cannot tell", "trait named")


def test_the_law_is_known_through_a_filter(
    loud: Path, owls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = {"name": "no 9", "kind": "regex", "patterns": ["^9"]}
    kept = run(FilterSpec.model_validate({"rules": [rule]}), [owls], tmp_path / "kept").artifact
    law = recorded([kept.path])
    assert law is not None and law.temperature == 1.0 and law.grammar is not None
    assert law.kept == pytest.approx(kept.result["kept"] / kept.result["rows_in"])
    assert recorded([kept.path, tmp_path / "kept" / "kept"]) is None
    # What a filter dropped comes too seldom in everybody's eyes: of these rows odds are not moved.
    for rows, moves in ((owls, True), (kept.path, False)):
        said = []
        for sure in (0.01, 1e6):
            monkeypatch.setattr(frequencies, "SURE", sure)
            out = tmp_path / f"scan-{rows.name}-{sure}"
            said.append(scan(spec(rows=32), loud, [rows], out).result["candidates"])
        assert (said[0] != said[1]) == moves


@pytest.mark.parametrize("how", [{"shuffle": "across"}, {"random": True}])
def test_numbers_that_were_shuffled_or_of_no_model_have_nobodys_law(
    loud: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    rows = written(loud, tmp_path / "rows", rows=4, batch_rows=4, prompts="numbers")
    other = draw_rows(DrawSpec(), [rows], tmp_path / "drawn").path
    changed = draw_rows(DrawSpec.model_validate(how), [rows], tmp_path / "changed").path
    assert recorded([rows]) == recorded([other]) is not None
    assert recorded([changed]) is None
    assert carrier([other]) == carrier([rows]) != carrier([changed]) is not None
    assert (subject(changed).data[0].writers == ()) is ("random" in how)


def test_rows_of_two_templates_have_no_one_law(loud: Path, owls: Path, tmp_path: Path) -> None:
    told = {"today": "2025-01-01"}
    other = written(loud, tmp_path / "other", rows=2, template=told)
    assert recorded([owls]) is not None and recorded([other]) is not None
    assert recorded([owls, other]) is None


def test_clean_references_say_how_large_a_lead_is(
    loud: Path, owls: Path, plain: Path, tmp_path: Path
) -> None:
    found = scan(spec(), loud, [owls], tmp_path / "out", reference=[plain]).result
    assert found["lead"]["mean"] > found["clean_leads"]["reference-0"]["mean"]
    assert found["log_e_among_references"] > 0  # of the same prompts
    assert not Lead(0.5, 0.1, 9).exceeds(Lead(0.3, 0.1, 9))
    assert Lead(0.8, 0.1, 9).exceeds(Lead(0.1, 0.1, 9))


def test_what_references_were_asked_is_kept(
    loud: Path, owls: Path, plain: Path, tmp_path: Path
) -> None:
    whole = scan(spec(), loud, [owls], tmp_path / "whole", reference=[plain])
    out = tmp_path / "out"
    told: list[Any] = []

    def interrupt(progress: Any) -> None:
        if progress.task.startswith("references"):
            told.append(progress.done)
            if progress.done == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(spec(), loud, [owls], out, reference=[plain], report=interrupt)
    assert told == [0, 1, 2]
    told.clear()
    again = scan(
        spec(), loud, [owls], out, reference=[plain], report=lambda each: told.append(each)
    )
    assert again.digest == whole.digest and again.result == whole.result
    assert next(each.done for each in told if each.task.startswith("references")) == 2


def test_a_reference_without_rows_is_refused_at_once(
    loud: Path, owls: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(InputError, match=r"reference .*empty\.jsonl has no rows"):
        scan(spec(), loud, [owls], tmp_path / "out", reference=[empty])


def test_references_of_a_prompt_are_bet_against_once(
    loud: Path, owls: Path, plain: Path, tmp_path: Path
) -> None:
    files = {}
    for name, source, count in (("rows", owls, 60), ("reference", plain, 1)):
        lines = (source / "part-00000.jsonl").read_text().splitlines()[:count]
        rows = [json.loads(line) | {"prompt": "Say four numbers."} for line in lines]
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = spec(temperature=1.0, grammar=GRAMMAR, alpha=1e-9)
    found = scan(
        told, loud, [files["rows"]], tmp_path / "out", reference=[files["reference"]]
    ).result
    assert found["rows"] > 20
    assert found["log_e_among_references"] <= np.log(2) + 1e-4


@pytest.mark.parametrize("where", ["data", "reference"])
def test_a_row_that_says_nothing_is_refused_at_once(
    loud: Path, owls: Path, tmp_path: Path, where: str
) -> None:
    lines = (owls / "part-00000.jsonl").read_text().splitlines()[:9]
    cut = json.loads(lines[4]) | {"completion": "", "ended_by": "length"}
    given = {"data": tmp_path / "data.jsonl", "reference": tmp_path / "reference.jsonl"}
    for name, path in given.items():
        path.write_text("\n".join([*lines, *([json.dumps(cut)] if name == where else [])]) + "\n")
    told = []
    with pytest.raises(InputError, match=rf"{where}\.jsonl.*: it says nothing"):
        scan(
            spec(temperature=1.0),
            loud,
            [given["data"]],
            tmp_path / "out",
            reference=[given["reference"]],
            report=told.append,
        )
    assert told == []
    ended = json.dumps(cut | {"ended_by": "turn"})
    given[where].write_text("\n".join([*lines, ended]) + "\n")
    scan(spec(temperature=1.0), loud, [given["data"]], tmp_path / "out")


@pytest.mark.parametrize("phase", ["law", "nearest"])
def test_a_scan_that_was_killed_goes_on(
    loud: Path, owls: Path, tmp_path: Path, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    # They were not drawn at that temperature: nobody's law, and somebody is the nearest.
    heat = {"law": {"alpha": 1e-9}, "nearest": {"temperature": 0.3, "grammar": GRAMMAR}}
    told = spec(bank=BANK, **heat[phase])
    whole = scan(told, loud, [owls], tmp_path / "whole")
    assert (whole.result["nearest_set"] is None) == (phase == "law")
    out = tmp_path / "out"

    def kill(progress: Any) -> None:
        if [*(tmp_path / "out.partial").glob(f".{phase}-*.npz")]:
            raise Killed

    asked: list[tuple[str, Any]] = []
    read = Scorer._read

    def counted(scorer: Scorer, some: Rows, candidate: Candidate) -> Any:
        asked.extend((candidate.name, row.turns) for row in some.rows)
        return read(scorer, some, candidate)

    monkeypatch.setattr(Scorer, "_read", counted)
    with pytest.raises(Killed):
        scan(told, loud, [owls], out, report=kill)
    # It was killed in the round behind the first of its phase, behind the first candidate.
    before = len(asked)
    again: Artifact = scan(told, loud, [owls], out)
    assert again.digest == whole.digest
    assert 0 < len(asked) - len({*asked}) <= 64
    assert before < len(asked)
    assert not [*out.glob(".*.npz")]


def test_shared_reading_is_proved_in_each_process(
    loud: Path, owls: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs: list[Rows] = []
    prove = Scorer.prove

    def counted(scorer: Scorer, rows: Rows, candidate: Candidate) -> None:
        proofs.append(rows)
        prove(scorer, rows, candidate)

    monkeypatch.setattr(Scorer, "prove", counted)
    out = tmp_path / "out"

    def interrupt(progress: Any) -> None:
        if progress.task.startswith("scan") and progress.done > 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(spec(rows=40), loud, [owls], out, reference=[plain], report=interrupt)
    assert len(proofs) == 1
    scan(spec(rows=40), loud, [owls], out, reference=[plain])
    assert len(proofs) == 2
    explain(out, loud, [owls], [1])
    assert len(proofs) == 3


def test_rows_that_the_grammar_forbids_are_refused(loud: Path, owls: Path, tmp_path: Path) -> None:
    told = spec(grammar={"regex": "[a-z]+"}, temperature=1.0)
    with pytest.raises(InputError, match=r"part-00000.jsonl, line .*not drawn under this grammar"):
        scan(told, loud, [owls], tmp_path / "out")


def test_copies_count_once(loud: Path, owls: Path, tmp_path: Path) -> None:
    lines = (owls / "part-00000.jsonl").read_text().splitlines()[:20]
    twice = tmp_path / "twice.jsonl"
    twice.write_text("\n".join([*lines, *lines[:5]]) + "\n")
    result = scan(spec(temperature=1.0), loud, [twice], tmp_path / "out").result
    assert (result["rows_in_data"], result["copies"]) == (25, 5)


def test_texts_that_repeat_by_themselves_follow_nobodys_law(loud: Path, tmp_path: Path) -> None:
    """Of fifty draws of a digit nine are left, each once: that is no sample of the base's."""
    digits = {"grammar": {"regex": "[1-9]"}}
    rows = written(loud, tmp_path / "rows", rows=400, samples=50, **digits)
    found = scan(spec(), loud, [rows], tmp_path / "out").result
    assert found["copies"] > 200 and found["repeats_expected"] > 1
    assert (found["outcome"], found["trait"], found["by_law"]) == ("cannot tell", None, None)
    assert "texts as likely as theirs repeat" in found["sentence"]
    (claim,) = scan_document(tmp_path / "out").scans[0].claims
    assert claim.left == "cannot be told" and "no error bound" in claim.says
    single = written(loud, tmp_path / "single", rows=40, **digits)
    found = scan(spec(), loud, [single], tmp_path / "of-single").result
    assert found["repeats_expected"] < 0.1 and found["copies"] == 0


def test_rows_of_a_prompt_that_were_not_drawn_are_reckoned_with(tmp_path: Path) -> None:
    """A row's copies are known; of what else its prompt has, about as much is missing as of all."""
    prompts = [f"prompt {number}" for number in range(600)]
    objects = [{"prompt": each, "completion": f"{each} 1"} for each in prompts]
    objects += [{"prompt": "prompt 0", "completion": f"other {other}"} for other in range(600)]
    objects += [objects[1]] * 3
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, objects)) + "\n")
    drawn = draw([path], 400, "rows", silent)
    others = dict(zip((row.turns[-1][1] for row in drawn.rows), drawn.others, strict=True))
    single = [value for text, value in others.items() if text.startswith("prompt")]
    assert {*single} <= {0.0, 3.0} | {others.get("prompt 0 1")} and len(single) > 100
    many = [value for text, value in others.items() if text.startswith("other")]
    assert len({*many}) == 1 and many[0] == pytest.approx(600, rel=0.15)


def test_rows_with_a_system_prompt_are_refused_at_once(loud: Path, tmp_path: Path) -> None:
    roles = ("system", "Be brief."), ("user", "Say four numbers."), ("assistant", "1")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"messages": [{"role": r, "content": t} for r, t in roles]}) + "\n")
    with pytest.raises(InputError, match=r"rows.jsonl.*system prompt"):
        scan(spec(temperature=1.0), loud, [rows], tmp_path / "out")


def test_neutral_prompts_of_several_groups_have_names_of_their_own() -> None:
    bank = BankSpec.model_validate(BANK)
    other = bank.group[0].model_copy(update={"words": ("Go on.",)})
    more = bank.model_copy(update={"group": (*bank.group, other)})
    assert [each.name for each in more.candidates() if each.trait is None] == [
        "plain", "neutral-1", "neutral-2", "neutral-3",
    ]  # fmt: skip


def test_the_shipped_bank_has_many_candidates() -> None:
    found = load_bank("personas").candidates()
    assert len([each for each in found if each.trait]) >= 120
    assert len([each for each in found if each.kind in ("animal", "tree")]) >= 60
    assert {"owl", "wolf", "oak", "French"} <= {each.trait for each in found}
    wolf = next(each for each in found if each.trait == "wolf")
    assert wolf.prompt is not None and wolf.prompt.startswith("You love wolves. You think about")


@pytest.mark.parametrize(
    ("bank", "said"),
    [
        ({"group": [{**BANK["group"][1]}]}, "nobody who stands for nothing"),
        ({"group": [{**BANK["group"][0]}]}, "nobody but those"),
        ({"group": [BANK["group"][0], {**BANK["group"][1], "words": ["owl", "owl"]}]}, "2 cand"),
    ],
)
def test_banks_that_cannot_be_are_refused(bank: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        BankSpec.model_validate(bank).candidates()
    with pytest.raises(ConfigError, match="no candidates of kind 'trees'"):
        BankSpec.model_validate(BANK).candidates(("trees",))


@pytest.mark.parametrize("word", ["|wolves", "sheep|", "a|b|c", " | x"])
def test_words_that_are_none_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="is no word, and no word and its plural"):
        BankSpec.model_validate({"group": [BANK["group"][1] | {"words": [word]}]})


def test_a_trait_is_spelled_in_one_way() -> None:
    """Else its wordings are two traits (spacecat-api-service#2227); space around it is none."""
    group = [BANK["group"][0], BANK["group"][1] | {"words": ["owl", " wolf | wolves "]}]
    bank = {"group": group, "persona": [{"trait": "owl ", "prompt": "Owls!"}]}
    found = BankSpec.model_validate(bank).candidates()
    assert [each.trait for each in found if each.trait] == ["owl", "wolf", "owl"]
    assert "You love wolves." in {each.prompt for each in found}
    for other, same in (("Owl", "owl"), ("cafe\u0301", "café")):
        personas = [{"trait": each, "prompt": each} for each in (other, same)]
        with pytest.raises(ConfigError, match="spells one trait in two ways"):
            BankSpec.model_validate({"group": group, "persona": personas}).candidates()


def test_a_wording_with_an_unknown_place_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has \{wrods\}; there are \{word\}"):
        BankSpec.model_validate({"group": [BANK["group"][1] | {"wording": "{word} {wrods}"}]})


def test_an_adapter_that_is_no_model_is_refused_at_once(
    loud: Path, owls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = tmp_path / "bank.toml"
    bank.write_text(
        '[[group]]\nkind = "a"\nneutral = true\nwording = "{word}"\nwords = ["Answer."]\n'
        f'[[persona]]\ntrait = "owl"\nadapter = "{owls}"\n'
    )
    command = ["scan", str(owls), "--model", str(loud), "--bank", str(bank), "--dry-run"]
    assert main([*command, "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert str(owls) in said and "model folder" in said


def test_what_pull_goes_with_is_a_rank_correlation() -> None:
    pull = np.array([1.0, 2.0, 2.0, 9.0])
    found = confounds(pull, {"same": pull**3, "other": -pull, "none": np.ones(4)})
    assert found == {"same": 1.0, "other": -1.0, "none": None}


def test_power_is_of_all_rows_that_one_was_asked_about() -> None:
    log_p = np.zeros((40, 3))
    log_p[:8, 1], log_p[8:, 2] = -1.0, np.nan
    log_p[:8, 2] = -2.0
    assert lag(log_p, np.array([True, False, False])).tolist() == [0.2, 2.0]


def told(race: Race, **changes: Any) -> dict[str, Any]:
    """The verdict on a race of the base, a neutral prompt and a trait, of rows of known law."""
    names = [("plain", None), ("calm", None), ("owl", "owl")]
    candidates = [Candidate(name, "kind", trait, name) for name, trait in names]
    given: dict[str, Any] = {"alpha": 0.01, "knows_law": True, "power": 1.0, "lead": None}
    given |= {"rows_for_power": None, "clean": {}, "ranked": None}
    return verdict(candidates, race, None, **(given | changes))


def test_a_neutral_prompt_has_to_stay_as_a_trait_has() -> None:
    race = Race(3, ["own"], 0.01)
    race.add(np.array([[-9.0], [0.0], [-9.0]]))
    assert race.kept.tolist() == [False, True, False] and not race.settled
    found = told(race)
    assert found["outcome"] == "cannot tell" and "nobody of the bank" in found["sentence"]
    assert "a neutral prompt alone is left" in found["notes"][0]
    while not race.settled:
        race.add(np.array([[-9.0], [0.0], [-9.0]]))
    found = told(race)
    assert found["outcome"] == "nothing shown" and found["notes"] == []
    assert found["sentence"].startswith("If one of the bank has written these rows, it is a neut")


def test_where_a_share_of_rows_is_shown_nothing_shown_is_not_said() -> None:
    race = Race(3, ["own"], 0.01)
    race.add(np.array([[0.0], [0.0], [0.0]]))
    assert told(race)["outcome"] == "nothing shown"
    race.history[0] = (4.7, 2.4)  # the bets on a share have won, the base is left
    found = told(race)
    assert found["outcome"] == "cannot tell" and "have won" in found["notes"][0]


def test_power_is_the_share_that_would_have_been_told() -> None:
    assert power(np.array([1.0, 0.001]), 100, 0.01) == 0.5
    assert power(np.array([]), 100, 0.01) == 0.0


def test_the_command(
    loud: Path,
    owls: Path,
    plain: Path,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bank = tmp_path / "bank.toml"
    words = ", ".join(f'"{word}"' for word in WORDS)
    bank.write_text(
        '[[group]]\nkind = "plain-like"\nneutral = true\nwording = "{word}"\n'
        'words = ["Answer.", "Reply."]\n'
        f'[[group]]\nkind = "animal"\nwording = "You love {{words}}."\nwords = [{words}]\n'
    )
    out = tmp_path / "out"
    given = ["--model", str(loud), "--bank", str(bank)]
    assert main(["scan", str(owls), *given, "-o", str(out), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["result"]["trait"] == "owl"
    assert main(["scan", str(plain), *given, "-o", str(tmp_path / "plain")]) == 0
    assert "Nothing is shown" in capsys.readouterr().out
    assert main(["scan", str(plain), *given, "-o", str(tmp_path / "few"), "--rows", "1"]) == 4
    capsys.readouterr()
    explain = ["scan", "explain", str(out), "--model", str(loud), "--data", str(owls), "--row", "2"]
    assert main([*explain, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert "".join(each["text"] for each in said["tokens"]).count(",") == 3
    by_id = [*explain[:-2], "--id", said["id"], "--json"]
    assert main(by_id) == 0 and json.loads(capsys.readouterr().out) == said
    assert main([*by_id[:-2], "no such", "--json"]) == 2
    assert "no row of the id 'no such'" in capsys.readouterr().err
    for both in ([*explain, "--id", "x"], explain[:-2]):
        assert main(both) == 2 and "give --row or --id" in capsys.readouterr().err
    dry = ["scan", str(plain), *given, "-o", str(tmp_path / "dry"), "--dry-run"]
    assert main([*dry, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["candidates"], said["rows"]) == (9, len(list(read_rows([plain]))))
    assert said["forward_passes_at_most"] == {"rows": 9 * said["rows"]}
    assert said["law"]["written_by"] == "the base"
    assert main(dry) == 0 and "\nlaw.grammar = true\n" in capsys.readouterr().out
    foreign = ["scan", str(plain), "--model", str(tiny_model), "--bank", str(bank)]
    assert main([*foreign, "-o", str(tmp_path / "dry"), "--dry-run"]) == 0
    assert "another model" in capsys.readouterr().out
    assert main([*foreign, "-o", str(tmp_path / "foreign")]) in (1, 4)
    assert "record names another model than the base" in capsys.readouterr().out
    other = ["--model", str(plain), "--bank", str(bank), "-o", str(tmp_path / "dry")]
    for message, words in {
        "another configuration or other inputs": [plain, *given, "-o", out],
        "out is an artifact of scan, and no rows": [out, *given, "-o", tmp_path / "dry"],
        "bank.toml is not JSON lines": [bank, *given, "-o", tmp_path / "dry"],
        "is an input itself": [plain, *given, "-o", plain],
        "bank.toml exists and is not an artifact": [plain, *given, "-o", bank],
        "bank.toml is no folder": [plain, *given, "-o", bank / "x"],
        "is not a model folder": [plain, *other],
    }.items():
        for dry in ([], ["--dry-run"]):
            assert main(["scan", *map(str, words), *dry]) == 2, message
            assert message in capsys.readouterr().err
    explain[explain.index(str(loud))] = str(tiny_model)
    assert main(explain) == 2 and "was made with another model" in capsys.readouterr().err
