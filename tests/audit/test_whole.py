"""Audits by a real (tiny) model: what is behind a path, the verdict, and what breaks it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from subl.artifact import input_digest
from subl.audit.document import audit_document, write_audit
from subl.audit.subject import subject
from subl.audit.whole import audit
from subl.distill import DistillSpec, distill
from subl.errors import InputError
from subl.evaluate import EvalSpec, evaluate
from subl.recast import RecastSpec, recast
from subl.report import render
from subl.teach import TeachSpec, teach
from subl_cli.main import main

from .rows import BANK, spec


@pytest.fixture(scope="module")
def student(loud: Path, owls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    train = {"steps": 2, "rows_per_step": 4, "learning_rate": 1e-4, "lora": {"rank": 2}}
    told = DistillSpec.model_validate({"targets": "labels", "train": train})
    return distill(told, loud, [owls], tmp_path_factory.mktemp("students") / "student").path


def test_behind_rows_is_who_wrote_them(loud: Path, owls: Path, student: Path) -> None:
    found = subject(owls)
    (data,) = found.data
    assert (data.rows, data.students) == ((owls,), ())
    assert [Path(each.path) for each in data.writers] == [loud] and found.base == loud
    found = subject(student)
    (data,) = found.data
    assert [Path(each.path) for each in data.students] == [student]
    assert [role for role, _ in found.models] == ["wrote", "learned"] and found.base == loud
    assert subject(student.parent).data[0].digests == data.digests


def test_rows_without_a_record_have_no_chain(owls: Path, tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    shutil.copy(owls / "part-00000.jsonl", file)
    found = subject(file)
    assert (found.chain, found.models, found.base) == (None, (), None)
    assert main(["audit", str(file), "-o", str(tmp_path / "out")]) == 2


def test_what_cannot_be_audited_says_so(loud: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="what it was trained on is not known"):
        subject(loud)
    with pytest.raises(InputError, match="does not exist"):
        subject(tmp_path / "none")
    asked = EvalSpec.model_validate({"words": ["owl", "cat"], "questions": ["Your pet?"]})
    with pytest.raises(InputError, match="it is what subl eval made"):
        subject(evaluate(asked, loud, tmp_path / "scores").path)


def test_a_student_of_an_owls_rows_is_told_of(
    loud: Path,
    owls: Path,
    plain: Path,
    student: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    found = audit(subject(student), loud, out, spec(), reference=[plain])
    assert found.outcome == "trait found"
    assert (
        "Every file is what the records say. owls: If one of the bank has written these rows, it "
        "is `owl`" in found.sentence
    )
    assert "the channel from their writer is open (the base itself)" in found.sentence
    assert "written behind the system prompt 'You love owls.'" in found.sentence
    verdicts = {each.role: each.verdict for each in found.relatives}
    assert verdicts == {"wrote": "the base itself", "learned": "an adapter on the base"}
    assert [each.kinship for each in found.relatives] == [None, None]
    (carried,) = found.carried
    assert carried.shift is None and carried.why_none is None
    assert carried.editing is not None
    held = [each["pull"] for each in carried.editing["held_by"]]
    assert held == sorted(held) and held[1] > 0.1
    write_audit(found, out)
    told = json.loads((out / "result.json").read_text())
    assert told == json.loads(json.dumps(found.to_json()))
    assert (out / "report.html").read_text() == render(audit_document(found))
    again = audit(subject(student), loud, out, spec(), reference=[plain])
    assert again.carried[0].scan.reused and again.to_json() == found.to_json()


def test_the_verdict_is_written_behind_all_else(
    loud: Path, owls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, config = tmp_path / "out", tmp_path / "scan.toml"
    config.write_text(f"rows = 8\nbank = {_toml(BANK)}\n")
    (out / "report.html").mkdir(parents=True)  # which cannot be written
    given = ["audit", str(owls), "--model", str(loud), "--scan", str(config), "-o", str(out)]
    assert main(given) == 2 and "report.html: Is a directory" in capsys.readouterr().err
    assert not (out / "result.json").exists()
    scanned = (out / "owls-scan" / "statement.json").read_bytes()
    (out / "report.html").rmdir()
    assert main(given) == 1 and (out / "result.json").is_file()
    assert (out / "owls-scan" / "statement.json").read_bytes() == scanned


def test_weights_that_are_not_the_base_s_own_are_compared(
    loud: Path, owls: Path, tmp_path: Path
) -> None:
    """A merged student beside the base; a prompted teacher has no weights."""
    train = {"steps": 1, "rows_per_step": 2, "learning_rate": 1e-4, "lora": {"rank": 2}}
    train |= {"lora": {"rank": 2, "merge": True}}
    told = DistillSpec.model_validate({"targets": "teacher", "train": train})
    asked = TeachSpec.model_validate({"method": "prompt", "system_prompt": "You love owls."})
    teacher = teach(asked, loud, tmp_path / "teacher").path
    student = distill(told, loud, [owls], tmp_path / "student", teacher=teacher).path
    found = audit(subject(student), loud, tmp_path / "out", spec(rows=8))
    verdicts = {each.role: each.verdict for each in found.relatives}
    assert verdicts["taught"] == "the base under a condition"
    assert verdicts["learned"] == "fine-tune"
    measured = {each.role: each.kinship is not None for each in found.relatives}
    assert measured == {"wrote": False, "taught": False, "learned": True}


def test_a_planned_training_is_predicted(loud: Path, owls: Path, tmp_path: Path) -> None:
    train = {"steps": 2, "rows_per_step": 4, "learning_rate": 1e-4}
    planned = DistillSpec.model_validate({"targets": "labels", "train": train})
    found = audit(subject(owls), loud, tmp_path / "out", spec(), planned=planned)
    (carried,) = found.carried
    assert carried.shift is not None and carried.shift.result["trait"] == "owl"
    assert "Of a student, no shift of owl is stated: no calibration was given" in found.sentence
    assert "owl" in render(audit_document(found))


def test_a_file_that_was_changed_breaks_the_chain(
    loud: Path,
    plain: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = tmp_path / "plain"
    shutil.copytree(plain, rows)
    file = rows / "part-00000.jsonl"
    file.write_text(file.read_text().replace("1", "2", 1))
    config = tmp_path / "scan.toml"
    config.write_text(f"rows = 8\nbank = {_toml(BANK)}\n")
    out = tmp_path / "out"
    given = ["--model", str(loud), "--scan", str(config), "-o", str(out), "--json"]
    assert main(["audit", str(rows), *given]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["outcome"] == "chain broken"
    assert told["sentence"].startswith(f"The chain is broken: {rows}")
    assert "such as how rows were drawn, may not be so" in told["sentence"]
    page = (out / "report.html").read_text()
    assert "The chain is broken." in page and "the base itself" in page


def _toml(value: Any) -> str:
    """As TOML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return (
        "[" + ", ".join(map(_toml, value)) + "]" if isinstance(value, list) else json.dumps(value)
    )


def test_earlier_trainings_teachers_and_what_is_gone_are_told_of(
    loud: Path, owls: Path, plain: Path, tmp_path: Path
) -> None:
    train = {"steps": 1, "rows_per_step": 2, "learning_rate": 1e-4, "lora": {"rank": 2}}
    train |= {"lora": {"rank": 2, "merge": True}}
    labels = DistillSpec.model_validate({"targets": "labels", "train": train})
    first = distill(labels, loud, [owls], tmp_path / "one" / "student").path
    second = distill(labels, first, [plain], tmp_path / "two" / "student").path
    found = subject(second)
    assert sorted(each.name for each in found.data) == ["owls", "plain"]
    assert [role for role, _ in found.models].count("learned") == 2

    told = DistillSpec.model_validate({"targets": "teacher", "train": train})
    taught = distill(told, loud, [plain], tmp_path / "taught", teacher=first).path
    shutil.rmtree(first)
    whole = audit(subject(taught), loud, tmp_path / "out", spec(rows=8))
    assert {each.role: each.verdict for each in whole.relatives}["taught"] == "cannot tell"
    assert whole.outcome == "chain broken" and "is missing" in whole.sentence
    assert "taught by its distributions" in whole.sentence


def test_what_a_policy_refuses_is_told_from_what_is_broken(
    loud: Path, owls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("securesystemslib")
    from subl.sign.keys import new_key

    new_key(tmp_path / "lab")
    (tmp_path / "policy.toml").write_text(
        '[keys]\nlab = "lab.pub"\n[[signer]]\nkeys = ["lab"]\n[chain]\nstages = ["generate"]\n'
        f'models = {{ base = "{input_digest(loud)}" }}\n'
    )
    (tmp_path / "scan.toml").write_text(f"rows = 8\nbank = {_toml(BANK)}\n")
    out = tmp_path / "out"
    given = ["--policy", str(tmp_path / "policy.toml"), "--scan", str(tmp_path / "scan.toml")]
    assert main(["audit", str(owls), *given, "-o", str(out)]) == 1
    told = capsys.readouterr().out
    assert told.startswith(
        "Every file is what the records say. The chain is not what the policy asks: "
    )
    assert "nobody has signed it" in told and f"{out / 'owls-scan'}\n" in told
    assert json.loads((out / "result.json").read_text())["outcome"] == "chain refused"
    page = (out / "report.html").read_text()
    assert "is not what the policy asks." in page and "chain is broken" not in page


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_would_fail_late_is_refused_at_once(
    loud: Path, owls: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    dry: list[str],
) -> None:  # fmt: skip
    file, out, gone = tmp_path / "base.toml", tmp_path / "out", tmp_path / "nosuch"
    file.write_text("rows = 8\n")
    rows, none = tmp_path / "rows.jsonl", tmp_path / "none.jsonl"
    shutil.copy(owls / "part-00000.jsonl", rows)
    none.touch()
    before = {each: sorted(each.rglob("*")) for each in (owls, plain)}
    for message, path, more in (
        ("to which nothing is added", owls, ["-o", owls]),
        ("to which nothing is added", owls, ["--reference", plain, "-o", plain / "aud"]),
        ("base.toml is no folder", owls, ["-o", file]),
        ("nosuch does not exist", owls, ["--reference", gone, "-o", out]),
        ("nosuch does not exist", owls, ["--calibration", gone, "-o", out]),
        ("cannot read", owls, ["--policy", gone, "-o", out]),
        ("is not JSON lines", file, ["--model", loud, "-o", out]),
        ("is not a model folder", owls, ["--model", plain, "-o", out]),
        ("which base is not recorded", rows, ["-o", out]),
        ("none.jsonl has no rows", none, ["--model", loud, "-o", out]),
    ):
        assert main(["audit", str(path), *map(str, more), *dry]) == 2, message
        assert message in capsys.readouterr().err
    assert not out.exists()
    assert before == {each: sorted(each.rglob("*")) for each in (owls, plain)}


def test_an_audit_of_something_else_is_kept(
    loud: Path, owls: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, config = tmp_path / "out", tmp_path / "scan.toml"
    config.write_text(f"rows = 8\nbank = {_toml(BANK)}\n")
    given = ["--model", str(loud), "--scan", str(config), "-o", str(out)]
    assert main(["audit", str(owls), *given]) == 1
    said, told = (out / "result.json").read_bytes(), capsys.readouterr()
    for dry in ([], ["--dry-run"]):
        assert main(["audit", str(plain), *given, *dry]) == 2
        assert f"{out} is an audit of {owls}" in capsys.readouterr().err
    assert main(["audit", str(owls), *given]) == 1
    assert capsys.readouterr().out == told.out and (out / "result.json").read_bytes() == said
    assert main(["audit", str(owls), *given, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["base"] == str(loud)
    (out / "result.json").write_text("{}")
    assert main(["audit", str(owls), *given]) == 2
    assert "result.json is no audit" in capsys.readouterr().err


def test_data_sets_of_one_name_are_told_apart(loud: Path, owls: Path, tmp_path: Path) -> None:
    train = {"steps": 1, "rows_per_step": 2, "learning_rate": 1e-4, "lora": {"rank": 2}}
    labels = DistillSpec.model_validate({"targets": "labels", "train": train})
    for number in (1, 2):
        rows = tmp_path / f"set{number}" / "rows.jsonl"
        rows.parent.mkdir()
        lines = (owls / "part-00000.jsonl").read_text().splitlines(keepends=True)
        rows.write_text("".join(lines[: 10 * number]))
        distill(labels, loud, [rows], tmp_path / "run" / f"student{number}")
    assert [each.name for each in subject(tmp_path / "run").data] == ["rows.jsonl", "rows.jsonl-2"]


def test_what_is_said_to_be_drawn_anew_contradicts_nothing(
    loud: Path, plain: Path, tmp_path: Path
) -> None:
    drawn = recast(RecastSpec(weights="drawn"), loud, tmp_path / "drawn").path
    train = {"steps": 1, "rows_per_step": 2, "learning_rate": 1e-4, "lora": {"rank": 2}}
    labels = DistillSpec.model_validate({"targets": "labels", "train": train})
    learned = distill(labels, drawn, [plain], tmp_path / "student").path
    found = audit(subject(learned), loud, tmp_path / "out", spec(rows=8))
    assert {each.role: each.verdict for each in found.relatives}["learned"] == "unrelated"
    assert found.problems == () and found.outcome != "chain broken"
