"""Modular addition with the readouts integrated out, against dense Gaussian algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase.models import collapsed_readout
from grokphase.models import modular_addition as model
from grokphase.models.collapsed_readout import InputWeights
from grokphase.parameters import ModularAddition
from grokphase.sampling.kernels import Info, Kernel, load
from scipy.stats import multivariate_normal


def parameters(prime=5, width=4, noise=0.3):
    return ModularAddition(
        prime=prime,
        width=width,
        readout_variance=0.2,
        sextic_decay=0.5,
        noise=noise,
        allow_composite=True,
    )


def data_of(of, dtype=jnp.float32):
    return model.Data(jnp.asarray(of.noise, dtype), jnp.ones((of.prime, of.prime), bool))


def weights_of(of, seed, scale=1.0):
    draws = scale * np.random.default_rng(seed).standard_normal((2, of.width, of.prime))
    return InputWeights(*draws)


def negative_log_evidence(weights, of):
    """-log N(y_p; 0, sigma^2 + (sigma_a^2/N) phi^T phi) summed over p, and Gamma, by tables."""
    w, v = (np.asarray(x) for x in weights)
    prime = of.prime
    phi = ((w[:, :, None] + v[:, None, :]) ** 2).reshape(of.width, -1)
    covariance = of.noise * np.eye(prime**2) + of.readout_variance / of.width * phi.T @ phi
    label = np.add.outer(np.arange(prime), np.arange(prime)).ravel() % prime
    y = np.eye(prime)[label] - 1 / prime
    evidence = multivariate_normal(np.zeros(prime**2), covariance).logpdf(y.T).sum()
    powers = np.abs(np.fft.fft(np.stack([w, v]), axis=-1) / prime) ** 2
    return -evidence + prime * of.sextic_decay / 6 * (powers**3).sum()


@pytest.mark.parametrize(("prime", "width"), [(5, 4), (6, 3), (7, 30)])
def test_the_potential_is_that_of_the_evidence(prime, width):
    """Differences between weights, to rounding in float64; width above and below the pairs."""
    of = parameters(prime, width)
    with jax.enable_x64(True):
        target = collapsed_readout.target(of, data_of(of, jnp.float64))
        evaluate = jax.jit(target.potential_and_gradient)
        found, wanted = [], []
        for seed in range(3):
            weights = weights_of(of, seed, scale=0.5 + seed)
            found.append(float(evaluate(InputWeights(*map(jnp.asarray, weights)))[0]))
            wanted.append(negative_log_evidence(weights, of))
    np.testing.assert_allclose(np.diff(found), np.diff(wanted), rtol=1e-9)


def test_the_gradient_is_that_of_the_potential():
    """Central differences along random directions."""
    of = parameters(7, 5)
    with jax.enable_x64(True):
        target = collapsed_readout.target(of, data_of(of, jnp.float64))
        evaluate = jax.jit(target.potential_and_gradient)
        weights = InputWeights(*map(jnp.asarray, weights_of(of, 1)))
        _, gradient = evaluate(weights)
        for seed in range(3):
            direction = weights_of(of, 10 + seed)
            h = 1e-5
            ends = [
                float(evaluate(jax.tree.map(lambda x, d, s=s: x + s * d, weights, direction))[0])
                for s in (-h, h)
            ]
            along = sum(float(jnp.vdot(g, d)) for g, d in zip(gradient, direction, strict=True))
            assert (ends[1] - ends[0]) / (2 * h) == pytest.approx(along, rel=1e-6)


def test_single_precision_agrees_where_the_readouts_are_stiff():
    """Planted weights, whose B has a condition number above 10^4: gradient within 1e-3."""
    of = ModularAddition(prime=11, width=200, readout_variance=1e-3, sextic_decay=1e-2, noise=0.01)
    position = model.place(
        jax.random.key(0), "planted", of, data_of(of), model.PlantedWaves(waves=1)
    )
    weights = InputWeights(position.first, position.second)
    target = collapsed_readout.target(of, data_of(of))
    _, single = jax.jit(target.potential_and_gradient)(weights)
    strength = of.readout_variance / of.width / of.noise
    b = np.eye(of.width) + strength * model.feature_gram(*(np.asarray(x, float) for x in weights))
    assert np.linalg.cond(b) > 1e4
    with jax.enable_x64(True):
        exact = InputWeights(*(jnp.asarray(np.asarray(x), jnp.float64) for x in weights))
        target = collapsed_readout.target(of, data_of(of, jnp.float64))
        _, double = jax.jit(target.potential_and_gradient)(exact)
    error = np.linalg.norm(np.asarray(single.first, float) - np.asarray(double.first))
    assert error < 1e-3 * np.linalg.norm(double.first)


def test_readouts_are_drawn_from_their_posterior():
    """20 000 draws: mean and covariance within 5 standard errors of the exact ones."""
    of = parameters(5, 4)
    weights = weights_of(of, 2)
    mean, precision = model.readout_posterior(*weights, of)
    single = InputWeights(*(jnp.asarray(x, jnp.float32) for x in weights))
    keys = jax.random.split(jax.random.key(3), 20_000)
    noise = jnp.asarray(of.noise, jnp.float32)
    draw = jax.jit(jax.vmap(lambda key: collapsed_readout.draw_readout(key, single, of, noise)))
    draws = np.asarray(draw(keys), float) * (of.readout_variance / of.width) ** 0.5
    covariance = np.linalg.inv(precision)
    error = np.sqrt(np.diagonal(covariance) / len(draws))[:, None]
    assert np.abs(draws.mean(axis=0) - mean).max() < 5 * error.max()
    centred = draws - mean
    found = np.einsum("sip,sjp->ij", centred, centred) / (len(draws) * of.prime)
    scale = np.sqrt(np.outer(np.diagonal(covariance), np.diagonal(covariance)))
    limit = 5 * np.sqrt(2 / (len(draws) * of.prime))
    assert np.abs((found - covariance) / scale).max() < limit


def test_both_ways_sample_the_same_posterior(run_chains):
    """2 000 chains each of joint and collapsed dynamics; false alarm 1e-5 for each observable."""
    of = parameters(5, 3, noise=0.5)
    data = data_of(of)
    hamiltonian = load("hamiltonian")

    def builder(step_size, leapfrog_steps):
        settings = hamiltonian.Settings(step_size=step_size, leapfrog_steps=leapfrog_steps)
        return lambda target: hamiltonian.build(target, settings)

    wide = of.model_copy(update={"width": 2000 * of.width})
    start = jax.tree.map(
        lambda x: x.reshape(2000, of.width, of.prime),
        model.prior_position(jax.random.key(4), wide),
    )
    measured = []
    for kernel in (
        # The readouts are stiff: joint steps must be short.
        builder(0.06, 20)(model.target(of, data)),
        collapsed_readout.with_collapsed_readout(builder(0.3, 4), of, data),
    ):
        draws = run_chains(kernel, start, seed=5, burn_in=30)
        position = jax.tree.map(lambda x: x[:, 0], draws)

        @jax.jit
        @jax.vmap
        def observe(x):
            potential, _ = model.target(of, data).potential_and_gradient(x)
            return model.observables(x, potential, of, data)

        measured.append(np.asarray(observe(position), float)[:, [0, 2, 3, 4]])
    first, second = measured
    error = np.sqrt((first.var(axis=0) + second.var(axis=0)) / 2000)
    z = (first.mean(axis=0) - second.mean(axis=0)) / error
    assert np.abs(z).max() < 4.42, z


def test_the_readouts_alone_are_redrawn_by_a_kernel_that_stays():
    """Input weights in place, readouts independent of where they were."""
    of = parameters(5, 4)
    data = data_of(of)

    def still(target):
        init = (
            load("hamiltonian")
            .build(target, load("hamiltonian").Settings(step_size=0.1, leapfrog_steps=1))
            .init
        )
        return Kernel(init, lambda key, state: (state, Info(1.0, 0.0)))

    kernel = collapsed_readout.with_collapsed_readout(still, of, data)
    redrawn = jax.jit(lambda x: kernel.step(jax.random.key(7), kernel.init(x))[0].position)
    states = [
        redrawn(position)
        for position in (
            model.prior_position(jax.random.key(6), of)._replace(readout=r)
            for r in (jnp.zeros((4, 5)), jnp.ones((4, 5)))
        )
    ]
    np.testing.assert_array_equal(states[0].readout, states[1].readout)
    np.testing.assert_array_equal(
        states[0].first, model.prior_position(jax.random.key(6), of).first
    )
