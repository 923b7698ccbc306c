"""Arithmetic on pytrees of arrays."""

import math
from typing import Any

import jax
import jax.numpy as jnp


def inner(first: Any, second: Any) -> jax.Array:
    """Euclidean inner product of two pytrees of equal structure (scalar)."""
    return sum(
        (
            jnp.vdot(a, b)
            for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
        ),
        start=jnp.zeros(()),
    )


def normal_array(
    key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
    """Independent N(0, 1) entries, the numbers of jax.random.normal.

    They are drawn along one axis: XLA takes several times longer to compile the generator for more.
    """
    return jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)


def standard_normal(key: jax.Array, like: Any) -> Any:
    """Independent N(0, 1) entries in the shape of `like`; every leaf has its own key."""
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        structure,
        [normal_array(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)],
    )


def select(condition: jax.Array, if_true: Any, if_false: Any) -> Any:
    """`if_true` where the scalar condition holds, else `if_false`, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)
