"""Shards: what training writes, one row per network."""

import pyarrow as pa

FINE_WIDTH = 0.005
"""Width of the fine overlap bins; q = 0 is an edge, so bins of a multiple of 0.01 centre on it."""

FINE_BINS = 800
"""Fine bins over [-2, 2); counts have one more entry at each end for what lies beyond."""

FINE_LIMIT = FINE_WIDTH * FINE_BINS / 2


def schema(observables: tuple[str, ...]) -> pa.Schema:
    """Columns of a shard of a model with these observables.

    <observable> : one value per draw.
    overlap_counts [FINE_BINS + 2] : neurons counted per fine bin of q, summed over draws.
    control_variates : statistics of the network's dataset that are zero in the population.
    acceptance : mean Metropolis acceptance probability after burn-in.
    """
    return pa.schema(
        [
            ("dataset", pa.int32()),
            ("start", pa.string()),
            ("network", pa.int32()),
            ("acceptance", pa.float32()),
            ("control_variates", pa.list_(pa.float64())),
            *((name, pa.list_(pa.float32())) for name in observables),
            ("overlap_counts", pa.list_(pa.int64())),
        ]
    )
