"""Teacher-student transition in the limit of infinite dimension, width and train size.

The scaling family d -> sqrt(beta) d, N -> beta N, n -> alpha n, sigma_a^2 -> sigma_a^2/sqrt(beta),
noise -> (alpha/beta) noise leaves both u = n^2 sigma_a^2/(noise^2 d N) and the linear gain
n sigma_a^2/(noise d) unchanged, while the action is proportional to d. For beta -> infinity neurons
sit at the lowest minimum of S/d. While that is q = 0, nothing of the cubic component is learned and
Gaussian fluctuations around q = 0 fix the linear discrepancy b; the first-order transition is where
the side minimum reaches S/d = 0.

The average m_1^2 = (4/pi) q^2/D that fixes b is printed with 2/pi in version 3 of the paper. With
4/pi the transition at the paper's parameters is at u = 30.67, noise 0.1787, where the paper
quotes u = 30.2 and 0.18; 2/pi would put it at u = 23.0.

References
----------
Rubin, Seroussi and Ringel, arXiv:2310.03789, version 3, section 3.
"""

from __future__ import annotations

import enum
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from grokphase.parameters import TeacherStudent
from grokphase.theory.one_neuron import Array, effective_interaction


class LimitResult(enum.IntEnum):
    """Outcome of locating the transition."""

    FOUND = 0
    NOT_REACHED = 1
    """No side minimum reaches S = 0 in the interval."""
    ALREADY_REACHED = 2
    """The side minimum is below S = 0 already at the upper end of the interval."""


class LimitTransition(NamedTuple):
    """First-order transition in the limit; arrays [...], nan unless the result is FOUND."""

    noise: Array
    effective_interaction: Array
    """u at the transition."""
    linear_discrepancy: Array
    """b there: 1 - b is the linear overlap f.H1 just before the transition."""
    side_minimum: Array
    """q* > 0 with S(q*) = S(0)."""
    result: NDArray[np.int8]
    """`LimitResult` codes."""


def linear_gain(parameters: TeacherStudent, noise: ArrayLike) -> Array:
    """n sigma_a^2/(noise d), the scale-invariant gain of the linear mode, [...]."""
    p = parameters
    ratio = p.train_size * p.readout_variance / p.input_dim
    return np.asarray(ratio / np.asarray(noise, dtype=np.float64))


def linear_discrepancy(parameters: TeacherStudent, noise: ArrayLike) -> Array:
    """b before the transition in the limit, from Gaussian fluctuations around q = 0, [...].

    Solves b (1 + g/(1 - h b^2)) = 1 with h = 4 u sigma_w^2/(pi D), g = 4 sigma_w^2/(pi D) times
    the linear gain and D = 1 + 2 sigma_w^2. The left side increases with b as long as q = 0 is a
    minimum (h b^2 < 1), so that the root is unique.

    Raises
    ------
    ValueError : noise that is not positive and finite.
    """
    sigma = np.asarray(noise, dtype=np.float64)
    if not (np.isfinite(sigma) & (sigma > 0)).all():
        raise ValueError("noise must be positive and finite everywhere")
    variance = parameters.weight_variance
    scale = 4.0 * variance / (math.pi * (1.0 + 2.0 * variance))
    gain = scale * linear_gain(parameters, sigma)
    softening = scale * effective_interaction(parameters, sigma)
    lower = np.zeros_like(gain)
    upper = np.minimum(1.0, 1.0 / np.sqrt(softening))
    for _ in range(100):
        b = 0.5 * (lower + upper)
        stiffness = 1.0 - softening * b**2
        above = b * (stiffness + gain) > stiffness
        lower, upper = np.where(above, lower, b), np.where(above, b, upper)
    return np.asarray(0.5 * (lower + upper))


def _side_margin(parameters: TeacherStudent, noise: float, cubic: float) -> float:
    """Positive where the side minimum lies below S = 0.

    With r = q^2/D, S/d = r [D_0/(2 sigma_w^2 (1 - 2r)) - (2u/pi) (b - 2 c r)^2]; the bracket
    vanishes where (1 - 2r) (b - 2 c r)^2, largest at r = (b + 2c)/(6c), reaches a constant.
    """
    variance = parameters.weight_variance
    b = float(linear_discrepancy(parameters, noise))
    u = float(effective_interaction(parameters, noise))
    needed = math.pi * (1.0 + 2.0 * variance) / (4.0 * variance * u)
    r = _side_ratio(b, cubic)
    if not 0.0 < r < 0.5:
        return b**2 - needed
    return (1.0 - 2.0 * r) * (b - 2.0 * cubic * r) ** 2 - needed


def _side_ratio(linear: float, cubic: float) -> float:
    return math.nan if cubic == 0.0 else (linear + 2.0 * cubic) / (6.0 * cubic)


def limit_transition(
    parameters: TeacherStudent,
    cubic_strength: ArrayLike | None = None,
    *,
    noise_range: tuple[float, float] = (1e-3, 10.0),
    scan_points: int = 400,
) -> LimitTransition:
    """Highest noise at which a side minimum is as deep as q = 0 in the limit beta -> infinity.

    The result depends on d, N, n and sigma_a^2 only through u and the linear gain: it is the same
    along the scaling family, with the noise in the units of `parameters`.

    Parameters
    ----------
    cubic_strength : epsilon, any shape [...]; by default the value in `parameters`.
    noise_range : lowest and highest noise searched.
    scan_points : points of the logarithmic scan that brackets the transition.

    Raises
    ------
    ValueError : an interval that is not 0 < low < high, fewer than two scan points, or a
        non-finite cubic strength.
    """
    low, high = noise_range
    if not 0.0 < low < high:
        raise ValueError(f"noise_range must be 0 < low < high, got {noise_range}")
    if scan_points < 2:
        raise ValueError(f"scan_points must be at least 2, got {scan_points}")
    strength = np.asarray(
        parameters.cubic_strength if cubic_strength is None else cubic_strength, dtype=np.float64
    )
    if not np.isfinite(strength).all():
        raise ValueError("cubic_strength must be finite everywhere")
    noise = np.full(strength.size, np.nan)
    result = np.full(strength.size, LimitResult.NOT_REACHED, dtype=np.int8)
    b, minimum = noise.copy(), noise.copy()
    scan = np.geomspace(high, low, scan_points)
    origin = 1.0 + 2.0 * parameters.weight_variance
    for k, cubic in enumerate(strength.reshape(-1).tolist()):
        above = None
        for sigma in scan.tolist():
            if _side_margin(parameters, sigma, cubic) >= 0.0:
                break
            above = sigma
        else:
            continue
        if above is None:
            result[k] = LimitResult.ALREADY_REACHED
            continue
        result[k] = LimitResult.FOUND
        noise[k] = brentq(
            lambda x, cubic=cubic: _side_margin(parameters, x, cubic), sigma, above, rtol=1e-12
        )
        b[k] = linear_discrepancy(parameters, noise[k])
        r = _side_ratio(b[k], cubic)
        minimum[k] = math.sqrt(origin * r / (1.0 - 2.0 * r))
    shape = strength.shape
    return LimitTransition(
        noise=noise.reshape(shape),
        effective_interaction=effective_interaction(parameters, noise).reshape(shape),
        linear_discrepancy=b.reshape(shape),
        side_minimum=minimum.reshape(shape),
        result=result.reshape(shape),
    )
