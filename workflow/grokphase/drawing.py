"""The figure stage: reads aggregates and theory, and writes one figure in every format."""

import importlib
import logging
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd

from grokphase.figures import style
from grokphase.parameters import TeacherStudent
from grokphase.specifications.figure import FigureSpecification
from grokphase.storage import read_table, replaced
from grokphase.tables import aggregates, theory
from grokphase.tables.observables import OBSERVABLES

_log = logging.getLogger(__name__)


class Tables(NamedTuple):
    """What figures are drawn from; every table has the columns noise and cubic_strength.

    histogram, outputs, diagnostics : sampled networks (schemas in grokphase.tables.aggregates).
    branches, densities, transitions, baseline : theory (schemas in grokphase.tables.theory).
    """

    histogram: pd.DataFrame
    outputs: pd.DataFrame
    diagnostics: pd.DataFrame
    branches: pd.DataFrame
    densities: pd.DataFrame
    transitions: pd.DataFrame
    baseline: pd.DataFrame


def draw(specification: FigureSpecification, results: Path, outputs: list[Path]) -> None:
    """Draw a figure from the results of its experiment.

    Points that are not converged are named in the log. Raises GrokphaseError for a table that is
    missing or damaged.
    """
    tables = _read(specification, results)
    for problem in tables.diagnostics.loc[~tables.diagnostics["converged"]].itertuples():
        _log.warning(f"{problem.point} is NOT CONVERGED: {problem.problems}")
    module = importlib.import_module(f"grokphase.figures.{specification.figure}")
    with plt.rc_context(style.SETTINGS):
        figure = module.draw(tables)
        for path in outputs:
            kind = path.suffix.removeprefix(".")
            with replaced(path) as temporary:
                figure.savefig(temporary, format=kind, metadata=style.metadata(kind))
        plt.close(figure)


def _read(specification: FigureSpecification, results: Path) -> Tables:
    points, lines = specification.points, specification.lines
    diagnostics = aggregates.diagnostics(OBSERVABLES["teacher_student"])

    def of_points(table: str, schema: object) -> pd.DataFrame:
        return pd.concat(
            [_labelled(results / p / f"{table}.parquet", schema, at) for p, at in points.items()],
            ignore_index=True,
        )

    def of_lines(table: str, schema: object) -> pd.DataFrame:
        folder = results / "theory"
        return pd.concat(
            [_labelled(folder / n / f"{table}.parquet", schema, at) for n, at in lines.items()],
            ignore_index=True,
        )

    datasets = range(specification.baseline_datasets)
    baseline = [
        read_table(results / "baseline" / f"dataset~{i}.parquet", theory.BASELINE).to_pandas()
        for i in datasets
    ]
    return Tables(
        of_points("histogram", aggregates.HISTOGRAM),
        of_points("outputs", aggregates.OUTPUTS),
        of_points("diagnostics", diagnostics),
        of_lines("branches", theory.BRANCHES),
        of_lines("densities", theory.DENSITIES),
        of_lines("transitions", theory.TRANSITIONS),
        pd.concat(baseline) if baseline else theory.BASELINE.empty_table().to_pandas(),
    )


def _labelled(path: Path, schema: object, parameters: TeacherStudent) -> pd.DataFrame:
    """A table with the noise and the cubic strength it belongs to, where it lacks them."""
    table = read_table(path, schema).to_pandas()
    for name in ("noise", "cubic_strength"):
        if name not in table:
            table[name] = getattr(parameters, name)
    return table
