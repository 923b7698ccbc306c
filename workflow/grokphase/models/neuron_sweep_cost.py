"""Cost of a collapsed Gibbs sweep over the neurons; read while the workflow is planned."""

from grokphase.parameters import TeacherStudent

NODES = 11
"""Overlaps at which a neuron is evaluated."""

WORK_PER_EVALUATION = 40.0
"""Multiply-adds of matrix products that take the time of one activation of a sweep."""


def evaluations_per_sweep(parameters: TeacherStudent) -> float:
    """Activations computed by one sweep: at the nodes, and three at the old and new overlap."""
    return float(parameters.train_size * parameters.width * (NODES + 3))
