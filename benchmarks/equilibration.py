"""How long networks of both starts take to agree inside the mixed phase.

The paper's network inside the mixed phase, by default at noise 0.12, eps = -0.3: one network from
the prior and one planted on each of several datasets, with the sampler of config.yaml, whose
unadjusted part of burn-in comes first, and with the paper's isotropic Langevin dynamics. The gap of
an observable is the mean over the datasets of planted less prior; the starts agree from the first
draw whose gaps are within what Student's t exceeds as rarely as a normal deviate two and a half,
and after which no more gaps exceed that than chance allows (in one run of a hundred). Where
Langevin is not there in its time, the gap of the mean square overlap is extrapolated as an
exponential, fitted to the second half of the run, to the standard error that the other kernel ends
with. Processor time of one network on one thread. Writes equilibration.json and equilibration.md
next to this file.

    python benchmarks/equilibration.py [--datasets 6] [--draws 24] [--langevin-draws 40]
"""

import os

os.environ["NPROC"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from grokphase.config import load_config
from grokphase.datasets import generate_dataset
from grokphase.models import teacher_student as model
from grokphase.models import teacher_student_moves
from grokphase.sampling import kernels
from grokphase.sampling.ensemble import Sampler, Schedule
from grokphase.specifications.training import TrainingSpecification, unadjusted_draws
from grokphase.tables.observables import OBSERVABLES
from numpy.typing import NDArray
from reporting import machine, write
from scipy import stats

ROOT = Path(__file__).parents[1]
EXPERIMENT = "teacher_student"
NAMES = OBSERVABLES["teacher_student"]
JUDGED = ("linear_overlap", "cubic_overlap", "mean_square_overlap", "droplet_fraction")
LANGEVIN = {"kernel": "isotropic_langevin", "step_size": 2e-5}
BOUND = 2.5
"""Of a gap in its standard errors, as a normal deviate."""


def run(
    specification: TrainingSpecification, thin: int, draws: int, datasets: int
) -> dict[str, Any]:
    """Gaps [draws, judged] with standard errors, and seconds of a network per draw."""
    config = load_config(ROOT / "config.yaml", "paper")
    parameters = specification.parameters
    module = kernels.load(specification.kernel["kernel"])
    settings = kernels.settings(specification.kernel)
    unadjusted = unadjusted_draws(specification.burn_in)

    def make_kernel(data: Any, accept_all: jax.Array) -> kernels.Kernel:
        def build(target: kernels.Target) -> kernels.Kernel:
            return module.build(target, settings, accept_all=accept_all)

        return teacher_student_moves.with_moves(build, specification, parameters, data, accept_all)

    def observe(data: Any, state: kernels.State) -> tuple[jax.Array, jax.Array]:
        return (
            model.observables(state.position, state.potential, parameters, data),
            model.overlaps(state.position, parameters, data),
        )

    sampler = Sampler(
        make_kernel, observe, len(NAMES), Schedule(burn_in=0, draws=draws, thin=thin, block=draws)
    )
    differences, seconds = [], np.zeros(2)
    for dataset in range(datasets):
        data = model.load_data(parameters, generate_dataset(config.dataset(EXPERIMENT, dataset)))
        key = jax.random.fold_in(jax.random.key(specification.seed), dataset)
        starts = [
            model.start(jax.random.fold_in(key, i), kind, parameters, data, specification.planted)
            for i, kind in enumerate(("prior", "planted"))
        ]
        positions = jax.tree.map(lambda *x: jax.numpy.stack(x)[None], *starts)
        keys = jax.numpy.stack([jax.random.fold_in(key, 2 + i) for i in range(2)])[None]
        data = jax.tree.map(lambda x: x[None], data)
        if dataset == 0:
            # Compiles.
            sampler.advance(keys, sampler.start(positions, data).state, 0, 1, data)
        state = sampler.start(positions, data).state
        parts = []
        for part, (first, count) in enumerate(((0, unadjusted), (unadjusted, draws - unadjusted))):
            before = time.process_time()
            state, (observed, *_) = jax.block_until_ready(
                sampler.advance(keys, state, first, count, data, accept_all=first < unadjusted)
            )
            seconds[part] += time.process_time() - before
            parts.append(np.asarray(observed, np.float64)[0, :, :count])
        prior, planted = np.concatenate(parts, axis=1)
        differences.append(planted - prior)
        print(f"{module.__name__}, dataset {dataset}: {seconds.sum():.0f} s", flush=True)
    columns = [NAMES.index(name) for name in JUDGED]
    gaps = np.array(differences)[:, :, columns]
    return {
        "gap": gaps.mean(axis=0).tolist(),
        "error": (gaps.std(axis=0, ddof=1) / np.sqrt(datasets)).tolist(),
        "thin": thin,
        "datasets": datasets,
        "unadjusted": unadjusted,
        # Of the unadjusted and of the adjusted draws.
        "seconds_per_draw": (
            seconds / (2 * datasets * np.maximum([unadjusted, draws - unadjusted], 1))
        ).tolist(),
    }


def seconds_until(found: dict[str, Any], draw: float) -> float:
    """Processor time of a network for so many draws."""
    of_unadjusted, of_adjusted = found["seconds_per_draw"]
    unadjusted = min(draw, found["unadjusted"])
    return float(unadjusted * of_unadjusted + (draw - unadjusted) * of_adjusted)


def agreement(found: dict[str, Any]) -> int | None:
    """First draw (from 1) from which the starts agree; None if there is none."""
    one_side = stats.norm.sf(BOUND)
    bound = stats.t.isf(one_side, found["datasets"] - 1)
    outside = np.abs(found["gap"]) > bound * np.array(found["error"])
    for first in range(len(outside)):
        by_chance = stats.binom.ppf(0.99, outside[first:].size, 2 * one_side)
        if not outside[first].any() and outside[first:].sum() <= by_chance:
            return first + 1
    return None


def extrapolated(found: dict[str, Any], level: float) -> float:
    """Draws until the gap of the mean square overlap falls to `level`, as an exponential."""
    gap = np.array(found["gap"])[:, JUDGED.index("mean_square_overlap")]
    half = len(gap) // 2
    number = np.arange(1, len(gap) + 1)
    slope, start = np.polyfit(number[half:], np.log(np.abs(gap[half:])), 1)
    return float((np.log(level) - start) / slope) if slope < 0 else float("inf")


def line(name: str, found: dict[str, Any], column: NDArray[np.int_]) -> str:
    """Gaps at some draws."""
    cells = [
        f"{found['gap'][i][j]:+.3g} ± {found['error'][i][j]:.1g}"
        for j, judged in enumerate(JUDGED)
        for i in column
        if judged == name
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def section(title: str, found: dict[str, Any]) -> list[str]:
    """Table of gaps, halving the number of draws from the last backwards."""
    draws = len(found["gap"])
    shown = np.array(sorted({max(1, draws >> k) for k in range(6)})) - 1
    header = " | ".join(f"step {(i + 1) * found['thin']}" for i in shown)
    of_step = seconds_until(found, draws) / (draws * found["thin"])
    return [
        f"## {title}, {of_step:.3g} s per step and network",
        "",
        f"| gap, planted less prior | {header} |",
        "|---" * (1 + len(shown)) + "|",
        *(line(name, found, shown) for name in JUDGED),
        "",
    ]


def main() -> None:
    """Run both and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--point", default="noise~0.12/cubic_strength~-0.3")
    parser.add_argument("--datasets", type=int, default=6)
    parser.add_argument("--draws", type=int, default=24)
    parser.add_argument("--langevin-draws", type=int, default=40)
    parser.add_argument("--langevin-thin", type=int, default=50)
    arguments = parser.parse_args()
    jax.config.update("jax_default_matmul_precision", "highest")
    specification = load_config(ROOT / "config.yaml", "paper").training(EXPERIMENT, arguments.point)
    specification = specification.model_copy(update={"umbrella": None})
    ours = run(specification, 1, arguments.draws, arguments.datasets)
    plain = {"kernel": LANGEVIN, "neuron_sweeps": 0, "unadjusted_sweeps": None, "burn_in": 0}
    langevin = run(
        specification.model_copy(update=plain),
        arguments.langevin_thin,
        arguments.langevin_draws,
        arguments.datasets,
    )
    level = float(ours["error"][-1][JUDGED.index("mean_square_overlap")])
    agreed, of_langevin = agreement(ours), agreement(langevin)
    text = [
        "# Until both starts agree",
        "",
        f"{arguments.point}, {arguments.datasets} datasets with one network of each start; "
        f"{machine('jax')} Written by `benchmarks/equilibration.py`.",
        "",
        *section(
            f"{specification.kernel}, sweeps: {specification.unadjusted_sweeps} in each of "
            f"{unadjusted_draws(specification.burn_in)} unadjusted steps, then "
            f"{specification.neuron_sweeps}",
            ours,
        ),
        "Both starts agree within errors "
        + (
            f"from step {agreed}, {seconds_until(ours, agreed):.3g} s of a network."
            if agreed
            else "at no step of this run."
        ),
        "",
        *section(f"{LANGEVIN}", langevin),
    ]
    steps = extrapolated(langevin, level)
    thin, last = langevin["thin"], arguments.langevin_draws
    text.append(
        f"They agree from step {of_langevin * thin}, {seconds_until(langevin, of_langevin):.3g} s."
        if of_langevin
        else f"They do not agree by step {last * thin} ({seconds_until(langevin, last):.3g} s of a "
        f"network). Extrapolated, the gap of the mean square overlap falls to {level:.2g} at step "
        f"{steps * thin:.3g}, after {seconds_until(langevin, steps):.3g} s: a lower bound where "
        "droplets must still cross a barrier."
    )
    results = {"draws": {"ours": ours, "langevin": langevin}, "bound": BOUND}
    write("equilibration", results, "\n".join(text) + "\n")


if __name__ == "__main__":
    main()
