"""Sweeps beside a kernel: moves of a model that cross the barriers its trajectories do not."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from grokphase.sampling.kernels import Info, Kernel, Position, State
from grokphase.specifications.training import TrainingSpecification


class Swept(NamedTuple):
    """After a sweep.

    position; acceptance : share of the moves that were accepted.
    potential : of the new position; None for a sweep that does not know it.
    """

    position: Position
    acceptance: jax.Array
    potential: jax.Array | None = None


Sweep = Callable[[jax.Array, Position, Any], Swept]
"""(key, position, forward) -> Swept, one sweep or several; leaves a posterior invariant. `forward`
is the position's as in kernels.Target, or None."""


def repeated(sweep: Callable[[jax.Array, Position], Swept], sweeps: int | jax.Array) -> Sweep:
    """So many sweeps, at least one, as a single one that does not know its potential."""

    def all_sweeps(key: jax.Array, position: Position, forward: Any) -> Swept:
        def one_sweep(number: jax.Array, carry: tuple[Position, jax.Array]) -> Any:
            position, acceptance = carry
            swept = sweep(jax.random.fold_in(key, number), position)
            return swept.position, acceptance + swept.acceptance

        start = (position, jnp.zeros(()))
        position, acceptance = jax.lax.fori_loop(0, sweeps, one_sweep, start)
        return Swept(position, acceptance / sweeps)

    return all_sweeps


def followed_by_sweeps(kernel: Kernel, sweep: Sweep) -> Kernel:
    """The kernel with a sweep, which leaves its posterior invariant, after each of its steps."""

    def step(key: jax.Array, state: State) -> tuple[State, Info]:
        step_key, sweep_key = jax.random.split(key)
        state, info = kernel.step(step_key, state)
        swept = sweep(sweep_key, state.position, info.forward)
        state = kernel.init(swept.position)
        if swept.potential is not None:
            state = state._replace(potential=swept.potential)
        return state, info._replace(sweep_acceptance=swept.acceptance, forward=None)

    return Kernel(kernel.init, step)


def sweeps_per_step(specification: TrainingSpecification, accept_all: jax.Array) -> int | jax.Array:
    """Sweeps after a step; `accept_all` tells whether it belongs to the unadjusted part of
    burn-in."""
    usual, unadjusted = specification.neuron_sweeps, specification.unadjusted_sweeps
    return usual if unadjusted is None else jnp.where(accept_all, unadjusted, usual)
