"""Random keys: stable, and never the same for two networks, points, layers or steps."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase.sampling import tree
from grokphase.sampling.ensemble import Sampler, Schedule
from grokphase.sampling.kernels import Target, load
from grokphase.sampling.random_keys import fold_in_name, listed, network_keys, stacked

IDENTITIES = list(
    itertools.product(
        ("teacher_student", "a", "a/1"),  # experiment
        (0, 1, 2**32, 2**32 + 1),  # seed
        ("noise~0.1", "noise~0.18", "noise~0.1/cubic_strength~-0.3"),  # point
        range(3),  # dataset
        ("prior", "planted"),  # start
        range(3),  # network
    )
)


def network_key(*identity):
    """The key of one network."""
    *of_all, start, network = identity
    return network_keys(*of_all, [(start, network)])[0]


def data(key):
    return tuple(jax.random.key_data(key).tolist())


def test_keys_of_all_identities_are_distinct():
    """Also those of the networks' streams: starting point, and first steps."""
    found = []
    for identity in IDENTITIES[::5]:
        key = network_key(*identity)
        steps = fold_in_name(key, "steps")
        found += [data(k) for k in (key, fold_in_name(key, "start"), steps)]
        found += [data(jax.random.fold_in(steps, s)) for s in range(3)]
    found += [data(network_key(*identity)) for i, identity in enumerate(IDENTITIES) if i % 5]
    assert len(set(found)) == len(found)


def test_keys_do_not_depend_on_the_order_of_computation():
    forward = [data(network_key(*identity)) for identity in IDENTITIES[:20]]
    backward = [data(network_key(*identity)) for identity in reversed(IDENTITIES[:20])]
    assert forward == backward[::-1]


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (("teacher_student", 2310, "noise~0.18", 3, "prior", 0), (2309714363, 713458912)),
        (("teacher_student", 2310, "noise~0.18", 3, "planted", 1), (1316081908, 3523097457)),
    ],
)
def test_keys_are_stable(identity, expected):
    """These values may never change: published trajectories depend on them."""
    assert data(network_key(*identity)) == expected


def test_a_purpose_is_folded_into_the_keys_of_all_networks():
    networks = [("prior", 0), ("prior", 1), ("planted", 0)]
    identity = ("e", 3, "noise~0.1", 2)
    keys = network_keys(*identity, networks, "steps")
    for key, one in zip(keys, networks, strict=True):
        assert data(key) == data(fold_in_name(network_key(*identity, *one), "steps"))


def test_keys_are_stacked_and_listed_as_arrays_are():
    """As jnp.stack does and iterating, with no program compiled for it."""
    parts = [jax.random.split(jax.random.key(seed), 3) for seed in range(2)]
    together = stacked(parts)
    assert together.dtype == parts[0].dtype
    assert together.shape == (2, 3)
    np.testing.assert_array_equal(
        jax.random.key_data(together), np.stack([jax.random.key_data(part) for part in parts])
    )
    for one, part in zip(listed(together), parts, strict=True):
        assert [data(key) for key in listed(one)] == [data(key) for key in part]


def test_leaves_of_a_pytree_have_independent_noise():
    """Equal shapes, no common noise; correlation below 5 standard errors (false alarm < 1e-5)."""
    like = {"first": jnp.zeros(10_000), "second": jnp.zeros(10_000)}
    noise = tree.standard_normal(jax.random.key(0), like)
    correlation = np.corrcoef(noise["first"], noise["second"])[0, 1]
    assert abs(correlation) < 5 / np.sqrt(10_000)


def test_leaves_of_any_shape_are_distinct_parts_of_one_draw():
    like = {"a": jnp.zeros((3, 5)), "b": jnp.zeros(()), "c": jnp.zeros((2, 1, 4))}
    noise = tree.standard_normal(jax.random.key(3), like)
    assert {name: x.shape for name, x in noise.items()} == {n: x.shape for n, x in like.items()}
    values = np.concatenate([np.ravel(x) for x in jax.tree.leaves(noise)])
    np.testing.assert_array_equal(values, jax.random.normal(jax.random.key(3), (24,)))


def noise_of_steps(name, settings, identities, size=500, steps=4):
    """Gaussian noise behind every step of an ensemble, from its recorded positions.

    Without data each kernel turns x into r x + sqrt(1 - r^2) xi. Returns [networks, steps, layers,
    size].
    """
    contraction = {"pcn_langevin": (2 - 0.5) / (2 + 0.5), "hamiltonian": np.cos(0.5)}[name]
    like = (jnp.zeros(size), jnp.zeros((size, 1)))
    target = Target(
        lambda x: (jnp.zeros(()), jax.tree.map(jnp.zeros_like, x)), (1.0, 1.0), jnp.ones(())
    )
    kernel = load(name).build(target, load(name).Settings(**settings))
    sampler = Sampler(
        make_kernel=lambda data, burn_in: kernel,
        observe=lambda data, state: (
            jnp.concatenate([state.position[0], state.position[1][:, 0]]),
            state.position[0],
        ),
        observable_count=2 * size,
        schedule=Schedule(burn_in=0, draws=steps, thin=1, block=3),
    )
    keys = jnp.stack([fold_in_name(network_key(*one), "steps") for one in identities])[None]
    positions = jax.tree.map(lambda x: jnp.stack([x] * len(identities))[None], like)
    ensemble = sampler.run(keys, sampler.start(positions, None), None, lambda _: None)
    x = np.concatenate([np.zeros((len(identities), 1, 2 * size)), ensemble.observables[0]], axis=1)
    noise = (x[:, 1:] - contraction * x[:, :-1]) / np.sqrt(1 - contraction**2)
    return noise.reshape(len(identities), steps, 2, size)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("pcn_langevin", {"step_size": 0.5, "metropolis": False}),
        (
            "hamiltonian",
            {
                "step_size": 0.5,
                "leapfrog_steps": 1,
                "jitter": 0,
                "length_spread": 0,
                "metropolis": False,
            },
        ),
    ],
)
def test_networks_steps_and_layers_never_share_noise(name, settings):
    """All pairs of noise vectors are uncorrelated, 5.5 standard errors (false alarm < 1e-4).

    The networks differ in one part of their identity each.
    """
    identities = [
        ("e", 0, "noise~0.1", 0, "prior", 0),
        ("f", 0, "noise~0.1", 0, "prior", 0),
        ("e", 1, "noise~0.1", 0, "prior", 0),
        ("e", 0, "noise~0.2", 0, "prior", 0),
        ("e", 0, "noise~0.1", 1, "prior", 0),
        ("e", 0, "noise~0.1", 0, "planted", 0),
        ("e", 0, "noise~0.1", 0, "prior", 1),
    ]
    noise = noise_of_steps(name, settings, identities)
    assert noise.std() == pytest.approx(1, abs=5 / np.sqrt(2 * noise.size))
    vectors = noise.reshape(-1, noise.shape[-1])
    correlation = np.corrcoef(vectors) - np.eye(len(vectors))
    assert np.abs(correlation).max() < 5.5 / np.sqrt(vectors.shape[1])
