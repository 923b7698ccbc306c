"""One neuron in the mean field: Hermite amplitudes, action, saddles and integrals over p(q).

A neuron enters the mean-field theory through its overlap q = w.w* with the teacher direction only;
given the discrepancy t between teacher and mean output, q has the density exp(-S(q)) up to
normalisation.

References
----------
Rubin, Seroussi and Ringel, "Grokking as a First Order Phase Transition in Two Layer Networks",
arXiv:2310.03789 (version 1: preprint, version 3: published).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokphase.parameters import TeacherStudent
from grokphase.theory.threads import blocks_of_similar, map_blocks

Array = NDArray[np.float64]

CHUNK_ELEMENTS = 131072
"""Temporaries hold about this many numbers, so that they stay in cache."""
_LOG_NEGLIGIBLE = 60.0
_PANEL_NODES = 8


def hermite_amplitudes(overlap: ArrayLike, weight_variance: float, modes: int = 2) -> Array:
    """m_k(q) = E[erf(w.x) He_k(w*.x)]/sqrt(k!) for x ~ N(0, I) and k = 1, 3, ..., 2 modes - 1.

    The squared length of the weight vector is taken as weight_variance + q^2: the components
    orthogonal to the teacher stay at their prior and self-average in high dimension. Closed form
    with k = 2j + 1: (2/sqrt(pi)) (-1)^j (2j)!/j! (q/sqrt(D))^k/sqrt(k!), D = 1 + 2 (weight_variance
    + q^2). Two modes are the published theory.

    Parameters
    ----------
    overlap : q, any shape [...].
    weight_variance : sigma_w^2.
    modes : number of odd Hermite modes.

    Returns
    -------
    [..., modes]

    Raises
    ------
    ValueError : `modes` is less than 1 or `weight_variance` is not positive.
    """
    if modes < 1:
        raise ValueError(f"modes must be at least 1, got {modes}")
    if not weight_variance > 0:
        raise ValueError(f"weight_variance must be positive, got {weight_variance}")
    q = np.asarray(overlap, dtype=np.float64)
    square = q**2
    denominator = 1.0 + 2.0 * (weight_variance + square)
    ratio = square / denominator
    power = q / np.sqrt(denominator)
    amplitudes = np.empty((*q.shape, modes))
    for j, coefficient in enumerate(amplitude_coefficients(modes)):
        amplitudes[..., j] = coefficient * power
        power = power * ratio
    return amplitudes


@cache
def amplitude_coefficients(modes: int) -> Array:
    """Coefficients of (q/sqrt(D))^k in m_k, [modes]."""
    coefficients = np.empty(modes)
    for j in range(modes):
        k = 2 * j + 1
        log_magnitude = math.lgamma(2 * j + 1) - math.lgamma(j + 1) - 0.5 * math.lgamma(k + 1)
        coefficients[j] = 2.0 / math.sqrt(math.pi) * (-1) ** j * math.exp(log_magnitude)
    coefficients.setflags(write=False)
    return coefficients


def amplitude_derivatives(overlap: Array, weight_variance: float, modes: int) -> Array:
    """m_k(q) and its first three derivatives with respect to q, [4, ..., modes].

    m_k = coefficient s^k with s = q/sqrt(D), and s' = (1 + 2 sigma_w^2) D^(-3/2).
    """
    origin = 1.0 + 2.0 * weight_variance
    denominator = origin + 2.0 * overlap**2
    root = overlap / np.sqrt(denominator)
    first = origin * denominator**-1.5
    second = -6.0 * overlap * first / denominator
    third = -6.0 * first * (1.0 - 10.0 * root**2) / denominator
    powers = [np.ones_like(root)]
    for _ in range(2 * modes - 1):
        powers.append(powers[-1] * root)
    derivatives = np.empty((4, *root.shape, modes))
    for j, coefficient in enumerate(amplitude_coefficients(modes)):
        k = 2 * j + 1
        one = coefficient * k * powers[k - 1]
        two = coefficient * k * (k - 1) * powers[max(k - 2, 0)]
        three = coefficient * k * (k - 1) * (k - 2) * powers[max(k - 3, 0)]
        derivatives[0, ..., j] = coefficient * powers[k]
        derivatives[1, ..., j] = one * first
        derivatives[2, ..., j] = two * first**2 + one * second
        derivatives[3, ..., j] = three * first**3 + 3.0 * two * first * second + one * third
    return derivatives


def teacher_coefficients(cubic_strength: ArrayLike, modes: int = 2) -> Array:
    """Coefficients (1, sqrt(6) epsilon, 0, ...) of the teacher in He_k/sqrt(k!), [..., modes]."""
    strength = np.asarray(cubic_strength, dtype=np.float64)
    y = np.zeros((*strength.shape, modes))
    y[..., 0] = 1.0
    y[..., 1] = math.sqrt(6.0) * strength
    return y


def effective_interaction(parameters: TeacherStudent, noise: ArrayLike) -> Array:
    """u = n^2 sigma_a^2/(noise^2 d N), the strength of the interaction in the action, [...]."""
    p = parameters
    strength = p.train_size**2 * p.readout_variance / (p.input_dim * p.width)
    return np.asarray(strength / np.asarray(noise, dtype=np.float64) ** 2)


def action(
    overlap: ArrayLike, discrepancy: ArrayLike, parameters: TeacherStudent, noise: ArrayLike
) -> Array:
    """Action of one neuron, S(q) = d q^2/(2 sigma_w^2) - (u d/2) (t.m(q))^2, in nats, S(0) = 0.

    With two modes, t = (b, sqrt(6) c), this is the published action
    d { q^2/(2 sigma_w^2) - (2u/pi) (q^2/D) [b - 2c q^2/D]^2 }.

    Parameters
    ----------
    overlap : q, broadcast against [...] (append an axis to the others for a grid of q).
    discrepancy : t, [..., modes].
    noise : sigma^2, broadcast against [...].

    Returns
    -------
    [...]
    """
    q = np.asarray(overlap, dtype=np.float64)
    t = np.asarray(discrepancy, dtype=np.float64)
    d, variance = parameters.input_dim, parameters.weight_variance
    coefficients = t * amplitude_coefficients(t.shape[-1])
    ratio = q**2 / (1.0 + 2.0 * (variance + q**2))
    polynomial = coefficients[..., -1]
    for j in range(t.shape[-1] - 2, -1, -1):
        polynomial = polynomial * ratio + coefficients[..., j]
    interaction = 0.5 * d * effective_interaction(parameters, noise)
    return np.asarray(d * q**2 / (2.0 * variance) - interaction * ratio * polynomial**2)


def action_derivatives(
    overlap: ArrayLike, discrepancy: ArrayLike, parameters: TeacherStudent, noise: ArrayLike
) -> tuple[Array, Array]:
    """First and second derivative of the action with respect to q; arguments as for `action`."""
    q = np.asarray(overlap, dtype=np.float64)
    t = np.asarray(discrepancy, dtype=np.float64)
    d, variance = parameters.input_dim, parameters.weight_variance
    coefficients = t * amplitude_coefficients(t.shape[-1])
    origin = 1.0 + 2.0 * variance
    denominator = origin + 2.0 * q**2
    ratio = q**2 / denominator
    ratio_slope = 2.0 * q * origin / denominator**2
    ratio_curvature = 2.0 * origin * (origin - 6.0 * q**2) / denominator**3
    value: Array | float = 0.0
    slope: Array | float = 0.0
    curvature: Array | float = 0.0
    for j in range(t.shape[-1] - 1, -1, -1):
        curvature = curvature * ratio + 2.0 * slope
        slope = slope * ratio + value
        value = value * ratio + coefficients[..., j]
    square_slope = value**2 + 2.0 * ratio * value * slope
    square_curvature = 4.0 * value * slope + 2.0 * ratio * (slope**2 + value * curvature)
    interaction = 0.5 * d * effective_interaction(parameters, noise)
    first = d * q / variance - interaction * square_slope * ratio_slope
    second = d / variance - interaction * (
        square_curvature * ratio_slope**2 + square_slope * ratio_curvature
    )
    return np.asarray(first), np.asarray(second)


def stationary_overlaps(
    discrepancy: ArrayLike, parameters: TeacherStudent, noise: ArrayLike
) -> Array:
    """All q > 0 where S'(q) = 0, ascending, padded with nan; q = 0 is always stationary.

    In r = q^2/D the action is rational and S' = 0 is a polynomial equation, whose roots lie one
    each between its turning points: none is missed.

    Parameters
    ----------
    discrepancy : t, [..., modes].
    noise : sigma^2, broadcast against [...].

    Returns
    -------
    [..., 2 modes - 1]
    """
    return _stationary(discrepancy, parameters, noise, minima_only=False)


def side_minima(discrepancy: ArrayLike, parameters: TeacherStudent, noise: ArrayLike) -> Array:
    """The minima among the `stationary_overlaps`."""
    return _stationary(discrepancy, parameters, noise, minima_only=True)


def _stationary(
    discrepancy: ArrayLike, parameters: TeacherStudent, noise: ArrayLike, minima_only: bool
) -> Array:
    t = np.asarray(discrepancy, dtype=np.float64)
    modes = t.shape[-1]
    noise = np.broadcast_to(np.asarray(noise, dtype=np.float64), t.shape[:-1]).reshape(-1)
    origin = 1.0 + 2.0 * parameters.weight_variance
    # S/d = origin r/(2 sigma_w^2 (1 - 2r)) - (u/2) r P(r)^2, ascending coefficients of P in r,
    # hence S' = 0 where (1 - 2r)^2 (r P^2)' = origin/(sigma_w^2 u).
    p = (t * amplitude_coefficients(modes)).reshape(-1, modes).T
    square = np.zeros((2 * modes - 1, noise.size))
    for j in range(modes):
        square[j : j + modes] += p[j] * p
    slope = square * np.arange(1, 2 * modes)[:, None]
    polynomial = np.zeros((2 * modes + 1, noise.size))
    for power, factor in enumerate((1.0, -4.0, 4.0)):
        polynomial[power : power + 2 * modes - 1] += factor * slope
    u = effective_interaction(parameters, noise)
    polynomial[0] -= origin / (parameters.weight_variance * u)
    # The derivative of (1 - 2r)^2 h is (1 - 2r) [(1 - 2r) h' - 4 h].
    turning = -2.0 * (2.0 + np.arange(2 * modes - 1))[:, None] * slope
    turning[:-1] += _derivative(slope)

    # S' has the opposite sign of the polynomial: it rises through a minimum.
    roots = _roots_between(polynomial, _roots(turning, 0.5), 0.5, falling_only=minima_only)
    q = np.sqrt(origin * roots / (1.0 - 2.0 * roots))
    return np.sort(q, axis=0).T.reshape(*t.shape[:-1], 2 * modes - 1)


def _derivative(polynomial: Array) -> Array:
    return polynomial[1:] * np.arange(1.0, polynomial.shape[0])[:, None]


def _roots(polynomial: Array, upper: float) -> Array:
    """Real roots in (0, upper) of polynomials with ascending coefficients [degree + 1, p].

    Returns [degree, p], padded with nan.
    """
    degree = polynomial.shape[0] - 1
    if degree == 0:
        return np.empty((0, polynomial.shape[1]))
    if degree > 2:
        return _roots_between(polynomial, _roots(_derivative(polynomial), upper), upper)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if degree == 1:
            roots = -polynomial[:1] / polynomial[1:]
        else:
            c, b, a = polynomial
            half = -0.5 * (b + np.copysign(np.sqrt(b**2 - 4.0 * a * c), b))
            roots = np.stack([half / a, c / half])
        return np.where((roots > 0) & (roots < upper), roots, np.nan)


def _roots_between(
    polynomial: Array, turning: Array, upper: float, falling_only: bool = False
) -> Array:
    """Roots in (0, upper), one in each interval between turning points where the sign changes.

    Takes polynomials [degree + 1, p] and their turning points in (0, upper), [k, p], padded with
    nan. Returns [k + 1, p], padded with nan. `falling_only` leaves out where the sign turns
    positive.
    """
    points = polynomial.shape[1]
    inner = np.sort(np.where(np.isnan(turning), upper, turning), axis=0)
    edges = np.concatenate([np.zeros((1, points)), inner, np.full((1, points), upper)])
    values = _evaluate(polynomial[:, None, :], edges)[0]
    crossed = values[:-1] * values[1:] < 0
    if falling_only:
        crossed &= values[:-1] > 0
    piece, point = np.nonzero(crossed)
    low, high = edges[piece, point], edges[piece + 1, point]
    rising = values[piece, point] < 0
    roots = np.full((inner.shape[0] + 1, points), np.nan)
    roots[piece, point] = _bracketed_newton(polynomial[:, point], low, high, rising)
    return roots


def _evaluate(polynomial: Array, x: Array) -> tuple[Array, Array]:
    """Values and slopes, for ascending coefficients on the first axis."""
    value = polynomial[-1] * np.ones_like(x)
    slope = np.zeros_like(x)
    for coefficient in polynomial[-2::-1]:
        slope *= x
        slope += value
        value *= x
        value += coefficient
    return value, slope


def _bracketed_newton(
    polynomial: Array, low: Array, high: Array, rising: NDArray[np.bool_]
) -> Array:
    """Roots of polynomials [degree + 1, p] that are monotonic in [low, high], to rounding."""
    roots = 0.5 * (low + high)
    active, x = np.arange(roots.size), roots.copy()
    for _ in range(100):
        value, slope = _evaluate(polynomial, x)
        right = (value < 0) == rising
        low, high = np.where(right, x, low), np.where(right, high, x)
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = x - value / slope
        moved = np.where((moved >= low) & (moved <= high), moved, 0.5 * (low + high))
        roots[active] = moved
        # Newton doubles the digits: after a step this small only rounding errors remain.
        going = np.abs(moved - x) > 1e-9 * moved
        if not going.any():
            break
        active, x, polynomial = active[going], moved[going], polynomial[:, going]
        low, high, rising = low[going], high[going], rising[going]
    return roots


def overlap_cutoff(parameters: TeacherStudent, noise: Array, norm: Array, modes: int) -> Array:
    """q beyond which exp(-S) < exp(-60) whenever |t| <= norm, [...]."""
    d, variance = parameters.input_dim, parameters.weight_variance
    strength = 0.5 * d * effective_interaction(parameters, noise) * norm**2
    # |m(q)|^2 grows with q towards this limit, and r = q^2/D grows towards 1/2.
    limit = np.sum(amplitude_coefficients(modes) ** 2 * 0.5 ** (2 * np.arange(modes) + 1))
    cutoff = np.sqrt(2.0 * variance / d * (_LOG_NEGLIGIBLE + strength * limit))
    for _ in range(4):
        squares = np.sum(hermite_amplitudes(cutoff, variance, modes) ** 2, axis=-1)
        cutoff = np.sqrt(2.0 * variance / d * (_LOG_NEGLIGIBLE + strength * squares))
    return np.asarray(cutoff)


def action_floor(t: Array, parameters: TeacherStudent, noise: Array) -> Array:
    """Lowest value of the action, [p], for t [p, modes] and noise [p]."""
    saddles = stationary_overlaps(t, parameters, noise)
    values = action(saddles, t[:, None, :], parameters, noise[:, None])
    floor = np.nan_to_num(values, nan=0.0).min(axis=1)
    return np.where(np.isfinite(t).all(axis=1), np.minimum(floor, 0.0), np.nan)


def panel_rule(panels: int) -> tuple[Array, Array]:
    """Composite Gauss-Legendre nodes and weights on [0, 1], each [8 panels]."""
    nodes, weights = np.polynomial.legendre.leggauss(_PANEL_NODES)
    left = np.arange(panels)[:, None]
    return (
        ((left + 0.5 * (nodes + 1.0)) / panels).ravel(),
        np.tile(0.5 * weights / panels, panels),
    )


def panel_width(parameters: TeacherStudent) -> float:
    """Width of a panel on which 8 Gauss-Legendre nodes integrate the prior to rounding error."""
    return 0.7 * math.sqrt(parameters.weight_variance / parameters.input_dim)


def saddles_from_zero(t: Array, parameters: TeacherStudent, noise: Array) -> Array:
    """q = 0 and all q > 0 where S'(q) = 0, padded with zeros, [p, 1 + k]."""
    positive = np.nan_to_num(stationary_overlaps(t, parameters, noise), nan=0.0)
    return np.concatenate([np.zeros((len(positive), 1)), positive], axis=1)


def panel_widths(saddles: Array, t: Array, parameters: TeacherStudent, noise: Array) -> Array:
    """Widths [p] of panels on which 8 nodes integrate exp(-S): narrower where a well is."""
    curvature = action_derivatives(saddles, t[:, None, :], parameters, noise[:, None])[1]
    return np.asarray(np.maximum(curvature.max(axis=1), panel_width(parameters) ** -2) ** -0.5)


def _reach(
    saddles: Array, t: Array, parameters: TeacherStudent, noise: Array, offset: Array
) -> Array:
    """q beyond which S + offset stays above 60, to the resolution of a coarse scan, [p]."""
    # S only grows beyond its last stationary point.
    last = saddles.max(axis=1)
    bound = overlap_cutoff(parameters, noise, np.linalg.norm(t, axis=1), t.shape[1])
    bound = np.maximum(bound, last + 1.0)
    fractions = np.linspace(0.0, 1.0, 65)[1:] ** 2

    reach = np.empty(noise.size)

    def scan(part: slice) -> None:
        q = last[part, None] + (bound - last)[part, None] * fractions
        height = action(q, t[part, None, :], parameters, noise[part, None]) + offset[part, None]
        high = height > _LOG_NEGLIGIBLE
        first = np.where(high.any(axis=1), np.argmax(high, axis=1), fractions.size - 1)
        reach[part] = np.take_along_axis(q, first[:, None], axis=1)[:, 0]

    step = CHUNK_ELEMENTS // fractions.size
    map_blocks(scan, [slice(i, i + step) for i in range(0, noise.size, step)])
    return np.where(np.isfinite(t).all(axis=1), reach, np.nan)


def integrate(
    t: Array,
    parameters: TeacherStudent,
    noise: Array,
    lower: Array,
    offset: Array,
    power: int = 0,
) -> Array:
    """Integral of q^power exp(-S(q) - offset) over q > lower >= 0, [p].

    Takes t [p, modes]; noise, lower and offset [p]. nan in, nan out.
    """
    saddles = saddles_from_zero(t, parameters, noise)
    upper = _reach(saddles, t, parameters, noise, offset)
    lower = np.minimum(lower, upper)
    width = upper - lower
    integral = np.empty(noise.size)
    # Points that need similar numbers of panels are integrated together.
    finite = np.where(np.isfinite(width), width, 0.0)
    widths = np.nan_to_num(panel_widths(saddles, t, parameters, noise), nan=np.inf)
    panels = np.maximum(1, np.ceil(finite / widths)).astype(int)

    def fill(part: NDArray[np.intp]) -> None:
        nodes, weights = panel_rule(int(panels[part[-1]]))
        q = lower[part, None] + width[part, None] * nodes
        values = np.exp(
            -action(q, t[part, None, :], parameters, noise[part, None]) - offset[part, None]
        )
        if power:
            values *= q**power
        integral[part] = values @ weights * width[part]

    map_blocks(fill, blocks_of_similar(_PANEL_NODES * panels, CHUNK_ELEMENTS))
    return integral


def log_partition(t: Array, parameters: TeacherStudent, noise: Array) -> Array:
    """log of the integral of exp(-S(q)) over all q, [p], for t [p, modes] and noise [p]."""
    floor = action_floor(t, parameters, noise)
    integral = integrate(t, parameters, noise, np.zeros(noise.shape), -floor)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.log(2.0 * integral) - floor)
