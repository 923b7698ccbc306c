"""NumPyro's NUTS in whitened coordinates, tuned by its own warm-up (step size, diagonal metric).

Source: Phan, Pradhan and Jankowiak, Composable effects for flexible and accelerated probabilistic
programming in NumPyro, arXiv:1912.11554 (2019).
"""

from typing import Any

import jax
import numpyro
from grokphase.models.teacher_student import Position
from numpyro.infer import NUTS
from posterior import Problem
from protocol import Candidate, Tuned, compiled

LIBRARY = f"NumPyro {numpyro.__version__}"


def tune(problem: Problem, key: jax.Array, position: Position, warmup: int) -> Tuned:
    """Whitened coordinates, acceptance 0.8 (the default)."""
    kernel = NUTS(potential_fn=lambda position: -problem.whitened(position))
    initial = kernel.init(key, warmup, init_params=position)
    sample = lambda state: kernel.sample(state, (), {})  # noqa: E731
    warm = jax.jit(lambda state: jax.lax.fori_loop(0, warmup, lambda _, s: sample(s), state))(
        initial
    )

    def start(position: Position) -> Any:
        value, gradient = jax.value_and_grad(lambda x: -problem.whitened(x))(position)
        return warm._replace(z=position, z_grad=gradient, potential_energy=value)

    def step(key: jax.Array, state: Any) -> tuple[Any, Any, Any]:
        state = sample(state._replace(rng_key=key))
        return state, state.accept_prob, state.num_steps

    step_size = float(warm.adapt_state.step_size)
    return compiled(
        problem,
        start,
        step,
        lambda state: state.z,
        f"whitened, step {step_size:.3g} and metric by warm-up",
    )


CANDIDATES = [Candidate(LIBRARY, "NUTS", tune)]
