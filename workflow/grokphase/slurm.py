"""What a profile asks of SLURM, checked before any job is submitted."""

import os
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

Call = Callable[[Sequence[str]], str | None]


def call(command: Sequence[str]) -> str | None:
    """Output of a command; None if it fails or does not exist."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def problems(partition: Any, account: Any, profile: str, call: Call = call) -> list[str]:
    """One line for each of partition and account (None: not given) that the cluster does not know.

    Each names the key of the profile and what the cluster has. What SLURM does not tell, such as
    accounts without an accounting database, is not a problem.
    """
    found = []
    listed = call(["sinfo", "--noheader", "--format=%R"])
    partitions = sorted(set((listed or "").split()))
    if partition is not None and listed is not None and str(partition) not in partitions:
        found.append(
            f"{profile}, default-resources, slurm_partition: this cluster has no partition "
            f"{partition}; it has {', '.join(partitions) or 'none'}"
        )
    user = os.environ.get("USER") or str(os.getuid())
    command = "sacctmgr --noheader --parsable2 show associations format=account"
    listed = call([*command.split(), f"user={user}"])
    accounts = sorted(set((listed or "").split()))
    if account is not None and accounts and str(account).lower() not in accounts:
        found.append(
            f"{profile}, default-resources, slurm_account: you have no account {account}; you have "
            f"{', '.join(accounts)}"
        )
    if account is not None and listed is None:
        found.append(
            f"{profile}, default-resources, slurm_account: this cluster keeps no accounts "
            f"(sacctmgr does not answer), so {account} cannot be used: remove the key"
        )
    return found
