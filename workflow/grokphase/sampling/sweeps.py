"""Sweeps beside a kernel: moves of a model that cross the barriers its trajectories do not."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from grokphase.sampling.kernels import Info, Kernel, Position, State


class Swept(NamedTuple):
    """After a sweep.

    position; acceptance : share of the moves that were accepted.
    potential : of the new position; None for a sweep that does not know it.
    """

    position: Position
    acceptance: jax.Array
    potential: jax.Array | None = None


def followed_by_sweeps(
    kernel: Kernel, sweeps: int, sweep: Callable[[jax.Array, Position], Swept]
) -> Kernel:
    """The kernel with so many sweeps after each of its steps; the kernel itself for none.

    sweep : (key, position) -> Swept; leaves the kernel's posterior invariant.
    """
    if sweeps == 0:
        return kernel

    def step(key: jax.Array, state: State) -> tuple[State, Info]:
        step_key, sweep_key = jax.random.split(key)
        state, info = kernel.step(step_key, state)

        def one_sweep(position: Position, number: jax.Array) -> tuple[Position, Any]:
            swept = sweep(jax.random.fold_in(sweep_key, number), position)
            return swept.position, (swept.acceptance, swept.potential)

        position, (acceptance, potentials) = jax.lax.scan(
            one_sweep, state.position, jnp.arange(sweeps)
        )
        state = kernel.init(position)
        if potentials is not None:
            state = state._replace(potential=potentials[-1])
        return state, info._replace(sweep_acceptance=acceptance.mean())

    return Kernel(kernel.init, step)
