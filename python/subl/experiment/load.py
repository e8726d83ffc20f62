"""From an experiment's file to its graph."""

from __future__ import annotations

from pathlib import Path

from subl.config import load_toml
from subl.errors import ConfigError
from subl.experiment.contrasts import planned
from subl.experiment.graph import Graph
from subl.experiment.spec import ExperimentSpec


def load_experiment(path: Path) -> Graph:
    """Read an experiment file and check all of it that needs no artifact.

    Raises:
        InputError: it cannot be read.
        ConfigError: it says something that does not fit; names the key, and what to do.
    """
    spec = load_toml(path, ExperimentSpec)
    try:
        graph = Graph(spec)
        planned(graph)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error
    return graph
