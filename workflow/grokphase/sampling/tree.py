"""Arithmetic on pytrees of arrays."""

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


def standard_normal(key: jax.Array, like: Any) -> Any:
    """Independent N(0, 1) entries in the shape of `like`; every leaf has its own key."""
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        structure,
        [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)],
    )


def select(condition: jax.Array, if_true: Any, if_false: Any) -> Any:
    """`if_true` where the scalar condition holds, else `if_false`, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)
