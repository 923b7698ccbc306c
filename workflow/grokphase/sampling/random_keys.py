"""Random keys as functions of stable identities.

A key depends on what a network is (experiment, seed, dataset, point, start, index), never on where
or in which order it is computed: re-sharding, resuming or adding networks changes no trajectory,
and no two networks, points, layers or steps share noise.
"""

import hashlib

import jax
import numpy as np


def fold_in_name(key: jax.Array, name: str) -> jax.Array:
    """Fold a name into a key through 64 bits of its SHA-256."""
    digest = hashlib.sha256(name.encode()).digest()
    for word in (digest[:4], digest[4:8]):
        key = jax.random.fold_in(key, int.from_bytes(word, "big"))
    return key


def network_key(
    experiment: str, seed: int, point: str, dataset: int, start: str, network: int
) -> jax.Array:
    """The key of one network of an experiment."""
    key = fold_in_name(jax.random.key(seed % 2**32, impl="threefry2x32"), f"{experiment}/{seed}")
    key = fold_in_name(key, point)
    key = jax.random.fold_in(key, dataset)
    return jax.random.fold_in(fold_in_name(key, start), network)


def generator(key: jax.Array) -> np.random.Generator:
    """NumPy's generator seeded with the words of a key, for what is drawn once and by itself: JAX
    would compile a program for every distribution and shape, 0.1 s each."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
