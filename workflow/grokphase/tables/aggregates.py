"""Aggregates of one point, histogram, outputs and chains; and diagnostics of its convergence."""

import pyarrow as pa

HISTOGRAM = pa.schema(
    [
        ("bin_left", pa.float64()),
        ("bin_right", pa.float64()),
        ("count", pa.int64()),
        ("networks", pa.float64()),
        ("density", pa.float64()),
        ("action", pa.float64()),
        ("action_error", pa.float64()),
        ("counted_action", pa.float64()),
        ("counted_action_error", pa.float64()),
    ]
)
"""One row per bin of the overlap q.

count : neurons counted.
action, action_error : -log density and its standard error. Near q = 0 from the average of the
    neurons' conditional densities, if there are sweeps over the neurons that accept their
    proposals, with errors from the spread of the subsets; further out, with an umbrella, the mean
    over datasets of -log density from the profiles, with errors from the spread of the datasets
    that a control variate leaves; else from the counts. nan where nothing is known.
density : per unit of q, exp(-action).
networks : effective number of networks that the density rests on, (sum x)^2 / sum x^2 of their
    shares x, or of the weights of the profiles.
counted_action, counted_action_error : the same from the counts.
"""

OUTPUTS = pa.schema(
    [
        ("observable", pa.string()),
        ("mean", pa.float64()),
        ("raw_mean", pa.float64()),
        ("subset_error", pa.float64()),
        ("dataset_error", pa.float64()),
        ("dataset_spread", pa.float64()),
        ("network_spread", pa.float64()),
    ]
)
"""One row per observable.

mean, raw_mean : average over datasets with and without control variates, those of the draws
    (grokphase.stein) and those of the datasets. With them a share may fall below zero.
subset_error, dataset_error : standard error of the mean from the spread of the subsets' means,
    as the preprint does for the action, and from that of the datasets' means, which has more
    degrees of freedom.
dataset_spread : standard deviation of the raw values between datasets.
network_spread : standard deviation of one network's draws.
"""

CHAINS = pa.schema(
    [
        ("observable", pa.string()),
        ("dataset", pa.int32()),
        ("start", pa.string()),
        ("acceptance", pa.float64()),
        ("sweep_acceptance", pa.float64()),
        ("draws", pa.int32()),
        ("batch", pa.int32()),
        ("mean", pa.float64()),
        ("adjusted_mean", pa.float64()),
        ("variance", pa.float64()),
        ("half_means", pa.list_(pa.float64())),
        ("thinned", pa.list_(pa.float64())),
        ("batch_means", pa.list_(pa.float64())),
    ]
)
"""One row per network of every observable: what convergence is judged from.

acceptance, sweep_acceptance : those of the network (grokphase.tables.shards).
adjusted_mean : mean of the draws without what their Stein variates explain (grokphase.stein).
draws ... batch_means : the chain (grokphase.sampling.chains); without batch_means where they are
    the draws, of batches of one.
"""

DIAGNOSTIC_NAMES = (
    "rhat",
    "nested_rhat",
    "start_difference",
    "adjusted_start_difference",
    "drift",
    "ess_bulk",
    "ess_tail",
    "mcse",
)


def diagnostics(observables: tuple[str, ...]) -> pa.Schema:
    """One row per point: the diagnostics of every observable, the acceptance and a verdict.

    problems : what is outside the configured bounds, empty if converged.
    """
    return pa.schema(
        [
            ("point", pa.string()),
            ("networks", pa.int32()),
            ("draws", pa.int32()),
            ("acceptance", pa.float64()),
            ("sweep_acceptance", pa.float64()),
            *(
                (f"{diagnostic}_{observable}", pa.float64())
                for observable in observables
                for diagnostic in DIAGNOSTIC_NAMES
            ),
            ("problems", pa.string()),
            ("converged", pa.bool_()),
        ]
    )
