"""Cost of a collapsed Gibbs sweep over the neurons; read while the workflow is planned."""

from grokphase.parameters import TeacherStudent

NODES = 9
"""Overlaps at which a neuron is evaluated for the proposal. At d=150, N=700, n=3000, noise 0.25,
0.97 of the proposals are accepted with 7, 0.986 with 9, 0.989 with 11 and with 15.
"""

DENSITY_NODES = 15
"""Overlaps at which a neuron is evaluated for its density. Largest error of -log p(q), |q| < 1.2,
of 150 neurons at d=150, N=700, n=3000, eps=-0.3 and noise 0.1, 0.12, 0.25: 0.12, 0.13, 0.06 nats
with 11; 0.07, 0.03, 0.01 with 13; 0.011, 0.008, 0.004 with 15; 0.001 with 21.
"""

WORK_PER_EVALUATION = 40.0
"""Multiply-adds of matrix products that take the time of one activation of a sweep, with its
share of the forward pass where a sweep has to compute it."""


def evaluations_per_sweep(parameters: TeacherStudent) -> float:
    """Activations computed by one sweep: at the nodes, and three at the old and new overlap."""
    return float(parameters.train_size * parameters.width * (NODES + 3))


def evaluations_per_density(parameters: TeacherStudent) -> float:
    """Activations computed for the densities of all neurons."""
    return float(parameters.train_size * parameters.width * (DENSITY_NODES + 1))
