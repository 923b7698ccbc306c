"""What the figures share: fonts, colours, markers, numbers, and marks of points not converged."""

import math
from collections.abc import Iterable
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

FRAMED: dict[str, Any] = {"frameon": True, "framealpha": 0.75, "edgecolor": "none"}
"""Options of a legend that is readable over lines it cannot avoid, and leaves them visible."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def ordered_colours(count: int) -> list[Any]:
    """Colours for an ordered quantity, dark to light, each readable on white."""
    scale = mpl.colormaps["viridis"]
    return [scale(0.88 * i / max(count - 1, 1)) for i in range(count)]


def looks(count: int) -> list[tuple[Any, str]]:
    """A colour and a marker for each of several series, no two alike among the first 49."""
    one_each, sizes = len(DISTINCT), len(MARKERS)
    return [(DISTINCT[i % one_each], MARKERS[(i + i // one_each) % sizes]) for i in range(count)]


def number(value: float, digits: int = 6) -> str:
    r"""TeX of a number to `digits` significant digits: 0.24, 1300, 9\times10^{-5}."""
    if not math.isfinite(value):
        return str(value)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if -4 < int(exponent) < 5:
        places = max(digits - 1 - int(exponent), 0)
        return _shortest(f"{float(f'{mantissa}e{exponent}'):.{places}f}")
    power = rf"10^{{{int(exponent)}}}"
    mantissa = _shortest(mantissa)
    return power if mantissa == "1" else rf"{mantissa}\times{power}"


def _shortest(decimal: str) -> str:
    return decimal.rstrip("0").rstrip(".") if "." in decimal else decimal


def numbers(values: Iterable[float], digits: int = 6) -> dict[float, str]:
    """`number` of each value, with more digits if two that differ would look alike."""
    values = list(dict.fromkeys(values))
    for more in range(digits, 18):
        labels = {value: number(value, more) for value in values}
        if len(set(labels.values())) == len(values):
            break
    return labels


def limit_to_range(axes: Axes, lowest: float, highest: float) -> None:
    """Limit the x axis to a range and as much more as markers at its ends need."""
    margin = 0.02 * (highest - lowest)
    axes.set_xlim(lowest - margin, highest + margin)


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
