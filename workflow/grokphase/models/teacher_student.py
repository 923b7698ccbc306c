"""The teacher-student network: an erf network with one hidden layer learning a cubic teacher.

    y(x) = He_1(z) + eps He_3(z),  z = w*.x,       f(x) = sum_i a_i erf(w_i.x)

Positions are whitened: a_i = sqrt(sigma_a^2/N) alpha_i and w_i = sqrt(sigma_w^2/d) v_i, so that the
prior of every coordinate is N(0, 1). Overlaps with the teacher and the population test loss are
closed-form functions of the weights for Gaussian inputs; no test set is drawn.

Sources: preprint (arXiv:2310.03789v1) sections 2.1, 2.3 and appendix A.4; Saad and Solla,
Phys. Rev. E 52, 4225 (1995) for the arcsine.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from grokphase.datasets import Dataset
from grokphase.parameters import TeacherStudent
from grokphase.processor import multiplies_bfloat16
from grokphase.sampling import ensemble
from grokphase.sampling.kernels import State, Target
from grokphase.sampling.random_keys import fold_in_name, generator
from grokphase.specifications.training import PlantedStart

COUNTING = ensemble.OVERLAPS
DROPLET_OVERLAP = 0.5

DROPLET_EDGE = 0.05
"""Width in q^2 of the smooth step that stands for a droplet among the trial functions."""

PARAMETERS_IN_DATA = ("noise", "cubic_strength")
"""Parameters that are data to the compiled programs, which are the same for all their values."""

TAGGED = -1
"""The neuron that a spring may hold: the last, which no start plants unless it plants all."""

LEAST_INPUTS = 100
"""Training points from which on control variates are recorded. Exact posteriors of one neuron, ten
datasets, root mean square errors of f.H1 and of mean q^2 with their regression, the standard errors
that it quotes, and the errors without:

    n      d     with              quoted            without
    5      2     0.24    0.96      0.25    0.83      0.079   0.15
    20     1     0.021   0.139     0.012   0.070     0.041   0.082
    100    1     0.0029  0.030     0.0028  0.022     0.017   0.050
    600    1     0.0010  0.0096    0.0010  0.0087    0.0068  0.021

At twenty inputs they are both too large and quoted as half of what they are.
"""

BLOCK_ELEMENTS = 2**18
"""Preactivations of one block of training points: 1 MiB in float32, which stays in cache.

At d=150, N=700, n=3000 a gradient takes 1.25 times its two matrix products with blocks, 1.45 times
without, and at d=212, N=1400, n=6000 1.1 against 1.6 (`benchmarks/step.py`); between 2^17 and 2^19
the size hardly matters.
"""

ARRAYS_OF_PREACTIVATIONS = 4.0
"""Arrays of the size of the preactivations that a network takes on an accelerator: the
preactivations, the activations, their derivative and the slope; reckoned, not measured."""

_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)
_ROUGH_ERF = (1.12647494, -0.366447927, 0.0984673198, -0.0172222135, 1.70789369e-3, -7.17428779e-5)
_ROUGH_ERF_LIMIT = 2.4
_ARCSIN_COEFFICIENTS = (
    4.2163199048e-2,
    2.4181311049e-2,
    4.5470025998e-2,
    7.4953002686e-2,
    1.6666752422e-1,
)


class Position(NamedTuple):
    """Whitened weights: readout [N], weights [N, d]."""

    readout: Any
    weights: Any


class Data(NamedTuple):
    """inputs [n, d], targets [n], teacher [d] (unit norm), noise sigma^2 and eps (scalars).

    centre, stiffness : of the spring on the overlap of the tagged neuron; see `spring_energy`.

    What differs between the points of a sweep is data, so that one compiled program serves all.
    """

    inputs: Any
    targets: Any
    teacher: Any
    noise: Any
    cubic_strength: Any
    centre: Any = 0.0
    stiffness: Any = 0.0


class Forward(NamedTuple):
    """What a network computes: preactivations w_i.x [N, n] and residual y - f [n]."""

    preactivation: jax.Array
    residual: jax.Array


def targets(
    inputs: NDArray[np.floating], teacher: NDArray[np.floating], cubic_strength: float
) -> NDArray[np.float64]:
    """Teacher values y [n] = He_1(z) + eps He_3(z), z = inputs @ teacher, in float64."""
    z = inputs.astype(np.float64) @ teacher.astype(np.float64)
    return z + cubic_strength * (z**3 - 3 * z)


def load_data(parameters: TeacherStudent, dataset: Dataset) -> Data:
    """The training set of one dataset at the noise and cubic strength of `parameters`, float32."""
    values = Data(
        inputs=dataset.inputs,
        targets=targets(dataset.inputs, dataset.teacher, parameters.cubic_strength),
        teacher=dataset.teacher,
        noise=parameters.noise,
        cubic_strength=parameters.cubic_strength,
    )
    # jnp.asarray would compile a program for each shape.
    return Data(*jax.device_put([np.asarray(x, np.float32) for x in values]))


def control_variates(data: Data) -> NDArray[np.float64]:
    """Statistics [3] of the training set that are zero in the population; none if it is small.

    mean z^2 - 1, mean z He_3(z) and mean He_3(z)^2/6 - 1: by how much the sample breaks the
    orthonormality of the teacher's components. The first two decide most of the difference between
    datasets in what is learned, the last most of that in the tail of p(q).

    Regression on them takes what is learned for linear in them. With fewer inputs than LEAST_INPUTS
    they are too large for that.
    """
    if len(data.inputs) < LEAST_INPUTS:
        return np.zeros(0)
    z = np.asarray(data.inputs, np.float64) @ np.asarray(data.teacher, np.float64)
    cubic = z**3 - 3 * z
    return np.array([np.mean(z**2) - 1, np.mean(z * cubic), np.mean(cubic**2) / 6 - 1])


def work_per_gradient(parameters: TeacherStudent) -> float:
    """Multiply-adds of one gradient: its two matrix products."""
    return 2.0 * parameters.train_size * parameters.width * parameters.input_dim


def bytes_per_network(parameters: TeacherStudent) -> float:
    """Memory of a network on an accelerator, where its preactivations are held whole."""
    return 4.0 * ARRAYS_OF_PREACTIVATIONS * parameters.train_size * parameters.width


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

    If the data hold a neuron by a spring, its energy is part of Phi (`spring_energy`).

    Costs two matrix products, inputs @ W^T and inputs^T @ slope, and one pass each of erf and of
    its derivative over the preactivations [n, N], which are never held whole: see `row_blocks`.
    `potential_and_forward` holds them whole, which takes no longer than blocks do; a sweep that is
    given them takes 11 ms instead of 17 (d=150, N=700, n=3000). There is none on an accelerator,
    where networks move side by side: if one rejected its proposal, all would be computed twice.
    There is an approximate gradient where the processor multiplies bfloat16; elsewhere it would
    take half as long again as the exact one (30 ms for 20 on Zen 3, at d=150, N=700, n=3000).
    """
    scale = prior_scale(parameters)
    blocks = row_blocks(parameters, data)

    def potential_and_gradient(position: Position) -> tuple[jax.Array, Position]:
        readout = scale.readout * position.readout
        weights = (scale.weights * position.weights).T

        def add_block(
            sums: tuple[jax.Array, jax.Array, jax.Array], block: tuple[jax.Array, jax.Array]
        ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
            loss, of_readout, of_weights = sums
            inputs, targets = block
            preactivation = inputs @ weights
            activation = jax.scipy.special.erf(preactivation)
            residual = activation @ readout - targets
            slope = residual[:, None] * jnp.exp(-jnp.square(preactivation))
            return (
                loss + 0.5 * jnp.vdot(residual, residual),
                of_readout + residual @ activation,
                of_weights + inputs.T @ slope,
            ), None

        zero = (jnp.zeros((), weights.dtype), jnp.zeros_like(readout), jnp.zeros_like(weights))
        (loss, of_readout, of_weights), _ = jax.lax.scan(add_block, zero, blocks)
        weight_factor = (_TWO_OVER_ROOT_PI * scale.weights) * readout / data.noise
        of_weights = (weight_factor * of_weights).T
        energy, of_tagged = spring(position)
        return loss / data.noise + energy, Position(
            scale.readout / data.noise * of_readout, of_weights.at[TAGGED].add(of_tagged)
        )

    def approximate_gradient(position: Position) -> Position:
        gradient = _approximate_gradient(scale, blocks, data.noise, position)
        of_tagged = spring(position)[1]
        return gradient._replace(weights=gradient.weights.at[TAGGED].add(of_tagged))

    def potential_and_forward(position: Position) -> tuple[jax.Array, Forward]:
        forward = forward_pass(position, parameters, data)
        potential = 0.5 * jnp.vdot(forward.residual, forward.residual) / data.noise
        return potential + spring(position)[0], forward

    def spring(position: Position) -> tuple[jax.Array, jax.Array]:
        """Its energy, and the gradient with respect to the weights of the tagged neuron, [d]."""
        overlap = scale.weights * (position.weights[TAGGED] @ data.teacher)
        energy, slope = jax.value_and_grad(spring_energy)(overlap, data.stiffness, data)
        return energy, slope * scale.weights * data.teacher

    on_cpu = jax.default_backend() == "cpu"
    gains = multiplies_bfloat16() or not on_cpu
    return Target(
        potential_and_gradient,
        scale,
        data.noise,
        approximate_gradient if gains else None,
        potential_and_forward if on_cpu else None,
    )


def forward_pass(position: Position, parameters: TeacherStudent, data: Data) -> Forward:
    """The preactivations, held whole, and the residual."""
    readout, weights = original_weights(position, parameters)
    preactivation = weights @ data.inputs.T

    # Not a matrix product: the activations are not held.
    def add_neuron(sum: jax.Array, neuron: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        a, preactivation = neuron
        return sum + a * jax.scipy.special.erf(preactivation), None

    zero = jnp.zeros_like(data.targets)
    output, _ = jax.lax.scan(add_neuron, zero, (readout, preactivation))
    return Forward(preactivation, data.targets - output)


def rough_erf(x: jax.Array) -> jax.Array:
    """erf of x, any shape, to 4e-4: x P(x^2), P minimax of degree 5, constant beyond |x| = 2.4.

    For functions of the weights that need not be exact: the forces of a trajectory that is accepted
    by its energies (with both rough, 8.8 ms for 10.8), and the proposals of a sweep (18 for 22).
    """
    x = jnp.clip(x, -_ROUGH_ERF_LIMIT, _ROUGH_ERF_LIMIT)
    return x * _polynomial(_ROUGH_ERF, jnp.square(x))


def _rough_slope(x: jax.Array) -> jax.Array:
    """sqrt(pi)/2 times the derivative of `rough_erf`, about exp(-x^2), for x within its limits."""
    terms = (math.sqrt(math.pi) / 2 * (2 * k + 1) * c for k, c in enumerate(_ROUGH_ERF))
    return _polynomial(tuple(terms), jnp.minimum(jnp.square(x), _ROUGH_ERF_LIMIT**2))


def _polynomial(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    """Sum of coefficients[k] x^k."""
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value


def _approximate_gradient(
    scale: Position, blocks: tuple[jax.Array, jax.Array], noise: jax.Array, position: Position
) -> Position:
    """grad Phi with the factors of both matrix products in bfloat16, sums in float32, erf rough.

    Neurons come first, [N, rows], which suits the library's products in bfloat16 better: at d=150,
    N=700, n=3000 they take 0.6 times as long on a CPU that has such products.
    """
    readout = scale.readout * position.readout
    weights = (scale.weights * position.weights).astype(jnp.bfloat16)
    in_float32 = partial(jnp.matmul, preferred_element_type=jnp.float32)

    def add_block(
        sums: tuple[jax.Array, jax.Array], block: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        of_readout, of_weights = sums
        inputs, transposed, targets = block
        preactivation = in_float32(weights, transposed)
        activation = rough_erf(preactivation)
        residual = readout @ activation - targets
        slope = residual * _rough_slope(preactivation)
        return (
            of_readout + activation @ residual,
            of_weights + in_float32(slope.astype(jnp.bfloat16), inputs),
        ), None

    inputs, targets = blocks[0].astype(jnp.bfloat16), blocks[1]
    zero = (jnp.zeros_like(readout), jnp.zeros(weights.shape, jnp.float32))
    (of_readout, of_weights), _ = jax.lax.scan(
        add_block, zero, (inputs, jnp.swapaxes(inputs, 1, 2), targets)
    )
    weight_factor = (_TWO_OVER_ROOT_PI * scale.weights) * readout / noise
    return Position(scale.readout / noise * of_readout, weight_factor[:, None] * of_weights)


def row_blocks(parameters: TeacherStudent, data: Data) -> tuple[jax.Array, jax.Array]:
    """The training set in blocks: inputs [blocks, rows, d] and targets [blocks, rows].

    On a CPU a block has about BLOCK_ELEMENTS preactivations; elsewhere there is one block. The
    last block is filled up with zeros, which change neither the loss nor its gradient.
    """
    rows = data.targets.shape[0]
    on_cpu = jax.default_backend() == "cpu"
    wanted = max(1, -(-rows * parameters.width // BLOCK_ELEMENTS)) if on_cpu else 1
    length = max(1, -(-rows // wanted))
    blocks = max(1, -(-rows // length))
    missing = blocks * length - rows
    return (
        jnp.pad(data.inputs, ((0, missing), (0, 0))).reshape(blocks, length, data.inputs.shape[1]),
        jnp.pad(data.targets, (0, missing)).reshape(blocks, length),
    )


def start(
    key: jax.Array, kind: str, parameters: TeacherStudent, data: Data, planted: PlantedStart
) -> Position:
    """A starting position: `place`, then `settle`, which training does by other keys."""
    return settle(key, place(key, kind, parameters, data, planted), parameters, data)


def place(
    key: jax.Array, kind: str, parameters: TeacherStudent, data: Data, planted: PlantedStart
) -> Position:
    """The first half of a start: input weights from the prior, or those with planted droplets.

    A planted start sets the overlap of a fraction of the neurons, at least one, to +-q (random
    signs). NumPy draws them, so the key must be a value, not one that JAX traces. The readouts,
    zero here, are those of `settle`.
    """
    width = parameters.width
    random, dtype = generator(key), data.targets.dtype
    weights = random.standard_normal((width, parameters.input_dim))
    if kind == "planted":
        chosen = slice(max(1, round(planted.fraction * width)))
        sign = random.choice([-1.0, 1.0], size=len(weights[chosen]))
        teacher = np.asarray(data.teacher, np.float64)
        wanted = sign * planted.overlap / prior_scale(parameters).weights
        weights[chosen] += np.outer(wanted - weights[chosen] @ teacher, teacher)
    return Position(np.zeros(width, dtype), weights.astype(dtype))


@partial(jax.jit, static_argnames="parameters")
def settle(key: jax.Array, position: Position, parameters: TeacherStudent, data: Data) -> Position:
    """The second half: readouts from their posterior given the input weights, at the noise of the
    data.

    With readouts from the prior the first residual is as large as the targets, and calls up
    droplets by the dozen, which then take as long to go as the planted ones.
    """
    readout_key = fold_in_name(key, "readouts")
    return position._replace(readout=draw_readouts(readout_key, position.weights, parameters, data))


def draw_readouts(
    key: jax.Array, weights: jax.Array, parameters: TeacherStudent, data: Data
) -> jax.Array:
    """Whitened readouts [N] from their posterior given the whitened input weights [N, d].

    Given those the model is linear and Gaussian, with features phi = s_a erf(x.w): the draw is the
    minimum of the posterior potential with targets y + sigma xi and prior mean eta for standard
    normal xi and eta, found by conjugate gradients to a relative residual of 1e-3. That takes 4 or
    5 iterations of 0.9 ms (d=150, N=700, n=3000, noise 0.3 and 0.1; 11 at 0.01), where the Gram
    matrix of the features would cost 27; the whole draw takes 12.

    Source: Papandreou and Yuille, NIPS 23 (2010), Gaussian sampling by local perturbations.
    """
    scale = prior_scale(parameters)
    data_key, prior_key = jax.random.split(key)
    features = scale.readout * jax.scipy.special.erf(data.inputs @ (scale.weights * weights).T)
    perturbation = jnp.sqrt(data.noise) * jax.random.normal(data_key, data.targets.shape)
    # Vectors first: a transposed matrix times a vector takes eight times as long.
    wanted = (data.targets + perturbation) @ features / data.noise

    def precision(readout: jax.Array) -> jax.Array:
        return readout + (features @ readout) @ features / data.noise

    of_prior = jax.random.normal(prior_key, (parameters.width,))
    return jax.scipy.sparse.linalg.cg(precision, wanted + of_prior, tol=1e-3, maxiter=200)[0]


def overlaps(position: Position, parameters: TeacherStudent, data: Data) -> jax.Array:
    """The order parameter q_i = w_i.w* of every neuron [N]."""
    return prior_scale(parameters).weights * (position.weights @ data.teacher)


order_parameters = overlaps


def spring_energy(overlap: jax.Array, stiffness: jax.Array, data: Data) -> jax.Array:
    """Energy of a spring on an overlap, added to the potential (umbrella sampling), in nats.

    stiffness : of the neuron's spring, `data.stiffness` for the tagged neuron, zero for others.
    """
    return 0.5 * stiffness * jnp.square(overlap - data.centre)


def arcsin(x: jax.Array) -> jax.Array:
    """arcsin of x in [-1, 1], any shape, to rounding error.

    In float32 a polynomial (absolute error below 2e-7) on |x| <= 1/2, and beyond by
    arcsin(x) = pi/2 - 2 arcsin(sqrt((1 - x)/2)): five times faster than jnp.arcsin, which would
    cost half a gradient in `observables`. jnp.arcsin in float64.

    Source: the polynomial of asinf, Cephes Mathematical Library 2.2 (Moshier, 1992).
    """
    if x.dtype != jnp.float32:
        return jnp.arcsin(x)
    size = jnp.abs(x)
    outer = size > 0.5
    square = jnp.where(outer, 0.5 * (1 - size), jnp.square(x))
    root = jnp.where(outer, jnp.sqrt(square), size)
    series = jnp.polyval(jnp.asarray(_ARCSIN_COEFFICIENTS, jnp.float32), square)
    inner = root + root * square * series
    return jnp.sign(x) * jnp.where(outer, math.pi / 2 - 2 * inner, inner)


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
    output_power = (2 / math.pi) * (readout @ (arcsin(jnp.clip(cosine, -1, 1)) @ readout))
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


def stein_variates(state: State, parameters: TeacherStudent, data: Data) -> jax.Array:
    """Functions [7] of a state whose averages over the posterior are zero, one per trial function.

    The generator of Langevin dynamics in whitened coordinates, applied to a trial function phi,

        L phi = Laplacian phi - grad phi . grad U,    U = Phi + |theta|^2/2.

    Its average is zero for every phi (Stein's identity), and if a phi solves the Poisson equation
    L phi = <f> - f, then f + L phi does not fluctuate at all. The trial functions are sums over the
    neurons of a u, a u^3, q^2, a^2, |w|^2, (a u)^2 and a smooth step at the edge of the droplets,
    with u = q/sqrt(1 + 2 |w|^2), in units in which the sums are about one. Their linear
    combinations come near: at d=75, N=175, n=750, noise 0.25 what is left of the variance of a
    mean, of f.H1, f.H3, mean q^2, the droplets, |w|^2, the train and the test loss is 1/8, 1/4,
    1/28, 1/2.7, 1/940, 1/4.6 and 1/2.7.

    `state.gradient` must be the exact one. (Rough forces in bfloat16 have errors of a fixed sign,
    which at d=150, N=700, n=3000, noise 0.12 shift mean q^2 by 0.01 and f.H1 by 0.0002.)

    Sources: Assaraf and Caffarel, Phys. Rev. Lett. 83, 4682 (1999); Mira, Solgi and Imparato,
    Stat. Comput. 23, 653 (2013).
    """
    scale = prior_scale(parameters)
    variance = scale.weights**2
    readout, weights = state.position
    slope = jax.tree.map(jnp.add, state.position, state.gradient)
    q = overlaps(state.position, parameters, data)
    square = variance * jnp.sum(jnp.square(weights), axis=1)

    # of_x is L x. For functions of one or two variables it follows from theirs by
    #     L g(f, h) = g_f Lf + g_h Lh + g_ff |grad f|^2 + 2 g_fh grad f . grad h + g_hh |grad h|^2
    # with |grad q|^2 = v, grad q . grad |w|^2 = 2 v q, |grad |w|^2|^2 = 4 v |w|^2, v = sigma_w^2/d,
    # and gradients of readouts orthogonal to those. JAX's own nested derivatives, which give the
    # same, take two seconds longer to trace and compile.
    of_readout = -slope.readout
    of_q = -scale.weights * (slope.weights @ data.teacher)
    of_square = 2 * variance * (parameters.input_dim - jnp.sum(weights * slope.weights, axis=1))
    r = 1 / (1 + 2 * square)
    u = q * jnp.sqrt(r)
    of_u = jnp.sqrt(r) * of_q - u * r * of_square + variance * u * r * (2 - 6 * r)
    grad_u_squared = variance * r * (1 - 2 * u**2 * (1 + r))
    of_u_squared = 2 * u * of_u + 2 * grad_u_squared
    of_u_cubed = 3 * u**2 * of_u + 6 * u * grad_u_squared
    of_q_squared = 2 * q * of_q + 2 * variance
    of_readout_squared = 2 * readout * of_readout + 2
    step = jax.nn.sigmoid((q**2 - DROPLET_OVERLAP**2) / DROPLET_EDGE)
    of_step = (step * (1 - step) / DROPLET_EDGE) * (
        of_q_squared + (1 - 2 * step) * 4 * q**2 * variance / DROPLET_EDGE
    )
    return jnp.stack(
        [
            scale.readout * jnp.sum(of_readout * u + readout * of_u),
            scale.readout * jnp.sum(of_readout * u**3 + readout * of_u_cubed),
            jnp.mean(of_q_squared) / variance,
            jnp.mean(of_readout_squared),
            jnp.mean(of_square) / parameters.weight_variance,
            jnp.mean(of_readout_squared * u**2 + readout**2 * of_u_squared),
            jnp.mean(of_step),
        ]
    )


def saved(start: Position, end: Position, parameters: TeacherStudent) -> dict[str, Any]:
    """Weights kept in the shard: none."""
    return {}
