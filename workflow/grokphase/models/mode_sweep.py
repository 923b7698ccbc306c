"""Collapsed sweep over the Fourier modes of every neuron of the modular-addition network.

Between a free mode and a droplet lies a barrier that trajectories cross rarely, one mode of one
neuron at a time. A sweep visits every neuron and every frequency k = 1 ... (P - 1)/2 once and
chooses w_k and v_k anew, with all readouts, of all neurons, integrated out: given the input weights
the outputs f_p at the trained pairs are independent Gaussian processes with the kernel

    (s^2) sum_i phi_i phi_i^T,   phi_i(n, m) = (w_ni + v_mi)^2,   s^2 = sigma_a^2/N,

so that with G = (s^2 sum_j phi_j phi_j^T + sigma^2)^(-1) of the other neurons

    log p(w_i, v_i | rest) = (s^2/2) sum_p (phi^T G y_p)^2/q - (P/2) log q - |w|^2/2 - |v|^2/2
                             - Gamma(w, v) + constant,      q = 1 + s^2 phi^T G phi.

Other readouts must not be held fixed: they cancel what phi_i contributes outside the target, which
pins the phases of a droplet by some 20 nats.

The candidates for a mode are the current one and independent draws from a fixed density g, half the
prior and half droplets of any phase; one is chosen with probability proportional to p/g. This
leaves the posterior invariant whatever g. At the end all readouts are drawn from their Gaussian.

Pairs are indexed by Fourier modes of both operands, in which a change of w_k and v_k touches 6 P of
the P^2 components of phi. A sweep costs about N (4 P^4 + P (3 P^3 + 18 P^2 CANDIDATES))
multiply-adds and holds P^4 numbers. At P = 17 it is bound by the number of the compiler's small
operations, about forty for a mode of a microsecond each.

Sources: choice among independent candidates: Andrieu, Doucet and Holenstein, J. R. Stat. Soc. B 72,
269 (2010), section 4; Tjelmeland, preprint 4/2004, NTNU Trondheim (2004). Draw of the readouts:
Matheron's rule, Journel and Huijbregts, Mining Geostatistics (1978).
"""

import math
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from grokphase.models.mode_sweep_cost import CANDIDATES
from grokphase.models.modular_addition import Data, ModularNetwork, droplet_power, target_table
from grokphase.parameters import ModularAddition
from grokphase.sampling.sweeps import Swept

DROPLET_WIDTH = 0.12
"""Relative standard deviation of |w_k| among the droplets proposed."""


LARGEST_RESIDUAL = 1e-5
"""Relative error of G that a sweep may leave, in its own norm. It is 2e-6 to 3e-6 at the shipped
parameters (condition number of the kernel 3e2 and less), and differences of log p are then off by
less than 0.02 nats; at 1.4e-5 (1.2e3) by 0.2, at 4e-5 (4e3) by 0.8."""


class Others(NamedTuple):
    """What a neuron sees of the other neurons, on pairs of Fourier modes.

    inverse : G, [P^2, P^2]; it vanishes on pairs that are not trained on.
    fitted : G y_p, [P^2, P (p)].
    """

    inverse: Array
    fitted: Array


@cache
def fourier_basis(prime: int) -> NDArray[np.float32]:
    """Orthonormal real Fourier basis, [P (mode), P (n)]: constant, then cosine and sine of each k.

    A mode has |w_k|^2 = (c^2 + s^2)/(2 P), c and s its coefficients 2 k - 1 and 2 k.
    """
    index = np.arange(prime)
    angle = 2 * np.pi * np.outer((index + 1) // 2, index) / prime
    waves = np.where(index[:, None] % 2, np.cos(angle), np.sin(angle))
    waves[0] = 1
    return (waves / np.linalg.norm(waves, axis=1, keepdims=True)).astype(np.float32)


def features(coefficients: Array) -> Array:
    """phi = (w_n + v_m)^2 on pairs of modes, [..., P^2], from Fourier coefficients [..., 2, P]."""
    prime = coefficients.shape[-1]
    basis = jnp.asarray(fourier_basis(prime))
    # Of a square, times the sqrt(P) of the constant of the other operand.
    squares = math.sqrt(prime) * jnp.square(coefficients @ basis) @ basis.T
    constant = jnp.asarray(np.arange(prime) == 0, coefficients.dtype)
    first, second = jnp.moveaxis(coefficients, -2, 0)
    first_square, second_square = jnp.moveaxis(squares, -2, 0)
    table = (
        2 * first[..., :, None] * second[..., None, :]
        + first_square[..., :, None] * constant
        + second_square[..., None, :] * constant[:, None]
    )
    return table.reshape(*table.shape[:-2], prime**2)


def all_neurons(coefficients: Array, parameters: ModularAddition, data: Data) -> Others:
    """G and G y of all the neurons with Fourier coefficients [N, 2, P]."""
    prime = parameters.prime
    basis = jnp.asarray(fourier_basis(prime))
    both = jnp.kron(basis, basis)
    trained = data.mask.ravel().astype(basis.dtype)
    phi = (features(coefficients) @ both) * trained
    variance = parameters.readout_variance / parameters.width
    kernel = variance * phi.T @ phi + data.noise * jnp.eye(prime**2)
    factor = jax.scipy.linalg.cho_factor(kernel, lower=True)
    inverse = jax.scipy.linalg.cho_solve(factor, jnp.diag(trained))
    target = target_table(prime).reshape(prime**2, prime)
    return Others(both @ inverse @ both.T, both @ (inverse @ target))


def add_neuron(others: Others, phi: Array, variance: float) -> Others:
    """With one more neuron of these features; one less if `variance` is negative."""
    seen = others.inverse @ phi
    share = variance / (1 + variance * phi @ seen)
    return Others(
        others.inverse - share * jnp.outer(seen, seen),
        others.fitted - share * jnp.outer(seen, phi @ others.fitted),
    )


def residual(coefficients: Array, others: Others, parameters: ModularAddition, data: Data) -> Array:
    """Relative error of G K = 1 on G y, for the kernel K of all neurons.

    Every neuron that is visited is taken out of G and put back, in single precision.
    """
    phi = features(coefficients)
    fitted = others.fitted
    variance = parameters.readout_variance / parameters.width
    again = others.inverse @ (variance * phi.T @ (phi @ fitted) + data.noise * fitted)
    return jnp.linalg.norm(again - fitted) / jnp.linalg.norm(fitted)


class Neuron(NamedTuple):
    """A neuron's Fourier coefficients [2, P], phi^T G phi and phi^T G y_p [P] of its features."""

    coefficients: Array
    power: Array
    field: Array


class Candidates(NamedTuple):
    """log p(y | w_i, v_i, rest), less a constant, phi^T G phi and phi^T G y_p; [C], [C], [P, C]."""

    log_likelihood: Array
    power: Array
    field: Array


def monomials(modes: Array, current: Array) -> Array:
    """x, y, x x, y y and x y of the changes x of w_k and y of v_k, [..., 16, C].

    modes, current : coefficients 2 k - 1 and 2 k, [..., 2 (operand), 2, C] and [..., 2, 2].
    """
    x, y = jnp.moveaxis(modes - current[..., None], -3, 0)
    products = [u[..., :, None, :] * v[..., None, :, :] for u, v in ((x, x), (y, y), (x, y))]
    shape = (*x.shape[:-2], 4, x.shape[-1])
    return jnp.concatenate([x, y, *(u.reshape(shape) for u in products)], axis=-2)


def collapse(
    changes: Array, frequency: Array, neuron: Neuron, others: Others, parameters: ModularAddition
) -> Candidates:
    """A neuron with its mode k changed, all readouts integrated out.

    changes : [16, C], see `monomials`.
    """
    variance = parameters.readout_variance / parameters.width
    derivatives = _derivatives(frequency, neuron.coefficients)
    inverse = _touched(frequency, others.inverse)
    linear = derivatives @ (inverse @ features(neuron.coefficients))
    of_inverse, of_fitted = (
        derivatives @ _touched(frequency, x) for x in (inverse.T, others.fitted)
    )
    forms = jnp.concatenate([of_inverse @ derivatives.T, of_fitted], axis=1)
    # Transposed in memory: as an option of the product it would take five times as long.
    products = jax.lax.optimization_barrier(forms.T) @ changes
    power = neuron.power + jnp.sum(changes * (2 * linear[:, None] + products[:16]), axis=0)
    field = neuron.field[:, None] + products[16:]
    log_likelihood = variance / 2 * jnp.sum(jnp.square(field), axis=0) / (
        1 + variance * power
    ) - parameters.prime / 2 * jnp.log1p(variance * power)
    return Candidates(log_likelihood, power, field)


def _rows(frequency: Array) -> Array:
    """Where the coefficients of mode k are, 2 k - 1 and 2 k, [..., 2]."""
    return 2 * jnp.asarray(frequency)[..., None] - 1 + jnp.arange(2)


def _touched(frequency: Array, components: Array) -> Array:
    """Of components [P^2, ...] on pairs of modes those of phi that mode k changes, [6 P, ...].

    They have the mode k as first or as second mode ([2, P] and [P, 2]), or the constant as second
    or as first mode ([P] each). (Slices put together would be as fast where the compiler is given
    much time, but three times slower where it is not: see `ensemble.compiler_options`.)
    """
    prime = math.isqrt(len(components))
    modes, others = _rows(frequency), jnp.arange(prime)
    pairs = [modes[:, None] * prime + others, others[:, None] * prime + modes]
    return components[jnp.concatenate([*(x.ravel() for x in pairs), others * prime, others])]


@cache
def _changes_of_squares(prime: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a change x of mode k adds to the squares of `features`, for every k.

    The first order in x is x_i (linear_i @ coefficients), linear [K, 2, P, P], the second
    x_i x_j quadratic_ij, quadratic [K, 4, P].
    """
    basis = fourier_basis(prime).astype(np.float64)
    waves = basis[1 : 1 + 2 * ((prime - 1) // 2)].reshape(-1, 2, prime)
    linear = 2 * math.sqrt(prime) * np.einsum("an,kin,bn->kiab", basis, waves, basis)
    quadratic = math.sqrt(prime) * np.einsum("an,kin,kjn->kija", basis, waves, waves)
    return linear.astype(np.float32), quadratic.reshape(-1, 4, prime).astype(np.float32)


def _derivatives(frequency: Array, coefficients: Array) -> Array:
    """Change of phi for each of the `monomials`, in the components of `_touched`, [16, 6 P]."""
    prime = coefficients.shape[-1]
    linear, quadratic = (jnp.asarray(x)[frequency - 1] for x in _changes_of_squares(prime))
    # One operand at a time: a product with both, of two columns, would take ten times as long.
    of_squares = [linear @ operand for operand in coefficients]
    unit = jnp.eye(2)
    first, second = 2 * coefficients
    is_mode = jax.nn.one_hot(_rows(frequency), prime)

    def at(before: int, values: Array) -> Array:
        """Values [rows, ...] of components that follow `before` times P others, zero elsewhere."""
        values = values.reshape(-1, values.size // len(values))
        after = 6 * prime - before * prime - values.shape[1]
        return jnp.pad(values, ((0, 0), (before * prime, after)))

    return jnp.concatenate(
        [
            at(0, unit[:, :, None] * second) + at(4, of_squares[0]),
            at(2, unit[:, None, :] * first[:, None]) + at(5, of_squares[1]),
            at(4, quadratic),
            at(5, quadratic),
            at(0, (2 * unit[:, None, :, None] * is_mode[:, None]).reshape(4, 2 * prime)),
        ]
    )


def log_prior(modes: Array, parameters: ModularAddition) -> Array:
    """Log prior, with its decay Gamma, of modes [..., 2 (operand), 2, C], less a constant."""
    prime = parameters.prime
    squares = jnp.sum(jnp.square(modes), axis=-2)
    decay = prime * parameters.sextic_decay / 3 * (squares / (2 * prime)) ** 3
    return -jnp.sum(squares / 2 + decay, axis=-2)


def log_proposal(modes: Array, parameters: ModularAddition) -> Array:
    """log g of modes [..., 2 (operand), 2, C]: half N(0, 1), half droplets of uniform phase.

    The radius r of a droplet in the plane is |x|, x ~ N(r_0, (DROPLET_WIDTH r_0)^2).
    """
    centre = droplet_radius(parameters)
    width = DROPLET_WIDTH * centre
    square = jnp.sum(jnp.square(modes), axis=-2)
    radius = jnp.sqrt(square)
    folded = jnp.logaddexp(
        -(((radius - centre) / width) ** 2) / 2, -(((radius + centre) / width) ** 2) / 2
    )
    droplet = folded - jnp.log(radius) - math.log(width * (2 * math.pi) ** 1.5)
    free = -square / 2 - math.log(2 * math.pi)
    return jnp.logaddexp(free.sum(axis=-2), droplet.sum(axis=-2)) - math.log(2)


def propose(key: Array, shape: tuple[int, ...], parameters: ModularAddition) -> Array:
    """CANDIDATES independent draws from g for each of `shape`, [*shape, 2 (operand), 2, C]."""
    normal_key, kind_key = jax.random.split(key)
    normal = jax.random.normal(normal_key, (*shape, 2, 3, CANDIDATES))
    free, spread = normal[..., :2, :], 1 + DROPLET_WIDTH * normal[..., 2:, :]
    direction = free / jnp.linalg.norm(free, axis=-2, keepdims=True)
    droplet = droplet_radius(parameters) * spread * direction
    is_droplet = jax.random.bernoulli(kind_key, shape=(*shape, 1, 1, CANDIDATES))
    return jnp.where(is_droplet, droplet, free)


def droplet_radius(parameters: ModularAddition) -> float:
    """sqrt(c^2 + s^2) of a mode with |w_k|^2 = sqrt(3/gamma)."""
    return math.sqrt(2 * parameters.prime * droplet_power(parameters))


def draw_readouts(
    key: Array, coefficients: Array, others: Others, parameters: ModularAddition, data: Data
) -> Array:
    """Whitened readouts from their Gaussian posterior given all input weights, [N, P].

    others : G and G y of all neurons.
    """
    prime = parameters.prime
    phi = features(coefficients) * (parameters.readout_variance / parameters.width) ** 0.5
    normal = jax.random.normal(key, (parameters.width + prime**2, prime))
    prior, noise = normal[: parameters.width], jnp.sqrt(data.noise) * normal[parameters.width :]
    return prior + phi @ (others.fitted - others.inverse @ (phi.T @ prior + noise))


def sweep(key: Array, position: ModularNetwork, parameters: ModularAddition, data: Data) -> Swept:
    """Visit every mode of every neuron once, in random order within a neuron.

    The share of changes is nan if G has lost its precision (LARGEST_RESIDUAL).
    """
    prime = parameters.prime
    frequencies = (prime - 1) // 2
    variance = parameters.readout_variance / parameters.width
    basis = jnp.asarray(fourier_basis(prime))
    coefficients = jnp.stack([position.first, position.second], axis=1) @ basis.T
    # For cumulative sums in one product; jnp.cumsum takes a dozen small operations.
    sums = jnp.triu(jnp.ones((CANDIDATES + 1, CANDIDATES + 1)))

    def visit(others: Others, one: tuple[Array, ...]) -> tuple[Others, Any]:
        coefficients, order, modes, log_ratio, uniform = one
        phi = features(coefficients)
        others = add_neuron(others, phi, -variance)

        def choose(neuron: Neuron, one: tuple[Array, ...]) -> tuple[Neuron, Array]:
            frequency, modes, changes, log_ratio, uniform = one
            found = collapse(changes, frequency, neuron, others, parameters)
            log_weight = found.log_likelihood + log_ratio
            cumulative = jnp.exp(log_weight - log_weight.max()) @ sums
            choice = jnp.sum(cumulative < uniform * cumulative[-1])
            coefficients = jax.lax.dynamic_update_slice_in_dim(
                neuron.coefficients, modes[..., choice], 2 * frequency - 1, axis=1
            )
            return Neuron(coefficients, found.power[choice], found.field[:, choice]), choice > 0

        neuron = Neuron(coefficients, phi @ (others.inverse @ phi), phi @ others.fitted)
        changes = monomials(modes, modes[..., 0])
        neuron, changed = jax.lax.scan(choose, neuron, (order, modes, changes, log_ratio, uniform))
        others = add_neuron(others, features(neuron.coefficients), variance)
        return others, (neuron.coefficients, changed.mean())

    mode_key, choice_key, readout_key = jax.random.split(key, 3)
    shape = (parameters.width, frequencies)
    for_order, for_choice = jax.random.uniform(choice_key, (2, *shape))
    order = 1 + jnp.argsort(for_order, axis=1)
    current = jnp.take_along_axis(coefficients[:, None], _rows(order)[:, :, None], axis=-1)
    modes = jnp.concatenate([current[..., None], propose(mode_key, shape, parameters)], axis=-1)
    others, (coefficients, changed) = jax.lax.scan(
        visit,
        all_neurons(coefficients, parameters, data),
        (
            coefficients,
            order,
            modes,
            log_prior(modes, parameters) - log_proposal(modes, parameters),
            for_choice,
        ),
    )
    readout = draw_readouts(readout_key, coefficients, others, parameters, data)
    is_precise = residual(coefficients, others, parameters, data) < LARGEST_RESIDUAL
    first, second = jnp.moveaxis(coefficients @ basis, 1, 0)
    return Swept(
        ModularNetwork(readout, first, second), jnp.where(is_precise, changed.mean(), jnp.nan)
    )
