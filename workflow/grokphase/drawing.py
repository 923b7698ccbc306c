"""The figure stage: reads aggregates and theory, and writes one figure in every format."""

import importlib
import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

# Figures are files, whatever the environment says of windows.
os.environ["MPLBACKEND"] = "Agg"

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pyarrow as pa

from grokphase.errors import GrokphaseError
from grokphase.figures import style
from grokphase.files import replaced
from grokphase.parameters import ModularAddition, Parameters
from grokphase.specifications.figure import FigureSpecification
from grokphase.storage import provenance, read_table
from grokphase.tables import aggregates, modular_aggregates, modular_theory, theory
from grokphase.tables.observables import OBSERVABLES

_log = logging.getLogger(__name__)
# It wonders at every font of a figure without a date.
logging.getLogger("fontTools").setLevel(logging.ERROR)


class Tables(NamedTuple):
    """What figures of the teacher-student model are drawn from; every table has noise and
    cubic_strength.

    histogram, outputs, diagnostics : sampled networks (schemas in grokphase.tables.aggregates), the
        last from their chains.
    branches, densities, transitions, baseline : theory (schemas in grokphase.tables.theory).
    """

    histogram: pd.DataFrame
    outputs: pd.DataFrame
    diagnostics: pd.DataFrame
    branches: pd.DataFrame
    densities: pd.DataFrame
    transitions: pd.DataFrame
    baseline: pd.DataFrame


class ModularTables(NamedTuple):
    """What figures of modular addition are drawn from; every table has noise, prime and
    train_fraction.

    parameters : of the first line drawn; its noise is not used.
    histogram ... diagnostics : sampled networks (schemas in grokphase.tables.modular_aggregates),
        the last from their chains; empty for an experiment that is theory only.
    branches ... spectrum : theory (schemas in grokphase.tables.modular_theory).
    """

    parameters: ModularAddition
    histogram: pd.DataFrame
    outputs: pd.DataFrame
    starts: pd.DataFrame
    neurons: pd.DataFrame
    eigenvalues: pd.DataFrame
    diagnostics: pd.DataFrame
    branches: pd.DataFrame
    landscapes: pd.DataFrame
    densities: pd.DataFrame
    transitions: pd.DataFrame
    spectrum: pd.DataFrame


AGAIN = "delete it and run again"

LABELS = {
    "teacher_student": ("noise", "cubic_strength"),
    "modular_addition": ("noise", "prime", "train_fraction"),
}
"""Parameters that label the rows of every table, by model."""


def draw(specification: FigureSpecification, results: Path, outputs: list[Path]) -> None:
    """Draw a figure from the results of its experiment.

    Points that are not converged are named in the log. Raises GrokphaseError for a table that is
    missing or damaged.
    """
    tables = _read(specification, results)
    for problem in tables.diagnostics.query("converged == False").itertuples():
        _log.warning(f"{problem.point} is NOT CONVERGED: {problem.problems}")
    module = importlib.import_module(f"grokphase.figures.{specification.drawing}")
    # A matplotlibrc of the user must not change figures that are equal otherwise.
    with plt.style.context(["default", style.SETTINGS]):
        figure = module.draw(tables)
        # Laid out and measured once: left to savefig, every format would do it again, as it would
        # with the engine that stands in for "none"; and the setting decides what None means.
        figure.draw_without_rendering()
        with plt.rc_context({"figure.constrained_layout.use": False}):
            figure.set_layout_engine(None)
            box = figure.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
            for path in outputs:
                kind = path.suffix.removeprefix(".")
                with replaced(path) as temporary:
                    figure.savefig(
                        temporary, format=kind, metadata=style.metadata(kind), bbox_inches=box
                    )
        plt.close(figure)


def _read(specification: FigureSpecification, results: Path) -> Tables | ModularTables:
    points, lines = specification.points, specification.lines
    labels = LABELS[specification.model]

    def joined(places: dict[str, Parameters], folder: Path, table: str, schema: Any) -> Any:
        parts = [
            _labelled(_of_place(name, folder / name / f"{table}.parquet", schema, at), at, labels)
            for name, at in places.items()
        ]
        return pd.concat(parts or [schema.empty_table().to_pandas()], ignore_index=True)

    def of_points(table: str, schema: Any) -> pd.DataFrame:
        return joined(points, results, table, schema)

    def of_lines(table: str, schema: Any) -> pd.DataFrame:
        return joined(lines, results / "theory", table, schema)

    def selected(table: pd.DataFrame) -> pd.DataFrame:
        return table[table["noise"].isin(specification.noises)].reset_index(drop=True)

    first = next(iter(lines.values()))
    if isinstance(first, ModularAddition):
        return ModularTables(
            first,
            of_points("histogram", modular_aggregates.HISTOGRAM),
            of_points("outputs", aggregates.OUTPUTS),
            of_points("starts", modular_aggregates.STARTS),
            of_points("neurons", modular_aggregates.NEURONS),
            of_points("eigenvalues", modular_aggregates.EIGENVALUES),
            _diagnostics(specification, results),
            of_lines("branches", modular_theory.BRANCHES),
            selected(of_lines("landscapes", modular_theory.LANDSCAPES)),
            selected(of_lines("densities", modular_theory.DENSITIES)),
            of_lines("transitions", modular_theory.TRANSITIONS),
            of_lines("spectrum", modular_theory.SPECTRUM),
        )
    baseline = []
    for dataset in range(specification.baseline_datasets):
        path = results / "baseline" / f"dataset~{dataset}.parquet"
        baseline.append(read_table(path, theory.BASELINE).to_pandas())
        recorded = provenance(path)
        if recorded.get("dataset") != dataset:
            raise GrokphaseError(f"{path} is of dataset {recorded.get('dataset')}; {AGAIN}")
        _check_parameters(path, recorded.get("parameters"), first, {"noise", "cubic_strength"})
    return Tables(
        of_points("histogram", aggregates.HISTOGRAM),
        of_points("outputs", aggregates.OUTPUTS),
        _diagnostics(specification, results),
        of_lines("branches", theory.BRANCHES),
        selected(of_lines("densities", theory.DENSITIES)),
        of_lines("transitions", theory.TRANSITIONS),
        selected(pd.concat(baseline)) if baseline else theory.BASELINE.empty_table().to_pandas(),
    )


def _check_parameters(
    path: Path, recorded: Any, wanted: Parameters, unused: Collection[str] = ()
) -> None:
    """Raises GrokphaseError if a table was made with other parameters, up to those `unused`."""
    found = recorded or {}
    other = [
        f"{name}={found.get(name)} and not {value}"
        for name, value in wanted.model_dump(mode="json").items()
        if name not in unused and found.get(name) != value
    ]
    if other:
        raise GrokphaseError(f"{path} was made with {', '.join(other)}; {AGAIN}")


def _diagnostics(specification: FigureSpecification, results: Path) -> pd.DataFrame:
    """Diagnostics of every point, with its parameters."""
    if not specification.points:
        observables = OBSERVABLES[specification.model]
        return aggregates.diagnostics(observables).empty_table().to_pandas()
    # Figures of theory alone need not wait for it.
    from grokphase.convergence import judge_file

    parts = []
    for point, parameters in specification.points.items():
        path = results / point / "chains.parquet"
        _of_place(point, path, aggregates.CHAINS, parameters)
        row = judge_file(path, point, specification.model)
        parts.append(_labelled(row, parameters, LABELS[specification.model]))
    return pd.concat(parts, ignore_index=True)


def _of_place(place: str, path: Path, schema: pa.Schema, parameters: Parameters) -> pa.Table:
    """The table of a point or line; raises GrokphaseError if it is not that of this place."""
    table = read_table(path, schema)
    recorded = provenance(path)
    if recorded.get("point", place) != place or not len(table):
        raise GrokphaseError(f"{path} is not the table of {place}, or is empty; {AGAIN}")
    if "training" in recorded:
        _check_parameters(path, recorded["training"]["parameters"], parameters)
    else:
        _check_parameters(path, recorded.get("parameters"), parameters, {"noise"})
    return table


def _labelled(table: pa.Table, parameters: Parameters, labels: tuple[str, ...]) -> pd.DataFrame:
    """The table with the parameters it belongs to, where it lacks them."""
    frame = table.to_pandas()
    for name in labels:
        if name not in frame:
            frame[name] = getattr(parameters, name)
    return frame
