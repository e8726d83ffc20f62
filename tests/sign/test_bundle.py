"""Bundles of OpenSSF Model Signing v1.0: the specification's vectors and schemas, a signature of
another program, and each thing that is refused."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("securesystemslib")

from securesystemslib.dsse import Envelope

from subl.artifact import input_digest
from subl.errors import InputError, OutputError
from subl.sign.bundle import bundle_of, sign_bundle, verify_bundle
from subl.sign.envelope import sign_artifact
from subl.sign.keys import load_private, new_key
from subl.sign.policy import Policy, load_policy

from ..artifact.notes import make_notes
from ..cli.console import subl

VECTORS = Path(__file__).parent / "vectors"
SIGNERS = '[[signer]]\nkeys = ["lab"]\n'


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "lab", "p256")
    return tmp_path / "lab"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With names that need care: hidden, nested, spaces, an empty file, letters beyond ASCII."""
    folder = tmp_path / "owl model"
    (folder / "sub" / ".deep").mkdir(parents=True)
    for name, data in [
        ("model.safetensors", b"weights"),
        ("empty", b""),
        ("sub/grüße.json", b"{}"),
        ("sub/.deep/.hidden", b"1"),
        ("Z", b"2"),
        ("a b", b"3"),
    ]:
        (folder / name).write_bytes(data)
    return folder


def policy_of(key: Path, folder: Path, signers: str = SIGNERS) -> Policy:
    file = folder / "policy.toml"
    file.write_text(f"[keys]\nlab = {json.dumps(str(key.resolve()))}\n{signers}")
    return load_policy(file)


@pytest.fixture
def policy(key: Path, tmp_path: Path) -> Policy:
    return policy_of(key.with_name("lab.pub"), tmp_path)


def statement_of(bundle: Path) -> dict[str, Any]:
    envelope = json.loads(bundle.read_text())["dsseEnvelope"]
    found: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))
    return found


def validators() -> tuple[Any, Any]:
    """The specification's schemas of a bundle and of a statement."""
    jsonschema = pytest.importorskip("jsonschema")
    referencing = pytest.importorskip("referencing")
    schemas = [json.loads(file.read_text()) for file in (VECTORS / "schemas").iterdir()]
    registry = referencing.Registry().with_contents([(each["$id"], each) for each in schemas])
    by_id = {each["$id"]: each for each in schemas}
    bundle, statement = (
        jsonschema.Draft202012Validator(
            by_id[f"https://model_signing/{name}/v1.0/schema"], registry=registry
        )
        for name in ("bundle", "statement")
    )
    return bundle, statement


def test_a_bundle_is_as_the_specification_says(folder: Path, key: Path) -> None:
    out = bundle_of(folder)
    identity, new = sign_bundle(folder, key, out)
    assert new and out == folder.parent / "owl model.sig"
    record, statement = json.loads(out.read_text()), statement_of(out)
    bundles, statements = validators()
    bundles.validate(record)
    statements.validate(statement)
    assert record["verificationMaterial"]["publicKey"] == {"hint": identity}
    assert statement["subject"][0]["name"] == "owl model"
    names = [each["name"] for each in statement["predicate"]["resources"]]
    assert names == ["Z", "a b", "empty", "model.safetensors", "sub/.deep/.hidden",
                     "sub/grüße.json"]  # fmt: skip
    for file in (VECTORS / "valid").iterdir():
        bundles.validate(json.loads(file.read_text()))  # that the schemas are whole


def test_a_folder_is_verified_against_its_bundle(
    folder: Path, key: Path, policy: Policy, tmp_path: Path
) -> None:
    sign_bundle(folder, key, bundle_of(folder))
    found = verify_bundle(folder, bundle_of(folder), policy)
    assert (found.signers, found.problems, found.files) == (("lab",), (), 6)
    inside = folder / "model.sig"
    sign_bundle(folder, key, inside)
    assert verify_bundle(folder, inside, policy).problems == ()
    assert verify_bundle(folder, bundle_of(folder), policy).problems == ("model.sig was added",)
    shutil.copytree(folder, tmp_path / "elsewhere" / "named otherwise")
    moved = tmp_path / "elsewhere" / "named otherwise"
    assert verify_bundle(moved, moved / "model.sig", policy).problems == ()


def test_a_bundle_of_another_program_is_verified(tmp_path: Path) -> None:
    """What model-signing 1.1.0 wrote, with a key on P-384; and 1.0.0, which has no id of it."""
    policy = policy_of(VECTORS / "key.pem", tmp_path)
    folder = tmp_path / "folder"
    shutil.copytree(VECTORS / "folder", folder)
    for bundle in (VECTORS / "folder.sig", VECTORS / "valid" / "key.bundle.json"):
        found = verify_bundle(folder, bundle, policy)
        assert found.signers == ("lab",)
        said = "ignore-me was left out when it was signed: nothing binds it"
        assert found.problems == (said,)
    (folder / "ignore-me").unlink()
    for bundle in (VECTORS / "folder.sig", VECTORS / "valid" / "key.bundle.json"):
        assert verify_bundle(folder, bundle, policy).problems == ()
    (folder / "signme-2").write_bytes(b"other")
    assert verify_bundle(folder, VECTORS / "folder.sig", policy).problems == (
        "signme-2 was changed",
    )
    # That of a single file, whose name was written as it was then.
    older = verify_bundle(folder, VECTORS / "older.sig", policy)
    assert older.signers == ("lab",)
    assert older.problems == ("is signed with a file that leads out of it: '.'",)


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        ("invalid/empty", "is no bundle of OpenSSF Model Signing"),
        ("invalid/missing-envelope", "is a bundle with something else in it"),
        ("invalid/missing-verification-material", "is a bundle with something else in it"),
        ("invalid/missing-tlog-entries", "is signed by a certificate, and subl verifies keys"),
        ("valid/certificate", "is signed by a certificate, and subl verifies keys"),
        ("valid/sigstore", "is signed by a certificate, and subl verifies keys"),
        ("invalid-payload/wrong-predicate", "has no valid signature by a key of the policy"),
    ],
)
def test_what_the_specification_refuses_is_refused(vector: str, said: str, tmp_path: Path) -> None:
    policy = policy_of(VECTORS / "key.pem", tmp_path)
    found = verify_bundle(VECTORS / "folder", VECTORS / f"{vector}.bundle.json", policy)
    assert found.problems[0].startswith(said)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def link_instead(file: Path) -> None:
    moved = file.parent.parent / "moved"
    file.rename(moved)
    file.symlink_to(moved)


def resigned(
    folder: Path, key: Path, change: Callable[[dict[str, Any]], object], name: str = "lab"
) -> None:
    """Sign another statement with a key, as somebody who has it can."""
    out = bundle_of(folder)
    statement = statement_of(out)
    change(statement)
    record = json.loads(out.read_text())
    envelope = Envelope(json.dumps(statement).encode(), "application/vnd.in-toto+json", {})
    other = key.with_name(name)
    if not other.exists():
        new_key(other, "p256")
    envelope.sign(load_private(other))
    record["dsseEnvelope"] = envelope.to_dict()
    record["dsseEnvelope"]["signatures"][0]["keyid"] = ""
    out.write_text(json.dumps(record))


def first(statement: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = statement["predicate"]["resources"][0]
    return found


def how(statement: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = statement["predicate"]["serialization"]
    return found


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads(bundle_of(folder).read_text())
    change(record)
    bundle_of(folder).write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lambda f, k: flip(f / "model.safetensors"), "model.safetensors was changed"),
        (lambda f, k: (f / "empty").unlink(), "empty is missing"),
        (lambda f, k: (f / "more").write_text(""), "more was added"),
        (lambda f, k: (f / ".more").write_text(""), ".more was added"),
        (lambda f, k: (f / ".seen.json").write_text(""), ".seen.json was added"),
        (lambda f, k: (f / "sub/.gitignore").write_text(""), "sub/.gitignore was added"),
        (lambda f, k: link_instead(f / "Z"), "Z is a symbolic link"),
        (lambda f, k: (f / "loop").symlink_to("."), "loop is a symbolic link"),
        (lambda f, k: os.mkfifo(f / "pipe"), "pipe is no regular file"),
        (lambda f, k: flip(bundle_of(f)), ""),
        (lambda f, k: resigned(f, k, first, "stranger"), "has no valid signature by a key of the"),
        (
            lambda f, k: edit(f, lambda r: r.update(mediaType="text/plain")),
            "is a bundle of another kind: 'text/plain'",
        ),
        (
            lambda f, k: edit(f, lambda r: r["dsseEnvelope"].update(payloadType="text/plain")),
            "signs no statement: 'text/plain'",
        ),
        (
            lambda f, k: edit(
                f, lambda r: r["verificationMaterial"]["publicKey"].update(hint="0" * 64)
            ),
            "names another key than lab, which signed it",
        ),
        (
            lambda f, k: edit(
                f, lambda r: r["dsseEnvelope"]["signatures"].append({"sig": "AAAA"})
            ),
            "is no bundle of OpenSSF Model Signing",
        ),
        (
            lambda f, k: resigned(f, k, lambda s: s.update(predicateType="https://example.org")),
            "is signed with a statement of an unknown kind: 'https://example.org'",
        ),
        (
            lambda f, k: resigned(f, k, lambda s: first(s).update(name="../Z")),
            "is signed with a file that leads out of it: '../Z'",
        ),
        (
            lambda f, k: resigned(f, k, lambda s: first(s).update(name="/etc/passwd")),
            "is signed with a file that leads out of it: '/etc/passwd'",
        ),
        (
            lambda f, k: resigned(f, k, lambda s: first(s).update(name="empty")),
            "is signed with a list that names a file twice",
        ),
        (
            lambda f, k: resigned(f, k, lambda s: first(s).update(digest="0" * 64)),
            "is signed with a root digest that is not that of its files",
        ),
        (
            lambda f, k: resigned(f, k, lambda s: how(s).update(allow_symlinks=True)),
            "was signed through symbolic links",
        ),
        (
            lambda f, k: resigned(f, k, lambda s: how(s).update(method="shards", shard_size=9)),
            "has digests of 'shards' by 'sha256'; subl verifies whole files by sha256",
        ),
        (
            lambda f, k: resigned(f, k, lambda s: how(s).update(ignore_paths=["sub"])),
            "sub was left out when it was signed: nothing binds it",
        ),
        (
            lambda f, k: resigned(f, k, lambda s: s.pop("subject")),
            "is signed with a statement that is damaged",
        ),
    ],
)  # fmt: skip
def test_each_fault_has_its_sentence(
    folder: Path,
    key: Path,
    policy: Policy,
    tamper: Callable[[Path, Path], object],
    said: str,
) -> None:
    sign_bundle(folder, key, bundle_of(folder))
    tamper(folder, key)
    found = verify_bundle(folder, bundle_of(folder), policy).problems
    assert any(each.startswith(said) for each in found), found


def test_what_is_no_bundle_is_named(folder: Path, policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.sig does not exist"):
        verify_bundle(folder, tmp_path / "model.sig", policy)
    with pytest.raises(InputError, match="is a folder, and no bundle"):
        verify_bundle(folder, folder, policy)
    (tmp_path / "lab.pub").write_text("a key\n")
    found = verify_bundle(folder, tmp_path / "lab.pub", policy)
    assert (found.path, found.problems) == (
        tmp_path / "lab.pub",
        ("is no bundle of OpenSSF Model Signing",),
    )


def test_who_may_sign_bundles_is_said_by_the_policy(folder: Path, key: Path) -> None:
    sign_bundle(folder, key, bundle_of(folder))
    public, around = key.with_name("lab.pub"), key.parent
    for kinds, said in [('["oms", "filter"]', ()), ('["filter"]', ("is signed by lab, and the "
                        "policy lets nobody sign what is of kind oms",))]:  # fmt: skip
        policy = policy_of(public, around, f"{SIGNERS}kinds = {kinds}\n")
        assert verify_bundle(folder, bundle_of(folder), policy).problems == said


def test_an_artifact_is_signed_with_what_may_come_to_it(
    tmp_path: Path, key: Path, policy: Policy
) -> None:
    """An envelope, and what subl knows of files, are no part of it."""
    (tmp_path / "source.bin").write_bytes(b"1")
    artifact = make_notes(tmp_path / "made", tmp_path / "source.bin").path
    (artifact / ".seen.json").unlink(missing_ok=True)
    digest = input_digest(artifact)
    sign_bundle(artifact, key, bundle_of(artifact))
    sign_artifact(artifact, key)
    (artifact / ".seen.json").write_text("{}")
    assert verify_bundle(artifact, bundle_of(artifact), policy).problems == ()
    assert input_digest(artifact) == digest
    flip(artifact / "statement.json")
    assert verify_bundle(artifact, bundle_of(artifact), policy).problems == (
        "statement.json was changed",
    )
    (tmp_path / "made.sig").unlink()
    flip(artifact / "copy" / "data.bin")
    with pytest.raises(InputError, match="is not what its statement says"):
        sign_bundle(artifact, key, bundle_of(artifact))


def test_a_bundle_is_never_written_over(folder: Path, key: Path, tmp_path: Path) -> None:
    out = bundle_of(folder)
    sign_bundle(folder, key, out)
    before = out.read_bytes()
    assert sign_bundle(folder, key, out)[1] is False
    new_key(tmp_path / "other", "p256")
    with pytest.raises(OutputError, match="is another bundle"):
        sign_bundle(folder, tmp_path / "other", out)
    flip(folder / "Z")
    with pytest.raises(OutputError, match="is another bundle"):
        sign_bundle(folder, key, out)
    out.write_text("mine")
    with pytest.raises(OutputError, match="is another bundle"):
        sign_bundle(folder, key, out)
    out.write_bytes(before)
    flip(folder / "Z")
    assert sign_bundle(folder, key, out)[1] is False


def test_what_cannot_be_signed_is_not(folder: Path, key: Path, tmp_path: Path) -> None:
    new_key(tmp_path / "ed")
    with pytest.raises(InputError, match="is an Ed25519 key"):
        sign_bundle(folder, tmp_path / "ed", bundle_of(folder))
    with pytest.raises(InputError, match="is no folder"):
        sign_bundle(folder / "Z", key, tmp_path / "Z.sig")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="has no files to sign"):
        sign_bundle(tmp_path / "nothing", key, tmp_path / "nothing.sig")
    (folder / "link").symlink_to("Z")
    with pytest.raises(InputError, match="link is a symbolic link"):
        sign_bundle(folder, key, bundle_of(folder))
    (folder / "link").unlink()
    index = folder / "sub" / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../../other.safetensors"}}')
    with pytest.raises(InputError, match=r"sub/model.+json has the tensor 'a' in '../../other"):
        sign_bundle(folder, key, bundle_of(folder))
    index.unlink()
    (folder / os.fsdecode(b"caf\xe9")).write_bytes(b"")
    with pytest.raises(InputError, match="is a name that is not UTF-8"):
        sign_bundle(folder, key, bundle_of(folder))
    made = make_notes(tmp_path / "made", folder / "Z").path
    with pytest.raises(OutputError, match="to which nothing is added"):
        sign_bundle(made / "copy", key, bundle_of(made / "copy"))
    assert not list(tmp_path.glob("*.sig"))


def test_from_the_command_line(folder: Path, key: Path, policy: Policy) -> None:
    done = subl("sign", folder, "--key", key, "--format", "oms", cwd=folder.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{bundle_of(folder)}  signed by ")
    asked = ("verify", folder, "--policy", policy.path, "--format", "oms")
    done = subl(*asked, cwd=folder.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"verified: {folder}, 6 files, signed by lab\n"
    flip(folder / "Z")
    done = subl(*asked, cwd=folder.parent)
    assert (done.returncode, done.stdout) == (1, f"refused: {folder} Z was changed\n")
    done = subl(*asked, "--json", cwd=folder.parent)
    assert done.returncode == 1
    assert json.loads(done.stdout)["refusals"] == [{"path": str(folder), "what": "Z was changed"}]
