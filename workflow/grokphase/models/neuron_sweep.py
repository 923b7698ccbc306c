"""Collapsed Gibbs sweep over the neurons of the teacher-student network: droplets come and go.

Between the Gaussian peak of p(q) and its droplets lies a barrier that trajectories cross rarely. A
sweep visits every neuron once. With all other neurons fixed the readout a of the visited neuron is
Gaussian, and integrating it out leaves, along the teacher at fixed perpendicular weights,

    p(q | rest)  ~  exp(-q^2/(2 sigma_w^2/d)) A^(-1/2) exp(b^2/(2 A)),
    A = N/sigma_a^2 + |phi|^2/sigma^2,   b = phi.r/sigma^2,   phi = erf(x.w_perp + q x.w*),

where r is the residual y - f without the neuron. b and |phi|^2 are smooth in q: they are computed
at NODES overlaps, with a rough erf, and interpolated by a polynomial of
u = q/sqrt(q^2 + 1/2 + sigma_w^2), the variable in which the mean-field overlaps m_k(q) are powers.
The interpolated density proposes a new q, a Metropolis step with the exact density corrects it, and
a is drawn from its Gaussian N(b/A, 1/A). The posterior is invariant, whatever the nodes.

The conditional densities of all neurons, summed, also estimate the histogram of q without counting
(Rao-Blackwell): in the tails, where a neuron is rarely counted, far better.

One neuron may be held near an overlap by a spring (grokphase.models.umbrella), which adds its
energy to -log p(q | rest).

Sources: collapsed and grid-based ("griddy") Gibbs sampling: Liu, J. Am. Stat. Assoc. 89, 958
(1994); Ritter and Tanner, J. Am. Stat. Assoc. 87, 861 (1992); Metropolis correction: Tierney, Ann.
Stat. 22, 1701 (1994); Rao-Blackwell estimate of a density: Gelfand and Smith, J. Am. Stat. Assoc.
85, 398 (1990); barycentric interpolation: Berrut and Trefethen, SIAM Rev. 46, 501 (2004).
"""

import math
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from grokphase.models.neuron_sweep_cost import DENSITY_NODES, NODES
from grokphase.models.teacher_student import (
    TAGGED,
    Data,
    Forward,
    Position,
    forward_pass,
    original_weights,
    overlaps,
    prior_scale,
    rough_erf,
    spring_energy,
)
from grokphase.parameters import TeacherStudent
from grokphase.sampling.sweeps import Swept
from grokphase.tables.shards import FINE_BINS, FINE_CENTRES, FINE_LIMIT, FINE_WIDTH

CELLS = 160
"""Cells of the proposal."""


class Grid(NamedTuple):
    """Overlaps at which a neuron is evaluated, and those at which its density is interpolated.

    nodes : [NODES] overlaps, Chebyshev points of u.
    edges, centres, widths : [CELLS + 1], [CELLS], [CELLS] of the cells of the proposal.
    to_cells, to_bins : [CELLS, NODES] and [FINE_BINS, NODES], from values at the nodes to those at
        the centres of the cells and of the fine bins of the histogram.
    """

    nodes: NDArray[np.float32]
    edges: NDArray[np.float32]
    centres: NDArray[np.float32]
    widths: NDArray[np.float32]
    to_cells: NDArray[np.float32]
    to_bins: NDArray[np.float32]


@cache
def overlap_grid(deviation: float, weight_variance: float, nodes: int = NODES) -> Grid:
    """The grid for overlaps of prior standard deviation `deviation`.

    It reaches the recorded range FINE_LIMIT, or 6 prior deviations if that is more. The cells lie
    at q = s sinh(t), t equidistant: a tenth of a prior deviation wide at the origin, so that the
    Gaussian peak is resolved, and wider where the droplets lie.
    """
    reach = max(FINE_LIMIT, 6 * deviation)
    edges = _sinh_spaced(reach, deviation / 10)
    centres = (edges[1:] + edges[:-1]) / 2
    scale = math.sqrt(0.5 + weight_variance)

    def compressed(q: NDArray[np.floating]) -> NDArray[np.floating]:
        return q / np.hypot(q, scale)

    u = reach / math.hypot(reach, scale) * np.sin(np.pi * np.linspace(-0.5, 0.5, nodes))
    return Grid(
        *(
            array.astype(np.float32)
            for array in (
                scale * u / np.sqrt(1 - u**2),
                edges,
                centres,
                np.diff(edges),
                _barycentric(u, compressed(centres)),
                _barycentric(u, compressed(FINE_CENTRES)),
            )
        )
    )


def _sinh_spaced(reach: float, spacing: float) -> NDArray[np.float64]:
    """CELLS + 1 points over [-reach, reach], about `spacing` apart at 0 and wider outwards."""
    half = CELLS // 2
    steepness = 0.0
    if half * spacing < reach:
        # Newton for sinh(k) = ratio k, convex, from above. (Importing scipy.optimize takes 0.4 s.)
        ratio = reach / (half * spacing)
        steepness = 2 + 2 * math.log(ratio)
        for _ in range(50):
            excess = math.sinh(steepness) - ratio * steepness
            steepness -= excess / (math.cosh(steepness) - ratio)
    t = np.linspace(-1, 1, CELLS + 1)
    return reach * (np.sinh(steepness * t) / math.sinh(steepness) if steepness else t)


def _barycentric(nodes: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.floating]:
    """Matrix [points, nodes] of polynomial interpolation from Chebyshev points to other points."""
    weights = (-1.0) ** np.arange(len(nodes))
    weights[[0, -1]] /= 2
    difference = points[:, None] - nodes
    exact = difference == 0
    terms = weights / np.where(exact, 1.0, difference)
    matrix = terms / terms.sum(axis=1, keepdims=True)
    return np.where(exact.any(axis=1, keepdims=True), exact, matrix)


def cell_of(cumulative: jax.Array, uniform: jax.Array) -> jax.Array:
    """The cell that a uniform number from [0, 1) draws; cumulative [CELLS] of masses, any scale.

    1 - uniform is never zero. Zero itself, one number of 2^23 in float32, would stand for the whole
    range up to the next one and yet draw the first cell, however little mass that has.
    """
    draw = (1 - uniform) * cumulative[-1]
    return jnp.clip(jnp.searchsorted(cumulative, draw), 0, len(cumulative) - 1)


class Collapsed(NamedTuple):
    """Log density of the overlap (up to a constant), mean and precision of the readout given it."""

    log_density: jax.Array
    mean: jax.Array
    precision: jax.Array


def collapse(
    overlap: jax.Array,
    field: jax.Array,
    power: jax.Array,
    parameters: TeacherStudent,
    noise: Any,
) -> Collapsed:
    """One neuron with its readout integrated out.

    overlap, field, power : q, phi.r and |phi|^2, of one shape.
    """
    scale = prior_scale(parameters)
    precision = scale.readout**-2 + power / noise
    mean = field / noise / precision
    log_density = 0.5 * (
        jnp.square(mean) * precision - jnp.log(precision) - jnp.square(overlap / scale.weights)
    )
    return Collapsed(log_density, mean, precision)


def moments(phi: jax.Array, rest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Products of activations [q, n] with the residual [n], and their squares: field and power."""
    # Not written as sums, which the compiler does not vectorise.
    return phi @ rest, jnp.einsum("qn,qn->q", phi, phi)


def expected_counts(position: Position, parameters: TeacherStudent, data: Data) -> jax.Array:
    """Histogram of the overlaps [FINE_BINS + 2] as expected from every neuron's density given all
    others and its own perpendicular weights; the ends hold what lies beyond the fine bins."""
    grid = overlap_grid(prior_scale(parameters).weights, parameters.weight_variance, DENSITY_NODES)
    grid = jax.tree.map(jnp.asarray, grid)
    log_widths = jnp.log(grid.widths)
    is_beyond = jnp.abs(grid.centres) > FINE_LIMIT
    bins = jnp.asarray(FINE_CENTRES, jnp.float32)
    along = data.inputs @ data.teacher
    forward = forward_pass(position, parameters, data)
    overlap = overlaps(position, parameters, data)
    readout, _ = original_weights(position, parameters)

    def density(q: jax.Array, field: jax.Array, power: jax.Array) -> jax.Array:
        return collapse(q, field, power, parameters, data.noise).log_density

    def add_neuron(total: jax.Array, neuron: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        preactivation, q, a = neuron
        rest = forward.residual + a * jax.scipy.special.erf(preactivation)
        moved = preactivation + (grid.nodes - q)[:, None] * along
        phi = jax.lax.optimization_barrier(jax.scipy.special.erf(moved))
        at_nodes = moments(phi, rest)
        log_bins = density(bins, *(grid.to_bins @ x for x in at_nodes)) + math.log(FINE_WIDTH)
        log_cells = density(grid.centres, *(grid.to_cells @ x for x in at_nodes)) + log_widths
        log_beyond = jax.nn.logsumexp(log_cells, where=is_beyond)
        # Normalised on the bins themselves: a density too narrow for the cells still adds up.
        log_masses = jnp.append(log_bins, log_beyond)
        return total + jax.nn.softmax(log_masses), None

    neurons = (forward.preactivation, overlap, readout)
    total = jax.lax.scan(add_neuron, jnp.zeros(FINE_BINS + 1), neurons)[0]
    return jnp.pad(total[:-1], 1, constant_values=total[-1] / 2)


def sweep(
    key: jax.Array,
    position: Position,
    parameters: TeacherStudent,
    data: Data,
    sweeps: int | jax.Array = 1,
    forward: Forward | None = None,
) -> Swept:
    """Visit every neuron once, or so many times (at least one), one neuron after the other.

    forward : of the position; computed if it is None. The perpendicular weights do not change, so
        that all sweeps share its preactivations.
    """
    scale = prior_scale(parameters)
    grid = overlap_grid(scale.weights, parameters.weight_variance)
    grid = jax.tree.map(jnp.asarray, grid)
    log_widths = jnp.log(grid.widths)
    along = data.inputs @ data.teacher
    if forward is None:
        forward = forward_pass(position, parameters, data)
    overlap = overlaps(position, parameters, data)
    readout, _ = original_weights(position, parameters)

    def density(
        q: jax.Array, stiffness: jax.Array, field: jax.Array, power: jax.Array
    ) -> Collapsed:
        free = collapse(q, field, power, parameters, data.noise)
        energy = spring_energy(q, stiffness, data)
        return free._replace(log_density=free.log_density - energy)

    def visit(residual: jax.Array, neuron: Any) -> tuple[Any, Any]:
        (
            preactivation,
            first,
            q,
            a,
            stiffness,
            here,
            for_cell,
            for_place,
            for_acceptance,
            for_readout,
        ) = neuron

        def at_overlaps(overlaps: jax.Array) -> jax.Array:
            """Preactivations [..., n] of the neuron, which has `preactivation` at `first`."""
            return preactivation + (overlaps - first)[..., None] * along

        rest = residual + a * jax.scipy.special.erf(at_overlaps(q))
        # Held once: the compiler would compute activations anew for each product.
        held = jax.lax.optimization_barrier
        rough = held(rough_erf(at_overlaps(grid.nodes)))
        at_cells = (grid.to_cells @ x for x in moments(rough, rest))
        log_proposal = density(grid.centres, stiffness, *at_cells).log_density
        highest = log_proposal.max()
        cumulative = jnp.cumsum(jnp.exp(log_proposal - highest + log_widths))
        cell = cell_of(cumulative, for_cell)
        proposed = grid.edges[cell] + for_place * grid.widths[cell]
        old_and_new = jnp.stack([q, proposed])
        phi = held(jax.scipy.special.erf(at_overlaps(old_and_new)))
        both = density(old_and_new, stiffness, *moments(phi, rest))
        log_ratio = (
            both.log_density[1] - both.log_density[0] + log_proposal[here] - log_proposal[cell]
        )
        # A neuron beyond the grid could not be proposed again, so it stays.
        inside = (grid.edges[0] <= q) & (q <= grid.edges[-1])
        accept = inside & (jnp.log(for_acceptance) < log_ratio)
        chosen = accept.astype(jnp.int32)
        q = jnp.where(accept, proposed, q)
        a = both.mean[chosen] + for_readout * both.precision[chosen] ** -0.5
        residual = rest - a * phi[chosen]
        return residual, (q, a, accept)

    shape = (parameters.width,)
    stiffness = jnp.zeros(shape).at[TAGGED].set(data.stiffness)

    def one_sweep(number: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        residual, q, readout, acceptance = state
        uniform_key, readout_key = jax.random.split(jax.random.fold_in(key, number))
        # All in one call: each takes a tenth of a second to compile.
        for_cell, for_place, for_acceptance = jax.random.uniform(uniform_key, (3, *shape))
        residual, (q, readout, accepted) = jax.lax.scan(
            visit,
            residual,
            (
                forward.preactivation,
                overlap,
                q,
                readout,
                stiffness,
                jnp.clip(jnp.searchsorted(grid.edges, q) - 1, 0, CELLS - 1),
                for_cell,
                for_place,
                for_acceptance,
                jax.random.normal(readout_key, shape),
            ),
        )
        return residual, q, readout, acceptance + accepted.mean()

    residual, new_overlap, new_readout, acceptance = jax.lax.fori_loop(
        0, sweeps, one_sweep, (forward.residual, overlap, readout, jnp.zeros(()))
    )
    shift = (new_overlap - overlap) / scale.weights
    return Swept(
        Position(new_readout / scale.readout, position.weights + shift[:, None] * data.teacher),
        acceptance / sweeps,
        0.5 * jnp.vdot(residual, residual) / data.noise
        + spring_energy(new_overlap[TAGGED], data.stiffness, data),
    )
