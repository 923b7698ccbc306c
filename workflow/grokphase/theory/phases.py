"""Phases and the transition of the teacher-student model, read off the one-neuron density.

The action has a central minimum at q = 0 and, when the cubic teacher component is strong enough
against the noise, side minima at +-q*. The probability mass of the side wells names the phase:
Gaussian feature learning (GFL) while it is below a threshold tau, a mixture of both wells (GMFL-I)
in between, and GMFL-II once less than tau is left in the centre.

Along the scaling family of `limit` the side mass that balances the cubic discrepancy falls as
1/sqrt(beta) and grows continuously from zero below the limiting transition. For large beta a fixed
tau is therefore crossed ever later: at the preprint's parameters and tau = 0.01 at noise 0.154 for
beta = 2, 0.141 for 4, and not above 0.02 from about 7 on. Transitions at different sizes are
comparable at equal tau sqrt(beta), and approach the limiting one for tau sqrt(beta) -> 0 after
beta -> infinity.

References
----------
Rubin, Seroussi and Ringel, arXiv:2310.03789, version 3, section 3.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokphase.parameters import TeacherStudent
from grokphase.theory.one_neuron import Array, action, action_derivatives, stationary_overlaps
from grokphase.theory.teacher_student import (
    Solutions,
    mean_square_overlap,
    select,
    solve,
    tail_mass,
)

LEAST_DEPTH = 3.0
"""Nats by which the side minima must lie below a maximum at q = 0 for it to part two wells.

With a linear teacher the central peak of wide networks splits at low noise into two that overlap:
at the preprint's size within three prior deviations and a nat deep down to a noise of 0.001. Its
neurons follow the teacher, none of them is a droplet. In narrow networks, of a hundred neurons and
fewer, the two peaks part, and nothing is left in the centre.
"""


class Phase(enum.IntEnum):
    """Phase by the probability mass of the side wells."""

    UNDEFINED = -1
    """There is no solution at this point."""
    GFL = 0
    """Gaussian feature learning: side mass below tau."""
    GMFL_I = 1
    """First Gaussian mixture phase: side mass from tau to 1 - tau."""
    GMFL_II = 2
    """Second Gaussian mixture phase: side mass above 1 - tau."""

    @property
    def label(self) -> str:
        """Name as the paper prints it."""
        return "undefined" if self is Phase.UNDEFINED else self.name.replace("_", "-")


class Landscape(NamedTuple):
    """Saddles of the action and the mass they separate; arrays [...], nan without side minimum."""

    side_minimum: Array
    """q* > 0 of the deepest minimum beyond a barrier."""
    barrier: Array
    """q of the highest maximum before it; 0 where that is q = 0, LEAST_DEPTH above the minima."""
    action_difference: Array
    """S(q*) - S(0) in nats."""
    barrier_action: Array
    """S(barrier) - S(0) in nats."""
    side_mass: Array
    """Probability of |q| beyond the barrier; 0 without side minimum, nan without solution."""
    central_minimum: NDArray[np.bool_]
    """Whether q = 0 is a minimum."""


def landscape(solutions: Solutions) -> Landscape:
    """Side minimum, barrier and side mass of every solution.

    Several minima may lie beyond a barrier (with more than two modes, or where the centre splits):
    the deepest one is used, and the highest barrier on the way to it. A maximum at q = 0 is one
    only if it is LEAST_DEPTH high.

    Parameters
    ----------
    solutions : arrays of shape [...], of one branch or of several.

    Returns
    -------
    Landscape with arrays of shape [...].
    """
    t, parameters, noise = solutions.discrepancy, solutions.parameters, solutions.noise
    positive = stationary_overlaps(t, parameters, noise)
    wide_t, wide_noise = t[..., None, :], noise[..., None]
    saddles = np.concatenate([np.zeros((*noise.shape, 1)), positive], axis=-1)
    values = action(saddles, wide_t, parameters, wide_noise)
    curvature = action_derivatives(saddles, wide_t, parameters, wide_noise)[1]
    central = np.asarray(curvature[..., 0] > 0)

    outermost = np.nanmax(np.where(curvature > 0, saddles, 0.0), axis=-1, initial=0.0)
    is_top = (curvature < 0) & (saddles < outermost[..., None])
    lowest = np.nanmin(np.where(curvature > 0, values, np.inf), axis=-1, initial=np.inf)
    is_top[..., 0] &= values[..., 0] - lowest > LEAST_DEPTH
    beyond_a_top = (curvature > 0) & np.maximum.accumulate(is_top, axis=-1)
    exists = beyond_a_top.any(axis=-1)
    bottom = np.argmin(np.where(beyond_a_top, values, np.inf), axis=-1)[..., None]
    side = np.where(exists, np.take_along_axis(saddles, bottom, axis=-1)[..., 0], np.nan)
    difference = np.where(exists, np.take_along_axis(values, bottom, axis=-1)[..., 0], np.nan)
    is_top &= np.arange(saddles.shape[-1]) < bottom
    top = np.argmax(np.where(is_top, values, -np.inf), axis=-1)[..., None]
    barrier = np.where(exists, np.take_along_axis(saddles, top, axis=-1)[..., 0], np.nan)
    barrier_action = np.where(exists, np.take_along_axis(values, top, axis=-1)[..., 0], np.nan)
    mass = np.where(exists, tail_mass(solutions, np.where(exists, barrier, 0.0)), 0.0)
    return Landscape(
        side_minimum=side,
        barrier=barrier,
        action_difference=difference,
        barrier_action=barrier_action,
        side_mass=np.where(solutions.converged, mass, np.nan),
        central_minimum=central,
    )


def classify(side_mass: ArrayLike, tau: float = 0.01) -> NDArray[np.int8]:
    """`Phase` codes by side mass: GFL below tau, GMFL-I up to 1 - tau, GMFL-II above, [...].

    Raises
    ------
    ValueError : tau not strictly between 0 and 1/2.
    """
    _check_tau(tau)
    mass = np.asarray(side_mass, dtype=np.float64)
    codes = np.full(mass.shape, Phase.UNDEFINED, dtype=np.int8)
    codes[mass < tau] = Phase.GFL
    codes[mass >= tau] = Phase.GMFL_I
    codes[mass > 1.0 - tau] = Phase.GMFL_II
    return codes


def _check_tau(tau: float) -> None:
    if not 0.0 < tau < 0.5:
        raise ValueError(f"tau must lie strictly between 0 and 0.5, got {tau}")


class Observables(NamedTuple):
    """What an ensemble of networks can be compared with; arrays [...], nan without solution."""

    linear_overlap: Array
    """E[f He_1] of the mean output; the teacher has 1."""
    cubic_overlap: Array
    """E[f He_3]/6 of the mean output; the teacher has epsilon."""
    test_loss: Array
    """E[(f - y)^2] of the mean output, within the modes kept."""
    droplet_fraction: Array
    """Fraction of neurons with |q| above the threshold."""
    mean_square_overlap: Array
    """<q^2> in units of its prior value weight_variance/input_dim."""
    landscape: Landscape
    """Saddles and side mass."""
    phase: NDArray[np.int8]
    """`Phase` codes."""


def observables(solutions: Solutions, *, threshold: float = 0.5, tau: float = 0.01) -> Observables:
    """All derived quantities of every solution.

    Parameters
    ----------
    solutions : arrays of shape [...], of one branch or of several.
    threshold : overlap above which a neuron counts as a droplet.
    tau : side mass that separates the phases.

    Raises
    ------
    ValueError : negative threshold, or tau not strictly between 0 and 1/2.
    """
    saddles = landscape(solutions)
    prior = solutions.parameters.weight_variance / solutions.parameters.input_dim
    return Observables(
        linear_overlap=solutions.linear_overlap,
        cubic_overlap=solutions.cubic_overlap,
        test_loss=solutions.test_loss,
        droplet_fraction=tail_mass(solutions, threshold),
        mean_square_overlap=mean_square_overlap(solutions) / prior,
        landscape=saddles,
        phase=classify(saddles.side_mass, tau),
    )


class TransitionResult(enum.IntEnum):
    """Outcome of locating a transition."""

    CONTINUOUS = 0
    """The mass crosses the level continuously."""
    DISCONTINUOUS = 1
    """The mass jumps over the level: the side minimum appears with more mass than the level."""
    NOT_REACHED = 2
    """The mass stays below the level in the whole interval."""
    ALREADY_REACHED = 3
    """The mass is at or above the level already at the upper end of the interval."""
    NOT_CONVERGED = 4
    """The self-consistency equations were not solved somewhere in the interval."""


class Transition(NamedTuple):
    """Where the side mass crosses a level on the way down in noise; arrays [...]."""

    noise: Array
    """Noise of the transition, nan unless the result is CONTINUOUS or DISCONTINUOUS."""
    mass_above: Array
    """Mass just above the transition noise; 0 where there is no side minimum yet."""
    mass_below: Array
    """Mass just below it."""
    result: NDArray[np.int8]
    """`TransitionResult` codes."""


def transition_noise(
    parameters: TeacherStudent,
    cubic_strength: ArrayLike | None = None,
    *,
    noise_range: tuple[float, float] = (0.02, 1.0),
    tau: float = 0.01,
    end: bool = False,
    threshold: float | None = None,
    modes: int = 2,
    scan_points: int = 200,
) -> Transition:
    """Highest noise at which the side mass reaches tau, with exact quadrature.

    A logarithmic scan brackets the first crossing on the way down, bisection narrows it to a
    relative width of 1e-8. Excursions above the level between two scan points go unnoticed.

    At small dimension the side minimum can appear as a shoulder that already holds more than tau:
    the crossing is then the appearance of the minimum (`TransitionResult.DISCONTINUOUS`). A fixed
    threshold gives a mass that is continuous in the noise.

    Parameters
    ----------
    cubic_strength : epsilon, any shape [...]; by default the value in `parameters`.
    noise_range : lowest and highest noise searched.
    tau : side mass at which GFL ends.
    end : find where GMFL-I ends instead: the mass reaches 1 - tau.
    threshold : count the mass of |q| > threshold instead of the mass beyond the barrier.
    modes, scan_points : Hermite modes; points of the scan.

    Returns
    -------
    Transition with arrays of shape [...].

    Raises
    ------
    ValueError : an interval that is not 0 < low < high, tau not strictly between 0 and 1/2, a
        negative threshold, fewer than two scan points, or what `solve` rejects.
    """
    low, high = noise_range
    if not 0.0 < low < high:
        raise ValueError(f"noise_range must be 0 < low < high, got {noise_range}")
    if scan_points < 2:
        raise ValueError(f"scan_points must be at least 2, got {scan_points}")
    _check_tau(tau)
    level = 1.0 - tau if end else tau
    strength = np.asarray(
        parameters.cubic_strength if cubic_strength is None else cubic_strength, dtype=np.float64
    )
    epsilon = strength.reshape(-1)

    def mass(noise: Array) -> Array:
        solutions = select(solve(parameters, noise, epsilon, modes=modes))
        if threshold is not None:
            return tail_mass(solutions, threshold)
        return landscape(solutions).side_mass

    scan = np.geomspace(high, low, scan_points)
    masses = mass(scan[:, None])
    with np.errstate(invalid="ignore"):
        reached = masses >= level
    first = np.argmax(reached, axis=0)
    columns = np.arange(epsilon.size)
    # Scan points before the first crossing, or all of them where there is none, must be solved.
    relevant = (np.arange(scan_points)[:, None] <= first) | ~reached.any(axis=0)
    result = np.full(epsilon.shape, TransitionResult.CONTINUOUS, dtype=np.int8)
    result[~reached.any(axis=0)] = TransitionResult.NOT_REACHED
    result[reached[0]] = TransitionResult.ALREADY_REACHED
    result[(np.isnan(masses) & relevant).any(axis=0)] = TransitionResult.NOT_CONVERGED

    above, below = scan[np.maximum(first - 1, 0)], scan[first]
    mass_above, mass_below = masses[np.maximum(first - 1, 0), columns], masses[first, columns]
    while np.max(above / below) > 1.0 + 1e-8:
        middle = np.sqrt(above * below)
        value = mass(middle)
        result[np.isnan(value) & (result == TransitionResult.CONTINUOUS)] = (
            TransitionResult.NOT_CONVERGED
        )
        over = value >= level
        above, below = np.where(over, above, middle), np.where(over, middle, below)
        mass_above = np.where(over, mass_above, value)
        mass_below = np.where(over, value, mass_below)
    jump = mass_below - mass_above > 0.01 * level
    result[jump & (result == TransitionResult.CONTINUOUS)] = TransitionResult.DISCONTINUOUS
    found = result <= TransitionResult.DISCONTINUOUS
    shape = strength.shape
    return Transition(
        noise=np.where(found, np.sqrt(above * below), np.nan).reshape(shape),
        mass_above=np.where(found, mass_above, np.nan).reshape(shape),
        mass_below=np.where(found, mass_below, np.nan).reshape(shape),
        result=result.reshape(shape),
    )
