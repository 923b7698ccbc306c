"""What the figures share: fonts, colours, markers, and the marking of points not converged."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

SETTINGS: dict[Any, Any] = {
    "font.size": 9,
    "axes.labelsize": 10,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "mathtext.fontset": "cm",
    "font.family": "serif",
    "font.serif": ["DejaVu Serif"],
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "grokphase",
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
}

DISTINCT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, told apart with every kind of colour vision and in grey."""

OPAQUE: dict[str, Any] = {"frameon": True, "framealpha": 1, "edgecolor": "none"}
"""Options of a legend that hides the lines behind it."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def ordered_colours(count: int) -> list[Any]:
    """Colours for an ordered quantity, dark to light, each readable on white."""
    scale = mpl.colormaps["viridis"]
    return [scale(0.88 * i / max(count - 1, 1)) for i in range(count)]


def looks(count: int) -> list[tuple[Any, str]]:
    """A colour and a marker for each of several series, no two alike among the first 49."""
    one_each, sizes = len(DISTINCT), len(MARKERS)
    return [(DISTINCT[i % one_each], MARKERS[(i + i // one_each) % sizes]) for i in range(count)]


def metadata(kind: str) -> dict[str, None]:
    """Metadata without a date, so that equal figures are equal files."""
    return {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind, {})


def error_points(
    axes: Axes,
    x: ArrayLike,
    y: ArrayLike,
    error: ArrayLike,
    converged: bool,
    **style: Any,
) -> None:
    """Points with error bars; open markers where the networks are not converged."""
    face: dict[str, Any] = {} if converged else {"markerfacecolor": "white"}
    axes.errorbar(x, y, yerr=error, linestyle="none", capsize=1.5, elinewidth=0.8, **face, **style)


def converged_points(
    axes: Axes, x: ArrayLike, y: ArrayLike, error: ArrayLike, converged: ArrayLike, **style: Any
) -> None:
    """`error_points` of which every one is converged or not; all arguments [points]."""
    for state in (False, True):
        rows = np.asarray(converged) == state
        places, values, errors = (np.asarray(of)[rows] for of in (x, y, error))
        error_points(axes, places, values, errors, state, **style)


def not_converged_handle() -> Line2D:
    """Legend entry of the open markers."""
    return Line2D(
        [], [], linestyle="none", marker="o", color="0.3", markerfacecolor="white",
        label="open: not converged",
    )  # fmt: skip
