"""Hamiltonian Monte Carlo in whitened coordinates, with the prior's dynamics solved exactly.

One step draws momenta from N(0, 1) and follows the Hamiltonian
Phi(theta) + |theta|^2/2 + |p|^2/2 for ``leapfrog_steps`` repetitions of

    half kick  p -= (h/2) grad Phi;   rotation of (theta, p) by the angle h;   half kick

The rotation is the exact flow of the Gaussian part, so the prior is invariant for every h and the
energy error comes from Phi alone, at second order in h. Each trajectory draws its h and its number
of repetitions anew, uniformly within the relative distances ``jitter`` and ``length_spread`` of
``step_size`` and ``leapfrog_steps``: a mode of frequency w returns to where it was after an angle
2 pi/w, so that trajectories of one length never relax it (at d=150, N=700, n=3000, noise 0.25 the
linear overlap has w = 1.8, and 12 steps of 0.29 leave 75 % of a deviation in place; two steps,
whose number no ``length_spread`` below 1 changes in pairs, are far from a turn). With
``metropolis`` the end point is accepted with probability min(1, exp(-energy error)) and the
posterior is exact.

With the integrator ``two_stage`` the repetitions come in pairs, whose kicks have the weights
2b, 2 - 4b and 2b instead of 1/2, 1 and 1/2, at the same cost; b = 0.21178 makes the energy error
of Gaussian targets smallest. At d=150, N=700, n=3000 a trajectory of 2 radians is accepted with
probability

    noise, eps          0.25, -0.1    0.18, -0.3    0.1, -0.4
    8 leapfrog steps       0.58          0.61          0.70
    6 in pairs             0.83          0.50          0.47
    8 in pairs             0.91          0.71          0.85

(16 trajectories from equilibrium each, errors about 0.06). The best integrator of three stages did
no better (0.80, 0.40 and 0.37 with 6).

With ``force_precision: bfloat16`` the forces come from a gradient whose matrix products take their
factors in bfloat16 where the processor has such products, which are faster; elsewhere from the
exact one. A trajectory under any force that is a function of the position is reversible and keeps
the volume, and the energies at its ends are those of the exact potential, so the posterior stays
exact; only the acceptance could suffer. It does not: the energy errors of the trajectories above
change by 0.06 (noise 0.25) and 0.18 (noise 0.1) of a nat, beside deviations of 0.5 and 1.6 (factors
in TF32: 0.007 and 0.04).

In burn-in, while every proposal is accepted, a step of ``unadjusted_step_size`` can be longer: its
energy error rejects nothing there, and the adjusted steps that follow remove most of what it leaves
(see grokphase.specifications.training.unadjusted_draws, with what is left). There can also be more
of them in a trajectory, ``unadjusted_leapfrog_steps``.

Sources: Neal, Handbook of MCMC ch. 5 (2011), sections 5.5.1 (splitting) and 5.5.5
(trajectories of an approximate energy, accepted by the exact one); Beskos, Pinski, Sanz-Serna
and Stuart, Stochastic Processes and their Applications 121, 2201 (2011); Blanes, Casas and
Sanz-Serna, SIAM Journal on Scientific Computing 36, A1556 (2014), section 4 (two stages).
"""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from grokphase.parameters import Positive, PositiveCount
from grokphase.sampling.kernels import Info, Kernel, KernelSettings, Position, State, Target

OUTER_KICK = {"leapfrog": 0.25, "two_stage": 0.21178}
"""b: the first kick of a pair of repetitions, in units of the pair's duration 2h."""


Angle = Annotated[Positive, Field(lt=math.pi)]
"""A rotation by less than half a turn, beyond which it is one the other way."""


class Settings(KernelSettings):
    """step_size: h, the rotation angle; leapfrog_steps: mean number of repetitions, even if they
    come in pairs; jitter and length_spread: their relative half-widths; metropolis: exact;
    force_precision: of the factors of the products in the gradient, where the processor gains;
    unadjusted_step_size, unadjusted_leapfrog_steps: h and the number of repetitions in the part of
    burn-in in which every proposal is accepted, by default the same."""

    step_size: Angle
    leapfrog_steps: PositiveCount
    jitter: float = Field(default=0.1, ge=0, lt=1, strict=True)
    length_spread: float = Field(default=0.5, ge=0, lt=1, strict=True)
    metropolis: bool = Field(default=True, strict=True)
    integrator: Literal["leapfrog", "two_stage"] = "leapfrog"
    force_precision: Literal["float32", "bfloat16"] = "float32"
    unadjusted_step_size: Angle | None = None
    unadjusted_leapfrog_steps: PositiveCount | None = None

    @model_validator(mode="after")
    def _whole_pairs(self) -> "Settings":
        for name in ("leapfrog_steps", "unadjusted_leapfrog_steps"):
            steps = getattr(self, name)
            if self.integrator == "two_stage" and steps is not None and steps % 2:
                raise ValueError(
                    f"{name} {steps} must be even for the integrator two_stage, which takes steps "
                    "in pairs"
                )
        return self

    @model_validator(mode="after")
    def _approximations_are_corrected(self) -> "Settings":
        if self.approximate_forces and not self.metropolis:
            raise ValueError(
                "force_precision bfloat16 needs metropolis: true, which makes it exact; without it "
                "use float32"
            )
        return self

    @property
    def gradients_per_step(self) -> int:
        return self.leapfrog_steps

    @property
    def gradients_per_unadjusted_step(self) -> int:
        return self.unadjusted_leapfrog_steps or self.leapfrog_steps

    @property
    def exact(self) -> bool:
        return self.metropolis

    @property
    def approximate_forces(self) -> bool:
        return self.force_precision == "bfloat16"


def build(target: Target, settings: Settings, accept_all: Any = False) -> Kernel:
    """The kernel for one posterior."""
    import jax
    import jax.numpy as jnp

    from grokphase.sampling import tree

    step_size: Any = settings.step_size
    if settings.unadjusted_step_size is not None:
        step_size = jnp.where(accept_all, settings.unadjusted_step_size, step_size)
    force = target.approximate_gradient if settings.approximate_forces else None

    def potential_and_forward(position: Position) -> tuple[Any, Any]:
        if target.potential_and_forward is not None:
            return target.potential_and_forward(position)
        # The compiler leaves out the gradient.
        return target.potential_and_gradient(position)[0], None

    def init(position: Position) -> State:
        if force is None:
            return State(position, *target.potential_and_gradient(position))
        return State(position, potential_and_forward(position)[0], force(position))

    def inside_trajectory(position: Position) -> State:
        """The same, but nobody asks for an approximate trajectory's potential before its end."""
        if force is None:
            return init(position)
        return State(position, jnp.zeros(()), force(position))

    def kick(momentum: Any, gradient: Any, h: Any) -> Any:
        return jax.tree.map(lambda p, g: p - h * g, momentum, gradient)

    def half_square_difference(first: Any, second: Any) -> Any:
        # Half of |first|^2 - |second|^2, without the cancellation of two large sums.
        minus = jax.tree.map(lambda x, y: x - y, first, second)
        plus = jax.tree.map(lambda x, y: x + y, first, second)
        return 0.5 * tree.inner(minus, plus)

    together = 2 if settings.integrator == "two_stage" else 1

    def repetitions(mean: int, uniform: Any) -> Any:
        """Their number in a trajectory, `mean` or more or less by whole pairs if they come so."""
        most = int(settings.length_spread * mean) // together
        return mean + together * (jnp.floor(uniform * (2 * most + 1)).astype(int) - most)

    def step(key: Any, state: State) -> tuple[State, Info]:
        momentum_key, uniform_key = jax.random.split(key)
        momentum = tree.standard_normal(momentum_key, state.position)
        of_step, of_length, of_acceptance = jax.random.uniform(uniform_key, (3,))
        h = step_size * (1 + settings.jitter * (2 * of_step - 1))
        cosine, sine = jnp.cos(h), jnp.sin(h)
        length = jnp.where(
            accept_all,
            repetitions(settings.gradients_per_unadjusted_step, of_length),
            repetitions(settings.leapfrog_steps, of_length),
        )
        outer = 2 * OUTER_KICK[settings.integrator]

        def repetition(number: Any, carry: tuple[State, Any]) -> tuple[State, Any]:
            here, p = carry
            first = jnp.where(number % 2 == 0, outer, 1 - outer)
            p = kick(p, here.gradient, first * h)
            position = jax.tree.map(lambda x, v: cosine * x + sine * v, here.position, p)
            p = jax.tree.map(lambda x, v: cosine * v - sine * x, here.position, p)
            there = inside_trajectory(position)
            return there, kick(p, there.gradient, (1 - first) * h)

        proposal, end_momentum = jax.lax.fori_loop(0, length, repetition, (state, momentum))
        forward = None
        if force is not None:
            potential, forward = potential_and_forward(proposal.position)
            proposal = proposal._replace(potential=potential)
        if not settings.metropolis:
            return proposal, Info(jnp.ones(()), jnp.zeros(()))
        log_ratio = (
            (state.potential - proposal.potential)
            + half_square_difference(state.position, proposal.position)
            + half_square_difference(momentum, end_momentum)
        )
        # A comparison with NaN is false: a diverged trajectory is rejected.
        accept = accept_all | (jnp.log(of_acceptance) < log_ratio)
        acceptance = jnp.nan_to_num(jnp.exp(jnp.minimum(log_ratio, 0.0)))
        after = tree.select(accept, proposal, state)
        if forward is not None:
            forward = jax.lax.cond(
                accept, lambda: forward, lambda: potential_and_forward(after.position)[1]
            )
        return after, Info(acceptance, log_ratio, forward=forward)

    return Kernel(init, step)
