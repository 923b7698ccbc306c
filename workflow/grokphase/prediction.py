"""The theory stage: solves the mean-field equations along one line of noise values."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from grokphase.errors import GrokphaseError
from grokphase.specifications.theory import TheorySpecification
from grokphase.storage import write_table
from grokphase.tables import theory as tables
from grokphase.theory.closures import Result, Wells
from grokphase.theory.limit import LimitResult, limit_transition
from grokphase.theory.one_neuron import effective_interaction, overlap_cutoff, panel_width
from grokphase.theory.phases import Phase, TransitionResult, observables, transition_noise
from grokphase.theory.teacher_student import (
    Closure,
    bin_probability,
    log_density,
    select,
    solve,
)

CLOSURES: tuple[Closure, ...] = ("quadrature", "gaussian_mixture")
OVERLAP_LIMIT = 1.5
WINDOW_STEPS = 10
SEARCH_BEYOND = 4.0
"""Transitions are searched from the highest noise times this to the lowest divided by it."""
LIMIT_SEARCH_BEYOND = 50.0
"""The same for that of the limit, which is cheap to search."""
MOST_PANELS = 7_500
"""Panels of an integral over q. At the paper's size a line of the theory takes seconds down to a
noise of 0.0025, with 7 000 of them; at a tenth of that noise memory runs out."""


def predict(
    specification: TheorySpecification, branches: Path, densities: Path, transitions: Path
) -> None:
    """Write the three theory tables of one line.

    Raises GrokphaseError for a noise so low that the integrals over q would not end.
    """
    _check_panels(specification)
    provenance = specification.model_dump(mode="json")
    write_table(branches, branch_table(specification), provenance)
    write_table(densities, density_table(specification), provenance)
    write_table(transitions, transition_table(specification), provenance)


def _check_panels(specification: TheorySpecification) -> None:
    """Raises GrokphaseError for integrals over q with more than MOST_PANELS panels.

    The reach of exp(-S) grows like 1/noise and, with the target's norm, like epsilon.
    """
    parameters = specification.parameters
    lowest = min(specification.theory.lowest_noise, *specification.noises) / SEARCH_BEYOND
    norm = np.sqrt(1 + 6 * parameters.cubic_strength**2)
    reach = overlap_cutoff(parameters, np.array([lowest]), norm, specification.theory.modes)
    panels = float(reach[0]) / panel_width(parameters)
    if not panels < MOST_PANELS:
        raise GrokphaseError(
            f"the theory at cubic_strength={parameters.cubic_strength:g}, whose transitions are "
            f"searched down to a noise of {lowest:g}, takes integrals of {panels:.1e} panels, more "
            f"than {MOST_PANELS}: raise theory.lowest_noise and sweep.noise, or choose a smaller "
            "cubic_strength"
        )


def branch_table(specification: TheorySpecification) -> pa.Table:
    """All branches of both closures on the curve's noises and on the sampled ones."""
    settings = specification.theory
    curve = np.linspace(settings.lowest_noise, settings.highest_noise, settings.noise_points)
    noises = np.union1d(curve, specification.noises)
    rows: list[dict[str, Any]] = []
    for closure in CLOSURES:
        found = solve(specification.parameters, noises, modes=settings.modes, closure=closure)
        derived = observables(found, tau=settings.side_mass_threshold)
        # A branch confined to some of the wells is metastable by construction.
        eligible = found.converged & (found.wells == Wells.ALL)
        energy = np.where(eligible, found.free_energy, np.inf)
        lowest = np.argmin(energy, axis=0)
        for branch, point in np.ndindex(found.result.shape):
            here = (branch, point)
            if found.result[here] == Result.ABSENT:
                continue
            rows.append(
                {
                    "closure": closure,
                    "branch": branch,
                    "wells": Wells(int(found.wells[here])).name.lower(),
                    "noise": noises[point],
                    "result": Result(int(found.result[here])).name.lower(),
                    "selected": bool(eligible[here] and lowest[point] == branch),
                    "stable": bool(found.stable[here]),
                    "free_energy": found.free_energy[here],
                    "linear_overlap": derived.linear_overlap[here],
                    "cubic_overlap": derived.cubic_overlap[here],
                    "test_loss": derived.test_loss[here],
                    "mean_square_overlap": derived.mean_square_overlap[here],
                    "droplet_fraction": derived.droplet_fraction[here],
                    "side_minimum": derived.landscape.side_minimum[here],
                    "action_difference": derived.landscape.action_difference[here],
                    "side_mass": derived.landscape.side_mass[here],
                    "phase": Phase(int(derived.phase[here])).label,
                }
            )
    return pa.Table.from_pylist(rows, schema=tables.BRANCHES)


def density_table(specification: TheorySpecification) -> pa.Table:
    """-log p(q) of the exact closure, pointwise and averaged over a bin around each q."""
    width = specification.bin_width
    steps = round(OVERLAP_LIMIT / width) * WINDOW_STEPS
    overlap = np.arange(-steps, steps + 1) * (width / WINDOW_STEPS)
    edges = np.arange(-steps - WINDOW_STEPS // 2, steps + WINDOW_STEPS // 2 + 1)
    noises = np.array(specification.noises)
    solution = select(solve(specification.parameters, noises, modes=specification.theory.modes))
    fine = bin_probability(solution, edges * (width / WINDOW_STEPS))
    window = np.lib.stride_tricks.sliding_window_view(fine, WINDOW_STEPS, axis=-1).sum(axis=-1)
    with np.errstate(divide="ignore"):
        binned = -np.log(window / width)
    return pa.Table.from_pydict(
        {
            "noise": np.repeat(noises, overlap.size),
            "overlap": np.tile(overlap, noises.size),
            "action": -log_density(solution, overlap).ravel(),
            "binned_action": binned.ravel(),
        },
        schema=tables.DENSITIES,
    )


def transition_table(specification: TheorySpecification) -> pa.Table:
    """Noises where GFL ends and where the mixed phase ends, and the limit's transition."""
    parameters, settings = specification.parameters, specification.theory
    noises = (settings.lowest_noise, settings.highest_noise, *specification.noises)
    rows = []
    for name, end in (("gfl_end", False), ("mixed_end", True)):
        found = transition_noise(
            parameters,
            tau=settings.side_mass_threshold,
            end=end,
            noise_range=(min(noises) / SEARCH_BEYOND, max(noises) * SEARCH_BEYOND),
            modes=settings.modes,
        )
        noise = float(found.noise)
        rows.append(
            {
                "transition": name,
                "noise": noise,
                "effective_interaction": float(effective_interaction(parameters, noise)),
                "result": TransitionResult(int(found.result)).name.lower(),
            }
        )
    limit = limit_transition(
        parameters,
        noise_range=(min(noises) / LIMIT_SEARCH_BEYOND, max(noises) * LIMIT_SEARCH_BEYOND),
    )
    rows.append(
        {
            "transition": "limit",
            "noise": float(limit.noise),
            "effective_interaction": float(limit.effective_interaction),
            "result": LimitResult(int(limit.result)).name.lower(),
        }
    )
    return pa.Table.from_pylist(rows, schema=tables.TRANSITIONS)
