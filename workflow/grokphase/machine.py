"""How fast this machine is, next to the one that the resource model was measured on."""

import os
import subprocess
import sys

from grokphase.resources import REFERENCE_SECONDS

# The work of a gradient, two matrix products and an activation; the median of nine rounds.
_REFERENCE = """
import time
import numpy as np
rng = np.random.default_rng(0)
x = rng.standard_normal((3000, 150), np.float32)
w = rng.standard_normal((150, 350), np.float32)
def round():
    begin = time.process_time()
    for _ in range(3):
        f = x @ w
        np.tanh(f, out=f)
        x.T @ f
    return time.process_time() - begin
print(sorted(round() for _ in range(9))[4])
"""


def reference_seconds() -> float:
    """Processor time of the reference computation on one core, in a process of its own."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-c", _REFERENCE]
    done = subprocess.run(
        command, env={**os.environ, **threads}, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def slowness() -> float:
    """Time on one core of this machine over that expected by grokphase.resources."""
    return reference_seconds() / REFERENCE_SECONDS
