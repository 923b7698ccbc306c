"""What one step costs beside its two matrix products, which are the floor.

For the paper's network at beta = 1/8, 1 and 2 (N = 700 beta, n = 3000 beta, d = 150 sqrt(beta)) in
float32: one network on one thread of a CPU, a batch of 200 networks on an accelerator. The floor is
the chained pair inputs^T @ (inputs @ W^T), in the fastest of three forms: both products whole in
either layout, or in row blocks. Steps are timed through the sampler that the pipeline runs, draws
with their observables and counts included, and all quantities in turn, so that what disturbs the
machine disturbs them alike: ratios are medians over the rounds of the quotient within a round.
Writes step.json and step.md next to this file, or step_gpu.json and step_gpu.md.

    python benchmarks/step.py [--rounds 15]
"""

import os

os.environ["NPROC"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from grokphase.datasets import generate_dataset
from grokphase.models import neuron_sweep
from grokphase.models import teacher_student as model
from grokphase.models.teacher_student_moves import with_sweeps
from grokphase.parameters import TeacherStudent
from grokphase.sampling import kernels, tree
from grokphase.sampling.ensemble import Sampler, Schedule, mapped
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.specifications.training import PlantedStart
from grokphase.tables.observables import OBSERVABLES
from reporting import machine, write

SIZES = {"1/8": 1 / 8, "1": 1.0, "2": 2.0}
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "hamiltonian step, per gradient": (
        "hamiltonian",
        {"step_size": 0.25, "leapfrog_steps": 12, "length_spread": 0.0},
    ),
    "a quarter of a hamiltonian step as shipped: 5 gradients, a sweep": (
        "hamiltonian",
        {
            "integrator": "two_stage",
            "force_precision": "bfloat16",
            "step_size": 0.33,
            "leapfrog_steps": 4,
            "neuron_sweeps": 1,
        },
    ),
    "pcn_langevin step": ("pcn_langevin", {"step_size": 0.2, "metropolis": False}),
}
ON_CPU = jax.default_backend() == "cpu"
NETWORKS = 1 if ON_CPU else 200
WORK = 5e9 if ON_CPU else 1e12
"""Multiply-adds of the repetitions of one gradient that are timed together."""

Timed = tuple[Callable[[], Any], float]
"""A compiled program, and how many repetitions of the quantity it runs."""


def paper(beta: float) -> TeacherStudent:
    """The paper's network along its scaling family, alpha = beta."""
    return TeacherStudent(
        input_dim=round(150 * math.sqrt(beta)),
        width=round(700 * beta),
        train_size=round(3000 * beta),
        weight_variance=0.5,
        readout_variance=8 / 700 / math.sqrt(beta),
        noise=0.18,
        cubic_strength=-0.3,
    )


def floors(inputs: jax.Array, weights: jax.Array, block: int, repeat: int) -> dict[str, Timed]:
    """The pair of products of all networks, `repeat` times, each fed with the result before it."""
    shrink = 0.3 / inputs.shape[0]
    rows = len(inputs) // block * block
    stacked = weights.reshape(-1, weights.shape[-1])
    blocks = inputs[:rows].reshape(-1, block, inputs.shape[1])
    lost = len(inputs) / rows

    def in_blocks(v: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda s, x: (s + x.T @ (x @ v), None), jnp.zeros_like(v), blocks)[0]

    forms = {
        "W X^T, G X": (lambda v: (v @ inputs.T) @ inputs, stacked),
        "X W^T, X^T G": (lambda v: inputs.T @ (inputs @ v), stacked.T),
    }
    if ON_CPU:
        forms["X W^T, X^T G in blocks"] = (lambda v: lost * in_blocks(v), stacked.T)
    found: dict[str, Timed] = {}
    for name, (product, start) in forms.items():
        program = jax.jit(
            lambda v, f=product: jax.lax.fori_loop(0, repeat, lambda _, u: shrink * f(u), v)
        )
        found[name] = (lambda program=program, start=start: program(start)), repeat
    return found


def gradient(target: kernels.Target, position: Any, repeat: int) -> Timed:
    """`repeat` gradients, each at the end of a small step along the one before."""

    def move(_: int, position: Any) -> Any:
        g = mapped(lambda x: target.potential_and_gradient(x)[1])(position)
        return jax.tree.map(lambda x, y: x - 1e-7 * y, position, g)

    program = jax.jit(lambda x: jax.lax.fori_loop(0, repeat, move, x))
    return (lambda: program(position)), repeat


def in_tensorfloat32(program: Callable[[], Any], repeat: float) -> Timed:
    """The same with matrix products in TF32."""

    def run() -> Any:
        with jax.default_matmul_precision("tensorfloat32"):
            return program()

    return run, repeat


def random_numbers(position: Any, implementation: str, repeat: int) -> Timed:
    """Normal numbers for every coordinate."""
    key = jax.random.key(0, impl=implementation)

    def draw(i: int, sums: Any) -> Any:
        fresh = tree.standard_normal(jax.random.fold_in(key, i), position)
        return jax.tree.map(jnp.add, sums, fresh)

    program = jax.jit(lambda x: jax.lax.fori_loop(0, repeat, draw, x))
    return (lambda: program(position)), repeat


def observables(of: TeacherStudent, data: model.Data, position: Any, repeat: int) -> Timed:
    """Observables and counts of one draw."""

    def one(_: int, carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        total, position = carry
        values, counts = mapped(
            lambda x: (
                model.observables(x, total, of, data),
                model.COUNTING.tally(model.overlaps(x, of, data)),
            )
        )(position)
        # The weights change, or the compiler would compute the observables once for all.
        moved = position._replace(weights=(1 + 1e-9 * values[0, 0]) * position.weights)
        return 0.5 * total + 1e-9 * (values.sum() + counts.sum()), moved

    program = jax.jit(lambda x: jax.lax.fori_loop(0, repeat, one, (jnp.zeros(()), x)))
    return (lambda: program(position)), repeat


def sweep(of: TeacherStudent, data: model.Data, position: Any, repeat: int) -> Timed:
    """Sweeps over the neurons."""
    keys = jax.random.split(jax.random.key(0), NETWORKS)

    def one(_: int, position: Any) -> Any:
        return mapped(lambda key, x: neuron_sweep.sweep(key, x, of, data).position)(keys, position)

    program = jax.jit(lambda x: jax.lax.fori_loop(0, repeat, one, x))
    return (lambda: program(position)), repeat


def whole_step(
    of: TeacherStudent,
    data: model.Data,
    position: Any,
    name: str,
    options: dict[str, Any],
    repeat: int,
) -> Timed:
    """Draws of the pipeline's sampler, one per step; counts gradients."""
    module = kernels.load(name)
    options = dict(options)
    sweeps = options.pop("neuron_sweeps", 0)
    settings = module.Settings(**options)
    draws = -(-repeat // settings.gradients_per_step)

    def observe(data: Any, state: kernels.State) -> tuple[jax.Array, jax.Array]:
        return (
            model.observables(state.position, state.potential, of, data),
            model.overlaps(state.position, of, data),
        )

    def make_kernel(data: Any, burn_in: bool) -> kernels.Kernel:
        return with_sweeps(module.build(model.target(of, data), settings), sweeps, of, data)

    count = len(OBSERVABLES["teacher_student"])
    sampler = Sampler(make_kernel, observe, count, Schedule(0, draws, 1, draws))
    data = jax.tree.map(lambda x: x[None], data)
    ensemble = sampler.start(jax.tree.map(lambda x: x[None], position), data)
    keys = jax.random.split(jax.random.key(1), (1, NETWORKS))

    def run() -> Any:
        state = jax.tree.map(jnp.copy, ensemble.state)
        return sampler.advance(keys, state, 0, draws, data)

    return run, draws * settings.gradients_per_step


def measure(beta: float, rounds: int) -> dict[str, Any]:
    """Seconds of every quantity in every round, and ratios to the fastest floor of the round."""
    of = paper(beta)
    identity = {"experiment": "benchmark", "seed": 0, "dataset": 0}
    data = model.load_data(
        of,
        generate_dataset(
            DatasetSpecification(**identity, input_dim=of.input_dim, train_size=of.train_size)
        ),
    )
    starts = [
        model.start(key, "prior", of, data, PlantedStart())
        for key in jax.random.split(jax.random.key(0), NETWORKS)
    ]
    position = jax.tree.map(lambda *x: jnp.stack(x), *starts)
    repeat = max(1, round(WORK / model.work_per_gradient(of) / NETWORKS))
    block = max(1, min(of.train_size, model.BLOCK_ELEMENTS // of.width))
    scaled = 0.1 * position.weights
    timed = {f"floor: {k}": v for k, v in floors(data.inputs, scaled, block, repeat).items()}
    timed["gradient"] = gradient(model.target(of, data), position, repeat)
    if not ON_CPU:
        timed["gradient, products in TF32"] = in_tensorfloat32(
            *gradient(model.target(of, data), position, repeat)
        )
    for name, (kernel, options) in STEPS.items():
        timed[name] = whole_step(of, data, position, kernel, options, repeat)
    timed["sweep over the neurons"] = sweep(of, data, position, max(1, repeat // 8))
    timed["observables and counts"] = observables(of, data, position, repeat)
    for implementation in ("threefry2x32", "rbg", "unsafe_rbg"):
        name = f"random numbers, {implementation}"
        timed[name] = random_numbers(position, implementation, repeat)
    for program, _ in timed.values():
        jax.block_until_ready(program())
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, (program, count) in timed.items():
            started = time.perf_counter()
            jax.block_until_ready(program())
            seconds[name].append((time.perf_counter() - started) / count / NETWORKS)
    floor = min(
        (values for name, values in seconds.items() if name.startswith("floor")), key=np.median
    )
    flops = 2 * model.work_per_gradient(of)
    memory = jax.devices()[0].memory_stats() or {}
    return {
        "width": of.width,
        "train_size": of.train_size,
        "input_dim": of.input_dim,
        "floor_gigaflops": flops / float(np.median(floor)) / 1e9,
        "gradient_gigaflops": flops / float(np.median(seconds["gradient"])) / 1e9,
        "memory_gibibytes": memory.get("peak_bytes_in_use", 0) / 2**30,
        "quantities": {
            name: {
                "milliseconds": 1e3 * float(np.median(values)),
                "ratio": float(np.median(np.array(values) / np.array(floor))),
            }
            for name, values in seconds.items()
        },
    }


def peak_gigaflops() -> float:
    """Speed of the product of large square matrices in float32."""
    size = 2048 if ON_CPU else 8192
    square = jax.random.normal(jax.random.key(0), (size, size)) / size**0.5
    product = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: y @ x, x))
    jax.block_until_ready(product(square))
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        jax.block_until_ready(product(square))
        seconds.append((time.perf_counter() - started) / 3)
    return 2 * size**3 / min(seconds) / 1e9


def table(results: dict[str, Any], peak: float, header: str) -> str:
    """The ratios as Markdown, milliseconds in brackets."""
    where = "one network on one thread" if ON_CPU else f"a batch of {NETWORKS} networks, for each"
    lines = [
        header,
        "",
        f"Ratio to the fastest floor (milliseconds, {where}). A Hamiltonian step draws momenta "
        "and measures once in 12 gradients; a Langevin step does both at every gradient. Large "
        f"square matrices are multiplied at {peak:.0f} Gflop/s.",
        "",
        "| | " + " | ".join(f"β = {beta}" for beta in results) + " |",
        "|---|" + "---|" * len(results),
        "| N, n, d | "
        + " | ".join(f"{r['width']}, {r['train_size']}, {r['input_dim']}" for r in results.values())
        + " |",
        "| floor, Gflop/s | "
        + " | ".join(f"{r['floor_gigaflops']:.0f}" for r in results.values())
        + " |",
        "| gradient, Gflop/s (share of the speed of large matrices) | "
        + " | ".join(
            f"{r['gradient_gigaflops']:.0f} ({r['gradient_gigaflops'] / peak:.2f})"
            for r in results.values()
        )
        + " |",
    ]
    if not ON_CPU:
        cells = " | ".join(f"{r['memory_gibibytes']:.1f}" for r in results.values())
        lines.append(f"| memory of all quantities, at most, GiB | {cells} |")
    for name in next(iter(results.values()))["quantities"]:
        cells = [r["quantities"][name] for r in results.values()]
        lines.append(
            f"| {name} | "
            + " | ".join(f"{c['ratio']:.2f} ({c['milliseconds']:.3g})" for c in cells)
            + " |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all sizes and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    jax.config.update("jax_default_matmul_precision", "highest")
    device = "" if ON_CPU else f"{jax.devices()[0].device_kind}; "
    header = f"{device}{machine('numpy', 'jax', 'jaxlib')} {rounds} rounds."
    peak = peak_gigaflops()
    results = {name: measure(beta, rounds) for name, beta in SIZES.items()}
    found = {"header": header, "peak_gigaflops": peak, "results": results}
    write("step" if ON_CPU else "step_gpu", found, table(results, peak, header))


if __name__ == "__main__":
    main()
