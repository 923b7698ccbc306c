"""Modular addition at a small size: plain dynamics cooled and heated through the transition."""

from matplotlib.figure import Figure
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
    figure, (left, right) = subplots(1, 2, figsize=(9.6, 3.7))
    rows = tables.branches.query("closure == 'corrected' and average == 'quadrature'")
    exact = rows.set_index("noise")["discrepancy"]
    discrepancies(left, tables)
    right.axhline(0, color=CLOSURE_COLOURS["corrected"], label="corrected")
    found = measured(tables, "discrepancy")
    for kind, (marker, colour, name) in ANNEALED.items():
        if kind in found:
            points = found[kind]
            for axes, zero in ((left, 0.0), (right, exact.loc[points.index])):
                axes.errorbar(
                    points.index, points["mean"] - zero, points["subset_error"], color=colour,
                    marker=marker, markerfacecolor="none", linewidth=0.9, capsize=2, label=name,
                )  # fmt: skip
    left.legend(handles=closure_handles(), loc="upper right", fontsize=7)
    right.set_xlim(exact.index.min(), exact.index.max())
    right.set_xlabel(r"noise, $\sigma^2$")
    right.set_ylabel(r"$a-a_{\mathrm{corrected}}$")
    right.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
    right.legend(fontsize=7)
    for axes, text in ((left, "(a)  discrepancy"), (right, "(b)  difference from theory")):
        axes.set_title(text, loc="left", fontsize=9, pad=12)
    return figure
