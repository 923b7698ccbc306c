"""Figures: the tables a figure draws."""

from pydantic import BaseModel, ConfigDict, Field

from grokphase.parameters import Parameters


class FigureSpecification(BaseModel):
    """A figure, with the points and lines of its experiment that it draws.

    drawing : the module of grokphase.figures that draws it.
    points : point name -> parameters, for the sampled networks; empty if there are none.
    lines : line name -> parameters, for the theory; their noise is not used.
    noises : noises of the sweep that are drawn.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    figure: str
    drawing: str
    experiment: str
    model: str
    points: dict[str, Parameters]
    lines: dict[str, Parameters]
    noises: tuple[float, ...]
    baseline_datasets: int = Field(ge=0)
