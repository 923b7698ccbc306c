"""Mean-field theory of the teacher-student model at finite width, dimension and train size.

Every neuron is described by its overlap q = w.w* with the teacher direction. Given the
discrepancy between teacher and mean network output, expanded in the normalised odd Hermite
polynomials of the teacher field, the neurons are independent with density p(q) ~ exp(-S(q)); given
p(q), the mean output is a kernel regression. Closing the loop gives one equation per mode.

Uniqueness
----------
With T = discrepancy/noise and p(q) integrated exactly, the equations are the stationarity of

    Gamma(T) = n (y.T - noise |T|^2 / 2) - N log Z(T),
    Z(T) = integral dq exp[ -d q^2/(2 sigma_w^2) + n^2 sigma_a^2/(2 N) (T.m(q))^2 ].

The exponent is convex in T for every q, so log Z is convex (a log-sum-exp of convex functions)
and Gamma is strictly concave: the exact equations have *one* solution at every parameter, and
damped Newton ascent finds it from any start. The maximum of Gamma is the free energy, minus the
log evidence up to a constant. The transition is therefore a sharp crossover at finite size, and
several coexisting branches can come only from approximating the integral by Gaussians around the
saddles of S. That approximation is offered as a second closure, with all its branches.

References
----------
Rubin, Seroussi and Ringel, "Grokking as a First Order Phase Transition in Two Layer Networks",
arXiv:2310.03789: the preprint is version 1, the published text (ICLR 2024) version 3. The matrix
element Q_11 is printed with the prefactor 2/pi in version 3; it is the average of m_1^2, whose
prefactor is 4/pi, and that is what is used here.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokphase.parameters import TeacherStudent
from grokphase.theory.closures import (
    Problem,
    Result,
    Wells,
    empty_iterate,
    enumerate_mixture,
    join,
    solve_quadrature,
)
from grokphase.theory.one_neuron import (
    Array,
    action,
    integrate,
    log_partition,
    overlap_cutoff,
    panel_rule,
    panel_width,
    panel_widths,
    saddles_from_zero,
    teacher_coefficients,
)

__all__ = [
    "Closure",
    "Result",
    "Solutions",
    "Wells",
    "bin_probability",
    "density",
    "log_density",
    "mean_square_overlap",
    "select",
    "solve",
    "tail_mass",
]

Closure = Literal["quadrature", "gaussian_mixture"]


@dataclass(frozen=True)
class Solutions:
    """Solutions of the self-consistency equations, as arrays of one common shape.

    `solve` puts the branches on the first axis; `select` removes it. Where `result` is not
    `Result.CONVERGED` there is no solution and all floating-point values but the residual are nan.
    """

    parameters: TeacherStudent
    """Scalar parameters; its `noise` and `cubic_strength` are superseded by the arrays below."""
    closure: Closure
    """How the averages over the overlap were taken."""
    noise: Array
    """Noise sigma^2, [...]."""
    cubic_strength: Array
    """Cubic strength epsilon of the teacher, [...]."""
    discrepancy: Array
    """Teacher minus mean output in the basis He_k/sqrt(k!), k = 1, 3, 5, ..., [..., modes]."""
    log_partition: Array
    """log of the exact integral of exp(-S(q)) over all q, whatever the closure, [...]."""
    free_energy: Array
    """Gamma at the solution, with the closure's own partition function, in nats for the whole
    network, [...]. The lowest of several branches is the thermodynamically selected one."""
    stability_eigenvalue: Array
    """Largest real part of the eigenvalues of d residual/d discrepancy, [...], where residual =
    y - t - (n sigma_a^2/noise) <m m^T> t. Negative means that the solution attracts the flow
    dt/ds = residual(t). With the quadrature closure this matrix is the Hessian of Gamma times
    noise/n, and the eigenvalue never exceeds -1."""
    residual: Array
    """Largest absolute component of the residual, [...]."""
    result: NDArray[np.int8]
    """`Result` codes, [...]."""
    wells: NDArray[np.int8]
    """`Wells` codes, [...]."""

    @property
    def converged(self) -> NDArray[np.bool_]:
        """Where `result` is `Result.CONVERGED`, [...]."""
        return np.asarray(self.result == Result.CONVERGED)

    @property
    def stable(self) -> NDArray[np.bool_]:
        """Where the stability eigenvalue is negative at a converged solution, [...]."""
        return np.asarray(self.converged & (self.stability_eigenvalue < 0))

    @property
    def linear_overlap(self) -> Array:
        """E[f He_1] of the mean output, [...]; the teacher's value is 1."""
        return np.asarray(1.0 - self.discrepancy[..., 0])

    @property
    def cubic_overlap(self) -> Array:
        """E[f He_3]/6 of the mean output, [...]; the teacher's value is epsilon."""
        return np.asarray(self.cubic_strength - self.discrepancy[..., 1] / math.sqrt(6.0))

    @property
    def test_loss(self) -> Array:
        """E[(f - y)^2] over Gaussian inputs for the mean output f, [...].

        The sum runs over the modes kept and over functions of the teacher field only: network
        fluctuations and what the network learned of the noise in other directions are left out.
        """
        return np.asarray(np.sum(self.discrepancy**2, axis=-1))


def solve(
    parameters: TeacherStudent,
    noise: ArrayLike | None = None,
    cubic_strength: ArrayLike | None = None,
    *,
    modes: int = 2,
    closure: Closure = "quadrature",
    tolerance: float = 1e-10,
    max_steps: int = 200,
) -> Solutions:
    """Solve the self-consistency equations t = [I + (n/noise) sigma_a^2 <m m^T>]^{-1} y.

    Parameters
    ----------
    parameters : scalar parameters of the model.
    noise, cubic_strength : arrays that broadcast to the shape [...] of parameter points; by
        default the values in `parameters`.
    modes : odd Hermite modes of the discrepancy kept, at least 2. Two is the published theory.
    closure : "quadrature" integrates p(q) exactly; there is exactly one branch (see the module
        docstring). "gaussian_mixture" puts one Gaussian on each minimum of the action, weighted by
        exp(-S)/sqrt(S''), and returns three kinds of branches, the three kinds of solutions of the
        preprint (its section 3): every minimum populated, only the central one, only the side ones
        (see `Wells`). Within each kind several starts are solved and every solution is continued
        in noise, upward and downward, along the points given. Restricting the wells lowers the
        partition function, so such a branch always lies above the unrestricted one in free energy:
        it is metastable. The Gaussian weight diverges where a well is about to vanish; solutions
        confined to that exponentially thin layer are artefacts and are not searched for.
    tolerance : largest absolute residual accepted; the target is of order 1.
    max_steps : Newton steps tried from one start, shortened ones included.

    Returns
    -------
    Solutions with arrays of shape [branch, ...]. A kind of branch that has no solution at some
    point has `Result.ABSENT` there; if no start converged for the unrestricted kind, it is
    `Result.MAX_STEPS_REACHED`.

    Raises
    ------
    ValueError : non-positive or non-finite noise, non-finite cubic strength, shapes that do not
        broadcast, unknown closure, fewer than two modes, non-positive tolerance or step limit.
    """
    noise, cubic_strength = _points(parameters, noise, cubic_strength)
    if closure not in get_args(Closure):
        raise ValueError(f"closure must be one of {get_args(Closure)}, got {closure!r}")
    if modes < 2:
        raise ValueError(f"modes must be at least 2 (linear and cubic), got {modes}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    shape = noise.shape
    problem = Problem(
        parameters, noise.reshape(-1), teacher_coefficients(cubic_strength.reshape(-1), modes)
    )
    if noise.size == 0:
        raise ValueError("noise and cubic_strength must hold at least one point")
    lazy = problem.lazy_discrepancy()
    exact = solve_quadrature(problem, lazy, tolerance, max_steps)
    if closure == "quadrature":
        kinds = {Wells.ALL: [exact]}
    else:
        from_exact = np.where((exact.result == Result.CONVERGED)[:, None], exact.t, lazy)
        learned = 0.2 * problem.teacher
        starts = {
            Wells.ALL: [from_exact, lazy, learned],
            Wells.CENTRAL: [lazy, learned],
            Wells.SIDE: [from_exact, learned],
        }
        kinds = enumerate_mixture(problem, starts, tolerance, max_steps)
        first = (kinds[Wells.ALL] or [empty_iterate(problem)])[0]
        first.result[first.result == Result.ABSENT] = Result.MAX_STEPS_REACHED
        kinds[Wells.ALL][:1] = [first]
    branches = [(wells, slot) for wells, slots in kinds.items() for slot in slots]
    stacked = join(np.stack, [slot for _, slot in branches])
    failed = stacked.result != Result.CONVERGED
    full = (len(branches), *shape)

    def shaped(values: Array) -> Array:
        return np.where(failed, np.nan, values).reshape(full)

    discrepancy = np.where(failed[..., None], np.nan, stacked.t)
    if closure == "quadrature":
        partition = stacked.log_partition
    else:
        partition = np.full(failed.shape, np.nan)
        branch, point = np.nonzero(~failed)
        partition[branch, point] = log_partition(
            discrepancy[branch, point], parameters, problem.noise[point]
        )
    return Solutions(
        parameters=parameters,
        closure=closure,
        noise=np.broadcast_to(noise, full),
        cubic_strength=np.broadcast_to(cubic_strength, full),
        discrepancy=discrepancy.reshape(*full, modes),
        log_partition=shaped(partition),
        free_energy=shaped(stacked.free_energy),
        stability_eigenvalue=shaped(stacked.stability_eigenvalue),
        residual=stacked.residual.reshape(full),
        result=stacked.result.reshape(full),
        wells=np.broadcast_to(
            np.array([wells for wells, _ in branches], dtype=np.int8).reshape(
                -1, *[1] * len(shape)
            ),
            full,
        ),
    )


def _points(
    parameters: TeacherStudent, noise: ArrayLike | None, cubic_strength: ArrayLike | None
) -> tuple[Array, Array]:
    sigma = np.asarray(parameters.noise if noise is None else noise, dtype=np.float64)
    epsilon = np.asarray(
        parameters.cubic_strength if cubic_strength is None else cubic_strength, dtype=np.float64
    )
    if not (np.isfinite(sigma) & (sigma > 0)).all():
        raise ValueError("noise must be positive and finite everywhere")
    if not np.isfinite(epsilon).all():
        raise ValueError("cubic_strength must be finite everywhere")
    try:
        sigma, epsilon = np.broadcast_arrays(sigma, epsilon)
    except ValueError as error:
        raise ValueError(
            f"noise {sigma.shape} and cubic_strength {epsilon.shape} do not broadcast"
        ) from error
    return sigma, epsilon


def select(solutions: Solutions) -> Solutions:
    """The thermodynamically selected branch: the converged one of lowest free energy.

    Takes arrays [branch, ...] and returns [...]. Where no branch converged the result code of the
    first branch, which is not `Result.CONVERGED`, stays.
    """
    energy = np.where(solutions.converged, solutions.free_energy, np.inf)
    index = np.argmin(energy, axis=0)
    arrays = {}
    for field in fields(solutions):
        value = getattr(solutions, field.name)
        if isinstance(value, np.ndarray):
            chosen = index[None, ..., *[None] * (value.ndim - 1 - index.ndim)]
            arrays[field.name] = np.take_along_axis(value, chosen, axis=0)[0]
    return replace(solutions, **arrays)


# --- Density of the overlap -----------------------------------------------------------------------


def _flat(solutions: Solutions) -> tuple[Array, TeacherStudent, Array]:
    modes = solutions.discrepancy.shape[-1]
    return (
        solutions.discrepancy.reshape(-1, modes),
        solutions.parameters,
        solutions.noise.reshape(-1),
    )


def log_density(solutions: Solutions, overlap: ArrayLike) -> Array:
    """log p(q) = -S(q) - log of its normalisation at each point, for q of shape [k].

    Returns [..., k]; natural logarithm of a density per unit overlap, both signs of q counted.
    """
    q = np.asarray(overlap, dtype=np.float64)
    if q.ndim != 1:
        raise ValueError(f"overlap must be one-dimensional, got shape {q.shape}")
    t, noise = solutions.discrepancy[..., None, :], solutions.noise[..., None]
    return np.asarray(
        -action(q, t, solutions.parameters, noise) - solutions.log_partition[..., None]
    )


def density(solutions: Solutions, overlap: ArrayLike) -> Array:
    """p(q), normalised over all q, for q of shape [k]; returns [..., k], per unit overlap."""
    return np.asarray(np.exp(log_density(solutions, overlap)))


def bin_probability(solutions: Solutions, edges: ArrayLike) -> Array:
    """Probability of each bin of q, integrated over the bin, not sampled at its centre.

    Parameters
    ----------
    edges : ascending bin edges, [bins + 1]; -inf and inf are allowed at the ends.

    Returns
    -------
    [..., bins]

    Raises
    ------
    ValueError : edges that are not one-dimensional, fewer than two, nan or not ascending.
    """
    bounds = np.asarray(edges, dtype=np.float64)
    if bounds.ndim != 1 or bounds.size < 2:
        raise ValueError(f"edges must be one-dimensional with at least two, got {bounds.shape}")
    if not (np.diff(bounds) > 0).all():
        raise ValueError("edges must be strictly ascending numbers")
    t, parameters, noise = _flat(solutions)
    norm = np.linalg.norm(t, axis=1)
    reach = overlap_cutoff(parameters, noise, norm, t.shape[1])
    limit = float(np.max(reach, initial=0.0, where=np.isfinite(reach)))
    clipped = np.clip(bounds, -limit, limit)
    widths = panel_widths(saddles_from_zero(t, parameters, noise), t, parameters, noise)
    panel = np.nanmin(widths, initial=panel_width(parameters))
    nodes: list[Array] = []
    weights: list[Array] = []
    starts: list[int] = []
    for low, high in itertools.pairwise(clipped):
        unit, weight = panel_rule(max(1, math.ceil((high - low) / panel)))
        starts.append(sum(piece.size for piece in nodes))
        nodes.append(low + (high - low) * unit)
        weights.append((high - low) * weight)
    values = density(solutions, np.concatenate(nodes)) * np.concatenate(weights)
    return np.asarray(np.add.reduceat(values, starts, axis=-1))


def tail_mass(solutions: Solutions, threshold: ArrayLike) -> Array:
    """Probability that |q| exceeds a threshold >= 0 that broadcasts to [...]; returns [...].

    Raises
    ------
    ValueError : a negative threshold, or one that does not broadcast. nan gives nan.
    """
    bound = np.asarray(threshold, dtype=np.float64)
    if (bound < 0).any():
        raise ValueError("threshold must not be negative")
    bound = np.broadcast_to(bound, solutions.noise.shape).reshape(-1)
    partition = solutions.log_partition.reshape(-1)
    mass = 2.0 * integrate(*_flat(solutions), lower=bound, offset=partition)
    return np.minimum(mass, 1.0).reshape(solutions.noise.shape)


def mean_square_overlap(solutions: Solutions) -> Array:
    """<q^2> over the neurons, [...]; the prior has weight_variance/input_dim."""
    noise, partition = solutions.noise, solutions.log_partition.reshape(-1)
    lower = np.zeros(noise.size)
    return 2.0 * integrate(*_flat(solutions), lower=lower, offset=partition, power=2).reshape(
        noise.shape
    )
