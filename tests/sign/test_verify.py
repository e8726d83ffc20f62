"""A chain is verified where every link is signed and whole; else each fault has its sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("securesystemslib")

from subl.artifact import ENVELOPE, lineage
from subl.errors import InputError
from subl.sign.chain import refusals
from subl.sign.policy import load_policy
from subl.sign.verify import verify

from ..cli.console import subl
from .chains import Chain, chain_in


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return chain_in(tmp_path)


def refused(
    chain: Chain, policy: Path | None = None, name: str = "student", *search: Path
) -> list[str]:
    """The sentences, with the paths' last parts."""
    asked = load_policy(policy or chain.policy())
    found = refusals(verify(getattr(chain, name), asked, search), asked)
    return [f"{Path(path).name} {what}" for path, what in found]


def test_a_whole_chain_is_verified(chain: Chain) -> None:
    done = subl("verify", chain.student, "--policy", chain.policy(), cwd=chain.folder)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split()[0] for line in done.stdout.splitlines()]
    assert lines == ["student", "model", "rows-0", "rows", "model", "prompts-0", "verified:"]
    assert done.stdout.count("signed by lab") == 3
    done = subl("verify", chain.student, "--policy", chain.policy(), "--json", cwd=chain.folder)
    found = json.loads(done.stdout)
    assert (done.returncode, found["verified"], found["refusals"]) == (0, True, [])
    assert [each["kind"] for each in found["chain"]["inputs"]] == ["origin", "filter"]
    assert found["chain"]["signers"] == ["lab"]


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def rename_subject(chain: Chain, artifact: Path, old: str, new: str) -> None:
    record = json.loads((artifact / "statement.json").read_text())
    for subject in record["subject"]:
        if subject["name"] == old:
            subject["name"] = new
    chain.forge(artifact, record)


def move_input(chain: Chain, uri: str) -> None:
    record = json.loads((chain.student / "statement.json").read_text())
    record["predicate"]["buildDefinition"]["resolvedDependencies"][0]["uri"] = uri
    chain.forge(chain.student, record)


def swap_student(chain: Chain) -> None:
    """The files of another student, under the statement and the signature of the first."""
    inputs = {"model": chain.base, "rows-0": chain.rows}
    other = chain.make("distill", "other", inputs, text="other")
    shutil.copy(other / "model.safetensors", chain.student / "model.safetensors")


def swap_for_a_signed_one(chain: Chain) -> None:
    """Another true and signed artifact in the place of what the student learned from."""
    shutil.rmtree(chain.kept)
    chain.make("draw", "kept", {"rows-0": chain.rows})
    chain.sign(chain.kept)


def sign_anew(chain: Chain, artifact: Path, key: str) -> None:
    (artifact / ENVELOPE).unlink()
    chain.sign(artifact, key=key)


def link_instead(path: Path) -> None:
    moved = path.with_name(f"moved-{path.name}")
    path.rename(moved)
    path.symlink_to(moved.name)


def index_outside(folder: Path) -> None:
    folder.mkdir()
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../other.safetensors"}}')


NOT_SIGNED = f"has no {ENVELOPE}: nobody has signed it"
LINK = "is a symbolic link: nothing binds what it leads to"


def strip(artifact: Path) -> None:
    """Leave the data alone, which has the same digest, so that it looks like somebody's folder."""
    for name in (ENVELOPE, "statement.json", "spec.json", "result.json"):
        (artifact / name).unlink()


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lambda c: flip(c.student / "model.safetensors"), "student model.safetensors was changed"),
        (lambda c: flip(c.kept / "kept/rows.jsonl"), "kept kept/rows.jsonl was changed"),
        (lambda c: flip(c.rows / "spec.json"), "rows spec.json was changed"),
        (lambda c: flip(c.base / "model.safetensors"), "base is not what was read"),
        (lambda c: flip(c.folder / "prompts.jsonl"), "prompts.jsonl is not what was read"),
        (lambda c: (c.rows / "rows.jsonl").unlink(), "rows rows.jsonl is missing"),
        (lambda c: (c.rows / "x.jsonl").write_text(""), "rows x.jsonl was added"),
        (swap_student, "student model.safetensors was changed"),
        (swap_for_a_signed_one, "kept is not what was read"),
        (lambda c: flip(c.student / "statement.json"), "student statement.json is not what was"),
        (lambda c: (c.student / "statement.json").unlink(), "student statement.json is missing"),
        (lambda c: (c.student / ENVELOPE).unlink(), f"student {NOT_SIGNED}"),
        (lambda c: (c.rows / ENVELOPE).unlink(), f"rows {NOT_SIGNED}"),
        (lambda c: (c.rows / ENVELOPE).write_text("{}"), f"rows has a {ENVELOPE} that is no"),
        (
            lambda c: shutil.copy(c.rows / ENVELOPE, c.kept / ENVELOPE),
            "kept statement.json is not what was signed",
        ),
        (
            lambda c: sign_anew(c, c.student, "stranger"),
            "student has no valid signature by a key of the policy",
        ),
        (
            lambda c: sign_anew(c, c.rows, "stranger"),
            "rows has no valid signature by a key of the policy",
        ),
        (lambda c: shutil.rmtree(c.rows), "rows is missing: nothing is at"),
        (lambda c: strip(c.rows), "rows was made by no stage, and the policy does not list it"),
        (
            lambda c: c.forge(c.student, {"predicateType": "https://example.org/v1"}),
            "student is signed with a statement of an unknown kind: 'https://example.org/v1'",
        ),
        (
            lambda c: c.sign_bytes(c.student, b'{"predicateType": "https://example.org/v2"}'),
            "student is signed with a statement of an unknown kind: 'https://example.org/v2'",
        ),
        (
            lambda c: c.sign_bytes(c.student, b"[" * 100_000),
            "student is signed with a statement that is damaged",
        ),
        (
            lambda c: c.sign_bytes(
                c.student, (c.student / "statement.json").read_bytes(), kind="text/plain"
            ),
            "student is signed as something else than a statement: 'text/plain'",
        ),
        (lambda c: link_instead(c.student / "spec.json"), f"student spec.json {LINK}"),
        (lambda c: link_instead(c.rows), f"rows {LINK}"),
        (lambda c: link_instead(c.base / "model.safetensors"), f"base model.safetensors {LINK}"),
        (lambda c: (c.student / "more").symlink_to("/tmp"), f"student more {LINK}"),
        (lambda c: (c.kept / ".hidden").write_text(""), "kept .hidden is hidden: no digest"),
        (lambda c: (c.kept / "kept/.seen.json").write_text(""), "kept kept/.seen.json is hidden"),
        (lambda c: (c.base / ".cache").mkdir(), "base .cache/ is hidden: no digest covers what"),
        (
            lambda c: index_outside(c.base / "deep"),
            "base deep/model.safetensors.index.json has the tensor 'a' in '../other.safetensors'",
        ),
        (
            lambda c: rename_subject(c, c.student, "model.safetensors", "../student/model"),
            "student ../student/model leads out of the artifact",
        ),
        (
            lambda c: rename_subject(c, c.student, "model.safetensors", "/etc/passwd"),
            "student /etc/passwd leads out of the artifact",
        ),
        (lambda c: move_input(c, str(c.base)), "base is an input by a path that is not relative"),
        (lambda c: move_input(c, "file:///etc/passwd"), "passwd is an input by a path that is not"),
    ],
)  # fmt: skip
def test_each_fault_has_its_sentence(
    chain: Chain, tamper: Callable[[Chain], object], said: str
) -> None:
    assert refused(chain) == []
    tamper(chain)
    found = refused(chain)
    assert any(each.startswith(said) for each in found), found


def test_what_is_refused_ends_with_1_and_a_sentence(chain: Chain) -> None:
    flip(chain.student / "model.safetensors")
    done = subl("verify", chain.student, "--policy", chain.policy(), cwd=chain.folder)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == f"refused: {chain.student} model.safetensors was changed\n"
    done = subl("verify", chain.student, "--policy", chain.policy(), "--json", cwd=chain.folder)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["refusals"] == [
        {"path": str(chain.student), "what": "model.safetensors was changed"}
    ]
    assert not found["verified"]


def test_what_cannot_be_asked_ends_with_2(chain: Chain) -> None:
    policy = chain.policy()
    for arguments, said in [
        (("nothing", "--policy", policy), "nothing does not exist"),
        (("run", "--policy", policy), "run is no artifact"),
        ((policy, "--policy", policy), "policy.toml is no artifact"),
        (("run/kept", "--policy", policy, "--format", "oms"), "kept.sig does not exist"),
        ((chain.student, "--policy", "none.toml"), "cannot read none.toml"),
        ((chain.student, "--policy", policy, "--search", "none"), "none is no folder"),
    ]:
        done = subl("verify", *arguments, cwd=chain.folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr


def test_a_payload_is_not_looked_at_before_its_signature_holds(chain: Chain) -> None:
    """Of a stranger's, nothing is said of what it says."""
    chain.sign_bytes(chain.student, b'{"predicateType": "https://example.org/v1"}', "stranger")
    [said] = [each for each in refused(chain) if each.startswith("student has no valid")]
    assert "example.org" not in said
    record = json.loads((chain.kept / ENVELOPE).read_text())
    record["signatures"][0]["sig"] = "AAAA"
    (chain.kept / ENVELOPE).write_text(json.dumps(record))
    [said] = refused(chain, chain.policy(stages=[]), "kept")
    assert said.startswith("kept has no valid signature by a key of the policy")


def test_a_strangers_key_counts_for_nothing_whatever_it_is_called(chain: Chain) -> None:
    """The id in an envelope only says which key to try."""
    sign_anew(chain, chain.student, "stranger")
    record = json.loads((chain.student / ENVELOPE).read_text())
    record["signatures"][0]["keyid"] = load_policy(chain.policy()).keys["lab"].keyid
    (chain.student / ENVELOPE).write_text(json.dumps(record))
    assert refused(chain)[0].startswith("student has no valid signature by a key of the policy")


def test_a_key_counts_once_however_often_it_signs(chain: Chain) -> None:
    """ECDSA gives another signature each time; what each says of its key is another thing, too."""
    both = '[[signer]]\nkeys = ["lab", "partner"]\nthreshold = 2\n'
    records = []
    for _ in range(2):
        for artifact in (chain.rows, chain.kept, chain.student):
            sign_anew(chain, artifact, "partner")
        records.append(json.loads((chain.kept / ENVELOPE).read_text()))
    first, second = (each["signatures"][0] for each in records)
    assert first["sig"] != second["sig"]
    lab = load_policy(chain.policy()).keys["lab"].keyid
    for named in (first["keyid"], lab, ""):
        records[1]["signatures"] = [first, second | {"keyid": named}]
        (chain.kept / ENVELOPE).write_text(json.dumps(records[1]))
        assert (
            "kept is signed by partner; of kind filter, the policy wants 2 of lab, partner"
            in refused(chain, chain.policy(both, stages=[]), "kept")
        )
    for artifact in (chain.rows, chain.kept, chain.student):
        chain.sign(artifact)
    assert refused(chain, chain.policy(both)) == []


def test_inputs_that_were_moved_are_found_by_their_digests(chain: Chain, tmp_path: Path) -> None:
    """Another person has another layout: other folders, other names."""
    policy, store = chain.policy(), tmp_path / "store" / "deep"
    store.mkdir(parents=True)
    shutil.move(chain.rows, store / "number rows")
    shutil.move(chain.base, store / "smollm2")
    shutil.move(chain.folder / "prompts.jsonl", store / "asked.jsonl")
    base, rows, *_ = refused(chain, policy)
    assert base.startswith("base is missing") and rows.startswith("rows is missing")
    assert refused(chain, policy, "student", tmp_path / "store") == []
    flip(store / "number rows" / "rows.jsonl")
    assert refused(chain, policy, "student", tmp_path / "store")[0].startswith("rows is missing")


def test_a_signed_artifact_is_found_before_a_copy_of_its_data(chain: Chain, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(chain.rows, store / "a")
    strip(store / "a")
    shutil.move(chain.rows, store / "b")
    assert refused(chain, None, "student", store) == []


def test_who_may_sign_what(chain: Chain) -> None:
    for signers, said in [
        ('[[signer]]\nkeys = ["partner"]\n', "student is signed by lab; of kind distill, the policy"
         " wants 1 of partner"),
        ('[[signer]]\nkeys = ["lab"]\nkinds = ["generate", "filter"]\n', "student is signed by lab,"
         " and the policy lets nobody sign what is of kind distill"),
        ('[[signer]]\nkeys = ["lab", "partner"]\nthreshold = 2\n', "student is signed by lab; of"
         " kind distill, the policy wants 2 of lab, partner"),
    ]:  # fmt: skip
        assert refused(chain, chain.policy(signers, stages=[])) == [said]
    both = '[[signer]]\nkeys = ["lab", "partner"]\nthreshold = 2\n'
    chain.sign(chain.student, chain.kept, chain.rows, key="partner")
    assert refused(chain, chain.policy(both)) == []
    each = '[[signer]]\nkeys = ["lab"]\nkinds = ["distill"]\n[[signer]]\nkeys = ["partner"]\n'
    assert refused(chain, chain.policy(each)) == []


def test_one_key_signs_once_however_often_it_is_there(chain: Chain) -> None:
    both = chain.policy('[[signer]]\nkeys = ["lab", "partner"]\nthreshold = 2\n')
    record = json.loads((chain.student / ENVELOPE).read_text())
    [signature] = record["signatures"]
    partner = load_policy(both).keys["partner"].keyid
    for again in (signature, {**signature, "keyid": partner}, {**signature, "keyid": "0"}):
        record["signatures"] = [signature, again]
        (chain.student / ENVELOPE).write_text(json.dumps(record))
        said = refused(chain, both)[0]
        assert "wants 2 of lab, partner" in said or "that is no envelope" in said


def test_a_chain_that_is_too_long_to_walk_is_said_to_be(chain: Chain) -> None:
    """Python's recursion has an end: a signature that holds is not said to be false at it."""
    before = chain.kept
    for number in range(160):
        before = chain.make("filter", f"more-{number:03}", {"rows-0": before}, text=str(number))
    with pytest.raises(InputError, match="a chain of more than 150 artifacts"):
        lineage(before)
    everything = sorted((chain.folder / "run").glob("more-*"))
    chain.sign(*everything)
    policy = load_policy(chain.policy())
    with pytest.raises(InputError, match="a chain of more than 150 artifacts"):
        verify(before, policy)
    assert lineage(everything[100]).verified()
    assert not verify(everything[100], policy).sentences()
