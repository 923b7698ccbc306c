"""Euler-Maruyama Langevin dynamics in the original coordinates: the paper's training protocol.

    theta' = theta - step_size grad[L + gamma |theta|^2/2] + sqrt(2 noise step_size) xi,
    gamma = noise / (prior variance) of each layer

In whitened coordinates this is an Euler step of length h = step_size * gamma of its own for each
layer. The bias is of first order in h: on the prior alone the stationary variance is 1/(1 - h/2).

Sources: preprint section 2.3; the published version prints the noise as 2 sigma xi, but its own
stationary covariance noise/gamma requires sqrt(2) sigma xi.
"""

from typing import Any

from grokphase.parameters import Positive
from grokphase.sampling.kernels import Info, Kernel, KernelSettings, Position, State, Target


class Settings(KernelSettings):
    """step_size: the learning rate, in the units of time of the Langevin equation."""

    step_size: Positive


def build(target: Target, settings: Settings, accept_all: Any = False) -> Kernel:
    """The kernel for one posterior."""
    import jax
    import jax.numpy as jnp

    from grokphase.sampling import tree

    def init(position: Position) -> State:
        return State(position, *target.potential_and_gradient(position))

    def step(key: Any, state: State) -> tuple[State, Info]:
        def move(x: Any, gradient: Any, scale: Any, xi: Any) -> Any:
            h = settings.step_size * target.noise / scale**2
            return x - h * (gradient + x) + jnp.sqrt(2 * h) * xi

        xi = tree.standard_normal(key, state.position)
        position = jax.tree.map(move, state.position, state.gradient, target.prior_scale, xi)
        return init(position), Info(jnp.ones(()), jnp.zeros(()))

    return Kernel(init, step)
