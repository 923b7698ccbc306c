"""How a kernel moves the networks of the teacher-student model: alone, or followed by sweeps."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from grokphase.models import neuron_sweep, neuron_sweep_cost, teacher_student
from grokphase.models.teacher_student import Data, Forward, Position
from grokphase.models.umbrella import enter_window, log_profile
from grokphase.models.umbrella_cost import (
    LARGEST_NOISE,
    PROFILE_NODES,
    PROFILES_COMPARED,
    overlap_deviation,
    profile_overlaps,
)
from grokphase.parameters import TeacherStudent
from grokphase.sampling.ensemble import Profiles
from grokphase.sampling.kernels import Kernel, Target
from grokphase.sampling.sweeps import Swept, followed_by_sweeps, sweeps_per_step
from grokphase.specifications.training import TrainingSpecification, Umbrella


def with_moves(
    build: Callable[[Target], Kernel],
    specification: TrainingSpecification,
    parameters: TeacherStudent,
    data: Data,
    accept_all: jax.Array,
) -> Kernel:
    """The kernel that `build` makes for the posterior, with the specification's sweeps.

    accept_all : whether this is the unadjusted part of burn-in, which may sweep more often.
    """
    kernel = build(teacher_student.target(parameters, data))
    return with_sweeps(kernel, sweeps_per_step(specification, accept_all), parameters, data)


def with_sweeps(
    kernel: Kernel, sweeps: int | jax.Array, parameters: TeacherStudent, data: Data
) -> Kernel:
    """The kernel with so many sweeps over the neurons after each of its steps; itself for none."""
    if isinstance(sweeps, int) and sweeps == 0:
        return kernel

    def all_sweeps(key: jax.Array, position: Position, forward: Forward | None) -> Swept:
        return neuron_sweep.sweep(key, position, parameters, data, sweeps, forward)

    return followed_by_sweeps(kernel, all_sweeps)


def expected_counts(
    specification: TrainingSpecification, parameters: TeacherStudent
) -> Callable[[Position, Data], jax.Array] | None:
    """The histogram of the overlaps expected of a network; None without sweeps, whose acceptance
    tells whether it can be trusted."""
    if not specification.neuron_sweeps:
        return None
    return lambda position, data: neuron_sweep.expected_counts(position, parameters, data)


def profiles(umbrella: Umbrella | None, parameters: TeacherStudent) -> Profiles | None:
    """Profiles of the tagged neuron and the windows that a specification asks for, if any."""
    if umbrella is None:
        return None

    def compute(key: jax.Array, position: Position, data: Data) -> jax.Array:
        return log_profile(key, position, parameters, data)

    def in_window(data: Data, window: int) -> Data:
        shape, width = jnp.shape(data.noise), umbrella.width * overlap_deviation(parameters)
        return data._replace(
            centre=jnp.full(shape, umbrella.overlaps[window - 1], jnp.float32),
            stiffness=jnp.full(shape, width**-2, jnp.float32),
        )

    def enter(positions: Position, data: Data) -> Position:
        return enter_window(positions, parameters, data)

    def noise(profiles: NDArray[np.floating]) -> float:
        deviations = np.std(profiles - profiles[:, :1], axis=0, ddof=1)
        reach = max(umbrella.overlaps, default=math.inf)
        return float(deviations[np.array(profile_overlaps(parameters)) <= reach].max())

    return Profiles(
        PROFILE_NODES, compute, in_window, enter, noise, LARGEST_NOISE, PROFILES_COMPARED
    )


def work_per_step(
    specification: TrainingSpecification, parameters: TeacherStudent, gradients: float
) -> float:
    """Multiply-adds of a step of one network, the kernel's gradients and the sweeps."""
    of_sweep = neuron_sweep_cost.WORK_PER_EVALUATION * neuron_sweep_cost.evaluations_per_sweep(
        parameters
    )
    of_kernel = gradients * teacher_student.work_per_gradient(parameters)
    return of_kernel + specification.sweeps_in_all / specification.steps_in_all * of_sweep
