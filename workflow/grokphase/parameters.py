"""Parameters of the models: the one description that configuration, sampling and theory share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]
PositiveCount = Annotated[int, Field(gt=0, strict=True)]


class TeacherStudent(BaseModel):
    """Two-layer erf network learning y(x) = He_1(w*.x) + eps He_3(w*.x) from Gaussian inputs.

    The posterior is exp(-L/noise) times the prior, L = 1/2 sum (y - f)^2, with prior variances
    weight_variance/input_dim for each input weight and readout_variance/width for each readout.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_dim: PositiveCount = Field(description="Input dimension d.")
    width: PositiveCount = Field(description="Hidden width N.")
    train_size: PositiveCount = Field(description="Number of training points n.")
    weight_variance: Positive = Field(
        description="sigma_w^2: each input weight has prior variance sigma_w^2/d."
    )
    readout_variance: Positive = Field(
        description="sigma_a^2: each readout weight has prior variance sigma_a^2/N."
    )
    noise: Positive = Field(
        description="sigma^2: temperature of the Langevin dynamics and observation-noise variance."
    )
    cubic_strength: Finite = Field(
        description="epsilon: coefficient of the cubic teacher component He_3."
    )
