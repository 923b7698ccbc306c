"""Parameters of the models: the one description that configuration, sampling and theory share."""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _not_tiny(value: float) -> float:
    if value < SMALLEST:
        raise ValueError(f"must be at least {SMALLEST:g}; got {value:g}")
    return value


SMALLEST = 1e-20
"""Positive numbers below are refused: their squares leave the range of single precision."""

Positive = Annotated[
    float, Field(gt=0, le=1e12, allow_inf_nan=False, strict=True), AfterValidator(_not_tiny)
]
Finite = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False, strict=True)]
PositiveCount = Annotated[int, Field(gt=0, le=10**9, strict=True)]


class TeacherStudent(BaseModel):
    """Two-layer erf network learning y(x) = He_1(w*.x) + eps He_3(w*.x) from Gaussian inputs.

    The posterior is exp(-L/noise) times the prior, L = 1/2 sum (y - f)^2, with prior variances
    weight_variance/input_dim for each input weight and readout_variance/width for each readout.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_dim: PositiveCount = Field(description="Input dimension d.")
    width: PositiveCount = Field(description="Hidden width N.")
    train_size: PositiveCount = Field(description="Number of training points n.")
    weight_variance: Positive = Field(
        description="sigma_w^2: each input weight has prior variance sigma_w^2/d."
    )
    readout_variance: Positive = Field(
        description="sigma_a^2: each readout weight has prior variance sigma_a^2/N."
    )
    noise: Positive = Field(
        description="sigma^2: temperature of the Langevin dynamics and observation-noise variance."
    )
    cubic_strength: Finite = Field(
        description="epsilon: coefficient of the cubic teacher component He_3."
    )


class ModularAddition(BaseModel):
    """Two-layer quadratic network learning addition modulo P from the full table of P^2 pairs.

    f_p(n, m) = sum_i a_pi (w_ni + v_mi)^2 is trained on y_p(n, m) = [p = n + m mod P] - 1/P. The
    posterior is exp(-L/noise - Gamma) times the prior, L = 1/2 sum (y - f)^2, with unit prior
    variance for each input weight, readout_variance/width for each readout, and the sextic decay
    Gamma = P sum_k (gamma/6) (|w_k|^6 + |v_k|^6), w_k = (1/P) sum_n w_n exp(2 pi i k n/P).

    The published size is prime 401, width 1000, readout_variance 0.002/1000 = 2e-6 (so that each
    readout has prior variance 2e-9) and sextic_decay 1e-4.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prime: PositiveCount = Field(le=10**6, description="P: the modulus; an odd prime.")
    width: PositiveCount = Field(description="Hidden width N.")
    readout_variance: Positive = Field(
        description="sigma_a^2: each readout weight has prior variance sigma_a^2/N."
    )
    sextic_decay: Finite = Field(
        description="gamma: strength of the sextic weight decay on the Fourier modes; positive."
    )
    noise: Positive = Field(
        description="sigma^2: temperature of the Langevin dynamics and observation-noise variance."
    )
    train_fraction: float = Field(
        default=1.0,
        gt=0,
        le=1,
        strict=True,
        description="Share of the P^2 pairs trained on; 1 is the paper.",
    )
    allow_composite: bool = Field(
        default=False,
        strict=True,
        description="Accept a modulus that is not prime, whose target modes are not degenerate.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        if self.prime < 3:
            problems.append(
                f"prime={self.prime}: the modulus must be an odd prime, 3 or more; at P = 2 the "
                "only non-zero Fourier mode is real, so the mode action does not apply"
            )
        elif not is_prime(self.prime):
            divisor = next(q for q in range(2, self.prime) if self.prime % q == 0)
            text = (
                f"prime={self.prime} is not prime (divisible by {divisor}): not every k is a unit, "
                "so the degeneracy of the target modes (k, k) is not protected by symmetry"
            )
            if not self.allow_composite:
                problems.append(f"{text}; set allow_composite to study this case")
        if self.sextic_decay <= 0:
            problems.append(
                f"sextic_decay={self.sextic_decay}: must be positive; the data term "
                "-u a^2 |w_k|^2 |v_k|^2 outgrows the quadratic prior, so without a sextic decay "
                "the mean-field density of a Fourier mode cannot be normalised"
            )
        elif self.sextic_decay < SMALLEST:
            problems.append(f"sextic_decay={self.sextic_decay}: must be at least {SMALLEST:g}")
        pairs = self.prime**2
        if self.train_fraction < 1 and not 0 < round(self.train_fraction * pairs) < pairs:
            problems.append(
                f"train_fraction={self.train_fraction} trains on "
                f"{round(self.train_fraction * pairs)} of the {pairs} pairs: at least one must be "
                "on either side; 1 is the full table"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self


Parameters = TeacherStudent | ModularAddition


def is_prime(number: int) -> bool:
    """Whether ``number`` is prime, by trial division."""
    if number < 2:
        return False
    return all(number % q for q in range(2, int(number**0.5) + 1))
