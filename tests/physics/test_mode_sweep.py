"""Sweeps over the Fourier modes of modular addition: exact, and droplets come and go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase import training
from grokphase.datasets import write_dataset
from grokphase.errors import GrokphaseError
from grokphase.models import mode_sweep
from grokphase.models import modular_addition as model
from grokphase.parameters import ModularAddition
from grokphase.sampling.kernels import load
from grokphase.sampling.sweeps import followed_by_sweeps, repeated
from grokphase.specifications.dataset import PairOrderSpecification
from grokphase.specifications.training import Networks, PlantedWaves, TrainingSpecification
from grokphase.storage import read_table
from grokphase.tables import shards
from grokphase.tables.observables import OBSERVABLES
from scipy.stats import ks_2samp

# Two neurons on a table of nine pairs: the posterior is far from the prior, yet draws from the
# prior reach it, weighted by their marginal likelihood.
TINY = ModularAddition(prime=3, width=2, readout_variance=0.05, sextic_decay=0.3, noise=0.3)
# The barrier and the phases of the theory of config.yaml's modular_small, at a smaller size.
SMALL = ModularAddition(
    prime=11, width=100, readout_variance=2.46e-7, sextic_decay=1.0, noise=5.6e-4
)


def parts(seed, parameters, train_fraction=1.0):
    """Data with a random part of the table, and Fourier coefficients of a prior network."""
    generator = np.random.default_rng(seed)
    mask = generator.random((parameters.prime,) * 2) < train_fraction
    data = model.Data(jnp.float32(parameters.noise), jnp.asarray(mask))
    basis = mode_sweep.fourier_basis(parameters.prime)
    weights = generator.standard_normal((parameters.width, 2, parameters.prime))
    return data, jnp.asarray(weights @ basis.T, jnp.float32)


@pytest.mark.parametrize("prime", [3, 6, 7])
def test_coefficients_are_orthonormal_and_give_the_power_of_the_modes(prime):
    basis = mode_sweep.fourier_basis(prime)
    np.testing.assert_allclose(basis @ basis.T, np.eye(prime), atol=1e-6)
    weights = np.random.default_rng(0).standard_normal(prime)
    coefficients = basis @ weights
    pairs = coefficients[1 : prime - (prime + 1) % 2].reshape(-1, 2)
    power = model.fourier_power(weights)[1 : len(pairs) + 1]
    np.testing.assert_allclose((pairs**2).sum(axis=1) / (2 * prime), power, rtol=1e-5)


def log_marginal(first, second, data, parameters):
    """log p(w, v | y), up to a constant, and all readouts' posterior; dense, in double precision.

    first, second : [..., N, P] weights. Returns also mean [..., N, P] and covariance [..., N, N].
    """
    p, trained = parameters, np.asarray(data.mask).ravel()
    target = np.asarray(model.target_table(p.prime), float).reshape(-1, p.prime)[trained]
    hidden = np.square(first[..., :, None] + second[..., None, :])
    hidden = hidden.reshape(*first.shape[:-1], -1)[..., trained]
    precision = hidden @ hidden.swapaxes(-1, -2) / p.noise
    precision += np.eye(p.width) * p.width / p.readout_variance
    covariance = np.linalg.inv(precision)
    field = hidden @ target / p.noise
    mean = covariance @ field
    power = model.fourier_power(np.stack([first, second]))
    copies = np.where(np.arange(power.shape[-1]) > 0, 2, 1)  # P is odd
    decay = p.prime * p.sextic_decay / 6 * (copies * np.asarray(power, float) ** 3).sum(axis=-1)
    log_density = (
        (field * mean).sum(axis=(-1, -2)) / 2
        - p.prime / 2 * np.linalg.slogdet(precision)[1]
        - decay.sum(axis=(0, -1))
    )
    return log_density, mean, covariance


@pytest.mark.parametrize("train_fraction", [1.0, 0.6])
def test_the_collapsed_density_is_that_of_dense_linear_algebra(train_fraction):
    parameters = ModularAddition(
        prime=7, width=6, readout_variance=1e-3, sextic_decay=1.0, noise=1e-2
    )
    data, coefficients = parts(1, parameters, train_fraction)
    frequency, visited = 2, 3
    rows = slice(2 * frequency - 1, 2 * frequency + 1)
    variance = parameters.readout_variance / parameters.width
    modes = jnp.asarray(2 * np.random.default_rng(2).standard_normal((2, 2, 8)))

    @jax.jit
    def log_densities(coefficients, modes):
        others = mode_sweep.all_neurons(coefficients, parameters, data)
        phi = mode_sweep.features(coefficients[visited])
        others = mode_sweep.add_neuron(others, phi, -variance)
        neuron = mode_sweep.Neuron(
            coefficients[visited], phi @ others.inverse @ phi, phi @ others.fitted
        )
        changes = mode_sweep.monomials(modes, coefficients[visited, :, rows])
        found = mode_sweep.collapse(changes, frequency, neuron, others, parameters)
        return found.log_likelihood + mode_sweep.log_prior(modes, parameters)

    log_density = log_densities(coefficients, modes)
    basis = mode_sweep.fourier_basis(7).astype(float)
    w, v = np.repeat(np.asarray(coefficients, float).swapaxes(0, 1)[:, None], 8, axis=1)
    w[:, visited, rows], v[:, visited, rows] = np.moveaxis(modes, 2, 1)
    expected = log_marginal(w @ basis, v @ basis, data, parameters)[0]
    expected = expected - (w**2 + v**2).sum(axis=(1, 2)) / 2
    assert np.ptp(expected) > 10
    difference = np.asarray(log_density) - expected
    np.testing.assert_allclose(difference - difference[0], 0, atol=2e-3)


def test_replacing_every_neuron_loses_no_precision():
    data, old = parts(3, SMALL)
    _, new = parts(4, SMALL)
    variance = SMALL.readout_variance / SMALL.width

    def replace(others, pair):
        others = mode_sweep.add_neuron(others, mode_sweep.features(pair[0]), -variance)
        return mode_sweep.add_neuron(others, mode_sweep.features(pair[1]), variance), None

    start = mode_sweep.all_neurons(old, SMALL, data)
    others, _ = jax.lax.scan(replace, start, (old, new))
    exact = mode_sweep.all_neurons(new, SMALL, data)
    for one, two in zip(others, exact, strict=True):
        assert float(jnp.abs(one - two).max()) < 2e-5 * float(jnp.abs(two).max())


def test_the_density_of_the_proposal_is_that_of_its_draws():
    """E_g[h/g] = 1 for densities h: the prior of a mode, and one of droplets around a phase.

    5 standard errors of 200 000 draws (false alarm < 1e-6 each)."""
    modes = mode_sweep.propose(jax.random.key(1), (3125,), SMALL)
    log_density = np.asarray(mode_sweep.log_proposal(modes, SMALL), float).ravel()
    modes = np.moveaxis(np.asarray(modes, float), 3, 1).reshape(-1, 2, 2)
    radius = mode_sweep.droplet_radius(SMALL)
    for centre, width in ((0.0, 1.0), (radius, 0.1 * radius)):
        offset = (modes - [centre, 0.0]) / width
        log_h = -(offset**2).sum(axis=(1, 2)) / 2 - 2 * np.log(2 * np.pi * width**2)
        ratio = np.exp(log_h - log_density)
        assert ratio.mean() == pytest.approx(1, abs=5 * ratio.std() / np.sqrt(len(ratio)))


def exact_draws(data, count, seed):
    """Draws from the posterior of TINY: from the prior, resampled by marginal likelihood."""
    generator = np.random.default_rng(seed)
    first, second = generator.standard_normal((2, 100_000, TINY.width, TINY.prime))
    log_weight, mean, covariance = log_marginal(first, second, data, TINY)
    weight = np.exp(log_weight - log_weight.max())
    assert weight.sum() ** 2 / (weight**2).sum() > 5 * count
    chosen = generator.choice(len(weight), count, p=weight / weight.sum())
    noise = generator.standard_normal((count, TINY.width, TINY.prime))
    readout = mean[chosen] + np.linalg.cholesky(covariance[chosen]) @ noise
    scale = (TINY.readout_variance / TINY.width) ** 0.5
    return model.ModularNetwork(readout / scale, first[chosen], second[chosen])


def quantities(position, data):
    """Scalars of networks [chains]: data misfit, a, and powers of both operands' modes."""
    position = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), position)
    observed = np.asarray(
        jax.vmap(lambda x: model.observables(x, jnp.zeros(()), TINY, data))(position)
    )
    first, second = (np.asarray(model.fourier_power(x)) for x in position[1:])
    product = first[..., 1] * second[..., 1]
    return {
        "discrepancy": observed[:, 0],
        "train_loss": observed[:, 4],
        "power": first[:, 0, 1],
        "largest product": product.max(axis=1),
        "constant": first[:, 0, 0],
        "readout": np.asarray(position.readout)[:, 0, 0],
    }


@pytest.mark.parametrize(("mask_size", "candidates"), [(9, 16), (5, 2)])
def test_sweeps_beside_a_kernel_are_exact(run_chains, monkeypatch, mask_size, candidates):
    """4000 chains against as many exact draws; two-sample distances, false alarm 1e-5 each.

    The kernel moves the constant modes, and little else."""
    monkeypatch.setattr(mode_sweep, "CANDIDATES", candidates)
    data = model.Data(jnp.float32(TINY.noise), jnp.arange(9).reshape(3, 3) % 9 < mask_size)
    of = TINY.model_copy(update={"train_fraction": mask_size / 9})
    count = 4000
    limit = np.sqrt(-np.log(1e-5 / 2) / 2) * np.sqrt(2 / count)
    exact = quantities(exact_draws(data, count, 5), data)
    wide = TINY.model_copy(update={"width": count * TINY.width})
    prior = jax.tree.map(
        lambda x: x.reshape(count, TINY.width, TINY.prime),
        model.prior_position(jax.random.key(6), wide),
    )
    far = {name: ks_2samp(exact[name], x).statistic for name, x in quantities(prior, data).items()}
    assert max(far.values()) > 5 * limit
    assert far["largest product"] > 2 * limit
    hamiltonian = load("hamiltonian")
    settings = hamiltonian.Settings(step_size=0.3, leapfrog_steps=4)
    kernel = followed_by_sweeps(
        hamiltonian.build(model.target(of, data), settings),
        repeated(lambda key, x: mode_sweep.sweep(key, x, of, data), 1),
    )
    draws = run_chains(kernel, prior, seed=7, burn_in=8)
    found = quantities(jax.tree.map(lambda x: x[:, 0], draws), data)
    distance = {name: ks_2samp(exact[name], x).statistic for name, x in found.items()}
    assert max(distance.values()) < limit, distance


def test_both_starts_meet_within_four_sweeps():
    """Droplets form from the prior and dissolve from a start where every mode is one.

    The same number of trajectories leaves the starts apart."""
    data = model.Data(jnp.float32(SMALL.noise), jnp.ones((11, 11), bool))
    hamiltonian = load("hamiltonian")
    plain = hamiltonian.build(
        model.target(SMALL, data), hamiltonian.Settings(step_size=0.05, leapfrog_steps=8)
    )
    swept = followed_by_sweeps(
        plain, repeated(lambda key, x: mode_sweep.sweep(key, x, SMALL, data), 1)
    )

    @jax.jit
    def last(kernel_key, position):
        kernels = {"plain": plain, "swept": swept}
        states = {name: kernel.init(position) for name, kernel in kernels.items()}
        for name, kernel in kernels.items():
            states[name] = jax.lax.fori_loop(
                0,
                4,
                lambda n, s, kernel=kernel: kernel.step(jax.random.fold_in(kernel_key, n), s)[0],
                states[name],
            )
        return {
            name: model.observables(state.position, state.potential, SMALL, data)
            for name, state in states.items()
        }

    found = {}
    for start in ("prior", "planted"):
        position = model.place(jax.random.key(8), start, SMALL, data, PlantedWaves(waves=5))
        for name, observed in last(jax.random.key(9), position).items():
            found[name, start] = dict(
                zip(OBSERVABLES["modular_addition"], np.asarray(observed), strict=True)
            )
    droplets = {key: one["droplets_per_neuron"] for key, one in found.items()}
    a = {key: one["discrepancy"] for key, one in found.items()}
    assert droplets["plain", "prior"] < 0.2
    assert droplets["plain", "planted"] > 4
    assert abs(a["plain", "prior"] - a["plain", "planted"]) > 0.15
    assert 0.5 < droplets["swept", "prior"] < 4
    assert 0.5 < droplets["swept", "planted"] < 4
    assert abs(a["swept", "prior"] - a["swept", "planted"]) < 0.05


def nearly_at_rest(of, sweeps):
    """Training of one network whose kernel does next to nothing."""
    return TrainingSpecification(
        experiment="e",
        seed=1,
        point=f"{sweeps}",
        model="modular_addition",
        parameters=of,
        kernel={"kernel": "hamiltonian", "step_size": 1e-4, "leapfrog_steps": 1},
        neuron_sweeps=sweeps,
        burn_in=1,
        draws=2,
        thin=1,
        networks=Networks(prior=1, planted=0),
        planted=PlantedWaves(),
    )


def test_training_sweeps_where_the_configuration_says_so(tmp_path):
    """Without a single leapfrog step worth its name, all droplets are made by the sweeps."""
    order = PairOrderSpecification(experiment="e", seed=1, dataset=0, prime=11)
    write_dataset(order, tmp_path / "0.npz")
    droplets = {}
    for sweeps in (0, 1):
        specification = nearly_at_rest(SMALL, sweeps)
        training.train(specification, {0: tmp_path / "0.npz"}, tmp_path / "shard", tmp_path, "")
        observables = OBSERVABLES["modular_addition"]
        table = read_table(tmp_path / "shard", shards.schema(observables, "modular_addition"))
        droplets[sweeps] = table["droplets_per_neuron"].to_pylist()[0][-1]
    assert droplets[0] < 0.2
    assert droplets[1] > 0.5


def test_sweeps_that_lose_their_precision_are_refused(tmp_path):
    """Every mode a droplet, at a noise where the kernel's condition number is 4e5."""
    order = PairOrderSpecification(experiment="e", seed=1, dataset=0, prime=11)
    write_dataset(order, tmp_path / "0.npz")
    of = ModularAddition(prime=11, width=100, readout_variance=6.6e-6, sextic_decay=2.2, noise=1e-6)
    start = nearly_at_rest(of, 1)
    specification = start.model_copy(
        update={
            "networks": Networks(prior=0, planted=1),
            "planted": PlantedWaves(waves=5),
            "kernel": start.kernel | {"metropolis": False},
        }
    )
    with pytest.raises(GrokphaseError, match="too ill-conditioned for sweeps"):
        training.train(specification, {0: tmp_path / "0.npz"}, tmp_path / "shard", tmp_path, "")
