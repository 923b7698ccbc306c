"""Solvers of the self-consistency equations, flat over parameter points.

Two ways to take the averages over p(q) ~ exp(-S(q)): exact one-dimensional quadrature, whose
solution is unique and reached by damped Newton ascent of a concave function, and Gaussians around
the minima of S, whose solutions are enumerated. `teacher_student` documents the equations and is
the interface to use.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from grokphase.parameters import TeacherStudent
from grokphase.theory.one_neuron import (
    CHUNK_ELEMENTS,
    Array,
    amplitude_coefficients,
    amplitude_derivatives,
    effective_interaction,
    hermite_amplitudes,
    overlap_cutoff,
    side_minima,
)
from grokphase.theory.threads import blocks_of_similar, map_blocks

_QUADRATURE_TOLERANCE = 1e-9
_MAX_REFINEMENTS = 6
_BLOCK_POINTS = 16384
"""Starts from which the mixture is solved at once: with 4 096 a grid of 200 x 200 takes a tenth
longer, from 8 192 to 32 768 the number hardly matters."""
_ROUND_STEPS = 16
"""Newton steps after which the starts that are still under way are shared out anew: most need no
more, and a block of the few that do costs as much as a full one."""


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
        """The points of an index or mask."""
        return Problem(self.parameters, self.noise[index], self.teacher[index])

    def residual(self, t: Array, second: Array) -> Array:
        """y - t - gain <m m^T> t at second moments [p, modes, modes]; zero at a solution."""
        return np.asarray(
            self.teacher - t - self.gain[:, None] * np.einsum("pij,pj->pi", second, t)
        )

    def free_energy(self, t: Array, log_partition: Array) -> Array:
        """Free energy of all neurons in nats, [p]; its stationary points are the solutions."""
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


Rows = TypeVar("Rows", bound=tuple[NDArray[Any], ...])
"""Arrays with a leading axis of points."""


def take(rows: Rows, index: NDArray[Any]) -> Rows:
    """The rows of some points."""
    return type(rows)(*(array[index] for array in rows))


def assign(rows: Rows, index: NDArray[Any], values: Rows) -> None:
    """Overwrite the rows of some points."""
    for array, value in zip(rows, values, strict=True):
        array[index] = value


def join(operation: Callable[[list[NDArray[Any]]], NDArray[Any]], parts: list[Rows]) -> Rows:
    """Concatenate or stack the arrays of several."""
    return type(parts[0])(*(operation(list(arrays)) for arrays in zip(*parts, strict=True)))


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
    """Solutions with exact quadrature over q, from t = `start` [p, modes].

    Points whose integral changes by more than its accuracy on a grid twice as fine are solved again
    on that one.
    """
    parameters = problem.parameters
    spacing = 0.6 * math.sqrt(parameters.weight_variance / parameters.input_dim)
    # Points that need similar cutoffs share a grid.
    norm = np.linalg.norm(problem.teacher, axis=1)
    cutoffs = overlap_cutoff(parameters, problem.noise, norm, start.shape[1])
    blocks = blocks_of_similar(cutoffs / spacing, CHUNK_ELEMENTS)

    def ascend(index: NDArray[np.intp]) -> Iterate:
        sub = problem.take(index)
        piece = _ascend(sub, start[index], spacing, tolerance, max_steps)
        fine = spacing
        for _ in range(_MAX_REFINEMENTS):
            redo = np.flatnonzero(piece.result == Result.QUADRATURE_INACCURATE)
            if redo.size == 0:
                break
            fine /= 2
            again = _ascend(sub.take(redo), piece.t[redo], fine, tolerance, max_steps)
            assign(piece, redo, again)
        return piece

    joined = join(np.concatenate, map_blocks(ascend, blocks))
    return take(joined, np.argsort(np.concatenate(blocks)))


@cache
def _normal_rule(spacing: float, even: bool) -> tuple[Array, Array]:
    """Nodes and weights of the average over a standard normal variable; even functions need half.

    The trapezoid rule is as good as Gauss-Hermite on polynomials here, and far better on the
    amplitudes, whose branch points come close when a well is broad.
    """
    count = round(7.5 / spacing)
    nodes = spacing * np.arange(0 if even else -count, count + 1)
    weights = np.exp(-0.5 * nodes**2)
    if even:
        weights[1:] *= 2.0
    return np.asarray(nodes), np.asarray(weights / weights.sum())


def _ratio_averages(q: Array, width: Array, origin: float, count: int) -> Array:
    """Averages of r^1 ... r^count, r = x^2/(origin + 2 x^2), over x ~ N(q, width^2).

    Returns [3, p, count]: the averages and their derivatives with respect to q and to the width.
    """
    averages = np.empty((3, q.size, count))
    # The branch points of the amplitudes are at x^2 = -origin/2; far from them a wide spacing is
    # exact to rounding.
    broad = width**2 > origin / 50.0
    for spacing, even in itertools.product((0.375, 0.75), (False, True)):
        nodes, weights = _normal_rule(spacing, even)
        rows = np.flatnonzero((broad == (spacing < 0.5)) & ((q == 0) == even))
        step = max(1, CHUNK_ELEMENTS // (4 * nodes.size))
        for begin in range(0, rows.size, step):
            part = rows[begin : begin + step]
            x = q[part, None] + width[part, None] * nodes
            denominator = 2.0 * x**2
            denominator += origin
            slope = 2.0 * origin * x / denominator**2
            ratio = x * x / denominator
            power = slope
            averages[0, part, 0] = ratio @ weights
            averages[1, part, 0] = 0.0 if even else slope @ weights
            averages[2, part, 0] = slope @ (weights * nodes)
            raised = ratio
            for k in range(1, count):
                power = power * ratio
                raised = raised * ratio
                averages[0, part, k] = raised @ weights
                averages[1, part, k] = 0.0 if even else (k + 1) * (power @ weights)
                averages[2, part, k] = (k + 1) * (power @ (weights * nodes))
    return averages


class _Equations(NamedTuple):
    """Residual of the self-consistency equations, and its derivative."""

    residual: Array  # [p, modes]
    jacobian: Array  # d residual/d t, [p, modes, modes]
    log_partition: Array  # [p]


def _mixture_equations(t: Array, problem: Problem, wells: NDArray[np.int8]) -> _Equations:
    """The equations with one Gaussian per minimum of S, of those asked for at every point, [p].

    The weight of a minimum is exp(-S)/sqrt(S''), twice for q* > 0, which stands for -q* too. All
    are nan where the wells asked for do not exist. The Jacobian follows the minima, whose place,
    width and weight depend on t.
    """
    parameters, modes = problem.parameters, t.shape[1]
    variance, d = parameters.weight_variance, parameters.input_dim
    saddles = np.full((t.shape[0], 2 * modes), np.nan)
    saddles[wells != Wells.SIDE, 0] = 0.0
    beside = np.flatnonzero(wells != Wells.CENTRAL)
    saddles[beside, 1:] = side_minima(t[beside], parameters, problem.noise[beside])
    point, column = np.nonzero(np.isfinite(saddles))
    q = saddles[point, column]
    strength = problem.strength
    derivatives = amplitude_derivatives(q, variance, modes)
    projections = np.einsum("kwj,wj->kw", derivatives, t[point])
    curvature = d / variance - strength[point] * (
        projections[1] ** 2 + projections[0] * projections[2]
    )
    minimum = curvature > 0
    point, q, curvature = point[minimum], q[minimum], curvature[minimum]
    m, m1, m2, _ = derivatives[:, minimum]
    p, p1, p2, p3 = projections[:, minimum]
    k = strength[point]

    # Derivatives with respect to t of the place of a minimum, of S'' there, of its log weight.
    third = -k * (3.0 * p1 * p2 + p * p3)
    place = (k / curvature)[:, None] * (m * p1[:, None] + p[:, None] * m1)
    steeper = third[:, None] * place - k[:, None] * (
        2.0 * m1 * p1[:, None] + m * p2[:, None] + p[:, None] * m2
    )
    relative = -0.5 * steeper / curvature[:, None]
    log_weight = 0.5 * k * p**2 - d * q**2 / (2.0 * variance)
    log_weight += 0.5 * np.log(2.0 * math.pi / curvature) + np.where(q > 0, math.log(2.0), 0.0)
    growth = (k * p)[:, None] * m + relative

    width = curvature**-0.5
    averages = _ratio_averages(q, width, 1.0 + 2.0 * variance, 2 * modes - 1)
    coefficients = amplitude_coefficients(modes)
    scaled = coefficients * t[point]
    degree = np.arange(modes)[:, None] + np.arange(modes)
    second = np.outer(coefficients, coefficients) * averages[0][:, degree]
    pull = np.einsum("wij,wj->wi", second, t[point])
    by_place, by_width = (
        coefficients * np.einsum("wij,wj->wi", one[:, degree], scaled) for one in averages[1:]
    )
    slope = second + by_place[:, :, None] * place[:, None, :]
    slope += by_width[:, :, None] * (width[:, None] * relative)[:, None, :]

    starts = np.flatnonzero(np.diff(point, prepend=-1))
    present = point[starts]
    top = np.full(t.shape[0], np.nan)
    total = np.full(t.shape[0], np.nan)
    top[present] = np.maximum.reduceat(log_weight, starts) if starts.size else 0.0
    weight = np.exp(log_weight - top[point])

    def summed(values: Array) -> Array:
        """Sum over the wells of a point."""
        result = np.full((t.shape[0], *values.shape[1:]), np.nan)
        if starts.size:
            result[present] = np.add.reduceat(values, starts, axis=0)
        return result

    total = summed(weight)
    weight /= total[point]
    mean = summed(weight[:, None] * pull)
    away = weight[:, None] * (pull - mean[point])
    mean_slope = summed(weight[:, None, None] * slope + away[:, :, None] * growth[:, None, :])
    gain = problem.gain[:, None]
    return _Equations(
        problem.teacher - t - gain * mean,
        -np.eye(modes) - gain[:, :, None] * mean_slope,
        top + np.log(total),
    )


def _newton_step(jacobian: Array, residual: Array) -> Array:
    """-jacobian^{-1} residual, [p, modes]; nan where the jacobian is nan or singular."""
    modes = residual.shape[1]
    if modes == 2:
        (a, b), (c, e) = jacobian.transpose(1, 2, 0)
        determinant = a * e - b * c
        size = np.abs(a * e) + np.abs(b * c)
        regular = np.abs(determinant) > 1e-12 * size
        determinant = np.where(regular, determinant, np.nan)
        x, y = residual.T
        return np.stack([b * y - e * x, c * x - a * y], axis=1) / determinant[:, None]
    step = np.full(residual.shape, np.nan)
    regular = np.asarray(np.isfinite(jacobian).all(axis=(1, 2)))
    regular[regular] = np.linalg.cond(jacobian[regular]) < 1e12
    step[regular] = -np.linalg.solve(jacobian[regular], residual[regular][..., None])[..., 0]
    return step


def _largest_eigenvalue(matrices: Array) -> Array:
    """Largest real part of the eigenvalues, [p], for matrices [p, modes, modes]."""
    if matrices.shape[1] == 2:
        (a, b), (c, e) = matrices.transpose(1, 2, 0)
        discriminant = 0.25 * (a - e) ** 2 + b * c
        return np.asarray(0.5 * (a + e) + np.sqrt(np.maximum(discriminant, 0.0)))
    return np.asarray(np.linalg.eigvals(matrices).real.max(axis=1))


class _Search(NamedTuple):
    """Damped Newton under way from one start per point.

    The fields of `_Equations` at t; error : largest absolute residual; damping : of the next step.
    """

    t: Array
    residual: Array
    jacobian: Array
    log_partition: Array
    error: Array
    damping: Array


def _begin(problem: Problem, start: Array, wells: NDArray[np.int8]) -> _Search:
    found = _mixture_equations(start, problem, wells)
    error = np.abs(found.residual).max(axis=1)
    return _Search(start.copy(), *found, error, np.ones_like(error))


def _unfinished(search: _Search, tolerance: float) -> NDArray[np.intp]:
    """Points whose search goes on; abandoned where the wells vanish (nan) or no step helps."""
    return np.flatnonzero(np.logical_and(search.error > tolerance, search.damping > 1e-4))


def _step(problem: Problem, search: _Search, wells: NDArray[np.int8]) -> None:
    """One step from every point: taken if the error shrinks, else shortened the next time."""
    newton = _newton_step(search.jacobian, search.residual)
    length = np.linalg.norm(newton, axis=1)
    finite = np.isfinite(length)
    search.damping[~finite] = 0.0
    at, newton = np.flatnonzero(finite), newton[finite]
    # Every solution lies in the ball |t|^2 <= y.t; longer steps than its diameter are wasted.
    diameter = np.linalg.norm(problem.teacher[at], axis=1)
    factor = np.minimum(1.0, diameter / np.maximum(length[finite], 1e-300))
    trial = search.t[at] + (search.damping[at] * factor)[:, None] * newton
    found = _mixture_equations(trial, problem.take(at), wells[at])
    error = np.abs(found.residual).max(axis=1)
    accept = error < search.error[at]
    damping = np.where(accept, np.minimum(1.0, 4.0 * search.damping[at]), search.damping[at] / 4.0)
    search.damping[at] = damping
    moved = _Search(trial, *found, error, damping)
    assign(search, at[accept], take(moved, accept))


def _solve_mixture(
    problem: Problem, start: Array, wells: NDArray[np.int8], tolerance: float, max_steps: int
) -> Iterate:
    """Damped Newton from one start per point, with the wells asked for there, [p]."""

    def shared_out(points: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        return np.array_split(points, math.ceil(points.size / _BLOCK_POINTS))

    def begin(part: NDArray[np.intp]) -> _Search:
        return _begin(problem.take(part), start[part], wells[part])

    def advance(part: NDArray[np.intp]) -> _Search:
        """The search at these points after the steps of a round."""
        mine, of, at = take(search, part), problem.take(part), wells[part]
        for _ in range(steps):
            active = _unfinished(mine, tolerance)
            if active.size == 0:
                break
            moving = take(mine, active)
            _step(of.take(active), moving, at[active])
            assign(mine, active, moving)
        return mine

    search = join(np.concatenate, map_blocks(begin, shared_out(np.arange(len(start)))))
    for done in range(0, max_steps, _ROUND_STEPS):
        steps = min(_ROUND_STEPS, max_steps - done)
        active = _unfinished(search, tolerance)
        if active.size == 0:
            break
        assign(search, active, join(np.concatenate, map_blocks(advance, shared_out(active))))
    converged = np.asarray(search.error <= tolerance)
    eigenvalue = np.full(search.error.shape, np.nan)
    eigenvalue[converged] = _largest_eigenvalue(search.jacobian[converged])
    return Iterate(
        search.t,
        search.log_partition,
        problem.free_energy(search.t, search.log_partition),
        eigenvalue,
        search.error,
        np.where(converged, Result.CONVERGED, Result.MAX_STEPS_REACHED).astype(np.int8),
    )


Start = tuple[NDArray[np.intp], Array]
"""Points and the t from which a solution is searched for at each of them."""

Neighbours = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Points and, of each of them, one of the points next to it."""


class _Branches:
    """Distinct solutions of one kind collected point by point: slot arrays [slot][p, ...]."""

    def __init__(self, problem: Problem, neighbours: list[Neighbours]) -> None:
        self.problem = problem
        self.slots: list[Iterate] = []
        self._neighbours = neighbours
        self._tried: dict[tuple[int, int], NDArray[np.bool_]] = {}

    @property
    def count(self) -> NDArray[np.intp]:
        found = np.zeros(self.problem.noise.shape, dtype=np.intp)
        for slot in self.slots:
            found += slot.result == Result.CONVERGED
        return found

    def continued(self) -> Iterator[Start]:
        """A solution is a start, once, at the noises next to it where fewer are known."""
        count = self.count
        for direction, (target, source) in enumerate(self._neighbours):
            for number, slot in enumerate(self.slots):
                unseen = np.zeros(target.size, dtype=bool)
                done = self._tried.setdefault((direction, number), unseen)
                behind = (slot.result[source] == Result.CONVERGED) & (count[target] < count[source])
                behind &= ~done
                done |= behind
                if behind.any():
                    yield target[behind], slot.t[source[behind]]

    def add(self, index: NDArray[np.intp], found: Iterate) -> int:
        """Keep the solutions not yet known at distinct points; return how many."""
        fresh = found.result == Result.CONVERGED
        scale = np.linalg.norm(self.problem.teacher[index], axis=1)
        for slot in self.slots:
            known = slot.result[index] == Result.CONVERGED
            with np.errstate(invalid="ignore"):
                distance = np.linalg.norm(slot.t[index] - found.t, axis=1)
            fresh &= ~(known & (distance < 1e-6 * scale))
        position = self.count[index]
        for level in np.unique(position[fresh]):
            if level == len(self.slots):
                self.slots.append(empty_iterate(self.problem))
            here = fresh & (position == level)
            assign(self.slots[level], index[here], take(found, here))
        return int(fresh.sum())


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


def _noise_neighbours(problem: Problem) -> list[Neighbours]:
    """(points, their neighbour in noise at the same teacher), upward and downward."""
    order = np.lexsort((problem.noise, problem.teacher[:, 1]))
    same = problem.teacher[order[1:], 1] == problem.teacher[order[:-1], 1]
    lower, upper = order[:-1][same], order[1:][same]
    return [(lower, upper), (upper, lower)]


def enumerate_mixture(
    problem: Problem, starts: dict[Wells, list[Array]], tolerance: float, max_steps: int
) -> dict[Wells, list[Iterate]]:
    """All solutions of every kind found from its starts, and by continuation in noise.

    A solution known at one noise is a start at the next lower and the next higher one wherever
    fewer solutions are known there, until nothing new appears. All kinds are searched for at once,
    since the last few starts of a search take longer than the work for them.
    """
    neighbours = _noise_neighbours(problem)
    branches = {kind: _Branches(problem, neighbours) for kind in starts}
    everywhere = np.arange(problem.noise.size)
    tasks = [(kind, (everywhere, t)) for kind, some in starts.items() for t in some]
    for _ in range(problem.noise.size + 1):
        if not tasks:
            break
        index = np.concatenate([points for _, (points, _) in tasks])
        found = _solve_mixture(
            problem.take(index),
            np.concatenate([t for _, (_, t) in tasks]),
            np.concatenate([np.full(points.size, kind, np.int8) for kind, (points, _) in tasks]),
            tolerance,
            max_steps,
        )
        fresh = dict.fromkeys(branches, 0)
        end = 0
        for kind, (points, _) in tasks:
            begin, end = end, end + points.size
            fresh[kind] += branches[kind].add(points, take(found, np.arange(begin, end)))
        tasks = [
            (kind, start)
            for kind, of_kind in branches.items()
            if fresh[kind]
            for start in of_kind.continued()
        ]
    return {kind: of_kind.slots for kind, of_kind in branches.items()}
