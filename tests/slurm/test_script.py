"""A job's script: what it says to sbatch, and that it runs exactly the command that was meant."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from subl.errors import ConfigError, InputError
from subl.slurm.script import Place, Word, compact, script
from subl.slurm.spec import PROFILES, SlurmSpec, layered, profile, table_of

HOSTILE = [
    "a b",
    "$(touch hacked)",
    "`touch hacked`",
    "it's",
    'a "b"',
    "a;touch hacked",
    "é\n*",
    "",
]


def test_a_script_as_a_person_would_write_it() -> None:
    spec = layered(
        [
            {"partition": "cpu", "time": 30, "cpus": 4, "memory": "8G", "parallel": 10},
            {"modules": ["gcc/13"], "setup": ["ulimit -n 4096"], "environment": {"A": "x y"}},
            {"memory": "null", "directives": ["--exclude=node7"]},
        ]
    )
    place = Place(Path("/work"), Path("/venv/bin"), Path("/work/out/kept.slurm"), "001")
    words = ["subl", "filter", "rules.toml", "my data", "--slice", Word("{}/40")]
    text = script(words, spec, place, name="kept", typed=["subl", "x"], tasks=[0, 1, 2, 7])
    assert (
        text
        == """\
#!/bin/bash
# subl x

#SBATCH --job-name=kept
#SBATCH --output=/work/out/kept.slurm/001-%a.log
#SBATCH --open-mode=append
#SBATCH --partition=cpu
#SBATCH --time=30
#SBATCH --cpus-per-task=4
#SBATCH --array=0-2,7%10
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --exclude=node7

trap '' USR1  # subl slurm work listens
set -eo pipefail
cd /work
if ! type module > /dev/null 2>&1; then
    for file in /etc/profile.d/{modules,lmod,z00_lmod}.sh; do
        if test -r "$file"; then source "$file" || true; fi
    done
fi
module load gcc/13
ulimit -n 4096
export PATH=/venv/bin:$PATH
export OMP_NUM_THREADS=4
export A='x y'

exec subl slurm work --restarts 16 /work/out/kept.slurm 001 \\
    subl filter rules.toml 'my data' --slice "$SLURM_ARRAY_TASK_ID"/40
"""
    )


def test_a_job_that_asks_for_nothing_says_nothing() -> None:
    wishes = [{"signal_seconds": "null", "requeue": False, "partition": "a"}, {"partition": "null"}]
    place = Place(Path("/w"), Path("/b"), Path("/w/o.slurm"), "001")
    text = script(["subl"], layered(wishes), place, name="o", typed=[])
    said = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    keys = [line.split("--")[1].partition("=")[0] for line in said]
    assert keys == ["job-name", "output", "open-mode", "no-requeue"]
    assert "--restarts 0" in text


@pytest.mark.parametrize(
    ("time", "lead"),
    [
        (None, 120),
        ("0", 120),
        ("1", 30),
        ("2:30", 75),
        ("3:00", 90),
        ("1:00:00", 120),
        ("1-0", 120),
    ],
)
def test_a_job_is_told_to_save_when_half_of_its_time_is_over_at_the_earliest(
    time: str | None, lead: int
) -> None:
    place = Place(Path("/w"), Path("/b"), Path("/w/o.slurm"), "001")
    text = script(["subl"], SlurmSpec(time=time), place, name="o", typed=[])
    assert f"#SBATCH --signal=B:USR1@{lead}\n" in text


def test_a_signal_while_a_job_is_set_up_does_not_end_it(tmp_path: Path) -> None:
    stub = tmp_path / "subl"
    stub.write_text("#!/bin/sh\necho begun\n")
    stub.chmod(0o755)
    place = Place(tmp_path, tmp_path, tmp_path / "o.slurm", "001")
    text = script(["subl"], SlurmSpec(setup=("kill -USR1 $$",)), place, name="o", typed=[])
    done = subprocess.run(["bash"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "begun\n")


@pytest.mark.parametrize("at_login", [True, False])
def test_modules_are_found_as_a_login_shell_finds_them(tmp_path: Path, at_login: bool) -> None:
    """`false` in such a file ends no job, and where the shell has `module`, none is read."""
    (tmp_path / "lmod.sh").write_text("false\nmodule() { echo found $@; }\nfalse\n")
    stub = tmp_path / "subl"
    stub.write_text("#!/bin/sh\n")
    stub.chmod(0o755)
    place = Place(tmp_path, tmp_path, tmp_path / "o.slurm", "001")
    text = script(["subl"], SlurmSpec(modules=("gcc/13",)), place, name="o", typed=[])
    text = text.replace("/etc/profile.d", str(tmp_path))
    before = "" if at_login else "module() { echo known $@; }\n"
    done = subprocess.run(["bash"], input=before + text, capture_output=True, text=True)
    said = f"{'found' if at_login else 'known'} load gcc/13\n"
    assert (done.returncode, done.stdout) == (0, said), done.stderr


def test_ranks_are_started_by_srun_with_their_cores() -> None:
    place = Place(Path("/w"), Path("/b"), Path("/w/o.slurm"), "001")
    spec = SlurmSpec(tasks=8, cpus=3, container=("apptainer", "exec", "x y.sif"))
    text = script(["subl", "distill"], spec, place, name="o", typed=[])
    run = (
        "srun --kill-on-bad-exit=1 --label --cpus-per-task=3 apptainer exec 'x y.sif' subl distill"
    )
    assert text.splitlines()[-1].strip() == run


def test_words_reach_the_command_as_they_are(tmp_path: Path) -> None:
    """Run by a real bash; `subl` prints what it is given."""
    folder = tmp_path / "a 'folder' $HOME"
    programs = folder / "bin"
    programs.mkdir(parents=True)
    stub = programs / "subl"
    stub.write_text('#!/bin/sh\nprintf "%s\\0" "$@" "$X"\n')
    stub.chmod(0o755)
    place = Place(folder, programs, folder / "out.slurm", "001")
    words = ["subl", *HOSTILE, "--only", Word(choices={3: "it's $me", 5: "b"})]
    text = script(
        words,
        SlurmSpec(environment={"X": HOSTILE[1]}),
        place,
        name="n",
        typed=HOSTILE,
        tasks=[3, 5],
    )
    done = subprocess.run(
        ["bash", "-u"],
        input=text.encode(),
        env={"PATH": os.environ["PATH"], "SLURM_ARRAY_TASK_ID": "3"},
        capture_output=True,
        check=True,
    )
    said = done.stdout.decode().split("\0")
    minder = ["slurm", "work", "--restarts", "16", str(place.book), "001", "subl"]
    assert said == [*minder, *HOSTILE, "--only", "it's $me", HOSTILE[1], ""]
    assert not list(folder.rglob("hacked")) and not Path("hacked").exists()


@pytest.mark.parametrize("value", ['a"b', "a\nb", "a\\b"])
def test_what_cannot_stand_in_a_directive_is_refused(value: str) -> None:
    place = Place(Path("/w"), Path("/b"), Path("/w") / value, "001")
    with pytest.raises(ConfigError, match="cannot stand in a directive"):
        script(["subl"], SlurmSpec(), place, name="o", typed=[])


@pytest.mark.parametrize(
    ("numbers", "said"), [([0], "0"), ([3, 1, 2], "1-3"), ([0, 1, 5, 7, 8], "0-1,5,7-8")]
)
def test_numbers_of_an_array(numbers: list[int], said: str) -> None:
    assert compact(numbers) == said


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        ({"partitoin": "a"}, "unknown key `partitoin`; did you mean `partition`"),
        ({"time": "soon"}, "'soon' is none of"),
        ({"nodes": 0}, "`nodes`"),
        ({"partition": "a\n#SBATCH --uid=0"}, "one line"),
        ({"directives": ["rm"]}, "'rm' is no option of sbatch"),
        ({"directives": ["--a='b"]}, "No closing quotation"),
        ({"environment": {"A B": ""}}, "environment"),
    ],
)
def test_wishes_that_do_not_fit(layer: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        layered([layer])


def test_later_layers_overrule_and_environments_add_up() -> None:
    spec = layered(
        [
            {"time": "1:00:00", "environment": {"A": "1", "B": "2"}, "gpus_per_node": 8},
            {"time": 5, "environment": {"B": "3"}, "modules": "null"},
        ]
    )
    assert (spec.time, spec.gpus_per_node, spec.modules) == ("5", "8", ())
    assert spec.environment == {"A": "1", "B": "3"}


def test_profiles_are_tables_of_a_users_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "profiles.toml"
    monkeypatch.setenv(PROFILES, str(file))
    assert profile(None) == {}
    with pytest.raises(InputError, match="cannot read the profiles"):
        profile("a100")
    file.write_text('[a100]\npartition = "gpu"\n[broken]\nnode = 1\n')
    assert profile(None) == {}
    assert profile("a100") == {"partition": "gpu"}
    with pytest.raises(ConfigError, match=r"no profile `h100` \(known: a100, broken\)"):
        profile("h100")
    with pytest.raises(ConfigError, match=r"broken: unknown key `node`; did you mean `nodes`"):
        profile("broken")


def test_a_files_table_and_its_stages(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    assert table_of(file) == ({}, {})
    file.write_text('name = "x"\n[slurm]\ntime = 10\n[slurm.stages.student]\ntime = 60\n')
    assert table_of(file) == ({"time": 10}, {"student": {"time": 60}})
    file.write_text("[slurm.stages.student]\ntimes = 60\n")
    with pytest.raises(ConfigError, match=r"slurm\.stages\.student: unknown key `times`"):
        table_of(file)
