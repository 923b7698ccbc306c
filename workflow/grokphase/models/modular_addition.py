"""Two-layer quadratic network on modular addition: exact potential, observables, planted starts.

    f_p(n, m) = sum_i a_pi (w_ni + v_mi)^2,     y_p(n, m) = [p = n + m mod P] - 1/P

on all P^2 pairs. All arrays are neuron first: readout, first and second operand weights [N, P].
Positions are whitened: every coordinate has prior N(0, 1) and readout = sqrt(sigma_a^2/N) position.

The loss has two forms with the same value. ``dense`` tabulates f over the pairs: about 6 P^3 N
operations and (2 N + 2 P) P^2 numbers for a gradient. ``factorised`` never forms the table:

    f_p(n, m) = c_p(n) + d_p(m) + 2 g_p(n, m),
    c_p(n) = sum_i a_pi w_ni^2,   d_p(m) = sum_i a_pi v_mi^2,   g_p(n, m) = sum_i a_pi w_ni v_mi,
    sum_nmp g^2 = sum_ij (a^T a)_ij (w^T w)_ij (v^T v)_ij,

the cross terms need only row sums, and sum y f is a circular convolution: about
12 N^2 P + 30 N P^2 operations and a few N^2 numbers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from numpy.typing import NDArray

from grokphase.datasets import PairOrder
from grokphase.models.modular_cost import Cost, Form, choose_form, gradient_cost
from grokphase.parameters import ModularAddition
from grokphase.sampling.ensemble import Counting
from grokphase.sampling.kernels import State, Target
from grokphase.sampling.random_keys import generator
from grokphase.specifications.training import PlantedWaves
from grokphase.tables.shards import POWER_BINS, POWER_WIDTH, SAVED_NEURONS

HIGHEST = jax.lax.Precision.HIGHEST

PARAMETERS_IN_DATA = ("noise",)
"""Parameters that are data to the compiled programs, which are the same for all their values."""

EVALUATED_ROWS = 32
"""Rows n of the table on which accuracies are measured; at smaller P, all of them."""


class ModularNetwork(NamedTuple):
    """Weights of one network, in original or whitened coordinates."""

    readout: Array
    """a_pi, [N, P]."""
    first: Array
    """w_ni, weights of the first operand, [N, P]."""
    second: Array
    """v_mi, weights of the second operand, [N, P]."""


class Evaluation(NamedTuple):
    """Losses and accuracies on the training pairs and on the held-out rest (NaN if empty)."""

    train_loss: Array
    """Mean over training pairs of sum_p (y - f)^2."""
    test_loss: Array
    train_accuracy: Array
    """Fraction of training pairs with argmax_p f = n + m mod P."""
    test_accuracy: Array


def prior_position(
    key: Array, parameters: ModularAddition, dtype: jnp.dtype = jnp.float32
) -> ModularNetwork:
    """Whitened position from the Gaussian prior, N(0, 1) in every coordinate, without Gamma.

    Drawn by NumPy: the key must be a value, not one that JAX traces.
    """
    random, shape = generator(key), (parameters.width, parameters.prime)
    draws = [random.standard_normal(shape).astype(dtype) for _ in range(3)]
    return ModularNetwork(*jax.device_put(draws))


def to_network(position: ModularNetwork, parameters: ModularAddition) -> ModularNetwork:
    """Original weights of a whitened position."""
    scale = (parameters.readout_variance / parameters.width) ** 0.5
    return position._replace(readout=scale * position.readout)


def target_table(prime: int, dtype: jnp.dtype = jnp.float32) -> Array:
    """y_p(n, m), shape [P (n), P (m), P (p)]."""
    label = (jnp.arange(prime)[:, None] + jnp.arange(prime)[None, :]) % prime
    return jax.nn.one_hot(label, prime, dtype=dtype) - 1 / prime


def output_table(network: ModularNetwork) -> Array:
    """f_p(n, m), shape [P (n), P (m), P (p)]."""
    hidden = (network.first[:, :, None] + network.second[:, None, :]) ** 2
    return jnp.einsum("inm,ip->nmp", hidden, network.readout, precision=HIGHEST)


def dense_excess_loss(network: ModularNetwork, mask: ArrayLike | None = None) -> Array:
    """L(network) - L(0) = sum f (f - 2 y)/2 over the pairs in ``mask`` ([P, P]; None for all)."""
    output = output_table(network)
    terms = output * (output - 2 * target_table(output.shape[0], output.dtype))
    if mask is not None:
        terms = terms * jnp.asarray(mask, terms.dtype)[:, :, None]
    return jnp.sum(terms) / 2


@jax.custom_vjp
def factorised_excess_loss(network: ModularNetwork) -> Array:
    """L(network) - L(0) over all pairs, without the table of outputs; its gradient is exact."""
    return _factorised(network)[0]


def _factorised(network: ModularNetwork) -> tuple[Array, ModularNetwork]:
    """Excess loss and its gradient."""
    a, w, v = network
    prime = a.shape[1]
    w_sum, v_sum = w.sum(axis=1, keepdims=True), v.sum(axis=1, keepdims=True)
    a_sum = a.sum(axis=1, keepdims=True)

    # Terms linear in the squares, and sums of the product term over one operand, all [P (p), P].
    features = jnp.stack([w**2, v**2, w * v_sum, v * w_sum])
    c, d, g_first, g_second = jnp.einsum("ip,xin->xpn", a, features, precision=HIGHEST)
    c_sum, d_sum = c.sum(axis=1, keepdims=True), d.sum(axis=1, keepdims=True)
    gram_a, gram_w, gram_v = (jnp.matmul(x, x.T, precision=HIGHEST) for x in (a, w, v))

    a_hat, w_hat, v_hat = (jnp.fft.rfft(x, axis=1) for x in (a, w, v))

    def inverse(x: Array) -> Array:
        return jnp.fft.irfft(x, prime, axis=1)

    # phi . y_p of each neuron, halved: the squares cancel because y_p sums to zero over n and m.
    on_target = inverse(w_hat * v_hat) - w_sum * v_sum / prime

    gram_wv = gram_w * gram_v
    # sum_ij gram_a gram_wv = sum_i a_i . (gram_wv a)_i saves a pass and is reused by the gradient.
    pulled = jnp.matmul(gram_wv, a, precision=HIGHEST)
    value = (
        prime * (jnp.sum(c**2) + jnp.sum(d**2)) / 2
        + jnp.sum(c_sum * d_sum)
        + 2 * jnp.sum(a * pulled)
        + 2 * jnp.sum(c * g_first)
        + 2 * jnp.sum(d * g_second)
        - 2 * jnp.sum(a * on_target)
    )

    c_bar = prime * c + d_sum + 2 * g_first
    d_bar = prime * d + c_sum + 2 * g_second
    bars = jnp.stack([c_bar, d_bar, 2 * c, 2 * d])
    to_c, to_d, to_first, to_second = jnp.einsum("ip,xpn->xin", a, bars, precision=HIGHEST)
    a_bar = (
        jnp.einsum("xin,xpn->ip", features, bars, precision=HIGHEST) + 4 * pulled - 2 * on_target
    )
    w_bar = (
        2 * w * to_c
        + v_sum * to_first
        + jnp.sum(v * to_second, axis=1, keepdims=True)
        + 4 * jnp.matmul(gram_a * gram_v, w, precision=HIGHEST)
        - 2 * inverse(a_hat * jnp.conj(v_hat))
        + 2 * a_sum * v_sum / prime
    )
    v_bar = (
        2 * v * to_d
        + w_sum * to_second
        + jnp.sum(w * to_first, axis=1, keepdims=True)
        + 4 * jnp.matmul(gram_a * gram_w, v, precision=HIGHEST)
        - 2 * inverse(a_hat * jnp.conj(w_hat))
        + 2 * a_sum * w_sum / prime
    )
    return value, ModularNetwork(a_bar, w_bar, v_bar)


def _factorised_backward(gradient: ModularNetwork, cotangent: Array) -> tuple[ModularNetwork]:
    return (jax.tree.map(lambda leaf: cotangent * leaf, gradient),)


factorised_excess_loss.defvjp(_factorised, _factorised_backward)


def zero_loss(prime: int) -> float:
    """L of the network whose output is zero on the full table: (1 - 1/P)/2 for each pair."""
    return prime**2 * (1 - 1 / prime) / 2


def fourier_power(weights: ArrayLike) -> Array:
    """|w_k|^2 for k = 0 ... P//2, shape [..., P//2 + 1].

    w_k = (1/P) sum_n w_n exp(2 pi i k n/P). The modes -k are the complex conjugates.
    Under the Gaussian prior E|w_k|^2 = 1/P.
    """
    weights = jnp.asarray(weights)
    return jnp.abs(jnp.fft.rfft(weights, axis=-1) / weights.shape[-1]) ** 2


@jax.jit
def target_eigenvalues(first: ArrayLike, second: ArrayLike, readout_variance: float) -> Array:
    """<phi_kk, Q phi_kk> = 4 P^2 sigma_a^2 <|w_k|^2 |v_k|^2> for k = 1 ... P//2, [..., P//2].

    The average is over the neurons, of weights [..., N, P]; phi_kk are the target's modes. Under
    the prior it is 4 sigma_a^2 for every k.
    """
    powers = fourier_power(first) * fourier_power(second)
    prime = np.shape(first)[-1]
    return 4 * prime**2 * readout_variance * jnp.mean(powers[..., 1:], axis=-2)


def sextic_penalty(first: Array, second: Array, decay: float) -> Array:
    """Gamma = P sum_k (gamma/6)(|w_k|^6 + |v_k|^6), over all P modes and all neurons."""
    prime = first.shape[-1]
    copies = np.full(prime // 2 + 1, 2.0)
    copies[0] = 1
    if prime % 2 == 0:
        copies[-1] = 1

    def cubes(weights: Array) -> Array:
        modes = jnp.fft.rfft(weights, axis=-1) / prime
        power = modes.real**2 + modes.imag**2
        return jnp.sum(power**3 * jnp.asarray(copies, power.dtype))

    return prime * decay / 6 * (cubes(first) + cubes(second))


def potential(
    parameters: ModularAddition,
    form: Form = "auto",
    mask: ArrayLike | None = None,
    noise: ArrayLike | None = None,
) -> Callable[[ModularNetwork], Array]:
    """Potential of a whitened position, (L - L(0))/noise + Gamma.

    The posterior is exp(-potential) times N(0, 1) in every coordinate. The constant L(0)/noise is
    left out because it would cost single precision most of its digits.

    Parameters
    ----------
    form
        How to evaluate L; ``auto`` takes the cheaper form.
    mask
        Training pairs, [P, P] of booleans; None for the full table. A fraction of the table breaks
        the symmetry that the factorised form rests on, so it needs the dense one.
    noise
        sigma^2; None for that of ``parameters``.
    """
    temperature = parameters.noise if noise is None else noise
    if mask is not None:
        if form == "factorised":
            raise ValueError("the factorised form needs the full table: use form='dense' with mask")
        if np.shape(mask) != (parameters.prime,) * 2:
            raise ValueError(
                f"mask has shape {np.shape(mask)}, not [P, P] with P={parameters.prime}"
            )
        form = "dense"
    if form == "auto":
        form = choose_form(parameters)

    def evaluate(position: ModularNetwork) -> Array:
        network = to_network(position, parameters)
        if form == "dense":
            excess = dense_excess_loss(network, mask)
        else:
            excess = factorised_excess_loss(network)
        decay = sextic_penalty(network.first, network.second, parameters.sextic_decay)
        return excess / temperature + decay

    return evaluate


def discrepancy(network: ModularNetwork) -> Array:
    """a = <y, f>/<y, y> - 1 over the full table; its posterior mean is the a of the theory.

    -1 when nothing of the target is learned, 0 when all of it is.
    """
    a, w, v = network
    prime = a.shape[1]
    product = jnp.fft.irfft(jnp.fft.rfft(w, axis=1) * jnp.fft.rfft(v, axis=1), prime, axis=1)
    on_target = product - w.sum(axis=1, keepdims=True) * v.sum(axis=1, keepdims=True) / prime
    return 2 * jnp.sum(a * on_target) / (prime * (prime - 1)) - 1


def evaluate(
    network: ModularNetwork, mask: ArrayLike | None = None, rows: int | None = None
) -> Evaluation:
    """Losses and accuracies, one row n of the table at a time: memory N P, not P^3.

    rows : evaluate only this many, evenly spaced; None for all.
    """
    prime = network.readout.shape[1]
    train = jnp.ones((prime, prime), bool) if mask is None else jnp.asarray(mask, bool)

    def row(n: Array) -> tuple[Array, Array]:
        hidden = (network.first[:, n, None] + network.second) ** 2
        output = jnp.matmul(hidden.T, network.readout, precision=HIGHEST)
        label = (n + jnp.arange(prime)) % prime
        target = jax.nn.one_hot(label, prime, dtype=output.dtype) - 1 / prime
        return jnp.sum((target - output) ** 2, axis=1), jnp.argmax(output, axis=1) == label

    chosen_rows = np.arange(prime) if rows is None else np.arange(rows) * prime // rows
    squares, correct = jax.lax.map(row, jnp.asarray(chosen_rows))
    train = train[chosen_rows]

    def mean(values: Array, chosen: Array) -> Array:
        return jnp.sum(jnp.where(chosen, values, 0)) / jnp.sum(chosen)

    return Evaluation(
        mean(squares, train), mean(squares, ~train), mean(correct, train), mean(correct, ~train)
    )


@jax.jit
def inverse_participation_ratio(weights: ArrayLike) -> Array:
    """sum_k p_k^2/(sum_k p_k)^2 over k = 1 ... P//2, [...]: 1 for a cosine, about 4/P for noise."""
    power = fourier_power(weights)[..., 1:]
    return jnp.sum(power**2, axis=-1) / jnp.sum(power, axis=-1) ** 2


def feature_gram(first: Any, second: Any) -> Any:
    """sum_nm (w_in + v_im)^2 (w_jn + v_jm)^2, [N, N], without the table.

    Of NumPy or JAX arrays [N, P], in their precision.
    """
    return gram_and_pullback(first, second)[0]


def gram_and_pullback(first: Any, second: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
    """The Gram matrix G of `feature_gram`, and the gradient of <S, G> for a symmetric S [N, N].

    The gradient is that with respect to both operands, [N, P] each. Completing the square,

        P w_i^2.w_j^2 + 2 (v_j w_i^2.w_j + v_i w_i.w_j^2) = u_i.u_j - c_i c_j w_i.w_j,
        u_i = sqrt(P) w_i^2 + c_i w_i,   c_i = 2 v_i/sqrt(P),   v_i the sum of v_im over m,

    leaves four matrix products for G and, S being symmetric, four for the gradient.
    """
    w, v = first, second
    root = w.shape[1] ** 0.5
    w_scale, v_scale = (2 / root * x.sum(axis=1, keepdims=True) for x in (v, w))
    w_square, v_square = w**2, v**2
    w_power, v_power = (x.sum(axis=1, keepdims=True) for x in (w_square, v_square))
    w_whole, v_whole = root * w_square + w_scale * w, root * v_square + v_scale * v
    gram_w, gram_v = w @ w.T, v @ v.T
    cross = w_power * v_power.T
    gram = (
        w_whole @ w_whole.T
        + v_whole @ v_whole.T
        + cross
        + cross.T
        + 4 * gram_w * gram_v
        - w_scale * w_scale.T * gram_w
        - v_scale * v_scale.T * gram_v
    )

    def pullback(cotangent: Any) -> tuple[Any, Any]:
        def of_one(x: Any, scale: Any, whole: Any, own: Any, other: Any, power: Any) -> Any:
            """The gradient with respect to one operand, and to its scale."""
            of_whole = 2 * (cotangent @ whole)
            of_x = (
                of_whole * (2 * root * x + scale)
                + 2 * ((cotangent * (4 * other - scale * scale.T)) @ x)
                + 4 * x * (cotangent @ power)
            )
            of_scale = (of_whole * x).sum(axis=1, keepdims=True) - 2 * (cotangent * own) @ scale
            return of_x, of_scale

        of_w, of_w_scale = of_one(w, w_scale, w_whole, gram_w, gram_v, v_power)
        of_v, of_v_scale = of_one(v, v_scale, v_whole, gram_v, gram_w, w_power)
        return of_w + 2 / root * of_v_scale, of_v + 2 / root * of_w_scale

    return gram, pullback


def feature_target(first: Any, second: Any) -> Any:
    """sum_nm y_p(n, m) (w_in + v_im)^2, [N, P], by circular convolution.

    Of NumPy or JAX arrays [N, P], in their precision.
    """
    w, v = first, second
    prime, fft = w.shape[1], w.__array_namespace__().fft
    product = fft.irfft(fft.rfft(w, axis=1) * fft.rfft(v, axis=1), n=prime, axis=1)
    return 2 * (product - w.sum(axis=1, keepdims=True) * v.sum(axis=1, keepdims=True) / prime)


def readout_posterior(
    first: ArrayLike, second: ArrayLike, parameters: ModularAddition
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact Gaussian posterior of the readouts given the input weights, original coordinates.

    Returns
    -------
    mean
        [N, P].
    precision
        [N, N], the same for every output p: feature_gram/noise + (N/sigma_a^2) I.
    """
    p = parameters
    w, v = np.asarray(first, np.float64), np.asarray(second, np.float64)
    precision = feature_gram(w, v) / p.noise
    precision[np.diag_indices_from(precision)] += p.width / p.readout_variance
    mean = np.asarray(np.linalg.solve(precision, feature_target(w, v) / p.noise))
    return mean, precision


def planted_position(
    key: Array,
    parameters: ModularAddition,
    power: float,
    background: bool = False,
    waves: int = 1,
    dtype: jnp.dtype = jnp.float32,
) -> ModularNetwork:
    """Grokked start: each neuron is a cosine wave of one frequency, the readouts fit the target.

    With more `waves` each neuron is a sum of that many, of different frequencies.

    w_ni = 2 sqrt(W) cos(2 pi k_i n/P + alpha_i), v_mi likewise with beta_i, so that
    |w_k|^2 = |v_k|^2 = W at k = k_i; phases are uniform, and each frequency 1 ... (P - 1)/2 gets an
    equal share of the neurons, in random order. The readouts are their exact posterior mean.

    Parameters
    ----------
    power
        W: the side minimum W_+ of the theory.
    background
        Whether the other modes are drawn from the Gaussian prior instead of being zero.

    Returns
    -------
    ModularNetwork, whitened.
    """
    n, prime = parameters.width, parameters.prime
    random = generator(key)
    count = (prime - 1) // 2
    place = random.permutation(n)[:, None] + np.arange(waves)
    frequency = 1 + random.permutation(count)[place % count]
    phase = random.uniform(0, 2 * np.pi, (2, n, waves, 1))
    angle = 2 * np.pi * (frequency[:, :, None] * np.arange(prime) % prime) / prime
    weights = 2 * np.sqrt(power) * np.cos(angle + phase).sum(axis=2)
    if background:
        modes = np.fft.rfft(random.standard_normal((2, n, prime)), axis=-1)
        modes[:, np.arange(n)[:, None], frequency] = 0
        weights = weights + np.fft.irfft(modes, prime, axis=-1)
    readout, _ = readout_posterior(weights[0], weights[1], parameters)
    # Rescale in float64: the readouts are far below one.
    scale = (parameters.readout_variance / parameters.width) ** 0.5
    whitened = [x.astype(dtype) for x in (readout / scale, *weights)]
    return ModularNetwork(*jax.device_put(whitened))


class Data(NamedTuple):
    """noise sigma^2 (scalar), training pairs [P, P] (all where the full table is trained on)."""

    noise: Array
    mask: Array


def load_data(parameters: ModularAddition, dataset: PairOrder) -> Data:
    """Noise and training pairs: the first `train_fraction` of the dataset's order."""
    trained = round(parameters.train_fraction * parameters.prime**2)
    return Data(*jax.device_put([np.float32(parameters.noise), dataset.rank < trained]))


def stein_variates(state: State, parameters: ModularAddition, data: Data) -> jax.Array:
    """None, [0]: no trial functions are known for this model."""
    return jnp.zeros(0)


def control_variates(data: Data) -> NDArray[np.float64]:
    """None: the full table has no sampling fluctuations."""
    return np.zeros(0)


def work_per_gradient(parameters: ModularAddition) -> float:
    """Multiply-adds of one gradient."""
    return _gradient_cost(parameters).operations / 2


def _gradient_cost(parameters: ModularAddition) -> Cost:
    return gradient_cost(parameters, "auto" if parameters.train_fraction == 1 else "dense")


def bytes_per_network(parameters: ModularAddition) -> float:
    """Memory of a network on an accelerator: that of a gradient twice over; not measured."""
    return 2.0 * _gradient_cost(parameters).bytes


def prior_scale(parameters: ModularAddition) -> ModularNetwork:
    """Prior standard deviations of the original weights."""
    readout = (parameters.readout_variance / parameters.width) ** 0.5
    return ModularNetwork(*(jnp.asarray(scale) for scale in (readout, 1.0, 1.0)))


def target(parameters: ModularAddition, data: Data) -> Target:
    """The posterior; its potential is relative to that of the network whose output is zero."""
    mask = data.mask if parameters.train_fraction < 1 else None
    evaluate_potential = potential(parameters, mask=mask, noise=data.noise)
    return Target(jax.value_and_grad(evaluate_potential), prior_scale(parameters), data.noise)


def droplet_power(parameters: ModularAddition) -> float:
    """W = sqrt(3/gamma), the theory's mode power of a droplet during the mixed phase."""
    return (3 / parameters.sextic_decay) ** 0.5


def place(
    key: Array, kind: str, parameters: ModularAddition, data: Data, planted: PlantedWaves
) -> ModularNetwork:
    """A start: a draw from the Gaussian prior, or planted cosine waves."""
    if kind == "prior":
        return prior_position(key, parameters)
    return planted_position(
        key, parameters, droplet_power(parameters), planted.background, planted.waves
    )


def settle(
    key: Array, position: ModularNetwork, parameters: ModularAddition, data: Data
) -> ModularNetwork:
    """The start as it is."""
    return position


def order_parameters(position: ModularNetwork, parameters: ModularAddition, data: Data) -> Array:
    """sqrt(A/W), sqrt(B/W) of every neuron and frequency k = 1 ... P//2, [2, N, P//2]."""
    powers = fourier_power(jnp.stack([position.first, position.second]))[:, :, 1:]
    return jnp.sqrt(powers / droplet_power(parameters))


def count_powers(root_powers: Array) -> Array:
    """Counts [POWER_BINS^2 + 1] of modes per joint bin; the last holds those beyond the bins."""
    first, second = jnp.floor(root_powers / POWER_WIDTH).astype(jnp.int32)
    beyond = (first >= POWER_BINS) | (second >= POWER_BINS)
    index = jnp.where(beyond, POWER_BINS**2, first * POWER_BINS + second)
    return jnp.zeros(POWER_BINS**2 + 1, jnp.int32).at[index.ravel()].add(1)


COUNTING = Counting(POWER_BINS**2 + 1, count_powers)


def observables(
    position: ModularNetwork, potential_value: Array, parameters: ModularAddition, data: Data
) -> Array:
    """The scalars [8] listed in grokphase.tables.observables, invariant under symmetries.

    discrepancy          a = <y, f>/<y, y> - 1 over the full table
    droplets_per_neuron  modes k = 1 ... P//2 with sqrt(A B) > W/3, the barrier in the mixed phase
    participation        mean inverse participation ratio of w and v: 1 for a cosine
    mean_power           mean |w_k|^2, k != 0, in units of its prior value 1/P
    train_loss           mean over training pairs of sum_p (y - f)^2
    test_loss            the same over held-out pairs; over all pairs where none are held out
    train_accuracy, test_accuracy
                         share of those pairs with argmax_p f = n + m mod P
    """
    network = to_network(position, parameters)
    power = fourier_power(jnp.stack([network.first, network.second]))[:, :, 1:]
    barrier = droplet_power(parameters) / 3
    rows = min(parameters.prime, EVALUATED_ROWS)
    if parameters.train_fraction < 1:
        train_loss, test_loss, train_accuracy, test_accuracy = evaluate(network, data.mask)
    else:
        train_accuracy = test_accuracy = evaluate(network, rows=rows).train_accuracy
        decay = sextic_penalty(network.first, network.second, parameters.sextic_decay)
        excess = (potential_value - decay) * data.noise
        train_loss = test_loss = 2 * (zero_loss(parameters.prime) + excess) / parameters.prime**2
    return jnp.stack(
        [
            discrepancy(network),
            jnp.sum(jnp.sqrt(power[0] * power[1]) > barrier) / parameters.width,
            jnp.mean(inverse_participation_ratio(jnp.stack([network.first, network.second]))),
            jnp.mean(power) * parameters.prime,
            train_loss,
            test_loss,
            train_accuracy,
            test_accuracy,
        ]
    )


def saved(
    start: ModularNetwork, end: ModularNetwork, parameters: ModularAddition
) -> dict[str, NDArray[np.float32]]:
    """What is kept of the networks' weights; positions have a leading axis [networks].

    neurons : [networks, k * 2 * 2 * P], input weights of the neurons most concentrated on one
        frequency, the flattened axes being neuron, moment (start, end), operand (first, second), n.
    target_eigenvalues : [networks, P//2], at the end, see `target_eigenvalues`.
    """

    def operands(position: ModularNetwork) -> Any:
        return np.stack([position.first, position.second], axis=2)

    final = operands(end)
    concentration = np.asarray(inverse_participation_ratio(final)).mean(axis=-1)
    chosen = np.argsort(-concentration, axis=1)[:, :SAVED_NEURONS]
    index = chosen[:, :, None, None]
    kept = np.stack(
        [np.take_along_axis(operands(start), index, 1), np.take_along_axis(final, index, 1)],
        axis=2,
    )
    return {
        "neurons": kept.reshape(kept.shape[0], -1).astype(np.float32),
        "target_eigenvalues": np.asarray(
            target_eigenvalues(end.first, end.second, parameters.readout_variance), np.float32
        ),
    }
