"""The summary stage: the worst diagnostics of every point on one page."""

import math
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from grokphase.errors import GrokphaseError
from grokphase.sampling.chains import summarise as summarise_chains
from grokphase.specifications.convergence import FEWEST_DRAWS_OF_A_CHAIN, Convergence
from grokphase.specifications.summary import SummarySpecification
from grokphase.storage import read_table, write_table
from grokphase.summary import summarise
from grokphase.tables.aggregates import CHAINS, diagnostics
from grokphase.tables.observables import OBSERVABLES

NAMES = OBSERVABLES["teacher_student"]
SCHEMA = diagnostics(NAMES)
CLEAN = {
    "rhat": 1.001,
    "nested_rhat": 1.002,
    "start_difference": 0.1,
    "adjusted_start_difference": 0.2,
    "drift": 0.3,
    "ess_bulk": 900.0,
    "ess_tail": 800.0,
    "mcse": 0.01,
}


def row(point, draws=100, converged=True, **changes):
    """One point, all of whose observables are clean but for changes such as rhat={2: 1.5}."""
    values = {"point": point, "networks": 4, "draws": draws, "acceptance": 0.876}
    values |= {"sweep_acceptance": None, "converged": converged}
    values["problems"] = "" if converged else "starts differ"
    for diagnostic, clean in CLEAN.items():
        for number, name in enumerate(NAMES):
            values[f"{diagnostic}_{name}"] = changes.get(diagnostic, {}).get(number, clean)
    return values


def summary(folder, rows, points=None):
    """Lines of the page of these points, judged as these rows say."""
    judged = {one["point"]: pa.Table.from_pylist([one], schema=SCHEMA) for one in rows}
    of_any = pa.Table.from_pylist([{"observable": name} for name in NAMES], schema=CHAINS)
    with mock.patch("grokphase.convergence.judge", lambda chains, point, bounds: judged[point]):
        return page(folder, dict.fromkeys(judged, of_any), points or list(judged))


def page(folder, chains, points, **bounds):
    """Lines of the page of these points with these chains."""
    files = []
    for number, (point, table) in enumerate(chains.items()):
        files.append(folder / f"{number}.parquet")
        recorded = {"point": point, "convergence": Convergence(**bounds).model_dump(mode="json")}
        write_table(files[-1], table, recorded)
    specification = SummarySpecification(experiment="e", model="teacher_student", points=points)
    summarise(specification, files, folder / "all.parquet", folder / "page.md")
    return (folder / "page.md").read_text().splitlines()


def test_the_worst_value_of_every_diagnostic_is_listed(tmp_path):
    """Largest R-hat, differences of either sign, fewest effective draws; not what is unknown."""
    nan = math.nan
    worst = row(
        "noise~0.1",
        nested_rhat={0: nan, 3: 1.1},
        start_difference={1: -4.0, 2: 3.0, 4: nan},
        adjusted_start_difference={2: -5.0},
        drift={0: nan, 5: -6.0, 6: 2.0},
        rhat={6: 1.2},
        ess_bulk={0: nan, 1: 70.0},
        ess_tail={3: 60.0},
    )
    lines = summary(tmp_path, [worst])
    [header] = [line for line in lines if line.startswith("| point")]
    [found] = [line for line in lines if line.startswith("| noise~0.1")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (header, found)]
    assert dict(zip(*cells, strict=True)) == {
        "point": "noise~0.1",
        "acceptance": "0.88",
        "nested R-hat": "1.100",
        "starts differ": "-4.0",
        "adjusted": "-5.0",
        "drift": "-6.0",
        "R-hat": "1.200",
        "bulk ESS": "70",
        "tail ESS": "60",
        "problems": "",
    }


def test_what_no_observable_has_is_listed_as_unknown(tmp_path):
    unknown = dict.fromkeys(range(len(NAMES)), math.nan)
    [*_, found] = summary(tmp_path, [row("a", drift=unknown, ess_tail=unknown)])
    assert found == "| a | 0.88 | 1.002 | +0.1 | +0.2 | +nan | 1.001 | 900 | nan |  |"


def test_points_that_have_not_converged_are_counted_and_warned_of(tmp_path, caplog):
    lines = summary(tmp_path, [row("a"), row("b", converged=False), row("c")])
    assert "2 of 3 points converged. Worst over the observables:" in lines
    assert [line.split("|")[-2].strip() for line in lines[-3:]] == ["", "starts differ", ""]
    warnings = [one.message for one in caplog.records if one.levelname == "WARNING"]
    assert warnings == ["b is NOT CONVERGED: starts differ"]
    table = read_table(tmp_path / "all.parquet", SCHEMA)
    assert table["point"].to_pylist() == ["a", "b", "c"]
    assert table["converged"].to_pylist() == [True, False, True]


@pytest.mark.parametrize("less", [0, 1])
def test_effective_draws_that_are_only_a_bound_are_said_to_be(tmp_path, less):
    """Where any one point has fewer draws than their autocorrelation needs."""
    lines = summary(tmp_path, [row("a"), row("b", draws=FEWEST_DRAWS_OF_A_CHAIN - less)])
    assert lines[-1].startswith("Effective sample sizes") == bool(less)


def test_points_in_another_order_are_refused(tmp_path):
    with pytest.raises(GrokphaseError, match=r"0\.parquet is of a, not of b"):
        summary(tmp_path, [row("a"), row("b")], points=["b", "a"])
    assert not (tmp_path / "page.md").exists()


def independent_draws(networks, draws):
    """Chains of all observables of a dataset, half of whose networks have planted starts."""
    one = summarise_chains(np.random.default_rng(7).standard_normal((networks, draws)))
    columns = {
        "dataset": [0] * networks,
        "start": ["prior", "planted"] * (networks // 2),
        "acceptance": [0.9] * networks,
        "sweep_acceptance": [math.nan] * networks,
        "draws": [one.draws] * networks,
        "batch": [one.batch] * networks,
        "adjusted_mean": one.mean,
        **{name: list(getattr(one, name)) for name in one._fields[2:]},
    }
    of_each = [{**columns, "observable": [name] * networks} for name in NAMES]
    return pa.concat_tables([pa.Table.from_pydict(x, schema=CHAINS) for x in of_each])


@pytest.mark.parametrize("names", [(), NAMES[:-1], NAMES[::-1], OBSERVABLES["modular_addition"]])
def test_chains_of_other_observables_are_refused(tmp_path, names):
    """None, too few, in another order, or of the other model; what was there before stays."""
    rows = [{"observable": name} for name in names]
    table = pa.Table.from_pylist(rows, schema=CHAINS)
    (tmp_path / "all.parquet").touch()
    with pytest.raises(GrokphaseError, match=r"0\.parquet does not hold the observables of teach"):
        page(tmp_path, {"a": table}, ["a"])
    assert not (tmp_path / "all.parquet").read_bytes()


def test_points_are_judged_by_the_bounds_of_the_configuration(tmp_path):
    """Four chains of a hundred independent draws are worth some four hundred."""
    chains = {"a": independent_draws(4, 100), "b": independent_draws(4, 100)}
    assert "2 of 2 points converged. Worst over the observables:" in page(
        tmp_path, chains, ["a", "b"]
    )
    [*_, found] = page(tmp_path, chains, ["a", "b"], ess=600)
    assert "ESS of linear_overlap is" in found
    assert "< 600" in found
    [row, _] = read_table(tmp_path / "all.parquet", SCHEMA).to_pylist()
    assert (row["networks"], row["draws"]) == (4, 100)
    assert 250 < row["ess_bulk_linear_overlap"] < 600
    assert not row["converged"]
