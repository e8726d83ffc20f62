"""A policy: whose keys may sign what, and what a chain must be made of.

    [keys]
    lab = "lab.pub"
    partner = "partner.pub"

    [[signer]]
    keys = ["lab", "partner"]
    kinds = ["generate", "filter"]

    [chain]
    stages = ["generate", "filter"]
    rules = ["paper-numbers"]
    models = { smollm2 = "5ae1..." }

It is the reader's own file: nothing that comes with an artifact adds to it. What it does not allow
is refused: a kind of artifact that no table names, and whatever no stage made that is not listed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from subl.config import SHA256, WrittenPath, load_toml, meant
from subl.errors import ConfigError, InputError

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

Sha256 = Annotated[str, Field(pattern=SHA256)]

BUNDLE = "oms"
"""What `kinds` calls a bundle of OpenSSF Model Signing, of whatever folder or file."""


_OF_SHARDS = ("convert", "merge", "sample", "split")
"""Kinds of what `subl shards` makes."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class SignerSpec(_Table):
    """Who may sign which kinds of artifact."""

    keys: tuple[str, ...] = Field(min_length=1, description="names of `[keys]`")
    kinds: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="stages whose artifacts they may sign, by the names of their commands (of"
        " `subl distill cache`, `cache`); `oms`: OpenSSF bundles. Without: all",
    )
    threshold: int = Field(1, gt=0, description="how many of these keys must have signed")

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if len(set(self.keys)) < len(self.keys):
            raise ValueError("a key is named twice")
        if self.threshold > len(self.keys):
            raise ValueError(f"threshold {self.threshold} of {len(self.keys)} keys is never met")
        return self


class ChainSpec(_Table):
    """What must be in a chain, and what it may start from."""

    stages: tuple[str, ...] = Field((), description="stages that must be in it")
    rules: tuple[str, ...] = Field(
        (),
        description="rules files, or names of shipped ones: a filter with all the rules of each is "
        "between every row and the model that it is from",
    )
    models: dict[str, Sha256] = Field(
        {}, description="models that it may start from: a name, and the digest that lineage shows"
    )
    files: dict[str, Sha256] = Field(
        {}, description="files and folders that it may start from otherwise, such as prompts"
    )
    servers: tuple[str, ...] = Field(
        (), description="models, by the names that servers know them by, that rows may be from"
    )


class PolicySpec(_Table):
    """Whose signatures count, and what a chain of artifacts must be made of."""

    keys: dict[str, WrittenPath] = Field(
        min_length=1, description="public keys: a name, and a file beside this one"
    )
    signers: tuple[SignerSpec, ...] = Field(
        validation_alias="signer", min_length=1, description="`[[signer]]` tables"
    )
    chain: ChainSpec = Field(ChainSpec(), description="what a chain must be made of")

    @model_validator(mode="after")
    def _knows_its_keys(self) -> Self:
        for signer in self.signers:
            for name in signer.keys:
                if name not in self.keys:
                    raise ValueError(f"`[[signer]]` names the key {name}, which `[keys]` does not")
        return self


@dataclass(frozen=True)
class Policy:
    """A policy with its keys and rules read; `rules` has those of each file, as records do."""

    path: Path
    spec: PolicySpec
    keys: Mapping[str, SSlibKey]
    rules: Mapping[str, tuple[Mapping[str, Any], ...]]

    @property
    def chain(self) -> ChainSpec:
        return self.spec.chain

    def origins(self) -> set[str]:
        """Digests of all that a chain may start from."""
        return {*self.chain.models.values(), *self.chain.files.values()}

    def objection(self, kind: str, signers: Collection[str]) -> str | None:
        """Why signatures by these keys do not do for an artifact of a kind; None where they do."""
        tables = [each for each in self.spec.signers if each.kinds is None or kind in each.kinds]
        if any(len(set(each.keys) & set(signers)) >= each.threshold for each in tables):
            return None
        by = f"is signed by {', '.join(sorted(signers))}"
        if not tables:
            return f"{by}, and the policy lets nobody sign what is of kind {kind}"
        wanted = " or ".join(f"{each.threshold} of {', '.join(each.keys)}" for each in tables)
        return f"{by}; of kind {kind}, the policy wants {wanted}"


def load_policy(path: Path) -> Policy:
    """Read a policy, and the keys and rules that it names; their paths are relative to it.

    Raises:
        InputError: the file, a key or a rules file cannot be read.
        ConfigError: it says something that is not known, or names one key twice.
    """
    from subl.sign.keys import load_public

    spec = load_toml(path, PolicySpec)
    _check_kinds(path, spec)
    keys = {}
    for name, file in spec.keys.items():
        try:
            keys[name] = load_public(path.parent / file)
        except InputError as error:
            raise InputError(f"{path}: keys.{name}: {error.message}", hint=error.hint) from error
    named: dict[str, str] = {}
    for name, key in keys.items():
        if (other := named.setdefault(key.keyid, name)) != name:
            raise ConfigError(
                f"{path}: {other} and {name} are one key", hint="give each key one name"
            )
    return Policy(path, spec, keys, {name: _rules(path, name) for name in spec.chain.rules})


def _check_kinds(policy: Path, spec: PolicySpec) -> None:
    """Refuse what no stage is called: nobody would notice that it binds nothing."""
    from subl.stages import STAGES

    known = {*STAGES, *_OF_SHARDS}
    named = {f"kinds of signer {n}": each.kinds or () for n, each in enumerate(spec.signers, 1)}
    for where, names in {**named, "chain.stages": spec.chain.stages}.items():
        among = known | {BUNDLE} if where != "chain.stages" else known
        for name in names:
            if name not in among:
                raise ConfigError(
                    f"{policy}: {where}: no stage is called {name!r}{meant(name, among)}",
                    hint=f"known: {', '.join(sorted(among))}",
                )


def _rules(policy: Path, name: str) -> tuple[Mapping[str, Any], ...]:
    from subl.filter.spec import load_rules

    beside = policy.parent / name
    spec = load_rules(beside if beside.is_file() else name)
    return tuple(spec.model_dump(mode="json")["rules"])
