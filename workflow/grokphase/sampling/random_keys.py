"""Random keys as functions of stable identities.

A key depends on what a network is (experiment, seed, dataset, point, start, index), never on where
or in which order it is computed: re-sharding, resuming or adding networks changes no trajectory,
and no two networks, points, layers or steps share noise.
"""

import hashlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

IMPLEMENTATION = "threefry2x32"
"""Of the generator, whatever JAX's own default is."""


def fold_in_name(key: jax.Array, name: str) -> jax.Array:
    """Fold a name into a key through 64 bits of its SHA-256."""
    for word in _words(name):
        key = jax.random.fold_in(key, word)
    return key


def _words(name: str) -> list[int]:
    """Two words of 32 bits that stand for a name."""
    digest = hashlib.sha256(name.encode()).digest()
    return [int.from_bytes(digest[i : i + 4], "big") for i in (0, 4)]


def network_keys(
    experiment: str,
    seed: int,
    point: str,
    dataset: int,
    networks: Sequence[tuple[str, int]],
    *purpose: str,
) -> jax.Array:
    """Keys [networks] of the networks (kind of start, index) of a dataset, for a purpose if any.

    Into a key made from the seed are folded, one after the other, experiment and seed, point,
    dataset, start, index, and purpose.
    """
    of_all = [*_words(f"{experiment}/{seed}"), *_words(point), dataset]
    words = [
        [*of_all, *_words(start), network, *(word for name in purpose for word in _words(name))]
        for start, network in networks
    ]
    return _folded(np.uint32(seed % 2**32), np.array(words, np.uint32))


@jax.jit
def _folded(seed: jax.Array, words: jax.Array) -> jax.Array:
    """Keys [networks] into which the words [networks, k] are folded; one program for them all."""

    def fold(keys: jax.Array, column: jax.Array) -> tuple[jax.Array, None]:
        return jax.vmap(jax.random.fold_in)(keys, column), None

    first = jax.random.key(seed, impl=IMPLEMENTATION)
    return jax.lax.scan(fold, jnp.broadcast_to(first, words.shape[:1]), words.T)[0]


def stacked(keys: Sequence[jax.Array]) -> jax.Array:
    """Arrays of keys along a new leading axis.

    Here and in `listed` the host moves the words of the keys: JAX would compile a program for it,
    together 0.1 s of every training job.
    """
    words = np.stack([np.asarray(jax.random.key_data(key)) for key in keys])
    return jax.random.wrap_key_data(jax.device_put(words), impl=IMPLEMENTATION)


def listed(keys: jax.Array) -> list[jax.Array]:
    """The arrays of keys along the leading axis."""
    words = [jax.device_put(one) for one in np.asarray(jax.random.key_data(keys))]
    return [jax.random.wrap_key_data(one, impl=IMPLEMENTATION) for one in words]


def generator(key: jax.Array) -> np.random.Generator:
    """NumPy's generator seeded with the words of a key, for what is drawn once and by itself: JAX
    would compile a program for every distribution and shape, 0.1 s each."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
