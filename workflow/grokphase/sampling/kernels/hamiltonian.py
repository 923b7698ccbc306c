"""Hamiltonian Monte Carlo in whitened coordinates, with the prior's dynamics solved exactly.

One step draws momenta from N(0, 1) and follows the Hamiltonian
Phi(theta) + |theta|^2/2 + |p|^2/2 for ``leapfrog_steps`` repetitions of

    half kick  p -= (h/2) grad Phi;   rotation of (theta, p) by the angle h;   half kick

The rotation is the exact flow of the Gaussian part, so the prior is invariant for every h and the
energy error comes from Phi alone, at second order in h. ``jitter`` draws h anew for each step,
uniformly within that relative distance of ``step_size``, which breaks the resonances of
trajectories of fixed length. With ``metropolis`` the end point is accepted with probability
min(1, exp(-energy error)) and the posterior is exact.

Sources: Neal, Handbook of MCMC ch. 5 (2011), section 5.5.1 (splitting); Beskos, Pinski, Sanz-Serna
and Stuart, Stochastic Processes and their Applications 121, 2201 (2011).
"""

from typing import Any

from pydantic import Field

from grokphase.parameters import Positive, PositiveCount
from grokphase.sampling.kernels import Info, Kernel, KernelSettings, Position, State, Target


class Settings(KernelSettings):
    """step_size: h, the rotation angle; leapfrog_steps and jitter as above; metropolis: exact."""

    step_size: Positive
    leapfrog_steps: PositiveCount
    jitter: float = Field(default=0.2, ge=0, lt=1, strict=True)
    metropolis: bool = True

    @property
    def gradients_per_step(self) -> int:
        return self.leapfrog_steps


def build(target: Target, settings: Settings) -> Kernel:
    """The kernel for one posterior."""
    import jax
    import jax.numpy as jnp

    from grokphase.sampling import tree

    def init(position: Position) -> State:
        return State(position, *target.potential_and_gradient(position))

    def kick(momentum: Any, gradient: Any, h: Any) -> Any:
        return jax.tree.map(lambda p, g: p - 0.5 * h * g, momentum, gradient)

    def kinetic_and_prior_energy(position: Any, momentum: Any) -> Any:
        return 0.5 * (tree.inner(position, position) + tree.inner(momentum, momentum))

    def step(key: Any, state: State) -> tuple[State, Info]:
        momentum_key, accept_key, jitter_key = jax.random.split(key, 3)
        momentum = tree.standard_normal(momentum_key, state.position)
        spread = jax.random.uniform(jitter_key, minval=-settings.jitter, maxval=settings.jitter)
        h = settings.step_size * (1 + spread)
        cosine, sine = jnp.cos(h), jnp.sin(h)

        def leapfrog(_: Any, carry: tuple[State, Any]) -> tuple[State, Any]:
            here, p = carry
            p = kick(p, here.gradient, h)
            position = jax.tree.map(lambda x, v: cosine * x + sine * v, here.position, p)
            p = jax.tree.map(lambda x, v: cosine * v - sine * x, here.position, p)
            there = init(position)
            return there, kick(p, there.gradient, h)

        proposal, end_momentum = jax.lax.fori_loop(
            0, settings.leapfrog_steps, leapfrog, (state, momentum)
        )
        if not settings.metropolis:
            return proposal, Info(jnp.ones(()), jnp.zeros(()))
        log_ratio = (state.potential - proposal.potential) + (
            kinetic_and_prior_energy(state.position, momentum)
            - kinetic_and_prior_energy(proposal.position, end_momentum)
        )
        # A comparison with NaN is false: a diverged trajectory is rejected.
        accept = jnp.log(jax.random.uniform(accept_key)) < log_ratio
        acceptance = jnp.nan_to_num(jnp.exp(jnp.minimum(log_ratio, 0.0)))
        return tree.select(accept, proposal, state), Info(acceptance, log_ratio)

    return Kernel(init, step)
