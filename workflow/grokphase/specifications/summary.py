"""Summary: the diagnostics of all points of an experiment."""

from pydantic import BaseModel, ConfigDict

from grokphase.specifications.convergence import Convergence


class SummarySpecification(BaseModel):
    """The experiment, its points, in order, and when they count as converged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str
    model: str
    points: tuple[str, ...]
    convergence: Convergence
