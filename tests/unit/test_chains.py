"""Chains of an observable: exact moments, and what is kept of long ones."""

import numpy as np
import pytest
from grokphase.sampling.chains import CHAIN_LIMIT, summarise

NETWORKS = 3


def rows(draws, dtype=np.float32):
    """White noise about a large mean, which float32 would lose."""
    return (1000 + np.random.default_rng(0).standard_normal((NETWORKS, draws))).astype(dtype)


@pytest.mark.parametrize("draws", [1, 2, 7, CHAIN_LIMIT])
def test_short_chains_are_kept_whole(draws):
    """Bit for bit what is computed from all draws at once."""
    given = rows(draws).astype(np.float64)
    found = summarise(rows(draws))
    assert (found.draws, found.batch) == (draws, 1)
    np.testing.assert_array_equal(found.thinned, given)
    np.testing.assert_array_equal(found.batch_means, given)
    np.testing.assert_array_equal(found.mean, given.mean(axis=1))
    np.testing.assert_array_equal(found.variance, given.var(axis=1))
    first, second = np.array_split(given, 2, axis=1)
    assert found.mean_of_halves()[0] == pytest.approx(first.mean(), rel=1e-14)
    if draws > 1:
        assert found.mean_of_halves()[1] == pytest.approx(second.mean(), rel=1e-14)
    else:
        assert np.isnan(found.mean_of_halves()[1])


@pytest.mark.parametrize("draws", [CHAIN_LIMIT + 1, 3 * CHAIN_LIMIT, 200_003])
def test_long_chains_keep_their_moments_and_little_else(draws):
    given = rows(draws).astype(np.float64)
    found = summarise(rows(draws))
    np.testing.assert_allclose(found.mean, given.mean(axis=1), rtol=1e-13)
    np.testing.assert_allclose(found.variance, given.var(axis=1), rtol=1e-10)
    expected = [half.mean() for half in np.array_split(given, 2, axis=1)]
    np.testing.assert_allclose(found.mean_of_halves(), expected, rtol=1e-13)
    kept = draws // found.batch
    assert CHAIN_LIMIT // 2 <= kept <= CHAIN_LIMIT
    assert found.thinned.shape == found.batch_means.shape == (NETWORKS, kept)
    batches = given[:, : kept * found.batch].reshape(NETWORKS, kept, found.batch)
    np.testing.assert_array_equal(found.thinned, batches[..., -1])
    np.testing.assert_allclose(found.batch_means, batches.mean(axis=2), rtol=1e-13)


@pytest.mark.parametrize("draws", [10, 10_000])
def test_networks_are_chosen_in_the_order_asked_for(draws):
    found, index = summarise(rows(draws)).take(np.array([2, 0])), [2, 0]
    again = summarise(rows(draws)[index])
    for name in found._fields:
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))


def test_chains_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="different numbers of draws"):
        summarise([np.zeros(5), np.zeros(6)])
