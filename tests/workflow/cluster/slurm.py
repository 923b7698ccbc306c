"""A SLURM cluster of this machine alone: munged, slurmctld and one slurmd for each node."""

import contextlib
import getpass
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "squeue", "scontrol")
_SYSTEM_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

# The nodes have more cores than this machine, which does other work beside them: jobs take longer
# than they ask for. Only the partition that is punctual ends them for it.
CONFIGURATION = """
ClusterName=grokphase
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool.%n
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory,CR_LLN
DefMemPerCPU=200
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed
EnforcePartLimits=ALL
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2,bf_interval=2
MinJobAge=600
ReturnToService=2
SlurmdTimeout=8
SlurmctldTimeout=10
OverTimeLimit=20
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=16000
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=16000 \
Gres=gpu:2
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=60 State=UP
PartitionName=punctual Nodes=n1,n2 MaxTime=60 OverTimeLimit=0 State=UP
PartitionName=gpu Nodes=n2 MaxTime=60 State=UP
PartitionName=urgent Nodes=n1,n2 MaxTime=60 PriorityTier=10 PreemptMode=OFF State=UP
"""

# The executor removes SLURM_* from the environment of its inner srun, SLURM_CONF too; and every
# sbatch call is noted.
WRAPPER = """#!/bin/sh
SLURM_CONF={folder}/slurm.conf
export SLURM_CONF
[ {name} = sbatch ] && echo "$@" >> {folder}/sbatch_calls
exec {program} "$@"
"""


def missing():
    """Programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_SYSTEM_PATH) is None]


class Slurm:
    """The running cluster; `environment` makes commands talk to it."""

    NODES = ("n1", "n2")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen] = {}
        bin_folder = folder / "bin"
        for name in ("state", "spool.n1", "spool.n2", "bin"):
            (folder / name).mkdir(parents=True)
        ports = free_ports(3)
        text = CONFIGURATION.format(folder=folder, user=getpass.getuser(), ports=ports)
        (folder / "slurm.conf").write_text(text)
        for number in (0, 1):
            (folder / f"gpu{number}").touch()
        (folder / "gres.conf").write_text(
            f"NodeName=n2 Name=gpu Flags=nvidia_gpu_env File={folder}/gpu[0-1]\n"
        )
        for name in PROGRAMS[3:]:
            program = shutil.which(name, path=_SYSTEM_PATH)
            path = bin_folder / name
            path.write_text(WRAPPER.format(folder=folder, name=name, program=program))
            path.chmod(0o755)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))},
            "PATH": f"{bin_folder}:{_SYSTEM_PATH}",
            "SLURM_CONF": str(folder / "slurm.conf"),
        }

    def start(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self.folder.chmod(0o755)
        self._daemon(
            "munged",
            *("munged", "--foreground", "--force", f"--key-file={key}"),
            *(f"--{name}-file={self.folder}/munged.{name}" for name in ("pid", "log", "seed")),
            f"--socket={self.folder}/munge.socket",
        )
        self._daemon("slurmctld", "slurmctld", "-D", "-f", self.folder / "slurm.conf")
        for node in self.NODES:
            self.start_node(node)
        self.wait_for_nodes()

    def start_node(self, node: str) -> None:
        self._daemon(node, "slurmd", "-D", "-f", self.folder / "slurm.conf", "-N", node)

    def wait_for_nodes(self, seconds: float = 40) -> None:
        deadline = time.monotonic() + seconds
        while "idle" not in (states := self.nodes()) or set(states) - {"idle", "mixed", "mix"}:
            if time.monotonic() > deadline:
                raise AssertionError(f"nodes are {states}\n{self.logs()}")
            time.sleep(0.2)

    def nodes(self) -> list[str]:
        """States of the nodes."""
        lines = self.call("scontrol", "--oneliner", "show", "nodes").splitlines()
        return [
            part.removeprefix("State=").lower()
            for line in lines
            for part in line.split()
            if part.startswith("State=")
        ]

    def kill_node(self, node: str) -> None:
        """Kill a node's daemon and everything that its jobs run, as if the machine had died."""
        self.daemons.pop(node).kill()
        for path in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if not path.name.isdigit():
                    continue
                command = (path / "cmdline").read_bytes()
                environment = (path / "environ").read_bytes().split(b"\0")
                ours = f"SLURM_CONF={self.folder}/slurm.conf".encode() in environment
                on_node = f"SLURMD_NODENAME={node}".encode() in environment
                if (ours and on_node) or (b"slurmstepd" in command and self._step_of(path, node)):
                    os.kill(int(path.name), 9)

    def _step_of(self, process: Path, node: str) -> bool:
        """Whether a step daemon belongs to this cluster's node: its children run there."""
        children = (process / "task" / process.name / "children").read_text().split()
        wanted = {f"SLURM_CONF={self.folder}/slurm.conf", f"SLURMD_NODENAME={node}"}
        for child in children:
            with contextlib.suppress(OSError):
                if wanted <= set(Path(f"/proc/{child}/environ").read_text().split("\0")):
                    return True
        return False

    def call(self, *command: object) -> str:
        return subprocess.run(
            [str(part) for part in command],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ).stdout

    def sbatch_calls(self) -> list[str]:
        path = self.folder / "sbatch_calls"
        return path.read_text().splitlines() if path.exists() else []

    def running(self) -> list[str]:
        """Numbers of the jobs that run."""
        return self.call("squeue", "--noheader", "--states=R", "--format=%A").split()

    def jobs(self) -> list[str]:
        """Numbers of all jobs so far, in the order of their submission."""
        shown = self.call("squeue", "--noheader", "--states=all", "--format=%A").split()
        return sorted(set(shown), key=int)

    def states(self, job: str) -> list[str]:
        """States in which the runs of a job ended; a job that was requeued has several."""
        path = self.folder / "completed"
        text = path.read_text() if path.exists() else ""
        return re.findall(rf"^JobId={job} .*? JobState=(\S+)", text, re.M)

    def show(self, job: str) -> dict[str, str]:
        """Fields of ``scontrol show job``."""
        words = self.call("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def node_logs(self) -> str:
        """What the daemons of the nodes have logged."""
        return "\n".join(path.read_text() for path in self.folder.glob("slurmd.*.log"))

    def logs(self) -> str:
        paths = [*self.folder.glob("*.log"), *self.folder.glob("*.output")]
        return "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in paths)

    def stop(self) -> None:
        self.call("scancel", "--user", getpass.getuser())
        for daemon in reversed(list(self.daemons.values())):
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(timeout=5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _daemon(self, name: str, *command: object) -> None:
        path = shutil.which(str(command[0]), path=_SYSTEM_PATH)
        with (self.folder / f"{name}.output").open("a") as output:
            self.daemons[name] = subprocess.Popen(
                [str(path), *map(str, command[1:])],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                start_new_session=True,
            )
        if name == "munged":
            wait_for(lambda: (self.folder / "munge.socket").exists())


def wait_for(condition, seconds: float = 60, message: str = "it did not happen") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{message} within {seconds} s"
        time.sleep(0.05)


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
