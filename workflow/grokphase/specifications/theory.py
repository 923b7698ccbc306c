"""Theory: the mean-field solution along a line of noise values, and the Gaussian process."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from grokphase.parameters import ModularAddition, Positive, TeacherStudent


class Curve(BaseModel):
    """Noises at which curves are evaluated, and the threshold between the phases."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    side_mass_threshold: float = Field(
        default=0.01,
        gt=0,
        lt=0.5,
        strict=True,
        description="tau: GFL ends where the side wells hold this mass.",
    )
    lowest_noise: Positive = Field(description="Curves start at this noise.")
    highest_noise: Positive = Field(description="Curves end at this noise.")
    noise_points: int = Field(
        default=101, ge=2, le=10_000, strict=True, description="Points of a curve."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lowest_noise >= self.highest_noise:
            raise ValueError(
                f"lowest_noise ({self.lowest_noise}) must be below highest_noise "
                f"({self.highest_noise})"
            )
        return self


class Theory(Curve):
    """Theory of the teacher-student model."""

    modes: int = Field(
        default=2, ge=2, le=8, strict=True, description="Odd Hermite modes; 2 is the paper."
    )


class ModularTheory(Curve):
    """Theory of modular addition."""

    largest_diagonalised: int = Field(
        default=23,
        ge=3,
        strict=True,
        description="Largest P whose P^2 x P^2 kernel is diagonalised; above it, closed form.",
    )


class TheorySpecification(BaseModel):
    """One line of the phase diagram: every parameter fixed but the noise.

    `parameters.noise` is not used; `noises` are the values that were also sampled.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Literal["teacher_student"] = "teacher_student"
    parameters: TeacherStudent
    noises: tuple[Positive, ...]
    theory: Theory
    bin_width: Positive


class ModularTheorySpecification(BaseModel):
    """One line of noises of the modular-addition theory; `parameters.noise` is not used."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Literal["modular_addition"] = "modular_addition"
    parameters: ModularAddition
    noises: tuple[Positive, ...]
    theory: ModularTheory


AnyTheorySpecification = Annotated[
    TheorySpecification | ModularTheorySpecification, Field(discriminator="model")
]


class BaselineSpecification(BaseModel):
    """Gaussian-process regression on one dataset, for all noises and cubic strengths."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str
    seed: int = Field(ge=0)
    dataset: int = Field(ge=0)
    parameters: TeacherStudent
    noises: tuple[Positive, ...]
    cubic_strengths: tuple[float, ...]
