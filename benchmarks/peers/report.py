"""The comparison as Markdown."""

import math
from typing import Any

TITLES = {
    "linear_overlap": "f·H1",
    "cubic_overlap": "f·H3",
    "mean_square_overlap": "mean q²",
    "droplet_fraction": "droplets",
}


def markdown(known: dict[str, dict[str, Any]]) -> str:
    """A table for every posterior: {its name: what `run.compare` returns}."""
    parts = [
        "# Samplers side by side",
        "",
        "Written by `benchmarks/peers/run.py`. Each cell: bias in percent ± standard error "
        "(effective samples per second). `frozen`: the chains did not move, or left the finite "
        "numbers. ≤ : fewer than 20 effective samples, so the rate of 20 is a bound. "
        "“Ours/this” compares the slowest observable of each with that of the fastest unbiased "
        "sampler of this project, as the pipeline uses its draws, and in brackets of its plain "
        "draws. “Stein variates”: the row above with its draws adjusted for these "
        "(`stein_variates` of the model), effective being the plain draws of the same error. The "
        "pipeline does so, with coefficients fitted on other datasets, here on other chains; any "
        "sampler that keeps its gradient could, and the table has it of the fastest. BIASED: f·H1 "
        "or mean q² is off by more than 0.5 % beyond two standard errors.",
    ]
    for name, found in known.items():
        parts += ["", f"## {name}", "", *section(found)]
    return "\n".join(parts) + "\n"


def section(found: dict[str, Any]) -> list[str]:
    """Header, reference and table of one noise."""
    sizes = found["parameters"]
    times = found["gradient_milliseconds"]
    lines = [
        f"N={sizes['width']}, n={sizes['train_size']}, d={sizes['input_dim']}, "
        f"ε={sizes['cubic_strength']:g}; four chains on one thread, {found['seconds']:g} s of "
        "sampling each (the reference 6, the first row 4, isotropic Langevin of this project 30, "
        "with half the step 10, Langevin in PyTorch 2, and in original coordinates 4 times that), "
        f"{found['warmup']} steps of warm-up. {chosen(found)}"
        f"{found['machine']}; {found['versions']}; {found['date']}.",
        "",
        f"Log density with gradient: {times['plain']:.3g} ms as JAX derives it, "
        f"{times['fused']:.3g} ms with this project's; BlackJAX and NumPyro use the "
        f"{found['gradient']} one, PyTorch its own.",
        "",
        f"Reference: {found['reference']['name']} ({found['reference']['options']}), "
        f"{found['reference']['draws']} draws: {values(found['reference'])}.",
        "",
        "| library | sampler | options | tuning s | acceptance | gradients per draw | "
        "ms per gradient | " + " | ".join(TITLES.values()) + " | R-hat | slowest/s | ours/this |",
        "|---" * (10 + len(TITLES)) + "|",
    ]
    ours = [r for r in found["results"] if r["library"] == "this project" and r["unbiased"]]
    rates = [
        max((r["slowest_per_second"] for r in chosen), default=math.nan)
        for chosen in (ours, [r for r in ours if r.get("with_variates")])
    ]
    return lines + [row(one, *rates) for one in found["results"]]


def chosen(found: dict[str, Any]) -> str:
    """Which samplers were to run, and whether all did."""
    text = f"Only samplers with {found['only']!r} in their names. " if found["only"] else ""
    return text if found["complete"] else f"{text}Ended before all had run. "


def values(one: dict[str, Any]) -> str:
    """Means with standard errors."""
    return ", ".join(
        f"{TITLES[name]} {o['mean']:.4g} ± {o['error']:.1g} ({o['effective']:.0f} effective)"
        if o["mean"] is not None
        else f"{TITLES[name]} frozen"
        for name, o in one["observables"].items()
    )


def row(one: dict[str, Any], ours: float, plain: float) -> str:
    """One sampler, beside the rates of the fastest of this project with variates and without."""
    ratio = " (".join(f"{rate / one['slowest_per_second']:.3g}" for rate in (ours, plain))
    r_hats = [o["r_hat"] for o in one["observables"].values()]
    return (
        f"| {one['library']} | {one['name']}{'' if one['unbiased'] else ' BIASED'} | "
        f"{one['options']} | {one['tuning_seconds']:.0f} | {one['acceptance']:.2f} | "
        f"{one['gradients_per_draw']:.3g} | {one['milliseconds_per_gradient']:.2g} | "
        + " | ".join(cell(o) for o in one["observables"].values())
        + f" | {'' if None in r_hats else f'{max(r_hats):.2f}'} | "
        f"{'≤ ' * one['slowest_bound']}{one['slowest_per_second']:.3g} | "
        f"{'≥ ' * one['slowest_bound']}{ratio}) |"
    )


def cell(found: dict[str, Any]) -> str:
    """Bias and rate of one observable."""
    if found["mean"] is None:
        return "frozen"
    return (
        f"{found['bias_percent']:+.2f} ± {found['bias_error_percent']:.2f} "
        f"({'≤ ' * found['bound']}{found['effective_per_second']:.3g})"
    )
