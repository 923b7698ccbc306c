"""Means of a network's observables, without the fluctuations that its Stein variates explain.

Stein variates have zero average over the posterior (`stein_variates` of a model), so that in
equilibrium any multiple of them may be subtracted from an observable. The multiples are those of
least squares. They are fitted on the other datasets than the one they are used for: so the adjusted
means have the expectation of the plain ones, and their spread between datasets tells their error.
Observables that the variates do not explain lose by it: with the fewest draws that are taken (see
DRAWS_PER_COEFFICIENT) an eighth of an error if successive draws have a correlation of 0.7, a third
with 0.9, and more if all draws of a network are alike, for these count as draws. The quoted error
grows as well. (Choosing by the spread that is left, observable by observable, would bias the means:
those of z^2 of exponential draws, of four networks of six draws, by a tenth of their error.)

Before equilibrium <f> changes under Langevin dynamics at the rate <L f>, of whose kind the variates
are, and what burn-in has left is mostly explained by them as well. This is an observation: at the
paper's size, six noises from 0.1 to 0.3, ten datasets with two networks each, four draws after a
burn-in of four (five now) were compared with 40 draws of the same datasets after 12
(benchmarks/means.py), differences of the means (root mean squares, in brackets in their standard
errors):

                 plain            adjusted
    f.H1         0.0012  (1.3)    0.0004  (1.2)
    f.H3         0.0010  (3.1)    0.0002  (1.3)
    mean q^2     0.041   (2.0)    0.005   (0.9)
    droplets     0.0004  (1.2)    0.0003  (1.1)
    |v|^2        0.0013  (1.6)    0.0001  (1.4)
    train loss   0.0028  (2.8)    0.0005  (1.0)
    test loss    0.0034  (3.0)    0.0009  (1.5)

Sources: Assaraf and Caffarel, Phys. Rev. Lett. 83, 4682 (1999); Mira, Solgi and Imparato, Stat.
Comput. 23, 653 (2013).
"""

import numpy as np
from numpy.typing import NDArray

from grokphase.tables.stein_moments import SteinMoments

DRAWS_PER_COEFFICIENT = 8
"""Draws, less one of every dataset, from which on Stein variates are used, per coefficient that is
fitted to them."""


def adjusted_means(
    means: NDArray[np.float64],
    variates: SteinMoments,
    dataset: NDArray[np.int_],
    draws: int,
) -> NDArray[np.float64]:
    """The networks' means [networks, o] of their observables over so many draws, adjusted.

    dataset : [networks]. The means themselves where there are no variates, a single dataset, or too
    few draws (see DRAWS_PER_COEFFICIENT).
    """
    count = variates.means.shape[1]
    if not count:
        return means
    datasets = np.unique(dataset)
    products = {one: _products(means, variates, dataset == one) for one in datasets}
    adjusted = means.copy()
    for one in datasets:
        rows = dataset == one
        freedom = draws * int((~rows).sum()) - (len(datasets) - 1)
        if freedom < DRAWS_PER_COEFFICIENT * count:
            continue
        others = sum(products[other] for other in datasets if other != one)
        assert isinstance(others, np.ndarray)
        adjusted[rows] -= variates.means[rows] @ _coefficients(others)
    return adjusted


def _products(
    means: NDArray[np.float64], variates: SteinMoments, rows: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Products [o + k, k] of the deviations of a dataset's draws from their common mean, averaged
    over the draws of a network and summed over the networks."""
    columns = np.concatenate([means[rows], variates.means[rows]], axis=1)
    deviations = columns - columns.mean(axis=0)
    within = variates.covariances[rows].sum(axis=0)
    return np.asarray(within + deviations.T @ deviations[:, means.shape[1] :])


def _coefficients(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares coefficients [k, o] from summed products [o + k, k].

    Variates that are constant, or combinations of others, get the smallest coefficients that do.
    """
    count = products.shape[1]
    square = products[-count:]
    scale = np.sqrt(np.diag(square))
    scale[scale == 0] = 1.0
    solution = np.linalg.lstsq(
        square / np.outer(scale, scale), (products[:-count] / scale).T, rcond=1e-9
    )[0]
    return solution / scale[:, None]
