"""The text of a job's script. Pure.

It is what a person would write: directives, what has to be set up, and the command. All that comes
from outside is quoted, but for the lines of `setup`, which are shell by their nature.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from subl.errors import ConfigError
from subl.slurm.spec import SlurmSpec

INDEX = "SLURM_ARRAY_TASK_ID"
_MARK = "#SBATCH "


@dataclass(frozen=True)
class Word:
    """A word of a command that depends on the number of an array's task: `text`, in which `{}` is
    that number; or else what `choices` has for it."""

    text: str = "{}"
    choices: Mapping[int, str] = field(default_factory=dict)


Words = Sequence[str | Word]
"""A command."""


@dataclass(frozen=True)
class Place:
    """Where a job runs and what it leaves: the folder in which the command was typed, the folder of
    the programs, the book, and the number of the submission in it."""

    directory: Path
    programs: Path
    book: Path
    number: str

    @property
    def script(self) -> Path:
        return self.book / f"{self.number}.sbatch"


def of_task(number: str, index: int | str | None, ending: str) -> str:
    """What a file of a submission's task is called; `index`: of an array, its number in it."""
    return f"{number}{'' if index is None else f'-{index}'}.{ending}"


def script(
    command: Words,
    spec: SlurmSpec,
    place: Place,
    *,
    name: str,
    typed: Sequence[str],
    tasks: Sequence[int] | None = None,
) -> str:
    """The script of a job.

    Args:
        name: of the job.
        typed: the command that asked for it.
        tasks: the numbers of an array's tasks; None for a job that is no array.

    Raises:
        ConfigError: a path cannot stand in a directive.
    """
    blocks = [
        ["#!/bin/bash", f"# {shlex.join(typed)}".replace("\n", " ")],
        _directives(spec, place, name, tasks),
        _setting_up(spec, place),
        _running(command, spec, place),
    ]
    for word in command:
        if isinstance(word, Word) and word.choices:
            each = [f"    [{index}]={shlex.quote(text)}" for index, text in word.choices.items()]
            blocks.insert(3, ["tasks=(", *each, ")"])
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def directives_of(text: str) -> list[str]:
    """What a script says to sbatch, as arguments: these overrule the environment's `SBATCH_…`,
    which overrules the script."""
    lines = [line for line in text.splitlines() if line.startswith(_MARK)]
    return [word for line in lines for word in shlex.split(line[len(_MARK) :], comments=True)]


def clusters_of(directives: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """The clusters to one of which sbatch sends a job, with commas between; None: this one."""
    said = environment.get("SBATCH_CLUSTERS") or environment.get("SLURM_CLUSTERS") or None
    for word, after in pairwise([*directives, ""]):
        if word in ("-M", "--clusters", "--cluster"):
            said = after
        elif found := re.match(r"(-M|--clusters?=)(?=.)", word):
            said = word[found.end() :]
    return said


def compact(numbers: Sequence[int]) -> str:
    """Numbers as Slurm writes them: `0-3,7`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def _directives(spec: SlurmSpec, place: Place, name: str, tasks: Sequence[int] | None) -> list[str]:
    log = of_task(place.number, None if tasks is None else "%a", "log")
    said: dict[str, object] = {
        "job-name": name,
        "output": f"{place.book}".replace("%", "%%") + f"/{log}",
        "open-mode": "append",
        "partition": spec.partition,
        "account": spec.account,
        "qos": spec.qos,
        "time": spec.time,
        "nodes": spec.nodes,
        "ntasks": spec.tasks,
        "gpus-per-node": spec.gpus_per_node,
        "cpus-per-task": spec.cpus,
        "mem": spec.memory,
        "constraint": spec.constraint,
    }
    if tasks is not None:
        at_a_time = "" if spec.parallel is None else f"%{spec.parallel}"
        said["array"] = f"{compact(tasks)}{at_a_time}"
    if spec.lead_seconds is not None:
        said["signal"] = f"B:USR1@{spec.lead_seconds}"
    lines = [f"{_MARK}--{key}={_quoted(value)}" for key, value in said.items() if value is not None]
    lines.append(f"{_MARK}--{'requeue' if spec.requeue else 'no-requeue'}")
    return lines + [f"{_MARK}{each}" for each in spec.directives]


def _quoted(value: object) -> str:
    """As sbatch reads it, which is not as a shell does."""
    text = str(value)
    if not text.isprintable() or '"' in text or "\\" in text:
        raise ConfigError(
            f"{text!r} cannot stand in a directive of sbatch",
            hint="use another folder, or another value, without quotes and backslashes",
        )
    return f'"{text}"' if any(not (c.isalnum() or c in "/._-%:@,=+&|[]*()") for c in text) else text


_FINDING_MODULES = (
    "if ! type module > /dev/null 2>&1; then",
    "    for file in /etc/profile.d/{modules,lmod,z00_lmod}.sh; do",
    '        if test -r "$file"; then source "$file" || true; fi',
    "    done",
    "fi",
)
"""A job's shell is no login shell, and at some sites only these know `module`."""


def _setting_up(spec: SlurmSpec, place: Place) -> list[str]:
    lines = ["set -eo pipefail", f"cd {shlex.quote(str(place.directory))}"]
    if spec.lead_seconds is not None:
        lines.insert(0, "trap '' USR1  # subl slurm work listens")
    if spec.modules:
        lines += _FINDING_MODULES
    lines += [f"module load {shlex.quote(each)}" for each in spec.modules]
    lines += spec.setup
    lines.append(f"export PATH={shlex.quote(str(place.programs))}:$PATH")
    exported: Mapping[str, str] = {
        **({} if spec.cpus is None else {"OMP_NUM_THREADS": str(spec.cpus)}),
        **spec.environment,
    }
    lines += [f"export {key}={shlex.quote(value)}" for key, value in exported.items()]
    if spec.gpus_per_node is not None:  # not on a file system that all nodes share
        local = '"${TMPDIR:-/tmp}/subl-$SLURM_JOB_ID'
        lines += [
            f'export {key}={local}/{folder}"'
            for key, folder in (("TRITON_CACHE_DIR", "triton"), ("TORCH_EXTENSIONS_DIR", "torch"))
            if key not in exported
        ]
    return lines


def _running(command: Words, spec: SlurmSpec, place: Place) -> list[str]:
    """`subl slurm work` minds the command: it passes signals on, and writes down how it ended."""
    how = ["--restarts", str(spec.restarts if spec.requeue else 0)]
    minder = ["subl", "slurm", "work", *how, str(place.book), place.number]
    several = [] if spec.tasks in (None, 1) else ["srun", "--kill-on-bad-exit=1", "--label"]
    if several and spec.cpus is not None:  # which srun does not take from the job
        several.append(f"--cpus-per-task={spec.cpus}")
    words = [*map(_word, [*several, *spec.container]), *map(_word, command)]
    return [f"exec {' '.join(map(_word, minder))} \\", f"    {' '.join(words)}"]


def _word(word: str | Word) -> str:
    if isinstance(word, str):
        return shlex.quote(word)
    if word.choices:
        return f'"${{tasks[${INDEX}]}}"'
    before, _, after = word.text.partition("{}")
    return f'{shlex.quote(before) if before else ""}"${INDEX}"{shlex.quote(after) if after else ""}'
