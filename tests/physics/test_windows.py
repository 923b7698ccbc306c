"""Windows: what the spring does to approximate forces, sweeps and the readouts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase.datasets import generate_dataset
from grokphase.models import neuron_sweep, umbrella
from grokphase.models import teacher_student as model
from grokphase.models.umbrella_cost import PROFILE_NODES
from grokphase.parameters import TeacherStudent
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.specifications.training import PlantedStart

OF = TeacherStudent(
    input_dim=5,
    width=6,
    train_size=20,
    weight_variance=0.5,
    readout_variance=1.0,
    noise=0.5,
    cubic_strength=-0.2,
)


@pytest.fixture(scope="module")
def held():
    """Data with a spring at 0.7, and a position."""
    drawn = DatasetSpecification(
        experiment="umbrella", seed=7, dataset=0, input_dim=5, train_size=20
    )
    data = model.load_data(OF, generate_dataset(drawn))
    data = data._replace(centre=jnp.float32(0.7), stiffness=jnp.float32(400.0))
    return data, model.start(jax.random.key(1), "prior", OF, data, PlantedStart())


def test_the_spring_pulls_in_approximate_forces_too(held):
    """As much as in exact ones; and where there are none, none are made up."""
    data, position = held
    exact = model.target(OF, data)
    plain = exact._replace(
        approximate_gradient=lambda x: jax.tree.map(
            lambda g: 1.01 * g, exact.potential_and_gradient(x)[1]
        )
    )
    found = umbrella.with_spring(plain, OF, data)
    pull = (
        found.approximate_gradient(position).weights - plain.approximate_gradient(position).weights
    )
    wanted = found.potential_and_gradient(position)[1].weights
    wanted -= exact.potential_and_gradient(position)[1].weights
    assert float(jnp.abs(wanted[model.TAGGED]).max()) > 10
    np.testing.assert_allclose(pull, wanted, rtol=1e-4, atol=1e-2)
    none = umbrella.with_spring(plain._replace(approximate_gradient=None), OF, data)
    assert none.approximate_gradient is None


def test_the_potential_alone_has_the_spring_too(held):
    data, position = held
    exact = model.target(OF, data)
    found = umbrella.with_spring(exact, OF, data)
    potential, forward = found.potential_and_forward(position)
    wanted, _ = found.potential_and_gradient(position)
    assert float(potential) == pytest.approx(float(wanted), rel=1e-5)
    assert float(potential) != pytest.approx(float(exact.potential_and_gradient(position)[0]))
    _, free = exact.potential_and_forward(position)
    np.testing.assert_array_equal(forward.residual, free.residual)
    none = umbrella.with_spring(exact._replace(potential_and_forward=None), OF, data)
    assert none.potential_and_forward is None


@pytest.mark.parametrize("sweeps", [1, 2])
def test_sweeps_in_a_window_know_the_potential_with_the_spring(held, sweeps):
    data, position = held
    swept = neuron_sweep.sweep(jax.random.key(6), position, OF, data, sweeps)
    target = umbrella.with_spring(model.target(OF, data), OF, data)
    expected, _ = target.potential_and_gradient(swept.position)
    q = float(model.overlaps(swept.position, OF, data)[model.TAGGED])
    assert 200 * (q - 0.7) ** 2 > 1e-3
    assert float(swept.potential) == pytest.approx(float(expected), rel=1e-5)


def test_sweeps_in_a_window_hold_the_tagged_neuron_alone(held):
    """A spring of deviation 0.05, where the prior's is 0.3: it stays there, and no other does."""
    data, position = held
    position = umbrella.enter_window(jax.random.key(2), position, OF, data)
    found = []
    sweep = jax.jit(lambda key, x: neuron_sweep.sweep(key, x, OF, data).position)
    for number in range(30):
        position = sweep(jax.random.key(number), position)
        found.append(np.asarray(model.overlaps(position, OF, data)))
    away = np.abs(np.array(found) - 0.7)
    assert away[:, model.TAGGED].max() < 0.25
    assert np.median(np.delete(away, model.TAGGED, axis=1)) > 0.25


def test_a_window_begins_with_readouts_of_its_own(held):
    """Drawn given the moved weights: other keys give others, and the old ones do not matter."""
    data, position = held
    other = position._replace(readout=position.readout + 3)
    one, same, new = (
        umbrella.enter_window(jax.random.key(key), x, OF, data).readout
        for key, x in ((2, position), (2, other), (3, position))
    )
    np.testing.assert_array_equal(one, same)
    assert (one != new).all()
    assert (one != position.readout).all()


def test_the_noise_of_profiles_is_their_spread_relative_to_zero(held):
    data, position = held
    keys = jax.random.split(jax.random.key(4), 5)
    profile = jax.jit(lambda key: umbrella.log_profile(key, position, OF, data))
    profiles = np.asarray([profile(key) for key in keys], float)
    found = jax.jit(umbrella.profile_noise, static_argnums=2)(keys, position, OF, data)
    wanted = (profiles - profiles[:, :1]).std(axis=0, ddof=1)
    assert found.shape == (PROFILE_NODES,)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    assert found[0] == 0


def test_a_neuron_beyond_the_grid_stays_where_it_is(held):
    """It could not be proposed again: its readout alone is drawn anew."""
    data, position = held
    free = data._replace(stiffness=jnp.float32(0.0))
    edge = neuron_sweep.overlap_grid(float(model.prior_scale(OF).weights), 0.5).edges[-1]
    q = model.overlaps(position, OF, free)
    shift = (1.01 * edge - q[2]) / model.prior_scale(OF).weights
    far = position._replace(weights=position.weights.at[2].add(shift * free.teacher))
    moved = neuron_sweep.sweep(jax.random.key(1), far, OF, free).position
    np.testing.assert_allclose(moved.weights[2], far.weights[2], atol=1e-5)
    assert moved.readout[2] != far.readout[2]
    assert (model.overlaps(moved, OF, free)[:2] != q[:2]).any()
