"""Stein variates of the teacher-student model: generators of trial functions, their averages."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase import training
from grokphase.models import teacher_student as model
from grokphase.parameters import TeacherStudent
from grokphase.sampling.kernels import State
from grokphase.specifications.training import Networks, PlantedStart, TrainingSpecification
from grokphase.tables.observables import STEIN_VARIATES
from jax.flatten_util import ravel_pytree

NAMES = STEIN_VARIATES["teacher_student"]


def parameters(**changes):
    values = {
        "input_dim": 3,
        "width": 4,
        "train_size": 9,
        "weight_variance": 1.7,
        "readout_variance": 2.3,
        "noise": 0.4,
        "cubic_strength": -0.3,
    }
    return TeacherStudent(**values | changes)


def data_of(of, seed=0):
    generator = np.random.default_rng(seed)
    inputs = generator.standard_normal((of.train_size, of.input_dim))
    teacher = generator.standard_normal(of.input_dim)
    teacher /= np.linalg.norm(teacher)
    values = (
        inputs,
        model.targets(inputs, teacher, of.cubic_strength),
        teacher,
        of.noise,
        of.cubic_strength,
    )
    return model.Data(*map(jnp.asarray, values))


def position_of(of, seed=1):
    generator = np.random.default_rng(seed)
    return model.Position(
        jnp.asarray(generator.standard_normal(of.width)),
        jnp.asarray(2 * generator.standard_normal((of.width, of.input_dim))),
    )


def state_of(of, data, position):
    return State(position, *model.target(of, data).potential_and_gradient(position))


def trial_functions(of, data, position):
    """The trial functions, written out."""
    a = position.readout * math.sqrt(of.readout_variance / of.width)
    w = position.weights * math.sqrt(of.weight_variance / of.input_dim)
    q, square = w @ data.teacher, jnp.sum(w**2, axis=1)
    u = q / jnp.sqrt(1 + 2 * square)
    each = {
        "linear_overlap": a * u,
        "cubic_overlap": a * u**3,
        "mean_square_overlap": q**2 * of.input_dim / of.weight_variance / of.width,
        "readout_norm": position.readout**2 / of.width,
        "weight_norm": square / of.weight_variance / of.width,
        "output_power": a**2 * u**2 / of.readout_variance,
        "droplet_fraction": 1 / (1 + jnp.exp((0.25 - q**2) / 0.05)) / of.width,
    }
    return jnp.stack([each[name].sum() for name in NAMES])


@pytest.mark.parametrize("seed", range(3))
def test_variates_are_the_generator_of_the_trial_functions(seed):
    """Laplacian and gradients by automatic differentiation in all coordinates at once."""
    of = parameters()
    with jax.enable_x64(True):
        data, position = data_of(of, seed), position_of(of, seed + 10)
        flat, unflatten = ravel_pytree(position)

        def potential(x):
            return model.target(of, data).potential_and_gradient(unflatten(x))[0] + x @ x / 2

        def trial(x):
            return trial_functions(of, data, unflatten(x))

        laplacian = jnp.trace(jax.hessian(trial)(flat), axis1=1, axis2=2)
        expected = laplacian - jax.jacobian(trial)(flat) @ jax.grad(potential)(flat)
        found = model.stein_variates(state_of(of, data, position), of, data)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_variates_have_zero_average_over_a_posterior():
    """One neuron with one input: its posterior is integrated on a grid, far from the prior."""
    of = parameters(input_dim=1, width=1, train_size=4, weight_variance=2.0, readout_variance=2.0)
    with jax.enable_x64(True):
        data = data_of(of)
        axis = np.linspace(-7, 7, 701)

        @jax.jit
        def at(readout, weight):
            state = state_of(of, data, model.Position(readout[None], weight[None, None]))
            energy = state.potential + (readout**2 + weight**2) / 2
            return energy, model.stein_variates(state, of, data)

        energy, variates = jax.vmap(jax.vmap(at, (None, 0)), (0, None))(axis, axis)
        weight = np.exp(-(energy - energy.min()))
        weight /= weight.sum()
        average = np.einsum("rw,rwk->k", weight, variates)
        size = np.sqrt(np.einsum("rw,rwk->k", weight, np.square(variates)))
    assert (size > 0.1).all()
    np.testing.assert_allclose(average / size, 0, atol=1e-6)


def test_variates_are_recorded_with_the_exact_gradient(monkeypatch):
    """Forces in bfloat16, whose errors have a fixed sign, move the networks alone."""
    monkeypatch.setattr(model, "multiplies_bfloat16", lambda: True)
    of = parameters(input_dim=20, width=30, train_size=200)
    kernel = {"kernel": "hamiltonian", "step_size": 0.02, "leapfrog_steps": 2}
    spec = TrainingSpecification(
        experiment="e",
        seed=0,
        point="p",
        model="teacher_student",
        parameters=of,
        kernel=kernel | {"force_precision": "bfloat16"},
        burn_in=0,
        draws=2,
        thin=1,
        neuron_sweeps=1,
        networks=Networks(prior=1, planted=0),
        planted=PlantedStart(),
    )
    data = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), data_of(of))
    start = model.start(jax.random.key(0), "prior", of, data, spec.planted)
    together, positions = (
        jax.tree.map(lambda x: x[None], data),
        jax.tree.map(lambda x: x[None, None], start),
    )
    sampler = training._sampler(spec, model, 1)
    keys = jax.random.split(jax.random.key(1), (1, 1))
    ended = sampler.run(keys, sampler.start(positions, together), together, lambda now: None)
    recorded = ended.observables[0, 0, -1, -len(NAMES) :]
    state = jax.tree.map(lambda x: x[0, 0], ended.state)
    exact = model.stein_variates(state_of(of, data, state.position), of, data)
    rough = model.stein_variates(state, of, data)
    np.testing.assert_allclose(recorded, exact, rtol=1e-3, atol=1e-4)
    assert (np.abs(rough - exact) > 10 * np.abs(recorded - exact)).any()
