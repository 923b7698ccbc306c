"""Aggregation: from the shards of one point to its histogram, outputs and chains."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from grokphase.parameters import Positive, PositiveCount
from grokphase.specifications.convergence import Convergence
from grokphase.specifications.training import TrainingSpecification


class Histogram(BaseModel):
    """Bins of the overlap q: an odd number of equal bins, the middle one centred on q = 0."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bin_width: Positive = Field(default=0.05, description="Width of a bin, a multiple of 0.01.")
    bins: PositiveCount = Field(default=61, description="Number of bins, odd.")

    @field_validator("bin_width")
    @classmethod
    def _multiple(cls, value: float) -> float:
        multiple = round(value / 0.01)
        if multiple < 1 or abs(value / 0.01 - multiple) > 1e-6:
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


class AggregationSpecification(BaseModel):
    """How the shards of one point are combined; `training` is how their networks were trained.

    `histogram` rebins the overlaps, of models that have one. `subsets` is the number of equal
    groups of datasets whose spread gives the error bars. `control_variates` and `stein_variates`
    say whether means are adjusted for statistics of the datasets and of the draws. `convergence` is
    when the point counts as converged, by its chains.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    point: str
    model: str
    training: TrainingSpecification
    datasets: PositiveCount
    networks_per_dataset: PositiveCount
    subsets: int = Field(ge=2)
    control_variates: bool
    stein_variates: bool
    histogram: Histogram | None = None
    convergence: Convergence
