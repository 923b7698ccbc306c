"""Summary: the diagnostics of all points of an experiment."""

from pydantic import BaseModel, ConfigDict


class SummarySpecification(BaseModel):
    """The experiment and its points, in order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str
    model: str
    points: tuple[str, ...]
