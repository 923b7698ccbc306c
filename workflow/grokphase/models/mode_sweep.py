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
multiply-adds and holds P^4 numbers.

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


def features(first: Array, second: Array) -> Array:
    """phi = (w_n + v_m)^2 on pairs of modes, [..., P^2], from Fourier coefficients [..., P]."""
    prime = first.shape[-1]
    table = 2 * first[..., :, None] * second[..., None, :]
    table = table.at[..., :, 0].add(_square(first)).at[..., 0, :].add(_square(second))
    return table.reshape(*table.shape[:-2], prime**2)


def _square(coefficients: Array) -> Array:
    """Coefficients of w_n^2, times the sqrt(P) of the constant of the other operand."""
    prime = coefficients.shape[-1]
    basis = jnp.asarray(fourier_basis(prime), coefficients.dtype)
    return math.sqrt(prime) * (coefficients @ basis) ** 2 @ basis.T


def all_neurons(first: Array, second: Array, parameters: ModularAddition, data: Data) -> Others:
    """G and G y of all the neurons with Fourier coefficients [N, P]."""
    prime = parameters.prime
    basis = jnp.asarray(fourier_basis(prime))
    both = jnp.kron(basis, basis)
    trained = data.mask.ravel().astype(basis.dtype)
    phi = (features(first, second) @ both) * trained
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


def residual(
    first: Array, second: Array, others: Others, parameters: ModularAddition, data: Data
) -> Array:
    """Relative error of G K = 1 on G y, for the kernel K of all neurons.

    Every neuron that is visited is taken out of G and put back, in single precision.
    """
    phi = features(first, second)
    fitted = others.fitted
    variance = parameters.readout_variance / parameters.width
    again = others.inverse @ (variance * phi.T @ (phi @ fitted) + data.noise * fitted)
    return jnp.linalg.norm(again - fitted) / jnp.linalg.norm(fitted)


class Neuron(NamedTuple):
    """Fourier coefficients [P] of a neuron, phi^T G phi and phi^T G y_p [P] of its features."""

    first: Array
    second: Array
    power: Array
    field: Array


class Candidates(NamedTuple):
    """log p(w_i, v_i | rest), less a constant, phi^T G phi and phi^T G y_p, [C], [C], [C, P]."""

    log_density: Array
    power: Array
    field: Array


def collapse(
    modes: Array, frequency: Array, neuron: Neuron, others: Others, parameters: ModularAddition
) -> Candidates:
    """A neuron with its mode k at these values, all readouts integrated out.

    modes : [C, 2 (operand), 2], Fourier coefficients 2 k - 1 and 2 k.
    """
    prime = parameters.prime
    variance = parameters.readout_variance / parameters.width
    rows, columns = 2 * frequency - 1 + jnp.arange(2), jnp.arange(prime)
    touched = jnp.concatenate(
        [
            (rows[:, None] * prime + columns).ravel(),
            (rows[:, None] + columns * prime).ravel(),
            columns * prime,
            columns,
        ]
    )
    derivatives = _derivatives(rows, neuron)
    phi = features(neuron.first, neuron.second)
    inverse = others.inverse[touched]
    linear = derivatives @ (inverse @ phi)
    quadratic = derivatives @ inverse[:, touched] @ derivatives.T
    fitted = derivatives @ others.fitted[touched]

    first, second = modes[:, 0] - neuron.first[rows], modes[:, 1] - neuron.second[rows]
    pairs = ((first, first), (second, second), (first, second))
    products = [(x[:, :, None] * y[:, None, :]).reshape(-1, 4) for x, y in pairs]
    monomials = jnp.concatenate([first, second, *products], axis=1)
    power = neuron.power + jnp.sum(monomials * (2 * linear + monomials @ quadratic), axis=1)
    field = neuron.field + monomials @ fitted
    squares = jnp.sum(modes**2, axis=2)
    decay = prime * parameters.sextic_decay / 3 * (squares / (2 * prime)) ** 3
    log_density = (
        variance / 2 * jnp.sum(field**2, axis=1) / (1 + variance * power)
        - prime / 2 * jnp.log1p(variance * power)
        - jnp.sum(squares / 2 + decay, axis=1)
    )
    return Candidates(log_density, power, field)


def _derivatives(rows: Array, neuron: Neuron) -> Array:
    """Coefficients of the change of phi, as a polynomial of those of w_k and v_k, [16, 6 P].

    The monomials are x, y, x x, y y and x y, of the two components of the changes x of the first
    and y of the second operand. The components of phi are those with first mode in `rows`, with
    second mode in `rows`, with the constant as second and with the constant as first mode.
    """
    prime = len(neuron.first)
    basis = jnp.asarray(fourier_basis(prime), neuron.first.dtype)
    waves = basis[rows]

    def of_one_operand(values: Array) -> Array:
        return math.sqrt(prime) * values @ basis.T

    table = jnp.zeros((16, 6, prime))
    for i in range(2):
        table = table.at[i, i].set(2 * neuron.second).at[2 + i, 2 + i].set(2 * neuron.first)
        table = table.at[12 + 2 * i : 14 + 2 * i, i].set(2 * jax.nn.one_hot(rows, prime))
    products = of_one_operand((waves[:, None] * waves).reshape(4, prime))
    table = table.at[:2, 4].set(of_one_operand(2 * waves * (neuron.first @ basis)))
    table = table.at[2:4, 5].set(of_one_operand(2 * waves * (neuron.second @ basis)))
    return table.at[4:8, 4].set(products).at[8:12, 5].set(products).reshape(16, 6 * prime)


def log_proposal(modes: Array, parameters: ModularAddition) -> Array:
    """log g of modes [..., 2 (operand), 2]: half N(0, 1), half droplets of uniform phase.

    The radius r of a droplet in the plane is |x|, x ~ N(r_0, (DROPLET_WIDTH r_0)^2).
    """
    centre = droplet_radius(parameters)
    width = DROPLET_WIDTH * centre
    square = jnp.sum(modes**2, axis=-1)
    radius = jnp.sqrt(square)
    folded = jnp.logaddexp(
        -(((radius - centre) / width) ** 2) / 2, -(((radius + centre) / width) ** 2) / 2
    )
    droplet = folded - jnp.log(radius) - math.log(width * (2 * math.pi) ** 1.5)
    free = -square / 2 - math.log(2 * math.pi)
    return jnp.logaddexp(free.sum(axis=-1), droplet.sum(axis=-1)) - math.log(2)


def propose(key: Array, shape: tuple[int, ...], parameters: ModularAddition) -> Array:
    """Independent draws from g, [*shape, 2 (operand), 2]."""
    normal_key, kind_key = jax.random.split(key)
    normal = jax.random.normal(normal_key, (*shape, 2, 3))
    free, spread = normal[..., :2], 1 + DROPLET_WIDTH * normal[..., 2:]
    direction = free / jnp.linalg.norm(free, axis=-1, keepdims=True)
    droplet = droplet_radius(parameters) * spread * direction
    is_droplet = jax.random.bernoulli(kind_key, shape=(*shape, 1, 1))
    return jnp.where(is_droplet, droplet, free)


def droplet_radius(parameters: ModularAddition) -> float:
    """sqrt(c^2 + s^2) of a mode with |w_k|^2 = sqrt(3/gamma)."""
    return math.sqrt(2 * parameters.prime * droplet_power(parameters))


def draw_readouts(
    key: Array, first: Array, second: Array, others: Others, parameters: ModularAddition, data: Data
) -> Array:
    """Whitened readouts from their Gaussian posterior given all input weights, [N, P].

    others : G and G y of all neurons.
    """
    prime = parameters.prime
    phi = features(first, second) * (parameters.readout_variance / parameters.width) ** 0.5
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
    first, second = position.first @ basis.T, position.second @ basis.T

    def visit(others: Others, one: tuple[Array, ...]) -> tuple[Others, Any]:
        first, second, *of_modes = one
        phi = features(first, second)
        others = add_neuron(others, phi, -variance)

        def choose(neuron: Neuron, one: tuple[Array, ...]) -> tuple[Neuron, Array]:
            frequency, proposed, log_proposed, uniform = one
            rows = 2 * frequency - 1 + jnp.arange(2)
            current = jnp.stack([neuron.first[rows], neuron.second[rows]])
            modes = jnp.concatenate([current[None], proposed])
            found = collapse(modes, frequency, neuron, others, parameters)
            log_current = log_proposal(current, parameters)
            log_weight = found.log_density - jnp.append(log_current, log_proposed)
            cumulative = jnp.cumsum(jnp.exp(log_weight - log_weight.max()))
            choice = jnp.sum(cumulative < uniform * cumulative[-1])
            neuron = Neuron(
                neuron.first.at[rows].set(modes[choice, 0]),
                neuron.second.at[rows].set(modes[choice, 1]),
                found.power[choice],
                found.field[choice],
            )
            return neuron, choice > 0

        neuron = Neuron(first, second, phi @ (others.inverse @ phi), phi @ others.fitted)
        neuron, changed = jax.lax.scan(choose, neuron, tuple(of_modes))
        others = add_neuron(others, features(neuron.first, neuron.second), variance)
        return others, (neuron.first, neuron.second, changed.mean())

    order_key, mode_key, choice_key, readout_key = jax.random.split(key, 4)
    shape = (parameters.width, frequencies)
    order = jax.random.permutation(
        order_key, jnp.broadcast_to(1 + jnp.arange(frequencies), shape), axis=1, independent=True
    )
    proposed = propose(mode_key, (*shape, CANDIDATES), parameters)
    others, (first, second, changed) = jax.lax.scan(
        visit,
        all_neurons(first, second, parameters, data),
        (
            first,
            second,
            order,
            proposed,
            log_proposal(proposed, parameters),
            jax.random.uniform(choice_key, shape),
        ),
    )
    readout = draw_readouts(readout_key, first, second, others, parameters, data)
    is_precise = residual(first, second, others, parameters, data) < LARGEST_RESIDUAL
    return Swept(
        ModularNetwork(readout, first @ basis, second @ basis),
        jnp.where(is_precise, changed.mean(), jnp.nan),
    )
