"""The summary stage: the diagnostics of all points of an experiment in one table and one page."""

import logging
import math
import operator
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from grokphase.convergence import judge_file
from grokphase.errors import GrokphaseError
from grokphase.files import replaced
from grokphase.specifications.convergence import FEWEST_DRAWS_OF_A_CHAIN
from grokphase.specifications.summary import SummarySpecification
from grokphase.storage import write_table
from grokphase.tables.observables import OBSERVABLES

_log = logging.getLogger(__name__)


def summarise(
    specification: SummarySpecification, chains: list[Path], table_file: Path, page: Path
) -> None:
    """Judge every point by its chains; the page lists the worst diagnostics of every point.

    Raises GrokphaseError for chains that are missing or damaged, or of another point or model.
    """
    if len(chains) != len(specification.points):
        raise GrokphaseError(
            f"{specification.experiment} has {len(specification.points)} points, and "
            f"{len(chains)} tables of chains are given: name one for each, in the order "
            f"{', '.join(specification.points)}"
        )
    observables = OBSERVABLES[specification.model]
    named = zip(specification.points, chains, strict=True)
    table = pa.concat_tables(
        [judge_file(path, point, specification.model) for point, path in named]
    )
    write_table(table_file, table, specification.model_dump(mode="json"))
    rows = table.to_pylist()
    failed = [row for row in rows if not row["converged"]]
    lines = [
        f"# Convergence of {specification.experiment}",
        "",
        f"{len(rows) - len(failed)} of {len(rows)} points converged. Worst over the observables:",
        "",
        "| point | acceptance | nested R-hat | starts differ | adjusted | drift | R-hat "
        "| bulk ESS | tail ESS | problems |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        worst = partial(_worst, row, observables)
        extremes = [
            worst("nested_rhat"),
            worst("start_difference", abs),
            worst("adjusted_start_difference", abs),
            worst("drift", abs),
            worst("rhat"),
            worst("ess_bulk", operator.neg),
            worst("ess_tail", operator.neg),
        ]
        lines.append(
            f"| {row['point']} | {row['acceptance']:.2f} | {extremes[0]:.3f} | "
            f"{extremes[1]:+.1f} | {extremes[2]:+.1f} | {extremes[3]:+.1f} | {extremes[4]:.3f} | "
            f"{extremes[5]:.0f} | {extremes[6]:.0f} | {row['problems']} |"
        )
    if any(row["draws"] < FEWEST_DRAWS_OF_A_CHAIN for row in rows):
        lines += [
            "",
            f"Effective sample sizes of fewer than {FEWEST_DRAWS_OF_A_CHAIN} draws come from the "
            "spread between networks and are at least their number: a bound up to that is met "
            "whatever the draws.",
        ]
    with replaced(page) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    _log.info(f"{len(rows) - len(failed)} of {len(rows)} points converged")
    for row in failed:
        _log.warning(f"{row['point']} is NOT CONVERGED: {row['problems']}")


def _worst(
    row: dict[str, Any],
    observables: tuple[str, ...],
    diagnostic: str,
    badness: Callable[[float], float] = float,
) -> float:
    """The worst of a diagnostic over the observables that have it; nan if none has."""
    values = [row[f"{diagnostic}_{name}"] for name in observables]
    return max((x for x in values if not math.isnan(x)), key=badness, default=math.nan)
