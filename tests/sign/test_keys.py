"""Keys are files that nobody else reads, that are never written over, and whose id anybody can
compute."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

pytest.importorskip("securesystemslib")

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from subl.errors import InputError, OutputError
from subl.sign.keys import is_elliptic, load_private, load_public, new_key

from ..artifact.notes import make_notes
from ..cli.console import subl


@pytest.mark.parametrize(
    ("kind", "private", "curve"),
    [("ed25519", ed25519.Ed25519PrivateKey, None), ("p256", ec.EllipticCurvePrivateKey, 256)],
)
def test_a_new_key_is_two_files(tmp_path: Path, kind: str, private: type, curve: int) -> None:
    umask = os.umask(0)  # under which a careless program's files are open to all
    try:
        done = subl("key", "new", "lab", "--type", kind, "--json", cwd=tmp_path)
    finally:
        os.umask(umask)
    assert (done.returncode, done.stderr) == (0, "")
    file, public = tmp_path / "lab", tmp_path / "lab.pub"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    assert file.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    key = load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, private)
    if curve:
        assert isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size == curve
    identity = hashlib.sha256(public.read_bytes()).hexdigest()
    assert json.loads(done.stdout) == {
        "private": "lab",
        "public": "lab.pub",
        "type": kind,
        "id": identity,
    }
    assert load_public(public).keyid == load_private(file).public_key.keyid == identity
    assert is_elliptic(load_public(public)) == (kind == "p256")
    secret = file.read_text().splitlines()[1]
    assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize("taken", ["lab", "lab.pub"])
def test_no_key_is_written_over(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    done = subl("key", "new", "lab", cwd=tmp_path)
    assert done.returncode == 2
    assert f"{taken} is there already: a key is never written over" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "mine"


def test_a_link_to_nothing_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "lab").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is there already"):
        new_key(tmp_path / "lab")
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_is_not_made_in_an_artifact(tmp_path: Path) -> None:
    (tmp_path / "source.bin").write_bytes(b"1")
    artifact = make_notes(tmp_path / "made", tmp_path / "source.bin").path
    with pytest.raises(OutputError, match=r"in the artifact .*, to which nothing is added"):
        new_key(artifact / "copy" / "lab")
    assert [path.name for path in (artifact / "copy").iterdir()] == ["data.bin"]


def test_a_public_key_may_have_words_before_it(tmp_path: Path) -> None:
    """As some tools write them."""
    identity = new_key(tmp_path / "lab")
    text = (tmp_path / "lab.pub").read_text()
    (tmp_path / "lab.pub").write_text(f"Public Key Information:\n\tCurve: Ed25519\n\n{text}")
    assert load_public(tmp_path / "lab.pub").keyid == identity


def test_a_file_of_several_keys_is_none(tmp_path: Path) -> None:
    """Others take the first and say nothing (xml-crypto#606)."""
    for name in ("old", "new"):
        new_key(tmp_path / name)
    for load, ending in ((load_public, ".pub"), (load_private, "")):
        both = [(tmp_path / f"{name}{ending}").read_text() for name in ("old", "new")]
        (tmp_path / "both").write_text("".join(both))
        with pytest.raises(InputError, match="both has 2 keys, and one is wanted"):
            load(tmp_path / "both")


def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path) -> None:
    new_key(tmp_path / "lab")
    secret = (tmp_path / "lab").read_text()
    for name, text, said in [
        ("missing", None, "cannot read"),
        ("words", "hello", "is no public key in PEM"),
        ("large", "x" * 100_000, "is too large"),
        ("private", secret, "has a private key, and a public one is wanted"),
    ]:
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=said) as refused:
            load_public(tmp_path / name)
        assert secret.splitlines()[1] not in f"{refused.value.message}{refused.value.hint}"
    (tmp_path / "cut").write_text(secret[:80])
    for name in ("words", "lab.pub", "cut"):
        with pytest.raises(InputError, match="is no private key in PEM"):
            load_private(tmp_path / name)


def test_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "rsa").write_bytes(pem)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "rsa.pub").write_bytes(public)
    koblitz = ec.generate_private_key(ec.SECP256K1())
    pem = koblitz.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "koblitz").write_bytes(pem)
    with pytest.raises(InputError, match="neither an Ed25519 key nor one on a NIST curve"):
        load_private(tmp_path / "rsa")
    with pytest.raises(InputError, match="neither an Ed25519 key nor one on a NIST curve"):
        load_public(tmp_path / "rsa.pub")
    with pytest.raises(InputError, match="koblitz: unsupported curve"):
        load_private(tmp_path / "koblitz")


def test_a_password_is_not_asked_for(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tmp_path / "locked").write_bytes(pem)
    with pytest.raises(InputError, match="is locked with a password"):
        load_private(tmp_path / "locked")
