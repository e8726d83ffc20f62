"""What tests of servers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .serving import Serving


@pytest.fixture
def serving() -> Iterator[Serving]:
    """A server of this process."""
    server = Serving()
    with server.clients:
        yield server
    server.close()
