"""`subl generate` under Slurm: tasks of srun, and of an array, make one data set between them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from subl.generate import GenerateSpec, generate

from .cluster import Cluster, until
from .test_cluster import submit

SUBL = str(Path(sys.executable).with_name("subl"))
CONFIG = """
rows = 24
prompts = "numbers-short"
grammar = { regex = "[1-9]" }
max_new_tokens = 2
batch_rows = 4
shard_rows = 4
"""


def shards(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("part-*.jsonl")}


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("generate")
    (made / "rows.toml").write_text(CONFIG)
    spec = GenerateSpec(
        rows=24,
        prompts="numbers-short",
        grammar={"regex": "[1-9]"},  # type: ignore[arg-type]
        max_new_tokens=2,
        batch_rows=4,
        shard_rows=4,
    )
    generate(spec, tiny_model, made / "one")
    return made


def command(folder: Path, model: Path, out: str) -> list[str]:
    return [SUBL, "generate", str(folder / "rows.toml"), "--model", str(model),
            "-o", str(folder / out)]  # fmt: skip


def test_tasks_of_srun_make_what_one_process_makes(
    cluster: Cluster, folder: Path, tiny_model: Path
) -> None:
    asked = ["srun", "--ntasks=2", "--export=ALL,OMP_NUM_THREADS=1"]
    done = cluster.run(*asked, *command(folder, tiny_model, "srun"), seconds=600)
    assert done.returncode == 0, done.stderr
    assert shards(folder / "srun") == shards(folder / "one")


def test_tasks_of_an_array_make_what_one_process_makes(
    cluster: Cluster, folder: Path, tiny_model: Path
) -> None:
    line = shlex.join(command(folder, tiny_model, "array"))
    script = f"OMP_NUM_THREADS=1 {line} --slice $SLURM_ARRAY_TASK_ID/3"
    job = submit(cluster, script, "--array=0-2", f"--output={folder}/%a.log")

    def ended() -> bool:
        listed = cluster.run("squeue", "--noheader", f"--jobs={job}")
        return not listed.stdout.strip()

    until(ended, f"the end of array {job}", 600)
    said = [file.read_text() for file in sorted(folder.glob("?.log"))]
    assert len(said) == 3
    assert shards(folder / "array") == shards(folder / "one"), said
