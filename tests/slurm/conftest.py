"""The cluster of two nodes that all tests here share; it is up in a second or two."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .cluster import Cluster, running_cluster, why_not


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if reason := why_not():
        if os.environ.get("SUBL_REQUIRE_SLURM") == "1":
            pytest.fail(f"SUBL_REQUIRE_SLURM=1, but {reason}")
        pytest.skip(reason)
    with running_cluster(nodes=2) as running:
        yield running
