"""Preconditioned Crank-Nicolson Langevin (pCNL) in whitened coordinates.

    (2 + h) theta' = (2 - h) theta - 2 h grad Phi(theta) + sqrt(8 h) xi

leaves the prior exactly invariant for every h. Unadjusted, its bias in the posterior is of first
order in h; with ``metropolis`` each step is accepted with probability
min(1, exp(rho(theta, theta') - rho(theta', theta))),

    rho(u, v) = Phi(u) + <v - u, grad Phi(u)>/2 + (h/4) <u + v, grad Phi(u)> + (h/4) |grad Phi(u)|^2

and the posterior is exact.

Source: Cotter, Roberts, Stuart and White, Statistical Science 28, 424 (2013).
"""

from typing import Any

from pydantic import Field

from grokphase.sampling.kernels import Info, Kernel, KernelSettings, Position, State, Target


class Settings(KernelSettings):
    """step_size: h, between 0 and 2; metropolis: accept or reject, which makes it exact."""

    step_size: float = Field(gt=0, lt=2, strict=True)
    metropolis: bool = Field(default=True, strict=True)

    @property
    def exact(self) -> bool:
        return self.metropolis


def build(target: Target, settings: Settings, accept_all: Any = False) -> Kernel:
    """The kernel for one posterior."""
    import jax
    import jax.numpy as jnp

    from grokphase.sampling import tree

    h = settings.step_size

    def init(position: Position) -> State:
        return State(position, *target.potential_and_gradient(position))

    def rho(u: State, v: State) -> Any:
        towards = jax.tree.map(
            lambda x, y, g: 0.5 * (y - x) + 0.25 * h * (x + y + g),
            u.position,
            v.position,
            u.gradient,
        )
        return u.potential + tree.inner(towards, u.gradient)

    def step(key: Any, state: State) -> tuple[State, Info]:
        proposal_key, accept_key = jax.random.split(key)
        xi = tree.standard_normal(proposal_key, state.position)
        proposal = init(
            jax.tree.map(
                lambda x, g, z: ((2 - h) * x - 2 * h * g + jnp.sqrt(8 * h) * z) / (2 + h),
                state.position,
                state.gradient,
                xi,
            )
        )
        if not settings.metropolis:
            return proposal, Info(jnp.ones(()), jnp.zeros(()))
        log_ratio = rho(state, proposal) - rho(proposal, state)
        # A comparison with NaN is false: a diverged proposal is rejected.
        accept = accept_all | (jnp.log(jax.random.uniform(accept_key)) < log_ratio)
        acceptance = jnp.nan_to_num(jnp.exp(jnp.minimum(log_ratio, 0.0)))
        return tree.select(accept, proposal, state), Info(acceptance, log_ratio)

    return Kernel(init, step)
