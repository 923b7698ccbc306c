"""Modular addition with the readouts integrated out: dynamics of the input weights alone.

Given the input weights the readouts are Gaussian, with the same precision for every output p, and
the likelihood of the input weights alone is, up to a constant,

    Phi(W) = (P/2) log det B - s^2/(2 sigma^2) sum_p C_p.B^{-1} C_p,     B = I + s^2 G,
    s^2 = sigma_a^2/(N sigma^2),   G = phi^T phi [N, N],   C_p = phi^T y_p [N],

phi the features (w_n + v_m)^2 of all pairs. Its gradient is that of the loss averaged over the
readouts, with <a a^T> = mean mean^T + P sigma^2 s^2 B^{-1}. A grokked network's readouts are stiff
(at P = 401, N = 1000 a joint step is limited to 0.0015), its input weights are not: without the
readouts steps of 0.08 are taken.

A step of the wrapped kernel moves the input weights by a kernel on Phi and then draws the readouts
from their Gaussian, so the joint posterior is invariant.

Source: collapsed and partially collapsed Gibbs sampling, van Dyk and Park, J. Am. Stat. Assoc. 103,
790 (2008); Gaussian-process evidence, Rasmussen and Williams (2006), section 2.7.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from grokphase.models import modular_addition as model
from grokphase.models.modular_addition import HIGHEST, Data, ModularNetwork
from grokphase.parameters import ModularAddition
from grokphase.sampling.kernels import Info, Kernel, State, Target


class InputWeights(NamedTuple):
    """Weights of both operands, [N, P] each."""

    first: Array
    second: Array


class ReadoutPosterior(NamedTuple):
    """Gaussian of the readouts given the input weights, in original coordinates.

    mean : [N, P].
    covariance : [N, N], (sigma_a^2/N) B^{-1}, the same for every output.
    factor : [N, N], lower Cholesky factor of B.
    """

    mean: Array
    covariance: Array
    factor: Array


def features(weights: InputWeights) -> tuple[Array, Array]:
    """G [N, N] and C [N, P]."""
    return model.feature_gram(*weights), model.feature_target(*weights)


def readout_posterior(
    gram: Array, on_target: Array, parameters: ModularAddition, noise: Array
) -> ReadoutPosterior:
    """The Gaussian of the readouts from G and C."""
    variance = parameters.readout_variance / parameters.width
    one = jnp.eye(parameters.width)
    factor = jnp.linalg.cholesky(one + variance / noise * gram)
    covariance = variance * jax.scipy.linalg.cho_solve((factor, True), one)
    mean = jnp.matmul(covariance, on_target, precision=HIGHEST) / noise
    return ReadoutPosterior(mean, covariance, factor)


def target(parameters: ModularAddition, data: Data) -> Target:
    """The posterior of the input weights, with potential Phi + Gamma and its exact gradient.

    The potential of weights that are zero is zero.
    """
    noise = data.noise

    def decay(weights: InputWeights) -> Array:
        return model.sextic_penalty(*weights, parameters.sextic_decay)

    def potential_and_gradient(weights: InputWeights) -> tuple[Array, InputWeights]:
        gram, pull_gram = model.gram_and_pullback(*weights)
        on_target, pull_target = jax.vjp(model.feature_target, *weights)
        mean, covariance, factor = readout_posterior(gram, on_target, parameters, noise)
        second_moment = jnp.matmul(mean, mean.T, precision=HIGHEST) + parameters.prime * covariance
        of_gram = InputWeights(*pull_gram(second_moment / (2 * noise)))
        of_target = InputWeights(*pull_target(-mean / noise))
        log_determinant = 2 * jnp.log(jnp.diagonal(factor)).sum()
        explained = jnp.vdot(on_target, mean) / noise
        penalty, of_decay = jax.value_and_grad(decay)(weights)
        value = 0.5 * (parameters.prime * log_determinant - explained) + penalty
        return value, jax.tree.map(lambda *x: sum(x), of_gram, of_target, of_decay)

    return Target(potential_and_gradient, InputWeights(jnp.ones(()), jnp.ones(())), noise)


def draw_readout(
    key: Array, weights: InputWeights, parameters: ModularAddition, noise: Array
) -> Array:
    """A draw of the whitened readouts [N, P] from their posterior given the input weights."""
    mean, _, factor = readout_posterior(*features(weights), parameters, noise)
    fluctuation = jax.scipy.linalg.solve_triangular(
        factor, jax.random.normal(key, mean.shape), lower=True, trans=1
    )
    return mean / (parameters.readout_variance / parameters.width) ** 0.5 + fluctuation


def with_collapsed_readout(
    build: Callable[[Target], Kernel], parameters: ModularAddition, data: Data
) -> Kernel:
    """The kernel that `build` makes for the input weights alone, then a draw of the readouts.

    Positions and potentials of its states are those of whole networks; in place of a gradient they
    hold potential and gradient of the input weights alone, which new readouts leave as they are.
    """
    inner = build(target(parameters, data))
    whole = model.target(parameters, data)

    def with_readout(readout: Array, inner_state: State) -> State:
        position = ModularNetwork(readout, *inner_state.position)
        # The compiler leaves out the gradient.
        return State(position, whole.potential_and_gradient(position)[0], inner_state[1:])

    def init(position: ModularNetwork) -> State:
        weights = InputWeights(position.first, position.second)
        return with_readout(position.readout, inner.init(weights))

    def step(key: Array, state: State) -> tuple[State, Info]:
        step_key, readout_key = jax.random.split(key)
        weights = InputWeights(state.position.first, state.position.second)
        moved, info = inner.step(step_key, State(weights, *state.gradient))
        readout = draw_readout(readout_key, moved.position, parameters, data.noise)
        return with_readout(readout, moved), info

    return Kernel(init, step)
