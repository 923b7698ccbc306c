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
from grokphase.sampling.sweeps import Swept, followed_by_sweeps
from grokphase.specifications.training import TrainingSpecification


def with_moves(
    build: Callable[[Target], Kernel],
    specification: TrainingSpecification,
    parameters: ModularAddition,
    data: Data,
) -> Kernel:
    """The kernel that `build` makes for the posterior, with the specification's sweeps."""

    def sweep(key: jax.Array, position: ModularNetwork) -> Swept:
        return mode_sweep.sweep(key, position, parameters, data)

    if specification.collapsed_readout:
        built = collapsed_readout.with_collapsed_readout(build, parameters, data)
    else:
        built = build(modular_addition.target(parameters, data))
    return followed_by_sweeps(built, specification.neuron_sweeps, sweep)


def expected_counts(specification: TrainingSpecification, parameters: ModularAddition) -> None:
    """The histogram expected of a network: not known."""


def profiles(specification: TrainingSpecification, parameters: ModularAddition) -> None:
    """Conditional densities of the order parameter: none."""


def work_per_step(
    specification: TrainingSpecification, parameters: ModularAddition, gradients: int
) -> float:
    """Multiply-adds of a step of one network, the kernel's gradients and the sweeps."""
    of_gradient = modular_addition.work_per_gradient(parameters)
    if specification.collapsed_readout:
        of_gradient = collapsed_cost(parameters).operations / 2
    of_sweep = sweep_cost(parameters).operations / 2
    return gradients * of_gradient + specification.neuron_sweeps * of_sweep
