"""Chains of one observable, read one at a time, in memory that does not grow with their length.

Moments are those of all draws. Of a chain longer than CHAIN_LIMIT two shorter ones are kept for the
convergence diagnostics, over batches of equally many consecutive draws:

- its last draw of every batch. A thinned chain has the distribution of the whole one, tails
  included, so R-hat and the effective sample sizes keep their meaning; the latter are those of the
  draws kept, which are at most those of all draws (Geyer 1992; Link and Eaton 2012);
- the mean of every batch, from which comes the Monte Carlo error of the mean over all draws
  (Flegal, Haran and Jones 2008). Batch means lose the tails and correlate less than draws, so they
  serve for nothing else.

Sources: Geyer, Statistical Science 7, 473 (1992); Link and Eaton, Methods in Ecology and Evolution
3, 112 (2012); Flegal, Haran and Jones, Statistical Science 23, 250 (2008).
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from grokphase.specifications.convergence import CHAIN_LIMIT

_PIECE = 2**16
"""Draws converted to float64 at once."""


class Chains(NamedTuple):
    """One observable of several networks that recorded equally many draws.

    draws : draws recorded per network;  batch : consecutive draws per batch, 1 if all are kept.
    mean, variance [networks] : of all draws, the variance divided by their number.
    half_means [networks, 2] : of the first and the second half of the draws.
    thinned, batch_means [networks, kept] : last draw and mean of every batch.
    """

    draws: int
    batch: int
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    half_means: NDArray[np.float64]
    thinned: NDArray[np.float64]
    batch_means: NDArray[np.float64]

    def take(self, networks: NDArray[np.intp]) -> Self:
        """The chains of these networks, in this order."""
        return self._replace(
            **{name: getattr(self, name)[networks] for name in self._fields[2:]},
        )

    def mean_of_halves(self) -> tuple[float, float]:
        """Mean over the networks of each half of the draws; nan for a half without draws."""
        first, second = self.half_means.mean(axis=0)
        return float(first), float(second)


def summarise(rows: Iterable[NDArray[np.floating[Any]]]) -> Chains:
    """The chains of networks given one by one, each [draws], at least one of each.

    Raises ValueError if they differ in length.
    """
    parts = [_summarise_one(row) for row in rows]
    if len({part[0] for part in parts}) > 1:
        raise ValueError("the networks recorded different numbers of draws")
    draws, batch = parts[0][:2]
    columns = (np.array(column) for column in zip(*(part[2:] for part in parts), strict=True))
    mean, variance, half_means, thinned, batch_means = columns
    return Chains(draws, batch, mean, variance, half_means, thinned, batch_means)


def _summarise_one(row: NDArray[np.floating[Any]]) -> tuple[Any, ...]:
    draws = len(row)
    batch = max(1, -(-draws // CHAIN_LIMIT))
    halves = [
        part.mean(dtype=np.float64) if part.size else np.nan for part in np.array_split(row, 2)
    ]
    if batch == 1:
        whole = row.astype(np.float64)
        return draws, batch, whole.mean(), whole.var(), halves, whole, whole
    mean = row.mean(dtype=np.float64)
    pieces = (row[i : i + _PIECE].astype(np.float64) for i in range(0, draws, _PIECE))
    variance = sum(np.square(piece - mean).sum() for piece in pieces) / draws
    thinned = row[batch - 1 :: batch].astype(np.float64)
    whole_batches = row[: len(thinned) * batch].reshape(-1, batch)
    return (
        draws,
        batch,
        mean,
        variance,
        halves,
        thinned,
        whole_batches.mean(axis=1, dtype=np.float64),
    )
