"""What every stage's configuration has in common: what its artifacts' keys are made of."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from subl.config import with_jobs

Unkeyed = AbstractSet[str] | Mapping[str, "Unkeyed | None"]
"""Names of values, or of tables with what of them is left out: None is all."""


class StageSpec(BaseModel):
    """The configuration of a stage: an artifact is a function of it and of the inputs' bytes.

    `format_version` says which function. It goes up whenever the stage would write other bytes for
    the same configuration and inputs, so that what an older subl made does not count as done.

    `unkeyed` names what says where work is done, not what is made: such values may change between
    an interrupted run and the one that goes on with it.

    `packages` are those that, beside subl's own, can change what the stage makes: statements name
    their versions.
    """

    # A validator is made at its first use: most commands use one specification of many.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        defer_build=True,
        json_schema_extra=with_jobs,
    )

    format_version: ClassVar[int]
    unkeyed: ClassVar[Unkeyed] = frozenset()
    packages: ClassVar[tuple[str, ...]] = (
        "accelerate",
        "deepspeed",
        "numpy",
        "safetensors",
        "tokenizers",
        "torch",
        "transformers",
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        stated = isinstance(getattr(cls, "format_version", None), int)
        if cls.__module__ != __name__ and not stated:  # those here are what stages derive from
            raise TypeError(f"{cls.__name__} does not say its format_version")

    def keyed(self) -> dict[str, Any]:
        """The values that decide what is made, as JSON."""
        return without(self.model_dump(mode="json"), self.unkeyed)


class PartsSpec(StageSpec):
    """The configuration of a stage whose files several processes can make (`build_parts`)."""

    unkeyed: ClassVar[Unkeyed] = frozenset({"ranks"})

    ranks: int = Field(1, gt=0, description="processes that share the work, each with a device")


def without(values: Mapping[str, Any], unkeyed: Unkeyed) -> dict[str, Any]:
    """A configuration's values but for those that `unkeyed` names."""
    if isinstance(unkeyed, Mapping):
        return {
            key: without(value, inner) if inner and isinstance(value, Mapping) else value
            for key, value in values.items()
            if (inner := unkeyed.get(key, frozenset())) is not None
        }
    return {key: value for key, value in values.items() if key not in unkeyed}
