"""Modular addition at a small size: sampled networks against both closures of the theory."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots
from matplotlib.ticker import MaxNLocator

from grokphase.drawing import ModularTables
from grokphase.figures import style
from grokphase.figures.fig3 import CLOSURE_COLOURS, closure_handles, discrepancies

MODEL = "modular_addition"
STARTS = ("prior", "planted")

START_MARKERS = {"prior": "^", "planted": "v"}
START_NAMES = {"prior": "networks, prior start", "planted": "networks, planted start"}
START_COLOURS = {"prior": style.DISTINCT[6], "planted": style.DISTINCT[2]}
LEAST_COUNT = 10
"""Bins in which fewer modes were counted have no meaningful error bar and are not drawn."""

HIGHEST_ACTION = 26.0
"""Nats up to which the marginal densities are drawn."""
CONTOURS = 10.0 ** np.arange(-3, 1)
"""Densities at which the theory of both operands has a contour."""


def draw(tables: ModularTables) -> Figure:
    """(a) a(noise); (b) the difference from theory; (c) the share of droplets;
    (d), (e) distribution of the mode powers; (f) the kernel's eigenvalue on every target mode."""
    figure, grid = subplots(2, 3, figsize=(14, 7.4))
    _discrepancy(grid[0, 0], tables)
    _difference(grid[0, 1], tables)
    _droplets(grid[0, 2], tables)
    noises = sorted(tables.starts["noise"].unique())
    middle = noises[len(noises) // 2]
    _marginals(grid[1, 0], tables, list(dict.fromkeys([noises[0], middle, noises[-1]])))
    _joint(grid[1, 1], tables, middle)
    _eigenvalues(grid[1, 2], tables, noises)
    for letter, axes in zip("abcdef", grid.flat, strict=True):
        title = axes.get_title()
        axes.set_title("")
        axes.set_title(f"({letter})  {title}", loc="left", fontsize=9, pad=12)
    return figure


def _discrepancy(axes: Axes, tables: ModularTables) -> None:
    discrepancies(axes, tables)
    for start, points in _both_starts(tables).items():
        _points(
            axes, points.index, points["mean"], points["subset_error"], start, _converged(tables)
        )
    axes.legend(handles=[*closure_handles(), *start_handles(tables)], loc="best",
                fontsize=7, **style.FRAMED)  # fmt: skip


def _difference(axes: Axes, tables: ModularTables) -> None:
    """Theory and networks relative to the corrected closure with exact quadrature."""
    curves = {
        key: rows.set_index("noise")["discrepancy"]
        for key, rows in tables.branches.groupby(["closure", "average"])
    }
    exact = curves["corrected", "quadrature"]
    published, corrected = CLOSURE_COLOURS["as_published"], CLOSURE_COLOURS["corrected"]
    lines = {
        "as published": (curves["as_published", "quadrature"], published, "-"),
        "corrected": (exact, corrected, "-"),
        r"corrected, $P\to\infty$": (curves["corrected", "limit"], corrected, ":"),
        "corrected, every mode a droplet": (curves["corrected", "all_droplets"], "0.5", "--"),
    }  # fmt: skip
    for name, (curve, colour, line) in lines.items():
        axes.plot(exact.index, curve - exact, color=colour, linestyle=line, label=name)
    largest = 0.0
    for start, points in _both_starts(tables).items():
        difference = points["mean"] - exact.loc[points.index]
        _points(axes, points.index, difference, points["subset_error"], start, _converged(tables))
        largest = max(largest, float((difference.abs() + points["subset_error"]).max()))
    style.limit_to_range(axes, exact.index.min(), exact.index.max())
    axes.set_ylim(-2 * largest, 2 * largest)
    axes.set_xlabel(r"noise, $\sigma^2$")
    axes.set_ylabel(r"$a-a_{\mathrm{corrected}}$")
    handles = axes.get_legend_handles_labels()[0]
    axes.legend(handles=[*handles, *start_handles(tables)], fontsize=7, loc="best")
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
    axes.set_title("difference from the corrected closure")


def _droplets(axes: Axes, tables: ModularTables) -> None:
    """Share of the modes with |w_k||v_k| > W/3, counted in networks and by the theory."""
    for closure, colour in CLOSURE_COLOURS.items():
        rows = tables.branches[
            (tables.branches["closure"] == closure) & (tables.branches["average"] == "quadrature")
        ]
        curve = rows.set_index("noise")["counted_mass"]
        axes.plot(curve.index, curve, color=colour, label=closure.replace("_", " "))
    frequencies = tables.parameters.prime // 2
    for start, points in _both_starts(tables, "droplets_per_neuron").items():
        values = points["mean"] / frequencies, points["subset_error"] / frequencies
        _points(axes, points.index, *values, start, _converged(tables))
    axes.set_xlabel(r"noise, $\sigma^2$")
    axes.set_ylabel(r"share of modes with $|w_k||v_k|>W/3$")
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
    handles = axes.get_legend_handles_labels()[0]
    axes.legend(handles=[*handles, *start_handles(tables)], fontsize=7)
    axes.set_title("droplets")


def _eigenvalues(axes: Axes, tables: ModularTables, noises: list[float]) -> None:
    """lambda of every target mode in networks of one start, against the corrected closure."""
    start = "planted" if (tables.eigenvalues["start"] == "planted").any() else "prior"
    rows = tables.branches.query("closure == 'corrected' and average == 'quadrature'")
    exact = rows.set_index("noise")["eigenvalue"]
    names = style.numbers(noises)
    for colour, noise in zip(style.ordered_colours(len(noises)), noises, strict=True):
        name = rf"$\sigma^2={names[noise]}$"
        axes.axhline(exact.loc[noise], color=colour, linewidth=0.9, label=name)
        seen = tables.eigenvalues.query("start == @start and noise == @noise")
        axes.errorbar(
            seen["frequency"], seen["eigenvalue"], yerr=seen["error"], color=colour, capsize=2,
            marker=START_MARKERS[start], markersize=3, linestyle="none",
        )  # fmt: skip
    axes.set_yscale("log")
    seen = tables.eigenvalues[tables.eigenvalues["start"] == start]
    drawn = pd.concat([exact.loc[noises], seen["eigenvalue"]])
    lowest, highest = drawn[drawn > 0].min(), drawn.max()
    # Room for the legend below.
    share = 0.04 + 0.06 * math.ceil(len(noises) / 2)
    axes.set_ylim(lowest * min(0.1, (lowest / highest) ** (share / (1 - share))), None)
    axes.set_xlim(0.5, tables.parameters.prime // 2 + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("frequency of the target mode, $k$")
    axes.set_ylabel(r"$\lambda_k=\langle\phi_{kk},Q\,\phi_{kk}\rangle$")
    axes.legend(fontsize=7, ncols=2, loc="lower right")
    axes.set_title(f"degeneracy, {start} start (lines: corrected)")


def _marginals(axes: Axes, tables: ModularTables, noises: list[float]) -> None:
    """-log of the density of sqrt(A/W), one shift for every noise."""
    groups = ["noise", "start", "first_root_power"]
    sampled = tables.histogram.groupby(groups)[["count", "density"]].sum().reset_index()
    width = np.diff(np.unique(sampled["first_root_power"])).min()
    names = style.numbers(noises)
    drawn = set()
    for colour, noise in zip(style.ordered_colours(len(noises)), noises, strict=True):
        for closure, line in {"corrected": "-", "as_published": "--"}.items():
            theory = tables.densities[
                (tables.densities["closure"] == closure) & (tables.densities["noise"] == noise)
            ]
            density = theory.groupby("first_root_power")["density"].sum() * width
            with np.errstate(divide="ignore"):
                action = -np.log(density)
            axes.plot(action.index, action, color=colour, linestyle=line)
            if (action < HIGHEST_ACTION).any():
                drawn.add(closure)
        for start, marker in START_MARKERS.items():
            seen = sampled[(sampled["noise"] == noise) & (sampled["start"] == start)]
            seen = seen[seen["count"] >= LEAST_COUNT]
            if len(seen):
                drawn.add(start)
            axes.plot(
                seen["first_root_power"],
                -np.log(seen["density"] * width),
                color=colour,
                marker=marker,
                markersize=3,
                linestyle="none",
            )
        axes.plot([], [], color=colour, label=rf"$\sigma^2={names[noise]}$")
    axes.set_ylim(-3, HIGHEST_ACTION)
    axes.set_xlabel(r"root power of a mode, $|w_k|/\sqrt{W}$,  $W=\sqrt{3/\gamma}$")
    axes.set_ylabel(r"$-\log p$  (nats)")
    handles = axes.get_legend_handles_labels()[0]
    entries = {
        "corrected": Line2D([], [], color="0.3", label="corrected"),
        "as_published": Line2D([], [], color="0.3", linestyle="--", label="as published"),
    } | {
        start: Line2D([], [], color="0.3", marker=marker, linestyle="none", markersize=3,
                      label=START_NAMES[start])
        for start, marker in START_MARKERS.items()
    }  # fmt: skip
    handles += [handle for name, handle in entries.items() if name in drawn]
    axes.legend(handles=handles, fontsize=7, loc="upper left")
    axes.set_title("distribution of one operand's mode power")


def _joint(axes: Axes, tables: ModularTables, noise: float) -> None:
    """Joint density of both operands' root powers: networks in colour, theory as contours."""
    sampled = tables.histogram[tables.histogram["noise"] == noise]
    sampled = sampled[sampled["start"].isin(START_MARKERS)]
    mean = sampled.groupby(["first_root_power", "second_root_power"])["density"].mean().unstack()
    image = axes.pcolormesh(
        mean.index, mean.columns, mean.to_numpy().T, norm=LogNorm(1e-3, 1e1), cmap="Greys",
        rasterized=True,
    )  # fmt: skip
    handles = []
    for closure, colour in CLOSURE_COLOURS.items():
        theory = tables.densities[
            (tables.densities["closure"] == closure) & (tables.densities["noise"] == noise)
        ]
        table = theory.pivot(
            index="first_root_power", columns="second_root_power", values="density"
        )
        if table.to_numpy().max() > CONTOURS[0]:
            axes.contour(
                table.index, table.columns, table.to_numpy().T, levels=CONTOURS, colors=[colour],
                linewidths=0.9,
            )  # fmt: skip
            handles.append(Line2D([], [], color=colour, label=closure.replace("_", " ")))
    axes.set_aspect("equal")
    axes.set_xlabel(r"$|w_k|/\sqrt{W}$")
    axes.set_ylabel(r"$|v_k|/\sqrt{W}$")
    colourbar = axes.figure.colorbar(image, ax=axes, shrink=0.85)
    colourbar.set_label("density, networks of both starts")
    if handles:
        axes.legend(handles=handles, title="theory, one contour a decade", fontsize=7,
                    title_fontsize=7, loc="upper left")  # fmt: skip
    axes.set_title(rf"both operands, $\sigma^2={style.number(noise)}$")


def measured(tables: ModularTables, observable: str) -> dict[str, pd.DataFrame]:
    """Sampled values of one observable by kind of start, indexed by noise."""
    rows = tables.starts[tables.starts["observable"] == observable]
    return {str(start): group.set_index("noise") for start, group in rows.groupby("start")}


def _both_starts(tables: ModularTables, observable: str = "discrepancy") -> dict[str, pd.DataFrame]:
    """`measured` of both kinds of start, in the order of their markers."""
    found = measured(tables, observable)
    return {start: found[start] for start in START_MARKERS if start in found}


def _converged(tables: ModularTables) -> pd.Series:
    """Whether both starts have met, indexed by noise."""
    return tables.diagnostics.set_index("noise")["converged"]


def _points(
    axes: Axes, x: pd.Index, y: pd.Series, error: pd.Series, start: str, converged: pd.Series
) -> None:
    """Means of one kind of start; filled where converged."""
    style.converged_points(
        axes, x, y, error, converged.loc[x], color=START_COLOURS[start],
        marker=START_MARKERS[start], markersize=5, zorder=4,
    )  # fmt: skip


def start_handles(tables: ModularTables) -> list[Line2D]:
    """Legend of the networks by kind of start."""
    handles = [
        Line2D([], [], color=START_COLOURS[start], marker=START_MARKERS[start], linestyle="none",
               label=START_NAMES[start])
        for start in _both_starts(tables)
    ]  # fmt: skip
    return handles if _converged(tables).all() else [*handles, style.not_converged_handle()]
