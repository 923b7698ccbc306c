"""Density of the overlap from profiles of conditional densities, those of all windows combined.

A profile is log Z(q) of one neuron given all others (grokphase.models.umbrella); with the Gaussian
prior it is log p(q | rest) up to a constant. The rests r of window k have the distribution
pi(r) exp(u_k(r) - f_k), where exp(u_k(r)) is the integral over q of p(q | r) exp(-spring_k(q)),
without spring in window 0, and pi is common to all. So, with n_k profiles of window k,

    p(q)  ~  sum_r p(q | r) / sum_k n_k exp(u_k(r) - f_k),

and the free energies f_k solve exp(f_k) = sum_r exp(u_k(r)) / sum_l n_l exp(u_l(r) - f_l).

Source: Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008), multistate Bennett acceptance ratio.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grokphase.specifications.training import Umbrella
from grokphase.tables.shards import FINE_BINS, FINE_LIMIT, FINE_WIDTH

_ITERATIONS = 10_000
_TOLERANCE = 1e-10

CENTRES = FINE_WIDTH * (np.arange(FINE_BINS) + 0.5) - FINE_LIMIT
"""Centres of the fine bins [FINE_BINS]."""


def fine_shares(
    profiles: Sequence[NDArray[Any]],
    overlaps: NDArray[np.float64],
    prior_deviation: float,
    umbrella: Umbrella,
) -> NDArray[np.float64]:
    """Probability of every fine bin [FINE_BINS + 2], as counts are laid out; zero beyond the nodes.

    profiles : of every window, the posterior itself first, [draws, nodes] at the overlaps [nodes].
    """
    counts = np.array([len(one) for one in profiles])
    inside = np.abs(CENTRES) <= overlaps[-1]
    centres = CENTRES[inside]
    log_conditional = _interpolated(np.concatenate(profiles), overlaps, centres)
    log_conditional -= np.square(centres) / (2 * prior_deviation**2)
    energies = [np.zeros(len(centres))] + [
        np.square((centres - centre) / umbrella.width) / 2 for centre in umbrella.overlaps
    ]
    log_norms = np.stack([_log_sum(log_conditional - energy, axis=1) for energy in energies])
    log_share = _log_sum(log_conditional - _log_mixture(log_norms, counts)[:, None], axis=0)
    shares = np.zeros(FINE_BINS)
    shares[inside] = np.exp(log_share - _log_sum(log_share, axis=0))
    return np.pad(shares, 1)


def _interpolated(
    profiles: NDArray[Any], overlaps: NDArray[np.float64], centres: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Profiles [draws, nodes], which are even in q, at other overlaps [draws, centres]."""
    from scipy.interpolate import CubicSpline

    mirrored = np.concatenate([profiles[:, :0:-1], profiles], axis=1, dtype=np.float64)
    nodes = np.concatenate([-overlaps[:0:-1], overlaps])
    return CubicSpline(nodes, mirrored, axis=1)(centres)


def _log_mixture(log_norms: NDArray[np.float64], counts: NDArray[np.int_]) -> NDArray[np.float64]:
    """log sum_k n_k exp(u_k(r) - f_k) of every rest [draws], from u [windows, draws] and n."""
    free_energies = np.zeros(len(counts))
    mixture = np.zeros(log_norms.shape[1])
    for _ in range(_ITERATIONS):
        mixture = _log_sum((np.log(counts) - free_energies)[:, None] + log_norms, axis=0)
        renewed = _log_sum(log_norms - mixture, axis=1)
        renewed -= renewed[0]
        change = np.abs(renewed - free_energies).max()
        free_energies = renewed
        if change < _TOLERANCE:
            break
    return mixture


def _log_sum(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    highest = values.max(axis=axis, keepdims=True)
    return np.squeeze(highest, axis) + np.log(np.exp(values - highest).sum(axis=axis))
