"""Modular addition trained on a part of the table: training pairs against held-out ones."""

from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots

from grokphase.drawing import ModularTables
from grokphase.figures import style
from grokphase.figures.modular_network import START_COLOURS, START_NAMES

MODEL = "modular_addition"
VARIES = ("train_fraction",)
STARTS = ("prior", "planted")
SIZES = {"prior": 6.5, "planted": 4.0}
"""Of the markers: where both starts agree, one is seen within the other."""

PAIRS: dict[str, tuple[str, Literal["-", "--"], str]] = {
    "train": ("training pairs", "-", "o"),
    "test": ("held-out pairs", "--", "s"),
}
"""Name, line and marker: a single point has no line that would tell."""


def draw(tables: ModularTables) -> Figure:
    """(a) mean square error and (b) accuracy by share of the table, from both starts."""
    figure, axes = subplots(1, 2, figsize=(8.6, 3.6))
    converged = tables.diagnostics.set_index("train_fraction")["converged"]
    _curves(axes[0], tables.starts, "loss", converged)
    zero = 1 - 1 / tables.parameters.prime
    axes[0].axhline(zero, color=style.DISTINCT[0], linestyle=":", linewidth=0.9)
    axes[0].set_ylabel(r"loss of a pair, $\sum_p(y_p-f_p)^2$")
    axes[0].set_ylim(0, 1.05 * axes[0].get_ylim()[1])
    _curves(axes[1], tables.starts, "accuracy", converged)
    chance = 1 / tables.parameters.prime
    axes[1].axhline(chance, color=style.DISTINCT[0], linestyle=":", linewidth=0.9)
    axes[1].set_ylabel("share of pairs classified correctly")
    axes[1].set_ylim(-0.05, 1.05)
    handles = [
        Line2D([], [], color=START_COLOURS[start], linewidth=3, label=START_NAMES[start])
        for start in STARTS
        if (tables.starts["start"] == start).any()
    ]
    if not converged.all():
        handles.append(style.not_converged_handle())
    handles += [
        Line2D([], [], color="0.3", linestyle=line, marker=marker, label=name)
        for pairs, (name, line, marker) in PAIRS.items()
        if pairs == "train" or (tables.starts["train_fraction"] < 1).any()
    ]
    handles.append(
        Line2D([], [], color=style.DISTINCT[0], linestyle=":", label="no output (a), chance (b)")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    for letter, one in zip("ab", axes, strict=True):
        one.set_xlabel("share of the table trained on")
        one.set_title(f"({letter})", loc="left", fontsize=9)
    noise = tables.starts["noise"].iloc[0]
    figure.suptitle(
        rf"$P={tables.parameters.prime}$, $N={tables.parameters.width}$, "
        rf"$\sigma^2={style.number(noise)}$",
        fontsize=9,
    )
    return figure


def _curves(axes: Axes, rows: pd.DataFrame, quantity: str, converged: pd.Series) -> None:
    for start in STARTS:
        of_start = rows[rows["start"] == start]
        for pairs, (_, line, marker) in PAIRS.items():
            drawn = of_start[of_start["observable"] == f"{pairs}_{quantity}"]
            if pairs == "test":
                # Of the whole table no pair is held out.
                drawn = drawn[drawn["train_fraction"] < 1]
            drawn = drawn.sort_values("train_fraction")
            fraction, colour = drawn["train_fraction"], START_COLOURS[start]
            axes.plot(fraction, drawn["mean"], color=colour, linestyle=line, linewidth=0.9)
            style.converged_points(
                axes, fraction, drawn["mean"], drawn["subset_error"], converged.loc[fraction],
                color=colour, marker=marker, markersize=SIZES[start],
            )  # fmt: skip
