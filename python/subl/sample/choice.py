"""The backend that a configuration asks for."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from subl.errors import ConfigError
from subl.sample.backend import Backend, Sampling
from subl.sample.tables import BackendTable, Http, Vllm


def backend_of(sampling: Sampling, model: Path | None) -> Backend:
    """What answers as `sampling` says: the model folder, or a server that has its own."""
    table = sampling.backend
    if isinstance(table, Http):
        from subl.sample.server import Server

        return Server(table, sampling)
    assert model is not None, "check_model comes first"
    if isinstance(table, Vllm):
        from subl.sample.vllm import Engine

        return Engine(model, table, sampling)
    from subl.sample.local import Local

    return Local(model, sampling)


def check_model(table: BackendTable, given: Collection[str], name: str = "model") -> None:
    """Refuse a model beside a server that has one, and none without it.

    Args:
        given: names of a stage's inputs.
        name: the model's among them.

    Raises:
        ConfigError: names the input.
    """
    if isinstance(table, Http) and name in given:
        raise ConfigError(
            f"{name}: the answers are those of {table.model} at {table.base_url}",
            hint=f"leave {name} out, or the table backend",
        )
    if not isinstance(table, Http) and name not in given:
        raise ConfigError(
            f"missing `{name}`: nothing says which model answers",
            hint=f"give one (--{name}, inputs.{name}), or name a server that has one: "
            'backend = { kind = "http", … }',
        )
