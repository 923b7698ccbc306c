"""BlackJAX, tuned by its own adaptations.

In whitened coordinates the metric is the identity and dual averaging chooses the step size (MALA
0.574, HMC 0.65 and NUTS 0.8 acceptance); NUTS is also tuned by window adaptation, which chooses a
diagonal metric too, as is all that runs in original coordinates. HMC comes with a scan of its
number of leapfrog steps. MCLMC and adjusted MCLMC choose step size, trajectory length and metric
by their own searches, at their defaults.

Source: Cabezas et al., BlackJAX: composable Bayesian inference in JAX, arXiv:2402.10797 (2024).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
from blackjax.adaptation.step_size import dual_averaging_adaptation
from blackjax.mcmc import adjusted_mclmc_dynamic
from grokphase.models import teacher_student as model
from grokphase.models.teacher_student import Position
from grokphase.sampling import tree
from grokphase.sampling.kernels import State
from posterior import Problem
from protocol import Candidate, Tuned, compiled

LIBRARY = f"BlackJAX {blackjax.__version__}"
ISOKINETIC_STEPS = 20
"""Steps for each of the warm-up that MCLMC is told of; its searches use three tenths of them, their
defaults, and those of the adjusted one two."""

INITIAL_STEP = {"MALA": 0.02, "HMC": 0.2, "NUTS": 0.2}
ACCEPTANCE = {"MALA": 0.574, "HMC": 0.65, "NUTS": 0.8}


def gradients_of(info: Any) -> Any:
    """Gradients of a step: one unless it says how many integration steps it took."""
    return getattr(info, "num_integration_steps", 1)


def stepping(sampler: Any) -> Callable[[jax.Array, Any], tuple[Any, Any, Any]]:
    """A step of an adjusted sampler: (key, state) -> state, acceptance, gradients."""

    def step(key: jax.Array, state: Any) -> tuple[Any, Any, Any]:
        state, info = sampler.step(key, state)
        return state, info.acceptance_rate, gradients_of(info)

    return step


def algorithm(
    problem: Problem, name: str, leapfrog_steps: int
) -> Callable[[Any], blackjax.SamplingAlgorithm]:
    """step size -> the algorithm in whitened coordinates with the identity as its metric."""
    coordinates = problem.parameters.width * (problem.parameters.input_dim + 1)
    metric = jnp.ones(coordinates)
    return {
        "MALA": lambda h: blackjax.mala(problem.whitened, h),
        "HMC": lambda h: blackjax.hmc(problem.whitened, h, metric, leapfrog_steps),
        "NUTS": lambda h: blackjax.nuts(problem.whitened, h, metric),
    }[name]


def dual_averaging(
    problem: Problem,
    key: jax.Array,
    position: Position,
    warmup: int,
    *,
    name: str,
    leapfrog_steps: int = 0,
) -> Tuned:
    """Whitened coordinates, identity metric, step size by dual averaging."""
    build = algorithm(problem, name, leapfrog_steps)
    initial, update, final = dual_averaging_adaptation(ACCEPTANCE[name])

    def adapt(carry: Any, key: jax.Array) -> tuple[Any, None]:
        state, adaptation = carry
        state, info = build(jnp.exp(adaptation.log_step_size)).step(key, state)
        return (state, update(adaptation, info.acceptance_rate)), None

    @jax.jit
    def run(key: jax.Array, position: Position) -> jax.Array:
        start = build(INITIAL_STEP[name]).init(position)
        carry = (start, initial(INITIAL_STEP[name]))
        (_, adaptation), _ = jax.lax.scan(adapt, carry, jax.random.split(key, warmup))
        return final(adaptation)

    step_size = float(run(key, position))
    sampler = build(step_size)

    length = f"{leapfrog_steps} leapfrog steps, " if leapfrog_steps else ""
    return compiled(
        problem,
        sampler.init,
        stepping(sampler),
        lambda state: state.position,
        f"whitened, {length}step {step_size:.3g} by dual averaging",
        thin=8 if name == "MALA" else 1,
    )


def window_adaptation(
    problem: Problem,
    key: jax.Array,
    position: Position,
    warmup: int,
    *,
    name: str,
    coordinates: str,
    leapfrog_steps: int = 0,
) -> Tuned:
    """Step size and diagonal metric by window adaptation, in whitened or original coordinates."""
    method = {"HMC": blackjax.hmc, "NUTS": blackjax.nuts}[name]
    log_density = getattr(problem, coordinates)
    fixed = {"num_integration_steps": leapfrog_steps} if leapfrog_steps else {}
    scale = model.prior_scale(problem.parameters)
    if coordinates == "whitened":
        scale = jax.tree.map(jnp.ones_like, scale)
    adaptation = blackjax.window_adaptation(
        method, log_density, target_acceptance_rate=ACCEPTANCE[name], **fixed
    )
    begin = jax.tree.map(lambda x, s: x * s, position, scale)
    (_, chosen), _ = jax.jit(adaptation.run, static_argnums=2)(key, begin, warmup)
    sampler = method(log_density, **{**chosen, **fixed})

    length = f"{leapfrog_steps} leapfrog steps, " if leapfrog_steps else ""
    return compiled(
        problem,
        lambda x: sampler.init(jax.tree.map(lambda y, s: y * s, x, scale)),
        stepping(sampler),
        lambda state: jax.tree.map(lambda y, s: y / s, state.position, scale),
        f"{coordinates}, {length}step {float(chosen['step_size']):.3g} and metric by window "
        "adaptation",
    )


def mclmc(problem: Problem, key: jax.Array, position: Position, warmup: int) -> Tuned:
    """Microcanonical Langevin Monte Carlo, unadjusted; two gradients per step."""
    tune_key, start_key = jax.random.split(key)
    kernel = blackjax.mcmc.mclmc.build_kernel()
    state = blackjax.mcmc.mclmc.init(position, problem.whitened, start_key)
    _, chosen, _ = blackjax.mclmc_find_L_and_step_size(
        kernel, ISOKINETIC_STEPS * warmup, state, tune_key, logdensity_fn=problem.whitened
    )
    sampler = blackjax.mclmc(
        problem.whitened,
        L=chosen.L,
        step_size=chosen.step_size,
        inverse_mass_matrix=chosen.inverse_mass_matrix,
    )

    def step(key: jax.Array, state: Any) -> tuple[Any, Any, Any]:
        return sampler.step(key, state)[0], 1.0, 2

    def with_gradient(state: Any) -> State:
        of_prior = 0.5 * tree.inner(state.position, state.position)
        gradient = jax.tree.map(lambda g, x: -g - x, state.logdensity_grad, state.position)
        return State(state.position, -state.logdensity - of_prior, gradient)

    return compiled(
        problem,
        lambda x: sampler.init(x, start_key),
        step,
        lambda state: state.position,
        f"whitened, L {float(chosen.L):.3g}, step {float(chosen.step_size):.3g} by its search",
        thin=4,
        with_gradient=with_gradient,
    )


def adjusted_mclmc(problem: Problem, key: jax.Array, position: Position, warmup: int) -> Tuned:
    """Microcanonical Monte Carlo with Metropolis steps and random trajectory lengths."""
    tune_key, start_key = jax.random.split(key)
    lengths = adjusted_mclmc_dynamic.make_random_trajectory_length_fn(True)
    kernel = adjusted_mclmc_dynamic.build_kernel(integration_steps_fn=lengths)

    state = adjusted_mclmc_dynamic.init(position, problem.whitened, start_key)
    _, chosen, _ = blackjax.adjusted_mclmc_find_L_and_step_size(
        kernel, problem.whitened, ISOKINETIC_STEPS * warmup, state, tune_key, target=0.65
    )
    sampler = blackjax.adjusted_mclmc_dynamic(
        problem.whitened,
        chosen.step_size,
        inverse_mass_matrix=chosen.inverse_mass_matrix,
        integration_steps_fn=lengths,
        integration_steps_params=(chosen.L / chosen.step_size,),
    )

    def step(key: jax.Array, state: Any) -> tuple[Any, Any, Any]:
        state, info = sampler.step(key, state)
        return state, info.acceptance_rate, 2 * info.num_integration_steps

    return compiled(
        problem,
        lambda x: sampler.init(x, start_key),
        step,
        lambda state: state.position,
        f"whitened, L {float(chosen.L):.3g}, step {float(chosen.step_size):.3g} by its search",
        thin=2,
    )


CANDIDATES = [
    Candidate(LIBRARY, "MALA", partial(dual_averaging, name="MALA")),
    *(
        Candidate(LIBRARY, "HMC", partial(dual_averaging, name="HMC", leapfrog_steps=length))
        for length in (5, 10, 20)
    ),
    Candidate(LIBRARY, "NUTS", partial(dual_averaging, name="NUTS")),
    Candidate(LIBRARY, "NUTS", partial(window_adaptation, name="NUTS", coordinates="whitened")),
    *(
        Candidate(
            LIBRARY,
            "HMC",
            partial(window_adaptation, name="HMC", coordinates="original", leapfrog_steps=length),
        )
        for length in (10, 20)
    ),
    Candidate(LIBRARY, "NUTS", partial(window_adaptation, name="NUTS", coordinates="original")),
    Candidate(LIBRARY, "MCLMC", mclmc),
    Candidate(LIBRARY, "adjusted MCLMC", adjusted_mclmc),
]
