"""Datasets: what is random in the data, apart from any network."""

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


class PairOrderSpecification(BaseModel):
    """Identity of one random order of the P^2 pairs of the addition table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str
    seed: int = Field(ge=0)
    dataset: int = Field(ge=0)
    prime: PositiveCount


AnyDatasetSpecification = DatasetSpecification | PairOrderSpecification
