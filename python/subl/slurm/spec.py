"""What a job asks of a cluster: from a profile, a file's `[slurm]` table and flags.

Every value may be left out, and then nothing is said of it: sites differ in what they demand and
what they forbid. A later layer drops an earlier one's value with the word `null`.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from subl.config import JOBS, validated
from subl.errors import ConfigError, InputError

PROFILES = "SUBL_SLURM_PROFILES"
"""Environment variable: the file of named profiles."""

DEFAULT_PROFILE = "default"

Layer = Mapping[str, Any]
"""Some of the keys of a `SlurmSpec`."""


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line of printable characters")
    return text


Line = Annotated[
    str,
    StringConstraints(min_length=1),
    AfterValidator(_one_line),
]


def _as_text(value: object) -> object:
    """TOML has `30`, and `04:00:00` for a time of day."""
    is_plain = isinstance(value, int | time) and not isinstance(value, bool)
    return str(value) if is_plain else value


Number = Annotated[Line, BeforeValidator(_as_text)]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

_TIME = re.compile(r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d){0,2}")


class SlurmSpec(BaseModel):
    """A job's wishes. Those of None are not said, so the site's own defaults hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    partition: Line | None = Field(None, description="where to run")
    account: Line | None = Field(None, description="who is charged")
    qos: Line | None = Field(None, description="quality of service")
    time: Number | None = Field(None, description="limit, as in 30 (minutes), 4:00:00 or 1-12")
    nodes: int | None = Field(None, gt=0, description="machines")
    tasks: int | None = Field(
        None, gt=0, description="ranks on all machines together; several are started by srun"
    )
    gpus_per_node: Number | None = Field(None, description="as in 8 or a100:4")
    cpus: int | None = Field(None, gt=0, description="cores of a rank")
    memory: Number | None = Field(None, description="of a machine, as in 64G; 0 is all of it")
    constraint: Line | None = Field(None, description="features that a machine must have")
    directives: tuple[Line, ...] = Field(
        (), description="whatever else sbatch takes, as in --exclude=node7"
    )
    array: int | None = Field(None, gt=0, description="tasks that share the command's work")
    parallel: int | None = Field(None, gt=0, description="of an array, tasks at a time")
    container: tuple[Line, ...] = Field(
        (), description="words before the command, as in apptainer exec --nv subl.sif"
    )
    modules: tuple[Line, ...] = Field((), description="what `module load` loads")
    setup: tuple[Line, ...] = Field((), description="lines of shell that run before the command")
    environment: dict[Variable, str] = Field({}, description="variables that the command sees")
    signal_seconds: int | None = Field(
        120, gt=0, le=65535, description="how long before its end a job is told to save"
    )
    requeue: bool = Field(True, description="a job that was told to save goes on by itself")
    restarts: int = Field(16, ge=0, description="so often at most")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.time is not None and not _TIME.fullmatch(self.time):
            raise ValueError(f"time {self.time!r} is none of MINUTES, HH:MM:SS, D-HH, D-HH:MM:SS")
        for each in self.directives:
            if not each.startswith("-"):
                raise ValueError(f"directives: {each!r} is no option of sbatch: it has no -")
            try:
                shlex.split(each, comments=True)
            except ValueError as error:
                raise ValueError(f"directives: {each!r}: {error}") from error
        return self

    @property
    def lead_seconds(self) -> int | None:
        """How long before its end it is told to save: at most half of its time."""
        limit = None if self.time is None else seconds_of(self.time)
        if self.signal_seconds is None or not limit:  # sbatch takes 0 as no limit
            return self.signal_seconds
        return min(self.signal_seconds, max(1, int(limit / 2)))


def seconds_of(said: str) -> float | None:
    """`30` (minutes), `2:30` (of minutes), `4:00:00`, `1-12`, `1-12:00:00.5`; None of anything
    else."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+(?:\.\d+)?))?(?:\.\d+)?", said)
    if found is None:
        return None
    days, first, second, third = (None if each is None else float(each) for each in found.groups())
    if days is not None or third is not None:
        return (days or 0) * 86400 + (first or 0) * 3600 + (second or 0) * 60 + (third or 0)
    return (first or 0) * 60 + (second or 0)


def layered(layers: Sequence[Layer]) -> SlurmSpec:
    """One specification of several layers, of which later ones overrule earlier ones.

    Raises:
        ConfigError: a key is unknown, or a value does not fit.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if key == "environment" and isinstance(value, Mapping):
                value = {**(merged.get(key) or {}), **value}
            merged[key] = value
    fields = SlurmSpec.model_fields
    for key, value in list(merged.items()):
        if value == "null" and key in fields:
            # What cannot be None has a default that says as much.
            optional = fields[key].default is None or key == "signal_seconds"
            merged[key] = None if optional else fields[key].default
    return validated(SlurmSpec, merged)


def table_of(path: Path) -> tuple[Layer, Mapping[str, Layer]]:
    """What the `[slurm]` table of a configuration file says, and its `[slurm.stages.NAME]`.

    Raises:
        ConfigError: a table says something that does not fit.
    """
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8-sig")).get(JOBS, {})
    except (OSError, ValueError):
        return {}, {}  # who reads the rest of the file says what is wrong with it
    if not isinstance(said, dict) or not isinstance(said.get("stages", {}), dict):
        raise ConfigError(f"{path}: slurm and slurm.stages are tables")
    own = {key: value for key, value in said.items() if key != "stages"}
    stages = said.get("stages", {})
    _check(own, f"{path}: slurm")
    for name, layer in stages.items():
        _check(layer, f"{path}: slurm.stages.{name}")
    return own, stages


def profile(name: str | None) -> Layer:
    """A profile of the user's file; without a name the profile `default`, if there is one.

    Raises:
        InputError: the file cannot be read.
        ConfigError: there is no such profile, or it does not fit.
    """
    path = profiles_file()
    if not path.is_file() and name is None:
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot read the profiles in {path}: {reason}",
            hint=f"it is TOML, a table a profile; {PROFILES} names another file",
        ) from error
    if name is not None and name not in found:
        known = ", ".join(found) or "none"
        raise ConfigError(f"{path} has no profile `{name}` (known: {known})")
    layer: Layer = found.get(name or DEFAULT_PROFILE, {})
    _check(layer, f"{path}: {name or DEFAULT_PROFILE}")
    return layer


def profiles_file() -> Path:
    """Where the user's profiles are."""
    if said := os.environ.get(PROFILES):
        return Path(said)
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "subl" / "slurm.toml"


def _check(layer: object, where: str) -> None:
    if not isinstance(layer, Mapping):
        raise ConfigError(f"{where} must be a table")
    try:
        layered([layer])
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", hint=_KEYS) from error


_KEYS = "subl slurm submit --help lists every key as an option"
