"""Solvers of the self-consistency equations, flat over parameter points.

Two ways to take the averages over p(q) ~ exp(-S(q)): exact one-dimensional quadrature, whose
solution is unique and reached by damped Newton ascent of a concave function, and Gaussians around
the minima of S, whose solutions are enumerated. `teacher_student` documents the equations and is
the interface to use.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grokphase.parameters import TeacherStudent
from grokphase.theory.one_neuron import (
    CHUNK_ELEMENTS,
    Array,
    action,
    action_derivatives,
    effective_interaction,
    hermite_amplitudes,
    overlap_cutoff,
    stationary_overlaps,
)

_QUADRATURE_TOLERANCE = 1e-9
_MAX_REFINEMENTS = 6


class Result(enum.IntEnum):
    """Outcome of solving the self-consistency equations at one point.

    Only `CONVERGED` entries carry numbers; the others hold nan.
    """

    CONVERGED = 0
    """The residual is below the tolerance."""
    MAX_STEPS_REACHED = 1
    """The step limit was reached first; there is no solution to report."""
    QUADRATURE_INACCURATE = 2
    """The residual changes by more than the tolerance on a shifted integration grid."""
    ABSENT = 3
    """This branch does not exist at this point: the branch axis is as long as needed anywhere."""


class Wells(enum.IntEnum):
    """Which minima of the action the neurons populate: the kind of a branch."""

    ALL = 0
    """Every minimum, with its equilibrium weight. The only kind of the quadrature closure."""
    CENTRAL = 1
    """Only the minimum at q = 0: no specialised neuron (Gaussian feature learning)."""
    SIDE = 2
    """Only the minima at q != 0: every neuron specialised."""


class _Moments(NamedTuple):
    """Averages over p(q) of products of the amplitudes m, given t."""

    second: Array  # <m m^T>, [p, modes, modes]
    fourth: Array  # <m m^T (t.m)^2>, [p, modes, modes]
    log_partition: Array  # [p]


class _Grid(NamedTuple):
    """Trapezoid nodes on q >= 0; both signs of q are counted in the weights."""

    log_prior: Array  # [nodes]
    weights: Array  # [nodes]
    amplitudes: Array  # [nodes, modes]
    products: Array  # [nodes, modes (modes + 1)/2]


def _trapezoid_grid(
    parameters: TeacherStudent, modes: int, cutoff: float, spacing: float, shifted: bool = False
) -> _Grid:
    count = math.ceil(cutoff / spacing) + 2
    nodes = spacing * (np.arange(count, dtype=np.float64) + (0.5 if shifted else 0.0))
    weights = np.full(nodes.shape, 2.0 * spacing)
    if not shifted:
        weights[0] = spacing
    amplitudes = hermite_amplitudes(nodes, parameters.weight_variance, modes)
    rows, columns = np.triu_indices(modes)
    log_prior = -parameters.input_dim * nodes**2 / (2.0 * parameters.weight_variance)
    return _Grid(log_prior, weights, amplitudes, amplitudes[:, rows] * amplitudes[:, columns])


def _quadrature_moments(t: Array, strength: Array, grid: _Grid) -> _Moments:
    """Averages with the weight exp(log_prior + strength/2 (t.m)^2); t is [p, modes]."""
    modes = t.shape[1]
    squared = (t @ grid.amplitudes.T) ** 2
    exponent = 0.5 * strength[:, None] * squared + grid.log_prior
    top = exponent.max(axis=1)
    weights = np.exp(exponent - top[:, None]) * grid.weights
    total = weights.sum(axis=1)
    second = (weights @ grid.products) / total[:, None]
    fourth = ((weights * squared) @ grid.products) / total[:, None]
    return _Moments(_symmetric(second, modes), _symmetric(fourth, modes), top + np.log(total))


def _symmetric(packed: Array, modes: int) -> Array:
    full = np.empty((packed.shape[0], modes, modes))
    rows, columns = np.triu_indices(modes)
    full[:, rows, columns] = packed
    full[:, columns, rows] = packed
    return full


class Problem(NamedTuple):
    """Flattened points sharing one set of scalar parameters."""

    parameters: TeacherStudent
    noise: Array  # [p]
    teacher: Array  # y, [p, modes]

    @property
    def gain(self) -> Array:
        """n sigma_a^2/noise, [p]: what multiplies <m m^T> t in the equations."""
        return self.parameters.train_size * self.parameters.readout_variance / self.noise

    @property
    def strength(self) -> Array:
        """u d, [p]: what multiplies (t.m)^2/2 in the action."""
        interaction = effective_interaction(self.parameters, self.noise)
        return np.asarray(self.parameters.input_dim * interaction)

    def take(self, index: NDArray[Any]) -> Problem:
        return Problem(self.parameters, self.noise[index], self.teacher[index])

    def residual(self, t: Array, second: Array) -> Array:
        return np.asarray(
            self.teacher - t - self.gain[:, None] * np.einsum("pij,pj->pi", second, t)
        )

    def free_energy(self, t: Array, log_partition: Array) -> Array:
        p = self.parameters
        quadratic = np.sum(self.teacher * t, axis=1) - 0.5 * np.sum(t**2, axis=1)
        return np.asarray(p.train_size / self.noise * quadratic - p.width * log_partition)

    def lazy_discrepancy(self) -> Array:
        """Linear mode from Gaussian fluctuations at q = 0; nothing learned of the others."""
        t = self.teacher.copy()
        origin = 1.0 + 2.0 * self.parameters.weight_variance
        variance = self.parameters.weight_variance / self.parameters.input_dim
        softening = 4.0 * variance / (math.pi * origin)
        lower, upper = np.zeros_like(self.noise), np.ones_like(self.noise)
        for _ in range(60):
            b = 0.5 * (lower + upper)
            stiffness = 1.0 - softening * self.strength * b**2
            excess = b * (stiffness + softening * self.gain) - stiffness
            above = (stiffness <= 0) | (excess > 0)
            upper, lower = np.where(above, b, upper), np.where(above, lower, b)
        t[:, 0] = lower
        return t


class Iterate(NamedTuple):
    """Flattened solver state at the end."""

    t: Array
    log_partition: Array
    free_energy: Array
    stability_eigenvalue: Array
    residual: Array
    result: NDArray[np.int8]

    def take(self, index: NDArray[Any]) -> Iterate:
        return Iterate(*(getattr(self, name)[index] for name in self._fields))

    def assign(self, index: NDArray[Any], values: Iterate) -> None:
        for name in self._fields:
            getattr(self, name)[index] = getattr(values, name)

    @staticmethod
    def join(
        operation: Callable[[list[NDArray[Any]]], NDArray[Any]], parts: list[Iterate]
    ) -> Iterate:
        """Concatenate or stack the fields of several."""
        return Iterate(
            *(operation([getattr(part, name) for part in parts]) for name in Iterate._fields)
        )


def _quadrature_hessian(problem: Problem, t: Array, moments: _Moments) -> Array:
    """Hessian of Gamma noise/n with respect to t; at most -I."""
    pull = np.einsum("pij,pj->pi", moments.second, t)
    covariance = moments.fourth - pull[:, :, None] * pull[:, None, :]
    curvature = moments.second + problem.strength[:, None, None] * covariance
    return np.asarray(-np.eye(t.shape[1]) - problem.gain[:, None, None] * curvature)


def _ascend(
    problem: Problem, start: Array, spacing: float, tolerance: float, max_steps: int
) -> Iterate:
    parameters, modes = problem.parameters, start.shape[1]
    # Every solution satisfies |t|^2 <= y.t, hence |t| <= |y|.
    norm = np.linalg.norm(problem.teacher, axis=1)
    cutoff = float(overlap_cutoff(parameters, problem.noise, norm, modes).max())
    grid = _trapezoid_grid(parameters, modes, cutoff, spacing)

    t = start.copy()
    moments = _quadrature_moments(t, problem.strength, grid)
    gradient = problem.residual(t, moments.second)
    value = problem.free_energy(t, moments.log_partition)
    error = np.abs(gradient).max(axis=1)
    damping = np.ones_like(error)
    for _ in range(max_steps):
        active = np.flatnonzero(~(error <= tolerance))
        if active.size == 0:
            break
        sub = problem.take(active)
        at = _Moments(*(m[active] for m in moments))
        hessian = _quadrature_hessian(sub, t[active], at)
        newton = -np.linalg.solve(hessian, gradient[active][..., None])[..., 0]
        trial = t[active] + damping[active, None] * newton
        at = _quadrature_moments(trial, sub.strength, grid)
        trial_gradient = sub.residual(trial, at.second)
        trial_error = np.abs(trial_gradient).max(axis=1)
        trial_value = sub.free_energy(trial, at.log_partition)
        slope = np.sum(gradient[active] * newton, axis=1) * parameters.train_size / sub.noise
        # Sufficient ascent, or, where rounding hides it, a smaller gradient.
        ascent = trial_value - value[active] >= 1e-4 * damping[active] * slope
        hidden = slope <= 1e-10 * (1.0 + np.abs(value[active]))
        accept = ascent | (hidden & (trial_error < error[active]))
        damping[active] = np.where(
            accept, np.minimum(1.0, 2.0 * damping[active]), damping[active] / 4
        )
        moved = active[accept]
        t[moved] = trial[accept]
        gradient[moved], error[moved] = trial_gradient[accept], trial_error[accept]
        value[moved] = trial_value[accept]
        for whole, part in zip(moments, at, strict=True):
            whole[moved] = part[accept]

    result = np.where(error <= tolerance, Result.CONVERGED, Result.MAX_STEPS_REACHED)
    shifted = _quadrature_moments(
        t, problem.strength, _trapezoid_grid(parameters, modes, cutoff, spacing, shifted=True)
    )
    change = np.abs(problem.residual(t, shifted.second) - gradient).max(axis=1)
    accurate = (change <= _QUADRATURE_TOLERANCE) & (
        np.abs(shifted.log_partition - moments.log_partition) <= _QUADRATURE_TOLERANCE
    )
    result = np.where(
        (result == Result.CONVERGED) & ~accurate, Result.QUADRATURE_INACCURATE, result
    )
    hessian = _quadrature_hessian(problem, t, moments)
    return Iterate(
        t,
        moments.log_partition,
        value,
        np.asarray(np.linalg.eigvalsh(hessian)[:, -1], dtype=np.float64),
        error,
        result.astype(np.int8),
    )


def solve_quadrature(problem: Problem, start: Array, tolerance: float, max_steps: int) -> Iterate:
    parameters = problem.parameters
    spacing = 0.6 * math.sqrt(parameters.weight_variance / parameters.input_dim)
    # Points that need similar cutoffs share a grid.
    order = np.argsort(np.linalg.norm(problem.teacher, axis=1) / problem.noise)
    pieces: list[tuple[NDArray[np.intp], Iterate]] = []
    norm = np.linalg.norm(problem.teacher, axis=1)
    cutoffs = overlap_cutoff(parameters, problem.noise, norm, start.shape[1])
    end = order.size
    while end > 0:
        largest = cutoffs[order[end - 1]]
        begin = max(0, end - max(1, int(CHUNK_ELEMENTS * spacing / largest)))
        index = order[begin:end]
        end = begin
        sub = problem.take(index)
        piece = _ascend(sub, start[index], spacing, tolerance, max_steps)
        fine = spacing
        for _ in range(_MAX_REFINEMENTS):
            redo = np.flatnonzero(piece.result == Result.QUADRATURE_INACCURATE)
            if redo.size == 0:
                break
            fine /= 2
            again = _ascend(sub.take(redo), piece.t[redo], fine, tolerance, max_steps)
            piece.assign(redo, again)
        pieces.append((index, piece))
    joined = Iterate.join(np.concatenate, [piece for _, piece in pieces])
    return joined.take(np.argsort(np.concatenate([index for index, _ in pieces])))


@cache
def _normal_rule() -> tuple[Array, Array]:
    """Nodes and weights of the average over a standard normal variable.

    The trapezoid rule is as good as Gauss-Hermite on polynomials here, and far better on the
    amplitudes, whose branch points come close when a well is broad.
    """
    nodes = np.linspace(-7.5, 7.5, 41)
    weights = np.exp(-0.5 * nodes**2)
    return nodes, weights / weights.sum()


def _mixture_moments(t: Array, problem: Problem, wells: Wells) -> tuple[Array, Array]:
    """<m m^T> [p, modes, modes] and log partition [p] from one Gaussian per minimum of S.

    The weight of a minimum is exp(-S)/sqrt(S''), twice for q* > 0, which stands for -q* too. Both
    are nan where the wells asked for do not exist.
    """
    parameters, noise = problem.parameters, problem.noise[:, None]
    modes = t.shape[1]
    q = np.zeros((t.shape[0], 1))
    if wells is not Wells.CENTRAL:
        positive = stationary_overlaps(t, parameters, problem.noise)
        q = positive if wells is Wells.SIDE else np.concatenate([q, positive], axis=1)
    curvature = action_derivatives(q, t[:, None, :], parameters, noise)[1]
    minimum = np.isfinite(q) & (curvature > 0)
    # Between two minima lies a maximum, so that at most modes + 1 of the saddles are minima.
    order = np.argsort(~minimum, axis=1, kind="stable")[:, : modes + 1]
    minimum = np.take_along_axis(minimum, order, axis=1)
    curvature = np.where(minimum, np.take_along_axis(curvature, order, axis=1), 1.0)
    q = np.where(minimum, np.take_along_axis(q, order, axis=1), 0.0)
    log_weight = -action(q, t[:, None, :], parameters, noise) + 0.5 * np.log(
        2.0 * math.pi / curvature
    )
    log_weight = np.where(minimum, log_weight + np.where(q > 0, math.log(2.0), 0.0), -np.inf)
    top = log_weight.max(axis=1)
    top = np.where(np.isfinite(top), top, np.nan)
    weight = np.exp(log_weight - top[:, None])
    total = weight.sum(axis=1)
    nodes, node_weights = _normal_rule()
    points = q[..., None] + nodes / np.sqrt(curvature)[..., None]
    amplitudes = hermite_amplitudes(points, parameters.weight_variance, modes)
    joint = (weight / total[:, None])[..., None] * node_weights
    flat = amplitudes.reshape(t.shape[0], q.shape[1] * nodes.size, modes)
    weighted = flat * joint.reshape(*flat.shape[:2], 1)
    second = np.swapaxes(weighted, 1, 2) @ flat
    return second, top + np.log(total)


def _mixture_residual(t: Array, problem: Problem, wells: Wells) -> Array:
    return problem.residual(t, _mixture_moments(t, problem, wells)[0])


def _mixture_jacobian(t: Array, problem: Problem, wells: Wells) -> Array:
    """d residual/d t by central differences, [p, modes, modes]."""
    modes = t.shape[1]
    jacobian = np.empty((t.shape[0], modes, modes))
    step = 1e-6
    for j in range(modes):
        shift = step * np.eye(modes)[j]
        difference = _mixture_residual(t + shift, problem, wells) - _mixture_residual(
            t - shift, problem, wells
        )
        jacobian[:, :, j] = difference / (2.0 * step)
    return jacobian


def _solve_mixture(
    problem: Problem, start: Array, wells: Wells, tolerance: float, max_steps: int
) -> Iterate:
    """Damped Newton from one start per point."""
    t = start.copy()
    residual = _mixture_residual(t, problem, wells)
    error = np.abs(residual).max(axis=1)
    damping = np.ones_like(error)
    for _ in range(max_steps):
        # Where the wells vanish (nan) or no step length helps, the start is abandoned.
        active = np.flatnonzero(np.logical_and(error > tolerance, damping > 1e-4))
        if active.size == 0:
            break
        sub = problem.take(active)
        jacobian = _mixture_jacobian(t[active], sub, wells)
        regular = np.asarray(np.isfinite(jacobian).all(axis=(1, 2)))
        regular[regular] = np.linalg.cond(jacobian[regular]) < 1e12
        damping[active[~regular]] = 0.0
        active, jacobian, sub = active[regular], jacobian[regular], sub.take(regular)
        if active.size == 0:
            continue
        newton = -np.linalg.solve(jacobian, residual[active][..., None])[..., 0]
        # Every solution lies in the ball |t|^2 <= y.t; longer steps than its diameter are wasted.
        diameter = np.linalg.norm(sub.teacher, axis=1)
        length = np.linalg.norm(newton, axis=1)
        newton *= np.minimum(1.0, diameter / np.maximum(length, 1e-300))[:, None]
        pending = np.arange(active.size)
        while pending.size:
            at = active[pending]
            trial = t[at] + damping[at, None] * newton[pending]
            trial_residual = _mixture_residual(trial, sub.take(pending), wells)
            trial_error = np.abs(trial_residual).max(axis=1)
            accept = trial_error < error[at]
            moved = at[accept]
            t[moved], residual[moved] = trial[accept], trial_residual[accept]
            error[moved] = trial_error[accept]
            damping[moved] = np.minimum(1.0, 4.0 * damping[moved])
            damping[at[~accept]] /= 4.0
            pending = pending[~accept & (damping[at] > 1e-4)]
    converged = np.asarray(error <= tolerance)
    eigenvalue = np.full(error.shape, np.nan)
    jacobian = _mixture_jacobian(t[converged], problem.take(converged), wells)
    # A solution this close to the disappearance of a well has no derivative there.
    regular = np.asarray(np.isfinite(jacobian).all(axis=(1, 2)))
    largest = np.full(jacobian.shape[0], np.nan)
    largest[regular] = np.linalg.eigvals(jacobian[regular]).real.max(axis=1)
    eigenvalue[converged] = largest
    log_partition = _mixture_moments(t, problem, wells)[1]
    return Iterate(
        t,
        log_partition,
        problem.free_energy(t, log_partition),
        eigenvalue,
        error,
        np.where(converged, Result.CONVERGED, Result.MAX_STEPS_REACHED).astype(np.int8),
    )


class _Branches:
    """Distinct solutions collected point by point: slot arrays [slot][p, ...]."""

    def __init__(self, problem: Problem, tolerance: float, max_steps: int) -> None:
        self.problem = problem
        self.tolerance = tolerance
        self.max_steps = max_steps
        self.slots: list[Iterate] = []

    @property
    def count(self) -> NDArray[np.intp]:
        found = np.zeros(self.problem.noise.shape, dtype=np.intp)
        for slot in self.slots:
            found += slot.result == Result.CONVERGED
        return found

    def search(self, index: NDArray[np.intp], start: Array, wells: Wells) -> int:
        """Solve from the starts at the points `index`; return how many new solutions came out."""
        sub = self.problem.take(index)
        found = _solve_mixture(sub, start, wells, self.tolerance, self.max_steps)
        fresh = found.result == Result.CONVERGED
        scale = np.linalg.norm(sub.teacher, axis=1)
        for slot in self.slots:
            known = slot.result[index] == Result.CONVERGED
            with np.errstate(invalid="ignore"):
                distance = np.linalg.norm(slot.t[index] - found.t, axis=1)
            fresh &= ~(known & (distance < 1e-6 * scale))
        new = int(fresh.sum())
        position = self.count[index]
        for level in np.unique(position[fresh]):
            if level == len(self.slots):
                self.slots.append(empty_iterate(self.problem))
            take = fresh & (position == level)
            self.slots[level].assign(index[take], found.take(take))
        return new


def empty_iterate(problem: Problem) -> Iterate:
    """No solution anywhere yet."""
    points, modes = problem.teacher.shape
    empty = np.full(points, np.nan)
    return Iterate(
        np.full((points, modes), np.nan),
        empty,
        empty.copy(),
        empty.copy(),
        empty.copy(),
        np.full(points, Result.ABSENT, dtype=np.int8),
    )


def _noise_neighbours(problem: Problem) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """(points, their neighbour in noise at the same teacher), upward and downward."""
    order = np.lexsort((problem.noise, problem.teacher[:, 1]))
    same = problem.teacher[order[1:], 1] == problem.teacher[order[:-1], 1]
    lower, upper = order[:-1][same], order[1:][same]
    return [(lower, upper), (upper, lower)]


def enumerate_mixture(
    problem: Problem, wells: Wells, starts: list[Array], tolerance: float, max_steps: int
) -> list[Iterate]:
    """All solutions found from the starts, and by continuation in noise in both directions.

    A solution known at one noise is a start at the next lower and the next higher one wherever
    fewer solutions are known there, until nothing new appears.
    """
    branches = _Branches(problem, tolerance, max_steps)
    everywhere = np.arange(problem.noise.size)
    for start in starts:
        branches.search(everywhere, start, wells)
    neighbours = _noise_neighbours(problem)
    tried: set[tuple[int, int, int]] = set()
    for _ in range(problem.noise.size):
        new = 0
        for target, source in neighbours:
            for number, slot in enumerate(list(branches.slots)):
                count = branches.count
                behind = (slot.result[source] == Result.CONVERGED) & (count[target] < count[source])
                pairs = [
                    (a, b)
                    for a, b in zip(target[behind], source[behind], strict=True)
                    if (int(a), int(b), number) not in tried
                ]
                if not pairs:
                    continue
                tried.update((int(a), int(b), number) for a, b in pairs)
                at, from_ = (np.array(side) for side in zip(*pairs, strict=True))
                new += branches.search(at, slot.t[from_], wells)
        if new == 0:
            break
    return branches.slots
