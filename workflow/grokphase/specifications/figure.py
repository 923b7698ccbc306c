"""Figures: the tables a figure draws."""

from pydantic import BaseModel, ConfigDict, Field

from grokphase.parameters import TeacherStudent


class FigureSpecification(BaseModel):
    """A figure, with the points and lines of its experiment that it draws.

    points : point name -> parameters, for the sampled networks.
    lines : line name -> parameters, for the theory; their noise is not used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    figure: str
    experiment: str
    points: dict[str, TeacherStudent]
    lines: dict[str, TeacherStudent]
    baseline_datasets: int = Field(ge=0)
