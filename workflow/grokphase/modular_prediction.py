"""The theory stage of modular addition: both closures along one line of noise values."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from grokphase.parameters import ModularAddition
from grokphase.specifications.theory import ModularTheorySpecification
from grokphase.storage import write_table
from grokphase.tables import modular_theory as tables
from grokphase.tables.shards import POWER_BINS, POWER_WIDTH
from grokphase.theory import modular_addition as theory
from grokphase.theory import modular_kernel as kernel

LANDSCAPE_POINTS = 3000
DEMONSTRATION_NEURONS = 30


def predict(
    specification: ModularTheorySpecification,
    branches: Path,
    landscapes: Path,
    densities: Path,
    transitions: Path,
    spectrum: Path,
) -> None:
    """Write the theory tables of one line."""
    provenance = specification.model_dump(mode="json")
    write_table(branches, branch_table(specification), provenance)
    write_table(landscapes, landscape_table(specification), provenance)
    write_table(densities, density_table(specification), provenance)
    write_table(transitions, transition_table(specification), provenance)
    write_table(spectrum, spectrum_table(specification), provenance)


def branch_table(specification: ModularTheorySpecification) -> pa.Table:
    """Solutions of every closure and average on the curve's noises and on the configured ones."""
    settings, parameters = specification.theory, specification.parameters
    curve = np.linspace(settings.lowest_noise, settings.highest_noise, settings.noise_points)
    noise = np.union1d(curve, specification.noises)
    tables_ = []
    for closure in theory.CLOSURES:
        for average in theory.AVERAGES:
            solution = theory.branch(parameters, noise, closure, average)
            tables_.append(_rows(specification, solution, average))
        droplets = theory.branch(parameters, noise, closure, droplet_fraction=1.0)
        tables_.append(_rows(specification, droplets, "all_droplets"))
        tables_.append(_limit_rows(parameters, noise, closure))
    return pa.concat_tables(tables_)


def _rows(
    specification: ModularTheorySpecification, solution: theory.Branch, average: str
) -> pa.Table:
    tau = specification.theory.side_mass_threshold
    mass = solution.side_mass
    budget = theory.droplet_budget(specification.parameters, solution)
    counted = np.full_like(mass, np.nan)
    if average == "quadrature":
        counted = theory.counted_mass(solution.interaction, specification.parameters)
    nothing_learned = solution.eigenvalue < tau * solution.noise
    phase = np.select(
        [np.isnan(mass), (mass < tau) & nothing_learned, mass <= 1 - tau],
        ["", *theory.PHASES[:2]],
        theory.PHASES[2],
    )
    return _branch_table(
        closure=solution.closure,
        average=average,
        noise=solution.noise,
        discrepancy=solution.discrepancy,
        interaction=solution.interaction,
        eigenvalue=solution.eigenvalue,
        side_power=solution.saddles.side,
        barrier_power=solution.saddles.barrier,
        side_action=solution.side_action,
        barrier_action=solution.barrier_action,
        side_mass=mass,
        counted_mass=counted,
        droplets_per_frequency=budget.per_frequency,
        mean_field_holds=budget.holds | (phase == theory.PHASES[0]),
        phase=phase,
    )


def _limit_rows(
    parameters: ModularAddition, noise: NDArray[np.float64], closure: theory.Closure
) -> pa.Table:
    form = theory.closed_form(parameters, closure)
    largest = theory.eigenvalue_scale(parameters, closure) * form.power**2
    discrepancy = theory.closed_form_discrepancy(parameters, noise, closure)
    interaction = theory.effective_interaction(parameters, noise) * discrepancy**2
    points = theory.saddles(interaction, parameters.sextic_decay)
    actions = [
        theory.mode_action(p, p, interaction, parameters.prime, parameters.sextic_decay)
        for p in (points.side, points.barrier)
    ]
    mass = np.clip((form.noise_start - noise) / largest, 0.0, 1.0)
    droplets = parameters.width * mass
    phase = np.select([noise >= form.noise_start, mass < 1], theory.PHASES[:2], theory.PHASES[2])
    return _branch_table(
        closure=closure,
        average="limit",
        noise=noise,
        discrepancy=discrepancy,
        interaction=interaction,
        eigenvalue=noise * (-1 / discrepancy - 1),
        side_power=points.side,
        barrier_power=points.barrier,
        side_action=actions[0],
        barrier_action=actions[1],
        side_mass=mass,
        counted_mass=np.full_like(mass, np.nan),
        droplets_per_frequency=droplets,
        mean_field_holds=(droplets >= 1) | (mass == 0),
        phase=phase,
    )


def _branch_table(**columns: Any) -> pa.Table:
    """A table of branches; single values are repeated on every row."""
    rows = len(columns["noise"])
    filled = {name: [x] * rows if isinstance(x, str) else x for name, x in columns.items()}
    return pa.Table.from_pydict(filled, schema=tables.BRANCHES)


def landscape_table(specification: ModularTheorySpecification) -> pa.Table:
    """S_k along A = B at the configured noises, both closures."""
    parameters = specification.parameters
    noise = np.array(specification.noises)
    solutions = [theory.branch(parameters, noise, c, "two_point") for c in theory.CLOSURES]
    power = theory.closed_form(parameters, "corrected").power
    side = max(float(np.nan_to_num(one.saddles.side).max()) for one in solutions)
    reach = max(1.6 * np.sqrt(power), 1.25 * np.sqrt(side))
    root_power = np.linspace(0.0, reach, LANDSCAPE_POINTS)
    parts = []
    for closure, solution in zip(theory.CLOSURES, solutions, strict=True):
        action = theory.diagonal_action(parameters, root_power, noise, solution)
        parts.append(
            pa.Table.from_pydict(
                {
                    "closure": [closure] * action.size,
                    "noise": np.repeat(noise, root_power.size),
                    "root_power": np.tile(root_power, noise.size),
                    "action": action.ravel(),
                },
                schema=tables.LANDSCAPES,
            )
        )
    return pa.concat_tables(parts)


def density_table(specification: ModularTheorySpecification) -> pa.Table:
    """Joint density of the root powers at the configured noises, in the networks' bins."""
    parameters = specification.parameters
    unit = np.sqrt(theory.closed_form(parameters, "corrected").power)
    edges = np.arange(POWER_BINS + 1) * POWER_WIDTH
    centres = (edges[:-1] + edges[1:]) / 2
    first, second = np.meshgrid(centres, centres, indexing="ij")
    parts = []
    for closure in theory.CLOSURES:
        solution = theory.branch(parameters, np.array(specification.noises), closure, "quadrature")
        for noise, interaction in zip(specification.noises, solution.interaction, strict=True):
            mass = theory.root_power_mass(float(interaction), parameters, edges * unit)
            parts.append(
                pa.Table.from_pydict(
                    {
                        "closure": [closure] * mass.size,
                        "noise": [noise] * mass.size,
                        "first_root_power": first.ravel(),
                        "second_root_power": second.ravel(),
                        "density": mass.ravel() / POWER_WIDTH**2,
                    },
                    schema=tables.DENSITIES,
                )
            )
    return pa.concat_tables(parts)


def transition_table(specification: ModularTheorySpecification) -> pa.Table:
    """Boundaries of the mixed phase: in closed form, and by droplet fraction at finite P."""
    parameters = specification.parameters
    rows = []
    for closure in theory.CLOSURES:
        form = theory.closed_form(parameters, closure)
        common = {
            "closure": closure,
            "power": form.power,
            "interaction": form.interaction,
            "largest_eigenvalue": theory.eigenvalue_scale(parameters, closure) * form.power**2,
        }
        rows.append(
            common
            | {
                "average": "limit",
                "noise_start": form.noise_start,
                "noise_end": form.noise_end,
                "discrepancy_end": form.discrepancy_end,
            }
        )
        for average in theory.AVERAGES:
            found = theory.boundaries(
                parameters, closure, average, specification.theory.side_mass_threshold
            )
            end = np.array([found.noise_end])
            at_end = (
                theory.branch(parameters, end, closure, average).discrepancy[0]
                if np.isfinite(found.noise_end)
                else np.nan
            )
            rows.append(
                common
                | {
                    "average": average,
                    "noise_start": found.noise_start,
                    "noise_end": found.noise_end,
                    "discrepancy_end": at_end,
                }
            )
    return pa.Table.from_pylist(rows, schema=tables.TRANSITIONS)


def spectrum_table(specification: ModularTheorySpecification) -> pa.Table:
    """Levels of the prior kernel, and target eigenvalues of one of droplets."""
    prime = specification.parameters.prime
    levels = {"closed_form": kernel.prior_levels(prime)}
    if prime <= specification.theory.largest_diagonalised:
        levels["diagonalised"] = kernel.levels(kernel.prior_kernel(prime))
    rows: list[dict[str, Any]] = [
        {
            "kernel": "prior",
            "method": method,
            "mode": -1,
            "eigenvalue": level.eigenvalue,
            "multiplicity": level.multiplicity,
        }
        for method, found in levels.items()
        for level in found
    ]
    values = kernel.symmetrised_target_eigenvalues(
        kernel.mode_eigenvalues(*_unequal_droplets(prime))
    )
    rows += [
        {
            "kernel": "droplets",
            "method": "averaged over symmetries",
            "mode": k,
            "eigenvalue": value,
            "multiplicity": 1,
        }
        for k, value in enumerate(values, start=1)
    ]
    return pa.Table.from_pylist(rows, schema=tables.SPECTRUM)


def _unequal_droplets(prime: int) -> NDArray[np.float64]:
    """Input weights [2, neurons, P] of cosine waves, random in frequency, phase, amplitude."""
    generator = np.random.default_rng(prime)
    frequency = generator.integers(1, prime, size=(DEMONSTRATION_NEURONS, 1))
    phase = generator.uniform(0, 2 * np.pi, size=(2, DEMONSTRATION_NEURONS, 1))
    amplitude = generator.uniform(0.5, 2.0, size=(DEMONSTRATION_NEURONS, 1))
    return amplitude * np.cos(2 * np.pi * frequency * np.arange(prime) / prime + phase)
