"""Shards: what training writes, one row per network."""

import numpy as np
import pyarrow as pa

FINE_WIDTH = 0.005
"""Width of the fine overlap bins; q = 0 is an edge, so bins of a multiple of 0.01 centre on it."""

FINE_BINS = 800
"""Fine bins over [-2, 2); counts have one more entry at each end for what lies beyond."""

FINE_LIMIT = FINE_WIDTH * FINE_BINS / 2

FINE_CENTRES = FINE_WIDTH * (np.arange(FINE_BINS) + 0.5) - FINE_LIMIT
"""Centres of the fine bins [FINE_BINS]."""

POWER_WIDTH = 0.05
"""Width of the bins of the root powers sqrt(A), sqrt(B) of a mode, in units of sqrt(W)."""

POWER_BINS = 32
"""Bins of each root power, over [0, 1.6); joint counts have one more entry for what lies beyond."""


SAVED_NEURONS = 3
"""Neurons whose input weights are kept in the shard."""

MODEL_COLUMNS: dict[str, tuple[tuple[str, pa.DataType], ...]] = {
    "teacher_student": (
        ("overlap_counts", pa.list_(pa.int64())),
        ("expected_overlap_counts", pa.list_(pa.float64())),
        ("overlap_profiles", pa.list_(pa.float32())),
    ),
    "modular_addition": (
        ("power_counts", pa.list_(pa.int64())),
        ("neurons", pa.list_(pa.float32())),
        ("target_eigenvalues", pa.list_(pa.float32())),
    ),
}
"""Columns of each model; the first is its histogram, summed over draws.

overlap_counts [FINE_BINS + 2] : neurons counted per fine bin of q.
expected_overlap_counts [FINE_BINS + 2] : the same as expected from the conditional density of every
    neuron (grokphase.models.neuron_sweep), of every second draw; empty without sweeps.
overlap_profiles [draws, nodes], flat : profiles of the recorded draws and then of those of every
    window (grokphase.models.umbrella); empty where none are computed.
power_counts [POWER_BINS^2 + 1] : modes of neurons counted per bin of (sqrt A, sqrt B).
neurons [SAVED_NEURONS, 2, 2, P], flat : input weights at start and end, of both operands.
target_eigenvalues [P//2] : eigenvalues of the network's kernel on the target's modes, at the end.
"""


def schema(observables: tuple[str, ...], model: str = "teacher_student") -> pa.Schema:
    """Columns of a shard of a model with these observables.

    <observable> : one value per draw; the model's own columns are in MODEL_COLUMNS.
    control_variates : statistics of the network's dataset that are zero in the population.
    stein_means, stein_covariances : mean over the draws of every Stein variate [k], and covariances
        [observables + k, k], flat, of the observables and of the variates with the latter.
    acceptance : mean Metropolis acceptance probability after burn-in.
    sweep_acceptance : share of the moves of the sweeps that were accepted; null without sweeps.
    """
    return pa.schema(
        [
            ("dataset", pa.int32()),
            ("start", pa.string()),
            ("network", pa.int32()),
            ("acceptance", pa.float32()),
            ("sweep_acceptance", pa.float32()),
            ("control_variates", pa.list_(pa.float64())),
            ("stein_means", pa.list_(pa.float64())),
            ("stein_covariances", pa.list_(pa.float64())),
            *((name, pa.list_(pa.float32())) for name in observables),
            *MODEL_COLUMNS[model],
        ]
    )
