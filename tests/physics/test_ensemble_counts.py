"""Ensembles: expected counts of every other draw, acceptances, the size of a block."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase.errors import DivergenceError
from grokphase.sampling.ensemble import Counting, Profiles, Sampler, Schedule, block_size
from grokphase.sampling.kernels import Info, Kernel, State

BINS = 40


class Noise(NamedTuple):
    noise: jax.Array


def counting_steps(schedule, profile=None, **options):
    """An ensemble whose position is the number of its steps, all of which are accepted by a half
    at odd steps and not at all at even ones; sweeps accept a quarter."""

    def make_kernel(data, accept_all):
        def step(key, state):
            position = state.position + 1
            odd = (position[0] % 2).astype(jnp.float32)
            return state._replace(position=position), Info(
                0.5 * odd, jnp.zeros(()), jnp.float32(0.25)
            )

        return Kernel(lambda x: State(x, jnp.zeros(()), jnp.zeros_like(x)), step)

    def one_hot(position):
        return (jnp.arange(BINS) == position[0]).astype(jnp.float32)

    profiles = None
    if schedule.windows:
        profiles = Profiles(
            1,
            profile or (lambda key, position, data: jax.random.uniform(key, (1,))),
            lambda data, window: data,
            lambda positions, data: positions,
            noise=lambda profiles: 0.0,
            largest_noise=1.0,
            compared=2,
        )
    sampler = Sampler(
        make_kernel,
        lambda data, state: (jnp.stack([state.position[0], state.gradient[0]]), state.position),
        2,
        schedule,
        Counting(BINS, lambda values: one_hot(values).astype(jnp.int32)),
        lambda position, data: one_hot(position),
        profiles,
        **options,
    )
    keys = jax.random.split(jax.random.key(0), (1, 2))
    data = Noise(jnp.ones(1))
    start = sampler.start(jnp.zeros((1, 2, 1)), data, keys)
    return sampler.run(keys, start, data, lambda now: None)


@pytest.mark.parametrize(("draws", "counted"), [(5, [5, 7, 9]), (4, [6, 8])])
@pytest.mark.parametrize("block", [2, 100])
def test_what_is_expected_is_of_every_other_draw_the_last_among_them(draws, counted, block):
    """After four draws of burn-in; nothing of windows is among it."""
    schedule = Schedule(4, draws, 1, block, windows=1, window_burn_in=1, window_draws=3)
    found = counting_steps(schedule)
    for network in range(2):
        assert np.flatnonzero(found.expected_counts[0, network]).tolist() == counted
        assert found.expected_counts[0, network].sum() == len(counted)
        recorded = np.flatnonzero(found.counts[0, network]).tolist()
        assert recorded == list(range(5, 5 + draws))


def test_acceptance_is_the_mean_over_the_steps_of_a_draw():
    """Of two steps, one of which is odd; summed over the recorded draws alone."""
    found = counting_steps(Schedule(3, 4, 2, 3))
    np.testing.assert_allclose(found.acceptance[0], [[4 * 0.25, 4 * 0.25]] * 2)


def test_gradients_are_exact_in_recorded_draws_of_the_posterior_alone():
    """There observables see another state than the one that goes on."""
    found = counting_steps(
        Schedule(2, 3, 1, 2),
        with_exact_gradient=lambda data, state: state._replace(gradient=state.gradient + 7),
    )
    np.testing.assert_array_equal(found.observables[0, :, :, 1], 7)
    assert (found.state.gradient == 0).all()


def test_every_draw_has_a_profile_of_its_own_key():
    schedule = Schedule(2, 3, 2, 2, windows=2, window_burn_in=0, window_draws=2)
    profiles = counting_steps(schedule).profiles
    assert profiles.shape == (1, 2, 3 + 2 * 2, 1)
    assert len(np.unique(profiles)) == profiles.size


def test_every_window_is_entered_with_a_key_of_its_own():
    schedule = Schedule(2, 1, 2, 2, windows=3, window_burn_in=0, window_draws=1)
    found = counting_steps(
        schedule,
        lambda key, position, data: position,
        settle=lambda key, position, data: position + jnp.round(100 * jax.random.uniform(key)),
    )
    jumps = np.diff(found.profiles[0, :, :, 0], axis=1) - 2
    assert jumps.shape == (2, 3)
    assert len(np.unique(jumps)) > 3


def test_a_profile_that_is_not_finite_is_refused():
    def broken(key, position, data):
        return jnp.where(position == 5, jnp.nan, 0.0)

    schedule = Schedule(4, 2, 1, 2, windows=1, window_burn_in=1, window_draws=1)
    with pytest.raises(DivergenceError, match="conditional density of the overlap is not finite"):
        counting_steps(schedule, broken)


@pytest.mark.parametrize(
    ("work", "draws"), [(1.0, 1000), (2e7, 1000), (2.1e7, 952), (1e10, 2), (3e10, 1), (1e15, 1)]
)
def test_a_block_has_one_draw_to_a_thousand(work, draws):
    assert block_size(work) == draws
