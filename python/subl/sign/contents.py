"""Whether an artifact that is signed is what its statement says, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subl.artifact import compare
from subl.artifact.uncovered import OWN, uncovered


def read_contents(artifact: Path, record: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The digest of an artifact's data as it is now, and in what it is not what its statement says:
    a sentence each. Every file is read, unless there are some that must not be."""
    problems = uncovered(artifact, OWN)
    names = [subject["name"] for subject in record["subject"]]
    problems += [f"{name} leads out of the artifact" for name in names if not is_inside(name)]
    return ("", problems) if problems else compare(artifact, record)


def is_inside(name: str) -> bool:
    """Whether the name of a file in a record leads to one below its folder, as it is written."""
    return not {"", ".", ".."} & set(name.split("/")) and "\0" not in name
