"""Modular addition at a small size: plain dynamics cooled and heated through the transition."""

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots

from grokphase.drawing import ModularTables
from grokphase.figures import style
from grokphase.figures.fig3 import CLOSURE_COLOURS, closure_handles, discrepancies
from grokphase.figures.modular_network import measured

MODEL = "modular_addition"
STARTS = ("cooled", "heated")

ANNEALED = {
    "cooled": ("<", style.DISTINCT[3], "networks, cooled from above"),
    "heated": (">", style.DISTINCT[4], "networks, heated from below"),
}


def draw(tables: ModularTables) -> Figure:
    """(a) a(noise) of cooled and heated networks; (b) its difference from the corrected closure."""
    figure, (left, right) = subplots(1, 2, figsize=(9.6, 4.2))
    rows = tables.branches.query("closure == 'corrected' and average == 'quadrature'")
    exact = rows.set_index("noise")["discrepancy"]
    discrepancies(left, tables)
    zero_line = right.axhline(0, color=CLOSURE_COLOURS["corrected"], label="corrected")
    handles: list[Artist] = [zero_line]
    found = measured(tables, "discrepancy")
    converged = tables.diagnostics.set_index("noise")["converged"]
    for kind, (marker, colour, name) in ANNEALED.items():
        if kind in found:
            points = found[kind]
            for axes, zero in ((left, 0.0), (right, exact.loc[points.index])):
                values = points["mean"] - zero
                axes.plot(points.index, values, color=colour, linewidth=0.9)
                style.converged_points(
                    axes, points.index, values, points["subset_error"],
                    converged.loc[points.index], color=colour, marker=marker, markersize=5,
                )  # fmt: skip
            handles.append(Line2D([], [], color=colour, marker=marker, label=name))
    # Among the curves of both closures and both kinds of network there is no room.
    left.legend(
        handles=closure_handles(), loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2,
        fontsize=7,
    )  # fmt: skip
    style.limit_to_range(right, exact.index.min(), exact.index.max())
    right.set_xlabel(r"noise, $\sigma^2$")
    right.set_ylabel(r"$a-a_{\mathrm{corrected}}$")
    right.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
    if not converged.all():
        handles.append(style.not_converged_handle())
    right.legend(handles=handles, fontsize=7)
    for axes, text in ((left, "(a)  discrepancy"), (right, "(b)  difference from theory")):
        axes.set_title(text, loc="left", fontsize=9, pad=12)
    return figure
