"""Eigenvalues of the kernel Q of modular addition: three levels before the transition."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots

from grokphase.drawing import ModularTables
from grokphase.figures import style
from grokphase.parameters import is_prime

MODEL = "modular_addition"
VARIES = ("noise", "prime")

LEVELS = ("(0,0)", "(0,k), (k,0)", "(k,k'), both non-zero")

HALF_BAR = 0.32
"""Half the width of a level's bar; the distance of two moduli is 1."""


def draw(tables: ModularTables) -> Figure:
    """Left: levels of the prior kernel; right: target modes of a kernel of droplets."""
    figure, (left, right) = subplots(1, 2, figsize=(8.6, 4.3), width_ratios=(1, 1.15))
    _levels(left, tables)
    _target_modes(right, tables)
    return figure


def _levels(axes: Axes, tables: ModularTables) -> None:
    prior = tables.spectrum.query("kernel == 'prior'")
    primes = [int(p) for p in sorted(prior["prime"].unique())]
    exact = prior[prior["method"] == "closed_form"].sort_values(["prime", "eigenvalue"])
    for number in range(len(LEVELS)):
        rows = exact.groupby("prime").nth(number)
        axes.hlines(
            rows["eigenvalue"], np.arange(len(rows)) - HALF_BAR, np.arange(len(rows)) + HALF_BAR,
            color=style.DISTINCT[number], linewidth=1.6,
        )  # fmt: skip
        for place, row in enumerate(rows.itertuples()):
            axes.annotate(
                f"×{row.multiplicity}",
                (place + HALF_BAR, row.eigenvalue),
                xytext=(0, 2),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=7,
            )
    for place, prime in enumerate(primes):
        found = prior[(prior["method"] == "diagonalised") & (prior["prime"] == prime)]
        for number, value in enumerate(sorted(found["eigenvalue"])):
            axes.plot(
                place, value, color=style.DISTINCT[number], marker=style.MARKERS[number],
                linestyle="none",
            )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(exact["eigenvalue"].min() / 2, 2 * exact["eigenvalue"].max())
    axes.set_xlim(-0.6, len(primes) - 0.4)
    axes.set_xticks(range(len(primes)), [str(p) for p in primes])
    axes.set_xlabel("modulus, $P$")
    axes.set_ylabel(r"eigenvalue of $Q/\sigma_a^2$")
    diagonalised = (prior["method"] == "diagonalised").any()
    handles = [
        Line2D([], [], color=style.DISTINCT[number], linewidth=1.6, label=name,
               marker=style.MARKERS[number] if diagonalised else "")
        for number, name in enumerate(reversed(LEVELS))
    ][::-1]  # fmt: skip
    handles.append(Line2D([], [], color="0.3", linewidth=1.6, label="bar: closed form"))
    if diagonalised:
        handles.append(
            Line2D([], [], color="0.3", linestyle="none", marker="o", label="marker: diagonalised")
        )
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2,
                title="modes (multiplicity ×)", title_fontsize=8)  # fmt: skip
    axes.set_title("(a)  before the transition", loc="left", fontsize=10)


def _target_modes(axes: Axes, tables: ModularTables) -> None:
    droplets = tables.spectrum.query("kernel == 'droplets'")
    primes = [int(p) for p in sorted(droplets["prime"].unique())]
    looks = style.looks(len(primes))
    for number, (prime, (colour, marker)) in enumerate(zip(primes, looks, strict=True)):
        rows = droplets[droplets["prime"] == prime]
        kind = "prime" if is_prime(prime) else "composite"
        scaled = rows["eigenvalue"] / rows["eigenvalue"].mean()
        axes.plot(
            rows["mode"] / prime,
            scaled + number,
            color=colour,
            marker=marker,
            linewidth=0.6,
            label=f"$P={prime}$, {kind}",
        )
    axes.set_xlabel("frequency, $k/P$")
    axes.set_ylabel("eigenvalue on $(k,k)$ / mean, shifted")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), reverse=True)
    axes.set_title("(b)  droplets, averaged over symmetries", loc="left", fontsize=10)
