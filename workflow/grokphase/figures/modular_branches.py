"""Modular addition at the paper's size: whether networks stay on the branch they start on."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.pyplot import subplots

from grokphase.drawing import ModularTables
from grokphase.figures.fig3 import closure_handles, discrepancies
from grokphase.figures.modular_network import START_COLOURS, START_MARKERS, start_handles


def draw(tables: ModularTables) -> Figure:
    """(a) a(noise) from both starts; (b) droplets per neuron; lines join the halves of a run."""
    figure, (left, right) = subplots(1, 2, figsize=(9.6, 3.9))
    discrepancies(left, tables)
    _halves(left, tables, "discrepancy")
    left.set_title("(a)", loc="left", fontsize=10, pad=12)
    _halves(right, tables, "droplets_per_neuron")
    right.set_xlim(left.get_xlim())
    right.set_yscale("symlog", linthresh=1e-3)
    right.set_ylim(0, None)
    right.set_xlabel(r"noise, $\sigma^2$")
    right.set_ylabel("droplets per neuron")
    right.set_title("(b)", loc="left", fontsize=10, pad=12)
    figure.legend(
        handles=[*closure_handles(), *start_handles()], loc="outside lower center", ncols=4
    )
    return figure


def _halves(axes: Axes, tables: ModularTables, observable: str) -> None:
    """The mean of the second half of the draws with its error, joined to that of the first."""
    rows = tables.starts[tables.starts["observable"] == observable]
    for start, points in rows.groupby("start"):
        look = {"color": START_COLOURS[str(start)]}
        for point in points.to_dict("records"):
            axes.plot(
                [point["noise"]] * 2, [point["first_half"], point["second_half"]],
                linewidth=0.8, **look,
            )  # fmt: skip
        axes.errorbar(
            points["noise"], points["second_half"], yerr=points["subset_error"],
            linestyle="none", capsize=2, elinewidth=0.8, zorder=4, markerfacecolor="none",
            marker=START_MARKERS[str(start)], **look,
        )  # fmt: skip
