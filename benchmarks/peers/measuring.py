"""Running one sampler of the comparison, and what its draws are worth."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from arviz_stats.base import array_stats
from grokphase.models.teacher_student import Position
from posterior import JUDGED, Problem
from protocol import Candidate

DISCARDED = 0.2
"""Share of every chain that is not used."""

TRUSTED = 20.0
"""Effective samples below which only a bound is stated."""

UNBIASED_PERCENT = 0.5
"""Bias of f.H1 and of mean q^2 that is tolerated, beyond two standard errors."""


def measure(
    problem: Problem,
    candidate: Candidate,
    starts: Sequence[Position],
    seconds: float,
    warmup: int,
    key: jax.Array,
) -> dict[str, Any]:
    """Tune a sampler and run it for `seconds` of sampling time after the part that is discarded.

    `with_variates` holds the observables adjusted for Stein variates, if they were recorded.

    The chains take turns in one process. Sampling is measured in processor time, which neighbours
    on the machine disturb less; tuning and compilation are timed apart.
    """
    tune_key, run_key = jax.random.split(key)
    began = time.perf_counter()
    tuned = candidate.tune(problem, tune_key, starts[0], warmup)
    tuning = time.perf_counter() - began
    began = time.perf_counter()
    states = [tuned.start(position) for position in starts]
    jax.block_until_ready(tuned.advance(run_key, states[0]))
    compilation = time.perf_counter() - began
    blocks: list[list[np.ndarray]] = [[] for _ in starts]
    elapsed: list[float] = []
    acceptance: list[float] = []
    gradients: list[float] = []
    wanted = seconds / (1 - DISCARDED)
    # At least five rounds, so that the halves of every chain can be compared.
    while sum(elapsed) < wanted or len(elapsed) < 5:
        spent = 0.0
        for chain, state in enumerate(states):
            block_key = jax.random.fold_in(jax.random.fold_in(run_key, chain), len(elapsed))
            began = time.process_time()
            states[chain], record = jax.block_until_ready(tuned.advance(block_key, state))
            spent += time.process_time() - began
            blocks[chain].append(tuned.observables(record.drawn))
            acceptance.append(float(record.acceptance))
            gradients.append(float(record.gradients))
        elapsed.append(spent)
    first = int(DISCARDED * len(elapsed))
    draws = np.stack([np.concatenate(chain[first:]) for chain in blocks]).astype(np.float64)
    kept, spent = len(starts) * first, sum(elapsed[first:])
    observed, variates = draws[:, :, : len(JUDGED)], draws[:, :, len(JUDGED) :]
    adjusted = adjusted_for(observed, variates)
    return {
        "library": candidate.library,
        "name": candidate.name,
        "options": tuned.options,
        "tuning_seconds": tuning,
        "compilation_seconds": compilation,
        "seconds": spent,
        "draws": draws.shape[0] * draws.shape[1],
        "acceptance": float(np.mean(acceptance[kept:])),
        "milliseconds_per_gradient": 1e3 * spent / sum(gradients[kept:]),
        "gradients_per_draw": sum(gradients[kept:]) / (draws.shape[0] * draws.shape[1]),
        "observables": {n: summary(observed[:, :, i]) for i, n in enumerate(JUDGED)},
        "with_variates": {
            n: summary(adjusted[:, :, i], observed[:, :, i]) for i, n in enumerate(JUDGED)
        }
        if variates.shape[2]
        else None,
    }


def adjusted_for(observed: np.ndarray, variates: np.ndarray) -> np.ndarray:
    """Draws [chains, draws, 4] less what Stein variates [chains, draws, k] explain of them.

    The coefficients of a chain are fitted on the other chains. Not finite if a draw is not.
    """
    if not np.isfinite(variates).all():
        return np.full_like(observed, np.nan)
    adjusted = observed.copy()
    for chain in range(len(observed)):
        others = np.delete(np.arange(len(observed)), chain)
        fit_on, fit_to = variates[others], observed[others]
        design = np.concatenate([np.ones((*fit_on.shape[:2], 1)), fit_on], axis=2)
        coefficients = np.linalg.lstsq(
            design.reshape(-1, design.shape[2]), fit_to.reshape(-1, fit_to.shape[2]), rcond=None
        )[0]
        adjusted[chain] -= variates[chain] @ coefficients[1:]
    return adjusted


def summary(chains: np.ndarray, plain: np.ndarray | None = None) -> dict[str, Any]:
    """Mean, its error, effective samples and split R-hat of chains [chains, draws].

    Of chains that are adjusted, effective are the independent `plain` draws of the same error.
    Chains that stay apart or do not move have no effective samples to speak of; a draw that is not
    finite leaves none.
    """
    if not np.isfinite(chains).all() or chains.std(axis=1).max() == 0:
        return {"mean": None, "error": None, "effective": 0.0, "r_hat": None}
    effective = float(array_stats.ess(chains, method="mean"))
    if plain is not None:
        effective *= float(plain.var(ddof=1) / chains.var(ddof=1))
    scale = (chains if plain is None else plain).std(ddof=1)
    return {
        "mean": float(chains.mean()),
        "error": float(scale / np.sqrt(effective)),
        "effective": effective,
        "r_hat": float(array_stats.rhat(chains, method="split")),
    }


def variates_alone(one: dict[str, Any]) -> dict[str, Any]:
    """The same run with the observables adjusted for Stein variates."""
    name = f"{one['name']}; Stein variates"
    return one | {"name": name, "observables": one["with_variates"], "with_variates": None}


def judge(one: dict[str, Any], reference: dict[str, Any]) -> None:
    """Add the bias in percent and its standard error, effective samples per second, a verdict.

    Where there are fewer effective samples than can be trusted, the rate is that of the number
    that could be: an upper bound.
    """
    for name, found in one["observables"].items():
        exact = reference["observables"][name]
        if found["mean"] is None:
            found["bias_percent"] = found["bias_error_percent"] = None
        else:
            scale = 100 / abs(exact["mean"])
            found["bias_percent"] = scale * (found["mean"] - exact["mean"])
            found["bias_error_percent"] = scale * float(np.hypot(found["error"], exact["error"]))
        found["bound"] = found["effective"] < TRUSTED
        found["effective_per_second"] = max(found["effective"], TRUSTED) / one["seconds"]
    one["unbiased"] = all(
        one["observables"][name]["bias_percent"] is not None
        and abs(one["observables"][name]["bias_percent"])
        <= UNBIASED_PERCENT + 2 * one["observables"][name]["bias_error_percent"]
        for name in ("linear_overlap", "mean_square_overlap")
    )
    slowest = min(one["observables"].values(), key=lambda found: found["effective_per_second"])
    one["slowest_per_second"] = slowest["effective_per_second"]
    one["slowest_bound"] = any(
        found["bound"] and found["effective_per_second"] <= slowest["effective_per_second"]
        for found in one["observables"].values()
    )


def report_progress(one: dict[str, Any]) -> None:
    """One line on standard error."""
    rates = ", ".join(
        f"{name} {found['effective'] / one['seconds']:.3g}"
        for name, found in one["observables"].items()
    )
    print(
        f"{one['library']} {one['name']} ({one['options']}): tuning {one['tuning_seconds']:.0f} s, "
        f"{one['draws']} draws in {one['seconds']:.0f} s, effective/s {rates}",
        file=sys.stderr,
        flush=True,
    )
