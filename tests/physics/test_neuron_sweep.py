"""Sweeps over neurons: the collapsed density, and droplets that come and go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase.datasets import generate_dataset
from grokphase.models import neuron_sweep
from grokphase.models import teacher_student as model
from grokphase.parameters import TeacherStudent
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.specifications.training import PlantedStart
from scipy.integrate import quad
from scipy.special import erf

PARAMETERS = TeacherStudent(
    input_dim=50,
    width=120,
    train_size=600,
    weight_variance=0.5,
    readout_variance=0.03,
    noise=0.15,
    cubic_strength=-0.3,
)


@pytest.fixture(scope="module")
def data():
    return model.load_data(
        PARAMETERS,
        generate_dataset(
            DatasetSpecification(
                experiment="sweep", seed=3, dataset=0, input_dim=50, train_size=600
            )
        ),
    )


def test_the_collapsed_density_is_an_integral_over_the_readout(data):
    """Against adaptive quadrature of prior times likelihood, also its mean and precision."""
    generator = np.random.default_rng(1)
    perpendicular, residual = 0.7 * generator.standard_normal((2, 600))
    along = np.asarray(data.inputs @ data.teacher, float)
    overlaps = np.array([-0.9, -0.1, 0.0, 0.3, 1.2])
    activations = erf(perpendicular + overlaps[:, None] * along)
    found = neuron_sweep.collapse(
        *map(jnp.asarray, (overlaps, activations @ residual, (activations**2).sum(axis=1))),
        PARAMETERS,
        PARAMETERS.noise,
    )
    prior_readout = PARAMETERS.readout_variance / PARAMETERS.width
    prior_overlap = PARAMETERS.weight_variance / PARAMETERS.input_dim
    expected = []
    for number, q in enumerate(overlaps):

        def log_density(a, q=q, phi=activations[number]):
            loss = 0.5 * (np.square(residual - a * phi) - np.square(residual)).sum()
            prior = a**2 / prior_readout + q**2 / prior_overlap
            return -loss / PARAMETERS.noise - 0.5 * prior

        mean, deviation = float(found.mean[number]), float(found.precision[number]) ** -0.5
        top = log_density(mean)
        moments = [
            quad(
                lambda x, k=k, f=log_density, m=mean, s=deviation, t=top: (
                    x**k * np.exp(f(m + s * x) - t)
                ),
                *(-12, 12),
                points=[0],
            )[0]
            for k in range(3)
        ]
        assert moments[1] / moments[0] == pytest.approx(0, abs=1e-3)
        assert moments[2] / moments[0] == pytest.approx(1, rel=1e-3)
        expected.append(top + np.log(moments[0] * deviation))
    difference = np.asarray(found.log_density) - expected
    np.testing.assert_allclose(difference - difference[2], 0, atol=2e-3)


def test_the_grid_reaches_what_is_recorded_and_resolves_the_prior():
    for deviation in (0.01, 0.1, 1.0, 5.0):
        grid = neuron_sweep.overlap_grid(deviation, 0.5)
        reach = max(2.0, 6 * deviation)
        for points in (grid.nodes, grid.edges):
            assert points[[0, -1]] == pytest.approx([-reach, reach], rel=1e-5)
            assert (np.diff(points) > 0).all()
        np.testing.assert_allclose(grid.widths, np.diff(grid.edges), rtol=1e-3)
        # One cell on either side of the origin.
        assert grid.widths.min() <= 0.11 * deviation


@pytest.mark.parametrize("deviation", [0.06, 0.5])
def test_interpolation_is_exact_for_powers_of_the_compressed_overlap(deviation):
    grid = neuron_sweep.overlap_grid(deviation, 0.7, neuron_sweep.DENSITY_NODES)
    fine = neuron_sweep.FINE_CENTRES
    for matrix, points in ((grid.to_cells, grid.centres), (grid.to_bins, fine)):
        for power in range(neuron_sweep.DENSITY_NODES):
            at_nodes, wanted = (
                (q.astype(float) / np.sqrt(q.astype(float) ** 2 + 1.2)) ** power
                for q in (grid.nodes, points)
            )
            np.testing.assert_allclose(matrix @ at_nodes, wanted, atol=2e-6)


ONE_NEURON = PARAMETERS.model_copy(
    update={"width": 1, "readout_variance": 0.03 / 120, "noise": 1.0}
)
ONE_OF_THE_PAPER = TeacherStudent(
    input_dim=150,
    width=1,
    train_size=3000,
    weight_variance=0.5,
    readout_variance=8 / 700**2,
    noise=0.1,
    cubic_strength=-0.3,
)


@pytest.mark.parametrize(
    ("of", "learned", "seeds"),
    [(ONE_NEURON, 0.0, 1), (ONE_OF_THE_PAPER, 0.43, 4)],
    ids=["small", "paper"],
)
def test_expected_counts_are_the_conditional_density(of, learned, seeds):
    """One neuron, whose density given its other weights is computed here, into the far tails.

    At the paper's size its residual is the part of the target that is not `learned`, as measured
    there at the lowest noise, where the density is hardest to interpolate. Averages over neurons,
    whose errors differ in sign, are several times closer.
    """
    drawn = DatasetSpecification(
        experiment="sweep", seed=3, dataset=0, input_dim=of.input_dim, train_size=of.train_size
    )
    data = model.load_data(of, generate_dataset(drawn))
    data = data._replace(targets=(1 - learned) * data.targets)
    inputs, teacher = np.asarray(data.inputs, float), np.asarray(data.teacher, float)
    fine = np.linspace(-2, 2, 801)
    for seed in range(seeds):
        position = model.start(jax.random.key(4 + seed), "prior", of, data, PlantedStart())
        found = neuron_sweep.expected_counts(position, of, data)
        assert float(found.sum()) == pytest.approx(1, abs=1e-5)
        weights = np.asarray(model.original_weights(position, of).weights, float)[0]
        across = inputs @ (weights - weights @ teacher * teacher)
        phi = erf(across + fine[:, None] * (inputs @ teacher))
        precision = 1 / of.readout_variance + (phi**2).sum(axis=1) / of.noise
        field = phi @ np.asarray(data.targets, float) / of.noise
        log_density = field**2 / precision / 2 - np.log(precision) / 2
        log_density -= fine**2 / 2 * of.input_dim / of.weight_variance
        log_density -= log_density.max()
        log_density -= np.log(np.trapezoid(np.exp(log_density), fine))
        wanted = np.interp(neuron_sweep.FINE_CENTRES, fine, log_density)
        action = -np.log(np.maximum(found[1:-1], 1e-30) / 0.005)
        shown = -wanted < 25
        assert shown.sum() > 80
        assert np.abs(action + wanted)[shown].max() < 0.1
        assert np.abs(action + wanted)[-wanted < 3].max() < 0.05


def test_no_uniform_number_draws_a_cell_without_mass():
    """The lowest and the highest that there are in float32, where the outer cells hold 1e-25."""
    mass = jnp.array([1e-25, 1e-12, 0.3, 0.5, 0.2, 1e-12, 1e-25])
    cumulative = jnp.cumsum(mass)
    for uniform in (0.0, 2.0**-23, 0.5, 1 - 2.0**-23):
        assert 2 <= neuron_sweep.cell_of(cumulative, jnp.float32(uniform)) <= 4
    uniform = jax.random.uniform(jax.random.key(0), (100_000,))
    cells = jax.vmap(lambda one: neuron_sweep.cell_of(7 * cumulative, one))(uniform)
    share = np.bincount(cells, minlength=7) / len(cells)
    np.testing.assert_allclose(share, mass, atol=4.5 * np.sqrt(0.25 / len(cells)))


@pytest.mark.parametrize("deviation", [0.1, 0.7])
def test_expected_counts_add_up_to_the_neurons_wherever_these_are(data, deviation):
    """Also of densities too narrow for the cells, and where a part lies beyond the bins."""
    variance = PARAMETERS.input_dim * deviation**2
    narrow = {"readout_variance": 0.3, "noise": 1e-4} if deviation < 0.5 else {}
    of = PARAMETERS.model_copy(update={"weight_variance": variance, **narrow})
    own = data._replace(noise=jnp.float32(of.noise))
    position = model.start(jax.random.key(2), "prior", of, own, PlantedStart())
    counts = neuron_sweep.expected_counts(position, of, own)
    assert (counts >= 0).all()
    assert float(counts.sum()) == pytest.approx(of.width, rel=1e-4)
    assert (counts[0] > 0) == (deviation > 0.5)


def test_droplets_come_and_go(data):
    """Within five sweeps most planted droplets dissolve, and other neurons become one."""
    position = model.start(
        jax.random.key(1), "planted", PARAMETERS, data, PlantedStart(fraction=0.2)
    )
    before = np.abs(model.overlaps(position, PARAMETERS, data)) > model.DROPLET_OVERLAP
    advance = jax.jit(lambda key, x: neuron_sweep.sweep(key, x, PARAMETERS, data))
    created = np.zeros_like(before)
    for number in range(5):
        position, accepted, *_ = advance(jax.random.key(number), position)
        assert 0.8 < accepted <= 1
        now = np.abs(model.overlaps(position, PARAMETERS, data)) > model.DROPLET_OVERLAP
        created |= now & ~before
    assert before.sum() == 24
    assert (before & now).sum() < 12
    assert created.any()


@pytest.mark.parametrize("sweeps", [1, 3])
def test_sweeps_know_the_potential_at_their_end(data, sweeps):
    """From the residual that they keep; to the rounding of a sum of 600 squares in float32."""
    position = model.start(jax.random.key(5), "planted", PARAMETERS, data, PlantedStart())
    swept = jax.jit(lambda key, n: neuron_sweep.sweep(key, position, PARAMETERS, data, n))(
        jax.random.key(6), sweeps
    )
    assert 0.8 < swept.acceptance <= 1
    expected, _ = model.target(PARAMETERS, data).potential_and_gradient(swept.position)
    assert float(swept.potential) == pytest.approx(float(expected), rel=3e-6)


def test_sweeps_begin_with_the_forward_pass_of_the_potential(data):
    """With it as without it; and with one of another network elsewhere."""
    positions = [
        model.start(jax.random.key(seed), "planted", PARAMETERS, data, PlantedStart())
        for seed in (5, 6)
    ]
    evaluate = model.target(PARAMETERS, data).potential_and_forward
    potential, forward = evaluate(positions[0])
    exact, _ = model.target(PARAMETERS, data).potential_and_gradient(positions[0])
    assert float(potential) == pytest.approx(float(exact), rel=3e-6)
    scale = model.prior_scale(PARAMETERS).weights
    preactivation = scale * np.asarray(positions[0].weights @ data.inputs.T)
    np.testing.assert_allclose(forward.preactivation, preactivation, atol=1e-5)

    def ends(forward):
        key = jax.random.key(7)
        return neuron_sweep.sweep(key, positions[0], PARAMETERS, data, 2, forward)

    alone, given, others = ends(None), ends(forward), ends(evaluate(positions[1])[1])
    np.testing.assert_allclose(given.position.weights, alone.position.weights, atol=1e-4)
    assert float(given.potential) == pytest.approx(float(alone.potential), rel=1e-5)
    assert float(others.potential) != pytest.approx(float(alone.potential), rel=1e-2)


def test_a_sweep_moves_weights_only_along_the_teacher(data):
    position = model.start(jax.random.key(2), "prior", PARAMETERS, data, PlantedStart())
    moved, *_ = neuron_sweep.sweep(jax.random.key(3), position, PARAMETERS, data)
    shift = np.asarray(moved.weights - position.weights)
    along = shift @ np.asarray(data.teacher)
    np.testing.assert_allclose(shift, np.outer(along, data.teacher), atol=1e-5)
    assert (along != 0).mean() > 0.8
