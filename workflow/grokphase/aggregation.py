"""The aggregation stage: shards of one point to its histogram, outputs and chains."""

import logging
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from grokphase.errors import GrokphaseError
from grokphase.models.umbrella_cost import overlap_deviation, profile_overlaps
from grokphase.overlap_density import OverlapDensity, overlap_density
from grokphase.parameters import TeacherStudent
from grokphase.sampling.chains import Chains, summarise
from grokphase.specifications.aggregation import AggregationSpecification, Histogram
from grokphase.stein import adjusted_means
from grokphase.storage import iterate_rows, provenance, read_table, write_table
from grokphase.tables import aggregates, shards
from grokphase.tables.columns import matrix
from grokphase.tables.observables import OBSERVABLES
from grokphase.tables.stein_moments import SteinMoments

LOWEST_SWEEP_ACCEPTANCE = 0.95
"""Share of the sweeps' proposals accepted from which interpolated densities are trusted."""

LEAST_SHARE_OF_NETWORKS = 0.75
"""Share of the networks, as an effective number, that expected counts must rest on where there are
profiles."""

DATASETS_PER_COLUMN = 2.5
"""Datasets from which on control variates are used, per coefficient that is fitted."""

VARIATES_OF_TAIL = slice(2, 3)
"""Of `teacher_student.control_variates` the one that explains the tail of p(q), the mean of
He_3(z)^2/6 - 1, the power of what the other neurons leave to be learned: at d=150, N=700, n=3000,
noise 0.25, q = 0.8 its correlation with -log p over ten datasets is -0.9. The others explain
nothing more there and take degrees of freedom: with none, it alone and all three the standard
errors are 0.67, 0.26 and 0.33; on ten other datasets it alone gives 0.35 and all three 0.42."""

_log = logging.getLogger(__name__)


class Networks(NamedTuple):
    """All networks of one point.

    dataset, start, acceptance, sweep_acceptance [networks]; draws: observable -> its chains;
    counts and expected_counts [networks, bins] of the order parameters, the latter [networks, 0]
    without sweeps; control_variates [networks, k] of their datasets; stein : moments of the
    variates of their draws.
    """

    dataset: NDArray[np.int_]
    start: list[str]
    acceptance: NDArray[np.float64]
    sweep_acceptance: NDArray[np.float64]
    draws: dict[str, Chains]
    counts: NDArray[np.int64]
    expected_counts: NDArray[np.float64]
    control_variates: NDArray[np.float64]
    stein: SteinMoments


class Shards(NamedTuple):
    """The networks of one point: a table [networks] of all columns but the draws, and those."""

    table: pa.Table
    draws: dict[str, Chains]


def aggregate(
    specification: AggregationSpecification,
    shard_files: list[Path],
    histogram_file: Path,
    outputs_file: Path,
    chains_file: Path,
) -> None:
    """Combine the shards of one point.

    Raises GrokphaseError for a shard that is damaged, or if the shards do not hold exactly the
    networks of the specification.
    """
    assert specification.histogram is not None
    read = read_shards(specification, shard_files)
    networks = as_networks(read, specification.model)
    settings = specification.model_dump(mode="json")
    write_table(
        histogram_file,
        histogram(
            networks.counts,
            expected_counts(networks),
            subsets_of(networks.dataset, specification),
            specification.histogram,
            action_of_datasets(read.table, networks, specification),
        ),
        settings,
    )
    write_table(outputs_file, outputs(networks, specification), settings)
    write_table(chains_file, chains_table(networks, specification), settings)


def expected_counts(networks: Networks) -> NDArray[np.float64]:
    """The networks' expected counts [networks, bins]; [networks, 0] if they are not to be trusted.

    They come from interpolated densities, as the proposals of the sweeps do from coarser ones,
    which a Metropolis step corrects: where much of those is rejected, a density is too narrow for
    either. Averaged over q and -q, since the posterior does not change when all weights of a neuron
    change their sign.
    """
    accepted = networks.sweep_acceptance.mean()
    if networks.expected_counts.shape[1] and not accepted >= LOWEST_SWEEP_ACCEPTANCE:
        _log.warning(
            f"the sweeps over the neurons accept only {accepted:.2f} of their proposals "
            f"(< {LOWEST_SWEEP_ACCEPTANCE}): expected counts are not used"
        )
        return networks.expected_counts[:, :0]
    return (networks.expected_counts + networks.expected_counts[:, ::-1]) / 2


def read_shards(specification: AggregationSpecification, files: list[Path]) -> Shards:
    """All networks of one point, by dataset and, within each, prior starts before planted ones.

    Draws are read one row group at a time, of long chains one network's (see
    grokphase.storage.write_table), and little is kept of each (see grokphase.sampling.chains).
    Raises GrokphaseError for a shard that is damaged, or if they are not the networks wanted.
    """
    observables = OBSERVABLES[specification.model]
    schema = shards.schema(observables, specification.model)
    columns = [name for name in schema.names if name not in observables]
    table = pa.concat_tables([read_table(path, schema, columns) for path in files])
    wanted_training = specification.training.model_dump(mode="json")
    for path in files:
        trained = provenance(path).get("specification", {})
        point = trained.get("point")
        if point != specification.point:
            raise GrokphaseError(
                f"{path} holds networks of the point {point}, not of {specification.point}; "
                "delete it and run again"
            )
        if trained != wanted_training:
            other = [key for key, value in wanted_training.items() if trained.get(key) != value]
            raise GrokphaseError(
                f"{path} holds networks of other settings than are wanted ({', '.join(other)}); "
                "delete it and run again"
            )
    order = pc.sort_indices(table, [("dataset", "ascending"), ("start", "descending")])
    table = table.take(order)
    dataset = table["dataset"].to_numpy()
    wanted = np.repeat(np.arange(specification.datasets), specification.networks_per_dataset)
    if not np.array_equal(dataset, wanted):
        raise GrokphaseError(
            f"the shards of {specification.point} hold networks of datasets "
            f"{sorted(set(dataset.tolist()))}, but {specification.networks_per_dataset} networks "
            f"of each of {specification.datasets} datasets are wanted; delete "
            f"{files[0].parent} and run again"
        )
    draws = {}
    for name in observables:
        rows = (row for path in files for row in iterate_rows(path, schema, name))
        try:
            draws[name] = summarise(rows).take(order.to_numpy())
        except ValueError as error:
            raise GrokphaseError(
                f"the shards of {specification.point}: {error}; delete {files[0].parent} and run "
                "again"
            ) from error
    return Shards(table, draws)


def as_networks(read: Shards, model: str) -> Networks:
    """The columns of shards that every model has."""
    counts = shards.MODEL_COLUMNS[model][0][0]
    expected = f"expected_{counts}"
    return Networks(
        read.table["dataset"].to_numpy(),
        read.table["start"].to_pylist(),
        read.table["acceptance"].to_numpy().astype(np.float64),
        read.table["sweep_acceptance"].to_numpy().astype(np.float64),
        read.draws,
        matrix(read.table, counts),
        matrix(read.table, expected)
        if expected in read.table.column_names
        else np.zeros((len(read.table), 0)),
        matrix(read.table, "control_variates"),
        SteinMoments.of_columns(
            matrix(read.table, "stein_means"), matrix(read.table, "stein_covariances")
        ),
    )


def subsets_of(
    dataset: NDArray[np.int_], specification: AggregationSpecification
) -> NDArray[np.int_]:
    """Subset of each network: consecutive datasets in equal groups."""
    return dataset * specification.subsets // specification.datasets


def rebin(counts: NDArray[Any], bins: Histogram) -> NDArray[Any]:
    """Fine counts [..., FINE_BINS + 2] summed into the bins [..., bins]; the rest is dropped."""
    per_bin = round(bins.bin_width / shards.FINE_WIDTH)
    first = 1 + (shards.FINE_BINS - per_bin * bins.bins) // 2
    inside = counts[..., first : first + per_bin * bins.bins]
    return inside.reshape(*counts.shape[:-1], bins.bins, per_bin).sum(axis=-1)


class Action(NamedTuple):
    """Columns [bins] of the histogram."""

    networks: NDArray[np.float64]
    density: NDArray[np.float64]
    action: NDArray[np.float64]
    error: NDArray[np.float64]


def histogram(
    counts: NDArray[np.int64],
    expected_counts: NDArray[np.float64],
    subsets: NDArray[np.int_],
    bins: Histogram,
    of_datasets: Action | None = None,
) -> pa.Table:
    """Density of q and its action -log p with standard errors.

    counts, expected_counts : [networks, FINE_BINS + 2], the latter [networks, 0] if there are none.
    of_datasets : see `action_of_datasets`; None if there are no profiles.

    With profiles the action is that of the expected counts up to the last bin on either side that
    rests on LEAST_SHARE_OF_NETWORKS, and that of the profiles further out. Without expected counts
    it is that of the counts.
    """
    counted = _counted_action(counts, subsets, bins)
    best = _counted_action(expected_counts, subsets, bins) if expected_counts.shape[1] else counted
    if of_datasets is not None:
        distance = np.abs(np.arange(bins.bins) - bins.bins // 2)
        few = best.networks < LEAST_SHARE_OF_NETWORKS * len(counts)
        first = distance[~np.isin(distance, distance[few])].max(initial=-1) + 1
        chosen = np.isfinite(of_datasets.action) & (distance >= first)
        pairs = zip(of_datasets, best, strict=True)
        best = Action(*(np.where(chosen, x, y) for x, y in pairs))
    edges = (np.arange(bins.bins + 1) - bins.bins / 2) * bins.bin_width
    return pa.Table.from_pydict(
        {
            "bin_left": edges[:-1],
            "bin_right": edges[1:],
            "count": rebin(counts, bins).sum(axis=0),
            "networks": best.networks,
            "density": best.density,
            "action": best.action,
            "action_error": best.error,
            "counted_action": counted.action,
            "counted_action_error": counted.error,
        },
        schema=aggregates.HISTOGRAM,
    )


def action_of_datasets(
    table: pa.Table, networks: Networks, specification: AggregationSpecification
) -> Action | None:
    """Mean over datasets of -log p, from the profiles of the shards; None if there are none.

    It is the action of a typical dataset. (The mean of p itself is that of few datasets: at the
    paper's size and 15 nats they differ by factors of ten.) Adjusted for VARIATES_OF_TAIL as
    `outputs` for all. `networks` is their number times the share of a window's profiles that a bin
    rests on, as an effective number.
    """
    bins = specification.histogram
    if specification.training.umbrella is None or bins is None:
        return None
    densities, per_window = _densities_of_datasets(table, specification)
    in_bins = rebin(np.stack([one.shares for one in densities]), bins)
    covered = rebin(np.stack([one.shares > 0 for one in densities]), bins)
    known = (covered == round(bins.bin_width / shards.FINE_WIDTH)).all(axis=0)
    fine_profiles = np.stack([one.profiles for one in densities])
    profiles = rebin(fine_profiles, bins) / np.maximum(covered, 1)
    share_of_networks = np.minimum(profiles / per_window, 1).mean(axis=0)
    actions = -np.log(np.where(known, in_bins, 1.0) / bins.bin_width)
    found = regression(actions, _design(networks, specification, VARIATES_OF_TAIL))
    return Action(
        np.where(known, share_of_networks * len(table), 0.0),
        np.where(known, np.exp(-found.mean), 0.0),
        np.where(known, found.mean, np.nan),
        np.where(known, found.error, np.nan),
    )


def _densities_of_datasets(
    table: pa.Table, specification: AggregationSpecification
) -> tuple[list[OverlapDensity], int]:
    """Density of the overlap on every dataset, and the smallest number of profiles of a window."""
    training = specification.training
    parameters, umbrella = training.parameters, training.umbrella
    assert isinstance(parameters, TeacherStudent)
    assert umbrella is not None
    overlaps, deviation = np.array(profile_overlaps(parameters)), overlap_deviation(parameters)
    profiles = matrix(table, "overlap_profiles").reshape(len(table), -1, len(overlaps))
    starts = training.draws + umbrella.draws * np.arange(len(umbrella.overlaps))
    dataset = table["dataset"].to_numpy()
    densities = []
    for one in np.unique(dataset):
        parts = np.split(profiles[dataset == one], starts, axis=1)
        by_window = [part.reshape(-1, len(overlaps)) for part in parts]
        densities.append(overlap_density(by_window, overlaps, deviation, umbrella))
    return densities, min(len(part) for part in by_window)


def _counted_action(counts: NDArray[Any], subsets: NDArray[np.int_], bins: Histogram) -> Action:
    """Density and action from counts [networks, FINE_BINS + 2], whole or expected.

    The action is that of the mean density over subsets, and its error the subsets' standard error
    of the density divided by the density. (The mean of the subsets' -log p would be biased upwards
    where counts are few, and undefined where a subset has none.)
    """
    totals = counts.sum(axis=1, keepdims=True)
    share = rebin(counts, bins) / totals
    labels = np.unique(subsets)
    by_subset = np.stack(
        [np.average(share[subsets == s], axis=0, weights=totals[subsets == s, 0]) for s in labels]
    )
    density = by_subset.mean(axis=0) / bins.bin_width
    error = by_subset.std(axis=0, ddof=1) / (bins.bin_width * np.sqrt(len(labels)))
    squares = np.square(share).sum(axis=0)
    seen = density > 0
    where = np.where(seen, density, 1.0)
    return Action(
        np.where(seen, np.square(share.sum(axis=0)) / np.where(seen, squares, 1.0), 0.0),
        density,
        np.where(seen, -np.log(where), np.nan),
        np.where(seen, error / where, np.nan),
    )


class Regression(NamedTuple):
    """A mean over datasets without what control variates explain of the spread.

    adjusted [datasets, ...] : the datasets' values without it;  mean [...] : theirs.
    error [...] : standard error of the mean;  inflation : of an error of the adjusted values'
        mean, for the degrees of freedom spent and the distance of the variates from zero.
    """

    adjusted: NDArray[np.float64]
    mean: NDArray[np.float64]
    error: NDArray[np.float64]
    inflation: float


def regression(values: NDArray[np.float64], design: NDArray[np.float64]) -> Regression:
    """Values [datasets, ...] regressed on the columns of design [datasets, 1 + k], the first ones.

    Source: Owen, Monte Carlo theory, methods and examples (2013), section 8.9.
    """
    datasets, columns = design.shape
    freedom = datasets - columns
    coefficients = np.linalg.lstsq(design, values.reshape(datasets, -1), rcond=None)[0]
    explained = design[:, 1:] @ coefficients[1:]
    adjusted = values - explained.reshape(values.shape)
    mean = adjusted.mean(axis=0)
    variance = np.square(adjusted - mean).sum(axis=0) / freedom
    # Variance of the mean over that of one dataset; without variates 1 / number of datasets.
    leverage = np.linalg.inv(design.T @ design)[0, 0]
    inflation = math.sqrt((datasets - 1) / freedom * leverage * datasets)
    return Regression(adjusted, mean, np.sqrt(variance * leverage), inflation)


def _design(
    networks: Networks, specification: AggregationSpecification, chosen: slice = slice(None)
) -> NDArray[np.float64]:
    """Ones and, if there are datasets enough, the chosen control variates [datasets, 1 + k]."""
    datasets = np.unique(networks.dataset)
    of_datasets = [networks.control_variates[networks.dataset == d][0] for d in datasets]
    variates = np.stack(of_datasets)[:, chosen]
    columns = 1 + variates.shape[1]
    usable = specification.control_variates and len(datasets) >= DATASETS_PER_COLUMN * columns
    return np.column_stack([np.ones(len(datasets)), *(variates.T if usable else ())])


def outputs(networks: Networks, specification: AggregationSpecification) -> pa.Table:
    """Mean and errors of every observable over datasets.

    With Stein variates the networks' means are adjusted for those of their draws
    (grokphase.stein), which at the paper's size explain most of how a network fluctuates. With
    control variates the datasets' means are then regressed on statistics of their training sets
    whose population values are zero, and the mean is that of what remains: the same expectation,
    without the part of the spread that those statistics explain. At the paper's size that is 95 %
    of the variance of the linear overlap.
    """
    design = _design(networks, specification)
    subsets = subsets_of(np.unique(networks.dataset), specification)
    means, adjusted = _means(networks), _adjusted_means(networks, specification)
    rows = []
    for column, (name, chains) in enumerate(networks.draws.items()):
        raw = _group_means(means[:, column], networks.dataset)
        found = regression(_group_means(adjusted[:, column], networks.dataset), design)
        by_subset = _group_means(found.adjusted, subsets)
        rows.append(
            {
                "observable": name,
                "mean": found.mean,
                "raw_mean": raw.mean(),
                "subset_error": found.inflation * by_subset.std(ddof=1) / np.sqrt(len(by_subset)),
                "dataset_error": found.error,
                "dataset_spread": raw.std(ddof=1),
                "network_spread": np.sqrt(chains.variance.mean() * _bessel(chains.draws)),
            }
        )
    return pa.Table.from_pylist(rows, schema=aggregates.OUTPUTS)


def _means(networks: Networks) -> NDArray[np.float64]:
    """Means over the draws of every network [networks, observables]."""
    return np.stack([chains.mean for chains in networks.draws.values()], axis=1)


def _adjusted_means(
    networks: Networks, specification: AggregationSpecification
) -> NDArray[np.float64]:
    """The same adjusted for Stein variates, if the specification says so."""
    if not specification.stein_variates:
        return _means(networks)
    draws = next(iter(networks.draws.values())).draws
    return adjusted_means(_means(networks), networks.stein, networks.dataset, draws)


def _bessel(draws: int) -> float:
    """What makes the variance of so many draws about their own mean that of a draw."""
    return draws / (draws - 1) if draws > 1 else math.nan


def _group_means(values: NDArray[np.float64], groups: NDArray[np.int_]) -> NDArray[np.float64]:
    return np.array([values[groups == group].mean() for group in np.unique(groups)])


def chains_table(networks: Networks, specification: AggregationSpecification) -> pa.Table:
    """The chains of every observable, from which grokphase.convergence judges the point."""
    adjusted = _adjusted_means(networks, specification)
    parts = []
    for (name, one), adjusted_mean in zip(networks.draws.items(), adjusted.T, strict=True):
        count = len(one.mean)
        columns = {
            "observable": [name] * count,
            "dataset": networks.dataset,
            "start": networks.start,
            "acceptance": networks.acceptance,
            "sweep_acceptance": networks.sweep_acceptance,
            "draws": [one.draws] * count,
            "batch": [one.batch] * count,
            "mean": one.mean,
            "adjusted_mean": adjusted_mean,
            "variance": one.variance,
            "half_means": list(one.half_means),
            "thinned": list(one.thinned),
            "batch_means": list(one.batch_means if one.batch > 1 else one.batch_means[:, :0]),
        }
        parts.append(pa.Table.from_pydict(columns, schema=aggregates.CHAINS))
    return pa.concat_tables(parts)
