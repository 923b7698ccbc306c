"""Windows: what the spring does to approximate forces, sweeps and the readouts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase import training
from grokphase.datasets import generate_dataset
from grokphase.models import neuron_sweep, umbrella
from grokphase.models import teacher_student as model
from grokphase.models import teacher_student_moves as moves
from grokphase.models.umbrella_cost import PROFILE_NODES, profile_overlaps
from grokphase.parameters import TeacherStudent
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.specifications.training import (
    Networks,
    PlantedStart,
    TrainingSpecification,
    Umbrella,
)

OF = TeacherStudent(
    input_dim=5,
    width=6,
    train_size=20,
    weight_variance=0.5,
    readout_variance=1.0,
    noise=0.5,
    cubic_strength=-0.2,
)


def training_specification(**options):
    return TrainingSpecification(
        experiment="umbrella",
        seed=7,
        point="noise~0.5",
        model="teacher_student",
        parameters=OF,
        planted=PlantedStart(),
        kernel={"kernel": "hamiltonian", "step_size": 0.3, "leapfrog_steps": 2},
        thin=1,
        burn_in=2,
        draws=2,
        neuron_sweeps=1,
        umbrella=Umbrella(overlaps=(0.4,)),
        **options,
    )


def entered(position, data, key):
    """The position at which a network begins a window."""
    together = jax.tree.map(lambda x: jnp.asarray(x)[None], (position, data))
    positions = jax.tree.map(lambda x: x[None], together[0])
    placed = umbrella.enter_window(positions, OF, together[1])
    placed = jax.tree.map(lambda x: jnp.asarray(x)[0, 0], placed)
    return model.settle(jax.random.key(key), placed, OF, data)


@pytest.fixture(scope="module")
def held():
    """Data with a spring at 0.7, and a position."""
    drawn = DatasetSpecification(
        experiment="umbrella", seed=7, dataset=0, input_dim=5, train_size=20
    )
    data = model.load_data(OF, generate_dataset(drawn))
    data = data._replace(centre=jnp.float32(0.7), stiffness=jnp.float32(400.0))
    return data, model.start(jax.random.key(1), "prior", OF, data, PlantedStart())


def without_spring(data):
    return data._replace(stiffness=jnp.float32(0.0))


def test_the_spring_pulls_in_approximate_forces_too(held, monkeypatch):
    """As much as in exact ones; and where there are none, none are made up."""
    data, position = held
    monkeypatch.setattr(model, "multiplies_bfloat16", lambda: True)
    with_spring, free = model.target(OF, data), model.target(OF, without_spring(data))
    pull = (
        with_spring.approximate_gradient(position).weights
        - free.approximate_gradient(position).weights
    )
    wanted = with_spring.potential_and_gradient(position)[1].weights
    wanted -= free.potential_and_gradient(position)[1].weights
    assert float(jnp.abs(wanted[model.TAGGED]).max()) > 10
    np.testing.assert_allclose(pull, wanted, rtol=1e-4, atol=1e-2)
    monkeypatch.setattr(model, "multiplies_bfloat16", lambda: False)
    assert model.target(OF, data).approximate_gradient is None


def test_the_potential_alone_has_the_spring_too(held):
    data, position = held
    with_spring, free = model.target(OF, data), model.target(OF, without_spring(data))
    potential, forward = with_spring.potential_and_forward(position)
    wanted, _ = with_spring.potential_and_gradient(position)
    assert float(potential) == pytest.approx(float(wanted), rel=1e-5)
    assert float(potential) != pytest.approx(float(free.potential_and_gradient(position)[0]))
    _, of_free = free.potential_and_forward(position)
    np.testing.assert_array_equal(forward.residual, of_free.residual)


@pytest.mark.parametrize("sweeps", [1, 2])
def test_sweeps_in_a_window_know_the_potential_with_the_spring(held, sweeps):
    data, position = held
    swept = neuron_sweep.sweep(jax.random.key(6), position, OF, data, sweeps)
    expected, _ = model.target(OF, data).potential_and_gradient(swept.position)
    q = float(model.overlaps(swept.position, OF, data)[model.TAGGED])
    assert 200 * (q - 0.7) ** 2 > 1e-3
    assert float(swept.potential) == pytest.approx(float(expected), rel=1e-5)


def test_sweeps_in_a_window_hold_the_tagged_neuron_alone(held):
    """A spring of deviation 0.05, where the prior's is 0.3: it stays there, and no other does."""
    data, position = held
    position = entered(position, data, 2)
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
        entered(x, data, key).readout for key, x in ((2, position), (2, other), (3, position))
    )
    np.testing.assert_array_equal(one, same)
    assert (one != new).all()
    assert (one != position.readout).all()


def test_the_noise_of_profiles_is_their_spread_relative_to_zero():
    """Up to the outermost window: what is beyond does not count."""
    profiles = np.random.default_rng(0).normal(size=(5, PROFILE_NODES)) * np.arange(PROFILE_NODES)
    settings = moves.profiles(Umbrella(overlaps=(0.4, 0.75)), OF)
    spread = (profiles - profiles[:, :1]).std(axis=0, ddof=1)
    inside = np.array(profile_overlaps(OF)) <= 0.75
    assert 2 < inside.sum() < PROFILE_NODES - 2
    assert settings.noise(profiles) == pytest.approx(spread[inside].max())
    assert spread.max() > 1.2 * spread[inside].max()


def test_profiles_that_are_compared_are_of_one_network_by_different_keys(held):
    data, position = held
    specification = training_specification(networks=Networks(prior=1, planted=2))
    sampler = training._sampler(specification, model, 1)
    positions = jax.tree.map(lambda x: jnp.stack([2 * x, 3 * x, x])[None], position)
    seen = []
    sampler.profiles = sampler.profiles._replace(noise=lambda x: seen.append(x) or 0.5, compared=5)
    together = jax.tree.map(lambda x: jnp.asarray(x)[None], without_spring(data))
    state = sampler.start(positions, together, jax.random.split(jax.random.key(0), (1, 3))).state
    state = state._replace(position=positions)
    assert sampler.noise_of_profiles(state, together) == 0.5
    [profiles] = seen
    assert profiles.shape == (5, PROFILE_NODES)
    keys = jax.random.split(jax.random.key(9), 200)
    one = jax.jit(lambda key: umbrella.log_profile(key, position, OF, without_spring(data)))
    of_network = np.asarray(jax.lax.map(one, keys))
    deviation = of_network.std(axis=0, ddof=1)
    assert (np.abs(profiles - of_network.mean(axis=0)) < 6 * deviation + 1e-3).all()
    assert len(np.unique(profiles[:, 5])) == 5


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
