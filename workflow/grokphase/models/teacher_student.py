"""The teacher-student network: an erf network with one hidden layer learning a cubic teacher.

    y(x) = He_1(z) + eps He_3(z),  z = w*.x,       f(x) = sum_i a_i erf(w_i.x)

Positions are whitened: a_i = sqrt(sigma_a^2/N) alpha_i and w_i = sqrt(sigma_w^2/d) v_i, so that the
prior of every coordinate is N(0, 1). Overlaps with the teacher and the population test loss are
closed-form functions of the weights for Gaussian inputs; no test set is drawn.

Sources: preprint (arXiv:2310.03789v1) sections 2.1, 2.3 and appendix A.4; Saad and Solla,
Phys. Rev. E 52, 4225 (1995) for the arcsine.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from grokphase.datasets import Dataset
from grokphase.parameters import TeacherStudent
from grokphase.sampling import ensemble, tree
from grokphase.sampling.kernels import Target
from grokphase.specifications.training import PlantedStart

COUNTING = ensemble.OVERLAPS
DROPLET_OVERLAP = 0.5

_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)


class Position(NamedTuple):
    """Whitened weights: readout [N], weights [N, d]."""

    readout: Any
    weights: Any


class Data(NamedTuple):
    """inputs [n, d], targets [n], teacher [d] (unit norm), noise sigma^2 and eps (scalars).

    What differs between the points of a sweep is data, so that one compiled program serves all.
    """

    inputs: jax.Array
    targets: jax.Array
    teacher: jax.Array
    noise: jax.Array
    cubic_strength: jax.Array


def targets(
    inputs: NDArray[np.floating], teacher: NDArray[np.floating], cubic_strength: float
) -> NDArray[np.float64]:
    """Teacher values y [n] = He_1(z) + eps He_3(z), z = inputs @ teacher, in float64."""
    z = inputs.astype(np.float64) @ teacher.astype(np.float64)
    return z + cubic_strength * (z**3 - 3 * z)


def load_data(parameters: TeacherStudent, dataset: Dataset) -> Data:
    """The training set of one dataset at the noise and cubic strength of `parameters`, float32."""
    return Data(
        inputs=jnp.asarray(dataset.inputs, jnp.float32),
        targets=jnp.asarray(
            targets(dataset.inputs, dataset.teacher, parameters.cubic_strength), jnp.float32
        ),
        teacher=jnp.asarray(dataset.teacher, jnp.float32),
        noise=jnp.asarray(parameters.noise, jnp.float32),
        cubic_strength=jnp.asarray(parameters.cubic_strength, jnp.float32),
    )


def control_variates(data: Data) -> NDArray[np.float64]:
    """Statistics [2] of the training set that are zero in the population.

    mean z^2 - 1 and mean z He_3(z): by how much the sample breaks the orthonormality of the
    teacher's components. They decide most of the difference between datasets in what is learned.
    """
    z = np.asarray(data.inputs, np.float64) @ np.asarray(data.teacher, np.float64)
    return np.array([np.mean(z**2) - 1, np.mean(z * (z**3 - 3 * z))])


def work_per_gradient(parameters: TeacherStudent) -> float:
    """Multiply-adds of one gradient: its two matrix products."""
    return 2.0 * parameters.train_size * parameters.width * parameters.input_dim


def prior_scale(parameters: TeacherStudent) -> Position:
    """Prior standard deviations (sqrt(sigma_a^2/N), sqrt(sigma_w^2/d)) of the original weights."""
    return Position(
        math.sqrt(parameters.readout_variance / parameters.width),
        math.sqrt(parameters.weight_variance / parameters.input_dim),
    )


def original_weights(position: Position, parameters: TeacherStudent) -> Position:
    """The weights (a [N], W [N, d]) of a whitened position."""
    return jax.tree.map(lambda x, scale: scale * x, position, prior_scale(parameters))


def target(parameters: TeacherStudent, data: Data) -> Target:
    """The posterior: potential Phi = L/noise, L = 1/2 sum (f - y)^2, with its exact gradient.

    The gradient shares the erf pass with the potential and costs two matrix products,
    W @ inputs^T [N, n] and its transpose.
    """
    scale = prior_scale(parameters)

    def potential_and_gradient(position: Position) -> tuple[jax.Array, Position]:
        readout = scale.readout * position.readout
        preactivation = scale.weights * (position.weights @ data.inputs.T)
        activation = jax.scipy.special.erf(preactivation)
        residual = readout @ activation - data.targets
        scaled_residual = residual / data.noise
        slope = scaled_residual * jnp.exp(-jnp.square(preactivation))
        weight_factor = (_TWO_OVER_ROOT_PI * scale.weights) * readout
        return 0.5 * jnp.vdot(residual, scaled_residual), Position(
            scale.readout * (activation @ scaled_residual),
            weight_factor[:, None] * (slope @ data.inputs),
        )

    return Target(potential_and_gradient, scale, data.noise)


def start(
    key: jax.Array, kind: str, parameters: TeacherStudent, data: Data, planted: PlantedStart
) -> Position:
    """A starting position: a draw from the prior, or that with planted droplets.

    A planted start sets the overlap of a fraction of the neurons to +-q (random signs) and their
    whitened readout to the same sign, so that each supports the teacher.
    """
    width = parameters.width
    prior_key, sign_key = jax.random.split(key)
    zero = Position(jnp.zeros(width), jnp.zeros((width, parameters.input_dim)))
    position = tree.standard_normal(prior_key, zero)
    if kind == "prior":
        return position
    sign = jnp.sign(jax.random.normal(sign_key, (width,)))
    is_planted = jnp.arange(width) < round(planted.fraction * width)
    along = position.weights @ data.teacher
    wanted = sign * planted.overlap / prior_scale(parameters).weights
    shift = jnp.where(is_planted, wanted - along, 0.0)
    return Position(
        jnp.where(is_planted, sign * planted.readout, position.readout),
        position.weights + shift[:, None] * data.teacher,
    )


def overlaps(position: Position, parameters: TeacherStudent, data: Data) -> jax.Array:
    """The order parameter q_i = w_i.w* of every neuron [N]."""
    return prior_scale(parameters).weights * (position.weights @ data.teacher)


order_parameters = overlaps


def observables(
    position: Position, potential: jax.Array, parameters: TeacherStudent, data: Data
) -> jax.Array:
    """The scalars [7] listed in grokphase.tables.observables, invariant under neuron symmetries.

    linear_overlap       f.H1 = E[f He_1]            (teacher value 1)
    cubic_overlap        f.H3 = E[f He_3]/6          (teacher value eps)
    mean_square_overlap  mean q^2 in units of its prior value sigma_w^2/d
    droplet_fraction     share of neurons with |q| > 0.5
    weight_norm          mean square of the whitened input weights (prior value 1)
    train_loss           mean (f - y)^2 over the training set
    test_loss            E[(f - y)^2] over the population
    """
    readout, weights = original_weights(position, parameters)
    q = weights @ data.teacher
    stretch = 1 + 2 * jnp.sum(jnp.square(weights), axis=1)
    linear = jnp.sum(readout * _TWO_OVER_ROOT_PI * q * stretch**-0.5)
    cubic = jnp.sum(readout * -2 * _TWO_OVER_ROOT_PI * q**3 * stretch**-1.5) / 6
    unit = stretch**-0.5
    cosine = 2 * (weights @ weights.T) * unit[:, None] * unit[None, :]
    output_power = (2 / math.pi) * (readout @ (jnp.arcsin(jnp.clip(cosine, -1, 1)) @ readout))
    eps = data.cubic_strength
    return jnp.stack(
        [
            linear,
            cubic,
            jnp.mean(q**2) * parameters.input_dim / parameters.weight_variance,
            jnp.mean(jnp.abs(q) > DROPLET_OVERLAP),
            jnp.mean(jnp.square(position.weights)),
            2 * potential * data.noise / parameters.train_size,
            output_power - 2 * (linear + 6 * eps * cubic) + 1 + 6 * eps**2,
        ]
    )


def saved(start: Position, end: Position, parameters: TeacherStudent) -> dict[str, Any]:
    """Weights kept in the shard: none."""
    return {}
