"""The aggregation stage of modular addition: shards of one point to its tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from grokphase.aggregation import (
    Networks,
    as_networks,
    chains_table,
    outputs,
    read_shards,
    subsets_of,
)
from grokphase.specifications.aggregation import AggregationSpecification
from grokphase.storage import write_table
from grokphase.tables import modular_aggregates as tables
from grokphase.tables.columns import matrix
from grokphase.tables.shards import POWER_BINS, POWER_WIDTH


def aggregate(
    specification: AggregationSpecification,
    shard_files: list[Path],
    histogram_file: Path,
    outputs_file: Path,
    starts_file: Path,
    neurons_file: Path,
    eigenvalues_file: Path,
    chains_file: Path,
) -> None:
    """Combine the shards of one point, together and by kind of start.

    Raises GrokphaseError for a shard that is damaged, or if the shards do not hold exactly the
    networks of the specification.
    """
    shards = read_shards(specification, shard_files)
    networks = as_networks(shards, specification.model)
    provenance = specification.model_dump(mode="json")
    write_table(histogram_file, histogram(networks, specification), provenance)
    write_table(outputs_file, outputs(networks, specification), provenance)
    write_table(starts_file, starts(networks, specification), provenance)
    write_table(neurons_file, neurons(shards.table), provenance)
    write_table(eigenvalues_file, eigenvalues(shards.table), provenance)
    write_table(chains_file, chains_table(networks, specification), provenance)


def by_start(networks: Networks) -> dict[str, Networks]:
    """The networks of each kind of start."""
    return {
        kind: Networks(
            networks.dataset[rows],
            [kind] * len(rows),
            networks.acceptance[rows],
            networks.sweep_acceptance[rows],
            {name: chains.take(rows) for name, chains in networks.draws.items()},
            networks.counts[rows],
            networks.expected_counts[rows],
            networks.control_variates[rows],
            networks.stein.take(rows),
        )
        for kind in sorted(set(networks.start), reverse=True)
        for rows in [np.flatnonzero(np.array(networks.start) == kind)]
    }


def histogram(networks: Networks, specification: AggregationSpecification) -> pa.Table:
    """Joint density of the root powers of a mode by kind of start, with errors over subsets."""
    centres = (np.arange(POWER_BINS) + 0.5) * POWER_WIDTH
    first, second = np.meshgrid(centres, centres, indexing="ij")
    parts = []
    for kind, group in by_start(networks).items():
        subsets = subsets_of(group.dataset, specification)
        density = np.stack([_density(group.counts[subsets == s]) for s in np.unique(subsets)])
        parts.append(
            pa.Table.from_pydict(
                {
                    "start": [kind] * first.size,
                    "first_root_power": first.ravel(),
                    "second_root_power": second.ravel(),
                    "count": group.counts[:, :-1].sum(axis=0),
                    "density": density.mean(axis=0),
                    "density_error": density.std(axis=0, ddof=1) / np.sqrt(len(density)),
                },
                schema=tables.HISTOGRAM,
            )
        )
    return pa.concat_tables(parts)


def _density(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Density per unit area in each bin; the last count, of modes beyond the bins, is in none."""
    return np.asarray(counts[:, :-1].sum(axis=0) / (counts.sum() * POWER_WIDTH**2))


def starts(networks: Networks, specification: AggregationSpecification) -> pa.Table:
    """Every observable by kind of start, with its course over the draws."""
    rows: list[dict[str, Any]] = []
    for kind, group in by_start(networks).items():
        for row in outputs(group, specification).to_pylist():
            chains = group.draws[row["observable"]]
            first, second = chains.mean_of_halves()
            traces = chains.thinned
            spread = traces.std(axis=0, ddof=1) if len(traces) > 1 else traces[0] * np.nan
            rows.append(
                {"start": kind, "first_half": first, "second_half": second}
                | {"trace": traces.mean(axis=0), "trace_error": spread / np.sqrt(len(traces))}
                | {"trace_stride": chains.batch}
                | row
            )
    return pa.Table.from_pylist(rows, schema=tables.STARTS)


def eigenvalues(shards: pa.Table) -> pa.Table:
    """Mean over networks of the kernel's eigenvalue on every target mode, by kind of start."""
    values, kinds = matrix(shards, "target_eigenvalues"), np.array(shards["start"].to_pylist())
    rows = []
    for kind in sorted(set(kinds.tolist()), reverse=True):
        of_kind = values[kinds == kind].astype(np.float64)
        count = len(of_kind)
        error = of_kind.std(axis=0, ddof=1) / np.sqrt(count) if count > 1 else of_kind[0] * np.nan
        rows += [
            {"start": kind, "frequency": k, "eigenvalue": value, "error": one}
            for k, (value, one) in enumerate(zip(of_kind.mean(axis=0), error, strict=True), 1)
        ]
    return pa.Table.from_pylist(rows, schema=tables.EIGENVALUES)


def neurons(shards: pa.Table) -> pa.Table:
    """Saved neurons of the first network of each kind of start."""
    kinds = shards["start"].to_pylist()
    saved = matrix(shards, "neurons")
    prime = 2 * matrix(shards, "target_eigenvalues").shape[1] + 1
    rows = []
    for kind in sorted(set(kinds), reverse=True):
        flat = saved[kinds.index(kind)]
        moments, operands = ("start", "end"), ("first", "second")
        weights = flat.reshape(-1, len(moments), len(operands), prime)
        rows += [
            {
                "start": kind,
                "neuron": neuron,
                "moment": moment,
                "operand": operand,
                "weights": weights[neuron, i, j],
            }
            for neuron in range(len(weights))
            for i, moment in enumerate(moments)
            for j, operand in enumerate(operands)
        ]
    return pa.Table.from_pylist(rows, schema=tables.NEURONS)
