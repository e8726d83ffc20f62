"""Libraries that come with an extra of the package: the base install stays small without them."""

from __future__ import annotations

import importlib.util

from subl.errors import DependencyError


def require(extra: str, *libraries: str, what: str = "this command") -> None:
    """Say what to install before an import fails deeper.

    Raises:
        DependencyError: names the first of these libraries that is missing, and the extra.
    """
    for name in libraries:
        if importlib.util.find_spec(name) is None:
            raise DependencyError(f"{what} needs {name}", hint=f"pip install 'subl[{extra}]'")
