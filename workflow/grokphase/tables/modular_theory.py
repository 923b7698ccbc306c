"""Theory of modular addition along one line of noise values."""

import pyarrow as pa

BRANCHES = pa.schema(
    [
        ("closure", pa.string()),
        ("average", pa.string()),
        ("noise", pa.float64()),
        ("discrepancy", pa.float64()),
        ("interaction", pa.float64()),
        ("eigenvalue", pa.float64()),
        ("side_power", pa.float64()),
        ("barrier_power", pa.float64()),
        ("side_action", pa.float64()),
        ("barrier_action", pa.float64()),
        ("side_mass", pa.float64()),
        ("counted_mass", pa.float64()),
        ("droplets_per_frequency", pa.float64()),
        ("mean_field_holds", pa.bool_()),
        ("phase", pa.string()),
    ]
)
"""One row per closure, average and noise; nan where there is no solution.

closure : as_published or corrected (lambda = sigma_a^2 <AB> or 4 P^2 sigma_a^2 <AB>).
average : two_point and quadrature, both equilibrium; limit, P -> infinity in closed form;
    all_droplets, the metastable branch on which every mode stays a droplet.
discrepancy : a;  interaction : u a^2;  eigenvalue : lambda of the target.
side_power, barrier_power : W_+ and W_-;  side_action, barrier_action : S_k there, nats.
counted_mass : share of modes with sqrt(A B) > W/3, which networks are counted by (quadrature only).
side_mass : share of modes that are droplets;  droplets_per_frequency : that times N.
phase : GMFL-II where the side mass exceeds 1 - tau, otherwise GFL where both the side mass and
    lambda/noise are below tau, otherwise GMFL-I.
mean_field_holds : at least one droplet per frequency is expected, or none at all (GFL).
"""

LANDSCAPES = pa.schema(
    [
        ("closure", pa.string()),
        ("noise", pa.float64()),
        ("root_power", pa.float64()),
        ("action", pa.float64()),
    ]
)
"""S_k along A = B against sqrt(A), nats, at the configured noises (two-point average)."""

DENSITIES = pa.schema(
    [
        ("closure", pa.string()),
        ("noise", pa.float64()),
        ("first_root_power", pa.float64()),
        ("second_root_power", pa.float64()),
        ("density", pa.float64()),
    ]
)
"""Joint density of (sqrt A, sqrt B) of a mode, each in units of sqrt(W), W = sqrt(3/gamma).

Averaged over the bins of the networks' histogram, whose centres are given (exact quadrature).
"""

TRANSITIONS = pa.schema(
    [
        ("closure", pa.string()),
        ("average", pa.string()),
        ("noise_start", pa.float64()),
        ("noise_end", pa.float64()),
        ("power", pa.float64()),
        ("interaction", pa.float64()),
        ("discrepancy_end", pa.float64()),
        ("largest_eigenvalue", pa.float64()),
    ]
)
"""Boundaries of the mixed phase GMFL-I; nan where it does not end.

average : limit (closed form, P -> infinity), otherwise where the side mass reaches tau and 1 - tau;
    where the side minimum appears with more than tau, its appearance.
power, interaction : W and u a^2 during the mixed phase;  discrepancy_end : a at noise_end.
largest_eigenvalue : lambda when every mode is a droplet.
"""

SPECTRUM = pa.schema(
    [
        ("kernel", pa.string()),
        ("method", pa.string()),
        ("mode", pa.int32()),
        ("eigenvalue", pa.float64()),
        ("multiplicity", pa.int32()),
    ]
)
"""Eigenvalues of Q in units of sigma_a^2.

kernel : prior, with one row per level (mode -1), diagonalised where P is small and in closed form;
    droplets, with one row per target mode (k, k): Q of droplets of unequal frequencies, averaged
    over the symmetries of the task, which for prime P leave all of them degenerate.
"""
