"""Convergence: the diagnostics of a sampled point and the verdict on it.

Figures and summaries judge all their points in one process, from the chains that the aggregation
keeps: the library of diagnostics takes longer to import than a point at paper scale to aggregate.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grokphase.errors import GrokphaseError
from grokphase.sampling.chains import Chains
from grokphase.sampling.diagnostics import Diagnostics, diagnose, start_difference
from grokphase.specifications.convergence import (
    FEWEST_DRAWS,
    FEWEST_DRAWS_OF_A_CHAIN,
    Convergence,
)
from grokphase.storage import provenance, read_table
from grokphase.tables import aggregates
from grokphase.tables.columns import matrix
from grokphase.tables.observables import OBSERVABLES

EFFECTIVE_DRAWS_OF_A_CHAIN = 2.0
"""Effective draws that every network of a long chain has to contribute on average, whatever the
bound: with one each nobody knows whether any of them has moved."""


def judge_file(path: Path, point: str, model: str) -> pa.Table:
    """The diagnostics of a point from its file of chains, by the bounds that it was made with.

    Raises GrokphaseError if the file is missing or damaged, or of another point or model.
    """
    chains, recorded = read_table(path, aggregates.CHAINS), provenance(path)
    found = recorded.get("point")
    if found != point:
        raise GrokphaseError(f"{path} is of {found}, not of {point}; delete it and run again")
    if tuple(chains["observable"].unique().to_pylist()) != OBSERVABLES[model]:
        raise GrokphaseError(
            f"{path} does not hold the observables of {model}; delete it and run again"
        )
    return judge(chains, point, Convergence.model_validate(recorded["convergence"]))


def judge(chains: pa.Table, point: str, bounds: Convergence) -> pa.Table:
    """The row of a point in a table of diagnostics, from its chains (grokphase.tables.aggregates).

    Its observables are those of the chains.
    """
    observables = tuple(chains["observable"].unique().to_pylist())
    by_observable = {
        name: chains.filter(pc.equal(chains["observable"], name)) for name in observables
    }
    networks = by_observable[observables[0]]
    dataset, start = networks["dataset"].to_numpy(), networks["start"].to_pylist()
    adjusted = not chains["adjusted_mean"].equals(chains["mean"])
    found = {}
    for name, table in by_observable.items():
        found[name] = diagnose(_chains_of(table), dataset, start)
        if adjusted:
            means = table["adjusted_mean"].to_numpy()
            difference = start_difference(means, dataset, np.array(start))
            found[name] = found[name]._replace(adjusted_start_difference=difference)
    draws = networks["draws"][0].as_py()
    if draws >= FEWEST_DRAWS_OF_A_CHAIN:
        least = EFFECTIVE_DRAWS_OF_A_CHAIN * len(networks)
        bounds = bounds.model_copy(update={"ess": max(bounds.ess, least)})
    failures = [failure for name, one in found.items() for failure in _failures(name, one, bounds)]
    acceptance = networks["acceptance"].to_numpy().mean()
    if acceptance < bounds.acceptance:
        failures.append(f"{acceptance:.3f} of the proposals are accepted < {bounds.acceptance:g}")
    if len(networks) < 2 or draws < FEWEST_DRAWS:
        failures = [f"it takes 2 networks and {FEWEST_DRAWS} draws of each to judge"]
    row: dict[str, Any] = {
        "point": point,
        "networks": len(networks),
        "draws": draws,
        "acceptance": acceptance,
        "sweep_acceptance": networks["sweep_acceptance"].to_numpy().mean(),
        "problems": "; ".join(failures),
        "converged": not failures,
    }
    for name, one in found.items():
        row |= {f"{diagnostic}_{name}": value for diagnostic, value in one._asdict().items()}
    return pa.Table.from_pylist([row], schema=aggregates.diagnostics(observables))


def _chains_of(table: pa.Table) -> Chains:
    """The chains of one observable."""
    thinned, batch = matrix(table, "thinned"), table["batch"][0].as_py()
    return Chains(
        table["draws"][0].as_py(),
        batch,
        table["mean"].to_numpy(),
        table["variance"].to_numpy(),
        matrix(table, "half_means"),
        thinned,
        matrix(table, "batch_means") if batch > 1 else thinned,
    )


def _failures(name: str, one: Diagnostics, bounds: Convergence) -> list[str]:
    """What is out of bounds; a diagnostic that cannot be computed is out of bounds too."""
    failures = []
    by_chance = abs(one.start_difference) <= bounds.start_difference
    if not one.nested_rhat <= bounds.nested_rhat and not by_chance:
        text = f"nested R-hat of {name} is {one.nested_rhat:.3f} > {bounds.nested_rhat}"
        if math.isfinite(one.start_difference):
            text += f", its starts differ by {one.start_difference:.1f} standard errors"
        failures.append(text)
    if abs(one.adjusted_start_difference) > bounds.adjusted_start_difference:
        failures.append(
            f"the starts of {name}, adjusted for Stein variates, differ by "
            f"{one.adjusted_start_difference:.1f} standard errors"
        )
    if math.isnan(one.drift):
        failures.append(f"a drift of {name} cannot be seen with one network of each start")
    elif abs(one.drift) > bounds.drift:
        difference = (
            f"by {one.drift:.1f} standard errors"
            if math.isfinite(one.drift)
            else "equally in every network"
        )
        failures.append(
            f"{name} drifts: the second half of its draws differs from the first {difference}"
        )
    for label, value in (("bulk", one.ess_bulk), ("tail", one.ess_tail)):
        if not value >= bounds.ess:
            failures.append(f"{label} ESS of {name} is {value:.1f} < {bounds.ess:g}")
    return failures
