"""Seconds to solve the teacher-student theory on a grid of noise and cubic strength, all branches.

The grid is solved at once, and a sample of its points one by one, among them those next to a
change of phase: every branch of the single solve must be on the grid. Writes theory_grid.json and
theory_grid.md next to this file.

    python benchmarks/theory_grid.py [--size 200] [--sample 200]
"""

import argparse
import time
from typing import Any

import numpy as np
from grokphase.parameters import TeacherStudent
from grokphase.theory import teacher_student as theory
from grokphase.theory.phases import observables
from reporting import machine, write

PAPER = TeacherStudent(
    input_dim=150,
    width=700,
    train_size=3000,
    weight_variance=0.5,
    readout_variance=8 / 700,
    noise=0.18,
    cubic_strength=-0.3,
)
NOISE = (0.05, 0.5)
CUBIC_STRENGTH = (-0.6, 0.6)


def sampled_points(phase: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Half of the points at random, half of them next to another phase."""
    random = np.random.default_rng(0)
    edges = np.argwhere(phase[1:] != phase[:-1])
    some = random.permutation(edges)[: count // 2]
    rest = random.integers(0, phase.shape, (count - len(some), 2))
    return [(int(i), int(j)) for i, j in [*some, *rest]]


def difference(grid: theory.Solutions, single: theory.Solutions, i: int, j: int) -> float:
    """Largest relative distance of a branch of the single solve to its nearest on the grid."""
    found = grid.converged[:, i, j]
    worst = 0.0
    for k in np.flatnonzero(single.converged):
        same = found & (grid.wells[:, i, j] == single.wells[k])
        away = grid.discrepancy[same, i, j] - single.discrepancy[k]
        size = np.linalg.norm(single.discrepancy[k])
        worst = max(worst, float(np.linalg.norm(away, axis=-1).min(initial=np.inf) / size))
    return worst


def measure(closure: theory.Closure, size: int, sample: int) -> dict[str, Any]:
    """Seconds of the grid, and its agreement with single points."""
    noise, strength = np.linspace(*NOISE, size), np.linspace(*CUBIC_STRENGTH, size)
    theory.solve(PAPER, noise[:2, None], strength[:2], closure=closure)
    started, used = time.perf_counter(), time.process_time()
    grid = theory.solve(PAPER, noise[:, None], strength, closure=closure)
    seconds, processor = time.perf_counter() - started, time.process_time() - used
    started = time.perf_counter()
    phase = observables(theory.select(grid)).phase
    derived = time.perf_counter() - started
    points = sampled_points(phase, sample)
    worst = max(
        difference(grid, theory.solve(PAPER, noise[i], strength[j], closure=closure), i, j)
        for i, j in points
    )
    branches = grid.converged.sum(axis=0)
    return {
        "points": size**2,
        "seconds": seconds,
        "processor_seconds": processor,
        "observables_seconds": derived,
        "solutions": int(branches.sum()),
        "most_branches": int(branches.max()),
        "without_solution": int((branches == 0).sum()),
        "sampled": len(points),
        "largest_difference": worst,
    }


def table(results: dict[str, Any], header: str) -> str:
    """The measurements as Markdown."""
    lines = [
        header,
        "",
        "| closure | points | seconds | of one core | observables | solutions | at most | "
        "difference from single points |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {r['points']} | {r['seconds']:.2f} | {r['processor_seconds']:.2f} | "
        f"{r['observables_seconds']:.2f} | {r['solutions']} | {r['most_branches']} branches | "
        f"{r['largest_difference']:.1e} of {r['sampled']} |"
        for name, r in results.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure both closures and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--sample", type=int, default=200)
    arguments = parser.parse_args()
    header = (
        f"{machine('numpy')} The paper's network, noise {NOISE[0]} to {NOISE[1]}, cubic "
        f"strength {CUBIC_STRENGTH[0]} to {CUBIC_STRENGTH[1]}."
    )
    results = {
        closure: measure(closure, arguments.size, arguments.sample)
        for closure in ("quadrature", "gaussian_mixture")
    }
    write("theory_grid", {"header": header, "results": results}, table(results, header))


if __name__ == "__main__":
    main()
