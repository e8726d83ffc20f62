"""Bundles of OpenSSF Model Signing and the reference program: each reads what the other wrote.

It brings dozens of packages, so it is in an environment of its own (tests/oracle/model_signing.txt;
`make adapters` makes it), whose interpreter is SUBL_MODEL_SIGNING_PYTHON or `.venv-model-signing`.
Without it these tests are skipped, unless SUBL_REQUIRE_MODEL_SIGNING is set.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("securesystemslib")

from subl.sign.bundle import bundle_of, sign_bundle, verify_bundle
from subl.sign.envelope import sign_artifact
from subl.sign.keys import new_key
from subl.sign.policy import Policy, load_policy

from ..artifact.notes import make_notes

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("SUBL_MODEL_SIGNING_PYTHON", ROOT / ".venv-model-signing/bin/python"))

SIGN = """
import sys
from model_signing import signing
folder, bundle, key = sys.argv[1:]
signing.Config().use_elliptic_key_signer(private_key=key).sign(folder, bundle)
"""

VERIFY = """
import sys
from model_signing import verifying
folder, bundle, key = sys.argv[1:]
try:
    verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, bundle)
except ValueError as error:
    sys.exit(str(error))
"""


def reference(program: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-c", program, *arguments], capture_output=True, encoding="utf-8"
    )


@pytest.fixture(autouse=True)
def is_there() -> None:
    if not PYTHON.exists() and not os.environ.get("SUBL_REQUIRE_MODEL_SIGNING"):
        pytest.skip(f"no model-signing: no {PYTHON}")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "lab", "p256")
    return tmp_path / "lab"


@pytest.fixture
def policy(key: Path, tmp_path: Path) -> Policy:
    (tmp_path / "policy.toml").write_text('keys = {lab = "lab.pub"}\n[[signer]]\nkeys = ["lab"]\n')
    return load_policy(tmp_path / "policy.toml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub" / ".deep").mkdir(parents=True)
    for name in ("model.safetensors", "sub/grüße.json", "sub/.deep/.hidden", "Z", "a b", ".top"):
        (folder / name).write_bytes(name.encode())
    (folder / "empty").touch()
    (folder / ".gitattributes").write_text("* lfs\n")
    return folder


def test_the_reference_verifies_what_subl_signs(folder: Path, key: Path) -> None:
    bundle, public = bundle_of(folder), key.with_name("lab.pub")
    sign_bundle(folder, key, bundle)
    done = reference(VERIFY, folder, bundle, public)
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "Z").write_bytes(b"other")
    done = reference(VERIFY, folder, bundle, public)
    assert done.returncode == 1 and "Hash mismatch for" in done.stderr


def test_the_reference_verifies_an_artifact_with_what_came_to_it(tmp_path: Path, key: Path) -> None:
    (tmp_path / "source.bin").write_bytes(b"1")
    artifact = make_notes(tmp_path / "made", tmp_path / "source.bin").path
    sign_bundle(artifact, key, bundle_of(artifact))
    sign_artifact(artifact, key)
    (artifact / ".seen.json").write_text("{}")
    done = reference(VERIFY, artifact, bundle_of(artifact), key.with_name("lab.pub"))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_reference_refuses_a_strangers_bundle(folder: Path, key: Path, tmp_path: Path) -> None:
    new_key(tmp_path / "stranger", "p256")
    sign_bundle(folder, tmp_path / "stranger", bundle_of(folder))
    done = reference(VERIFY, folder, bundle_of(folder), key.with_name("lab.pub"))
    assert done.returncode == 1 and "Key mismatch" in done.stderr


def test_subl_verifies_what_the_reference_signs(folder: Path, key: Path, policy: Policy) -> None:
    bundle = bundle_of(folder)
    done = reference(SIGN, folder, bundle, key)
    assert (done.returncode, done.stderr) == (0, "")
    found = verify_bundle(folder, bundle, policy)
    assert (found.signers, found.problems, found.files) == (("lab",), (), 7)
    (folder / "Z").write_bytes(b"other")
    assert verify_bundle(folder, bundle, policy).problems == ("Z was changed",)


def test_both_write_the_same_statement_of_the_same_files(folder: Path, key: Path) -> None:
    """But for the order of what has none."""
    found = []
    for bundle in (folder.with_name("ours.sig"), folder.with_name("theirs.sig")):
        if bundle.stem == "ours":
            sign_bundle(folder, key, bundle)
        else:
            assert reference(SIGN, folder, bundle, key).returncode == 0
        record = json.loads(bundle.read_text())
        statement = json.loads(base64.b64decode(record["dsseEnvelope"].pop("payload")))
        statement["predicate"]["serialization"]["ignore_paths"].sort()
        record["dsseEnvelope"]["signatures"][0].pop("sig")
        found.append((record, statement))
    (ours, our_statement), (theirs, their_statement) = found
    assert our_statement == their_statement
    assert ours == theirs
