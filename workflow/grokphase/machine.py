"""How fast this machine is, next to the one that the resource model was measured on."""

import os
import subprocess
import sys
import time

from grokphase import resources
from grokphase.errors import GrokphaseError
from grokphase.parameters import TeacherStudent
from grokphase.processor import ONE_THREAD_FLAGS

PARAMETERS = TeacherStudent(
    input_dim=150,
    width=350,
    train_size=3000,
    weight_variance=0.5,
    readout_variance=0.02,
    noise=0.2,
    cubic_strength=-0.3,
)
"""A network whose gradient and sweeps are the reference computation."""

SWEEPS = 2

MOST_PROCESSES = 8
MEASURED_SECONDS = 1.5

_ONE_THREAD = {
    "NPROC": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": ONE_THREAD_FLAGS,
    "JAX_PLATFORMS": "cpu",
}


START_SECONDS = 3.8
"""Processor time until `measure` has computed once, imports and compilation, on the reference: what
an older machine took, 6.3 to 7.0 s, less the factor of 1.75 by which its quick runs took longer."""


def measure() -> tuple[float, float]:
    """Processor time of a gradient and the sweeps of the reference network, in this process, and of
    the process until it had computed them once."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from grokphase.models import neuron_sweep
    from grokphase.models import teacher_student as model

    of = PARAMETERS
    inputs = np.random.default_rng(0).standard_normal((of.train_size, of.input_dim))
    teacher = np.eye(of.input_dim)[0]
    arrays = (
        inputs,
        model.targets(inputs, teacher, of.cubic_strength),
        teacher,
        of.noise,
        of.cubic_strength,
    )
    data = model.Data(*(jnp.asarray(x, jnp.float32) for x in arrays))
    zero = model.Position(jnp.zeros(of.width), jnp.zeros((of.width, of.input_dim)))

    @jax.jit
    def once(key: jax.Array, position: model.Position) -> model.Position:
        gradient = model.target(of, data).potential_and_gradient(position)[1]
        moved = jax.tree.map(lambda x, g: x - 1e-6 * g, position, gradient)
        return model.Position(*neuron_sweep.sweep(key, moved, of, data, SWEEPS).position)

    def timed() -> float:
        begin = time.process_time()
        jax.block_until_ready(once(jax.random.key(0), zero))
        return time.process_time() - begin

    timed()
    started = time.process_time()
    end = time.monotonic() + MEASURED_SECONDS
    rounds = [timed()]
    while time.monotonic() < end:
        rounds.append(timed())
    return sorted(rounds)[len(rounds) // 2], started


def slowness(processes: int = 1) -> resources.Slowness:
    """Time on a core of this machine over that expected by grokphase.resources.

    The mean of so many processes at the same time, at most one for each core and MOST_PROCESSES:
    cores that work together are slower than one alone, by a third where two of them are threads of
    one. Raises GrokphaseError if they fail.
    """
    command = [sys.executable, "-c", f"from {__name__} import measure; print(*measure())"]
    count = max(1, min(processes, len(os.sched_getaffinity(0)), MOST_PROCESSES))
    running = [
        subprocess.Popen(
            command, env={**os.environ, **_ONE_THREAD}, stdout=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise GrokphaseError(
            f"the speed of this machine cannot be measured: {command[0]} failed, as said above"
        )
    of_sweeps = SWEEPS * resources.sweep(PARAMETERS).seconds + resources.potential(PARAMETERS)
    expected = resources.gradient(PARAMETERS).seconds + of_sweeps
    works, starts = zip(*(map(float, output.split()) for output in outputs), strict=True)
    return resources.Slowness(sum(works) / count / expected, sum(starts) / count / START_SECONDS)
