"""Theory: branches, densities and transitions along one line of noise values; the baseline."""

import pyarrow as pa

BRANCHES = pa.schema(
    [
        ("closure", pa.string()),
        ("branch", pa.int32()),
        ("wells", pa.string()),
        ("noise", pa.float64()),
        ("result", pa.string()),
        ("selected", pa.bool_()),
        ("stable", pa.bool_()),
        ("free_energy", pa.float64()),
        ("linear_overlap", pa.float64()),
        ("cubic_overlap", pa.float64()),
        ("test_loss", pa.float64()),
        ("mean_square_overlap", pa.float64()),
        ("droplet_fraction", pa.float64()),
        ("side_minimum", pa.float64()),
        ("action_difference", pa.float64()),
        ("side_mass", pa.float64()),
        ("phase", pa.string()),
    ]
)
"""One row per closure, branch and noise.

closure : quadrature or gaussian_mixture;  wells : the minima of the action that are populated.
selected : lowest free energy of its closure among the solutions with all wells populated; none
    where there are no such solutions;  stable : attracts the self-consistency flow.
free_energy : nats, whole network;  action_difference : S(q*) - S(0), nats.
mean_square_overlap : in units of the prior's sigma_w^2/d;  droplet_fraction : mass of |q| > 0.5.
"""

DENSITIES = pa.schema(
    [
        ("noise", pa.float64()),
        ("overlap", pa.float64()),
        ("action", pa.float64()),
        ("binned_action", pa.float64()),
    ]
)
"""p(q) of the exact closure at the sampled noises.

action : -log p(q);  binned_action : -log of p averaged over a histogram bin centred on q, which
is what a count in that bin estimates.
"""

TRANSITIONS = pa.schema(
    [
        ("transition", pa.string()),
        ("noise", pa.float64()),
        ("effective_interaction", pa.float64()),
        ("result", pa.string()),
    ]
)
"""gfl_end and mixed_end (side mass tau and 1 - tau at finite size), limit (beta -> infinity)."""

BASELINE = pa.schema(
    [
        ("noise", pa.float64()),
        ("cubic_strength", pa.float64()),
        ("linear_overlap", pa.float64()),
        ("cubic_overlap", pa.float64()),
    ]
)
"""Gaussian-process regression on one dataset: overlaps of its mean with the teacher."""
