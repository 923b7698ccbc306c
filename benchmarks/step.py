"""What one step costs beside its two matrix products, which are the floor.

For the paper's network at beta = 1/8, 1 and 2 (N = 700 beta, n = 3000 beta, d = 150 sqrt(beta)),
one network on one thread in float32. The floor is the chained pair inputs^T @ (inputs @ W^T), in
the fastest of three forms: both products whole in either layout, or in row blocks. Steps are timed
through the sampler that the pipeline runs, draws with their observables and counts included, and
all quantities in turn, so that what disturbs the machine disturbs them alike: ratios are medians
over the rounds of the quotient within a round. Writes step.json and step.md next to this file.

    python benchmarks/step.py [--rounds 15]
"""

import os

os.environ["NPROC"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import argparse
import datetime
import json
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from grokphase.datasets import generate_dataset
from grokphase.models import teacher_student as model
from grokphase.parameters import TeacherStudent
from grokphase.sampling import kernels, tree
from grokphase.sampling.ensemble import Sampler, Schedule
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.specifications.training import PlantedStart
from grokphase.tables.observables import OBSERVABLES

SIZES = {"1/8": 1 / 8, "1": 1.0, "2": 2.0}
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "hamiltonian step, per gradient": (
        "hamiltonian",
        {"step_size": 0.25, "leapfrog_steps": 12, "length_spread": 0.0},
    ),
    "pcn_langevin step": ("pcn_langevin", {"step_size": 0.2, "metropolis": False}),
}
Timed = tuple[Callable[[], Any], int]
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
    """The pair of products, `repeat` times, each fed with the result of the one before."""
    shrink = 0.3 / inputs.shape[0]
    rows = len(inputs) // block * block
    blocks = inputs[:rows].reshape(-1, block, inputs.shape[1])
    lost = len(inputs) / rows

    def in_blocks(v: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda s, x: (s + x.T @ (x @ v), None), jnp.zeros_like(v), blocks)[0]

    forms = {
        "W X^T, G X": (lambda v: (v @ inputs.T) @ inputs, weights),
        "X W^T, X^T G": (lambda v: inputs.T @ (inputs @ v), weights.T),
        "X W^T, X^T G in blocks": (lambda v: lost * in_blocks(v), weights.T),
    }
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
        g = target.potential_and_gradient(position)[1]
        return jax.tree.map(lambda x, y: x - 1e-7 * y, position, g)

    program = jax.jit(lambda x: jax.lax.fori_loop(0, repeat, move, x))
    return (lambda: program(position)), repeat


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
        values = model.observables(position, total, of, data)
        counts = model.COUNTING.tally(model.overlaps(position, of, data))
        # The weights change, or the compiler would compute the observables once for all.
        moved = position._replace(weights=(1 + 1e-9 * values[0]) * position.weights)
        return 0.5 * total + 1e-9 * (values.sum() + counts.sum()), moved

    program = jax.jit(lambda x: jax.lax.fori_loop(0, repeat, one, (jnp.zeros(()), x)))
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
    settings = module.Settings(**options)
    draws = -(-repeat // settings.gradients_per_step)

    def observe(data: Any, position: Any, potential: jax.Array) -> tuple[jax.Array, jax.Array]:
        return (
            model.observables(position, potential, of, data),
            model.overlaps(position, of, data),
        )

    def make_kernel(data: Any, burn_in: bool) -> kernels.Kernel:
        return module.build(model.target(of, data), settings)

    count = len(OBSERVABLES["teacher_student"])
    sampler = Sampler(make_kernel, observe, count, Schedule(0, draws, 1, draws))
    ensemble = sampler.start(jax.tree.map(lambda x: x[None], position), data)
    keys = jax.random.key(1)[None]

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
    position = model.start(jax.random.key(0), "prior", of, data, PlantedStart())
    repeat = max(1, round(5e9 / model.work_per_gradient(of)))
    block = max(1, min(of.train_size, model.BLOCK_ELEMENTS // of.width))
    scaled = 0.1 * position.weights
    timed = {f"floor: {k}": v for k, v in floors(data.inputs, scaled, block, repeat).items()}
    timed["gradient"] = gradient(model.target(of, data), position, repeat)
    for name, (kernel, options) in STEPS.items():
        timed[name] = whole_step(of, data, position, kernel, options, repeat)
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
            seconds[name].append((time.perf_counter() - started) / count)
    floor = min(
        (values for name, values in seconds.items() if name.startswith("floor")), key=np.median
    )
    flops = 2 * model.work_per_gradient(of)
    return {
        "width": of.width,
        "train_size": of.train_size,
        "input_dim": of.input_dim,
        "floor_gigaflops": flops / float(np.median(floor)) / 1e9,
        "quantities": {
            name: {
                "milliseconds": 1e3 * float(np.median(values)),
                "ratio": float(np.median(np.array(values) / np.array(floor))),
            }
            for name, values in seconds.items()
        },
    }


def table(results: dict[str, Any], header: str) -> str:
    """The ratios as Markdown, milliseconds in brackets."""
    lines = [
        header,
        "",
        "Ratio to the fastest floor (milliseconds on one thread). A Hamiltonian step draws momenta "
        "and measures once in 12 gradients; a Langevin step does both at every gradient.",
        "",
        "| | " + " | ".join(f"β = {beta}" for beta in results) + " |",
        "|---|" + "---|" * len(results),
        "| N, n, d | "
        + " | ".join(f"{r['width']}, {r['train_size']}, {r['input_dim']}" for r in results.values())
        + " |",
        "| floor, Gflop/s | "
        + " | ".join(f"{r['floor_gigaflops']:.0f}" for r in results.values())
        + " |",
    ]
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
    results = {name: measure(beta, rounds) for name, beta in SIZES.items()}
    header = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
        f"NumPy {np.__version__}, JAX {jax.__version__}, jaxlib {jaxlib.__version__}; "
        f"{rounds} rounds, {datetime.date.today()}."
    )
    folder = Path(__file__).parent
    (folder / "step.json").write_text(
        json.dumps({"header": header, "results": results}, indent=1) + "\n"
    )
    text = table(results, header)
    (folder / "step.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
