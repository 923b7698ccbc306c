"""Density of the overlap from profiles of conditional densities, those of all windows combined.

A profile is log Z(q) of one neuron given all others (grokphase.models.umbrella); with the Gaussian
prior it is log p(q | rest) up to a constant. The rests r of window k have the distribution
pi(r) exp(u_k(r) - f_k), where exp(u_k(r)) is the integral over q of p(q | r) exp(-spring_k(q)),
without spring in window 0, and pi is common to all. So, with n_k profiles of window k,

    p(q)  ~  sum_r p(q | r) / sum_k n_k exp(u_k(r) - f_k),

and the free energies f_k solve exp(f_k) = sum_r exp(u_k(r)) / sum_l n_l exp(u_l(r) - f_l).

Source: Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008), multistate Bennett acceptance ratio.
"""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grokphase.specifications.training import Umbrella
from grokphase.tables.shards import FINE_BINS, FINE_CENTRES

_ITERATIONS = 10_000
_TOLERANCE = 1e-8

_log = logging.getLogger(__name__)


class OverlapDensity(NamedTuple):
    """shares : probability of every fine bin [FINE_BINS + 2], as counts are laid out, among those
        that the profiles reach; zero beyond.
    profiles : effective number of profiles that each rests on, (sum w)^2 / sum w^2 [FINE_BINS + 2].
    """

    shares: NDArray[np.float64]
    profiles: NDArray[np.float64]


def overlap_density(
    profiles: Sequence[NDArray[Any]],
    overlaps: NDArray[np.float64],
    prior_deviation: float,
    umbrella: Umbrella,
) -> OverlapDensity:
    """The density from the profiles of every window [draws, nodes], the posterior itself first."""
    from scipy.special import logsumexp

    counts = np.array([len(one) for one in profiles])
    inside = np.abs(FINE_CENTRES) <= overlaps[-1]
    centres = FINE_CENTRES[inside]
    log_conditional = _interpolated(np.concatenate(profiles), overlaps, centres)
    log_conditional -= np.square(centres) / (2 * prior_deviation**2)
    width = umbrella.width * prior_deviation
    energies = [np.zeros(len(centres))] + [
        np.square((centres - centre) / width) / 2 for centre in umbrella.overlaps
    ]
    log_norms = np.stack([logsumexp(log_conditional - energy, axis=1) for energy in energies])
    log_weight = log_conditional - _log_mixture(log_norms, counts)[:, None]
    log_share = logsumexp(log_weight, axis=0)
    effective = np.exp(2 * log_share - logsumexp(2 * log_weight, axis=0))
    found = np.zeros((2, FINE_BINS))
    found[:, inside] = np.exp(log_share - logsumexp(log_share)), effective
    return OverlapDensity(*np.pad(found, ((0, 0), (1, 1))))


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
    from scipy.special import logsumexp

    free_energies = np.zeros(len(counts))
    for _ in range(_ITERATIONS):
        mixture = logsumexp((np.log(counts) - free_energies)[:, None] + log_norms, axis=0)
        renewed = logsumexp(log_norms - mixture, axis=1)
        renewed -= renewed[0]
        change = np.abs(renewed - free_energies).max()
        free_energies = renewed
        if change < _TOLERANCE:
            return mixture
    _log.warning("the windows of the overlap share too few networks to be combined: add some")
    return mixture
