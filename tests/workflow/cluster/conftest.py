"""A SLURM cluster for the session, started and stopped by the tests themselves."""

import os
import subprocess
from pathlib import Path

import pytest
from slurm import Slurm, missing

ROOT = Path(__file__).parents[3]


REPEATS = int(os.environ.get("FAULT_REPEATS", "1"))
"""How many times every fault is tried, each at another moment and on another node."""


def pytest_generate_tests(metafunc):
    if "attempt" in metafunc.fixturenames:
        metafunc.parametrize("attempt", range(REPEATS))


def unavailable(reason):
    """Skip; in continuous integration, where SLURM must be there, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"SLURM must be tested here, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """The running cluster of two nodes."""
    if absent := missing():
        script = ROOT / "envs" / "slurm-debian.sh"
        if os.geteuid() != 0:
            unavailable(f"{', '.join(absent)} are not installed; as root, run envs/{script.name}")
        done = subprocess.run([script], capture_output=True, text=True)
        if absent := missing():
            unavailable(f"envs/{script.name} did not install {absent}: {done.stderr[-500:]}")
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
