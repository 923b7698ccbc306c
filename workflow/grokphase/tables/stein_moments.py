"""Moments of Stein variates over the draws of networks, as training records them in shards."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray


class SteinMoments(NamedTuple):
    """Moments over the draws of every network.

    means [networks, k] : of the variates.
    covariances [networks, o + k, k] : of the observables and of the variates, with the latter.
    """

    means: NDArray[np.float64]
    covariances: NDArray[np.float64]

    @classmethod
    def of_draws(cls, draws: NDArray[np.floating], observables: int) -> Self:
        """Moments of draws [networks, draws, o + k], of which so many columns are observables."""
        means = draws.mean(axis=1, dtype=np.float64)
        variates = draws.shape[2] - observables
        covariances = np.zeros((len(draws), draws.shape[2], variates))
        # One network at a time, since float64 takes twice the memory of the draws.
        for network in range(len(draws) if variates else 0):
            deviations = draws[network] - means[network]
            covariances[network] = deviations.T @ deviations[:, observables:] / len(deviations)
        return cls(means[:, observables:], covariances)

    @classmethod
    def of_columns(cls, means: NDArray[np.float64], covariances: NDArray[np.float64]) -> Self:
        """Moments from the columns of a shard, in which covariances [networks, (o + k) k] are
        flat."""
        networks, variates = means.shape
        rows = covariances.shape[1] // variates if variates else 0
        return cls(means, covariances.reshape(networks, rows, variates))

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """The columns of a shard."""
        return {
            "stein_means": self.means,
            "stein_covariances": self.covariances.reshape(len(self.means), -1),
        }

    def take(self, networks: NDArray[np.intp]) -> Self:
        """The moments of these networks, in this order."""
        return self._replace(means=self.means[networks], covariances=self.covariances[networks])
