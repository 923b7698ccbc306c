"""Convergence: when a point counts as converged."""

from pydantic import BaseModel, ConfigDict, Field

from grokphase.parameters import Positive

CHAIN_LIMIT = 4096
"""Draws of a chain kept at most; shorter chains are kept whole."""

FEWEST_DRAWS = 4
"""Draws of a network from which convergence can be judged."""

FEWEST_DRAWS_OF_A_CHAIN = 10
"""Draws of a network from which its own autocorrelation is estimated. Of fewer, Geyer's sum over
split chains has no term, and the effective number of draws would be the same for any chain."""


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
