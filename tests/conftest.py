"""Settings and fixtures that all tests share.

JAX runs single threaded on the CPU, compiles as for short programs, for most tests take longer to
compile than to run, and keeps its compiled programs between test runs.
"""

import os
import platform
from pathlib import Path

from grokphase.processor import ONE_THREAD_FLAGS, SHORT_PROGRAM_FLAGS

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", f"{SHORT_PROGRAM_FLAGS} {ONE_THREAD_FLAGS}")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(__file__).parents[1] / ".pytest_cache" / "jax" / platform.node()),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import numpy as np
import pytest


@pytest.fixture
def program_folder(tmp_path, monkeypatch):
    """Where compiled programs are kept, as those of a process without the modules of the tests."""
    monkeypatch.setattr("grokphase.sampling.programs.modules_elsewhere", list)
    return tmp_path / "programs"


@pytest.fixture(scope="session")
def damaged_copies():
    """Damaged versions of a file's bytes: one bit flipped, cut short, or zeroed from a point on."""

    def copies(content: bytes, number: int, seed: int):
        generator = np.random.default_rng(seed)
        for _ in range(number):
            position = int(generator.integers(len(content)))
            kind = generator.choice(["flip", "cut", "zero"], p=[0.8, 0.1, 0.1])
            damaged = bytearray(content)
            if kind == "flip":
                damaged[position] ^= 1 << int(generator.integers(8))
            elif kind == "cut":
                del damaged[position:]
            else:
                damaged[position:] = bytes(len(content) - position)
            if bytes(damaged) != content:
                yield bytes(damaged)

    return copies
