"""A DSSE envelope over an artifact's statement: `statement.dsse.json` beside `statement.json`.

The payload is that file's bytes, so that who knows nothing of envelopes reads the statement as
before. Each key signs it once; the envelope has the signatures of all. Format: DSSE 1.0 with the
payload type of in-toto, as `securesystemslib` writes and reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import ENVELOPE, parse_statement, write_atomically
from subl.errors import InputError
from subl.extras import require
from subl.sign.contents import read_contents
from subl.sign.keys import load_private

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def sign_artifact(artifact: Path, key: Path) -> tuple[str, bool]:
    """Sign the statement of an artifact with a private key: the key's id, and whether its signature
    is new. One that is there stays, as do those of other keys.

    Raises:
        InputError: the artifact is not what its statement says; or there is an envelope over
            another statement.
    """
    signer = load_private(key)
    from securesystemslib.dsse import Envelope

    statement, file = artifact / "statement.json", artifact / ENVELOPE
    payload = _read(statement)
    if wrong := problems(artifact, payload):
        raise InputError(
            f"{artifact} is not what its statement says, and is not signed: {'; '.join(wrong)}",
            hint="make it again, or restore what was changed",
        )
    envelope = read_envelope(file) if file.exists() else Envelope(payload, PAYLOAD_TYPE, {})
    if (envelope.payload, envelope.payload_type) != (payload, PAYLOAD_TYPE):
        raise InputError(
            f"{file} signs another statement than {statement}",
            hint="see who signed what; to sign the statement that is there, remove the envelope",
        )
    identity = signer.public_key.keyid
    if identity in valid(envelope, {identity: signer.public_key}):
        return identity, False
    for place, signature in list(envelope.signatures.items()):
        if signature.keyid == identity:  # which does not hold
            del envelope.signatures[place]
    envelope.sign(signer)
    write_atomically(file, f"{json.dumps(envelope.to_dict(), indent=2)}\n")
    return identity, True


def problems(artifact: Path, statement: bytes) -> list[str]:
    """In what an artifact is not what the bytes of its statement say; every file is read.

    Raises:
        InputError: they are no statement, or one of nothing that a stage of subl made.
    """
    file = artifact / "statement.json"
    record = parse_statement(statement, file)
    if record is None:
        raise InputError(
            f"{file} is no statement of a stage of subl",
            hint="to sign a model or a data set that subl did not make, give --format oms",
        )
    return read_contents(artifact, record)[1]


def read_envelope(file: Path) -> Envelope:
    """An envelope as it lies there, with nothing verified: its payload is bytes, no more.

    Raises:
        InputError: it cannot be read, or is none.
    """
    require("sign", "securesystemslib", "cryptography", what="signing")
    try:
        return parse_envelope(json.loads(_read(file)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{file} is no envelope of signatures", hint="restore it, or have it signed again"
        ) from error


def parse_envelope(record: Any) -> Envelope:
    """An envelope from its JSON, which is changed. By DSSE a signature may leave out the id of its
    key, and several may have one: `signatures` has them by their places, as they name their keys.
    Raises what reading a dictionary raises where it is no envelope.
    """
    from securesystemslib.dsse import Envelope

    named = [each.get("keyid") or "" for each in record["signatures"]]
    if not all(isinstance(each, str) for each in named):
        raise TypeError("the id of a key is no text")
    for place, each in enumerate(record["signatures"]):
        each["keyid"] = str(place)
    envelope = Envelope.from_dict(record)
    for place, name in enumerate(named):
        envelope.signatures[str(place)].keyid = name
    return envelope


def valid(envelope: Envelope, keys: Mapping[str, SSlibKey]) -> set[str]:
    """The names of those keys by which there is a signature over the payload that holds, whatever
    key it names."""
    signed = envelope.pae()
    signatures = {each.signature for each in envelope.signatures.values()}
    return {
        name for name, key in keys.items() if any(_holds(each, key, signed) for each in signatures)
    }


def _holds(signature: str, key: SSlibKey, signed: bytes) -> bool:
    from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
    from securesystemslib.signer import Signature

    try:
        key.verify_signature(Signature(key.keyid, signature), signed)
    except (UnverifiedSignatureError, VerificationError) as error:
        if isinstance(error.__cause__ or error.__context__, RecursionError | MemoryError):
            raise  # which says nothing of the signature
        return False
    return True


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {file}: {error.strerror}", hint="give what a stage of subl made"
        ) from error
