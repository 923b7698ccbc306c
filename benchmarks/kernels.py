"""Which kernel samples the paper's network best: effective samples per second and bias.

Every kernel starts from the same equilibrated network and samples the same posterior in the same
process, one thread. The reference is a long Metropolis-adjusted Hamiltonian run. Bias is relative,
with the standard error of the difference; effective samples per second are those of the slowest
observable. The machine should be otherwise idle. Writes kernels.json and kernels.md next to this
file.

    python benchmarks/kernels.py [--noise 0.18] [--cubic-strength -0.3] [--seconds 60]
"""

import os

os.environ["NPROC"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import argparse
import time
from functools import partial
from typing import Any

import jax
import numpy as np
from arviz_stats.base import array_stats
from grokphase.datasets import generate_dataset
from grokphase.models import teacher_student as model
from grokphase.models import teacher_student_moves
from grokphase.parameters import TeacherStudent
from grokphase.sampling import kernels
from grokphase.sampling.ensemble import Sampler, Schedule
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.specifications.training import PlantedStart
from grokphase.tables.observables import OBSERVABLES
from reporting import machine, write

NAMES = OBSERVABLES["teacher_student"]
JUDGED = ("linear_overlap", "mean_square_overlap", "cubic_overlap", "droplet_fraction")

PAIRS = {"integrator": "two_stage"}
SHIPPED = PAIRS | {"step_size": 0.33, "leapfrog_steps": 2, "neuron_sweeps": 1}
REFERENCE = ("hamiltonian", SHIPPED | {"force_precision": "bfloat16"})
CANDIDATES: list[tuple[str, dict[str, Any]]] = [
    ("hamiltonian", PAIRS | {"step_size": 0.33, "leapfrog_steps": 4, "neuron_sweeps": 1}),
    ("hamiltonian", PAIRS | {"step_size": 0.33, "leapfrog_steps": 6, "neuron_sweeps": 1}),
    ("hamiltonian", SHIPPED),
    REFERENCE,
    ("hamiltonian", {"step_size": 0.25, "leapfrog_steps": 8, "neuron_sweeps": 1}),
    ("hamiltonian", PAIRS | {"step_size": 0.28, "leapfrog_steps": 12}),
    ("hamiltonian", {"step_size": 0.25, "leapfrog_steps": 12}),
    ("hamiltonian", {"step_size": 0.29, "leapfrog_steps": 10, "metropolis": False}),
    ("pcn_langevin", {"step_size": 0.2, "metropolis": False}),
    ("pcn_langevin", {"step_size": 0.05, "metropolis": True}),
    ("isotropic_langevin", {"step_size": 2e-5}),
]
LONGER = {"isotropic_langevin": 12}
"""Slow kernels run this many times longer, or nothing could be said about them."""


def build(
    parameters: TeacherStudent, name: str, options: dict[str, Any], draws: int, thin: int
) -> tuple[Sampler, int]:
    """A sampler that records every `thin` steps, and its gradients per draw, beside sweeps."""
    module = kernels.load(name)
    kernel_options = dict(options)
    sweeps = kernel_options.pop("neuron_sweeps", 0)
    settings = module.Settings(**kernel_options)

    def observe(data: Any, state: kernels.State) -> tuple[jax.Array, jax.Array]:
        return (
            model.observables(state.position, state.potential, parameters, data),
            model.overlaps(state.position, parameters, data),
        )

    def make_kernel(data: Any, burn_in: bool) -> kernels.Kernel:
        kernel = module.build(model.target(parameters, data), settings)
        return teacher_student_moves.with_sweeps(kernel, sweeps, parameters, data)

    schedule = Schedule(burn_in=0, draws=draws, thin=thin, block=draws)
    gradients = settings.gradients_per_step + bool(sweeps)
    return Sampler(make_kernel, observe, len(NAMES), schedule), thin * gradients


def run(
    parameters: TeacherStudent,
    data: Any,
    position: Any,
    name: str,
    options: dict[str, Any],
    seconds: float,
    key: jax.Array,
) -> dict[str, Any]:
    """Draws of one kernel for about `seconds`, without compilation; also the last position."""
    thin = max(1, 8 // options.get("leapfrog_steps", 1) // (1 + options.get("neuron_sweeps", 0)))
    sampler, gradients = build(parameters, name, options, 20, thin)
    of_one = partial(jax.tree.map, lambda x: x[None])
    data = of_one(data)
    ensemble = sampler.start(of_one(of_one(position)), data)
    keys = key[None, None]
    pieces, elapsed, done, state = [], 0.0, 0, ensemble.state
    accepted = 0.0
    while elapsed < seconds:
        started = time.perf_counter()
        state, (observed, acceptance, *_) = jax.block_until_ready(
            sampler.advance(keys, state, done, 20, data)
        )
        if done:
            elapsed += time.perf_counter() - started
            pieces.append(np.asarray(observed)[0, 0])
            accepted += float(acceptance[0, 0, 0])
        done += 20
    draws = np.concatenate(pieces).astype(np.float64)
    return {
        "kernel": name,
        "options": options,
        "draws": len(draws),
        "gradients": len(draws) * gradients,
        "seconds": elapsed,
        "milliseconds_per_gradient": 1e3 * elapsed / (len(draws) * gradients),
        "acceptance": accepted / len(draws),
        "observables": {n: _summary(draws[:, NAMES.index(n)]) for n in JUDGED},
        "position": jax.tree.map(lambda x: x[0, 0], state.position),
    }


def _summary(draws: np.ndarray) -> dict[str, float]:
    # Four quarters of one chain: drift shows as a small effective sample size.
    quarters = draws[: len(draws) // 4 * 4].reshape(4, -1)
    effective = float(array_stats.ess(quarters, method="mean"))
    return {
        "mean": float(draws.mean()),
        "effective": effective,
        "error": float(draws.std(ddof=1) / np.sqrt(effective)),
    }


def compare(results: list[dict[str, Any]], reference: dict[str, Any]) -> None:
    """Add bias, effective samples per second and the ratio to unbiased isotropic Langevin.

    Isotropic runs whose linear overlap or mean square overlap is off by more than half a percent
    (beyond two standard errors) are not sampling this posterior and are no yardstick.
    """
    for one in results:
        for name, found in one["observables"].items():
            exact = reference["observables"][name]
            scale = 100 / abs(exact["mean"])
            found["bias_percent"] = scale * (found["mean"] - exact["mean"])
            found["bias_error_percent"] = scale * float(np.hypot(found["error"], exact["error"]))
            found["effective_per_second"] = found["effective"] / one["seconds"]
            found["effective_per_1000_gradients"] = 1e3 * found["effective"] / one["gradients"]
        one["unbiased"] = all(
            abs(one["observables"][name]["bias_percent"])
            <= 0.5 + 2 * one["observables"][name]["bias_error_percent"]
            for name in ("linear_overlap", "mean_square_overlap")
        )
        one["slowest_per_second"] = min(
            found["effective_per_second"] for found in one["observables"].values()
        )
    yardsticks = [r for r in results if r["kernel"] == "isotropic_langevin" and r["unbiased"]]
    best = max(one["slowest_per_second"] for one in yardsticks)
    for one in results:
        one["slowest_ratio"] = one["slowest_per_second"] / best
        for name, found in one["observables"].items():
            found["ratio_to_isotropic"] = found["effective_per_second"] / max(
                y["observables"][name]["effective_per_second"] for y in yardsticks
            )


def table(results: list[dict[str, Any]], header: str) -> str:
    """The comparison as Markdown, one row per kernel and observable."""
    lines = [
        header,
        "",
        "Bias is relative to the reference; errors are too small for kernels that do not forget "
        "their start in the time they have, as adjusted pCN at a short step. Effective samples per "
        "second (per 1000 gradients), and "
        "the ratio of the former to isotropic Langevin at a step that is not biased. The last line "
        "of a kernel compares the slowest observable of each.",
        "",
        "| kernel | observable | bias % | effective/s | per 1000 gradients | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for one in results:
        options = ", ".join(f"{k}={v}" for k, v in one["options"].items())
        first = (
            f"{one['kernel']} ({options}); acceptance {one['acceptance']:.2f}, "
            f"{one['milliseconds_per_gradient']:.1f} ms per gradient"
            + ("" if one["unbiased"] else "; BIASED")
        )
        for name, found in one["observables"].items():
            lines.append(
                f"| {first} | {name} | {found['bias_percent']:+.2f} ± "
                f"{found['bias_error_percent']:.2f} | {found['effective_per_second']:.3g} | "
                f"{found['effective_per_1000_gradients']:.3g} | "
                f"{found['ratio_to_isotropic']:.3g} |"
            )
            first = ""
        lines.append(
            f"| | slowest | | {one['slowest_per_second']:.3g} | | {one['slowest_ratio']:.3g} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the comparison and write its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", type=float, default=0.18)
    parser.add_argument("--cubic-strength", type=float, default=-0.3)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    jax.config.update("jax_default_matmul_precision", "highest")
    parameters = TeacherStudent(
        input_dim=150,
        width=700,
        train_size=3000,
        weight_variance=0.5,
        readout_variance=8 / 700,
        noise=arguments.noise,
        cubic_strength=arguments.cubic_strength,
    )
    dataset = generate_dataset(
        DatasetSpecification(
            experiment="benchmark", seed=0, dataset=0, input_dim=150, train_size=3000
        )
    )
    data = model.load_data(parameters, dataset)
    key = jax.random.key(0)
    fold = partial(jax.random.fold_in, key)
    position = model.start(fold(0), "prior", parameters, data, PlantedStart())
    burn_in = {"step_size": 0.25, "leapfrog_steps": 7, "metropolis": False}
    position = run(parameters, data, position, "hamiltonian", burn_in, 10.0, fold(1))["position"]
    reference = run(parameters, data, position, *REFERENCE, 3 * arguments.seconds, fold(2))
    results = [
        run(
            parameters,
            data,
            position,
            name,
            options,
            arguments.seconds * LONGER.get(name, 1),
            fold(3 + i),
        )
        for i, (name, options) in enumerate(CANDIDATES)
    ]
    for one in (reference, *results):
        del one["position"]
    compare(results, reference)
    header = (
        f"noise {arguments.noise}, cubic strength {arguments.cubic_strength}, d=150, N=700, "
        f"n=3000, one network; {arguments.seconds:g} s per kernel on one thread of "
        f"{machine('jax')} Reference: {REFERENCE[0]} {REFERENCE[1]}, {reference['draws']} draws."
    )
    found = {"header": header, "reference": reference, "results": results}
    write("kernels", found, table(results, header))


if __name__ == "__main__":
    main()
