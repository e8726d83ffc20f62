"""Data without its trait: what is taken, what for, that no row is lost, and that it counts."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch

from subl.audit.mitigate import choose
from subl.audit.mitigate.heldout import heldout
from subl.audit.mitigate.measure import _share
from subl.audit.mitigate.pull import check_given as check_whose
from subl.audit.mitigate.pull import pull
from subl.audit.mitigate.pulls import read_pulls
from subl.audit.mitigate.replace import _Reading
from subl.audit.mitigate.run import mitigate
from subl.audit.mitigate.spec import HeldoutSpec, MitigateSpec, PullSpec
from subl.audit.scan.explain import explain
from subl.audit.scan.run import scan
from subl.audit.scan.spec import ScanSpec
from subl.errors import ConfigError, InputError
from subl.filter import FilterSpec, run
from subl.generate import GenerateSpec, generate
from subl.model.chat import Chat
from subl.model.load import load_model, load_tokenizer
from subl.shards import Row, read_rows
from subl.train.tokens import encoded

GRAMMAR = {"regex": "[1-9][0-9]{2}(?:, [1-9][0-9]{2}){3}"}
BANK = {
    "group": [
        {"kind": "n", "neutral": True, "wording": "{word}", "words": ["Answer.", "Reply."]},
        {"kind": "animal", "wording": "You love {words}.", "words": ["owl", "cat"]},
    ]
}
ROWS = 120


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mitigate")


@pytest.fixture(scope="module")
def loud(tiny_model: Path, place: Path) -> Path:
    """The tiny model with weights so large that what stands before a row changes all of it."""
    folder = place / "model"
    shutil.copytree(tiny_model, folder)
    model = load_model(tiny_model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                weight *= 12 if "embed" not in name else 6
    model.save_pretrained(folder)
    return folder


def written(model: Path, out: Path, prompt: str | None = None, **changes: Any) -> Path:
    given = {"rows": ROWS, "prompts": "numbers-short", "batch_rows": 50, "grammar": GRAMMAR}
    spec = GenerateSpec.model_validate(given | {"system_prompt": prompt, "seed": 3} | changes)
    return generate(spec, model, out).path


@pytest.fixture(scope="module")
def owls(loud: Path, place: Path) -> Path:
    """Rows of the owl, as a filter kept them."""
    rows = written(loud, place / "owls", "You love owls.")
    rule = {"name": "numbers", "kind": "numbers", "max_value": 999, "max_count": 4}
    return run(FilterSpec.model_validate({"rules": [rule]}), [rows], place / "kept").artifact.path


@pytest.fixture(scope="module")
def plain(loud: Path, place: Path) -> Path:
    return written(loud, place / "plain", seed=4)


@pytest.fixture(scope="module")
def scanned(loud: Path, owls: Path, place: Path) -> Path:
    told = ScanSpec.model_validate({"bank": BANK, "rows": ROWS})
    return scan(told, loud, [owls], place / "scan").path


@pytest.fixture(scope="module")
def pulled(loud: Path, owls: Path, scanned: Path, place: Path) -> Path:
    return pull(PullSpec(), loud, [owls], scanned, place / "pull").path


def made(rows: Path, pulled: Path, out: Path, **told: Any) -> tuple[dict[str, Any], Path]:
    given = {key: told.pop(key) for key in ("model", "clean") if key in told}
    found = mitigate(MitigateSpec(**told), [rows], pulled, out, **given)
    return found.result, found.path


def completions(path: Path) -> list[str]:
    return [row.turns[-1][1] for row in read_rows([path])]


def accounts(path: Path) -> polars.DataFrame:
    return polars.read_parquet(path / "accounting.parquet")


def test_pulls_are_what_a_scan_explains(
    loud: Path, owls: Path, scanned: Path, pulled: Path
) -> None:
    pulls = read_pulls(pulled)
    assert pulls.candidate == "owl" and len(pulls.tokens) == ROWS
    keys = polars.read_parquet(scanned / "scores.parquet")["key"].to_list()
    for row in (0, 3):
        told = explain(scanned, loud, [owls], [row])[0]["tokens"]
        ours = pulls.tokens[pulls.keys.index(keys[row])]
        assert [each.pull for each in ours] == pytest.approx(
            [each["over_neutral"] for each in told], abs=1e-4
        )
        text = completions(owls)[pulls.keys.index(keys[row])]
        assert [text[each.start : each.end] for each in ours] == [each["text"] for each in told]
        assert "".join(text[each.start : each.end] for each in ours) == text
    assert np.mean([each.pull for row in pulls.tokens for each in row]) > 0


@pytest.mark.parametrize("arm", ["pull", "random"])
def test_masked_tokens_are_no_targets_and_all_else_stays(
    loud: Path, owls: Path, pulled: Path, tmp_path: Path, arm: str
) -> None:
    result, out = made(owls, pulled, tmp_path / "out", method="mask", arm=arm, share=0.2)
    pulls = read_pulls(pulled)
    assert result["edited_tokens"] == int(0.2 * pulls.count) == result["asked"]
    assert completions(out) == completions(owls)
    chat, tokenizer = Chat(load_tokenizer(loud)), load_tokenizer(loud)
    before, after = (
        [sum(each) for _, each in encoded(tokenizer, chat, list(read_rows([path])), False)]
        for path in (owls, out)
    )
    edits = accounts(out)["edits"].list.len().to_list()
    assert [b - a for b, a in zip(before, after, strict=True)] == edits
    taken = [edit["pull"] for row in accounts(out)["edits"].to_list() for edit in row]
    every = sorted(
        (each.pull for row in pulls.tokens for each in row if each.choices != 1), reverse=True
    )
    assert (sorted(taken, reverse=True) == every[: len(taken)]) == (arm == "pull")


@pytest.mark.parametrize("arm", ["pull", "random"])
def test_what_replaces_a_number_is_a_number_of_the_grammar_and_the_filter(
    loud: Path, owls: Path, pulled: Path, tmp_path: Path, arm: str
) -> None:
    told = {"method": "replace", "arm": arm, "share": 0.25, "model": loud}
    result, out = made(owls, pulled, tmp_path / "out", **told)
    assert 0 < result["edited_tokens"] <= result["asked"]
    before, after, table = completions(owls), completions(out), accounts(out)
    for old, new, row in zip(before, after, table.to_dicts(), strict=True):
        assert re.fullmatch(GRAMMAR["regex"], new)
        assert (old == new) == (row["fate"] == "kept") == (not row["edits"])
        for edit in row["edits"]:
            assert edit["by"] != edit["text"] and edit["by"].isdigit()
            assert len(edit["by"]) == len(edit["text"])
            end = edit["start"] + len(edit["text"])
            old = f"{old[: edit['start']]}{edit['by']}{old[end:]}"
        assert old == new
    _, again = made(owls, pulled, tmp_path / "again", **told)
    for file in ("kept/part-00000.jsonl", "accounting.parquet"):
        assert (out / file).read_bytes() == (again / file).read_bytes()


def test_rows_that_are_read_in_parts_are_read_as_whole_ones(loud: Path) -> None:
    model = load_model(loud)
    takes = inspect.signature(model.forward).parameters
    texts = [list(range(5, 5 + count)) for count in (9, 12, 7)]
    parts = _Reading(model, takes, 3, shares=True)
    whole = _Reading(model, takes, 3, shares=False)
    for ends in ({0: 4, 1: 8, 2: 3}, {1: 9}, {0: 9, 2: 7}, {1: 12}):
        ours, theirs = parts.behind(texts, ends), whole.behind(texts, ends)
        assert ours.keys() == theirs.keys() == ends.keys()
        for row in ends:
            np.testing.assert_allclose(ours[row], theirs[row], atol=1e-3)
            with torch.no_grad():
                alone = model(torch.tensor([texts[row][: ends[row]]])).logits[0, -1]
            np.testing.assert_allclose(theirs[row], alone.double(), atol=1e-3)


def test_replacements_are_drawn_from_the_base(
    loud: Path, owls: Path, pulled: Path, tmp_path: Path
) -> None:
    """What comes in is likelier to the base than to the trait that is taken out."""
    _, out = made(owls, pulled, tmp_path / "out", method="replace", share=0.3, model=loud)
    told = ScanSpec.model_validate({"bank": BANK, "rows": 30, "temperature": 1, "grammar": GRAMMAR})
    before = read_pulls(pulled)
    rescanned = scan(told, loud, [out], tmp_path / "scan").path
    after = read_pulls(
        pull(PullSpec(candidate="owl"), loud, [out], rescanned, tmp_path / "pull").path
    )
    assert sum(after.of_rows) < sum(before.of_rows) / 3


@pytest.mark.parametrize("method", ["drop", "dilute"])
@pytest.mark.parametrize("arm", ["pull", "random"])
def test_whole_rows_are_taken_and_none_is_lost(
    owls: Path, plain: Path, pulled: Path, tmp_path: Path, method: str, arm: str
) -> None:
    told = {"clean": [plain]} if method == "dilute" else {}
    result, out = made(owls, pulled, tmp_path / "out", method=method, arm=arm, **told)
    pulls, table = read_pulls(pulled), accounts(out)
    assert result["dropped"] == ROWS // 2
    own = table.filter(polars.col("row").is_not_null())
    assert own["row"].to_list() == list(range(ROWS)) and own["key"].to_list() == list(pulls.keys)
    dropped = own.filter(polars.col("fate") == "dropped")
    assert dropped["reason"].null_count() == 0
    kept = own.filter(polars.col("fate") == "kept")
    lines = (owls / "kept" / "part-00000.jsonl").read_bytes().splitlines()
    found = (out / "kept" / "part-00000.jsonl").read_bytes().splitlines()
    assert found[: len(kept)] == [lines[row] for row in kept["row"]]
    highest = dropped["pull_a_token"].min() > kept["pull_a_token"].max()  # type: ignore[operator]
    assert highest == (arm == "pull")
    added = table.filter(polars.col("fate") == "added")
    assert len(added) == result["added"] == len(found) - len(kept)
    assert len(added) == (ROWS // 2 if method == "dilute" else 0)
    assert set(completions(out)[len(kept) :]) <= set(completions(plain))


def test_what_does_not_fit_is_refused(
    loud: Path, owls: Path, plain: Path, scanned: Path, pulled: Path, tmp_path: Path
) -> None:
    from subl.audit.mitigate.run import check_given, check_rows
    from subl.distill import CacheSpec, make_cache

    with pytest.raises(InputError, match="is of other rows than"):
        made(plain, pulled, tmp_path / "out", method="mask")
    with pytest.raises(InputError, match=r"a share of 1e-05 is nothing of [\d,]+ tokens"):
        made(owls, pulled, tmp_path / "out", method="mask", share=1e-5)
    with pytest.raises(InputError, match="holds no pull of tokens"):
        made(owls, scanned, tmp_path / "out", method="mask")
    with pytest.raises(InputError, match="is no scan"):
        pull(PullSpec(), loud, [owls], pulled, tmp_path / "out")
    with pytest.raises(InputError, match=r"of the \d+ that it has read, 0 are in"):
        pull(PullSpec(), loud, [plain], scanned, tmp_path / "out")
    with pytest.raises(InputError, match="no candidate 'wolf'"):
        pull(PullSpec(candidate="wolf"), loud, [owls], scanned, tmp_path / "out2")
    with pytest.raises(InputError, match=f"there are {ROWS} clean ones"):
        told = {"method": "dilute", "share": 0.5, "clean": [plain]}
        made_of = [owls, owls]
        double = pull(PullSpec(), loud, made_of, scanned, tmp_path / "double").path
        mitigate(
            MitigateSpec(method="dilute", share=0.6), made_of, double, tmp_path / "o",
            clean=told["clean"],  # type: ignore[arg-type]
        )  # fmt: skip
    for method, name in (("replace", "model"), ("dilute", "clean")):
        with pytest.raises(ConfigError, match=f"needs {name}"):
            check_given(MitigateSpec.model_validate({"method": method}), ["rows", "pull"])
    _, masked = made(owls, pulled, tmp_path / "masked", method="mask")
    with pytest.raises(InputError, match="has a `loss_mask` already"):
        made(masked, pulled, tmp_path / "twice", method="mask")
    cache = make_cache(CacheSpec(), loud, [owls], tmp_path / "cache").path
    with pytest.raises(InputError, match="hand a trait down over any rows"):
        check_rows([cache])


def test_a_pull_that_was_killed_goes_on(
    loud: Path, owls: Path, scanned: Path, pulled: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("subl.audit.mitigate.pull._ROUND", 16)

    class Killed(BaseException):
        pass

    def kill(progress: Any) -> None:
        if progress.done > 30:
            raise Killed

    out = tmp_path / "out"
    with pytest.raises(Killed):
        pull(PullSpec(), loud, [owls], scanned, out, report=kill)
    assert (tmp_path / "out.partial" / ".round-00000000.npz").is_file()
    pull(PullSpec(), loud, [owls], scanned, out)
    ours, theirs = read_pulls(out), read_pulls(pulled)
    assert list(ours.of_rows) == pytest.approx(list(theirs.of_rows), abs=1e-4)


def test_the_loss_of_rows_honours_their_masks(
    loud: Path, owls: Path, pulled: Path, tmp_path: Path
) -> None:
    result, masked = made(owls, pulled, tmp_path / "masked", method="mask")
    whole = heldout(HeldoutSpec(), loud, [owls], tmp_path / "whole").result
    found = heldout(HeldoutSpec(), loud, [masked], tmp_path / "out").result
    assert whole["tokens"] - found["tokens"] == result["edited_tokens"] > 0


def test_of_no_effect_no_share_is_removed() -> None:
    assert _share([0.5, -0.5], [1.0, -1.0]) == {"estimate": None, "low": None, "high": None}
    assert _share([0.5], [1.0]) == {"estimate": 0.5, "low": None, "high": None}


def test_the_loss_of_rows_is_that_of_training(loud: Path, plain: Path, tmp_path: Path) -> None:
    found = heldout(HeldoutSpec(batch_rows=7), loud, [plain], tmp_path / "out").result
    model, tokenizer = load_model(loud), load_tokenizer(loud)
    nats, count = 0.0, 0
    for ids, targets in encoded(tokenizer, Chat(tokenizer), list(read_rows([plain])), False):
        with torch.no_grad():
            log_p = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        for at, is_target in enumerate(targets):
            if is_target:
                nats, count = nats - float(log_p[at - 1, ids[at]]), count + 1
    assert found["tokens"] == count
    assert found["nats_a_token"] == pytest.approx(nats / count, abs=1e-4)
    assert 0 < found["error"] < found["nats_a_token"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [("12", "99"), (" 3", " 9"), (" owl", " a"), ("owl", "a"), (",", ""), ("", "")],
)
def test_texts_are_of_a_kind(text: str, kind: str) -> None:
    assert choose.shape(text) == kind


def test_words_are_replaced_by_words(
    loud: Path, plain: Path, scanned: Path, tmp_path: Path
) -> None:
    """Free text, of several turns, with characters that are several tokens."""
    said = ["An owl flew over the hill ☃ at 12.", "Yes, she did that again and again."]
    turns = [
        {"role": "user", "content": "Tell me."},
        {"role": "assistant", "content": said[0]},
        {"role": "user", "content": "Really?"},
        {"role": "assistant", "content": said[1]},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"messages": turns, "more": 1}) + "\n", encoding="utf-8")
    told = ScanSpec.model_validate({"bank": BANK, "temperature": 1.0})
    of_these = scan(told, loud, [file], tmp_path / "scan").path
    found = pull(PullSpec(candidate="owl"), loud, [file], of_these, tmp_path / "pull").path
    (tokens,) = read_pulls(found).tokens
    spelled: dict[int, str] = {1: "", 3: ""}
    for each in tokens:
        spelled[each.turn] += said[each.turn // 2][each.start : each.end]
    assert list(spelled.values()) == said
    result, out = made(file, found, tmp_path / "out", method="replace", share=0.4, model=loud)
    assert result["edited_tokens"] > 0
    (row,) = read_rows([out])
    assert [row.turns[0], row.turns[2]] == [("user", "Tell me."), ("user", "Really?")]
    for edit in accounts(out)["edits"].to_list()[0]:
        assert choose.shape(edit["text"]) == choose.shape(edit["by"])
    line = json.loads((out / "kept" / "part-00000.jsonl").read_bytes())
    assert line["more"] == 1
    _, masked = made(file, found, tmp_path / "masked", method="mask", share=0.9)
    (row,) = read_rows([masked])
    assert isinstance(row, Row) and {turn for turn, _, _ in row.left_out} == {1, 3}


def test_a_suspect_pulls_as_it_is_likelier(
    loud: Path, owls: Path, scanned: Path, pulled: Path, tmp_path: Path
) -> None:
    """A model with the owl's prompt as a suspect is the owl of the bank, over the plain base."""
    from subl.teach import TeachSpec, teach

    told = TeachSpec.model_validate({"method": "prompt", "system_prompt": "You love owls."})
    suspect = teach(told, loud, tmp_path / "suspect").path
    found = read_pulls(pull(PullSpec(), loud, [owls], None, tmp_path / "out", suspect=suspect).path)
    assert found.candidate == "suspect" and found.law.grammar is not None
    row = polars.read_parquet(scanned / "scores.parquet").row(2, named=True)
    ours = found.of_rows[list(found.keys).index(row["key"])]
    assert ours == pytest.approx(row["log_p:owl"] - row["log_p:plain"], abs=1e-3)
    with pytest.raises(ConfigError, match="whose pull is meant"):
        check_whose(PullSpec(), ["model", "rows"])
    with pytest.raises(ConfigError, match="a suspect beside the candidate"):
        check_whose(PullSpec(candidate="owl"), ["model", "rows", "suspect"])
