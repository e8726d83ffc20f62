"""Every kind of stage."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

import subl
from subl.stage import Stage


def _stages() -> dict[str, Stage]:
    """What the files `stage.py` of all folders describe; folders without one are not imported."""
    found: dict[str, Stage] = {}
    for folder in pkgutil.iter_modules(subl.__path__, "subl."):
        _, _, name = folder.name.rpartition(".")
        if any(Path(path, name, "stage.py").is_file() for path in subl.__path__):
            module = import_module(f"{folder.name}.stage")
            stages = [each for each in vars(module).values() if isinstance(each, Stage)]
            found |= {stage.kind: stage for stage in stages}
    return found


STAGES = _stages()
