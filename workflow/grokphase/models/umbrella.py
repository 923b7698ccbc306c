"""Density of one neuron's overlap given all other neurons, and windows far in its tail.

Counting neurons reaches no deeper than the logarithm of their number. Instead, the tagged neuron's
conditional density is computed: with its readout integrated out, as in a sweep
(grokphase.models.neuron_sweep), and its whitened weights v across the teacher too,

    p(q | rest)  ~  exp(-q^2/(2 sigma_w^2/d)) Z(q),
    Z(q) = E_v A^(-1/2) exp(b^2/(2 A)),  v ~ N(0, 1),  b = phi.r/sigma^2,  A = N/sigma_a^2 + ...

where r is the residual without the neuron; Z(-q) = Z(q), since erf is odd. The expectation is over
d - 1 weights on which the exponent depends strongly (by 5 nats between the neurons of a network at
d=150, N=700, n=3000, noise 0.25 and q = 0.8), so that an average over these is their largest.
Sequential Monte Carlo follows q from zero outwards instead: copies of v are weighted by the ratio
of g at consecutive overlaps, resampled, and moved by a Hamiltonian trajectory of a quarter turn at
fixed q, g being what the expectation is of. Its estimate of Z is unbiased; see PARTICLES for what
its noise does to the combination of windows.

The residual itself fluctuates, and a network with a neuron far out has one that suits it: there the
profiles of a network differ by 3 nats. Umbrella sampling meets those networks. A spring holds the
tagged neuron near an overlap, the other neurons move under the posterior so changed, and the
profiles of all windows are combined in grokphase.overlap_density.

Sources: Del Moral, Doucet and Jasra, J. R. Stat. Soc. B 68, 411 (2006), sequential Monte Carlo;
Torrie and Valleau, J. Comput. Phys. 23, 187 (1977), umbrella sampling; Gelfand and Smith, J. Am.
Stat. Assoc. 85, 398 (1990), densities from conditional ones.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grokphase.models.neuron_sweep import collapse
from grokphase.models.teacher_student import (
    TAGGED,
    Data,
    Position,
    original_weights,
    prior_scale,
)
from grokphase.models.umbrella_cost import (
    PARTICLES,
    PROFILE_NODES,
    ROTATIONS,
    profile_overlaps,
)
from grokphase.parameters import TeacherStudent


class _Copies(NamedTuple):
    """Whitened weights [PARTICLES, d], their exponents log g [PARTICLES], and log Z so far."""

    weights: jax.Array
    exponent: jax.Array
    log_z: jax.Array


def log_profile(
    key: jax.Array, position: Position, parameters: TeacherStudent, data: Data
) -> jax.Array:
    """log Z [PROFILE_NODES] of the tagged neuron up to a constant, at `profile_overlaps`."""
    scale = prior_scale(parameters)
    readout, weights = original_weights(position, parameters)
    along = data.inputs @ data.teacher
    activation = jax.scipy.special.erf(data.inputs @ weights.T)
    rest = data.targets - activation @ readout + readout[TAGGED] * activation[:, TAGGED]

    def exponents(copies: jax.Array, overlap: jax.Array) -> jax.Array:
        """log g [PARTICLES] of whitened weights, whose part along the teacher is left out."""
        across = copies - (copies @ data.teacher)[:, None] * data.teacher
        phi = jax.scipy.special.erf(scale.weights * (across @ data.inputs.T) + overlap * along)
        power = jnp.sum(jnp.square(phi), axis=1)
        zero = jnp.zeros(())
        return collapse(zero, phi @ rest, power, parameters, data.noise).log_density

    def with_forces(copies: jax.Array, overlap: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, pull_back = jax.vjp(lambda v: exponents(v, overlap), copies)
        return values, pull_back(jnp.ones_like(values))[0]

    def move(key: jax.Array, copies: jax.Array, overlap: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A Hamiltonian trajectory of about a quarter turn at fixed overlap, accepted or not.

        Not by the module of that kernel, on which networks of all other kernels would then depend.
        """
        angle_key, momentum_key, accept_key = jax.random.split(key, 3)
        spread = jax.random.uniform(angle_key, minval=0.9, maxval=1.1)
        h = spread * math.pi / 2 / ROTATIONS
        momentum = jax.random.normal(momentum_key, copies.shape)
        start, force = with_forces(copies, overlap)

        def rotation(_: Any, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            v, p, _, force = carry
            p = p + 0.5 * h * force
            v, p = jnp.cos(h) * v + jnp.sin(h) * p, jnp.cos(h) * p - jnp.sin(h) * v
            value, force = with_forces(v, overlap)
            return v, p + 0.5 * h * force, value, force

        carry = (copies, momentum, start, force)
        moved, end_momentum, end, _ = jax.lax.fori_loop(0, ROTATIONS, rotation, carry)
        energy = jnp.sum(
            jnp.square(moved)
            - jnp.square(copies)
            + jnp.square(end_momentum)
            - jnp.square(momentum),
            axis=1,
        )
        log_ratio = end - start - 0.5 * energy
        accept = jnp.log(jax.random.uniform(accept_key, start.shape)) < log_ratio
        return jnp.where(accept[:, None], moved, copies), jnp.where(accept, end, start)

    def next_overlap(
        copies: _Copies, one: tuple[jax.Array, jax.Array]
    ) -> tuple[_Copies, jax.Array]:
        overlap, key = one
        resample_key, move_key = jax.random.split(key)
        log_weight = exponents(copies.weights, overlap) - copies.exponent
        log_z = copies.log_z + jax.nn.logsumexp(log_weight) - math.log(PARTICLES)
        chosen = _resampled(resample_key, log_weight)
        weights, exponent = move(move_key, copies.weights[chosen], overlap)
        return _Copies(weights, exponent, log_z), log_z

    start_key, steps_key = jax.random.split(key)
    prior = jax.random.normal(start_key, (PARTICLES, parameters.input_dim))
    start = _Copies(prior, jnp.zeros(PARTICLES), jnp.zeros(()))
    overlaps = jnp.asarray(profile_overlaps(parameters), jnp.float32)
    keys = jax.random.split(steps_key, PROFILE_NODES)
    return jax.lax.scan(next_overlap, start, (overlaps, keys))[1]


def _resampled(key: jax.Array, log_weight: jax.Array) -> jax.Array:
    """Indices [n] drawn in proportion to the weights [n], systematically (one random number)."""
    count = len(log_weight)
    cumulative = jnp.cumsum(jax.nn.softmax(log_weight))
    draws = (jnp.arange(count) + jax.random.uniform(key)) / count * cumulative[-1]
    return jnp.clip(jnp.searchsorted(cumulative, draws, side="right"), 0, count - 1)


def enter_window(positions: Position, parameters: TeacherStudent, data: Data) -> Position:
    """Where windows begin: the tagged neuron of every network at the centre of its dataset's.

    positions [datasets, networks], data [datasets]; NumPy. The readouts stay: `settle` draws them.
    """
    weights, teacher = np.array(positions.weights), np.asarray(data.teacher)[:, None]
    tagged = weights[:, :, TAGGED]
    wanted = np.asarray(data.centre)[:, None] / prior_scale(parameters).weights
    tagged += (wanted - np.sum(tagged * teacher, axis=-1))[..., None] * teacher
    return positions._replace(weights=weights)
