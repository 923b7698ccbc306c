"""Networks of one or two neurons, whose posterior is integrated on a grid, for every kernel."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from grokphase.datasets import generate_dataset, write_dataset
from grokphase.models import neuron_sweep
from grokphase.models import teacher_student as model
from grokphase.models.teacher_student_moves import with_sweeps
from grokphase.parameters import TeacherStudent
from grokphase.sampling.kernels import Info, Kernel, load
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.specifications.training import Networks, PlantedStart, TrainingSpecification
from grokphase.storage import read_table
from grokphase.tables import shards
from grokphase.tables.observables import OBSERVABLES
from grokphase.training import train
from scipy.special import erf, ndtri
from scipy.stats import kstest, qmc

SIZES = {"one_neuron": (1, 1), "one_neuron_2d": (1, 2), "two_neurons": (2, 1)}
"""name -> (width N, input dimension d)"""

EXACT = {
    "pcn_langevin": ({"step_size": 0.5, "metropolis": True}, 100),
    "hamiltonian": ({"step_size": 0.5, "leapfrog_steps": 3, "metropolis": True}, 30),
    "hamiltonian in two stages": (
        {"step_size": 0.5, "leapfrog_steps": 4, "integrator": "two_stage"},
        30,
    ),
    "hamiltonian with forces in bfloat16": (
        {"step_size": 0.5, "leapfrog_steps": 3, "force_precision": "bfloat16"},
        30,
    ),
}
"""name -> (settings, steps that forget the start)"""


@pytest.fixture(autouse=True)
def _gradients_in_bfloat16(monkeypatch):
    """Also on a processor that has no such products, where nothing gains by them."""
    monkeypatch.setattr(model, "multiplies_bfloat16", lambda: True)


def parameters(size):
    width, input_dim = SIZES[size]
    # Equal prior variances 2 in both layers give both layers the same Euler step.
    return TeacherStudent(
        input_dim=input_dim,
        width=width,
        train_size=4,
        weight_variance=2.0 * input_dim,
        readout_variance=2.0 * width,
        noise=NOISE,
        cubic_strength=-0.3,
    )


def dataset_of(size):
    return DatasetSpecification(
        experiment="tiny", seed=5, dataset=0, input_dim=SIZES[size][1], train_size=4
    )


NOISE = 2.0
CHAINS = 10_000
LIMIT = math.sqrt(math.log(2 / 1e-5) / (2 * CHAINS))
"""Kolmogorov-Smirnov distance that independent exact draws exceed with probability 1e-5."""


class Posterior(NamedTuple):
    """Distributions as (values, cumulative), or samples, of four quantities of the first neuron
    and of the network."""

    readout: Any
    overlap: Any
    linear_overlap: Any
    train_loss: Any


def integrate(size):
    """The posterior on a quasi-random grid over all weights, with every formula written anew.

    The 2^18 points fill the prior evenly and have the likelihood as weight.
    """
    of, dataset = parameters(size), generate_dataset(dataset_of(size))
    width, input_dim = SIZES[size]
    inputs, teacher = dataset.inputs.astype(float), dataset.teacher.astype(float)
    z = inputs @ teacher
    y = z + of.cubic_strength * (z**3 - 3 * z)
    cube = qmc.Sobol(width * (1 + input_dim), rng=0).random_base2(18)
    points = math.sqrt(2) * ndtri(cube).reshape(-1, width, 1 + input_dim)
    a, w = points[..., 0], points[..., 1:]
    loss = ((np.einsum("si,sin->sn", a, erf(w @ inputs.T)) - y) ** 2).sum(axis=1)
    weight = np.exp(-loss / (2 * of.noise))
    weight /= weight.sum()
    q = w @ teacher
    linear = (a * 2 / math.sqrt(math.pi) * q / np.sqrt(1 + 2 * (w**2).sum(axis=-1))).sum(axis=1)

    def distribution(values):
        order = np.argsort(values)
        return values[order], np.cumsum(weight[order])

    return Posterior(*map(distribution, (a[:, 0], q[:, 0], linear, loss / 4)))


@pytest.fixture(scope="module")
def posteriors():
    return {size: integrate(size) for size in SIZES}


def prior_positions(size, chains):
    width, input_dim = SIZES[size]
    readout_key, weights_key = jax.random.split(jax.random.key(11))
    return model.Position(
        jax.random.normal(readout_key, (chains, width)),
        jax.random.normal(weights_key, (chains, width, input_dim)),
    )


def measure(size, position):
    """The same quantities in samples."""
    of = parameters(size)
    data = model.load_data(of, generate_dataset(dataset_of(size)))

    @jax.jit
    @jax.vmap
    def one(x):
        potential, _ = model.target(of, data).potential_and_gradient(x)
        return model.observables(x, potential, of, data), model.overlaps(x, of, data)

    observables, q = map(np.asarray, one(position))
    columns = dict(zip(OBSERVABLES["teacher_student"], observables.T, strict=True))
    return Posterior(
        np.asarray(model.original_weights(position, of).readout)[:, 0],
        q[:, 0],
        columns["linear_overlap"],
        columns["train_loss"],
    )


def sample(run_chains, size, name, settings, steps, sweeps=0):
    """The quantities in independent chains started from the prior."""
    of = parameters(size)
    data = model.load_data(of, generate_dataset(dataset_of(size)))
    kernel = load(name).build(model.target(of, data), load(name).Settings(**settings))
    kernel = with_sweeps(kernel, sweeps, of, data)
    draws = run_chains(kernel, prior_positions(size, CHAINS), seed=12, burn_in=steps)
    return measure(size, jax.tree.map(lambda x: x[:, 0], draws))


def distances(posterior, samples):
    """Kolmogorov-Smirnov distance of each quantity."""
    return {
        name: kstest(np.asarray(values), lambda x, c=cumulative: np.interp(x, *c)).statistic
        for name, cumulative, values in zip(Posterior._fields, posterior, samples, strict=True)
    }


@pytest.mark.parametrize("size", SIZES)
def test_the_posterior_is_far_from_the_prior(posteriors, size):
    """So that a kernel which ignores the data is found out below."""
    found = distances(posteriors[size], measure(size, prior_positions(size, CHAINS)))
    assert max(found.values()) > 5 * LIMIT


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", EXACT)
def test_adjusted_kernels_are_exact(run_chains, posteriors, name, size):
    """10 000 independent chains, false alarm 1e-5 for each of four distributions."""
    settings, steps = EXACT[name]
    samples = sample(run_chains, size, name.split()[0], settings, steps)
    found = distances(posteriors[size], samples)
    assert max(found.values()) < LIMIT, found


@pytest.mark.parametrize("nodes", [3, neuron_sweep.NODES])
@pytest.mark.parametrize("size", ["one_neuron", "two_neurons"])
def test_neuron_sweeps_alone_are_exact(run_chains, posteriors, monkeypatch, size, nodes):
    """In one dimension they need no kernel, and no good grid (1e-5 for each distribution)."""
    grid = neuron_sweep.overlap_grid
    monkeypatch.setattr(neuron_sweep, "overlap_grid", lambda *prior: grid(*prior, nodes))
    of = parameters(size)
    data = model.load_data(of, generate_dataset(dataset_of(size)))
    pcn = load("pcn_langevin")
    init = pcn.build(model.target(of, data), pcn.Settings(step_size=0.1)).init
    still = Kernel(init, lambda key, state: (state, Info(1.0, 0.0)))
    kernel = with_sweeps(still, 1, of, data)
    draws = run_chains(kernel, prior_positions(size, CHAINS), seed=13, burn_in=40)
    found = distances(posteriors[size], measure(size, jax.tree.map(lambda x: x[:, 0], draws)))
    assert max(found.values()) < LIMIT, found


@pytest.mark.parametrize("name", ["hamiltonian", "hamiltonian with forces in bfloat16"])
def test_neuron_sweeps_leave_the_posterior_of_a_kernel(run_chains, posteriors, name):
    """With perpendicular weights, which only the kernel moves (1e-5 for each distribution)."""
    settings, steps = EXACT[name]
    samples = sample(run_chains, "one_neuron_2d", "hamiltonian", settings, steps, sweeps=2)
    found = distances(posteriors["one_neuron_2d"], samples)
    assert max(found.values()) < LIMIT, found


@pytest.mark.parametrize(
    ("name", "settings", "steps", "bias"),
    [
        ("isotropic_langevin", {"step_size": 0.03 * 2 / NOISE}, 250, 0.015),
        ("pcn_langevin", {"step_size": 0.03, "metropolis": False}, 250, 0.015),
        (
            "hamiltonian",
            {"step_size": 0.15, "leapfrog_steps": 8, "metropolis": False},
            25,
            0.002,
        ),
    ],
)
def test_unadjusted_kernels_are_close_at_a_small_step(
    run_chains, posteriors, name, settings, steps, bias
):
    """Bias of the distributions below `bias`, beside the noise of 10 000 chains (1e-5 each)."""
    samples = sample(run_chains, "one_neuron", name, settings, steps)
    found = distances(posteriors["one_neuron"], samples)
    assert max(found.values()) < LIMIT + bias, found


@pytest.mark.parametrize(("step_size", "neuron_sweeps"), [(0.5, 0), (1e-3, 1)])
def test_training_counts_overlaps_of_the_posterior(posteriors, tmp_path, step_size, neuron_sweeps):
    """The shard's fine bins of q, from both kinds of start, against the grid.

    With steps so short that they hardly move, the sweeps over neurons alone must do it.
    200 networks of 40 almost independent draws: 5 standard errors of network means per quarter of
    the distribution (false alarm < 1e-4).
    """
    write_dataset(dataset_of("one_neuron"), tmp_path / "0.npz")
    specification = TrainingSpecification(
        experiment="tiny",
        seed=5,
        point="noise~0.6",
        model="teacher_student",
        parameters=parameters("one_neuron"),
        kernel={"kernel": "hamiltonian", "step_size": step_size, "leapfrog_steps": 3},
        neuron_sweeps=neuron_sweeps,
        burn_in=30,
        draws=40,
        thin=3,
        networks=Networks(prior=100, planted=100),
        planted=PlantedStart(),
    )
    train(specification, {0: tmp_path / "0.npz"}, tmp_path / "shard", tmp_path, "")
    table = read_table(tmp_path / "shard", shards.schema(OBSERVABLES["teacher_student"]))
    counts = np.stack(table["overlap_counts"].to_numpy())
    assert (counts.sum(axis=1) == 40).all()
    fine_edges = -shards.FINE_LIMIT + shards.FINE_WIDTH * np.arange(shards.FINE_BINS + 1)
    cumulative = np.cumsum(counts, axis=1)[:, :-1]
    for q in (-1.0, -0.5, -0.1, 0.0, 0.1, 0.5, 1.0):
        edge = np.abs(fine_edges - q).argmin()
        below = cumulative[:, edge] / 40
        error = below.std(ddof=1) / math.sqrt(len(below))
        assert below.mean() == pytest.approx(
            np.interp(q, *posteriors["one_neuron"].overlap), abs=5 * error
        )
    expected_counts = np.stack(table["expected_overlap_counts"].to_numpy())
    assert expected_counts.shape == (counts.shape if neuron_sweeps else (200, 0))
    if neuron_sweeps:
        # The conditional density of the only weight, for every network and draw the same.
        assert np.ptp(expected_counts, axis=0).max() < 1e-3
        exact = np.interp(fine_edges, *posteriors["one_neuron"].overlap)
        # Of every second draw, the last one among them.
        np.testing.assert_allclose(2 * expected_counts.sum(axis=1), counts.sum(axis=1), rtol=1e-4)
        found = np.cumsum(expected_counts[0])[:-1] / 20
        np.testing.assert_allclose(found - found[400], exact - exact[400], atol=2e-3)
    losses = np.stack(table["train_loss"].to_numpy())
    x, cumulative = posteriors["one_neuron"].train_loss
    means = losses.mean(axis=1, dtype=float)
    error = means.std(ddof=1) / math.sqrt(len(means))
    assert means.mean() == pytest.approx(np.diff(cumulative, prepend=0) @ x, abs=5 * error)
