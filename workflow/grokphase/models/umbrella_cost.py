"""Overlaps and cost of the profiles of `grokphase.models.umbrella`; read while planning."""

import math

from grokphase.parameters import TeacherStudent

PROFILE_NODES = 17
"""Overlaps at which a profile is computed, equally spaced from zero on."""

PROFILE_LIMIT = 1.6
"""Largest of these overlaps, or six prior deviations if that is more: 0.1 apart."""

PARTICLES = 48
"""Copies of the tagged neuron's other weights. At d=150, N=700, n=3000, noise 0.25, q = 0.8,
profiles of one network differ by 0.3 nats (0.1 s each), with 16 copies by 0.5 (0.03 s), beside the
3 nats between draws. The combination of windows divides by them, so that their variance stays in
the action: with 0.5 nats it is 0.13 too high, with 0.25 it is 0.03.
"""

LARGEST_NOISE = 1.0
"""Nats by which profiles of one network may differ: with 0.35 at the size above the action is 0.06
too high, with one nat by a half. A single neuron in six dimensions, on thirty points at noise 0.5,
has 1.3, at noise 0.2 13."""

PROFILES_COMPARED = 8
"""Profiles of one network of a job whose differences give that noise, to a quarter."""

ROTATIONS = 3
"""Forces of the trajectory that refreshes the copies at every overlap."""


def overlap_deviation(parameters: TeacherStudent) -> float:
    """Prior standard deviation of an overlap, sqrt(sigma_w^2/d)."""
    return math.sqrt(parameters.weight_variance / parameters.input_dim)


def profile_limit(parameters: TeacherStudent) -> float:
    """Largest overlap of a profile."""
    return max(PROFILE_LIMIT, 6 * overlap_deviation(parameters))


def profile_overlaps(parameters: TeacherStudent) -> list[float]:
    """Overlaps [PROFILE_NODES] of a profile."""
    spacing = profile_limit(parameters) / (PROFILE_NODES - 1)
    return [i * spacing for i in range(PROFILE_NODES)]


def work_per_profile(parameters: TeacherStudent) -> float:
    """Multiply-adds of a profile: one product per value, two per force, beside the residual."""
    products = PROFILE_NODES * PARTICLES * (1 + 2 * (ROTATIONS + 1))
    return parameters.train_size * parameters.input_dim * float(products + parameters.width)
