"""A real Slurm, for as long as a test needs it: what Slurm does to a job is then seen, not
imagined. Its nodes are on this machine, each with a daemon of its own.

Everything that the daemons keep lies in one temporary folder (configuration, key, sockets, state,
logs), and they run as this process's children, so a machine's own Slurm is neither used nor
disturbed. What belongs to the cluster carries its SLURM_CONF in the environment, job steps
included, which no longer are anyone's children: by that the last of them are found and killed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "setpriv")
READY_SECONDS = 600  # for a hang, not a limit
POLL_SECONDS = 0.1
OF_SLURM = ("SLURM", "SRUN_", "SBATCH_", "SALLOC_", "SQUEUE_", "SINFO_", "SCANCEL_")

# Two CPUs whatever the machine has (config_overrides). A batch job starts within a second
# (batch_sched_delay, bf_interval), one that can never start is refused (EnforcePartLimits), and one
# that ignores SIGTERM is killed after 5 s, not 30.
CONFIGURATION = """\
ClusterName=subl
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,bf_interval=1
ReturnToService=2
EnforcePartLimits=ALL
KillWait=5
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """What this machine lacks for a cluster, or None."""
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        return f"no Slurm: {', '.join(missing)} not on PATH (Debian: apt install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "Slurm's daemons must run as root"
    return None


def until(reached: Callable[[], bool], what: str, seconds: float = READY_SECONDS) -> None:
    """Poll until `reached`; TimeoutError, which names `what`, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Cluster:
    """`environment` is for every command that shall speak to this cluster, `subl` included."""

    folder: Path
    environment: dict[str, str]
    restart_controller: Callable[[], None] = lambda: None

    def run(
        self, *command: str, seconds: float = READY_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Any status is returned: failing is what some jobs are for."""
        return subprocess.run(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def srun(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("srun", *arguments)

    def processes(self) -> list[int]:
        """Ids of all processes of this cluster: daemons, steps, tasks, clients."""
        mark = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # it ended meanwhile
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found


def _bind(unbound: socket.socket) -> None:
    """To a free port, below those that other tests' sockets get until a daemon takes it."""
    while True:
        with suppress(OSError):
            return unbound.bind(("127.0.0.1", random.randrange(20_000, 32_000)))


@contextmanager
def running_cluster(nodes: int = 1) -> Iterator[Cluster]:
    """A cluster whose nodes are idle; afterwards its jobs, processes and folder are gone."""
    # Not pytest's folder: sockets' paths must be short, and munged wants one that all may enter.
    with tempfile.TemporaryDirectory(prefix="subl-slurm-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "state").mkdir()
        names = [f"node{number}" for number in range(nodes)]
        host = socket.gethostname().partition(".")[0]
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        with ExitStack() as opened:
            ports = []
            for _ in range(nodes + 1):
                unbound = opened.enter_context(socket.socket())
                _bind(unbound)
                ports.append(unbound.getsockname()[1])
        configuration = CONFIGURATION.format(
            host=host,
            folder=folder,
            controller_port=ports[-1],
            nodes="\n".join(
                f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2"
                for name, port in zip(names, ports, strict=False)
            ),
        )
        (folder / "slurm.conf").write_text(configuration)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(OF_SLURM)}
        cluster = Cluster(folder, inherited | {"SLURM_CONF": str(folder / "slurm.conf")})
        daemons: dict[str, subprocess.Popen[bytes]] = {}

        def start(program: str, *options: str) -> None:
            # If pytest is killed, so are they. (Not so a job that runs just then.)
            command = ["setpriv", "--pdeathsig", "KILL", program, *options]
            daemon = " ".join([program, *options[-1:]]) if "-N" in options else program
            with (folder / f"{daemon}.log").open("wb") as log:
                daemons[daemon] = subprocess.Popen(
                    command,
                    env=cluster.environment,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )

        def wait(reached: Callable[[], bool], what: str) -> None:
            def alive_and_reached() -> bool:
                for program, daemon in daemons.items():
                    if daemon.poll() is not None:
                        log = (folder / f"{program}.log").read_text(errors="replace")
                        raise RuntimeError(f"{program} ended, status {daemon.returncode}:\n{log}")
                return reached()

            until(alive_and_reached, what)

        try:
            files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
            options = [f"--{option}={folder}/munge.{end}" for option, end in files.items()]
            start("munged", "--foreground", *options)
            wait((folder / "munge.socket").exists, "munged's socket")
            start("slurmctld", "-D")
            for name in names:
                start("slurmd", "-D", "-N", name)
            idle = ("sinfo", "--noheader", "--Node", "--format=%T")
            wait(lambda: cluster.run(*idle).stdout.split() == ["idle"] * nodes, "idle nodes")

            def restart_controller() -> None:
                daemons["slurmctld"].terminate()
                daemons["slurmctld"].wait()
                start("slurmctld", "-D")

            yield replace(cluster, restart_controller=restart_controller)
        finally:
            if len(daemons) > 2 and daemons["slurmctld"].poll() is None:
                with suppress(TimeoutError, subprocess.TimeoutExpired):
                    cluster.run("scancel", "--user=root", seconds=10)
                    queue = ("squeue", "--noheader")
                    until(lambda: not cluster.run(*queue).stdout, "an empty queue", seconds=10)
            for daemon in reversed(daemons.values()):
                daemon.terminate()
                with suppress(subprocess.TimeoutExpired):
                    daemon.wait(timeout=5)

            def killed_all() -> bool:
                remaining = cluster.processes()
                for process in remaining:
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                return not remaining

            until(killed_all, "the end of the cluster's processes")
            for daemon in daemons.values():
                daemon.wait()
