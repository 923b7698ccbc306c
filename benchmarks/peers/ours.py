"""The kernels of this project, as the pipeline runs them.

Rates of droplets at noise 0.15 scatter by a factor of two, and the fastest row is the luckiest. At
N=700, 250 s instead of 40 give 1.4 effective samples per second (plain 1.2) with two-stage steps
of 0.33 and 1.6 (1.5) with leapfrog steps of 0.3, where the table has 0.80 and 3.0; and with eight
more chains isotropic Langevin dynamics has 17 effective samples in 2400 s, one in 140 s.
"""

from functools import partial
from typing import Any

import jax
from grokphase.models import teacher_student as model
from grokphase.models.teacher_student import Position
from grokphase.models.teacher_student_moves import with_sweeps
from grokphase.sampling import kernels
from posterior import Problem, isotropic_step
from protocol import Candidate, Tuned, compiled

LIBRARY = "this project"


def tune(
    problem: Problem,
    key: jax.Array,
    position: Position,
    warmup: int,
    *,
    kernel: str,
    sweeps: int = 0,
    **options: Any,
) -> Tuned:
    """A kernel with its options as given, followed by sweeps over the neurons.

    `isotropic_share` stands for the step size that `posterior.isotropic_step` makes of it.
    """
    if "isotropic_share" in options:
        share = options.pop("isotropic_share")
        options["step_size"] = isotropic_step(problem.parameters, share)
    module = kernels.load(kernel)
    settings = module.Settings(**options)
    target = model.target(problem.parameters, problem.data)
    built = with_sweeps(module.build(target, settings), sweeps, problem.parameters, problem.data)
    # A sweep leaves the gradient to be computed anew.
    gradients = settings.gradients_per_step + (sweeps > 0)

    def step(key: jax.Array, state: kernels.State) -> tuple[kernels.State, Any, Any]:
        state, info = built.step(key, state)
        return state, info.acceptance, gradients

    def with_gradient(state: kernels.State) -> kernels.State:
        if not settings.approximate_forces or target.approximate_gradient is None:
            return state
        return kernels.State(state.position, *target.potential_and_gradient(state.position))

    return compiled(
        problem,
        built.init,
        step,
        lambda state: state.position,
        ", ".join(f"{name} {value}" for name, value in options.items()) + ", by hand",
        thin=max(1, 8 // gradients),
        with_gradient=with_gradient,
    )


def candidate(name: str, patience: int = 1, **options: Any) -> Candidate:
    """One row of the comparison."""
    return Candidate(LIBRARY, name, partial(tune, **options), patience)


REFERENCE = candidate(
    "Hamiltonian, 1 sweep", kernel="hamiltonian", step_size=0.25, leapfrog_steps=4, sweeps=1
)
CROSS_CHECK = candidate("Hamiltonian", kernel="hamiltonian", step_size=0.25, leapfrog_steps=12)

CANDIDATES = [
    *(
        candidate(
            "Hamiltonian" + (f", {sweeps} sweep{'s' * (sweeps > 1)}" if sweeps else ""),
            kernel="hamiltonian",
            integrator=integrator,
            step_size=step_size,
            leapfrog_steps=leapfrog_steps,
            force_precision=force_precision,
            sweeps=sweeps,
        )
        for integrator, step_size, leapfrog_steps, force_precision, sweeps in (
            ("leapfrog", 0.3, 4, "float32", 1),
            ("two_stage", 0.35, 4, "float32", 1),
            ("two_stage", 0.35, 4, "bfloat16", 1),
            ("two_stage", 0.33, 2, "float32", 1),
            ("two_stage", 0.4, 4, "bfloat16", 1),
            ("two_stage", 0.4, 4, "bfloat16", 2),
            ("two_stage", 0.33, 6, "bfloat16", 2),
            ("two_stage", 0.33, 8, "float32", 0),
        )
    ),
    candidate("pCN Langevin", kernel="pcn_langevin", step_size=0.1),
    *(
        candidate(name, patience, kernel="isotropic_langevin", isotropic_share=share)
        for name, patience, share in (
            ("isotropic Langevin (paper), half the step", 10, 0.5),
            ("isotropic Langevin (paper)", 30, 1.0),
        )
    ),
]
