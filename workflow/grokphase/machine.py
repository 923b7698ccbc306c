"""How fast this machine is, next to the one that the resource model was measured on."""

import os
import subprocess
import sys

from grokphase.resources import REFERENCE_SECONDS

# The work of a gradient, two matrix products and an activation; the median of a second and a half.
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
end = time.monotonic() + 1.5
rounds = [round()]
while time.monotonic() < end:
    rounds.append(round())
print(sorted(rounds)[len(rounds) // 2])
"""


def reference_seconds(processes: int = 1) -> float:
    """Processor time of the reference computation on one core, in a process of its own.

    The mean of so many processes at the same time, at most one for each core: cores that work
    together are slower than one alone, by a third where two of them are threads of one.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-c", _REFERENCE]
    count = max(1, min(processes, len(os.sched_getaffinity(0))))
    running = [
        subprocess.Popen(command, env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    outputs = [process.communicate()[0] for process in running]
    return sum(map(float, outputs)) / count


def slowness(processes: int = 1) -> float:
    """Time on a core of this machine, of so many at work, over that expected by resources."""
    return reference_seconds(processes) / REFERENCE_SECONDS
