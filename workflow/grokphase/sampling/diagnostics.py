"""Convergence diagnostics of an ensemble, on observables invariant under the network's symmetries.

Each dataset has a posterior of its own, so a network is compared with the others of its dataset:
the diagnostics are those of the deviations from the dataset's mean.

nested R-hat compares groups of networks by kind of start (prior, planted) and is blind neither to
metastability nor to a burn-in that is too short; with one kind of start it compares nothing, and
plain R-hat over the networks takes its place. With m networks of each kind its square exceeds 1 by
chance by about chi^2/m, so it is read together with the difference between the kinds of start in
standard errors, which come from the differences within datasets. Plain R-hat over many short
chains measures mainly how far one chain has mixed, which the average over the ensemble does not
need. Of long chains, what `chains` keeps is diagnosed.

R-hat and the effective numbers of draws are those of ranks, whatever the tails. Of an observable of
few values, such as the droplets of a small network, ranks within a dataset say which network a draw
is of, not how large it is: there both are those of the values themselves.

Starts that agree may still move together, as from states that both have too many droplets; this
shows as a drift between the halves of the draws, as far as the draws' own fluctuations let it.

Sources: Vehtari, Gelman, Simpson, Carpenter and Buerkner, Bayesian Analysis 16, 667 (2021);
Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari and Gelman, Bayesian Analysis 20 (2025).
"""

from typing import Any, NamedTuple

import numpy as np
from arviz_stats.base import array_stats
from numpy.typing import NDArray
from scipy import stats

from grokphase.sampling.chains import Chains
from grokphase.specifications.convergence import FEWEST_DRAWS, FEWEST_DRAWS_OF_A_CHAIN


class Diagnostics(NamedTuple):
    """Diagnostics of one observable.

    rhat, nested_rhat : 1 at convergence.
    start_difference : mean of planted less mean of prior starts, in its standard errors over
        datasets; nan with fewer than three datasets that have both.
    drift : mean of the second less mean of the first half of the draws, in its standard errors over
        networks of the same kind of start; nan with one network of every kind.
        Both as the normal deviate of the same probability: with few datasets or networks Student's
        t is larger by chance.
    ess_bulk, ess_tail : effective number of draws of the whole ensemble.
    mcse : Monte Carlo standard error of the mean, in the observable's unit; the spread between
        datasets is not part of it.
    adjusted_start_difference : start_difference of means adjusted for Stein variates; nan where
        there are none. grokphase.convergence computes it.
    """

    rhat: float
    nested_rhat: float
    start_difference: float
    drift: float
    ess_bulk: float
    ess_tail: float
    mcse: float
    adjusted_start_difference: float = float("nan")


TAILS = (0.05, 0.95)
"""Quantiles whose effective numbers of draws are those of the tails."""


def diagnose(chains: Chains, datasets: NDArray[np.integer], starts: list[str]) -> Diagnostics:
    """Diagnostics of one observable.

    datasets [networks] and starts [networks] say what each network is. Needs at least four draws
    per network; fewer give nan. The effective numbers of draws are those of the thinned chains, at
    most those of all draws; the Monte Carlo error is that of the mean over all draws. With fewer
    draws than FEWEST_DRAWS_OF_A_CHAIN both come from the spread between the networks of a dataset,
    and are nan where each has only one.
    """
    draws = chains.thinned
    networks, length = draws.shape
    if length < FEWEST_DRAWS or networks < 2:
        return Diagnostics(*[float("nan")] * len(Diagnostics._fields))
    deviations = _about_dataset_means(draws, datasets)
    if np.ptp(deviations) == 0:
        # For example no droplet in any network: equal everywhere, hence converged.
        size = float(draws.size)
        return Diagnostics(1.0, 1.0, 0.0, 0.0, size, size, 0.0)
    kinds = sorted(set(starts))
    method = "split" if _has_few_values(draws) else "rank"
    # Of chains that do not move it is infinite, which is no cause for a warning.
    with np.errstate(divide="ignore"):
        rhat = float(array_stats.rhat(deviations, method=method))
    bulk, tail, mcse = float("nan"), float("nan"), float("nan")
    if length >= FEWEST_DRAWS_OF_A_CHAIN or len(np.unique(datasets)) < networks:
        bulk = _effective_size(deviations, "bulk" if method == "rank" else "mean")
        if method == "rank":
            below = [deviations <= x for x in np.quantile(deviations, TAILS)]
        else:
            of_draws = [draws <= x for x in np.quantile(draws, TAILS)]
            below = [_about_dataset_means(x.astype(float), datasets) for x in of_draws]
        tail = min(_effective_size(x.astype(float), "mean") for x in below)
        mcse = _error_of_mean(deviations, _about_dataset_means(chains.batch_means, datasets))
    return Diagnostics(
        rhat=rhat,
        nested_rhat=_nested_rhat(
            deviations,
            draws - _dataset_means(draws, datasets),
            np.array([kinds.index(s) for s in starts]),
            rhat,
            method,
        ),
        start_difference=start_difference(chains.mean, datasets, np.array(starts)),
        drift=_drift(chains.half_means, np.array(starts)),
        ess_bulk=bulk,
        ess_tail=tail,
        mcse=mcse,
    )


def _has_few_values(draws: NDArray[np.float64]) -> bool:
    """Whether most draws [networks, draws] have a value that another network has too."""
    values = np.unique(draws, return_inverse=True)[1].reshape(draws.shape)
    networks = np.zeros(values.max() + 1, int)
    for row in values:
        networks[np.unique(row)] += 1
    return bool((networks[values] > 1).mean() > 0.5)


def _effective_size(draws: NDArray[np.float64], method: str) -> float:
    """Effective number of draws [networks, draws], of long chains by arviz's `method`."""
    if np.ptp(draws) == 0:
        return float(draws.size)
    if draws.shape[1] < FEWEST_DRAWS_OF_A_CHAIN:
        return _ess_between_networks(draws)
    return float(array_stats.ess(draws, method=method))


def _error_of_mean(deviations: NDArray[np.float64], batch_deviations: NDArray[np.float64]) -> float:
    """Monte Carlo standard error of the mean of all draws."""
    networks, length = deviations.shape
    if length >= FEWEST_DRAWS_OF_A_CHAIN:
        return float(array_stats.mcse(batch_deviations, method="mean"))
    return float(deviations.mean(axis=1).std(ddof=1) / np.sqrt(networks))


def _ess_between_networks(draws: NDArray[np.float64]) -> float:
    """Effective number of draws [networks, draws] from the spread of the networks' means.

    The variance of a draw over that of the mean of all, between the number of networks, which are
    independent, and that of draws. It holds for any number of draws of a network, but is as
    uncertain as the spread that it rests on, by sqrt(2/networks).
    """
    networks, length = draws.shape
    of_means = draws.mean(axis=1).var(ddof=1)
    within = draws.var(axis=1, ddof=1).mean() * (length - 1) / length
    return float(min(networks * (1 + within / of_means), draws.size) if of_means else draws.size)


def _dataset_means(
    draws: NDArray[np.float64], datasets: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Mean of the draws of every network's dataset, [networks, 1]."""
    return np.array([[draws[datasets == dataset].mean()] for dataset in datasets])


def _about_dataset_means(
    draws: NDArray[np.float64], datasets: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Draws less their dataset's mean, the networks' means stretched by sqrt(m/(m-1)).

    Subtracting the mean of m networks shrinks the variance between them by (m-1)/m; the stretch
    restores it. A dataset with one network cannot be compared and keeps its fluctuations alone.
    """
    deviations = np.empty_like(draws)
    for dataset in np.unique(datasets):
        rows = datasets == dataset
        means = draws[rows].mean(axis=1, keepdims=True)
        count = int(rows.sum())
        stretch = np.sqrt(count / (count - 1)) if count > 1 else 0.0
        deviations[rows] = draws[rows] - means + stretch * (means - means.mean())
    return deviations


def _nested_rhat(
    deviations: NDArray[np.float64],
    unstretched: NDArray[np.float64],
    groups: NDArray[np.int_],
    rhat: float,
    method: str,
) -> float:
    """Nested R-hat by arviz's `method` over groups of equal size; `rhat` where there is one group.

    Deviations about their groups' means, which are those of `unstretched`: the contrast between the
    groups lies within the datasets, and subtracting their means does not shrink it.
    """
    sizes = np.bincount(groups)
    if len(sizes) < 2:
        return rhat
    smallest = int(sizes.min())
    rows = np.concatenate([np.flatnonzero(groups == g)[:smallest] for g in range(len(sizes))])
    excess = np.array([(deviations - unstretched)[groups == g].mean() for g in groups])
    values = deviations - excess[:, None]
    with np.errstate(divide="ignore"):
        found = array_stats.rhat_nested(values[rows], superchain_ids=groups[rows], method=method)
    return float(found)


def start_difference(
    means: NDArray[np.float64], datasets: NDArray[np.integer], starts: NDArray[np.str_]
) -> float:
    """Mean of planted less mean of prior starts, over its standard error between datasets.

    As a normal deviate, of the networks' means [networks]; nan with fewer than three datasets that
    have both.
    """
    planted, prior = starts == "planted", starts == "prior"
    both = np.intersect1d(datasets[planted], datasets[prior])
    if len(both) < 3:
        return float("nan")
    differences = [
        means[planted & (datasets == d)].mean() - means[prior & (datasets == d)].mean()
        for d in both
    ]
    error = np.std(differences, ddof=1) / np.sqrt(len(both))
    return _normal_deviate(_in_errors(np.mean(differences), error), len(both) - 1)


def _drift(half_means: NDArray[np.float64], starts: NDArray[np.str_]) -> float:
    """Mean of the second less that of the first half, over its standard error between networks.

    The spread is that within each kind of start: kinds that approach each other inflate nothing.
    """
    steps = half_means[:, 1] - half_means[:, 0]
    kinds = [steps[starts == kind] for kind in np.unique(starts)]
    freedom = len(steps) - len(kinds)
    if freedom < 1:
        return float("nan")
    squares = sum(np.sum((kind - kind.mean()) ** 2) for kind in kinds)
    return _normal_deviate(
        _in_errors(steps.mean(), np.sqrt(squares / freedom / len(steps))), freedom
    )


def _normal_deviate(t: float, freedom: int) -> float:
    """The normal deviate as improbable as Student's t with so many degrees of freedom."""
    return float(np.copysign(stats.norm.isf(stats.t.sf(abs(t), freedom)), t))


def _in_errors(difference: np.floating[Any], error: np.floating[Any]) -> float:
    if error == 0:
        return 0.0 if difference == 0 else float(np.copysign(np.inf, difference))
    return float(difference / error)
