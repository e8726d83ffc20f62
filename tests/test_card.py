"""A model's card for a hub: its own, the chain behind it, and what the weights say of that."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("securesystemslib")

from huggingface_hub import ModelCard

from subl.artifact import Made, build, lineage
from subl.audit.kin import Claim, Finding, kin
from subl.card import model_card
from subl.errors import InputError

from .cli.console import subl
from .sign.chains import Chain, Spec, chain_in


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return chain_in(tmp_path)


def test_a_card_has_the_chain_and_metadata(chain: Chain) -> None:
    text = model_card(lineage(chain.student), licence="apache-2.0")
    card = ModelCard(text)
    assert card.data.to_dict() == {
        "library_name": "transformers",
        "tags": ["subl", "distill"],
        "license": "apache-2.0",
    }
    rows = [line.split(" | ") for line in card.text.splitlines() if line.startswith("| `")]
    assert [row[0].strip("| `") for row in rows] == [
        "student", "base", "kept", "rows", "prompts.jsonl",
    ]  # fmt: skip
    digests = {row[2].strip("| `") for row in rows}
    assert lineage(chain.kept).digest in digests and all(len(each) == 64 for each in digests)
    assert "## Weights" not in card.text  # nobody has asked them


def test_the_base_on_a_hub_is_named(chain: Chain) -> None:
    base = chain.make("model", "hub", {}, source="org/base")
    student = chain.make("distill", "other", {"model": base, "rows-0": chain.kept})
    data = ModelCard(model_card(lineage(student))).data.to_dict()
    assert data["base_model"] == ["org/base"] and data["base_model_relation"] == "finetune"


@pytest.mark.parametrize("metadata", ["- a\n- b", "a: [", "model-index: [{name: x}]"])
def test_metadata_that_no_hub_takes_is_left_out(chain: Chain, metadata: str) -> None:
    def work(folder: Path) -> Made:
        (folder / "README.md").write_text(f"---\n{metadata}\n---\n# Mine\n\n---\nLast.\n")
        return Made({})

    made = build(chain.folder / "hub", "model", Spec(source="org/base"), {}, work)
    card = ModelCard(model_card(lineage(made.path)))
    assert card.text.strip().startswith("# Mine\n\n---\nLast.")


def test_what_weights_say_is_in_it(chain: Chain) -> None:
    claim = Claim("run/student", "models/ba|se", False, Finding.CONTRADICTED, "no relation | `x`")
    text = model_card(lineage(chain.student), [claim])
    [row] = [line for line in text.splitlines() if "contradict" in line]
    assert row.count("|") == 5 and "| `student` | `ba se` |" in row
    assert "No model in this chain" in model_card(lineage(chain.student), [])


def test_what_is_said_of_comparisons_is_what_was_done(chain: Chain, tiny_model: Path) -> None:
    found = kin(tiny_model, tiny_model, names=("a", "b"))
    measured = Claim("a", "b", False, Finding.CONSISTENT, "exact copy", found)
    adapter = Claim("c", "b", False, Finding.CONSISTENT, "it is an adapter")
    for claims, said in (
        ([measured], "has compared the weights of each model with"),
        ([adapter], "No weights were compared; each finding says why."),
        ([measured, adapter], "has compared the weights of 1 of 2 models"),
    ):
        text = model_card(lineage(chain.student), claims)
        assert said in text and text.count("ompared") == 1


def test_the_command_gives_it_of_models_that_are_verified(chain: Chain) -> None:
    options = ("--kin", "--license", "mit", "--progress", "none")
    done = subl("lineage", chain.student, "--format", "card", *options, cwd=chain.folder)
    assert (done.returncode, done.stderr) == (4, "")  # its weights are none
    assert "license: mit\n" in done.stdout
    assert "| `student` | `base` | cannot tell: " in done.stdout
    with pytest.raises(InputError, match="is no model"):
        model_card(lineage(chain.kept))
    (chain.kept / "more").write_text("")
    with pytest.raises(InputError, match="is not what its records say"):
        model_card(lineage(chain.student))
    done = subl("lineage", chain.student, "--format", "card", cwd=chain.folder)
    assert (done.returncode, done.stdout) == (1, "") and "more was added" in done.stderr
