"""Means adjusted for Stein variates."""

import numpy as np
import pytest
from grokphase.stein import DRAWS_PER_COEFFICIENT, adjusted_means
from grokphase.tables.stein_moments import SteinMoments
from scipy.stats import kstest, t


def moments(observables, variates):
    """(means [networks, o], SteinMoments) of draws [networks, draws, ...]."""
    both = np.concatenate([observables, variates], axis=2)
    return observables.mean(axis=1), SteinMoments.of_draws(both, observables.shape[2])


def chains(generator, networks, length, columns, correlation):
    """Stationary chains [networks, length, columns] of variance one: AR(1)."""
    noise = generator.standard_normal((networks, length, columns))
    found = noise.copy()
    for step in range(1, length):
        found[:, step] = (
            correlation * found[:, step - 1] + np.sqrt(1 - correlation**2) * noise[:, step]
        )
    return found


def draws(generator, networks, length, noise, correlation=0.0):
    """Two observables, of means 3 and -1, that variates of zero mean explain but for `noise`."""
    variates = chains(generator, networks, length, 3, correlation) * [1.0, 10.0, 0.1]
    mixture = np.array([[2.0, 0.0], [0.1, -0.3], [0.0, 5.0]])
    rest = noise * chains(generator, networks, length, 2, correlation)
    return variates @ mixture + [3.0, -1.0] + rest, variates


def test_what_variates_explain_entirely_does_not_fluctuate():
    means, found = moments(*draws(np.random.default_rng(0), 8, 30, 0.0))
    assert np.ptp(means, axis=0).min() > 0.1
    adjusted = adjusted_means(means, found, np.arange(8) // 2, 30)
    np.testing.assert_allclose(adjusted, np.tile([3.0, -1.0], (8, 1)), atol=1e-9)


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_adjusted_means_are_right_within_the_spread_between_datasets(correlation):
    """Student's t of 1000 experiments of three datasets: Kolmogorov-Smirnov (false alarm 1e-5)."""
    generator, dataset = np.random.default_rng(1), np.arange(6) // 2
    values = []
    for _ in range(1000):
        means, found = moments(*draws(generator, 6, 8, 3.0, correlation))
        adjusted = adjusted_means(means, found, dataset, 8)
        assert (adjusted != means).all()
        of_datasets = adjusted.reshape(3, 2, 2).mean(axis=1)
        error = of_datasets.std(axis=0, ddof=1) / np.sqrt(3)
        values.append((of_datasets.mean(axis=0) - [3.0, -1.0]) / error)
    for column in np.transpose(values):
        assert kstest(column, t(df=2).cdf).pvalue > 1e-5


def test_adjusted_means_have_no_bias_where_draws_are_skewed():
    """The mean of z^2 for exponential z - 1, adjusted for z: 2000 experiments, 5 standard errors.

    Coefficients fitted on the draws that they are used for go with their means.
    """
    generator, dataset = np.random.default_rng(7), np.arange(4) // 2
    found = []
    for _ in range(2000):
        variates = generator.exponential(size=(4, 6, 1)) - 1
        means, of_variates = moments(variates**2, variates)
        found.append(adjusted_means(means, of_variates, dataset, 6).mean())
    assert abs(np.mean(found) - 1) < 5 * np.std(found) / np.sqrt(len(found))


@pytest.mark.parametrize("length", [DRAWS_PER_COEFFICIENT * 3 // 2, DRAWS_PER_COEFFICIENT * 3])
def test_few_draws_do_without(length):
    """Two datasets of one network each: the fit rests on the draws of the other."""
    means, found = moments(*draws(np.random.default_rng(2), 2, length, 0.1))
    adjusted = adjusted_means(means, found, np.arange(2), length)
    # One degree of freedom is that of the mean.
    assert (adjusted == means).all() == (length - 1 < DRAWS_PER_COEFFICIENT * 3)


def test_one_dataset_does_without():
    means, found = moments(*draws(np.random.default_rng(3), 4, 200, 0.1))
    assert (adjusted_means(means, found, np.zeros(4, int), 200) == means).all()


def test_variates_that_are_constant_or_repeated_change_nothing():
    observables, variates = draws(np.random.default_rng(4), 6, 100, 0.1)
    dataset = np.arange(6) // 2
    more = np.concatenate([variates, np.zeros_like(variates[..., :1]), variates[..., 1:2]], axis=2)
    plain = adjusted_means(*moments(observables, variates), dataset, 100)
    found = adjusted_means(*moments(observables, more), dataset, 100)
    np.testing.assert_allclose(found, plain, rtol=1e-6)


@pytest.mark.parametrize("variates", [3, 0])
def test_moments_survive_the_columns_of_a_shard(variates):
    """These are flat; covariances are those of NumPy."""
    draws = np.random.default_rng(6).standard_normal((3, 20, 2 + variates)).astype(np.float32)
    columns = SteinMoments.of_draws(draws, 2).columns()
    assert {name: x.ndim for name, x in columns.items()} == dict.fromkeys(columns, 2)
    found = SteinMoments.of_columns(columns["stein_means"], columns["stein_covariances"])
    np.testing.assert_allclose(found.means, draws[:, :, 2:].mean(axis=1), rtol=1e-5)
    for one, covariances in zip(draws, found.covariances, strict=True):
        expected = np.cov(one.T.astype(float), ddof=0)[:, 2:]
        if variates:
            np.testing.assert_allclose(covariances, expected, rtol=1e-5, atol=1e-7)


def test_networks_that_stand_still_are_adjusted_by_their_differences():
    """Each with draws that are all alike: nothing fluctuates within a network."""
    still = [np.repeat(x, 30, axis=1) for x in draws(np.random.default_rng(5), 8, 1, 0.0)]
    adjusted = adjusted_means(*moments(*still), np.arange(8) // 2, 30)
    np.testing.assert_allclose(adjusted, np.tile([3.0, -1.0], (8, 1)), atol=1e-9)


@pytest.mark.parametrize("length", [DRAWS_PER_COEFFICIENT * 3, DRAWS_PER_COEFFICIENT * 3 + 1])
def test_draws_from_which_on_variates_are_used(length):
    means, found = moments(*draws(np.random.default_rng(2), 2, length, 0.1))
    adjusted = adjusted_means(means, found, np.arange(2), length)
    assert (adjusted != means).all() == (length > DRAWS_PER_COEFFICIENT * 3)
