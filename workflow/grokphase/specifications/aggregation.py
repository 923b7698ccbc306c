"""Aggregation: from the shards of one point to its histogram, outputs and diagnostics."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from grokphase.parameters import Positive, PositiveCount


class Histogram(BaseModel):
    """Bins of the overlap q: an odd number of equal bins, the middle one centred on q = 0."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bin_width: Positive = Field(default=0.05, description="Width of a bin, a multiple of 0.01.")
    bins: PositiveCount = Field(default=61, description="Number of bins, odd.")

    @field_validator("bin_width")
    @classmethod
    def _multiple(cls, value: float) -> float:
        if abs(value / 0.01 - round(value / 0.01)) > 1e-6:
            raise ValueError(
                f"must be a multiple of 0.01 (the fine bins), such as 0.05; got {value}"
            )
        return value

    @field_validator("bins")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(
                f"must be odd, so that one bin is centred on q = 0; got {value}, try {value + 1}"
            )
        return value

    @property
    def limit(self) -> float:
        """The bins cover [-limit, limit]."""
        return self.bin_width * self.bins / 2


class Convergence(BaseModel):
    """When a point counts as converged; see grokphase.sampling.diagnostics."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nested_rhat: float = Field(
        default=1.05, gt=1, description="Largest nested R-hat over the kinds of start."
    )
    ess: Positive = Field(
        default=100, description="Smallest effective sample size (bulk and tail) of the ensemble."
    )


class AggregationSpecification(BaseModel):
    """How the shards of one point are combined.

    `histogram` rebins the overlaps, of models that have one. `subsets` is the number of equal
    groups of datasets whose spread gives the error bars.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    point: str
    model: str
    datasets: PositiveCount
    networks_per_dataset: PositiveCount
    subsets: int = Field(ge=2)
    histogram: Histogram | None = None
    convergence: Convergence
