"""Modular addition: input weights of single neurons before and after, and their Fourier power."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.pyplot import subplots
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from grokphase.drawing import ModularTables
from grokphase.figures import style

MODEL = "modular_addition"
STARTS = ("prior",)

MOMENTS = ("start", "end")
OPERANDS = {"first": (style.DISTINCT[0], "w_n"), "second": (style.DISTINCT[1], "v_m")}


def draw(tables: ModularTables) -> Figure:
    """One row per neuron of a network started from the prior; its largest wave drawn beside it."""
    noise = _learning_noise(tables)
    chosen = tables.neurons[
        (tables.neurons["start"] == "prior") & (tables.neurons["noise"] == noise)
    ]
    numbers = sorted(chosen["neuron"].unique())
    figure, grid = subplots(
        len(numbers), 4, figsize=(10.4, 1.75 * len(numbers) + 0.5), squeeze=False,
        width_ratios=(1.3, 1, 1.3, 1), sharex="col",
    )  # fmt: skip
    for row, number in zip(grid, numbers, strict=True):
        neuron = chosen[chosen["neuron"] == number].set_index(["moment", "operand"])["weights"]
        for place, moment in enumerate(MOMENTS):
            waves, powers = row[2 * place], row[2 * place + 1]
            for operand, (colour, symbol) in OPERANDS.items():
                weights = np.asarray(neuron[moment, operand], float)
                _weights(waves, weights, colour, symbol)
                _power(powers, weights, tables, operand)
            powers.axhline(_droplet_power(tables), color="0.4", linestyle=":", linewidth=0.9)
            powers.axhline(1 / tables.parameters.prime, color="0.4", linestyle="--", linewidth=0.9)
            powers.set_yscale("log")
            powers.set_ylim(1e-4, 10 * _droplet_power(tables))
            powers.set_ylabel(r"$|w_k|^2,\ |v_k|^2$")
        row[0].set_ylabel(f"neuron {number + 1}\nweight")
    for axes in grid[-1]:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for place, moment in enumerate(("at the start", "at the end")):
        grid[0, 2 * place].set_title(f"weights {moment}", fontsize=9)
        grid[0, 2 * place + 1].set_title(f"Fourier power {moment}", fontsize=9)
        grid[-1, 2 * place].set_xlabel("operand, $n$ or $m$")
        grid[-1, 2 * place + 1].set_xlabel("frequency, $k$")
    handles, labels = grid[0, 2].get_legend_handles_labels()
    lines = grid[0, 3].get_lines()
    figure.legend(
        handles=[*handles, *lines[-2:]],
        labels=[*labels, r"droplet, $W=\sqrt{3/\gamma}$", "prior mean, $1/P$"],
        loc="outside lower center", ncols=6,
    )  # fmt: skip
    figure.suptitle(
        rf"$P={tables.parameters.prime}$, $\sigma^2={style.number(noise)}$, start from the prior",
        fontsize=9,
    )
    return figure


def _learning_noise(tables: ModularTables) -> float:
    """The noise at which the neurons of prior starts are, on average, most concentrated."""
    rows = tables.starts[
        (tables.starts["observable"] == "participation") & (tables.starts["start"] == "prior")
    ].sort_values("mean")
    return float(rows["noise"].iloc[-1])


def _droplet_power(tables: ModularTables) -> float:
    return float(tables.transitions["power"].iloc[0])


def _weights(axes: Axes, weights: NDArray[np.float64], colour: str, symbol: str) -> None:
    """The weights as points, and the cosine of their strongest mode as a line."""
    prime = weights.size
    modes = np.fft.rfft(weights)
    strongest = 1 + int(np.argmax(np.abs(modes[1:])))
    fine = np.linspace(0, prime - 1, 20 * prime)
    phase = np.exp(2j * np.pi * strongest * fine / prime)
    axes.plot(fine, 2 / prime * (modes[strongest] * phase).real, color=colour, linewidth=0.8,
              label=f"cosine of the strongest mode, ${symbol[0]}$")  # fmt: skip
    axes.plot(range(prime), weights, color=colour, marker="o", markersize=2.5, linestyle="none",
              label=f"${symbol}$")  # fmt: skip


def _power(axes: Axes, weights: NDArray[np.float64], tables: ModularTables, operand: str) -> None:
    colour, _ = OPERANDS[operand]
    power = np.abs(np.fft.rfft(weights) / weights.size)[1:] ** 2
    axes.plot(np.arange(1, power.size + 1), power, color=colour, marker="o", markersize=2.5,
              linewidth=0.8)  # fmt: skip
