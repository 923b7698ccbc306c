"""Aggregates of one point of modular addition, beside outputs and chains."""

import pyarrow as pa

HISTOGRAM = pa.schema(
    [
        ("start", pa.string()),
        ("first_root_power", pa.float64()),
        ("second_root_power", pa.float64()),
        ("count", pa.int64()),
        ("density", pa.float64()),
        ("density_error", pa.float64()),
    ]
)
"""Joint density of (sqrt A, sqrt B) of all modes of all neurons, in units of sqrt(W).

One row per kind of start and bin, whose centre is given;  count : modes counted;
density_error : standard error from the spread of the subsets of datasets.
"""

STARTS = pa.schema(
    [
        ("start", pa.string()),
        ("observable", pa.string()),
        ("mean", pa.float64()),
        ("subset_error", pa.float64()),
        ("dataset_error", pa.float64()),
        ("dataset_spread", pa.float64()),
        ("network_spread", pa.float64()),
        ("first_half", pa.float64()),
        ("second_half", pa.float64()),
        ("trace", pa.list_(pa.float64())),
        ("trace_error", pa.list_(pa.float64())),
        ("trace_stride", pa.int32()),
    ]
)
"""Every observable by kind of start, columns as in grokphase.tables.aggregates.OUTPUTS.

first_half, second_half : means over the halves of the recorded draws; their difference is what the
networks still drift.
trace, trace_error : mean over the networks of every `trace_stride`-th recorded draw, and its
    standard error from their spread, nan for a single network.
"""

EIGENVALUES = pa.schema(
    [
        ("start", pa.string()),
        ("frequency", pa.int32()),
        ("eigenvalue", pa.float64()),
        ("error", pa.float64()),
    ]
)
"""Eigenvalue lambda_k of the kernel on the target's mode (k, k), k = 1 ... P//2, by kind of start.

Mean over networks at the end of their dynamics, and its standard error. For prime P all are equal
in the posterior's mean.
"""

NEURONS = pa.schema(
    [
        ("start", pa.string()),
        ("neuron", pa.int32()),
        ("moment", pa.string()),
        ("operand", pa.string()),
        ("weights", pa.list_(pa.float32())),
    ]
)
"""Input weights [P] of a few neurons of the first network of each start.

moment : start or end of the dynamics;  operand : first (w) or second (v).
The neurons are those whose power is most concentrated on one frequency at the end.
"""
