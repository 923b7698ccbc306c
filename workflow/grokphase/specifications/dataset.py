"""Datasets of the teacher-student model."""

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
