"""Figures: numbers in labels, and drawings of tables that leave much of a panel empty."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from grokphase.figures import fig1, fig3, modular_branches, modular_spectrum, style


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 6, "0"),
        (0.25, 6, "0.25"),
        (-0.3, 6, "-0.3"),
        (9e-5, 6, r"9\times10^{-5}"),
        (1.75e-4, 6, r"1.75\times10^{-4}"),
        (0.0009996, 3, "0.001"),
        (999.6, 3, "1000"),
        (1e9, 6, "10^{9}"),
        (float("nan"), 6, "nan"),
    ],
)
def test_numbers_are_decimals_or_powers_of_ten(value, digits, text):
    assert style.number(value, digits) == text


def test_labels_of_numbers_that_differ_differ():
    assert style.numbers([0.1234, 0.1236], 3) == {0.1234: "0.123", 0.1236: "0.124"}
    assert style.numbers([0.12341, 0.12342], 3) == {0.12341: "0.12341", 0.12342: "0.12342"}
    assert style.numbers([0.2, 0.2]) == {0.2: "0.2"}


def overlap_tables(action, theory):
    """Tables of figure 1 with one noise: a parabola of depth `theory`, and points at `action`."""
    centres = np.array([-0.5, 0.0, 0.5])
    overlap = np.linspace(-1, 1, 41)
    return SimpleNamespace(
        histogram=pd.DataFrame(
            {
                "noise": 0.2,
                "cubic_strength": -0.3,
                "bin_left": centres - 0.05,
                "bin_right": centres + 0.05,
                "networks": np.where(np.isfinite(action), 4.0, 0.0),
                "action": action,
                "action_error": 0.1,
            }
        ),
        densities=pd.DataFrame(
            {"noise": 0.2, "overlap": overlap, "binned_action": theory + 5 * overlap**2}
        ),
        diagnostics=pd.DataFrame({"noise": [0.2], "converged": [True]}),
        transitions=pd.DataFrame(
            {
                "transition": ["gfl_end", "mixed_end", "limit"],
                "noise": [0.1, np.nan, np.nan],
                "result": ["continuous", "none", "none"],
            }
        ),
    )


def test_figure_1_without_points_draws_the_theory():
    axes = fig1.draw(overlap_tables(np.full(3, np.nan), -1.0)).axes[0]
    assert axes.get_xlim() == pytest.approx((-1.1, 1.1))
    assert axes.get_ylim() == pytest.approx((-1.5, 4.5))


def test_figure_1_ends_where_points_and_theory_end():
    axes = fig1.draw(overlap_tables(np.array([0.0, -4.0, 0.0]), -1.0)).axes[0]
    lowest, highest = axes.get_ylim()
    assert lowest == pytest.approx(-4.6)
    assert 5 * 0.65**2 - 1.0 <= highest < 2.0


def spectrum_of(prime):
    levels = [4.0, 4.0 * prime, 4.0 * prime**2]
    prior = pd.DataFrame(
        {
            "kernel": "prior",
            "method": "closed_form",
            "mode": -1,
            "eigenvalue": levels,
            "multiplicity": [(prime - 1) ** 2, 2 * (prime - 1), 1],
        }
    )
    droplets = pd.DataFrame({"kernel": "droplets", "mode": range(1, prime), "eigenvalue": 1.0})
    return pd.concat([prior, droplets]).assign(prime=prime)


def test_levels_of_a_kernel_that_was_not_diagonalised_are_drawn():
    figure = modular_spectrum.draw(SimpleNamespace(spectrum=spectrum_of(401)))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    heights = sorted(bar[0, 1] for bars in axes.collections for bar in bars.get_segments())
    assert heights == [4.0, 1604.0, 643204.0]
    legend = axes.get_legend().get_window_extent()
    assert not any(legend.overlaps(text.get_window_extent()) for text in axes.texts)
    assert "marker: diagonalised" not in [t.get_text() for t in axes.get_legend().get_texts()]


def modular_tables(side_action):
    """Tables of figure 3 for one noise, whose side minimum has a given action."""
    noise = np.linspace(0.1, 0.3, 11)
    root_power = np.linspace(0.0, 2.0, 50)
    pairs = [(c, a) for c in fig3.CLOSURE_NAMES for a in ("quadrature", "two_point", "limit")]
    branches = [
        pd.DataFrame(
            {
                "closure": closure,
                "average": average,
                "noise": noise,
                "discrepancy": -noise,
                "droplets_per_frequency": 999.6,
                "side_power": 2.0,
                "side_action": side_action,
            }
        )
        for closure, average in pairs
    ]
    return SimpleNamespace(
        parameters=SimpleNamespace(prime=13, width=10),
        branches=pd.concat(branches),
        landscapes=pd.DataFrame(
            {
                "closure": "as_published",
                "noise": noise[5],
                "root_power": root_power,
                "action": side_action * root_power**2 * (2 * np.sqrt(2) - root_power) / 2,
            }
        ),
        transitions=pd.DataFrame(
            {
                "closure": list(fig3.CLOSURE_NAMES),
                "average": "limit",
                "noise_start": 0.25,
                "noise_end": 0.15,
                "power": 1.7,
            }
        ),
    )


@pytest.mark.parametrize(("side_action", "is_named"), [(-20.0, False), (-700.0, True)])
def test_a_deep_side_minimum_is_shown_or_named(side_action, is_named):
    axes = fig3.draw(modular_tables(side_action)).axes[0]
    assert (axes.get_ylim()[0] > side_action) == is_named
    assert any("minimum $-700$" in text.get_text() for text in axes.get_legend().texts) == is_named


def test_markers_at_the_ends_of_the_noise_axis_are_whole():
    figure = fig3.draw(modular_tables(-20.0))
    lowest, highest = figure.axes[1].get_xlim()
    assert lowest < 0.1
    assert highest > 0.3
    assert "at most $1000$ droplets" in figure.get_supxlabel()


def test_accuracy_of_one_ends_its_axis():
    rows = [
        {"start": "prior", "observable": observable, "noise": 0.2, "trace_stride": 1,
         "trace": np.ones(3), "trace_error": np.zeros(3)}
        for observable in modular_branches.PANELS
    ]  # fmt: skip
    tables = SimpleNamespace(
        parameters=SimpleNamespace(prime=7, width=20),
        starts=pd.DataFrame(rows),
        branches=pd.DataFrame(columns=["closure", "average", "noise", "discrepancy"]),
    )
    accuracy = modular_branches.draw(tables).axes[2]
    assert 1.0 < accuracy.get_ylim()[1] < 1.5
