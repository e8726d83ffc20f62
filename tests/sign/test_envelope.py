"""A signature is over the very bytes of a statement that is true when it is signed."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("securesystemslib")

from securesystemslib.dsse import Envelope

from subl.artifact import ENVELOPE, input_digest, lineage, rereading
from subl.errors import InputError
from subl.filter import FilterSpec
from subl.filter import run as filter_rows
from subl.shards import shard_files
from subl.sign.envelope import read_envelope, sign_artifact, valid
from subl.sign.keys import load_public, new_key

from ..artifact.notes import NotesSpec, make_notes
from ..cli.console import subl


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    (tmp_path / "source.bin").write_bytes(bytes(range(256)))
    return make_notes(tmp_path / "made", tmp_path / "source.bin").path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "lab")
    return tmp_path / "lab"


def names(artifact: Path, *keys: Path) -> set[str]:
    """Which of the keys have signed."""
    public = {key.name: load_public(key.with_name(f"{key.name}.pub")) for key in keys}
    return valid(read_envelope(artifact / ENVELOPE), public)


def test_the_envelope_is_dsse_over_the_statements_bytes(artifact: Path, key: Path) -> None:
    """As another library of DSSE, here the arithmetic of its protocol, reads it."""
    identity, new = sign_artifact(artifact, key)
    assert new
    record = json.loads((artifact / ENVELOPE).read_text())
    statement = (artifact / "statement.json").read_bytes()
    assert base64.b64decode(record["payload"], validate=True) == statement
    assert record["payloadType"] == "application/vnd.in-toto+json"
    [signature] = record["signatures"]
    assert signature["keyid"] == identity
    signed = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(statement) + statement
    public = load_public(key.with_name("lab.pub"))._crypto_key()
    public.verify(base64.b64decode(signature["sig"]), signed)


def test_each_key_signs_once(artifact: Path, key: Path, tmp_path: Path) -> None:
    """ECDSA would give another signature each time."""
    new_key(tmp_path / "release", "p256")
    release = tmp_path / "release"
    assert sign_artifact(artifact, release)[1]
    once = (artifact / ENVELOPE).read_bytes()
    assert not sign_artifact(artifact, release)[1]
    assert (artifact / ENVELOPE).read_bytes() == once
    assert sign_artifact(artifact, key)[1]
    assert names(artifact, key, release) == {"lab", "release"}
    assert not sign_artifact(artifact, release)[1]


def test_a_signature_that_does_not_hold_is_made_again(artifact: Path, key: Path) -> None:
    sign_artifact(artifact, key)
    record = json.loads((artifact / ENVELOPE).read_text())
    record["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
    (artifact / ENVELOPE).write_text(json.dumps(record))
    assert names(artifact, key) == set()
    assert sign_artifact(artifact, key)[1]
    assert names(artifact, key) == {"lab"}


def change(artifact: Path, how: Callable[[list[dict[str, str]]], object]) -> None:
    record = json.loads((artifact / ENVELOPE).read_text())
    how(record["signatures"])
    (artifact / ENVELOPE).write_text(json.dumps(record))


@pytest.mark.parametrize(
    "how",
    [
        lambda signatures: signatures[0].pop("keyid"),
        lambda signatures: signatures[0].update(keyid=""),
        lambda signatures: signatures[0].update(keyid=None),
        lambda signatures: signatures[0].update(keyid="SHA256:abc"),
        lambda signatures: signatures.insert(0, signatures[0] | {"sig": "AAAA"}),
        lambda signatures: signatures.append(signatures[0]),
        lambda signatures: signatures.insert(0, {"sig": "AAAA"}),
    ],
)
def test_a_signature_holds_whatever_key_it_names(
    artifact: Path, key: Path, tmp_path: Path, how: Callable[[list[dict[str, str]]], object]
) -> None:
    """DSSE lets it name none, and its id is the signer's own affair."""
    sign_artifact(artifact, key)
    change(artifact, how)
    assert names(artifact, key) == {"lab"}
    assert not sign_artifact(artifact, key)[1]
    new_key(tmp_path / "release", "p256")
    assert names(artifact, tmp_path / "release") == set()
    before = json.loads((artifact / ENVELOPE).read_text())["signatures"]
    assert sign_artifact(artifact, tmp_path / "release")[1]
    after = json.loads((artifact / ENVELOPE).read_text())["signatures"]
    assert after[:-1] == [each | {"keyid": each.get("keyid") or ""} for each in before]
    assert names(artifact, key, tmp_path / "release") == {"lab", "release"}


def test_a_signature_is_no_part_of_the_artifact(artifact: Path, key: Path, tmp_path: Path) -> None:
    """It is verified, reused and read as before."""
    child = make_notes(tmp_path / "child", artifact, NotesSpec(text="child")).path
    before = input_digest(artifact)
    sign_artifact(artifact, key)
    with rereading():
        assert input_digest(artifact) == before
    assert lineage(child).verified()
    assert make_notes(artifact, tmp_path / "source.bin").reused


def test_an_envelope_is_no_rows(tmp_path: Path, key: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"completion": "1"}\n')
    spec = FilterSpec.model_validate({"rule": [{"name": "n", "kind": "numbers"}]})
    out = filter_rows(spec, [tmp_path / "rows.jsonl"], tmp_path / "kept").artifact.path
    before = shard_files(out)
    sign_artifact(out, key)
    assert shard_files(out) == before


def swap_bytes(file: Path) -> None:
    file.write_bytes(file.read_bytes()[::-1])


def reword(artifact: Path, old: str, new: str) -> None:
    file = artifact / "statement.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lambda made: swap_bytes(made / "copy/data.bin"), "copy/data.bin was changed"),
        (lambda made: (made / "text.txt").unlink(), "text.txt is missing"),
        (lambda made: (made / "more.txt").write_text(""), "more.txt was added"),
        (lambda made: (made / "copy/.more").write_text(""), "copy/.more is hidden"),
        (lambda made: (made / ".git").mkdir(), ".git/ is hidden"),
        (lambda made: (made / "link").symlink_to("text.txt"), "link is a symbolic link"),
        (lambda made: (made / "folder").symlink_to("copy"), "folder is a symbolic link"),
        (
            lambda made: (made / "config.json").write_text(
                '{"transformers_weights": "/other.safetensors"}'
            ),
            "config.json has the weights in '/other.safetensors'",
        ),
        (lambda made: reword(made, "slsa.dev/provenance", "example.org"), "of an unknown kind"),
        (
            lambda made: reword(made, '"text.txt"', '"../text.txt"'),
            "../text.txt leads out of the artifact",
        ),
        (
            lambda made: reword(made, '"text.txt"', '"/text.txt"'),
            "/text.txt leads out of the artifact",
        ),
    ],
)
def test_what_is_not_what_it_says_is_not_signed(
    artifact: Path, key: Path, tamper: Callable[[Path], object], said: str
) -> None:
    tamper(artifact)
    with pytest.raises(InputError) as refused:
        sign_artifact(artifact, key)
    assert said in refused.value.message
    assert not (artifact / ENVELOPE).exists()


def test_an_envelope_of_another_statement_is_not_added_to(
    artifact: Path, key: Path, tmp_path: Path
) -> None:
    other = make_notes(tmp_path / "other", tmp_path / "source.bin", NotesSpec(text="other")).path
    sign_artifact(other, key)
    shutil.copy(other / ENVELOPE, artifact / ENVELOPE)
    with pytest.raises(InputError, match="signs another statement"):
        sign_artifact(artifact, key)


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"payload": "!", "payloadType": "x", "signatures": []}', "[" * 100_000,
     '{"payload": "", "payloadType": "x", "signatures": [{"keyid": 1, "sig": 2}]}',
     '{"payload": "", "payloadType": "x", "signatures": [{"keyid": 1, "sig": "AAAA"}]}',
     '{"payload": "", "payloadType": "x", "signatures": [{"keyid": "a"}]}',
     '{"payload": "", "payloadType": "x", "signatures": {"keyid": "a", "sig": "AAAA"}}'],
)  # fmt: skip
def test_what_is_no_envelope_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    (tmp_path / ENVELOPE).write_text(text)
    with pytest.raises(InputError, match="is no envelope of signatures"):
        read_envelope(tmp_path / ENVELOPE)


def test_a_signature_over_other_bytes_does_not_hold(artifact: Path, key: Path) -> None:
    sign_artifact(artifact, key)
    found = read_envelope(artifact / ENVELOPE)
    public = {"lab": load_public(key.with_name("lab.pub"))}
    assert valid(found, public) == {"lab"}
    for payload, kind in [(found.payload + b" ", found.payload_type), (found.payload, "text")]:
        assert valid(Envelope(payload, kind, found.signatures), public) == set()


def test_all_artifacts_of_a_run_are_signed(artifact: Path, key: Path, tmp_path: Path) -> None:
    secret = key.read_text().splitlines()[1]
    run = tmp_path / "run"
    for name in ("a", "b"):
        make_notes(run / name, tmp_path / "source.bin", NotesSpec(text=name))
    done = subl("sign", run, artifact, "--key", key, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split("  ")[1][:9] for line in done.stdout.splitlines()] == ["signed by"] * 3
    again = subl("sign", run, artifact, "--key", key, "--json", cwd=tmp_path)
    assert [each["new"] for each in json.loads(again.stdout)] == [False] * 3
    assert secret not in done.stdout + again.stdout
    assert names(run / "a", key) == names(run / "b", key) == names(artifact, key) == {"lab"}


def test_a_folder_without_a_statement_is_not_signed(tmp_path: Path, key: Path) -> None:
    (tmp_path / "data").mkdir()
    done = subl("sign", "data", "--key", key, cwd=tmp_path)
    assert done.returncode == 2
    assert "data is no artifact" in done.stderr and "hint:" in done.stderr
