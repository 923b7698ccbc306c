"""What a sampler of any library offers to the comparison."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from grokphase.models.teacher_student import Position
from grokphase.sampling.kernels import State
from posterior import Problem, observe, variates

DRAWS = 10
"""Draws of one chain per timed call."""


class Record(NamedTuple):
    """Draws of one chain: what they left, mean acceptance, gradients computed."""

    drawn: Any
    acceptance: Any
    gradients: Any


class Tuned(NamedTuple):
    """A sampler with its options chosen.

    start : whitened position -> state.
    advance : (key, state) -> (state, Record of DRAWS draws); this is timed.
    observables : Record.drawn -> [DRAWS, 4], or with Stein variates [DRAWS, 4 + 7]; not timed,
        where `advance` does not compute them.
    options : what was chosen, by whom.
    """

    start: Callable[[Position], Any]
    advance: Callable[[jax.Array, Any], tuple[Any, Record]]
    observables: Callable[[Any], np.ndarray]
    options: str


class Candidate(NamedTuple):
    """A sampler before it is tuned.

    tune : (problem, key, position, warmup) -> Tuned, from a position near equilibrium, with so many
        steps where the library tunes itself.
    patience : runs this many times longer than the others.
    """

    library: str
    name: str
    tune: Callable[[Problem, jax.Array, Position, int], Tuned]
    patience: int = 1


def compiled(
    problem: Problem,
    start: Callable[[Position], Any],
    step: Callable[[jax.Array, Any], tuple[Any, Any, Any]],
    position: Callable[[Any], Position],
    options: str,
    thin: int = 1,
    with_gradient: Callable[[Any], State] | None = None,
) -> Tuned:
    """A sampler in JAX: DRAWS times `thin` steps in one compiled program.

    step : (key, state) -> (state, acceptance probability, gradients computed).
    position : state -> whitened position.
    with_gradient : state -> the same with its gradient, if Stein variates are to be recorded.
    """

    @jax.jit
    def advance(key: jax.Array, state: Any) -> tuple[Any, Record]:
        def one_step(state: Any, key: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
            state, acceptance, gradients = step(key, state)
            return state, (jnp.asarray(acceptance, float), jnp.asarray(gradients, float))

        def one_draw(state: Any, keys: jax.Array) -> tuple[Any, Any]:
            state, (acceptance, gradients) = jax.lax.scan(one_step, state, keys)
            seen = observe(problem, position(state))
            if with_gradient:
                seen = jnp.concatenate([seen, variates(problem, with_gradient(state))])
            return state, (seen, acceptance.mean(), gradients.sum())

        keys = jax.random.split(key, (DRAWS, thin))
        state, (seen, acceptance, gradients) = jax.lax.scan(one_draw, state, keys)
        return state, Record(seen, acceptance.mean(), gradients.sum())

    return Tuned(jax.jit(start), advance, np.asarray, options)
