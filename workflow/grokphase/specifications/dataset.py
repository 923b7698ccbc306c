"""Datasets of the teacher-student model."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from grokphase.parameters import PositiveCount


class DatasetSpecification(BaseModel):
    """Identity of one dataset: it is shared by every noise and every cubic strength."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str
    seed: int = Field(ge=0)
    dataset: int = Field(ge=0)
    input_dim: PositiveCount
    train_size: PositiveCount


class Dataset(NamedTuple):
    """inputs [n, d] ~ N(0, 1) and the teacher direction [d] of unit norm, both float32."""

    inputs: NDArray[np.float32]
    teacher: NDArray[np.float32]
