"""How a kernel moves the networks of the teacher-student model: alone, or followed by sweeps."""

from collections.abc import Callable

import jax

from grokphase.models import neuron_sweep, neuron_sweep_cost, teacher_student
from grokphase.models.teacher_student import Data, Position
from grokphase.parameters import TeacherStudent
from grokphase.sampling.kernels import Kernel, Target
from grokphase.sampling.sweeps import Swept, followed_by_sweeps
from grokphase.specifications.training import TrainingSpecification

GIVES_EXPECTED_COUNTS = True
"""Whether a sweep gives the expected histogram of the order parameter."""


def with_moves(
    build: Callable[[Target], Kernel],
    specification: TrainingSpecification,
    parameters: TeacherStudent,
    data: Data,
) -> Kernel:
    """The kernel that `build` makes for the posterior, with the specification's sweeps."""
    built = build(teacher_student.target(parameters, data))
    return with_sweeps(built, specification.neuron_sweeps, parameters, data)


def with_sweeps(kernel: Kernel, sweeps: int, parameters: TeacherStudent, data: Data) -> Kernel:
    """The kernel with so many sweeps over the neurons after each of its steps."""

    def sweep(key: jax.Array, position: Position) -> Swept:
        return neuron_sweep.sweep(key, position, parameters, data)

    return followed_by_sweeps(kernel, sweeps, sweep)


def work_per_step(
    specification: TrainingSpecification, parameters: TeacherStudent, gradients: int
) -> float:
    """Multiply-adds of a step of one network, the kernel's gradients and the sweeps."""
    of_sweep = neuron_sweep_cost.WORK_PER_EVALUATION * neuron_sweep_cost.evaluations_per_sweep(
        parameters
    )
    of_kernel = gradients * teacher_student.work_per_gradient(parameters)
    return of_kernel + specification.neuron_sweeps * of_sweep
