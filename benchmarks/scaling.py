"""How the cost of sampling grows along the paper's scaling family, and what sharing costs.

For beta = 1/8 ... 4 (N = 700 beta, n = 3000 beta, d = 150 sqrt(beta), noise 0.18), through the
sampler that the pipeline runs, six steps in pairs and one sweep over the neurons per step, one
network on one thread:

- milliseconds per step against the arithmetic predicted: 4 n N d for each gradient (six, and one
  after the sweep), and the activations of the sweep;
- seconds per effective sample of the slowest observable of one chain after a burn-in that is not
  counted. Where a chain is too short for an effective size, none is stated.

At the smallest size also: time per step and network with 1, 2 and 4 networks in a shard, and of 1
and 2 jobs at the same time in processes of their own. The machine should be otherwise idle. Writes
scaling.json, scaling.md and scaling.png next to this file.

    python benchmarks/scaling.py [--seconds 40] [--betas 1/8 1/4 ...]

About 8 minutes at the default.
"""

import os

os.environ["NPROC"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
import numpy as np
from arviz_stats.base import array_stats
from grokphase.datasets import generate_dataset
from grokphase.figures import style
from grokphase.models import teacher_student as model
from grokphase.models.neuron_sweep_cost import WORK_PER_EVALUATION, evaluations_per_sweep
from grokphase.models.teacher_student_moves import with_sweeps
from grokphase.parameters import TeacherStudent
from grokphase.sampling.ensemble import Ensemble, Sampler, Schedule
from grokphase.sampling.kernels import Kernel, State, hamiltonian
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.specifications.training import PlantedStart
from grokphase.tables.observables import OBSERVABLES
from matplotlib.figure import Figure
from matplotlib.pyplot import subplots
from reporting import machine, write
from step import paper

BETAS = {"1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "1": 1.0, "2": 2.0, "4": 4.0}
SETTINGS = hamiltonian.Settings(
    integrator="two_stage", force_precision="bfloat16", step_size=0.33, leapfrog_steps=6
)
SWEEPS = 1
SHARED_BETA = "1/4"
"""Size at which shards and parallel jobs are compared."""

SHARDS = (1, 2, 4)
JOBS = (1, 2)
NAMES = OBSERVABLES["teacher_student"]
JUDGED = ("linear_overlap", "cubic_overlap", "mean_square_overlap", "droplet_fraction")
TRUSTED = 20.0
"""Effective samples below which no cost of one is stated."""

BURN_IN_STEPS = 40
BURN_IN_SHARE = 0.5
"""Burn-in takes so many steps, or this share of the measured time if that is less."""


def flops_per_step(of: TeacherStudent) -> dict[str, float]:
    """Predicted arithmetic of the matrix products and of the sweep, in their equivalent."""
    gradients = SETTINGS.gradients_per_step + 1  # The sweep leaves one to be computed anew.
    return {
        "gradients": 2 * gradients * model.work_per_gradient(of),
        "sweep": 2 * SWEEPS * WORK_PER_EVALUATION * evaluations_per_sweep(of),
    }


class Chains:
    """A shard of networks of one size, advanced in blocks of steps."""

    def __init__(self, beta: str, networks: int) -> None:
        self.of = of = paper(BETAS[beta])
        self.steps = max(1, round(2e10 / sum(flops_per_step(of).values()) / networks))
        identity = {"experiment": "benchmark", "seed": 0, "dataset": 0}
        dataset = DatasetSpecification(**identity, input_dim=of.input_dim, train_size=of.train_size)
        data = model.load_data(of, generate_dataset(dataset))

        def make_kernel(data: Any, burn_in: bool) -> Kernel:
            kernel = hamiltonian.build(model.target(of, data), SETTINGS, burn_in)
            return with_sweeps(kernel, SWEEPS, of, data)

        def observe(data: Any, state: State) -> tuple[jax.Array, jax.Array]:
            return (
                model.observables(state.position, state.potential, of, data),
                model.overlaps(state.position, of, data),
            )

        schedule = Schedule(0, self.steps, 1, self.steps)
        self.sampler = Sampler(make_kernel, observe, len(NAMES), schedule)
        self.keys = jax.random.split(jax.random.key(0), (1, networks))
        starts = [model.start(key, "prior", of, data, PlantedStart()) for key in self.keys[0]]
        positions = jax.tree.map(lambda *x: jax.numpy.stack(x)[None], *starts)
        self.data = jax.tree.map(lambda x: x[None], data)
        self.ensemble: Ensemble = self.sampler.start(positions, self.data)

    def advance(self, burn_in: bool) -> np.ndarray:
        """Observables [networks, steps, 7] of the next block."""
        state, measured = self.sampler.advance(
            self.keys,
            self.ensemble.state,
            self.ensemble.done,
            self.steps,
            self.data,
            accept_all=burn_in,
        )
        [observables] = np.asarray(measured[0])
        self.ensemble = self.ensemble._replace(
            done=self.ensemble.done + self.steps, state=jax.block_until_ready(state)
        )
        return observables

    def run(
        self, burn_in: bool, enough: Callable[[float, int], bool]
    ) -> tuple[np.ndarray, list[float]]:
        """Blocks until enough(seconds, steps): observables, and seconds of each block."""
        seen, seconds = [], []
        while not seconds or not enough(sum(seconds), len(seconds) * self.steps):
            began = time.perf_counter()
            seen.append(self.advance(burn_in))
            seconds.append(time.perf_counter() - began)
        return np.concatenate(seen, axis=1), seconds


def measure_size(beta: str, seconds: float) -> dict[str, Any]:
    """Time per step and effective samples of one network."""
    chains = Chains(beta, 1)
    chains.advance(True)  # Compiles; these steps count as burn-in.
    chains.run(
        True,
        lambda spent, steps: steps >= BURN_IN_STEPS or spent > BURN_IN_SHARE * seconds,
    )
    burn_in = chains.ensemble.done
    chains.advance(False)
    seen, times = chains.run(False, lambda spent, steps: spent >= seconds and steps >= 2)
    draws = seen[0].astype(np.float64)
    effective = {name: effective_samples(draws[:, NAMES.index(name)]) for name in JUDGED}
    slowest = min(effective, key=lambda name: effective[name])
    known = effective[slowest] >= TRUSTED
    of = chains.of
    return {
        "sizes": {"N": of.width, "n": of.train_size, "d": of.input_dim},
        "burn_in_steps": burn_in,
        "steps": len(draws),
        "milliseconds_per_step": 1e3 * float(np.median(times)) / chains.steps,
        "flops_per_step": flops_per_step(of),
        "effective": effective,
        "slowest": slowest,
        "seconds_per_effective_sample": sum(times) / effective[slowest] if known else None,
    }


def effective_samples(draws: np.ndarray) -> float:
    """Effective size of one chain, from its quarters; 0 if it is too short or does not move."""
    length = len(draws) // 4
    if length < 4 or draws.std() == 0:
        return 0.0
    return float(array_stats.ess(draws[: 4 * length].reshape(4, length), method="mean"))


def measure_shards(seconds: float) -> dict[str, float]:
    """Milliseconds per step and network, by networks in a shard; the shards take turns."""
    shards = {networks: Chains(SHARED_BETA, networks) for networks in SHARDS}
    times: dict[int, list[float]] = {networks: [] for networks in SHARDS}
    for chains in shards.values():
        chains.advance(False)
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        for networks, chains in shards.items():
            started = time.perf_counter()
            chains.advance(False)
            times[networks].append((time.perf_counter() - started) / chains.steps / networks)
    return {str(networks): 1e3 * float(np.median(found)) for networks, found in times.items()}


def measure_jobs(seconds: float) -> dict[str, list[float]]:
    """Milliseconds per step of each job, by jobs at the same time."""
    found = {}
    for count in JOBS:
        command = [sys.executable, __file__, "--worker", "--seconds", str(seconds)]
        # All start sampling when the last one has compiled.
        jobs = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        for job in jobs:
            assert job.stdout is not None
            assert job.stdout.readline() == "ready\n"
        for job in jobs:
            assert job.stdin is not None
            job.stdin.write("go\n")
            job.stdin.flush()
        found[str(count)] = [float(job.communicate()[0]) for job in jobs]
    return found


def work(seconds: float) -> None:
    """One of the jobs: says when it is ready, waits, and prints its milliseconds per step."""
    chains = Chains(SHARED_BETA, 1)
    chains.advance(False)
    print("ready", flush=True)
    sys.stdin.readline()
    times = chains.run(False, lambda spent, steps: spent >= seconds)[1]
    print(1e3 * float(np.median(times)) / chains.steps)


def table(found: dict[str, Any]) -> str:
    """The measurements as Markdown."""
    lines = [
        found["header"],
        "",
        "| β | N, n, d | steps | ms per step | predicted Gflop per step (sweep) | Gflop/s | "
        "effective samples | slowest | seconds per effective sample |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for beta, one in found["sizes"].items():
        flops = sum(one["flops_per_step"].values())
        cost = one["seconds_per_effective_sample"]
        lines.append(
            f"| {beta} | {', '.join(str(x) for x in one['sizes'].values())} | {one['steps']} | "
            f"{one['milliseconds_per_step']:.3g} | {flops / 1e9:.3g} "
            f"({one['flops_per_step']['sweep'] / 1e9:.2g}) | "
            f"{flops / one['milliseconds_per_step'] / 1e6:.0f} | "
            f"{one['effective'][one['slowest']]:.0f} | {one['slowest']} | "
            + (f"{cost:.3g} |" if cost else "too few to state |")
        )
    lines += [
        "",
        f"β = {SHARED_BETA}, milliseconds per step and network: "
        + "; ".join(
            f"{networks} in a shard {value:.3g}" for networks, value in found["shards"].items()
        )
        + ". Jobs at the same time: "
        + "; ".join(
            f"{count}: {', '.join(f'{x:.3g}' for x in values)}"
            for count, values in found["jobs"].items()
        )
        + ".",
    ]
    return "\n".join(lines) + "\n"


def draw(found: dict[str, Any]) -> Figure:
    """Time per step, cost per effective sample, and relative time with neighbours."""
    figure, (step, cost, shared) = subplots(1, 3, figsize=(9.6, 3.3))
    blue, orange, green = style.DISTINCT[:3]
    betas = np.array([BETAS[name] for name in found["sizes"]])
    sizes = list(found["sizes"].values())
    measured = np.array([one["milliseconds_per_step"] for one in sizes])
    gradients = np.array([one["flops_per_step"]["gradients"] for one in sizes])
    total = gradients + [one["flops_per_step"]["sweep"] for one in sizes]
    rate = float(np.max(total / measured))
    step.plot(betas, total / rate, color=blue, label="gradients and sweep")
    step.plot(betas, gradients / rate, color=orange, linestyle="--", label="gradients alone")
    step.plot(betas, measured, linestyle="none", marker="o", color="black", label="measured")
    step.set(yscale="log", ylabel="milliseconds per step")
    step.legend(title=f"predicted at {rate / 1e6:.0f} Gflop/s", title_fontsize=8)

    costs = [one["seconds_per_effective_sample"] for one in sizes]
    known = np.array([value is not None for value in costs])
    values = np.array([value or math.nan for value in costs])
    cost.plot(betas[known], values[known], marker="s", color=green)
    for beta in betas[~known]:
        cost.axvspan(beta / 2**0.4, beta * 2**0.4, color="0.92", linewidth=0)
        cost.text(beta, 0.5, "too few to state", rotation=90, ha="center", va="center",
                  transform=cost.get_xaxis_transform(), fontsize=8)  # fmt: skip
    cost.set(yscale="log", ylabel="seconds per effective sample, slowest")
    for axes in (step, cost):
        axes.set_xscale("log", base=2)
        axes.set_xticks(betas, list(found["sizes"]))
        axes.set_xlim(betas[0] / 2**0.5, betas[-1] * 2**0.5)
        axes.minorticks_off()
        axes.set_xlabel(r"$\beta$")

    alone = found["shards"]["1"], found["jobs"]["1"][0]
    shards = [value / alone[0] for value in found["shards"].values()]
    jobs = [float(np.mean(value)) / alone[1] for value in found["jobs"].values()]
    shared.plot([int(k) for k in found["shards"]], shards, marker="o", color=blue,
                label="networks in a shard,\nper network")  # fmt: skip
    shared.plot([int(k) for k in found["jobs"]], jobs, marker="^", color=orange,
                label="jobs at the same time,\neach")  # fmt: skip
    shared.axhline(1.0, color="0.6", linewidth=0.8, zorder=0)
    shared.set(
        xlabel=rf"number at $\beta$ = {SHARED_BETA}",
        ylabel="time per step, relative to one",
        xticks=SHARDS,
    )
    shared.set_ylim(0, 1.5 * max(shards + jobs))
    shared.legend()
    return figure


def main() -> None:
    """Measure and write the tables and the plot."""
    parser = argparse.ArgumentParser(description="Cost of sampling along the scaling family.")
    parser.add_argument("--seconds", type=float, default=40.0, help="sampling time of each size")
    parser.add_argument("--betas", nargs="+", choices=list(BETAS), default=list(BETAS))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    jax.config.update("jax_default_matmul_precision", "highest")
    if arguments.worker:
        work(arguments.seconds)
        return
    # Jobs first: the parent holds no large arrays yet.
    few = arguments.seconds / 3
    jobs = measure_jobs(few)
    found: dict[str, Any] = {
        "header": (
            f"{machine('numpy', 'jax')} {arguments.seconds:g} s per size. Hamiltonian, step "
            f"{SETTINGS.step_size}, {SETTINGS.leapfrog_steps} leapfrog steps and {SWEEPS} sweep; "
            f"noise {paper(1.0).noise}, one network, one thread. Fewer than {TRUSTED:.0f} "
            "effective samples are too few to state a cost."
        ),
        "jobs": jobs,
        "shards": measure_shards(few),
        "sizes": {beta: measure_size(beta, arguments.seconds) for beta in arguments.betas},
    }
    with mpl.rc_context(style.SETTINGS):
        draw(found).savefig(Path(__file__).with_suffix(".png"))
    write("scaling", found, table(found))


if __name__ == "__main__":
    main()
