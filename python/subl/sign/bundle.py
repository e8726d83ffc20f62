"""OpenSSF Model Signing v1.0: a model or a data set that leaves subl, signed for anybody's tools.

A bundle is a file of its own, `NAME.sig` beside the folder NAME. It is a Sigstore bundle with a
DSSE envelope over an in-toto statement that lists every file with its SHA-256. It says nothing of
where they are from: of an artifact, the statement that does is among the files. Keys are on a NIST
curve; certificates and Sigstore's own keys are left to its tools.
Source: ossf/model-signing-spec, spec/v1.0.md; sections are of it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import ENVELOPE, check_place, file_digest, read_statement, write_atomically
from subl.artifact.index import led_out
from subl.artifact.statement import with_name
from subl.artifact.uncovered import OWN
from subl.errors import InputError, OutputError
from subl.sign.contents import is_inside
from subl.sign.envelope import PAYLOAD_TYPE, parse_envelope, problems, valid
from subl.sign.keys import is_elliptic, load_private
from subl.sign.policy import BUNDLE, Policy

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

_IGNORED = frozenset({".git", ".gitattributes", ".github", ".gitignore"})
"""What section 6.2 has everybody leave out, at the top of the folder."""

_BESIDE = OWN | {ENVELOPE}
"""What may come to an artifact later, or differs where it is."""


class _Refused(Exception):
    """A bundle says something that cannot be trusted, or not be read: a sentence."""


@dataclass(frozen=True)
class Verified:
    """What came of a bundle: who signed, by names of the policy's keys, and what is refused of
    `path`: of the bundle itself, or of the folder."""

    path: Path
    signers: tuple[str, ...]
    problems: tuple[str, ...]
    files: int = 0


def bundle_of(folder: Path) -> Path:
    """Where the bundle of a folder is, unless somebody says otherwise."""
    return with_name(folder).parent / f"{folder.resolve().name}.sig"


def sign_bundle(folder: Path, key: Path, out: Path) -> tuple[str, bool]:
    """Write the bundle of a folder to `out`: the key's id, and whether the bundle is new.

    Raises:
        InputError: it is no folder, or an artifact that is not what its statement says; something
            in it cannot be signed; or the key is not on a NIST curve.
        OutputError: `out` is another bundle, or in an artifact, or cannot be written.
    """
    signer = load_private(key)
    from securesystemslib.dsse import Envelope

    identity = signer.public_key.keyid
    if not is_elliptic(signer.public_key):
        raise InputError(
            f"{key} is an Ed25519 key, and bundles of OpenSSF are signed with P-256",
            hint="subl key new NAME --type p256 makes one, which signs statements, too",
        )
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder", hint="give the folder of a model or a data set")
    check_place(out)
    is_artifact = read_statement(folder) is not None
    if is_artifact and (wrong := problems(folder, (folder / "statement.json").read_bytes())):
        raise InputError(
            f"{folder} is not what its statement says, and is not signed: {'; '.join(wrong)}",
            hint="make it again, or restore what was changed",
        )
    ignored = _IGNORED | (_BESIDE if is_artifact else set()) | _inside(out, folder)
    payload = _statement(folder, ignored)
    if out.exists():
        try:
            held, hint = _parsed(out)
        except _Refused:
            held, hint = None, None
        if (
            held is None
            or not valid(held, {identity: signer.public_key})
            or held.payload != payload
            or hint != identity
        ):
            raise OutputError(
                f"{out} is there already, and is another bundle",
                hint="remove it, or choose another place with -o",
            )
        return identity, False
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    record = envelope.to_dict()
    for each in record["signatures"]:
        each["keyid"] = ""  # the key is named outside of the envelope
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": identity}, "tlogEntries": []},
        "dsseEnvelope": record,
    }
    write_atomically(out, f"{json.dumps(bundle, indent=2)}\n")
    return identity, True


def verify_bundle(folder: Path, bundle: Path, policy: Policy) -> Verified:
    """Check a folder against its bundle (section 8) and who signed it against a policy.

    Raises:
        InputError: there is no such bundle, or a file of the folder cannot be read.
    """
    if not bundle.is_file():
        wrong = "is a folder, and no bundle" if bundle.is_dir() else "does not exist"
        raise InputError(
            f"{bundle} {wrong}",
            hint="subl sign --format oms writes the bundle of a folder; --bundle says where it is",
        )
    try:
        envelope, hint = _parsed(bundle)
        keys = {name: key for name, key in policy.keys.items() if is_elliptic(key)}
        signers = tuple(sorted(valid(envelope, keys)))
        if not signers:
            raise _Refused(
                "has no valid signature by a key of the policy (its signature names "
                f"{'nobody' if hint is None else repr(hint)[1:13]})"
            )
    except _Refused as refused:
        return Verified(bundle, (), (str(refused),))
    found = []
    if hint is not None and hint != policy.keys[signers[0]].keyid:
        found.append(f"names another key than {signers[0]}, which signed it")
    if (objection := policy.objection(BUNDLE, signers)) is not None:
        return Verified(folder, signers, (*found, objection))
    try:
        signed, ignored = _resources(envelope.payload)
    except _Refused as refused:
        return Verified(bundle, signers, (*found, str(refused)))
    found += _differences(folder, bundle, signed, ignored)
    return Verified(folder, signers, tuple(found), len(signed))


def _differences(
    folder: Path, bundle: Path, signed: Mapping[str, str], ignored: AbstractSet[str]
) -> Iterator[str]:
    """In what a folder is not what was signed."""
    own = _BESIDE if (folder / "statement.json").is_file() else set()
    itself = _inside(bundle, folder)
    left_out = ignored & (_IGNORED | own) | _IGNORED | itself
    strange = list(_strange(folder, left_out))
    yield from strange
    for name in sorted(ignored - left_out):
        if os.path.lexists(folder / name):
            yield f"{name} was left out when it was signed: nothing binds it"
    if strange:
        return
    found = {
        name: file_digest(folder / name)
        for name in _files(folder, left_out)
        if not any(name == each or name.startswith(f"{each}/") for each in ignored)
    }
    yield from (f"{name} is missing" for name in sorted(signed.keys() - found.keys()))
    yield from (f"{name} was added" for name in sorted(found.keys() - signed.keys()))
    for name in sorted(signed.keys() & found.keys()):
        if signed[name] != found[name]:
            yield f"{name} was changed"


def _statement(folder: Path, ignored: Collection[str]) -> bytes:
    """What is signed of a folder (sections 5 and 6)."""
    if strange := list(_strange(folder, ignored)):
        raise InputError(f"{folder} cannot be signed: {'; '.join(strange)}", hint="remove that")
    names = sorted(_files(folder, ignored))
    if not names:
        raise InputError(f"{folder} has no files to sign", hint="give a model or a data set")
    digests = {name: file_digest(folder / name) for name in names}
    statement = {
        "_type": _STATEMENT_TYPE,
        "subject": [{"name": folder.resolve().name, "digest": {"sha256": _root(digests)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "resources": [
                {"name": name, "digest": digests[name], "algorithm": "sha256"} for name in names
            ],
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": sorted(ignored),
            },
        },
    }
    return json.dumps(statement).encode()


def _root(digests: Mapping[str, str]) -> str:
    """Section 6.5.1. Names are not in it: it is no digest of subl's."""
    joined = b"".join(bytes.fromhex(digests[name]) for name in sorted(digests))
    return hashlib.sha256(joined).hexdigest()


def _parsed(bundle: Path) -> tuple[Envelope, str | None]:
    """The envelope of a bundle and the key's id that it names; nothing is verified yet."""
    try:
        record = json.loads(bundle.read_bytes())
        if record["mediaType"] != MEDIA_TYPE:
            raise _Refused(f"is a bundle of another kind: {record['mediaType']!r:.80}")
        if record.keys() != {"mediaType", "verificationMaterial", "dsseEnvelope"}:
            raise _Refused("is a bundle with something else in it")
        material, envelope = record["verificationMaterial"], record["dsseEnvelope"]
        if "publicKey" not in material:
            raise _Refused("is signed by a certificate, and subl verifies keys")
        hint = material["publicKey"].get("hint")
        if hint is None and "rawBytes" not in material["publicKey"]:
            raise _Refused("is a bundle that names no key")
        if envelope.keys() != {"payload", "payloadType", "signatures"}:
            raise _Refused("is a bundle with something else in its envelope")
        [signature] = envelope["signatures"]
        if signature.get("keyid"):
            raise _Refused("is a bundle whose signature names a key")
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise _Refused(f"signs no statement: {envelope['payloadType']!r:.80}")
        return parse_envelope(envelope), None if hint is None else str(hint)
    except OSError as error:
        raise _Refused(f"cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _Refused("is no bundle of OpenSSF Model Signing") from error


def _resources(payload: bytes) -> tuple[dict[str, str], set[str]]:
    """What a payload, whose signature holds, says: digests of files, and what was left out."""
    try:
        said: dict[str, Any] = json.loads(payload)
        if said["_type"] != _STATEMENT_TYPE or said["predicateType"] != PREDICATE_TYPE:
            raise _Refused(
                f"is signed with a statement of an unknown kind: {said['predicateType']!r:.80}"
            )
        how, resources = said["predicate"]["serialization"], said["predicate"]["resources"]
        if (how["method"], how["hash_type"]) != ("files", "sha256"):
            raise _Refused(
                f"has digests of {how['method']!r:.20} by {how['hash_type']!r:.20}; subl verifies"
                " whole files by sha256"
            )
        if how["allow_symlinks"] is not False:
            raise _Refused("was signed through symbolic links: nothing binds what they lead to")
        digests = {each["name"]: each["digest"] for each in resources}
        if len(digests) < len(resources) or not digests:
            raise _Refused("is signed with a list that names a file twice, or none")
        for each in resources:
            if not is_inside(each["name"]):
                raise _Refused(f"is signed with a file that leads out of it: {each['name']!r:.80}")
            if each["algorithm"] != "sha256":
                raise _Refused(f"has a digest of an unknown kind: {each['algorithm']!r:.20}")
        [subject] = said["subject"]
        if subject["digest"]["sha256"] != _root(digests):
            raise _Refused("is signed with a root digest that is not that of its files")
        return digests, set(how.get("ignore_paths", ()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _Refused("is signed with a statement that is damaged") from error


def _inside(file: Path, folder: Path) -> set[str]:
    """The name of a bundle in its own folder, if it is there."""
    at, around = file.resolve(), folder.resolve()
    return {at.relative_to(around).as_posix()} if at.is_relative_to(around) else set()


def _entries(
    folder: Path, ignored: Collection[str], prefix: str = ""
) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder / prefix) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if name in ignored:
                continue
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(folder, ignored, f"{name}/")


def _strange(folder: Path, ignored: Collection[str]) -> Iterator[str]:
    """A sentence for each thing in a folder that cannot be signed."""
    yield from (f"{name} {what}" for name, what in led_out(folder))
    for entry in sorted(_entries(folder, ignored), key=lambda entry: entry.path):
        name = Path(entry.path).relative_to(folder).as_posix()
        if entry.is_dir(follow_symlinks=False):
            yield from (f"{name}/{file} {what}" for file, what in led_out(Path(entry.path)))
        if entry.is_symlink():
            yield f"{name} is a symbolic link: nothing binds what it leads to"
        elif not entry.is_dir() and not entry.is_file():
            yield f"{name} is no regular file"
        elif any("\udc80" <= each <= "\udcff" for each in name):
            yield f"{name!a} is a name that is not UTF-8"


def _files(folder: Path, ignored: Collection[str]) -> Iterator[str]:
    """Names of all files, hidden ones, too (section 6.1)."""
    for entry in _entries(folder, ignored):
        if entry.is_file(follow_symlinks=False):
            yield Path(entry.path).relative_to(folder).as_posix()
