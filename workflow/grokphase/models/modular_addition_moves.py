"""How a kernel moves the networks of modular addition: on all weights or with the readouts
integrated out, alone or followed by sweeps."""

from collections.abc import Callable

import jax

from grokphase.models import collapsed_readout, mode_sweep, modular_addition
from grokphase.models.mode_sweep_cost import sweep_cost
from grokphase.models.modular_addition import Data, ModularNetwork
from grokphase.models.modular_cost import collapsed_cost
from grokphase.parameters import ModularAddition
from grokphase.sampling.kernels import Kernel, Target
from grokphase.sampling.sweeps import Swept, followed_by_sweeps, repeated, sweeps_per_step
from grokphase.specifications.training import TrainingSpecification, Umbrella


def with_moves(
    build: Callable[[Target], Kernel],
    specification: TrainingSpecification,
    parameters: ModularAddition,
    data: Data,
    accept_all: jax.Array,
) -> Kernel:
    """The kernel that `build` makes for the posterior, with the specification's sweeps.

    accept_all : whether this is the unadjusted part of burn-in, which may sweep more often.
    """

    def sweep(key: jax.Array, position: ModularNetwork) -> Swept:
        return mode_sweep.sweep(key, position, parameters, data)

    if specification.collapsed_readout:
        built = collapsed_readout.with_collapsed_readout(build, parameters, data)
    else:
        built = build(modular_addition.target(parameters, data))
    if not specification.neuron_sweeps:
        return built
    return followed_by_sweeps(built, repeated(sweep, sweeps_per_step(specification, accept_all)))


def expected_counts(specification: TrainingSpecification, parameters: ModularAddition) -> None:
    """The histogram expected of a network: not known."""


def profiles(umbrella: Umbrella | None, parameters: ModularAddition) -> None:
    """Conditional densities of the order parameter: none."""


def work_per_step(
    specification: TrainingSpecification, parameters: ModularAddition, gradients: float
) -> float:
    """Multiply-adds of a step of one network, the kernel's gradients and the sweeps."""
    of_gradient = modular_addition.work_per_gradient(parameters)
    if specification.collapsed_readout:
        of_gradient = collapsed_cost(parameters).operations / 2
    of_sweep = sweep_cost(parameters).operations / 2
    sweeps = specification.sweeps_in_all / specification.steps_in_all
    return gradients * of_gradient + sweeps * of_sweep
