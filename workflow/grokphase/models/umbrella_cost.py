"""Overlaps and cost of the profiles of `grokphase.models.umbrella`; read while planning."""

import math

from grokphase.parameters import TeacherStudent

PROFILE_NODES = 17
"""Overlaps at which a profile is computed, equally spaced from zero on."""

PROFILE_LIMIT = 1.6
"""Largest of these overlaps, or six prior deviations if that is more: 0.1 apart."""

PARTICLES = 16
"""Copies of the tagged neuron's other weights. At d=150, N=700, n=3000, noise 0.25 profiles of one
network differ by 0.27 nats at q = 0.4 and 0.5 at q = 0.8 (0.03 s each, as long as two gradients),
with 24 copies and 28 overlaps by 0.15 and 0.4 (0.07 s), beside the 3 nats between draws at q = 0.8.
"""

ROTATIONS = 3
"""Forces of the trajectory that refreshes the copies at every overlap."""


def profile_limit(parameters: TeacherStudent) -> float:
    """Largest overlap of a profile."""
    deviation = math.sqrt(parameters.weight_variance / parameters.input_dim)
    return max(PROFILE_LIMIT, 6 * deviation)


def work_per_profile(parameters: TeacherStudent) -> float:
    """Multiply-adds of a profile: one product per value, two per force, beside the residual."""
    products = PROFILE_NODES * PARTICLES * (2 + 2 * (ROTATIONS + 1))
    return parameters.train_size * parameters.input_dim * float(products + parameters.width)
