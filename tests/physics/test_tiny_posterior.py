"""Networks of one or two neurons, whose posterior is integrated on a grid, for every kernel."""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase.datasets import generate_dataset, write_dataset
from grokphase.models import teacher_student as model
from grokphase.parameters import TeacherStudent
from grokphase.sampling.kernels import load
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.specifications.training import Networks, PlantedStart, TrainingSpecification
from grokphase.storage import read_table
from grokphase.tables import shards
from grokphase.tables.observables import OBSERVABLES
from grokphase.training import train
from scipy.special import erf
from scipy.stats import kstest

SIZES = {"one_neuron": (1, 1), "one_neuron_2d": (1, 2), "two_neurons": (2, 1)}
"""name -> (width N, input dimension d)"""

EXACT = {
    "pcn_langevin": ({"step_size": 0.5, "metropolis": True}, 100),
    "hamiltonian": ({"step_size": 0.5, "leapfrog_steps": 3, "metropolis": True}, 30),
}
"""name -> (settings, steps that forget the start)"""


def parameters(size):
    width, input_dim = SIZES[size]
    # Equal prior variances 2 in both layers give both layers the same Euler step.
    return TeacherStudent(
        input_dim=input_dim,
        width=width,
        train_size=4,
        weight_variance=2.0 * input_dim,
        readout_variance=2.0 * width,
        noise=0.6,
        cubic_strength=-0.3,
    )


def dataset_of(size):
    width, input_dim = SIZES[size]
    return DatasetSpecification(
        experiment="tiny", seed=5, dataset=0, input_dim=input_dim, train_size=4
    )


class Posterior(NamedTuple):
    """Cumulative distributions: name -> (values, cumulative)."""

    readout: tuple
    overlap: tuple
    linear_overlap: tuple
    train_loss: tuple


def integrate(size):
    """The posterior on a grid over all weights, with every formula written anew.

    The first input axis of the grid points along the teacher.
    """
    of, dataset = parameters(size), generate_dataset(dataset_of(size))
    width, input_dim = SIZES[size]
    inputs, teacher = dataset.inputs.astype(float), dataset.teacher.astype(float)
    z = inputs @ teacher
    y = z + of.cubic_strength * (z**3 - 3 * z)
    points = {1: 601, 2: 121}[input_dim] if width == 1 else 55
    axis = np.linspace(-4.8, 4.8, points)
    neuron = np.array(list(itertools.product(axis, repeat=1 + input_dim)))
    a, q = math.sqrt(2) * neuron[:, 0], math.sqrt(2) * neuron[:, 1]
    preactivation = np.outer(q, z)
    if input_dim == 2:
        across = np.array([-teacher[1], teacher[0]])
        preactivation += np.outer(math.sqrt(2) * neuron[:, 2], inputs @ across)
    output = a[:, None] * erf(preactivation)
    prior = np.exp(-0.5 * (neuron**2).sum(axis=1))
    stretch = 1 + 4 * (neuron[:, 1:] ** 2).sum(axis=1)
    linear = a * 2 / math.sqrt(math.pi) * q / np.sqrt(stretch)
    if width == 2:
        output = output[:, None] + output[None]
        prior = prior[:, None] * prior[None]
        linear = linear[:, None] + linear[None]
    loss = ((output - y) ** 2).sum(axis=-1)
    density = prior * np.exp(-loss / (2 * of.noise))
    density /= density.sum()
    one_neuron = density.reshape((points,) * (1 + input_dim) + (-1,)).sum(axis=-1)

    def on_axis(number):
        mass = np.moveaxis(one_neuron, number, 0).reshape(points, -1).sum(axis=1)
        return math.sqrt(2) * (axis + (axis[1] - axis[0]) / 2), np.cumsum(mass)

    def of_values(values):
        # A fine histogram instead of a sort of millions of values.
        counts, edges = np.histogram(values, bins=20_000, weights=density)
        return edges, np.concatenate([[0], np.cumsum(counts)])

    return Posterior(on_axis(0), on_axis(1), of_values(linear), of_values(loss / 4))


@pytest.fixture(scope="module")
def posteriors():
    return {size: integrate(size) for size in SIZES}


def sample(run_chains, size, name, settings, steps, chains):
    """The same quantities in independent chains."""
    of = parameters(size)
    data = model.load_data(of, generate_dataset(dataset_of(size)))
    kernel = load(name).build(model.target(of, data), load(name).Settings(**settings))
    start = jax.vmap(lambda key: model.start(key, "prior", of, data, PlantedStart()))(
        jax.random.split(jax.random.key(11), chains)
    )
    position = jax.tree.map(lambda x: x[:, 0], run_chains(kernel, start, seed=12, burn_in=steps))
    potential = jax.vmap(lambda x: model.target(of, data).potential_and_gradient(x)[0])(position)
    observables = jax.vmap(lambda x, phi: model.observables(x, phi, of, data))(position, potential)
    names = OBSERVABLES["teacher_student"]
    q = jax.vmap(lambda x: model.overlaps(x, of, data))(position)
    return Posterior(
        model.original_weights(position, of).readout[:, 0],
        q[:, 0],
        observables[:, names.index("linear_overlap")],
        observables[:, names.index("train_loss")],
    )


def distances(posterior, samples):
    """Kolmogorov-Smirnov distance of each quantity."""
    return {
        name: kstest(np.asarray(values), lambda x, c=cumulative: np.interp(x, *c)).statistic
        for name, cumulative, values in zip(Posterior._fields, posterior, samples, strict=True)
    }


def test_the_posterior_is_far_from_the_prior(posteriors):
    """So that a kernel which ignores the data fails below."""
    for posterior in posteriors.values():
        x, cumulative = posterior.overlap
        prior = 0.5 * (1 + erf(x / 2))
        assert np.abs(cumulative - prior).max() > 0.05


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", EXACT)
def test_adjusted_kernels_are_exact(run_chains, posteriors, name, size):
    """10 000 independent chains, false alarm 1e-5 for each of four distributions."""
    settings, steps = EXACT[name]
    samples = sample(run_chains, size, name, settings, steps, 10_000)
    limit = math.sqrt(math.log(2 / 1e-5) / (2 * 10_000))
    found = distances(posteriors[size], samples)
    assert max(found.values()) < limit, found


@pytest.mark.parametrize(
    ("name", "settings", "steps", "bias"),
    [
        ("isotropic_langevin", {"step_size": 0.03 * 2 / 0.6}, 250, 0.015),
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
    samples = sample(run_chains, "one_neuron", name, settings, steps, 10_000)
    limit = bias + math.sqrt(math.log(2 / 1e-5) / (2 * 10_000))
    found = distances(posteriors["one_neuron"], samples)
    assert max(found.values()) < limit, found


def test_training_counts_overlaps_of_the_posterior(posteriors, tmp_path):
    """The shard's fine bins of q, from both kinds of start, against the grid.

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
        kernel={"kernel": "hamiltonian", "step_size": 0.5, "leapfrog_steps": 3},
        burn_in=30,
        draws=40,
        thin=3,
        networks=Networks(prior=100, planted=100),
        planted=PlantedStart(),
    )
    train(specification, {0: tmp_path / "0.npz"}, tmp_path / "shard", tmp_path)
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
    losses = np.stack(table["train_loss"].to_numpy())
    x, cumulative = posteriors["one_neuron"].train_loss
    exact = (np.diff(cumulative) * (x[1:] + x[:-1]) / 2).sum()
    error = losses.mean(axis=1).std(ddof=1) / math.sqrt(len(losses))
    assert losses.mean() == pytest.approx(exact, abs=5 * error)
