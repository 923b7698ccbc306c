"""Modular addition from both starts, draw by draw: which branch of the theory lasts."""

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots

from grokphase.drawing import ModularTables
from grokphase.figures import style

MODEL = "modular_addition"
STARTS = ("planted", "prior")

LINES: dict[str, Literal["-", ":"]] = {"planted": "-", "prior": ":"}
PANELS = {
    "discrepancy": r"discrepancy, $a$  ($-1$: nothing learned)",
    "mean_power": r"power of a mode, $P\,\langle|w_k|^2\rangle$  (1: prior)",
    "train_accuracy": "share of pairs correct",
}


def draw(tables: ModularTables) -> Figure:
    """(a) the discrepancy, with the theory's droplet branch; (b) the power; (c) the accuracy."""
    noises = sorted(tables.starts["noise"].unique())
    names = style.numbers(noises)
    colours = dict(zip(noises, style.ordered_colours(len(noises)), strict=True))
    figure, row = subplots(1, 3, figsize=(11.4, 3.7))
    for letter, axes, (observable, label) in zip("abc", row, PANELS.items(), strict=True):
        _traces(axes, tables, observable, colours)
        axes.set_xlabel("recorded draw")
        axes.set_ylabel(label)
        axes.set_title(f"({letter})", loc="left", fontsize=9)
    branches_drawn = _droplet_branches(row[0], tables, colours)
    for axes in row[1:]:
        axes.set_yscale("log")
    chance = 1 / tables.parameters.prime
    row[2].axhline(chance, color="0.5", linewidth=0.8, zorder=0)
    row[2].set_ylim(None, 1.2)
    handles = [
        Line2D([], [], color=colour, label=rf"$\sigma^2={names[noise]}$")
        for noise, colour in colours.items()
    ]
    handles += [
        Line2D([], [], color="0.3", linestyle=line, marker="o", markersize=3, label=f"{kind} start")
        for kind, line in LINES.items()
        if (tables.starts["start"] == kind).any()
    ]
    if branches_drawn:
        handles.append(
            Line2D([], [], color="0.3", linestyle="--", linewidth=0.9,
                   label="corrected theory, every mode a droplet (a)")
        )  # fmt: skip
    handles.append(Line2D([], [], color="0.5", linewidth=0.8, label="chance (c)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figure.suptitle(
        rf"$P={tables.parameters.prime}$, $N={tables.parameters.width}$; "
        "mean over networks and its standard error",
        fontsize=9,
    )
    return figure


def _traces(
    axes: Axes, tables: ModularTables, observable: str, colours: dict[float, object]
) -> None:
    # Noises side by side, so that error bars of one draw can be told apart.
    count = len(colours)
    shifts = dict(
        zip(colours, 0.12 * np.arange(1 - count, count, 2) / max(count - 1, 1), strict=True)
    )
    for point in tables.starts.query("observable == @observable").to_dict("records"):
        if point["start"] in LINES:
            draws = np.arange(1, len(point["trace"]) + 1) + shifts[point["noise"]]
            axes.errorbar(
                draws * point["trace_stride"], point["trace"], yerr=point["trace_error"],
                color=colours[point["noise"]], linestyle=LINES[point["start"]], marker="o",
                markersize=3, capsize=1.5, elinewidth=0.8,
            )  # fmt: skip


def _droplet_branches(axes: Axes, tables: ModularTables, colours: dict[float, object]) -> bool:
    """The discrepancy of the corrected theory with every mode a droplet.

    Returns whether the theory has that branch at any of the noises.
    """
    branch = tables.branches.query("closure == 'corrected' and average == 'all_droplets'")
    branch = branch[branch["discrepancy"].notna() & branch["noise"].isin(list(colours))]
    for noise, kept in zip(branch["noise"], branch["discrepancy"], strict=True):
        axes.axhline(kept, color=colours[noise], linestyle="--", linewidth=0.9, zorder=0)
    return len(branch) > 0
