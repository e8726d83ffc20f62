"""Key pairs in files: PEM, PKCS8 for the private half, SubjectPublicKeyInfo for the public one.

A key's id is the SHA-256 of its public file, so `sha256sum lab.pub` prints it; OpenSSF Model
Signing calls a key by the same number. It decides nothing: a signature holds where the key itself
verifies it, whatever id it has.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from subl.artifact import check_place, sync
from subl.errors import InputError, OutputError
from subl.extras import require

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from securesystemslib.signer import CryptoSigner, SSlibKey

KeyType = Literal["ed25519", "p256"]

_MOST_BYTES = 1 << 16
_OWNER_ALONE = 0o600
_EVERYBODY_READS = 0o644


def new_key(path: Path, kind: KeyType = "ed25519") -> str:
    """Write a private key to `path`, which its owner alone may read, and `path`.pub; return its id.

    Raises:
        OutputError: one of the files is there, or cannot be written; or `path` is in an artifact.
    """
    _require()
    from securesystemslib.signer import CryptoSigner

    public = path.with_name(f"{path.name}.pub")
    check_place(path, hint="keep keys where nobody else looks, such as ~/.config/subl")
    for file in (path, public):
        if os.path.lexists(file):
            raise OutputError(
                f"{file} is there already: a key is never written over",
                hint="give the new key another name",
            )
    make = CryptoSigner.generate_ed25519 if kind == "ed25519" else CryptoSigner.generate_ecdsa
    signer = make()
    pem = _pem(signer.public_key._crypto_key())
    _write(path, signer.private_bytes, _OWNER_ALONE)
    _write(public, pem, _EVERYBODY_READS)
    return _id(pem)


def load_private(path: Path) -> CryptoSigner:
    """The key pair of a file with a private key.

    Raises:
        InputError: it cannot be read, or is no private key of a kind that is used here.
    """
    _require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    data = _read(path, "subl key new NAME makes a key")
    _check_one(path, data)
    try:
        private = load_pem_private_key(data, None)
    except TypeError as error:
        raise InputError(
            f"{path} is locked with a password, and subl asks for none",
            hint=f"openssl pkey -in {path} -out OTHER, with a umask of 077",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"{path} is no private key in PEM", hint="subl key new NAME makes one"
        ) from error
    return CryptoSigner(private, _checked(path, private.public_key()))


def load_public(path: Path) -> SSlibKey:
    """The key of a file with a public key; its id is `keyid`.

    Raises:
        InputError: it cannot be read, or is no public key of a kind that is used here.
    """
    _require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _read(path, "who has the private key gives you its public one, NAME.pub")
    if b"PRIVATE KEY" in data:
        raise InputError(
            f"{path} has a private key, and a public one is wanted here",
            hint=f"give {path}.pub, and let nobody else read {path}",
        )
    _check_one(path, data)
    # A tool may say in words before it what the key is.
    start = data.find(b"-----BEGIN")
    try:
        public = load_pem_public_key(data[max(start, 0) :])
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"{path} is no public key in PEM", hint="subl key new NAME writes NAME.pub"
        ) from error
    return _checked(path, public)


def _check_one(path: Path, data: bytes) -> None:
    if (count := len(re.findall(rb"-----BEGIN [A-Z ]*KEY-----", data))) > 1:
        raise InputError(
            f"{path} has {count} keys, and one is wanted", hint="give each a file of its own"
        )


def is_elliptic(key: SSlibKey) -> bool:
    """Whether it is a key on a NIST curve, as OpenSSF Model Signing wants."""
    return key.keytype == "ecdsa"


def _require() -> None:
    require("sign", "securesystemslib", "cryptography", what="signing")


def _checked(path: Path, public: PublicKeyTypes) -> SSlibKey:
    """The key as the library of signatures has it, if it is of a kind that is used here."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from securesystemslib.signer import SSlibKey

    if not isinstance(public, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey):
        raise InputError(
            f"{path} is neither an Ed25519 key nor one on a NIST curve",
            hint="subl key new NAME makes one",
        )
    try:
        return SSlibKey.from_crypto(public, _id(_pem(public)))
    except ValueError as error:
        raise InputError(f"{path}: {error}", hint="subl key new NAME makes another") from error


def _pem(public: PublicKeyTypes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _id(pem: bytes) -> str:
    return hashlib.sha256(pem).hexdigest()


def _read(path: Path, hint: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    if len(data) > _MOST_BYTES:
        raise InputError(f"{path} is no key: it is too large")
    return data


def _write(path: Path, data: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sync(path.parent)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
