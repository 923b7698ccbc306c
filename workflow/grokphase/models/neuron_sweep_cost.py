"""Cost of a collapsed Gibbs sweep over the neurons; read while the workflow is planned."""

from grokphase.parameters import TeacherStudent

NODES = 9
"""Overlaps at which a neuron is evaluated for the proposal. At d=150, N=700, n=3000, noise 0.25,
0.97 of the proposals are accepted with 7, 0.986 with 9, 0.989 with 11 and with 15.
"""

WORK_PER_EVALUATION = 40.0
"""Multiply-adds of matrix products that take the time of one activation of a sweep."""


def evaluations_per_sweep(parameters: TeacherStudent) -> float:
    """Activations computed by one sweep: at the nodes, and three at the old and new overlap."""
    return float(parameters.train_size * parameters.width * (NODES + 3))
