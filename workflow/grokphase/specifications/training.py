"""Training: the networks of one point of a sweep, on a range of datasets."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from grokphase.parameters import Parameters, Positive, PositiveCount


class PlantedStart(BaseModel):
    """Start with droplets: `fraction` of the neurons at overlap +-`overlap`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fraction: float = Field(
        default=0.05, gt=0, le=1, strict=True, description="Share of neurons planted."
    )
    overlap: Positive = Field(default=0.8, description="|w.w*| of a planted neuron.")


class PlantedWaves(BaseModel):
    """Start grokked: `waves` frequencies of every neuron are cosine waves of the theory's power."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    waves: PositiveCount = Field(default=1, description="Frequencies planted in each neuron.")
    background: bool = Field(
        default=True, description="Draw the other Fourier modes from the prior instead of zero."
    )


_Count = Annotated[int, Field(ge=0, le=10_000, strict=True)]


class Networks(BaseModel):
    """Networks trained per dataset, by kind of start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prior: _Count = Field(default=1, description="Started without droplets.")
    planted: _Count = Field(default=1, description="Started with droplets.")
    cooled: _Count = Field(default=0, description="Prior start, annealed from the highest noise.")
    heated: _Count = Field(default=0, description="Planted start, annealed from the lowest noise.")

    def starts(self) -> list[tuple[str, int]]:
        """(kind of start, index within the kind) of every network of a dataset, in order."""
        return [(kind, i) for kind in STARTS for i in range(getattr(self, kind))]


STARTS = {"prior": "prior", "planted": "planted", "cooled": "prior", "heated": "planted"}
"""Kind of start -> where its weights come from."""


class Annealing(BaseModel):
    """Noise from which cooled and heated networks reach their point's, geometrically, in burn-in.

    A network of the ensemble at noise s_end whose annealing begins at s_0 takes step j = 1 ... b of
    its burn-in at noise s_end (s_0/s_end)^(1 - j/b).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    highest_noise: Positive = Field(description="Noise at which cooled networks begin.")
    lowest_noise: Positive = Field(description="Noise at which heated networks begin.")

    def noise(self, kind: str) -> float | None:
        """Noise at which the burn-in of a kind of start begins; None for the point's own."""
        return {"cooled": self.highest_noise, "heated": self.lowest_noise}.get(kind)


class Umbrella(BaseModel):
    """Profiles of the conditional density of one neuron's overlap, and windows far in its tail.

    At every recorded draw the density of the last neuron's overlap given all other neurons is
    computed, its own other weights integrated out. After the recorded draws that neuron is held by
    a spring near each of `overlaps` in turn, so that the others answer to a neuron there; `burn_in`
    draws of each window are discarded and the profiles of `draws` recorded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    overlaps: tuple[Positive, ...] = Field(description="Overlap at the middle of each window.")
    width: float = Field(
        default=0.9,
        ge=0.1,
        le=10,
        strict=True,
        description="Deviation of the overlap that the spring alone allows, in prior deviations.",
    )
    burn_in: _Count = Field(default=3, description="Draws of each window that are discarded.")
    draws: PositiveCount = Field(default=4, description="Draws recorded in each window.")


class TrainingSpecification(BaseModel):
    """Everything that decides the trajectories of the networks at one point of a sweep.

    `kernel` holds the kernel's name and its settings. The ensemble discards `burn_in` kernel steps
    and then records `draws` draws, `thin` kernel steps apart. Every kernel step is followed by
    `neuron_sweeps` collapsed Gibbs sweeps (grokphase.models.neuron_sweep, of modular addition
    grokphase.models.mode_sweep). With `collapsed_readout` the kernel moves the input weights alone,
    the readouts integrated out (grokphase.models.collapsed_readout, modular addition only).
    `umbrella` says how the tail of the overlap's density is sampled, None that it is not
    (teacher-student only).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str
    seed: int = Field(ge=0)
    point: str
    model: str
    parameters: Parameters
    kernel: dict[str, Any]
    burn_in: int = Field(ge=0)
    draws: PositiveCount
    thin: PositiveCount
    neuron_sweeps: int = Field(default=0, ge=0)
    collapsed_readout: bool = False
    networks: Networks
    planted: PlantedStart | PlantedWaves
    annealing: Annealing | None = None
    umbrella: Umbrella | None = None
