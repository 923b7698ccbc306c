"""The modular-addition network: likelihood forms, symmetries, prior, planted start."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase.models import modular_addition as model
from grokphase.models.modular_addition import ModularNetwork
from grokphase.parameters import ModularAddition
from scipy.integrate import quad
from scipy.stats import kstest

pytestmark = pytest.mark.filterwarnings("ignore:prime=.*is not prime")

evaluate = jax.jit(model.evaluate)


@partial(jax.jit, static_argnums=1)
def loss(network, form):
    """L = 1/2 sum_nmp (y - f)^2 over all pairs."""
    excess = {"dense": model.dense_excess_loss, "factorised": model.factorised_excess_loss}[form]
    return model.zero_loss(network.readout.shape[1]) + excess(network)


def parameters(prime, width=9, **change):
    values = {"readout_variance": 0.5, "sextic_decay": 0.3, "noise": 0.2, **change}
    return ModularAddition(prime=prime, width=width, allow_composite=True, **values)


def network64(seed, width, prime):
    """A random float64 network; needs jax_enable_x64."""
    rng = np.random.default_rng(seed)
    return ModularNetwork(*(jnp.asarray(x) for x in rng.standard_normal((3, width, prime))))


@pytest.mark.parametrize("prime", [3, 6, 7, 15])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_factorised_equals_dense(prime, dtype, tolerance):
    with jax.enable_x64(dtype == "float64"):
        p = parameters(prime)
        x = model.prior_position(jax.random.key(prime), p, jnp.dtype(dtype))
        assert x.readout.dtype == dtype
        value, gradient = jax.jit(jax.value_and_grad(model.potential(p, "dense")))(x)
        other, other_gradient = jax.jit(jax.value_and_grad(model.potential(p, "factorised")))(x)
        assert abs(float(value - other)) <= tolerance * abs(float(value))
        for one, two in zip(gradient, other_gradient, strict=True):
            assert float(jnp.linalg.norm(one - two)) <= tolerance * float(jnp.linalg.norm(one))


@pytest.mark.parametrize("prime", [5, 6])
def test_loss_against_the_naive_sum(prime):
    with jax.enable_x64(True):
        a, w, v = network64(1, 4, prime)
        total = 0.0
        for n in range(prime):
            for m in range(prime):
                f = np.asarray(a).T @ (np.asarray(w)[:, n] + np.asarray(v)[:, m]) ** 2
                y = (np.arange(prime) == (n + m) % prime) - 1 / prime
                total += 0.5 * np.sum((y - f) ** 2)
        for form in ("dense", "factorised"):
            assert float(loss(ModularNetwork(a, w, v), form)) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("prime", [5, 6, 11])
def test_convolution_against_the_naive_sum(prime):
    with jax.enable_x64(True):
        x = network64(2, 5, prime)
        y, f = model.target_table(prime, jnp.float64), model.output_table(x)
        naive = float(jnp.sum(y * f) / jnp.sum(y * y)) - 1
        assert float(model.discrepancy(x)) == pytest.approx(naive, rel=1e-12)
        hidden = np.asarray(x.first[:, :, None] + x.second[:, None, :]) ** 2
        np.testing.assert_allclose(
            model.feature_target(x.first, x.second),
            np.einsum("inm,nmp->ip", hidden, np.asarray(y)),
            atol=1e-11,
        )
        flat = hidden.reshape(5, -1)
        np.testing.assert_allclose(model.feature_gram(x.first, x.second), flat @ flat.T, rtol=1e-12)


@pytest.mark.parametrize("form", ["dense", "factorised"])
def test_likelihood_is_invariant_under_both_symmetries(form):
    prime, q = 7, 3
    with jax.enable_x64(True):
        x = network64(3, 6, prime)
        reference = float(loss(x, form))
        opposite = x._replace(first=jnp.roll(x.first, q, 1), second=jnp.roll(x.second, -q, 1))
        shifted = x._replace(first=jnp.roll(x.first, q, 1), readout=jnp.roll(x.readout, q, 1))
        scale = q * np.arange(prime) % prime
        scaled = ModularNetwork(*(leaf[:, scale] for leaf in x))
        for moved in (opposite, shifted, scaled):
            assert float(loss(moved, form)) == pytest.approx(reference, rel=1e-12)
        wrong = x._replace(first=jnp.roll(x.first, q, 1))
        assert abs(float(loss(wrong, form)) / reference - 1) > 1e-6


def test_potential_gradient_against_finite_differences():
    with jax.enable_x64(True):
        p = parameters(5)
        x = model.prior_position(jax.random.key(4), p, jnp.float64)
        direction = model.prior_position(jax.random.key(5), p, jnp.float64)
        for form in ("dense", "factorised"):
            u = jax.jit(model.potential(p, form))
            slope = sum(
                float(jnp.vdot(g, d)) for g, d in zip(jax.grad(u)(x), direction, strict=True)
            )
            up, down = (
                float(u(jax.tree.map(lambda a, b, s=s: a + s * b, x, direction)))
                for s in (1e-5, -1e-5)
            )
            assert (up - down) / 2e-5 == pytest.approx(slope, rel=1e-6)


def test_potential_differs_from_its_definition_by_the_zero_loss():
    with jax.enable_x64(True):
        p = parameters(5)
        x = model.prior_position(jax.random.key(6), p, jnp.float64)
        w = np.fft.fft(np.stack([x.first, x.second]), axis=-1) / 5
        decay = 5 * 0.3 / 6 * np.sum(np.abs(w) ** 6)
        full = float(loss(model.to_network(x, p), "dense")) / p.noise + decay
        constant = model.zero_loss(5) / p.noise
        assert float(model.potential(p)(x)) == pytest.approx(full - constant, rel=1e-11)


def test_mask_selects_training_pairs():
    p = parameters(5)
    x = model.prior_position(jax.random.key(7), p)
    mask = np.random.default_rng(0).random((5, 5)) < 0.6
    split = [jax.jit(model.potential(p, mask=m))(x) for m in (mask, ~mask)]
    decay = model.sextic_penalty(x.first, x.second, p.sextic_decay)
    assert float(split[0] + split[1] - decay) == pytest.approx(
        float(jax.jit(model.potential(p, "dense"))(x)), rel=1e-5
    )
    network = model.to_network(x, p)
    full, part = evaluate(network), evaluate(network, mask)
    mean = (part.train_loss * mask.sum() + part.test_loss * (~mask).sum()) / 25
    assert float(mean) == pytest.approx(float(full.train_loss), rel=1e-5)
    assert float(full.train_loss) * 25 / 2 == pytest.approx(float(loss(network, "dense")), rel=1e-5)
    with pytest.raises(ValueError, match="full table"):
        model.potential(p, "factorised", mask=mask)
    with pytest.raises(ValueError, match="shape"):
        model.potential(p, mask=mask[:3])


def test_form_is_chosen_by_size_and_memory():
    assert model.choose_form(parameters(23, 1000)) == "dense"
    assert model.choose_form(parameters(401, 1000)) == "factorised"
    small = parameters(23, 1000)
    limit = model.gradient_cost(small, "dense").bytes
    assert model.choose_form(small, limit) == "dense"
    with pytest.raises(MemoryError, match=r"dense .* GiB, factorised .* GiB"):
        model.choose_form(small, limit / 2)


def _prior_weights(optimised, p, key, steps, step):
    """Metropolis-adjusted Langevin on the prior and Gamma alone, many neurons in parallel."""

    def log_density(w):
        return -0.5 * jnp.sum(w**2, 1) - jax.vmap(
            lambda row: model.sextic_penalty(row[None], 0 * row[None], p.sextic_decay)
        )(w)

    def move(w, key):
        noise_key, accept_key = jax.random.split(key)
        slope = jax.grad(lambda x: log_density(x).sum())
        drift = w + step * slope(w)
        new = drift + jnp.sqrt(2 * step) * jax.random.normal(noise_key, w.shape)
        back = new + step * slope(new)
        log_ratio = log_density(new) - log_density(w)
        log_ratio += jnp.sum((new - drift) ** 2 - (w - back) ** 2, 1) / (4 * step)
        accept = jnp.log(jax.random.uniform(accept_key, (len(w),))) < log_ratio
        return jnp.where(accept[:, None], new, w), None

    # Start inside the bulk: far outside it the sixth power rejects every move.
    start = 0.3 * jax.random.normal(jax.random.fold_in(key, 0), (p.width, p.prime))
    return optimised(partial(jax.lax.scan, move))(start, jax.random.split(key, steps))[0]


def test_prior_power_without_decay():
    p = parameters(7, 20_000)
    x = model.prior_position(jax.random.key(8), p)
    power = np.asarray(model.fourier_power(x.first))
    np.testing.assert_allclose(power.mean(axis=0), 1 / 7, rtol=0.05)
    assert kstest(power[:, 2] * 7, "expon").pvalue > 1e-3
    assert float(jnp.var(model.to_network(x, p).readout)) == pytest.approx(0.5 / 20_000, rel=0.02)


def test_prior_power_with_decay_follows_the_one_dimensional_density(optimised):
    prime, gamma = 5, 200.0
    p = parameters(prime, 4000, sextic_decay=gamma)
    w = _prior_weights(optimised, p, jax.random.key(9), 600, 0.02)
    power = np.sort(np.asarray(model.fourier_power(w))[:, 1:].ravel())
    grid = np.linspace(0, 2.0, 20_001)
    density = np.exp(-2 * prime * (grid / 2 + gamma / 6 * grid**3))
    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    cumulative /= cumulative[-1]
    assert kstest(power, lambda a: np.interp(a, grid, cumulative)).pvalue > 1e-3
    # The decay matters at this strength, so the Gaussian prior alone would fail.
    assert kstest(power * prime, "expon").pvalue < 1e-10
    mean = np.interp(0.5, cumulative, grid)
    assert np.median(power) == pytest.approx(mean, rel=0.05)
    # k = 0 is real: density exp(-P (x^2/2 + gamma x^6/6)).
    weight = [
        quad(lambda x, j=j: x**j * np.exp(-prime * (x**2 / 2 + gamma * x**6 / 6)), -2, 2)[0]
        for j in (0, 2)
    ]
    zero = float(jnp.mean(model.fourier_power(w)[:, 0]))
    assert zero == pytest.approx(weight[1] / weight[0], rel=0.06)


@pytest.mark.parametrize("background", [False, True])
def test_planted_weights_classify_every_pair(background):
    p = ModularAddition(prime=23, width=300, readout_variance=1.6e-8, sextic_decay=2.0, noise=1e-4)
    x = model.planted_position(jax.random.key(10), p, 1.2, background)
    network = model.to_network(x, p)
    assert float(evaluate(network).train_accuracy) == 1
    products = model.fourier_power(network.first) * model.fourier_power(network.second)
    hit = np.asarray(products)[:, 1:] > 0.4**2
    assert (hit.sum(axis=1) == 1).all() or background
    assert hit.sum() >= 300
    assert -1 < float(model.discrepancy(network)) < 0
    power = np.asarray(model.fourier_power(network.first))[:, 1:]
    np.testing.assert_allclose(power.max(axis=1), 1.2, rtol=1e-3)
    if not background:
        np.testing.assert_allclose(model.inverse_participation_ratio(network.first), 1, rtol=1e-4)
    prior = model.prior_position(jax.random.key(11), p)
    chance = float(evaluate(model.to_network(prior, p)).train_accuracy)
    assert chance < 0.2


def test_readout_posterior_is_the_stationary_point():
    with jax.enable_x64(True):
        p = parameters(7, 6)
        x = network64(12, 6, 7)
        mean, precision = model.readout_posterior(x.first, x.second, p)
        scale = (p.readout_variance / p.width) ** 0.5
        position = x._replace(readout=jnp.asarray(mean) / scale)
        slope = jax.grad(model.potential(p, "factorised"))(position).readout + position.readout
        assert float(jnp.abs(slope).max()) < 1e-9
        assert np.linalg.eigvalsh(precision).min() >= p.width / p.readout_variance * (1 - 1e-9)
