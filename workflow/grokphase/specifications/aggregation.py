"""Aggregation: from the shards of one point to its histogram, outputs and diagnostics."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from grokphase.parameters import Positive, PositiveCount
from grokphase.specifications.training import TrainingSpecification

FEWEST_DRAWS = 4
"""Draws of a network from which convergence can be judged."""

FEWEST_DRAWS_OF_A_CHAIN = 10
"""Draws of a network from which its own autocorrelation is estimated. Of fewer, Geyer's sum over
split chains has no term, and the effective number of draws would be the same for any chain."""


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


class Convergence(BaseModel):
    """When a point counts as converged; see grokphase.sampling.diagnostics."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nested_rhat: float = Field(
        default=1.1,
        gt=1,
        le=1e12,
        allow_inf_nan=False,
        strict=True,
        description="Largest nested R-hat over the kinds of start.",
    )
    start_difference: Positive = Field(
        default=3.0,
        description="Difference between the kinds of start, in standard errors (the normal deviate "
        "of the same probability), up to which a larger nested R-hat is put down to chance.",
    )
    adjusted_start_difference: Positive = Field(
        default=4.0,
        description="Largest difference between the kinds of start of means adjusted for Stein "
        "variates, in standard errors: about that of the mean's bias in its own.",
    )
    acceptance: float = Field(
        default=0.1,
        ge=0,
        le=1,
        strict=True,
        description="Smallest share of a kernel's proposals that is accepted.",
    )
    drift: Positive = Field(
        default=4.0,
        description="Largest difference between the halves of the draws, in standard errors.",
    )
    ess: Positive = Field(
        default=50,
        description="Smallest effective sample size, bulk and tail, of all networks together; "
        "50 are ten for each of five subsets. With ten draws of a network or more, two for every "
        "network are asked for at least.",
    )


class AggregationSpecification(BaseModel):
    """How the shards of one point are combined; `training` is how their networks were trained.

    `histogram` rebins the overlaps, of models that have one. `subsets` is the number of equal
    groups of datasets whose spread gives the error bars. `control_variates` and `stein_variates`
    say whether means are adjusted for statistics of the datasets and of the draws.
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
