"""Preprint figure 1: the action -log p(q) of the overlap, through GFL into GMFL-I."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots

from grokphase.drawing import Tables
from grokphase.figures import style

MODEL = "teacher_student"

LEAST_SHARE = 0.25
"""Bins that rest on fewer of the networks than this, as an effective number, are not drawn: their
error bars mean nothing."""

DEPTH = 18.0
"""Nats above the lowest point up to which the action is drawn."""

MARGIN = 0.5
"""Nats between what is drawn and the ends of the axis."""

LONGEST_ERROR = 1.0
"""Nats of an error bar that the axis makes room for."""


def draw(tables: Tables) -> Figure:
    """Theory as lines, networks as points with error bars, one colour per noise."""
    noises = sorted(tables.histogram["noise"].unique())
    strength = tables.histogram["cubic_strength"].iloc[0]
    names = style.numbers(noises, 12)
    colours = dict(zip(noises, style.ordered_colours(len(noises)), strict=True))
    converged = tables.diagnostics.set_index("noise")["converged"]
    transitions = tables.transitions.set_index("transition")
    limit = transitions["noise"]["limit"]
    boundary, last = (
        math.inf if transitions["result"][end] == "already_reached" else transitions["noise"][end]
        for end in ("gfl_end", "mixed_end")
    )

    figure, axes = subplots(figsize=(6.6, 4.4))
    most = tables.histogram.groupby("noise")["networks"].transform("max")
    known = tables.histogram[tables.histogram["networks"] >= LEAST_SHARE * most]
    highest = pd.concat([tables.densities["binned_action"], known["action"]]).min() + DEPTH
    shown = known[known["action"] < highest]
    for noise in noises:
        points = shown.query("noise == @noise")
        line = tables.densities.query("noise == @noise")
        axes.plot(line["overlap"], line["binned_action"], color=colours[noise], zorder=2)
        style.error_points(
            axes,
            (points["bin_left"] + points["bin_right"]) / 2,
            points["action"],
            points["action_error"],
            bool(converged[noise]),
            color=colours[noise],
            marker="o",
            markersize=2.6,
            zorder=3,
        )
    axes.set_xlabel(r"overlap with the teacher, $q = w\cdot w^{*}$")
    axes.set_ylabel(r"action, $-\log\, p(q)$  (nats)")
    reach = 0.1 + _reach(shown, tables.densities, highest)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(*_heights(shown, tables.densities, reach, highest))

    handles = []
    for title, group in (
        ("GFL", [noise for noise in noises if not noise < boundary]),
        ("GMFL-I", [noise for noise in noises if noise < boundary and not noise < last]),
        ("GMFL-II", [noise for noise in noises if noise < last]),
    ):
        if group:
            handles.append(Line2D([], [], linestyle="none", label=title))
        handles += [
            Line2D([], [], color=colours[n], marker="o", label=rf"$\sigma^2 = {names[n]}$")
            for n in reversed(group)
        ]
        if title == "GFL" and math.isfinite(boundary):
            appears = transitions["result"]["gfl_end"] == "discontinuous"
            name = r"side minimum, $\sigma^2 <$" if appears else r"transition, $\sigma^2 =$"
            label = rf"— {name} ${style.number(boundary, 3)}$ —"
            handles.append(Line2D([], [], linestyle="none", label=label))
    if not converged.all():
        handles.append(style.not_converged_handle())
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
    of_limit = rf"; $\beta\to\infty$: $\sigma^2_c = {style.number(limit, 3)}$"
    axes.set_title(
        rf"$\epsilon = {style.number(strength)}$; lines: theory"
        + (", points: sampled networks" if len(shown) else "")
        + (of_limit if math.isfinite(limit) else ""),
        fontsize=9,
    )
    return figure


def _reach(shown: pd.DataFrame, densities: pd.DataFrame, highest: float) -> float:
    """Largest overlap with a point or, where there are none, with theory below `highest`."""
    if len(shown):
        return float(shown["bin_right"].max())
    return float(densities["overlap"][densities["binned_action"] < highest].abs().max())


def _heights(
    shown: pd.DataFrame, densities: pd.DataFrame, reach: float, highest: float
) -> tuple[float, float]:
    """Ends of the action's axis: those of the curves within `reach` and of the points."""
    theory = densities["binned_action"][densities["overlap"].abs() <= reach]
    error = shown["action_error"].fillna(0.0).clip(upper=LONGEST_ERROR)
    drawn = pd.concat([theory, shown["action"] - error, shown["action"] + error])
    drawn = drawn[np.isfinite(drawn)]
    return drawn.min() - MARGIN, min(drawn.max() + MARGIN, highest)
