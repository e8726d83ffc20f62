"""A chain of small artifacts, signed: base -> rows -> kept -> student, with a policy about it.

The filter is the real one; what generates and trains writes a few bytes, with the names of inputs
that the real stages have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from securesystemslib.dsse import Envelope

from subl.artifact import ENVELOPE, Made, StageSpec, build, input_digest
from subl.filter import load_rules
from subl.filter import run as filter_rows
from subl.sign.envelope import PAYLOAD_TYPE, sign_artifact
from subl.sign.keys import load_private, new_key

RULES = """
[[rule]]
name = "numbers only"
kind = "numbers"
max_value = 999
"""


class Spec(StageSpec):
    format_version: ClassVar = 1

    text: str = "spec"
    source: str = ""
    backend: dict[str, str] | None = None
    random: bool = False


@dataclass(frozen=True)
class Chain:
    """The folder of a chain: `run` has its artifacts, `keys` pairs of keys."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / "run" / name

    @property
    def base(self) -> Path:
        return self.folder / "models" / "base"

    def key(self, name: str) -> Path:
        key = self.folder / "keys" / name
        if not key.exists():
            new_key(key, "p256" if name == "partner" else "ed25519")
        return key

    def make(self, kind: str, name: str, inputs: Mapping[str, Path], **values: Any) -> Path:
        """The artifact of a stage that writes a row, or whatever it is."""
        file = "rows.jsonl" if kind in ("generate", "draw") else "model.safetensors"

        def work(folder: Path) -> Made:
            (folder / file).write_text(json.dumps({"completion": "1, 2", "of": name}) + "\n")
            return Made({}, {file: 1} if file.endswith(".jsonl") else {})

        return build(getattr(self, name), kind, Spec(**values), inputs, work).path

    def filter(self, name: str, *rows: Path, rules: str = RULES) -> Path:
        file = self.folder / f"{name}.toml"
        file.write_text(rules)
        return filter_rows(load_rules(file), rows, getattr(self, name)).artifact.path

    def sign(self, *artifacts: Path, key: str = "lab") -> None:
        for artifact in artifacts:
            sign_artifact(artifact, self.key(key))

    def policy(self, signers: str | None = None, **chain: Any) -> Path:
        """A policy file: these signers, or lab for all; with these values in `[chain]`."""
        for name in ("lab", "partner"):
            self.key(name)
        values = {
            "models": {"base": input_digest(self.base)},
            "files": {"prompts": input_digest(self.folder / "prompts.jsonl")},
            "rules": ["rules.toml"],
            "stages": ["generate", "filter", "distill"],
        } | chain
        lines = [f"{name} = {_toml(value)}" for name, value in values.items()]
        file = self.folder / "policy.toml"
        keys = '[keys]\nlab = "keys/lab.pub"\npartner = "keys/partner.pub"\n'
        signers = signers or '[[signer]]\nkeys = ["lab"]\n'
        file.write_text("\n".join([keys, signers, "[chain]", *lines, ""]))
        return file

    def forge(self, artifact: Path, changed: Mapping[str, Any], key: str = "lab") -> None:
        """Sign a statement in which top-level keys are others, without looking at the files."""
        record = json.loads((artifact / "statement.json").read_text()) | changed
        self.sign_bytes(artifact, json.dumps(record).encode(), key)

    def sign_bytes(
        self, artifact: Path, payload: bytes, key: str = "lab", kind: str = PAYLOAD_TYPE
    ) -> None:
        """Sign anything, as somebody who has a key can."""
        envelope = Envelope(payload, kind, {})
        envelope.sign(load_private(self.key(key)))
        (artifact / "statement.json").write_bytes(payload)
        (artifact / ENVELOPE).write_text(json.dumps(envelope.to_dict()))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + " }"
    return json.dumps(value)


def chain_in(folder: Path) -> Chain:
    """A whole chain, signed by lab."""
    chain = Chain(folder)
    chain.base.mkdir(parents=True)
    (chain.base / "model.safetensors").write_bytes(b"weights")
    (chain.base / "config.json").write_text("{}")
    (folder / "run").mkdir()
    (folder / "prompts.jsonl").write_text('{"prompt": "Go on: 1"}\n')
    (folder / "rules.toml").write_text(RULES)
    given = {"model": chain.base, "prompts-0": folder / "prompts.jsonl"}
    rows = chain.make("generate", "rows", given)
    kept = chain.filter("kept", rows)
    student = chain.make("distill", "student", {"model": chain.base, "rows-0": kept})
    chain.sign(rows, kept, student)
    return chain
