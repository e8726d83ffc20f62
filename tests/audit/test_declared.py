"""What records say of models beside what their weights say: consistent or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from click.testing import CliRunner
from transformers import PreTrainedModel

from subl.artifact import Made, StageSpec, build, lineage
from subl.audit.kin import Finding, Verdict, declared
from subl.model.condition import write_prompt
from subl.recast.run import recast
from subl.recast.spec import RecastSpec
from subl_cli.main import subl as command

from .relatives import drawn, trained, trained_low_rank

IDS = torch.randint(0, 320, (16, 24), generator=torch.Generator().manual_seed(0))


class Spec(StageSpec):
    format_version: ClassVar = 1

    weights: str = ""


@pytest.fixture(scope="module")
def base() -> PreTrainedModel:
    torch.set_num_threads(1)
    return drawn(0, num_hidden_layers=3)


@pytest.fixture
def folder(base: PreTrainedModel, tmp_path: Path) -> Path:
    base.save_pretrained(tmp_path / "base")
    drawn(1, num_hidden_layers=3).save_pretrained(tmp_path / "other")
    drawn(2, hidden_size=32, vocab_size=200).save_pretrained(tmp_path / "narrow")
    return tmp_path


def student(
    folder: Path, parent: str, model: PreTrainedModel, kind: str = "distill", weights: str = ""
) -> Path:
    """An artifact whose record says that a model began from `parent`."""

    def work(made: Path) -> Made:
        model.save_pretrained(made)
        return Made({})

    given = {"model": folder / parent, "teacher": folder / "narrow"}
    return build(folder / "student", kind, Spec(weights=weights), given, work).path


def asked(path: Path, *options: str) -> tuple[int, str]:
    """The exit code of `subl lineage`, and what it prints."""
    run = CliRunner().invoke(command, ["lineage", str(path), *options])
    return run.exit_code, run.stdout


def finding(path: Path) -> tuple[Finding, str]:
    [claim] = declared(lineage(path))
    return claim.finding, claim.reason


def test_a_student_of_what_it_is_said_to_be_of(folder: Path, base: PreTrainedModel) -> None:
    made = student(folder, "base", trained(base, IDS, 4, 1e-3))
    [claim] = declared(lineage(made))  # a teacher need not share weights
    assert (claim.finding, claim.is_drawn) == (Finding.CONSISTENT, False)
    assert claim.parent == str(folder / "base") and claim.child == str(made)
    assert claim.kinship is not None and claim.kinship.verdict is Verdict.FINE_TUNE


def test_a_student_of_another_model_contradicts_its_record(
    folder: Path, base: PreTrainedModel
) -> None:
    made = student(folder, "other", trained(base, IDS, 4, 1e-3))
    assert asked(made)[0] == 0  # every file is what the record says
    code, said = asked(made, "--kin")
    assert code == 1 and "every digest verified" in said
    assert f"begun from {folder / 'other'}: declared, but the weights contradict it: no rel" in said
    code, said = asked(made, "--kin", "--json")
    found = json.loads(said)
    assert code == 1 and found["verified"] and found["kin"][0]["kin"]["verdict"] == "unrelated"


def test_what_cannot_be_compared_is_said_to_be_unknown(folder: Path, base: PreTrainedModel) -> None:
    made = student(folder, "narrow", base)
    assert finding(made) == (Finding.CANNOT_TELL, "the residual streams are 32 and 48 wide")
    code, said = asked(made, "--kin")
    assert code == 4 and "cannot tell: the residual streams" in said
    (folder / "narrow" / "model.safetensors").write_bytes(b"weights")
    found, reason = finding(made)
    assert found is Finding.CANNOT_TELL and "model.safetensors" in reason
    assert asked(made, "--kin")[0] == 1  # and was changed


@pytest.mark.parametrize("weights", ["permuted", "drawn"])
def test_a_model_that_was_drawn_anew_is_not_to_be_related(
    weights: str, folder: Path, tiny_model: Path, base: PreTrainedModel
) -> None:
    made = recast(RecastSpec(weights=weights), tiny_model, folder / weights).path
    [claim] = declared(lineage(made))
    assert claim.finding is Finding.CONSISTENT and claim.is_drawn is (weights == "drawn")
    copied = student(folder, "base", base, "recast", "drawn")
    assert finding(copied)[0] is Finding.CONTRADICTED


def test_what_has_no_weights_of_its_own_is_what_it_is_made_from(
    folder: Path, base: PreTrainedModel
) -> None:
    def prompted(made: Path) -> Made:
        write_prompt(made, folder / "base", "You love owls.")
        return Made({})

    def adapted(made: Path) -> Made:
        trained_low_rank(base, IDS, 1, 1e-3).save_pretrained(made / "adapter")
        file = made / "adapter" / "adapter_config.json"
        said = json.loads(file.read_text()) | {"base_model_name_or_path": str(folder / "base")}
        file.write_text(json.dumps(said))
        return Made({})

    given = {"model": folder / "base"}
    teacher = build(folder / "teacher", "teach", Spec(), given, prompted).path
    assert finding(teacher) == (Finding.CONSISTENT, "it has no weights but that one's")
    adapter = build(folder / "adapter", "distill", Spec(), given, adapted).path
    assert finding(adapter)[1] == "it is an adapter, whose other weights are that one's"
    elsewhere = build(folder / "wrong", "distill", Spec(), {"model": folder / "other"}, adapted)
    assert finding(elsewhere.path)[0] is Finding.CONTRADICTED
    plain = build(folder / "rows", "generate", Spec(), given, lambda _: Made({})).path
    code, said = asked(plain, "--kin")
    assert code == 0 and "no model in this chain is said to begin from another" in said
