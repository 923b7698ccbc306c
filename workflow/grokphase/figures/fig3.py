"""Preprint figure 3: modular addition, the mode action through the transition, and a(noise)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots

from grokphase.drawing import ModularTables
from grokphase.figures import style

MODEL = "modular_addition"

DEEPEST = 9.0
"""Barriers below zero up to which the action is drawn; deeper minima are in the legend."""

CLOSURE_WIDTHS = {"corrected": 3.0, "as_published": 1.2}
AVERAGE_MARKERS = {"limit": "o", "two_point": "x"}
AVERAGE_NAMES = {"limit": r"$P\to\infty$, closed form", "two_point": "two-point average"}
CLOSURE_COLOURS = {"as_published": style.DISTINCT[0], "corrected": style.DISTINCT[1]}
CLOSURE_NAMES = {
    "as_published": r"as published, $\lambda=\sigma_a^2\langle AB\rangle$",
    "corrected": r"corrected, $\lambda=4P^2\sigma_a^2\langle AB\rangle$",
}


def draw(tables: ModularTables) -> Figure:
    """Left: S along A = B, closure as published; right: a(noise) of both closures."""
    figure, (left, right) = subplots(1, 2, figsize=(9.6, 3.9), width_ratios=(1.15, 1))
    _actions(left, tables)
    discrepancies(right, tables)
    right.legend(handles=closure_handles(), loc="best", **style.FRAMED)
    right.set_title("(b)", loc="left", fontsize=10, pad=12)
    # Where the curves leave no room.
    figure.supxlabel(_droplets(tables), x=0.985, ha="right", fontsize=7)
    return figure


def _droplets(tables: ModularTables) -> str:
    """How many droplets the corrected closure expects, at most."""
    corrected = tables.branches.query("closure == 'corrected' and average == 'quadrature'")
    most = corrected["droplets_per_frequency"].max()
    width = tables.parameters.width
    number = "fewer than 0.001" if most < 1e-3 else f"at most ${style.number(most, 3)}$"
    text = f"(b) corrected closure: {number} droplets per frequency among {width} neurons"
    return text + ("; mean field cannot hold" if most < 1 else "")


def _actions(axes: Axes, tables: ModularTables) -> None:
    """S_k(A, A) of every noise; where the side minimum is narrow, once more in an inset."""
    landscapes = tables.landscapes.query("closure == 'as_published'")
    boundary = tables.transitions.query("closure == 'as_published' and average == 'limit'").iloc[0]
    noises = sorted(landscapes["noise"].unique(), reverse=True)
    names = style.numbers(noises)
    side = np.sqrt(boundary["power"])
    # At the barrier, A = W_- = W/3, the action of the mixed phase is 4/27 of P W.
    barrier = tables.parameters.prime * boundary["power"] * 4 / 27
    wells = tables.branches.query("closure == 'as_published' and average == 'two_point'")
    wells = wells[wells["noise"].isin(noises)].dropna(subset="side_action").set_index("noise")
    bottom = -barrier * min(max(4.5, -1.1 * wells["side_action"].min() / barrier), DEEPEST)
    # Within this share of the side minimum the action rises by some 30 nats at every size.
    reach = 2.6 / np.sqrt(tables.parameters.prime * boundary["power"])
    panels = [axes, axes.inset_axes((0.09, 0.07, 0.5, 0.34))] if reach < 0.1 else [axes]
    colours = dict(zip(noises, style.ordered_colours(len(noises)), strict=True))
    for noise, colour in colours.items():
        curve = landscapes.query("noise == @noise")
        for where in panels:
            where.plot(curve["root_power"], curve["action"], color=colour)
        start, end = boundary["noise_start"], boundary["noise_end"]
        phase = "GFL" if noise >= start else "GMFL-II" if noise < end else "GMFL-I"
        name = rf"$\sigma^2={names[noise]}$, {phase}"
        if noise in wells.index and wells["side_action"][noise] < bottom:
            name += f", minimum ${style.number(wells['side_action'][noise], 3)}$"
        axes.plot([], [], color=colour, label=name)
    farthest = max(1.35 * side, 1.1 * np.sqrt(wells["side_power"].max()))
    right = min(farthest, landscapes["root_power"].max())
    axes.set_xlim(0, right)
    # Room for the legend above the left part of the curves; it is wider where it names minima.
    share = min(0.05 * len(noises) + 0.06, 0.6)
    beneath = barrier * (1.7 if wells["side_action"].min() < bottom else 1.0)
    axes.set_ylim(bottom, max(5.2 * barrier, (beneath - share * bottom) / (1 - share)))
    for where in panels:
        where.axhline(0, color="0.6", linewidth=0.6, zorder=0)
    for inset in panels[1:]:
        inset.set_xlim((1 - reach) * side, (1 + reach) * side)
        inset.set_ylim(-6, 12)
        inset.tick_params(labelsize=7)
        axes.indicate_inset_zoom(inset, edgecolor="0.4")
    axes.set_xlabel(r"root power of a mode along $A=B$, $\sqrt{A}=|w_k|$")
    axes.set_ylabel(r"action, $S_k(A,A)$  (nats)")
    axes.legend(loc="upper left", fontsize=7)
    axes.set_title("(a)  closure as published, two-point average", loc="left", fontsize=10, pad=12)


def discrepancies(axes: Axes, tables: ModularTables) -> None:
    """a(noise) of both closures and all averages, with the limit's boundaries."""
    curves = dict(iter(tables.branches.groupby(["closure", "average"])))
    for closure, width in CLOSURE_WIDTHS.items():
        colour = CLOSURE_COLOURS[closure]
        exact = curves[closure, "quadrature"]
        axes.plot(exact["noise"], exact["discrepancy"], color=colour, linewidth=width)
        for number, (average, marker) in enumerate(AVERAGE_MARKERS.items()):
            curve = curves[closure, average].iloc[4 * number :: 9]
            axes.plot(
                curve["noise"],
                curve["discrepancy"],
                color=colour,
                linestyle="none",
                marker=marker,
                markerfacecolor="none",
                markersize=5,
            )
    lowest, highest = tables.branches["noise"].min(), tables.branches["noise"].max()
    limits = tables.transitions.query("average == 'limit'").set_index("closure")
    lines = [(limits["noise_start"].iloc[0], "0.35", r"$\sigma_I^2$")]
    lines += [
        (limits["noise_end"][closure], colour, r"$\sigma_{II}^2$")
        for closure, colour in CLOSURE_COLOURS.items()
    ]
    # Labels that would run into one another, or into the title on the left, stand on other lines.
    taken: list[list[float]] = [[-0.1], [-0.1], [], [], []]
    for number, (noise, colour, name) in enumerate(lines):
        # Where the mixed phase is too narrow to be seen, its end is not drawn over its start.
        is_start = number == 0
        if lowest <= noise <= highest and (
            is_start or abs(noise - lines[0][0]) > 0.02 * (highest - lowest)
        ):
            axes.axvline(noise, color=colour, linewidth=0.8, zorder=0)
            place = (noise - lowest) / (highest - lowest)
            level, line = next(
                (i, line)
                for i, line in enumerate(taken)
                if all(abs(place - other) > 0.24 for other in line)
            )
            line.append(place)
            axes.annotate(
                f"{name}$={style.number(noise, 4)}$",
                (noise, 1.01 + 0.05 * level),
                xycoords=("data", "axes fraction"),
                ha="center",
                fontsize=7,
                color=colour,
            )
    style.limit_to_range(axes, lowest, highest)
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
    axes.set_xlabel(r"noise, $\sigma^2$")
    axes.set_ylabel(r"discrepancy, $a$  ($-1$: nothing learned)")


def closure_handles() -> list[Line2D]:
    """Legend of `discrepancies`."""
    handles = [
        Line2D([], [], color=CLOSURE_COLOURS[closure], linewidth=width, label=name)
        for closure, name in CLOSURE_NAMES.items()
        for width in [CLOSURE_WIDTHS[closure]]
    ]
    handles.append(Line2D([], [], color="0.3", label="exact quadrature"))
    return handles + [
        Line2D([], [], color="0.3", linestyle="none", marker=marker, markerfacecolor="none",
               markersize=5, label=AVERAGE_NAMES[average])
        for average, marker in AVERAGE_MARKERS.items()
    ]  # fmt: skip
