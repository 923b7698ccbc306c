"""Convergence diagnostics on chains whose convergence is known."""

import numpy as np
import pytest
from grokphase.sampling.chains import summarise
from grokphase.sampling.diagnostics import diagnose, start_difference
from scipy.stats import norm, t

DATASETS = 20
DATASET = np.repeat(np.arange(DATASETS), 2)
STARTS = ["prior", "planted"] * DATASETS
PLANTED = np.array([start == "planted" for start in STARTS])[:, None]


def chains(correlation=0.0, draws=200, networks=2 * DATASETS, seed=0):
    """Stationary AR(1) chains of unit variance."""
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((networks, draws))
    x = np.empty_like(noise)
    x[:, 0] = noise[:, 0]
    for step in range(1, draws):
        x[:, step] = correlation * x[:, step - 1]
        x[:, step] += np.sqrt(1 - correlation**2) * noise[:, step]
    return x


def diagnosed(draws, datasets, starts):
    return diagnose(summarise(draws), datasets, starts)


def dataset_effect(size=50.0):
    return size * np.random.default_rng(9).standard_normal(DATASETS)[DATASET][:, None]


@pytest.mark.parametrize("seed", range(5))
def test_stationary_chains_pass_in_spite_of_differences_between_datasets(seed):
    """The ESS is that of all draws."""
    found = diagnosed(chains(seed=seed) + dataset_effect(), DATASET, STARTS)
    assert found.nested_rhat < 1.01
    assert found.rhat < 1.02
    assert found.ess_bulk == pytest.approx(8000, rel=0.15)
    assert found.ess_tail == pytest.approx(8000, rel=0.25)


def test_starts_at_different_levels_are_detected():
    """A metastable shift of the planted networks, invisible beside the spread of the datasets."""
    draws = chains(correlation=0.3) + dataset_effect() + 1.5 * PLANTED
    found = diagnosed(draws, DATASET, STARTS)
    # Levels +-0.75 about each dataset's mean: B = 2 * 0.75^2, W = 1, up to ranks.
    assert found.nested_rhat == pytest.approx(np.sqrt(1 + 2 * 0.75**2), rel=0.1)
    assert found.start_difference > 6


@pytest.mark.parametrize("networks", [1, 2, 5])
def test_starts_differ_as_much_with_any_number_of_networks(networks):
    """Levels +-0.3 about each dataset's mean, of several networks of each start of a dataset."""
    starts = ["prior", "planted"] * (networks * DATASETS)
    planted = np.array([start == "planted" for start in starts])[:, None]
    datasets = np.repeat(np.arange(DATASETS), 2 * networks)
    draws = chains(networks=len(starts)) + 0.6 * planted
    found = diagnosed(draws, datasets, starts)
    assert found.nested_rhat == pytest.approx(np.sqrt(1 + 2 * 0.3**2), abs=0.02)


@pytest.mark.parametrize(("correlation", "share"), [(0.5, 0.516), (0.9, 0.881), (0.9999, 1.0)])
def test_few_draws_count_by_their_correlation(correlation, share):
    """`share`: variance of a network's mean over that of a draw; medians of 60 trials of 40
    networks, whose spread is sqrt(2/20) of one."""
    found = [
        diagnosed(chains(correlation, draws=4, seed=seed) + dataset_effect(), DATASET, STARTS)
        for seed in range(60)
    ]
    assert np.median([one.ess_bulk for one in found]) == pytest.approx(40 / share, rel=0.2)
    assert np.median([one.mcse for one in found]) == pytest.approx(np.sqrt(share / 40), rel=0.1)


def test_frozen_networks_without_a_bias_are_judged_by_chance():
    """Chains that never move: nested R-hat^2 exceeds 1 by chi^2_1/m, the difference is normal.

    400 trials: the mean of the excess and the standard deviation of the difference within 4.5 of
    their standard errors.
    """
    generator = np.random.default_rng(3)
    excess, difference = [], []
    for _ in range(400):
        level = 10 * generator.standard_normal((2 * DATASETS, 1))
        found = diagnosed(level + 1e-3 * chains(draws=4), DATASET, STARTS)
        excess.append(found.nested_rhat**2 - 1)
        difference.append(found.start_difference)
    assert np.mean(excess) == pytest.approx(1 / DATASETS, abs=4.5 * np.sqrt(2 / 400) / DATASETS)
    assert np.std(difference) == pytest.approx(1, abs=4.5 / np.sqrt(800))


def test_starts_of_three_datasets_differ_by_chance():
    """A standard normal deviate too, where Student's t exceeds 3 in a tenth of all cases; 600
    trials, more than ten beyond 3 in fewer than one of a million."""
    rows = np.concatenate([np.flatnonzero(d == DATASET) for d in range(3)])
    starts = [STARTS[row] for row in rows]
    beyond = 0
    for seed in range(600):
        draws = chains(0.0, draws=4, seed=seed)[rows]
        beyond += abs(diagnosed(draws, DATASET[rows], starts).start_difference) > 3
    assert beyond <= 10


def test_few_draws_of_single_networks_have_no_effective_size():
    """Frozen or not: nothing tells how far the networks of a dataset are from one another."""
    for level in (0.0, 1.0):
        draws = level * dataset_effect() + 1e-3 * chains(draws=4)
        alone = draws[PLANTED[:, 0]]
        found = diagnosed(alone, np.arange(DATASETS), ["planted"] * DATASETS)
        assert np.isnan([found.ess_bulk, found.ess_tail, found.mcse]).all()
    found = diagnosed(chains(draws=10)[:DATASETS], np.arange(DATASETS), ["planted"] * DATASETS)
    assert found.ess_bulk > DATASETS


def test_a_shift_of_one_start_within_half_of_the_datasets_is_detected():
    draws = chains() + dataset_effect() + 3 * PLANTED * (DATASET[:, None] % 2)
    assert diagnosed(draws, DATASET, STARTS).nested_rhat > 1.2


def test_burn_in_that_is_too_short_is_detected():
    """Prior starts relax from above, planted ones from below, within the recorded draws."""
    relaxation = 6 * np.exp(-np.arange(200) / 60) * np.where(PLANTED, -1, 1)
    assert diagnosed(chains() + relaxation, DATASET, STARTS).nested_rhat > 1.1


def test_starts_that_relax_together_drift():
    """Both starts come from the same side: they agree at every moment, and the mean moves.

    The halves differ by 0.2, those of a network by chance by 0.2: 40 networks tell by 6.3 errors,
    as a normal deviate, of Student's t with 38 degrees of freedom, 5.2.
    """
    relaxation = np.where(np.arange(200) < 100, 0.2, 0.0)
    found = diagnosed(chains() + dataset_effect() + relaxation, DATASET, STARTS)
    assert found.nested_rhat < 1.01
    assert abs(found.start_difference) < 3
    assert -7.5 < found.drift < -4


@pytest.mark.parametrize(
    ("draws", "datasets"), [(4, 2), (5, DATASETS), (200, DATASETS), (8192, DATASETS)]
)
def test_stationary_chains_drift_by_chance(draws, datasets):
    """A standard normal deviate whatever the number of networks, of correlated chains: over 100
    trials, or 10 of chains too long to be kept, mean and spread within 4.5 standard errors."""
    trials = 10 if draws > 1000 else 100
    networks = 2 * datasets
    found = [
        diagnosed(
            chains(0.7, draws, networks, seed) + dataset_effect()[:networks],
            DATASET[:networks],
            STARTS[:networks],
        ).drift
        for seed in range(trials)
    ]
    assert abs(np.mean(found)) < 4.5 / np.sqrt(trials)
    assert np.std(found) == pytest.approx(1, abs=4.5 / np.sqrt(2 * trials))


def test_starts_that_approach_each_other_do_not_drift():
    """That is what nested R-hat is for; their mean does not move."""
    approach = np.where(np.arange(200) < 100, 3.0, 1.0) * np.where(PLANTED, 1, -1)
    found = diagnosed(chains() + approach, DATASET, STARTS)
    assert abs(found.drift) < 4
    assert found.nested_rhat > 1.5


def test_one_network_of_every_kind_has_no_drift():
    found = diagnosed(chains(networks=2), DATASET[:2], STARTS[:2])
    assert np.isnan(found.drift)


def test_networks_that_differ_within_a_dataset_raise_plain_rhat_alone():
    """Frozen differences that are the same for both kinds of start are no bias."""
    frozen = 2 * np.random.default_rng(1).standard_normal((2 * DATASETS, 1))
    found = diagnosed(chains() + frozen, DATASET, STARTS)
    assert found.rhat > 1.3
    assert found.nested_rhat < 1.15


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_effective_sample_size_of_autoregressive_chains(correlation):
    """N (1 - r)/(1 + r) within 25 %, and the error of the mean that follows from it."""
    found = diagnosed(chains(correlation, draws=1000), DATASET, STARTS)
    expected = 40_000 * (1 - correlation) / (1 + correlation)
    assert found.ess_bulk == pytest.approx(expected, rel=0.25)
    assert found.mcse == pytest.approx(1 / np.sqrt(expected), rel=0.15)


def test_frozen_differences_reduce_the_effective_sample_size():
    """Chains that never leave their own level count about once each."""
    frozen = 10 * np.random.default_rng(1).standard_normal((2 * DATASETS, 1))
    assert diagnosed(chains() + frozen, DATASET, STARTS).ess_bulk < 3 * len(DATASET)


def test_one_kind_of_start_falls_back_to_plain_rhat():
    draws = chains() + 2 * np.random.default_rng(1).standard_normal((2 * DATASETS, 1))
    found = diagnosed(draws, DATASET, ["prior"] * len(DATASET))
    assert found.nested_rhat == found.rhat > 1.3


def test_unequal_numbers_of_starts_are_compared():
    starts = ["prior", "prior", "planted"] * DATASETS
    dataset = np.repeat(np.arange(DATASETS), 3)
    planted = np.array([start == "planted" for start in starts])[:, None]
    draws = chains(networks=3 * DATASETS)
    assert diagnosed(draws, dataset, starts).nested_rhat < 1.02
    assert diagnosed(draws + 2 * planted, dataset, starts).nested_rhat > 1.2


def test_an_observable_that_is_constant_is_converged():
    """For example no droplet anywhere."""
    found = diagnosed(np.zeros((40, 10)), DATASET, STARTS)
    assert found[:7] == (1, 1, 0, 0, 400, 400, 0)
    assert np.isnan(found.adjusted_start_difference)


def test_an_observable_that_is_constant_within_each_dataset_is_converged():
    """For example the same droplet in all networks of one dataset and none elsewhere."""
    draws = np.repeat((DATASET == 3).astype(float)[:, None], 10, axis=1)
    found = diagnosed(draws, DATASET, STARTS)
    assert found[:7] == (1, 1, 0, 0, 400, 400, 0)
    assert np.isnan(found.adjusted_start_difference)


def test_networks_frozen_at_different_values_are_not_converged():
    """Prior starts without a droplet, planted ones with: nothing moves, and they disagree."""
    draws = np.repeat(PLANTED.astype(float), 10, axis=1)
    found = diagnosed(draws, DATASET, STARTS)
    assert not found.nested_rhat < 1.05


@pytest.mark.parametrize("shape", [(40, 3), (1, 50)])
def test_too_few_draws_or_networks_cannot_be_diagnosed(shape):
    found = diagnosed(np.random.default_rng(0).standard_normal(shape), DATASET, STARTS)
    assert np.isnan(found).all()


def test_one_network_per_dataset_is_diagnosed_by_its_fluctuations():
    found = diagnosed(chains() + dataset_effect()[::2].repeat(2, axis=0), np.arange(40), STARTS)
    assert found.nested_rhat < 1.02
    assert found.ess_bulk == pytest.approx(8000, rel=0.15)


# --- chains too long to be kept whole -------------------------------------------------------------


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_long_chains_are_judged_by_a_fifth_of_their_draws(correlation):
    """The ESS is that of every fifth draw, N/5 (1 - r^5)/(1 + r^5); the error that of the mean of
    all, 1/sqrt(N (1 - r)/(1 + r))."""
    networks, draws = 2 * DATASETS, 20_000
    found = diagnosed(chains(correlation, draws) + dataset_effect(), DATASET, STARTS)
    thinned = networks * draws / 5 * (1 - correlation**5) / (1 + correlation**5)
    assert found.ess_bulk == pytest.approx(thinned, rel=0.1)
    assert 0.75 * thinned < found.ess_tail < networks * draws / 5 * 1.25
    every = networks * draws * (1 - correlation) / (1 + correlation)
    assert found.mcse == pytest.approx(1 / np.sqrt(every), rel=0.1)
    assert found.rhat < 1.01
    assert found.nested_rhat < 1.01


def test_long_chains_at_different_levels_are_detected():
    draws = chains(0.3, 20_000) + dataset_effect() + 1.5 * PLANTED
    found = diagnosed(draws, DATASET, STARTS)
    assert found.nested_rhat == pytest.approx(np.sqrt(1 + 2 * 0.75**2), rel=0.1)
    assert found.start_difference > 6


def test_long_chains_that_drift_are_detected():
    """Prior starts relax from above, planted ones from below, within the recorded draws."""
    relaxation = 6 * np.exp(-np.arange(20_000) / 6000) * np.where(PLANTED, -1, 1)
    assert diagnosed(chains(draws=20_000) + relaxation, DATASET, STARTS).nested_rhat > 1.1


def counts(draws, twice=False, seed=0):
    """Binomial counts of 120 neurons about 1.4, whose expectation varies between datasets."""
    generator = np.random.default_rng(seed)
    share = generator.uniform(0.005, 0.02, DATASETS)[DATASET][:, None]
    found = generator.binomial(120, share, (len(DATASET), draws)) / 120
    return np.repeat(found, 2, axis=1) if twice else found


@pytest.mark.parametrize("draws", [6, 400])
@pytest.mark.parametrize("twice", [False, True])
def test_counts_that_are_equal_in_many_networks(draws, twice):
    """Ranks about the datasets' means would tell networks apart: an ESS of a few for each."""
    found = diagnosed(counts(draws, twice), DATASET, STARTS)
    size = draws * len(DATASET)
    assert found.ess_bulk == pytest.approx(size, rel=0.15 if draws == 400 else 0.6)
    assert found.ess_tail > 0.4 * size
    assert found.nested_rhat < 1.03
    if draws == 400:
        assert found.rhat < 1.01


@pytest.mark.parametrize("draws", [6, 400])
def test_counts_that_do_not_move_are_worth_one_draw_each(draws):
    """And starts at different counts are told apart."""
    still = np.repeat(counts(1), draws, axis=1)
    found = diagnosed(still, DATASET, STARTS)
    assert max(found.ess_bulk, found.ess_tail) < 3 * len(DATASET)
    apart = diagnosed(counts(draws) + PLANTED / 60, DATASET, STARTS)
    assert apart.nested_rhat > 1.2


@pytest.mark.parametrize("side", [1, -1])
def test_rare_visits_far_to_one_side_shrink_the_tail_size(side):
    """A thirtieth of the time, twenty draws each: of the draws beyond the quantile that they reach
    most come in visits, so that this tail has a twelfth of the draws, the other one all of them."""
    visits = np.repeat(np.random.default_rng(2).random((2 * DATASETS, 20)) < 0.03, 20, axis=1)
    found = diagnosed(chains(draws=400) + 8 * side * visits, DATASET, STARTS)
    assert 16_000 / 24 < found.ess_tail < 16_000 / 7


def test_differences_of_known_numbers_in_their_errors():
    """Of three datasets 1, 2 and 3, in 1/sqrt(3): Student's t of two degrees of freedom. Halves
    that differ by 1 and 2, and by 3 and 6, of which the mean 3 is known to sqrt(5/2/4)."""
    starts = ["prior", "planted"] * 3
    means, datasets = np.array([0.0, 1.0, 0.0, 2.0, 0.0, 3.0]), np.repeat(np.arange(3), 2)
    expected = norm.isf(t.sf(2 * np.sqrt(3), 2))
    for sign in (1, -1):
        found = start_difference(sign * means, datasets, np.array(starts))
        assert found == pytest.approx(sign * expected)
    assert np.isnan(start_difference(means[:4], datasets[:4], np.array(starts[:4])))
    steps = np.array([1.0, 3.0, 2.0, 6.0])[:, None] * [0, 0, 1, 1]
    found = diagnosed(steps, datasets[:4], starts[:4])
    assert found.drift == pytest.approx(norm.isf(t.sf(3 / np.sqrt(5 / 8), 2)))
    assert np.isnan(found.start_difference)
    assert np.isfinite(diagnosed(steps[:3], datasets[:3], starts[:3]).drift)


def test_effective_draws_are_at_most_all():
    """Of few draws, whose means hardly differ from one another."""
    draws = chains(draws=8)
    found = diagnosed(draws - 0.99 * draws.mean(axis=1, keepdims=True), DATASET, STARTS)
    assert found.ess_bulk == draws.size


def test_effective_draws_are_at_least_the_networks():
    """Of few draws that do not move at all, to the last digit: a bound of as many is met."""
    random = np.random.default_rng(0)
    for _ in range(200):
        frozen = np.repeat(random.integers(0, 6, 20) / 700, 4).reshape(20, 4)
        found = diagnosed(frozen, np.repeat(np.arange(10), 2), ["prior", "planted"] * 10)
        assert found.ess_bulk >= 20
