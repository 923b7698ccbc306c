"""Cost of a collapsed Gibbs sweep over the neurons; read while the workflow is planned."""

from grokphase.parameters import TeacherStudent

NODES = 17
"""Overlaps at which the density of a neuron is evaluated. At the paper's size 97 % of the proposals
are accepted with 17 and 99 % with 33, which cost 1.6 times as much."""

WORK_PER_EVALUATION = 40.0
"""Multiply-adds of matrix products that take the time of one activation of a sweep."""


def evaluations_per_sweep(parameters: TeacherStudent) -> float:
    """Activations computed by one sweep: those of the grid, and of the old and new overlap."""
    return float(parameters.train_size * parameters.width * (NODES + 5))
