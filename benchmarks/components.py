"""Processor time of the parts of a training job against what grokphase.resources expects of them.

    python benchmarks/components.py > benchmarks/components.md

The constants of that module are fitted by hand to this table: each part at several sizes on one
thread, while another process does the same on a second core. Takes some minutes.
"""

import os

from grokphase.processor import ONE_THREAD_FLAGS

os.environ |= {
    "NPROC": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": ONE_THREAD_FLAGS,
}

import datetime
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from grokphase import machine, resources
from grokphase.models import collapsed_readout, mode_sweep, modular_addition, neuron_sweep, umbrella
from grokphase.models import teacher_student as model
from grokphase.parameters import ModularAddition, TeacherStudent
from grokphase.processor import multiplies_bfloat16

TEACHER_STUDENT = [
    (20, 40, 150), (50, 120, 600), (80, 200, 1200), (100, 400, 2000), (150, 700, 3000),
    (200, 1000, 4000),
]  # fmt: skip
"""d, N, n."""

MODULAR = [(17, 125, 1.0), (17, 500, 1.0), (19, 800, 1.0), (31, 300, 1.0), (23, 250, 0.7)]
"""P, N, share of the table."""

COLLAPSED = [(31, 100), (101, 500), (401, 1000)]
"""P, N."""

SECONDS = 1.0


class Part(NamedTuple):
    """A part of a job, its size, a program, and seconds expected of it."""

    name: str
    size: str
    run: Callable[[], Any]
    expected: float


def prepared(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """The compiled function with its arguments."""
    compiled = jax.jit(function)
    return lambda: compiled(*arguments)


def teacher_student(d: int, width: int, n: int) -> Iterator[Part]:
    """Parts of a job of the teacher-student model."""
    of = TeacherStudent(
        input_dim=d, width=width, train_size=n, weight_variance=0.5, noise=0.25,
        readout_variance=8 / width, cubic_strength=-0.3,
    )  # fmt: skip
    inputs = np.random.default_rng(0).standard_normal((n, d))
    teacher = np.eye(d)[0]
    arrays = (inputs, model.targets(inputs, teacher, -0.3), teacher, 0.25, -0.3)
    data = model.Data(*(jnp.asarray(x, jnp.float32) for x in arrays))
    key = jax.random.key(1)
    weights = jax.random.normal(key, (width, d))
    position = model.Position(jax.random.normal(key, (width,)), weights)
    target = model.target(of, data)
    size = f"d={d}, N={width}, n={n}"
    seconds = resources.gradient(of).seconds
    yield Part("gradient", size, prepared(target.potential_and_gradient, position), seconds)
    if multiplies_bfloat16() and target.approximate_gradient is not None:
        expected = resources.BFLOAT16_SHARE * seconds
        run = prepared(target.approximate_gradient, position)
        yield Part("gradient in bfloat16", size, run, expected)
    potential = prepared(target.potential_and_forward, position)
    yield Part("potential", size, potential, resources.potential(of))
    sweep = prepared(lambda k, x: neuron_sweep.sweep(k, x, of, data, 2), key, position)
    expected = resources.potential(of) + 2 * resources.sweep(of).seconds
    yield Part("potential and two sweeps", size, sweep, expected)
    counts = prepared(lambda x: neuron_sweep.expected_counts(x, of, data), position)
    yield Part("densities", size, counts, resources.density(of))
    profile = prepared(lambda k, x: umbrella.log_profile(k, x, of, data), key, position)
    yield Part("profile", size, profile, resources.profile(of))


def modular(prime: int, width: int, fraction: float) -> Iterator[Part]:
    """Parts of a job of modular addition on all weights."""
    of = ModularAddition(
        prime=prime, width=width, readout_variance=6.6e-8 * 500 / width, sextic_decay=2.2,
        noise=1e-4, train_fraction=fraction,
    )  # fmt: skip
    rank = np.random.default_rng(0).permutation(prime**2).reshape(prime, prime)
    data = modular_addition.Data(jnp.float32(1e-4), jnp.asarray(rank < fraction * prime**2))
    key = jax.random.key(1)
    position = modular_addition.prior_position(key, of)
    target = modular_addition.target(of, data)
    size = f"P={prime}, N={width}" + (f", {fraction:.0%}" if fraction < 1 else "")
    run = prepared(target.potential_and_gradient, position)
    yield Part("gradient, modular addition", size, run, resources.gradient(of).seconds)
    sweep = prepared(lambda k, x: mode_sweep.sweep(k, x, of, data), key, position)
    yield Part("sweep over modes", size, sweep, resources.sweep(of).seconds)


def collapsed(prime: int, width: int) -> Iterator[Part]:
    """The gradient of modular addition with the readouts integrated out."""
    of = ModularAddition(
        prime=prime, width=width, readout_variance=2e-6, sextic_decay=1e-4, noise=0.2
    )
    data = modular_addition.Data(jnp.float32(0.2), jnp.ones((prime, prime), bool))
    position = modular_addition.prior_position(jax.random.key(1), of)
    weights = collapsed_readout.InputWeights(position.first, position.second)
    run = prepared(collapsed_readout.target(of, data).potential_and_gradient, weights)
    expected = resources.collapsed_gradient(of).seconds
    yield Part("gradient, readouts integrated out", f"P={prime}, N={width}", run, expected)


def parts() -> Iterator[Part]:
    """All parts at all sizes."""
    for size in TEACHER_STUDENT:
        yield from teacher_student(*size)
    for one in MODULAR:
        yield from modular(*one)
    for last in COLLAPSED:
        yield from collapsed(*last)


def timed(run: Callable[[], Any]) -> float:
    """Lower quartile of the processor time over SECONDS, five runs at least."""
    jax.block_until_ready(run())
    rounds: list[float] = []
    end = time.monotonic() + SECONDS
    while len(rounds) < 5 or time.monotonic() < end:
        begin = time.process_time()
        jax.block_until_ready(run())
        rounds.append(time.process_time() - begin)
    return sorted(rounds)[len(rounds) // 4]


def main() -> None:
    jax.config.update("jax_default_matmul_precision", "highest")
    if "--beside" in sys.argv:
        while True:
            for part in parts():
                timed(part.run)
    cores = len(os.sched_getaffinity(0))
    slowness = machine.slowness(2).work
    command = [sys.executable, __file__, "--beside"]
    beside = subprocess.Popen(command) if cores > 1 else None
    print("# Parts of training jobs\n")
    print(
        f"Written by `python benchmarks/components.py`: {platform.machine()}, {cores} cores, JAX "
        f"{jax.__version__}, {datetime.date.today()}; {slowness:.2f} times as slow as the machine "
        "that the constants are of.\n"
    )
    print("| part | size | ms | expected | used/expected |\n|---|---|---|---|---|")
    try:
        for part in parts():
            seconds = timed(part.run)
            cells = (f"{1e3 * seconds:.3g}", f"{1e3 * part.expected:.3g}")
            ratio = f"{seconds / part.expected:.2f}"
            print(f"| {part.name} | {part.size} | {' | '.join(cells)} | {ratio} |", flush=True)
    finally:
        if beside:
            beside.kill()


if __name__ == "__main__":
    main()
