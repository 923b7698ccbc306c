"""Preprint figure 2: linear and cubic components of the network's output against the noise."""

from typing import Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots

from grokphase.drawing import Tables
from grokphase.figures import style

MODEL = "teacher_student"
VARIES = ("noise", "cubic_strength")

PANELS = (
    ("linear_overlap", r"linear component, $f\cdot H_1$"),
    ("cubic_overlap", r"cubic component, $f\cdot H_3$"),
)

TRANSITIONS: dict[str, tuple[Literal["-", "-."], str]] = {
    "continuous": ("-", "transition"),
    "discontinuous": ("-.", "side minimum appears"),
}
"""Line and name of a transition: the side mass crosses the threshold, or starts above it."""


def draw(tables: Tables) -> Figure:
    """Theory as lines, networks as points with error bars, one colour per cubic strength."""
    strengths = sorted(tables.outputs["cubic_strength"].unique(), reverse=True)
    looks = dict(zip(strengths, style.looks(len(strengths)), strict=True))
    converged = tables.diagnostics.set_index(["noise", "cubic_strength"])["converged"]
    theory = tables.branches.query("closure == 'quadrature' and selected")
    boundary = tables.transitions.query("transition == 'gfl_end'").set_index("cubic_strength")
    names = style.numbers(strengths)
    lowest, highest = theory["noise"].min(), theory["noise"].max()

    figure, row = subplots(1, 2, figsize=(7.6, 3.5))
    for axes, (observable, label) in zip(row, PANELS, strict=True):
        for strength, (colour, marker) in looks.items():
            curve = theory.query("cubic_strength == @strength")
            axes.plot(curve["noise"], curve[observable], color=colour)
            where = "observable == @observable and cubic_strength == @strength"
            for point in tables.outputs.query(where).to_dict("records"):
                style.error_points(
                    axes,
                    [point["noise"]],
                    [point["mean"]],
                    [point["subset_error"]],
                    bool(converged[point["noise"], strength]),
                    color=colour,
                    marker=marker,
                )
            transition = boundary["noise"].get(strength, float("nan"))
            if lowest <= transition <= highest:
                line, _ = TRANSITIONS[boundary["result"][strength]]
                axes.axvline(transition, color=colour, linewidth=0.9, linestyle=line, zorder=0)
            gaussian = tables.baseline.query("cubic_strength == @strength")
            if len(gaussian):
                mean = gaussian.groupby("noise")[observable].mean()
                axes.plot(mean.index, mean, color=colour, linestyle=":", linewidth=1.0)
        axes.set_xlabel(r"noise, $\sigma^2$")
        axes.set_ylabel(label)
        style.limit_to_range(axes, lowest, highest)
    row[0].axhline(1.0, color="black", linestyle="--", linewidth=0.9)

    handles = [
        Line2D([], [], color=colour, marker=marker, label=rf"$\epsilon = {names[strength]}$")
        for strength, (colour, marker) in looks.items()
    ]
    handles += [
        Line2D([], [], color="0.3", label="theory"),
        Line2D([], [], color="0.3", marker="o", linestyle="none", label="networks"),
    ]
    if len(tables.baseline):
        handles.append(Line2D([], [], color="0.3", linestyle=":", label="Gaussian process"))
    drawn = boundary[boundary["noise"].between(lowest, highest)]["result"].unique()
    for result, (line, name) in TRANSITIONS.items():
        if result in drawn:
            handles.append(Line2D([], [], color="0.3", linewidth=0.9, linestyle=line, label=name))
    handles.append(Line2D([], [], color="black", linestyle="--", label="target, $f\\cdot H_1=1$"))
    if not converged.all():
        handles.append(style.not_converged_handle())
    figure.legend(handles=handles, loc="outside right center")
    return figure
