"""Profiles of conditional densities and umbrella windows, against exact densities."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase.datasets import generate_dataset, write_dataset
from grokphase.errors import GrokphaseError
from grokphase.models import teacher_student as model
from grokphase.models import umbrella
from grokphase.models.umbrella_cost import PROFILE_NODES, profile_limit, profile_overlaps
from grokphase.overlap_density import overlap_density
from grokphase.parameters import TeacherStudent
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.specifications.training import (
    Networks,
    PlantedStart,
    TrainingSpecification,
    Umbrella,
)
from grokphase.storage import read_table
from grokphase.tables import shards
from grokphase.tables.observables import OBSERVABLES
from grokphase.tables.shards import FINE_CENTRES as CENTRES
from grokphase.training import train
from scipy.integrate import trapezoid
from scipy.special import erf, logsumexp


def problem(of, experiment="umbrella"):
    drawn = DatasetSpecification(
        experiment=experiment,
        seed=7,
        dataset=0,
        input_dim=of.input_dim,
        train_size=of.train_size,
    )
    dataset = generate_dataset(drawn)
    return dataset, model.load_data(of, dataset)


TINY = TeacherStudent(
    input_dim=1,
    width=2,
    train_size=20,
    weight_variance=0.04,
    readout_variance=1.0,
    noise=0.5,
    cubic_strength=-0.2,
)
"""Two neurons without other weights: a profile has nothing to integrate; q has deviation 0.2."""


def exact_action(of, dataset, overlaps):
    """-log p(q) of the first neuron at `overlaps`, its readout and the other neuron integrated."""
    x, teacher = np.asarray(dataset.inputs, float)[:, 0], float(dataset.teacher[0])
    z = x * teacher
    y = z + of.cubic_strength * (z**3 - 3 * z)
    scale_a, scale_q = math.sqrt(of.readout_variance / 2), math.sqrt(of.weight_variance)
    others_q = np.linspace(-6, 6, 241) * scale_q
    others_a = np.linspace(-6, 6, 241) * scale_a
    phi_other = erf(others_q[:, None] * z)
    log_p = np.empty(len(overlaps))
    for i, q in enumerate(overlaps):
        phi = erf(q * z)
        rest = y - others_a[:, None, None] * phi_other
        precision = 1 / scale_a**2 + phi @ phi / of.noise
        field = rest @ phi / of.noise
        log_weight = field**2 / precision / 2 - math.log(precision) / 2
        log_weight -= (rest**2).sum(axis=-1) / of.noise / 2
        log_weight -= others_a[:, None] ** 2 / scale_a**2 / 2 + others_q**2 / scale_q**2 / 2
        log_p[i] = logsumexp(log_weight) - q**2 / scale_q**2 / 2
    return -(log_p - math.log(2 * trapezoid(np.exp(log_p - log_p.max()), overlaps)) - log_p.max())


def training(of, overlaps, networks):
    return TrainingSpecification(
        experiment="umbrella",
        seed=7,
        point="noise~0.5",
        model="teacher_student",
        parameters=of,
        kernel={"kernel": "hamiltonian", "step_size": 0.5, "leapfrog_steps": 3},
        neuron_sweeps=1,
        burn_in=10,
        draws=10,
        thin=3,
        networks=Networks(prior=networks, planted=0),
        planted=PlantedStart(),
        umbrella=Umbrella(overlaps=overlaps, burn_in=4, draws=10),
    )


def test_profiles_too_noisy_to_be_combined_are_refused(tmp_path):
    """One neuron in six dimensions, profiles of which differ by 13 nats from one to the next, and
    eight of them by at least two (of fifty such sets)."""
    sizes = {"input_dim": 6, "width": 1, "weight_variance": 0.5, "train_size": 30, "noise": 0.2}
    of = TINY.model_copy(update=sizes)
    drawn = DatasetSpecification(
        experiment="umbrella", seed=7, dataset=0, input_dim=6, train_size=30
    )
    write_dataset(drawn, tmp_path / "0.npz")
    with pytest.raises(
        GrokphaseError, match=r"profiles of one network differ by .* umbrella\.select"
    ):
        train(
            training(of, (0.3, 0.9), 1), {0: tmp_path / "0.npz"}, tmp_path / "shard", tmp_path, ""
        )


def test_windows_give_the_exact_density_far_in_the_tail(tmp_path):
    """Two neurons, whose exact density is known; 160 networks, and no profile is exact alone.

    The fluctuations are those of ten groups of networks; 5 standard errors (false alarm 3e-4 at
    each of seven overlaps with nine degrees of freedom) and 0.01 for the interpolation.
    """
    dataset, _ = problem(TINY)
    write_dataset(
        DatasetSpecification(experiment="umbrella", seed=7, dataset=0, input_dim=1, train_size=20),
        tmp_path / "0.npz",
    )
    specification = training(TINY, (0.6, 1.2), 160)
    train(specification, {0: tmp_path / "0.npz"}, tmp_path / "shard", tmp_path, "")
    table = read_table(tmp_path / "shard", shards.schema(OBSERVABLES["teacher_student"]))
    profiles = np.stack(table["overlap_profiles"].to_numpy()).reshape(160, 30, PROFILE_NODES)
    assert profiles[:, :10].std(axis=(0, 1)).max() > 1
    overlaps = np.array(profile_overlaps(TINY))
    found = np.stack(
        [
            overlap_density(
                [part.reshape(-1, PROFILE_NODES) for part in np.split(group, [10, 20], axis=1)],
                overlaps,
                0.2,
                specification.umbrella,
            ).shares
            for group in np.split(profiles, 10)
        ]
    )[:, 1:-1]
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found, found[:, ::-1], rtol=1e-6)
    fine = np.linspace(0, profile_limit(TINY), 321)
    exact = exact_action(TINY, dataset, fine)
    checked = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3])
    assert np.interp(1.3, fine, exact) > 15
    for q in checked:
        action = -np.log(found[:, np.abs(CENTRES - q).argmin()] / shards.FINE_WIDTH)
        error = action.std(ddof=1) / math.sqrt(len(action))
        wanted = np.interp(CENTRES[np.abs(CENTRES - q).argmin()], fine, exact)
        assert action.mean() == pytest.approx(wanted, abs=5 * error + 0.01), q
        assert error < 0.2


def test_a_profile_is_an_integral_over_the_other_weights(optimised):
    """One neuron with one weight across the teacher: the mean of exp(profile) over many keys,
    which is unbiased, against quadrature. 5 standard errors (false alarm < 1e-5 each)."""
    of = TINY.model_copy(update={"input_dim": 2, "width": 1, "weight_variance": 2.0, "noise": 2.0})
    dataset, data = problem(of)
    position = model.start(jax.random.key(1), "prior", of, data, PlantedStart())
    every = optimised(
        partial(jax.lax.map, lambda key: umbrella.log_profile(key, position, of, data))
    )
    found = np.asarray(every(jax.random.split(jax.random.key(0), 2000)), float)
    inputs, teacher = np.asarray(dataset.inputs, float), np.asarray(dataset.teacher, float)
    z, across = inputs @ teacher, inputs @ np.array([-teacher[1], teacher[0]])
    v = np.linspace(-8, 8, 2001)
    overlaps = np.array(profile_overlaps(of))
    assert overlaps[-1] == 6.0
    for node in (0, 2, 5, 10, 16):
        phi = erf(v[:, None] * across + overlaps[node] * z)
        precision = 1 / of.readout_variance + (phi**2).sum(axis=1) / of.noise
        field = phi @ np.asarray(data.targets, float) / of.noise
        integrand = np.exp(field**2 / precision / 2 - v**2 / 2) / np.sqrt(precision)
        exact = trapezoid(integrand, v) / math.sqrt(2 * math.pi)
        ratio = np.exp(found[:, node]) / exact
        assert ratio.mean() == pytest.approx(1, abs=5 * ratio.std() / math.sqrt(len(ratio)))
        assert ratio.std() < 1


def test_a_profile_is_that_of_the_rest_alone():
    """It does not depend on the tagged neuron itself."""
    of = TINY.model_copy(update={"input_dim": 5, "width": 6, "weight_variance": 0.5})
    _, data = problem(of)
    position = model.start(jax.random.key(1), "prior", of, data, PlantedStart())
    other = model.Position(
        position.readout.at[model.TAGGED].set(2.0), position.weights.at[model.TAGGED].add(1.0)
    )
    profiles = [umbrella.log_profile(jax.random.key(2), x, of, data) for x in (position, other)]
    np.testing.assert_allclose(*profiles, atol=2e-3)


def test_the_spring_pulls_the_tagged_neuron_alone():
    of = TINY.model_copy(update={"input_dim": 5, "width": 6, "weight_variance": 0.5})
    _, data = problem(of)
    held = data._replace(centre=jnp.float32(0.7), stiffness=jnp.float32(400.0))
    position = model.start(jax.random.key(1), "prior", of, data, PlantedStart())
    with_spring, plain = model.target(of, held), model.target(of, data)
    (potential, gradient), (base, free) = (
        target.potential_and_gradient(position) for target in (with_spring, plain)
    )
    q = model.overlaps(position, of, data)[model.TAGGED]
    assert float(potential - base) == pytest.approx(200 * float(q - 0.7) ** 2, rel=1e-4)
    np.testing.assert_array_equal(gradient.readout, free.readout)
    np.testing.assert_array_equal(gradient.weights[:-1], free.weights[:-1])
    difference = jax.grad(lambda x: with_spring.potential_and_gradient(x)[0])(position)
    np.testing.assert_allclose(difference.weights[-1], gradient.weights[-1], rtol=2e-4, atol=1e-2)


def test_a_window_begins_with_the_tagged_neuron_at_its_centre():
    of = TINY.model_copy(update={"input_dim": 5, "width": 6, "weight_variance": 0.5})
    _, data = problem(of)
    position = model.start(jax.random.key(1), "prior", of, data, PlantedStart())
    held = data._replace(centre=jnp.float32(0.7), stiffness=jnp.float32(400.0))
    two = jax.tree.map(lambda x: np.stack([[x, x]] * 3), position)
    datasets = jax.tree.map(lambda x: np.stack([x] * 3), held)
    datasets = datasets._replace(centre=np.array([0.2, 0.4, 0.7]))
    every = umbrella.enter_window(two, of, datasets)
    overlaps = math.sqrt(0.5 / 5) * np.asarray(every.weights)[:, :, model.TAGGED] @ data.teacher
    np.testing.assert_allclose(overlaps, [[0.2] * 2, [0.4] * 2, [0.7] * 2], rtol=1e-5)
    moved = jax.tree.map(lambda x: x[2, 1], every)
    np.testing.assert_array_equal(moved.weights[:-1], position.weights[:-1])
    shift = np.asarray(moved.weights[-1] - position.weights[-1])
    np.testing.assert_allclose(shift, (shift @ data.teacher) * data.teacher, atol=1e-5)


def test_windows_are_weighted_as_their_rests_are():
    """Two kinds of rest in the exact proportions of every window give the exact density."""
    overlaps = np.linspace(0, 1.6, PROFILE_NODES)
    deviation, umbrella_settings = 0.2, Umbrella(overlaps=(0.7,), width=0.5)
    kinds = np.stack([0.0 * overlaps, 14 * overlaps**2 - 1.0])
    weight = np.array([0.9, 0.1])
    fine = np.linspace(-1.6, 1.6, 6401)
    log_joint = np.log(weight)[:, None] + np.stack([0 * fine, 14 * fine**2 - 1.0])
    log_joint -= fine**2 / (2 * deviation**2)
    exact = logsumexp(log_joint, axis=0)
    exact -= logsumexp(exact) + math.log(fine[1] - fine[0])
    profiles = []
    for energy in (0 * fine, (fine - 0.7) ** 2 / (2 * 0.1**2)):
        share = np.exp(logsumexp(log_joint - energy, axis=1))
        first = round(2_000 * share[0] / share.sum())
        profiles.append(np.repeat(kinds, [first, 2_000 - first], axis=0))
    found = overlap_density(profiles, overlaps, deviation, umbrella_settings).shares[1:-1]
    shown = (CENTRES > 0) & (CENTRES < 1.4)
    action = -np.log(found[shown] / shards.FINE_WIDTH)
    wanted = -np.interp(CENTRES[shown], fine, exact)
    np.testing.assert_allclose(action, wanted, atol=5e-3)
    # The window is needed: without it the second kind has its share of the posterior, 5 %.
    alone = overlap_density(
        [profiles[1]], overlaps, deviation, umbrella_settings.model_copy(update={"overlaps": ()})
    ).shares[1:-1]
    assert abs(-np.log(alone[400] / shards.FINE_WIDTH) - wanted[0]) > 0.02


def test_beyond_the_profiles_nothing_is_known():
    overlaps = np.linspace(0, 1.6, PROFILE_NODES)
    found = overlap_density([np.zeros((3, PROFILE_NODES))], overlaps, 0.3, Umbrella(overlaps=()))
    shares = found.shares
    assert (shares[1:-1][np.abs(CENTRES) > 1.6] == 0).all()
    assert (shares[1:-1][np.abs(CENTRES) < 1.6] > 0).all()
    assert shares[[0, -1]].tolist() == [0, 0]
    np.testing.assert_allclose(found.profiles[1:-1][np.abs(CENTRES) < 1.6], 3)


ALONE = TeacherStudent(
    input_dim=12,
    width=1,
    train_size=40,
    weight_variance=0.5,
    readout_variance=0.05,
    noise=0.5,
    cubic_strength=-0.3,
)


def test_noise_of_the_profiles_hardly_moves_the_action(optimised):
    """One neuron, whose rest is always the targets: windows of noisy profiles of one density.

    The mean over many profiles is exact; what windows are combined by is off by up to the variance.
    """
    _, data = problem(ALONE)
    position = model.start(jax.random.key(1), "prior", ALONE, data, PlantedStart())
    every = optimised(
        partial(jax.lax.map, lambda key: umbrella.log_profile(key, position, ALONE, data))
    )
    profiles = np.asarray(every(jax.random.split(jax.random.key(0), 1500)), float)
    overlaps, deviation = np.array(profile_overlaps(ALONE)), math.sqrt(0.5 / 12)
    mean = np.log(np.exp(profiles - profiles.max()).mean(axis=0))[None]
    settings = Umbrella(overlaps=(0.8,))
    exact = overlap_density([mean], overlaps, deviation, Umbrella(overlaps=())).shares
    found = overlap_density([profiles[:750], profiles[750:]], overlaps, deviation, settings).shares
    shown = np.abs(shards.FINE_CENTRES) < 1.2
    difference = np.log(exact[1:-1][shown] / found[1:-1][shown])
    variance = profiles.var(axis=0).max()
    assert 0.1 < variance < 0.2
    assert np.abs(difference).max() < variance


def test_a_bin_rests_on_as_many_profiles_as_their_weights_say():
    """Three rests of one kind and one of another, which far out has most of the weight."""
    overlaps, deviation = np.linspace(0, 1.6, PROFILE_NODES), 0.2
    curvatures = np.array([0.0, 0.0, 0.0, 11.0])[:, None]
    profiles = overlap_density(
        [curvatures * overlaps**2], overlaps, deviation, Umbrella(overlaps=())
    )
    inside = np.abs(CENTRES) < 1.6
    weight = np.exp((curvatures - 1 / (2 * deviation**2)) * CENTRES[inside] ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    wanted = weight.sum(axis=0) ** 2 / (weight**2).sum(axis=0)
    np.testing.assert_allclose(profiles.profiles[1:-1][inside], wanted, rtol=1e-9)
    assert wanted.min() < 1.1
    assert wanted.max() > 3.9


def test_windows_of_different_numbers_of_rests_are_weighted_by_these():
    """As in the exact proportions of every window, the second of which has a tenth of the rests."""
    overlaps, deviation, settings = (
        np.linspace(0, 1.6, PROFILE_NODES),
        0.2,
        Umbrella(overlaps=(0.7,), width=0.5),
    )
    fine = np.linspace(-1.6, 1.6, 6401)
    log_joint = np.log([0.9, 0.1])[:, None] + np.stack([0 * fine, 14 * fine**2 - 1.0])
    log_joint -= fine**2 / (2 * deviation**2)
    exact = logsumexp(log_joint, axis=0)
    exact -= logsumexp(exact) + np.log(fine[1] - fine[0])
    kinds, profiles = np.stack([0.0 * overlaps, 14 * overlaps**2 - 1.0]), []
    for energy, count in ((0 * fine, 4_000), ((fine - 0.7) ** 2 / (2 * 0.1**2), 400)):
        share = np.exp(logsumexp(log_joint - energy, axis=1))
        first = round(count * share[0] / share.sum())
        profiles.append(np.repeat(kinds, [first, count - first], axis=0))
    found = overlap_density(profiles, overlaps, deviation, settings).shares[1:-1]
    shown = (CENTRES > 0) & (CENTRES < 1.4)
    wanted = -np.interp(CENTRES[shown], fine, exact)
    np.testing.assert_allclose(-np.log(found[shown] / 0.005), wanted, atol=1e-2)
