"""Training: the networks of one point of a sweep, on a range of datasets."""

from typing import Annotated, Any, Literal

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


EXPECTED_EVERY = 2
"""Recorded draws per one whose expected counts are computed, the last one among them: successive
draws have nearly the same, and at d=150, N=700, n=3000 they take half as long as a draw."""


def unadjusted_draws(burn_in: int) -> int:
    """Draws of so many of burn-in, the first three quarters, rounded down, in which every proposal
    is accepted.

    Far from equilibrium the energy error of a step is systematic, and a chain could reject every
    proposal. The rest is adjusted like the recorded draws, so that these do not begin in the
    distribution of a kernel with discretisation error.

    Longer steps and more sweeps in this part bring both starts together sooner. At the paper's
    size, at six points from noise 0.1 to 0.3, ten datasets each, the four draws after burn-in were
    compared with 16 long ones of the same datasets: differences of f.H1, f.H3 and q^2, and gaps
    between the starts, in their standard errors (root mean squares), and time of a network:

        burn-in, unadjusted         adjusted and draws      difference   gap    time
        3 of 5: 0.33 x 6, 2 sweeps  0.33 x 6, 2 sweeps         1.4       2.6      1
        3 of 5: 0.5 x 4, 2 sweeps   0.33 x 4, 2 sweeps         1.4       2.4     0.79
        4 of 4: 0.5 x 4, 2 sweeps   0.33 x 4, 1 sweep          1.5       1.4     0.66
        3 of 4: 0.5 x 4, 3 sweeps   0.33 x 4, 1 sweep          1.5       1.4     0.70
        3 of 5: 0.5 x 4, 3 sweeps   0.33 x 4, 1 sweep          1.2       1.3     0.78
        3 of 4: 0.5 x 6, 3 sweeps   0.33 x 4, 1 sweep          2.2       0.7     0.75
        4 of 6: 0.4 x 4, 1 sweep    0.4 x 4, 1 sweep           2.6       2.5     0.78

    (steps of a trajectory x their number; standard errors within a tenth of one another, a sixth
    more in the third row). What the Stein variates leave (grokphase.stein) needs fewer steps after
    burn-in. At the same six points, against 40 draws after a burn-in of 12, means adjusted for
    them, with the standard errors of f.H1 and f.H3 in units of 1e-4 and the points that converged:

        burn-in, unadjusted         adjusted and draws    difference   gap   errors    conv.  time
        3 of 4: 0.5 x 4, 3 sweeps   0.33 x 4, 1 sweep        0.9       1.3   3.6, 1.2    6      1
        3 of 4: 0.5 x 4, 3 sweeps   0.33 x 2, 1 sweep        1.2       1.4   4.4, 1.5    6    0.82
        2 of 3: 0.5 x 4, 3 sweeps   0.33 x 4, 1 sweep        1.6       1.8   3.2, 1.6    4    0.88
        2 of 3: 0.5 x 4, 2 sweeps   0.33 x 4, 1 sweep        1.4       1.4   4.0, 1.4    5    0.86
        1 of 2: 0.5 x 4, 4 sweeps   0.33 x 4, 1 sweep        1.9       1.2   2.9, 1.2    4    0.81

    Forty datasets tell more. In their standard errors, half of those above, root mean squares over
    observables of the gap between the starts and of the drift between the halves of the draws (four
    of 0.33 x 2, 1 sweep), at noise and strength

        burn-in, unadjusted          0.1, -0.4   0.12, -0.3   0.14, -0.4   0.16, -0.3   time
        3 of 4: 0.5 x 4, 3 sweeps     1.6, 3.8     1.6, 2.3     1.0, 2.6     4.1, 1.5     1
        3 of 5: 0.5 x 4, 3 sweeps     1.4, 2.7     1.4, 1.6     1.4, 0.8     3.3, 1.3   1.06
        3 of 5: 0.45 x 6, 2 sweeps    1.5, 2.1     1.7, 2.1     1.5, 1.8     3.2, 2.0   1.09
        3 of 5: 0.35 x 6, 2 sweeps    2.2, 1.9     2.5, 1.5     0.8, 0.9     3.5, 1.1   1.09
        3 of 4: 0.35 x 8, 2 sweeps    2.1, 3.5     2.2, 1.8     1.8, 2.7     3.2, 2.1   1.09
        3 of 4: 0.5 x 8, 2 sweeps      diverged    1.0, 3.5     0.7, 3.3     2.2, 2.0   1.09
        3 of 4: 0.5 x 10, 1 sweep      diverged    1.5, 3.8     1.9, 3.3     0.9, 1.9   1.12

    Long trajectories bring the starts together, a second adjusted draw removes some of what their
    steps leave.
    """
    return 3 * burn_in // 4


class TrainingSpecification(BaseModel):
    """Everything that decides the trajectories of the networks at one point of a sweep.

    `kernel` holds the kernel's name and its settings. The ensemble discards `burn_in` kernel steps,
    rounded up to whole draws, and then records `draws` draws, `thin` kernel steps apart. Every
    kernel step is followed by `neuron_sweeps` collapsed Gibbs sweeps
    (grokphase.models.neuron_sweep, of modular addition grokphase.models.mode_sweep), in the
    unadjusted part of burn-in by `unadjusted_sweeps` if that is given. With `collapsed_readout` the
    kernel moves the input weights alone, the readouts integrated out
    (grokphase.models.collapsed_readout, modular addition only).
    `umbrella` says how the tail of the overlap's density is sampled, None that it is not
    (teacher-student only).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str
    seed: int = Field(ge=0)
    point: str
    model: Literal["teacher_student", "modular_addition"]
    parameters: Parameters
    kernel: dict[str, Any]
    burn_in: int = Field(ge=0)
    draws: PositiveCount
    thin: PositiveCount
    neuron_sweeps: int = Field(default=0, ge=0)
    unadjusted_sweeps: int | None = Field(default=None, ge=1)
    collapsed_readout: bool = False
    networks: Networks
    planted: PlantedStart | PlantedWaves
    annealing: Annealing | None = None
    umbrella: Umbrella | None = None

    @property
    def burn_in_draws(self) -> int:
        """Draws of burn-in: whole ones, of `thin` steps each."""
        return -(-self.burn_in // self.thin)

    @property
    def steps_in_all(self) -> int:
        """Kernel steps of a network, those in windows included."""
        draws = self.burn_in_draws + self.draws
        if self.umbrella is not None:
            draws += len(self.umbrella.overlaps) * (self.umbrella.burn_in + self.umbrella.draws)
        return draws * self.thin

    @property
    def unadjusted_steps(self) -> int:
        """Kernel steps of a network in which every proposal is accepted."""
        return unadjusted_draws(self.burn_in_draws) * self.thin

    @property
    def sweeps_in_all(self) -> int:
        """Sweeps of a network, those in windows included."""
        more = (self.unadjusted_sweeps or self.neuron_sweeps) - self.neuron_sweeps
        return self.steps_in_all * self.neuron_sweeps + self.unadjusted_steps * more
